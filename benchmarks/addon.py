"""What an animator waits for, in headless Blender: the sidebar, reading and writing takes, Fill Gap and Refine Jitter.

    python benchmarks/addon.py [--json] [--only sidebar long ...]

Needs the ``bpy`` package, and for ``operators`` a Python with torch for the worker (``MMDM_PYTHON``, else the one that
runs this). All rigs are made here. Every figure stands beside the bar that it is held to.

sidebar     processor time in which the panels of the MMDM tab are drawn, open, on a rig of 700 keyed and selected
            bones, sixty times a second: mean of three seconds after the first. Polls of the buttons count; what
            Blender itself does with the layout does not
short       300 frames of 65 bones read
long        10,000 frames of 65 bones, keyed on every frame, read and written back; peak memory
evaluated   the same read through Blender, as it is where a rig has constraints
operators   a 30-frame Fill Gap and a Refine Jitter of 300 shaken frames end to end with a warm worker, 22 bones, 30 fps
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "addon")]

GAP, REFINED, REPEATS = 30, 300, 10
REDRAWS, REDRAW_RATE = 180, 60
BARS = {
    "sidebar_ms": 1.0,
    "read_300_seconds": 0.5,
    "read_and_write_seconds": 3.0,
    "peak_mib": 1024.0,
    "fill_seconds_slowest": 1.0,
}
"""Figures that must not be above this."""
FLOORS = {"refined_frames_per_second": 30.0}
"""Figures that must not be below this."""


def mebibytes() -> float:
    """Peak resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


def rig(bones: int, frames: int) -> Any:
    """The figure with further bones on its hands up to the wanted number, every one keyed on every frame."""
    import bpy
    import figures

    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    figure = figures.make()
    bpy.ops.object.mode_set(mode="EDIT")
    for i in range(bones - len(figure.data.edit_bones)):
        wrist = figure.data.edit_bones[("left_wrist", "right_wrist")[i % 2]]
        finger = figure.data.edit_bones.new(f"finger{i}")
        finger.head, finger.tail, finger.parent = wrist.tail, wrist.tail + wrist.vector / 3, wrist
    bpy.ops.object.mode_set(mode="OBJECT")
    figures.animate(figure, frames=frames)
    return figure


