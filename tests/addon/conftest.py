"""Fixtures of the tests that run inside Blender: a clean file for each test, real rigs by file name."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

bpy = pytest.importorskip("bpy", reason="needs the bpy package of a supported Blender")

from operator_support import asked, engine, ensure_registered, select, standin  # noqa: E402,F401  (fixtures of every test here)


@pytest.fixture(autouse=True)
def clean_file() -> None:
    """An empty scene at Blender's defaults, with add-ons as they are."""
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)


@pytest.fixture
def import_rig() -> Callable[[Path], bpy.types.Object]:
    """Importer of an armature from BVH, FBX, glTF or VRM."""

    def load(path: Path) -> bpy.types.Object:
        if path.suffix == ".bvh":
            bpy.ops.import_anim.bvh(filepath=str(path))
        elif path.suffix == ".fbx":
            if not hasattr(bpy.types, "IMPORT_SCENE_OT_fbx"):
                bpy.ops.preferences.addon_enable(module="io_scene_fbx")
            bpy.ops.import_scene.fbx(filepath=str(path))
        else:
            bpy.ops.import_scene.gltf(filepath=str(path))
        return next(o for o in bpy.data.objects if o.type == "ARMATURE")

    return load


@pytest.fixture
def walk(import_rig: Callable[[Path], bpy.types.Object], data: Callable[[str], Path]) -> bpy.types.Object:
    """A CMU walk of 120 frames a second in a scene of 24, active, all bones selected; the add-on is registered."""
    ensure_registered()
    armature = import_rig(data("cmu/raw/06_01.bvh"))
    bpy.context.view_layer.objects.active = armature
    armature.mmdm.source_fps = 120
    select(armature)
    return armature


RIGIFY = """
import bpy, os, sys
bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
bpy.ops.preferences.addon_enable(module="rigify")
bpy.ops.object.armature_human_metarig_add()
bpy.ops.pose.rigify_generate()
rig = bpy.context.object
for limb in ("thigh_parent", "upper_arm_parent"):
    for side in "LR":
        rig.pose.bones[f"{limb}.{side}"]["IK_FK"] = 1.0
bpy.ops.wm.save_as_mainfile(filepath=sys.argv[1])
os._exit(0)
"""


@pytest.fixture(scope="session")
def rigify_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A .blend with a human metarig and the control rig generated from it, limbs switched to FK.

    Made in a process of its own: once Rigify has generated a rig, Blender 4.2 crashes in one of the next glTF imports,
    every second time.
    """
    path = tmp_path_factory.mktemp("rigify") / "rig.blend"
    said = subprocess.run([sys.executable, "-c", RIGIFY, str(path)], capture_output=True, text=True, check=False)
    assert path.is_file(), said.stdout + said.stderr
    return path


@pytest.fixture
def rigify(rigify_file: Path) -> bpy.types.Object:
    """The generated control rig, limbs in FK."""
    bpy.ops.wm.open_mainfile(filepath=str(rigify_file))
    return bpy.data.objects["rig"]


@pytest.hookimpl(trylast=True)
def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave without Blender's own clean-up, which hangs or crashes at interpreter exit in some versions."""
    status = getattr(config, "mmdm_exit_status", None)
    if status is not None:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Remember the exit status for `pytest_unconfigure`."""
    session.config.mmdm_exit_status = int(exitstatus)
