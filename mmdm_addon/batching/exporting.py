"""Cleaned files out of Blender; a result takes its name only when it is whole."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import addon_utils
import bpy
import numpy as np

from ..engine_link import MotionError
from ..rig.read import frame_rate
from . import bvh_file
from .ledger import whole
from .takes import Opened, last_words

EXPORTERS = {"fbx": "io_scene_fbx", "glb": "io_scene_gltf2"}


def export(opened: Opened, path: Path) -> int:
    """Write what is open in Blender in the format of the path's suffix; bytes written. Raises `MotionError`."""
    kind = path.suffix[1:]
    first, last = _range(opened.armatures)
    try:
        with whole(path) as partial:
            if kind == "bvh":
                _bvh(opened, partial)
            elif kind == "blend":
                _run(bpy.ops.wm.save_as_mainfile, filepath=str(partial), copy=True, check_existing=False)
            else:
                bpy.context.scene.frame_start, bpy.context.scene.frame_end = first, last
                _EXPORT[kind](partial)
            size = partial.stat().st_size if partial.is_file() else 0
            if not size:
                raise MotionError(f"Blender wrote nothing into {path.name}; see what it says above.")
    except OSError as error:
        raise MotionError(f"{path.name} could not be written ({_why(error)}).") from error
    return size


def _why(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return "the disk is full; make room and run again with --resume"
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "the folder does not allow it; choose another --out"
    return f"{error.strerror or error}; choose another --out"


def _range(armatures: list[bpy.types.Object]) -> tuple[int, int]:
    spans = np.array([a.animation_data.action.frame_range for a in armatures])
    return int(np.floor(spans[:, 0].min())), int(np.ceil(spans[:, 1].max()))


def _bvh(opened: Opened, path: Path) -> None:
    if len(opened.armatures) > 1:
        names = ", ".join(a.name for a in opened.armatures)
        raise MotionError(f"A BVH file holds one figure, and these are several ({names}); choose another --format.")
    armature = opened.armatures[0]
    first, last = _range([armature])
    fps = frame_rate(bpy.context, armature)
    bvh_file.write(armature, np.arange(first, last + 1, dtype=np.float64), path, fps, opened.bvh)


def _fbx(path: Path) -> None:
    _run(
        bpy.ops.export_scene.fbx, filepath=str(path), check_existing=False, add_leaf_bones=False,
        bake_anim_use_nla_strips=False, bake_anim_use_all_actions=False, bake_anim_simplify_factor=0.0,
    )  # fmt: skip


def _glb(path: Path) -> None:
    _run(
        bpy.ops.export_scene.gltf, filepath=str(path), check_existing=False, export_format="GLB",
        export_animation_mode="ACTIVE_ACTIONS", export_optimize_animation_size=False,
    )  # fmt: skip


_EXPORT = {"fbx": _fbx, "glb": _glb}


def require_exporter(kind: str) -> None:
    """Raise `MotionError` where this Blender cannot write a format."""
    module = EXPORTERS.get(kind)
    if module and not addon_utils.check(module)[1] and addon_utils.enable(module) is None:
        raise MotionError(f"This Blender has no exporter for .{kind} files ({module}); choose another --format.")


def _run(operator: Any, **options: Any) -> None:
    try:
        operator(**options)
    except RuntimeError as error:
        words = last_words(error)
        full = next((OSError(n, "") for n, text in _FULL.items() if text in str(error)), None)
        if full is not None:
            raise full from error
        raise MotionError(f"Blender could not write the result ({words}).") from error


_FULL = {errno.ENOSPC: "No space left", errno.EFBIG: "File too large", errno.EACCES: "Permission denied"}
