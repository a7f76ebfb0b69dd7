"""Runs inside a real Blender window (see test_window.py): drives the modal path and takes pictures of the panels.

    blender --factory-startup --enable-event-simulate --python tests/gui/in_window.py -- OUT_FOLDER

Writes OUT_FOLDER/report.json: check → true or what was seen instead.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
import traceback
from pathlib import Path

import bpy

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "addon")]
OUT = Path(sys.argv[-1])
REPORT: dict[str, object] = {}

import figures  # noqa: E402

import mmdm_addon  # noqa: E402
from mmdm_addon import compat, jobs, runtime  # noqa: E402
from mmdm_addon.ui import fill_gap, panels, problems  # noqa: E402


def check(name: str, holds: bool, seen: object = None) -> None:
    REPORT[name] = True if holds else f"seen: {seen}"


def window() -> bpy.types.Window:
    return bpy.context.window_manager.windows[0]


def area(kind: str) -> bpy.types.Area:
    return next(a for a in window().screen.areas if a.type == kind)


def in_view(**more):
    view = area("VIEW_3D")
    region = next(r for r in view.regions if r.type == "WINDOW")
    return bpy.context.temp_override(window=window(), area=view, region=region, **more)


def picture(name: str) -> None:
    """The whole screen; ImageMagick's tool where there is one, because Blender's own reads black under Xvfb."""
    bpy.ops.wm.redraw_timer(type="DRAW_WIN_SWAP", iterations=1)
    path = str(OUT / f"{name}.png")
    if shutil.which("import"):
        subprocess.run(["import", "-window", "root", path], check=True, timeout=30)
        return
    with bpy.context.temp_override(window=window(), area=area("VIEW_3D")):
        bpy.ops.screen.screenshot(filepath=path)


def press(kind: str, value: str = "PRESS") -> None:
    view = area("VIEW_3D")
    window().event_simulate(type=kind, value=value, x=view.x + view.width // 2, y=view.y + view.height // 2)


def click(kind: str) -> None:
    press(kind)
    press(kind, "RELEASE")


def figure() -> bpy.types.Object:
    return bpy.data.objects["Figure"]


def start(operator: str, **options) -> set[str]:
    with in_view():
        return getattr(bpy.ops.mmdm, operator)("INVOKE_DEFAULT", True, **options)


def until_idle():
    end = time.monotonic() + 90
    while jobs.running() is not None:
        assert time.monotonic() < end, "the job did not end"
        yield 0.05
    yield 0.3


def show_sidebar():
    """Our tab of the 3D View's sidebar."""
    area("VIEW_3D").spaces.active.show_region_ui = True
    yield 0.5
    next(r for r in area("VIEW_3D").regions if r.type == "UI").active_panel_category = "MMDM"
    yield 0.5


def other_tools():
    """Estimate, Detect Problems and Complete Bones, each from its button's path."""
    outcome = start("trial")
    yield from until_idle()
    told = fill_gap.expectation(bpy.context)
    check("the expected error is told", outcome == {"RUNNING_MODAL"} and "Expected" in told, told)
    check("an estimate changes nothing", [a.name for a in bpy.data.actions] == ["Source"], list(bpy.data.actions))
    picture("6_estimate")

    points = next(
        c for c in compat.curves(figure().animation_data.action, compat.assigned_slot(figure()))
        if "left_elbow" in c.data_path and c.array_index == 1
    ).keyframe_points  # fmt: skip
    points[79].co.y += 0.8
    with in_view():
        bpy.ops.ed.undo_push(message="spoilt a key")
    start("detect_problems")
    yield from until_idle()
    listed = figure().mmdm.problems
    check("the spoilt key is on the list of problems", any(p.start <= 80 <= p.end for p in listed), len(listed))
    if len(listed):
        figure().mmdm.problem_index = 0
        check("choosing one goes to its frame", bpy.context.scene.frame_current == listed[0].start)
    yield 0.3
    picture("7_problems")

    for bone in figure().pose.bones:
        compat.select(bone, bone.name in ("left_shoulder", "left_elbow", "left_wrist"))
    start("complete_bones", frame_start=70, frame_end=90)
    yield from until_idle()
    message = bpy.context.window_manager.mmdm.message
    check("an arm is completed", "Completed 70-90" in message, message)
    check("into a new action", len(bpy.data.actions) == 2, list(bpy.data.actions))
    picture("8_completed")
    for _ in range(3):  # the arm, the list, the spoilt key
        with in_view():
            bpy.ops.ed.undo()
        yield 0.3
    for bone in figure().pose.bones:
        compat.select(bone, True)
    check("undone step by step", [a.name for a in bpy.data.actions] == ["Source"], list(bpy.data.actions))


