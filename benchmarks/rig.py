"""Speed and memory of reading a long take from an armature and writing it back: ``python benchmarks/rig.py [--json]``.

The rig has 65 bones: a body with roles and fingers without. Every bone is keyed on every frame.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "addon")]

import bpy  # noqa: E402
import figures  # noqa: E402
import numpy as np  # noqa: E402

from mmdm_addon import compat  # noqa: E402
from mmdm_addon.rig import read, write  # noqa: E402


def megabytes() -> float:
    """Peak resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def build(bones: int, frames: int, every: int) -> bpy.types.Object:
    """The figure with fingers up to the wanted number of bones, and its keys."""
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    figure = figures.make()
    bpy.ops.object.mode_set(mode="EDIT")
    for i in range(bones - len(figure.data.edit_bones)):
        wrist = figure.data.edit_bones[("left_wrist", "right_wrist")[i % 2]]
        finger = figure.data.edit_bones.new(f"finger{i}")
        finger.head, finger.tail, finger.parent = wrist.tail, wrist.tail + wrist.vector / 3, wrist
    bpy.ops.object.mode_set(mode="OBJECT")
    figures.animate(figure, frames=frames, every=every)
    return figure


def measure(bones: int, frames: int, constrained: bool) -> dict[str, float | int | str]:
    """Seconds to read all frames and to write all of them back, and the memory it took beyond the file itself."""
    figure = build(bones, frames, 1)
    if constrained:
        figure.pose.bones["head"].constraints.new("LIMIT_ROTATION").mute = False
    before = megabytes()
    start = time.perf_counter()
    take = read.read(bpy.context, figure, np.arange(1.0, frames + 1))
    reading = time.perf_counter() - start
    edited = figures.bend(take.motion, 1, frames - 1, amount=0.05)
    start = time.perf_counter()
    report = write.write(
        bpy.context, figure, take, edited, changed=figures.columns(frames, 1, frames - 1), bones=None, name="Result",
        start=1, end=frames, density="MATCH", style="REFINE",
    ) if not constrained else None  # fmt: skip
    writing = time.perf_counter() - start
    return {
        "how": "evaluated" if constrained else "from curves",
        "frames": frames,
        "bones": bones,
        "read_seconds": round(reading, 3),
        "write_seconds": round(writing, 3) if report else 0.0,
        "keys": report.keys if report else 0,
        "peak_mb": round(megabytes()),
        "added_mb": round(megabytes() - before),
    }


def main() -> None:
    """Print one line per way of reading, or JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=10_000)
    parser.add_argument("--bones", type=int, default=65)
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    options = parser.parse_args()
    rows = [measure(options.bones, options.frames, constrained) for constrained in (False, True)]
    document = {
        "blender": bpy.app.version_string,
        "layered_actions": compat.has_slots(),
        "read_and_write_seconds": round(float(rows[0]["read_seconds"]) + float(rows[0]["write_seconds"]), 3),
        "rows": rows,
    }
    if options.json:
        print(json.dumps(document))
        return
    print(f"Blender {document['blender']}, {options.frames} frames x {options.bones} bones")
    for row in rows:
        print(
            f"  {row['how']:12} read {row['read_seconds']:6.2f} s   write {row['write_seconds']:6.2f} s   "
            f"{row['keys']} keys   peak {row['peak_mb']} MB (+{row['added_mb']})"
        )


if __name__ == "__main__":
    main()
