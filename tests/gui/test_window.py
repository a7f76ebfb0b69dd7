"""An animator's session in a real Blender window.

Outside the required path: set MMDM_BLENDER to a Blender program, with a display (or Xvfb) and, for pictures,
ImageMagick's ``import``; MMDM_PICTURES names a folder to keep those in.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
BLENDER = os.environ.get("MMDM_BLENDER")
LIMIT = 1800
"""Seconds; a display without a graphics card draws slowly, above all on a busy machine."""

pytestmark = pytest.mark.skipif(not BLENDER, reason="needs a window: set MMDM_BLENDER to a Blender program")


@pytest.mark.parametrize("rig", ["walk_turn_wave.bvh", "mixamo_noprefix_lookaround_anim.fbx"])
def test_every_check_in_the_window_holds(rig, data, tmp_path):
    path = ROOT / "demo" / rig if rig.endswith(".bvh") else data(f"rigs/{rig}")
    out = Path(os.environ.get("MMDM_PICTURES", tmp_path)) / path.stem
    out.mkdir(parents=True, exist_ok=True)
    extensions = tmp_path / "user" / "extensions" / "user_default"
    extensions.mkdir(parents=True)
    (extensions / "mmdm").symlink_to(ROOT)
    environment = {"MMDM_PYTHON": sys.executable, **os.environ, "BLENDER_USER_RESOURCES": str(tmp_path / "user")}
    words = [BLENDER, "--factory-startup", "--enable-event-simulate", "--window-geometry", "0", "0", "1600", "1000"]
    done = subprocess.run(
        [*words, "--python", str(HERE / "in_window.py"), "--", str(out), str(path)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    report = json.loads((out / "report.json").read_text()) if (out / "report.json").exists() else {}
    assert report.get("finished") is True, f"{report}\n{done.stdout}\n{done.stderr}"
    assert {check: seen for check, seen in report["checks"].items() if seen is not True} == {}
    assert "Traceback" not in done.stderr, done.stderr  # a panel that fails to draw says so only there
    print(report["measured"])
