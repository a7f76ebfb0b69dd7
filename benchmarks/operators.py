"""Fill Gap and Refine Jitter end to end in headless Blender, with a warm worker: what a user waits for.

    python benchmarks/operators.py [--json] [--repeats 10]

Needs the ``bpy`` package, and a Python with torch for the worker (``MMDM_PYTHON``, else the one that runs this). The
figure has 22 bones at 30 frames a second and is made here; the time covers reading the rig, the engine, and writing the
new action.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from datetime import date
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "addon")]

import bpy  # noqa: E402
import figures  # noqa: E402

import mmdm_addon  # noqa: E402
from mmdm_addon import compat  # noqa: E402

GAP = 30
REFINED = 300


def timed(operator, **options) -> float:
    """Seconds of one run; the source is shown again afterwards."""
    started = time.perf_counter()
    assert operator(**options) == {"FINISHED"}
    seconds = time.perf_counter() - started
    bpy.ops.mmdm.take_switch(index=0)
    bpy.ops.mmdm.takes_clear()
    return seconds


def measure(repeats: int) -> dict[str, object]:
    """Medians over the repeats, after one run that starts the worker and loads the weights."""
    os.environ.setdefault("MMDM_PYTHON", sys.executable)
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    mmdm_addon.register()
    bpy.context.scene.render.fps = 30
    armature = figures.make()
    figures.animate(armature, frames=REFINED + 100)
    for bone in armature.pose.bones:
        compat.select(bone, True)
    fill = {"frame_start": 100, "frame_end": 100 + GAP + 1}
    refine = {"frame_start": 51, "frame_end": 50 + REFINED}
    cold = timed(bpy.ops.mmdm.fill_gap, **fill)
    timed(bpy.ops.mmdm.refine_jitter, **refine)
    fills = [timed(bpy.ops.mmdm.fill_gap, **fill) for _ in range(repeats)]
    refinements = [timed(bpy.ops.mmdm.refine_jitter, **refine) for _ in range(repeats)]
    mmdm_addon.unregister()
    return {
        "fill_seconds_first": round(cold, 3),
        "fill_seconds_warm": round(statistics.median(fills), 3),
        "fill_seconds_slowest": round(max(fills), 3),
        "refined_frames_per_second": round(REFINED / statistics.median(refinements), 1),
        "gap_frames": GAP,
        "refined_frames": REFINED,
        "repeats": repeats,
        "blender": bpy.app.version_string,
        "machine": f"{platform.machine()}, {os.cpu_count()} CPU cores",
        "date": date.today().isoformat(),
    }


def main() -> None:
    """Entry of the script."""
    parser = argparse.ArgumentParser(description="Fill Gap and Refine Jitter end to end in headless Blender.")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    parser.add_argument("--repeats", type=int, default=10, help="runs to take the median of (default 10)")
    arguments = parser.parse_args()
    stdout = os.dup(1)
    os.dup2(2, 1)  # operators report on stdout, which is for the result
    result = measure(arguments.repeats)
    os.dup2(stdout, 1)
    if arguments.json:
        print(json.dumps(result))
    else:
        for name, value in result.items():
            print(f"{name.replace('_', ' '):28} {value}")
    sys.stdout.flush()
    os._exit(0)  # Blender's own clean-up at exit fails in some versions


if __name__ == "__main__":
    main()
