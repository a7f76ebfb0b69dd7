"""The built extension as a user installs it: validated, zipped, installed into an empty profile, and run with the real
engine from inside the installed folder.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import bpy
import pytest
from worker_support import ROOT, worker_python

FORBIDDEN = (
    "tests/",
    "benchmarks/",
    "docs/",
    ".venv",
    ".git",
    ".ci",
    "vendor/",
    "scripts/",
    "runs/",
    "output/",
    "demo/",
)

SCRIPT = """
import json, os, sys
import bpy
zip_path, report_path = sys.argv[-2:]
bpy.ops.extensions.package_install_files(filepath=zip_path, repo="user_default", enable_on_install=True)
package = next(name for name in bpy.context.preferences.addons.keys() if name.endswith(".mmdm"))
import importlib
link = importlib.import_module(package + ".mmdm_addon.engine_link")
compat = importlib.import_module(package + ".mmdm_addon.compat")
runtime = importlib.import_module(package + ".mmdm_addon.runtime")
report = {
    "package": package,
    "engine": link.rotations.__name__,
    "home": str(link.ENGINE_HOME),
    "preference": bpy.context.preferences.addons[package].preferences.python,
    "plain": sorted(n for n in sys.modules if n.split(".")[0] in ("mmdm_addon", "mmdm_engine", "torch")),
    "managed": str(runtime.managed_folder()),
}
bpy.ops.object.select_all(action="DESELECT")
bpy.ops.import_anim.bvh(filepath=os.environ["MMDM_TEST_BVH"])
armature = bpy.context.object
bpy.ops.object.mode_set(mode="POSE")
for bone in armature.pose.bones:
    compat.select(bone, True)
source = armature.animation_data.action
report["fill"] = sorted(bpy.ops.mmdm.fill_gap(frame_start=30, frame_end=60))
report["fill_message"] = bpy.context.window_manager.mmdm.message
report["refine"] = sorted(bpy.ops.mmdm.refine_jitter(frame_start=20, frame_end=70))
report["refine_message"] = bpy.context.window_manager.mmdm.message
report["takes"] = [take.action.name for take in armature.mmdm.takes]
report["hello"] = runtime.current().hello
bpy.ops.preferences.addon_disable(module=package)
report["gone"] = not hasattr(bpy.types.Scene, "mmdm") and runtime.current() is None
open(report_path, "w").write(json.dumps(report))
sys.stdout.flush()
os._exit(0)
"""


def tool() -> list[str]:
    """Blender's own extension builder."""
    scripts = Path(bpy.utils.system_resource("SCRIPTS"))
    return [sys.executable, str(scripts / "addons_core" / "bl_pkg" / "cli" / "blender_ext.py")]


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("build") / "mmdm.zip"
    subprocess.run(
        [*tool(), "build", "--source-dir", str(ROOT), "--output-filepath", str(path)], check=True, timeout=120
    )
    return path


def test_blender_accepts_the_manifest_and_the_zip(archive):
    subprocess.run([*tool(), "validate", str(ROOT)], check=True, timeout=120)
    subprocess.run([*tool(), "validate", str(archive)], check=True, timeout=120)


def test_the_zip_holds_what_is_needed_and_nothing_else(archive):
    names = zipfile.ZipFile(archive).namelist()
    for needed in ("__init__.py", "blender_manifest.toml", "mmdm_addon/registration.py", "mmdm_engine/worker.py"):
        assert needed in names
    assert any(name.startswith("mmdm_engine/weights/") and name.endswith(".safetensors") for name in names)
    assert not [n for n in names if n.startswith(FORBIDDEN) or "__pycache__" in n or n.endswith((".whl", ".zip"))]


def test_the_manifest_keeps_to_the_rules_of_the_extensions_site():
    manifest = tomllib.loads((ROOT / "blender_manifest.toml").read_text())
    assert "blender" not in manifest["name"].lower()
    assert len(manifest["tagline"]) <= 64
    assert manifest["tagline"][-1].isalnum()
    assert set(manifest["tags"]) <= {"Animation", "Rigging", "Pipeline"}
    assert manifest["license"] == ["SPDX:GPL-3.0-or-later"]
    assert all(len(reason) <= 64 and reason[-1].isalnum() for reason in manifest["permissions"].values())
    assert "Install Engine" in manifest["permissions"]["network"]  # the one thing that goes online
    assert "wheels" not in manifest


def test_installed_into_an_empty_profile_it_runs(archive, tmp_path, data):
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("BLENDER_USER", "PYTHON"))}
    environment |= {
        "BLENDER_USER_RESOURCES": str(tmp_path / "profile"),
        "MMDM_PYTHON": worker_python(),
        "MMDM_TEST_BVH": str(data("cmu/raw/06_01.bvh")),
    }
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    report_path = tmp_path / "report.json"
    done = subprocess.run(
        [sys.executable, "-P", str(script), str(archive), str(report_path)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert report_path.exists(), done.stdout + done.stderr
    report = json.loads(report_path.read_text())
    assert report["package"] == "bl_ext.user_default.mmdm"
    assert report["engine"] == "bl_ext.user_default.mmdm.mmdm_engine.rotations"
    assert report["home"].startswith(str(tmp_path / "profile"))
    assert report["hello"]["engine"] == str(Path(report["home"]) / "mmdm_engine")
    assert report["plain"] == []  # nothing leaks into the global module names, and no torch into Blender
    assert report["managed"].startswith(str(tmp_path / "profile"))
    assert not report["managed"].startswith(report["home"])
    assert report["fill"] == ["FINISHED"]
    assert "Filled 31-59" in report["fill_message"]
    assert report["refine"] == ["FINISHED"]
    assert "Refined 20-70" in report["refine_message"]
    assert len(report["takes"]) == 3
    assert report["gone"]