def shake(figure: Any, degrees: float = 5.0) -> None:
    """Noise on every key of the bones' quaternions; what is clean would be left alone, and in no time."""
    import numpy as np

    from mmdm_addon import compat

    random = np.random.default_rng(0)
    for curve in compat.curves(figure.animation_data.action, compat.assigned_slot(figure)):
        if curve.data_path.endswith("rotation_quaternion"):
            co = np.empty(2 * len(curve.keyframe_points), np.float32)
            curve.keyframe_points.foreach_get("co", co)
            co[1::2] += random.normal(0, np.radians(degrees) / 2, len(co) // 2)
            curve.keyframe_points.foreach_set("co", co)
            curve.update()


class Layout:
    """Takes what panels draw. Buttons are polled, as Blender does for each that it shows."""

    def __init__(self) -> None:
        self.polls = 0

    def __getattr__(self, name: str) -> Any:
        if name in ("row", "column", "split", "box"):
            return lambda *_, **__: self
        return lambda *_, **__: None

    def operator(self, name: str, **_: Any) -> Any:
        """A button."""
        import bpy

        kind = getattr(bpy.types, name.replace("mmdm.", "MMDM_OT_"))
        if hasattr(kind, "poll"):
            kind.poll(bpy.context)
        self.polls += 1
        return argparse.Namespace()


def drawable(panel: Any) -> Any:
    """A panel's methods on an object of our own, since Blender makes panels itself; `redraw` gives it a layout."""
    return type("Drawn", (), dict(vars(panel)) | {"tool_layout": lambda self: self.layout})()


def redraw(panels: list[tuple[Any, Any]], context: Any) -> int:
    """Draw all panels that show now, once; how many buttons they have. panels: with what `drawable` made of them."""
    layout = Layout()
    for panel, drawn in panels:
        if not hasattr(panel, "poll") or panel.poll(context):
            drawn.layout = layout
            drawn.draw(context)
    return layout.polls


def sidebar(bones: int = 700) -> dict[str, Any]:
    """Milliseconds for a redraw of the MMDM tab."""
    import bpy

    import mmdm_addon
    from mmdm_addon import compat
    from mmdm_addon.ui import panels as module

    os.environ.setdefault("MMDM_PYTHON", sys.executable)
    figure = rig(bones, 60)
    mmdm_addon.register()
    bpy.ops.object.mode_set(mode="POSE")
    for bone in figure.pose.bones:
        compat.select(bone, True)
    for curve in compat.curves(figure.animation_data.action, compat.assigned_slot(figure)):
        for point in curve.keyframe_points:
            point.select_control_point = 20 <= point.co.x <= 40
    panels = [(c, drawable(c)) for c in module.CLASSES if issubclass(c, bpy.types.Panel)]
    window = bpy.context.window_manager.windows[0]
    area = next((a for a in window.screen.areas if a.type == "VIEW_3D"), window.screen.areas[0])
    area.type = "VIEW_3D"
    region = next(r for r in area.regions if r.type == "UI")
    seconds = []
    with bpy.context.temp_override(window=window, area=area, region=region):
        for _ in range(REDRAWS):
            started = time.thread_time()  # what others do on the machine does not count
            buttons = redraw(panels, bpy.context)
            seconds.append(time.thread_time() - started)
            time.sleep(max(0.0, 1 / REDRAW_RATE - seconds[-1]))
    mmdm_addon.unregister()
    return {
        "sidebar_bones": bones,
        "sidebar_buttons": buttons,
        "sidebar_first_ms": round(1e3 * seconds[0], 3),
        "sidebar_fastest_ms": round(1e3 * min(seconds[1:]), 3),
        "sidebar_ms": round(1e3 * statistics.mean(seconds[1:]), 3),
        "sidebar_median_ms": round(1e3 * statistics.median(seconds[1:]), 3),
        "sidebar_slowest_ms": round(1e3 * max(seconds[1:]), 3),
    }


def short(frames: int = 300, bones: int = 65) -> dict[str, Any]:
    """Seconds to read a take of ten seconds."""
    import bpy
    import numpy as np

    from mmdm_addon.rig import read

    figure = rig(bones, frames)
    seconds = []
    for _ in range(5):
        started = time.perf_counter()
        read.read(bpy.context, figure, np.arange(1.0, frames + 1))
        seconds.append(time.perf_counter() - started)
    return {"read_300_seconds": round(max(seconds), 3)}


def long(frames: int = 10_000, bones: int = 65) -> dict[str, Any]:
    """Seconds to read all frames and to write them back, and the memory it takes."""
    import bpy
    import figures
    import numpy as np

    from mmdm_addon.rig import read, write

    figure = rig(bones, frames)
    before = mebibytes()
    started = time.perf_counter()
    take = read.read(bpy.context, figure, np.arange(1.0, frames + 1))
    reading = time.perf_counter() - started
    edited = figures.bend(take.motion, 1, frames - 1, amount=0.05)
    started = time.perf_counter()
    report = write.write(
        bpy.context, figure, take, edited, changed=figures.columns(frames, 1, frames - 1), bones=None, name="Result",
        start=1, end=frames, density="MATCH", style="REFINE",
    )  # fmt: skip
    writing = time.perf_counter() - started
    return {
        "read_seconds": round(reading, 3),
        "write_seconds": round(writing, 3),
        "read_and_write_seconds": round(reading + writing, 3),
        "written_keys": report.keys,
        "peak_mib": round(mebibytes()),
        "added_mib": round(mebibytes() - before),
    }


def evaluated(frames: int = 10_000, bones: int = 65) -> dict[str, Any]:
    """Seconds to read a rig with a constraint, which only Blender can evaluate."""
    import bpy
    import numpy as np

    from mmdm_addon.rig import read

    figure = rig(bones, frames)
    figure.pose.bones["head"].constraints.new("LIMIT_ROTATION")
    started = time.perf_counter()
    read.read(bpy.context, figure, np.arange(1.0, frames + 1))
    return {"read_evaluated_seconds": round(time.perf_counter() - started, 3)}


def operators() -> dict[str, Any]:
    """Seconds from the press of a button to the new action, after one run that starts the worker."""
    import bpy

    import mmdm_addon
    from mmdm_addon import compat

    os.environ.setdefault("MMDM_PYTHON", sys.executable)
    armature = rig(22, REFINED + 100)
    mmdm_addon.register()
    bpy.context.scene.render.fps = 30
    for bone in armature.pose.bones:
        compat.select(bone, True)
    fill = {"frame_start": 100, "frame_end": 100 + GAP + 1}
    refine = {"frame_start": 51, "frame_end": 50 + REFINED}

    def timed(operator: Any, **options: Any) -> float:
        started = time.perf_counter()
        assert operator(**options) == {"FINISHED"}
        seconds = time.perf_counter() - started
        assert len(armature.mmdm.takes) == 2, "there is no result"
        bpy.ops.mmdm.take_switch(index=0)
        bpy.ops.mmdm.takes_clear()
        return seconds

    first = timed(bpy.ops.mmdm.fill_gap, **fill)
    fills = [timed(bpy.ops.mmdm.fill_gap, **fill) for _ in range(REPEATS)]
    shake(armature)
    timed(bpy.ops.mmdm.refine_jitter, **refine)
    refinements = [timed(bpy.ops.mmdm.refine_jitter, **refine) for _ in range(REPEATS)]
    mmdm_addon.unregister()
    return {
        "fill_seconds_first": round(first, 3),
        "fill_seconds_warm": round(statistics.median(fills), 3),
        "fill_seconds_slowest": round(max(fills), 3),
        "refined_frames_per_second": round(REFINED / statistics.median(refinements), 1),
    }


PARTS: dict[str, Callable[[], dict[str, Any]]] = {
    "sidebar": sidebar,
    "short": short,
    "long": long,
    "evaluated": evaluated,
    "operators": operators,
}


def alone(part: str) -> dict[str, Any]:
    """A part's figures from a process of its own, so that memory is counted from nothing."""
    words = [sys.executable, __file__, "--part", part]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


def one_part(part: str) -> None:
    """Measure here; one JSON document on stdout."""
    stdout = os.dup(1)
    os.dup2(2, 1)  # operators report on stdout, which is for the result
    status = 1
    try:
        result = PARTS[part]()
        import bpy

        from mmdm_addon import compat

        result |= {"blender": bpy.app.version_string, "layered_actions": compat.has_slots()}
        os.write(stdout, json.dumps(result).encode())
        status = 0
    except BaseException:
        traceback.print_exc()
    os._exit(status)  # Blender's own clean-up at exit fails or hangs in some versions


def main() -> None:
    """Entry of the script."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, usage="%(prog)s [--json] [--only …]"
    )
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    parser.add_argument("--only", nargs="+", choices=PARTS, metavar="PART", default=list(PARTS), help="which parts")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        one_part(options.part)
    result: dict[str, Any] = {}
    for part in options.only:
        result |= alone(part)
    missed = [name for name, bar in BARS.items() if name in result and result[name] > bar]
    missed += [name for name, bar in FLOORS.items() if name in result and result[name] < bar]
    result |= {
        "bars": BARS | FLOORS,
        "missed": missed,
        "machine": f"{platform.machine()}, {os.cpu_count()} CPU cores",
        "date": date.today().isoformat(),
    }
    if options.json:
        print(json.dumps(result))
        return
    for name, value in result.items():
        if name not in ("bars", "missed"):
            bar = f"   at most {BARS[name]:g}" if name in BARS else ""
            bar = f"   at least {FLOORS[name]:g}" if name in FLOORS else bar
            print(f"{name.replace('_', ' '):28} {value}{bar}{'   MISSED' if name in missed else ''}")


if __name__ == "__main__":
    main()