def steps():
    for panel in (panels.MMDM_PT_bones, panels.MMDM_PT_runtime, problems.MMDM_PT_problems):
        panel.bl_options = set()  # open, so that they are drawn
    mmdm_addon.register()
    for item in list(bpy.data.objects):
        bpy.data.objects.remove(item)
    armature = figures.make()
    figures.animate(armature, frames=120)
    with in_view():
        bpy.ops.object.mode_set(mode="POSE")
    for bone in armature.pose.bones:
        compat.select(bone, True)
    for curve in compat.curves(armature.animation_data.action, compat.assigned_slot(armature)):
        for point in curve.keyframe_points:
            point.select_control_point = 31 <= point.co.x < 60
    yield from show_sidebar()
    with in_view():
        bpy.ops.view3d.view_all()
    with in_view():
        bpy.ops.ed.undo_push(message="ready")
    yield 0.5
    picture("1_ready")

    # the first run also starts the engine: the window must answer all the time
    ticks, slowest, last = 0, 0.0, time.monotonic()
    outcome = start("fill_gap")
    check("invoke returns at once and runs beside the user", outcome == {"RUNNING_MODAL"}, outcome)
    check("no second job can start", not bpy.ops.mmdm.refine_jitter.poll())
    moved = armature.location.x
    with in_view():  # the user goes on working
        bpy.context.scene.frame_set(45)
    pictured = False
    while jobs.running() is not None:
        now = time.monotonic()
        ticks, slowest, last = ticks + 1, max(slowest, now - last), now
        if not pictured and ticks == 5:
            picture("2_running")
            pictured, last = True, time.monotonic()
        yield 0.02
    check("the window answered while the engine worked", ticks >= 10 and slowest < 1.0, (ticks, slowest))
    check("the user's frame stayed", bpy.context.scene.frame_current == 45, bpy.context.scene.frame_current)
    check("nothing moved the object", figure().location.x == moved)
    yield 0.5
    message = bpy.context.window_manager.mmdm.message
    check("the result is there", "Filled 31-59" in message, message)
    check("as a new action", figure().animation_data.action.name == "Source fill", figure().animation_data.action.name)
    check("progress is gone", not bpy.context.window_manager.mmdm.running)
    picture("3_filled")

    with in_view():
        bpy.ops.ed.undo()
    yield 0.3
    check(
        "one undo step takes all of it back", [a.name for a in bpy.data.actions] == ["Source"], list(bpy.data.actions)
    )
    check("and no more than it", figure().mode == "POSE" and len(figure().mmdm.takes) == 0, figure().mode)
    with in_view():
        bpy.ops.ed.redo()
    yield 0.3
    check("redo brings it again", len(bpy.data.actions) == 2, list(bpy.data.actions))
    with in_view():
        bpy.ops.ed.undo()
    yield 0.3

    yield from other_tools()

    # Esc, with a worker that is slow
    command = runtime.worker_command(runtime.find())
    standin = [command[0], str(ROOT / "tests" / "standin_worker.py")]
    runtime.worker_command = lambda _: standin
    start("fill_gap", label="slow")
    while jobs.running().call.done < 3:
        yield 0.05
    press("MOUSEMOVE", "NOTHING")
    click("Z")  # any key but Esc is the user's own
    yield 0.2
    check("other keys do not end it", jobs.running() is not None)
    picture("4_slow")
    click("ESC")  # closes the pie menu that Z opened
    yield 0.3
    if jobs.running() is not None:
        click("ESC")
    began = time.monotonic()
    yield from until_idle()
    check("escape cancels within a second", time.monotonic() - began < 1.5, time.monotonic() - began)
    check("a cancel changes nothing", [a.name for a in bpy.data.actions] == ["Source"], list(bpy.data.actions))
    message = bpy.context.window_manager.mmdm.message
    check("a cancel is told", message == "Cancelled; nothing was changed.", message)
    check("the status bar is clean again", not bpy.context.window_manager.mmdm.text)

    # undo in the middle: the result no longer fits, nothing crashes
    with in_view():
        bpy.ops.ed.undo_push(message="before the key")
        next(iter(compat.curves(figure().animation_data.action, compat.assigned_slot(figure())))).keyframe_points[
            5
        ].co.y += 1
        bpy.ops.ed.undo_push(message="moved a key")
    start("refine_jitter", frame_start=20, frame_end=40)
    with in_view():
        bpy.ops.ed.undo()
    yield from until_idle()
    message = bpy.context.window_manager.mmdm.message
    check("undo during the run drops the result with a message", "dropped" in message, message)

    # the rig goes
    start("fill_gap", label="slow")
    yield 0.3
    bpy.data.objects.remove(figure())
    yield from until_idle()
    message = bpy.context.window_manager.mmdm.message
    check("deleting the rig drops the result with a message", "gone" in message, message)

    # another file during a run
    armature = figures.make()
    figures.animate(armature, frames=120)
    for bone in armature.pose.bones:
        compat.select(bone, True)
    start("fill_gap", label="slow", frame_start=20, frame_end=40)
    yield 0.3
    call = jobs.running().call
    with in_view():
        bpy.ops.wm.read_homefile(app_template="")
    yield 1.5
    check("loading a file ends the job", jobs.running() is None and (call.finished or call.cancelling), jobs.running())

    # no rig at all: every panel draws and says why nothing can start
    yield from show_sidebar()
    picture("5_no_rig")
    mmdm_addon.unregister()
    check("nothing is left after unregister", not hasattr(bpy.types.Scene, "mmdm"))


def drive(script=None):
    script = script or steps()

    def tick():
        try:
            return next(script)
        except StopIteration:
            REPORT["finished"] = True
        except Exception:
            REPORT["finished"] = traceback.format_exc()
        (OUT / "report.json").write_text(json.dumps(REPORT, indent=1))
        bpy.ops.wm.quit_blender()
        return None

    bpy.app.timers.register(tick, first_interval=1.0, persistent=True)


bpy.context.preferences.view.show_splash = False
drive()
