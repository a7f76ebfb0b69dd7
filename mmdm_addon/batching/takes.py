"""Motion files into Blender: every armature that an action animates, at the file's own rate and size."""

from __future__ import annotations

import json
import struct
import tempfile
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import addon_utils
import bpy

from .. import compat
from ..engine_link import MotionError, bvh
from . import bvh_keys

IMPORTERS = {".bvh": "io_anim_bvh", ".fbx": "io_scene_fbx", ".glb": "io_scene_gltf2", ".gltf": "io_scene_gltf2"}
"""Blender's add-ons that read these."""
_USUAL_RATE = 30.0


@dataclass(frozen=True, eq=False)
class Opened:
    """A file in Blender.

    armatures: those with an action, by name. bvh: the file's own text where it is one, and metres per unit of it.
    notes: plain sentences on what was not opened.
    """

    armatures: list[bpy.types.Object]
    bvh: tuple[bvh.Bvh, float] | None = None
    notes: list[str] = field(default_factory=list)


def open_file(path: Path) -> Opened:
    """Put a file in the place of what Blender has open. Raises `MotionError` with one sentence."""
    kind = path.suffix.lower()
    try:
        if path.stat().st_size == 0:
            raise MotionError(f"{path.name} is empty (0 bytes); copy or export it again.")
    except OSError as error:
        raise MotionError(
            f"{path.name} cannot be read ({error.strerror}); check the path and its permissions."
        ) from error
    empty()
    text = None
    if kind == ".blend":
        _run(path, bpy.ops.wm.open_mainfile, filepath=str(path), load_ui=False, use_scripts=False)
    else:
        _require_importer(kind)
        text = {".bvh": _bvh, ".fbx": _fbx}.get(kind, _gltf)(path)
    return _opened(path, text)


def empty() -> None:
    """Let go of the last file, so that memory does not grow from file to file."""
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)


def _opened(path: Path, text: tuple[bvh.Bvh, float] | None) -> Opened:
    armatures = sorted((o for o in bpy.data.objects if o.type == "ARMATURE"), key=lambda o: o.name)
    if not armatures:
        raise MotionError(f"{path.name} has no armature in it; choose a file with a character.")
    animated = [a for a in armatures if compat.action_animates(a) and _keyed(a)]
    if not animated:
        raise MotionError(f"{path.name} has an armature but no action with keys; export it with its animation.")
    notes = []
    shown = [a for a in animated if bpy.context.view_layer.objects.get(a.name) == a]
    notes += [
        f"'{a.name}' is not in the scene that opens with the file and was left alone."
        for a in animated
        if a not in shown
    ]
    if not shown:
        raise MotionError(
            f"No animated armature of {path.name} is in the scene that opens with it; link it to the scene."
        )
    if path.suffix.lower() != ".blend":
        used = {a.animation_data.action for a in shown}
        others = [a.name for a in bpy.data.actions if a not in used and any(True for _ in _bone_paths(a))]
        if others:
            notes.append(
                f"Only the assigned action was cleaned, not {', '.join(sorted(others)[:4])}; export one take per file."
            )
    return Opened(shown, text, notes)


def _keyed(armature: bpy.types.Object) -> bool:
    curves = compat.curves(armature.animation_data.action, compat.assigned_slot(armature))
    return any(len(c.keyframe_points) for c in curves if c.data_path.startswith("pose.bones"))


def _bone_paths(action: bpy.types.Action) -> list[str]:
    slots = action.slots if compat.has_slots() else [None]
    return [c.data_path for slot in slots for c in compat.curves(action, slot) if c.data_path.startswith("pose.bones")]


def _require_importer(kind: str) -> None:
    module = IMPORTERS[kind]
    if not addon_utils.check(module)[1] and addon_utils.enable(module) is None:
        raise MotionError(
            f"This Blender has no importer for {kind} files ({module}); convert the file to another format."
        )


def _bvh(path: Path) -> tuple[bvh.Bvh, float]:
    try:
        text = bvh.read(path)
    except MotionError as error:
        raise MotionError(str(error).replace(str(path), path.name)) from None
    try:
        scale, _ = bvh.infer_scale(text.hierarchy)
    except MotionError:
        scale = 1.0  # no legs that are known by name; the shape may still tell
    set_rate(text.fps)
    with tempfile.TemporaryDirectory(prefix="mmdm-") as folder:
        skeleton = Path(folder, path.name)
        skeleton.write_bytes(replace(text, values=text.values[:1]).text().encode("utf-8", "surrogateescape"))
        _run(path, bpy.ops.import_anim.bvh, filepath=str(skeleton), global_scale=scale)
    bvh_keys.put(bpy.context.object, text, scale)
    return text, scale


def set_rate(fps: float) -> None:
    """Frames per second of the scene, whole or not."""
    render = bpy.context.scene.render
    render.fps = max(1, round(fps))
    render.fps_base = render.fps / fps


def _fbx(path: Path) -> None:
    try:
        _run(path, bpy.ops.import_scene.fbx, filepath=str(path))
    except MotionError:
        if not hasattr(bpy.types, "WM_OT_fbx_import"):
            raise
        empty()  # the older importer fails on some files that Blender's newer one reads
        _run(path, bpy.ops.wm.fbx_import, filepath=str(path))


def _gltf(path: Path) -> None:
    set_rate(_gltf_rate(path))
    _run(path, bpy.ops.import_scene.gltf, filepath=str(path))


def _gltf_rate(path: Path) -> float:
    """The rate at which a glTF file was sampled, which knows seconds only: keys per second where that is whole."""
    try:
        document = _gltf_document(path)
        accessors = document.get("accessors", [])
        rates: Counter[float] = Counter()
        for animation in document.get("animations", []):
            for sampler in animation["samplers"]:
                times = accessors[sampler["input"]]
                seconds = times["max"][0] - times["min"][0]
                if times["count"] > 2 and seconds > 0:
                    rate = (times["count"] - 1) / seconds
                    if round(rate) and 10 <= rate <= 240 and abs(rate / round(rate) - 1) < 0.002:
                        rates[float(round(rate))] += times["count"]
    except (KeyError, IndexError, TypeError, ValueError, OSError, struct.error) as error:
        raise MotionError(f"{path.name} is damaged or no glTF file; export it again.") from error
    return rates.most_common(1)[0][0] if rates else _USUAL_RATE


def _gltf_document(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        if path.suffix.lower() == ".gltf":
            return json.load(file)
        magic, _, total, length, kind = struct.unpack("<4sIII4s", file.read(20))
        if magic != b"glTF" or kind != b"JSON" or total > path.stat().st_size:
            raise ValueError("no whole GLB file")
        return json.loads(file.read(length))


def _run(path: Path, operator: Any, **options: Any) -> None:
    """Call an importer; whatever it says becomes one sentence."""
    try:
        outcome = operator(**options)
    except RuntimeError as error:
        raise MotionError(
            f"{path.name} could not be opened ({last_words(error)}); it is damaged or of another kind, export it again."
        ) from error
    if outcome != {"FINISHED"}:
        raise MotionError(f"{path.name} could not be opened; it is damaged or of another kind, export it again.")


def last_words(error: Exception) -> str:
    """The line of an operator's error that says what went wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip() and not line.startswith("Location:")]
    return (lines[-1] if lines else type(error).__name__).removeprefix("Error: ").rstrip(".")[:200]
