"""The modal path in a real Blender window. Outside the required path: set MMDM_BLENDER to a Blender program, with a
display (or Xvfb) and ImageMagick's ``import`` for pictures.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
BLENDER = os.environ.get("MMDM_BLENDER")

pytestmark = pytest.mark.skipif(not BLENDER, reason="needs a window: set MMDM_BLENDER to a Blender program")


def test_every_check_in_the_window_holds(tmp_path):
    out = Path(os.environ.get("MMDM_PICTURES", tmp_path))
    out.mkdir(parents=True, exist_ok=True)
    words = [BLENDER, "--factory-startup", "--enable-event-simulate", "--window-geometry", "0", "0", "1600", "1000"]
    environment = {"MMDM_PYTHON": sys.executable, **os.environ}
    done = subprocess.run(
        [*words, "--python", str(HERE / "in_window.py"), "--", str(out)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    report = json.loads((out / "report.json").read_text()) if (out / "report.json").exists() else {}
    assert report.get("finished") is True, f"{report}\n{done.stdout}\n{done.stderr}"
    assert {check: seen for check, seen in report.items() if seen is not True} == {}
    assert "Traceback" not in done.stderr, done.stderr  # a panel that fails to draw says so only there
