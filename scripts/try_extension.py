"""A user's first minutes with the built extension: installed from the zip, enabled, used, disabled.

    python -P try_extension.py EXTENSION.zip CLIP.bvh REPORT.json

Runs in a Python with the ``bpy`` wheel, in a process and a folder of its own, so that everything comes from the
installed copy. ``BLENDER_USER_RESOURCES`` is the profile, ``MMDM_PYTHON`` the engine's Python. `extension.try_out`
calls it and ``tests/addon/test_extension.py`` says what the report must hold.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import bpy


def press(
    armature: bpy.types.Object, select: Callable[..., None], name: str, word: str, **frames: int
) -> dict[str, object]:
    """Run one operator on the bones whose names hold a word; what it said and how long it took."""
    for bone in armature.pose.bones:
        select(bone, word in bone.name)
    outcome = getattr(bpy.ops.mmdm, name)(**frames)
    return {"outcome": sorted(outcome), "message": bpy.context.window_manager.mmdm.message}


def use(archive: str, clip: str) -> dict[str, object]:
    """Install, enable, press three buttons, disable; what was seen on the way."""
    bpy.ops.extensions.package_install_files(filepath=archive, repo="user_default", enable_on_install=True)
    package = next(addon.module for addon in bpy.context.preferences.addons if addon.module.endswith(".mmdm"))
    compat, link, runtime = (
        importlib.import_module(f"{package}.mmdm_addon.{name}") for name in ("compat", "engine_link", "runtime")
    )
    report: dict[str, object] = {
        "blender": bpy.app.version_string,
        "package": package,
        "engine": link.rotations.__name__,
        "home": str(link.ENGINE_HOME),
        "plain": sorted(n for n in sys.modules if n.split(".")[0] in ("mmdm_addon", "mmdm_engine", "torch")),
        "managed": str(runtime.managed_folder()),
    }
    bpy.ops.object.select_all(action="DESELECT")
    bpy.ops.import_anim.bvh(filepath=clip, update_scene_fps=True)
    armature = bpy.context.object
    bpy.ops.object.mode_set(mode="POSE")
    chance = random.Random(0)
    for curve in compat.curves(armature.animation_data.action, compat.assigned_slot(armature)):
        if curve.data_path.endswith("rotation_euler"):
            for key in curve.keyframe_points[100:160]:  # something for Refine Jitter
                key.co.y += chance.gauss(0.0, 0.05)
    report["fill"] = press(armature, compat.select, "fill_gap", "", frame_start=30, frame_end=60)
    report["refine"] = press(armature, compat.select, "refine_jitter", "", frame_start=110, frame_end=150)
    report["complete"] = press(armature, compat.select, "complete_bones", "left_", frame_start=170, frame_end=200)
    report["takes"] = [take.action.name for take in armature.mmdm.takes]
    report["hello"] = runtime.current().hello
    bpy.ops.preferences.addon_disable(module=package)
    report["gone"] = not hasattr(bpy.types.Scene, "mmdm") and runtime.current() is None
    return report


if __name__ == "__main__":
    status = 1
    try:
        Path(sys.argv[3]).write_text(json.dumps(use(*sys.argv[1:3])), encoding="utf-8")
        status = 0
    except Exception:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # Blender's own clean-up hangs or crashes at interpreter exit in some versions
