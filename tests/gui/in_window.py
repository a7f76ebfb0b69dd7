"""Runs inside a real Blender window (see test_window.py): what an animator does in it, by mouse and keyboard.

    blender --factory-startup --enable-event-simulate --python tests/gui/in_window.py -- OUT RIG

The extension is enabled from Blender's own extension folder, and RIG (.bvh, .fbx) is opened. Writes pictures and
OUT/report.json: ``checks``, each true or what was seen instead; ``measured``; ``finished``, true or the traceback.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
import traceback
from pathlib import Path

import addon_utils
import bpy
from bpy_extras.view3d_utils import location_3d_to_region_2d

sys.path.insert(0, str(Path(__file__).resolve().parent))
import hand

OUT, RIG = (Path(word) for word in sys.argv[-2:])
STANDIN = Path(__file__).resolve().parents[1] / "standin_worker.py"
EXTENSION = "bl_ext.user_default.mmdm"
CHECKS: dict[str, object] = {}
MEASURED: dict[str, float] = {}
FIRST, LAST = 31, 59
BAD = 80
ARM = ("left_shoulder", "left_elbow")


def module(name: str):
    """A module of the extension as Blender has loaded it."""
    return importlib.import_module(f"{EXTENSION}.mmdm_addon.{name}")


def check(name: str, holds: bool, seen: object = None) -> None:
    CHECKS[name] = True if holds else f"seen: {seen}"


def rig() -> bpy.types.Object:
    return next(each for each in bpy.data.objects if each.type == "ARMATURE")


def action() -> str:
    return rig().animation_data.action.name


def actions() -> list[str]:
    return sorted(each.name for each in bpy.data.actions)


def status() -> bpy.types.PropertyGroup:
    return bpy.context.window_manager.mmdm


def curve(role: str) -> bpy.types.FCurve:
    """The first rotation curve of a role's bone."""
    bone = module("rig.roles").detect(rig()).chains[role][0]
    compat = module("compat")
    curves = compat.curves(rig().animation_data.action, compat.assigned_slot(rig()))
    return next(c for c in curves if f'["{bone}"].rotation' in c.data_path)


def selected_frames() -> list[int]:
    return [round(point.co.x) for point in curve("pelvis").keyframe_points if point.select_control_point]


def push(message: str) -> None:
    with hand.inside("VIEW_3D"):
        bpy.ops.ed.undo_push(message=message)


def over_view(key: str, **modifiers: bool) -> hand.Steps:
    """A key with the mouse in the 3D View, beside the sidebar."""
    view = hand.region("VIEW_3D")
    yield from hand.move(view.x + view.width // 4, view.y + view.height // 2)
    yield from hand.tap(key, **modifiers)
    yield 0.5


def idle() -> hand.Steps:
    yield from hand.until(lambda: module("jobs").running() is None, "the job ends")
    yield 0.5


def run(button: str) -> hand.Steps:
    """Press a tool's button and wait for its end."""
    yield from hand.press(button)
    yield from idle()


def sidebar() -> tuple[int, int, int, int]:
    """The MMDM tab and a little of the view beside it."""
    left, bottom, right, top = hand.box("VIEW_3D", "UI")
    return left - 12, bottom, right, top


def editors() -> tuple[int, int, int, int]:
    """The 3D View, the Dope Sheet and the status bar."""
    _, _, right, top = hand.box("VIEW_3D")
    return 0, 0, right, top


def opening() -> hand.Steps:
    """The rig in Pose Mode with all bones selected, the MMDM tab, a Dope Sheet under the view."""
    addon_utils.enable(EXTENSION, default_set=True)
    check("the extension is enabled", EXTENSION in bpy.context.preferences.addons)
    for item in list(bpy.data.objects):
        bpy.data.objects.remove(item)
    with hand.inside("VIEW_3D"):
        if RIG.suffix == ".bvh":
            bpy.ops.import_anim.bvh(filepath=str(RIG), update_scene_fps=True, update_scene_duration=True)
        else:
            bpy.ops.import_scene.fbx(filepath=str(RIG))
            bpy.context.scene.frame_end = int(rig().animation_data.action.frame_range[1])
    bpy.context.view_layer.objects.active = rig()
    timeline = hand.area("DOPESHEET_EDITOR")
    yield from hand.drag(timeline.x + 300, timeline.y + timeline.height + 1, timeline.x + 300, timeline.y + 250)
    timeline.ui_type = "DOPESHEET"
    yield 0.5
    yield from over_view("TAB", ctrl=True)
    check("in Pose Mode", rig().mode == "POSE", rig().mode)
    yield from over_view("A")
    yield from over_view("HOME")
    yield from over_view("N")
    hand.region("VIEW_3D", "UI").active_panel_category = "MMDM"
    yield 1
    push("ready")


def reasons() -> hand.Steps:
    """A greyed-out button says why."""
    yield from over_view("A", alt=True)
    check("without a bone nothing can start", not bpy.ops.mmdm.fill_gap.poll())
    yield from hand.find("mmdm.fill_gap")
    yield from hand.rest()
    x, y = hand.mouse()
    hand.picture(OUT / "greyed_out.png", (x - 140, y - 80, x + 460, y + 120))
    yield from over_view("A")
    check("with bones it can", bpy.ops.mmdm.fill_gap.poll())


def choosing() -> hand.Steps:
    """Box-select a run of keys in the Dope Sheet."""
    keys = hand.region("DOPESHEET_EDITOR")
    yield from hand.move(*hand.centre("DOPESHEET_EDITOR"))
    yield from hand.tap("HOME")
    yield 0.5
    yield from hand.tap("A", alt=True)
    yield from hand.tap("B")
    yield 0.5
    left, right = (keys.x + keys.view2d.view_to_region(frame, 0, clip=False)[0] for frame in (FIRST - 0.5, LAST + 0.5))
    yield from hand.drag(left, keys.y + keys.height - 40, right, keys.y + 40)
    yield 0.5
    check("the box selects the run", selected_frames() == list(range(FIRST, LAST + 1)), selected_frames())
    drawn = module("ui.fill_gap")._plan
    yield from hand.until(lambda: f"Writes {FIRST}-{LAST}" in drawn._value.text, "the panel follows", seconds=20)
    push("keys chosen")


def estimating() -> hand.Steps:
    """The expected error; the engine starts for it, and the window must answer all the time."""
    before, jobs, panel = actions(), module("jobs"), module("ui.fill_gap")
    yield from hand.press("mmdm.trial")
    check("invoke returns at once and runs beside the user", jobs.running() is not None)
    check("no second job can start", not bpy.ops.mmdm.refine_jitter.poll())
    bpy.context.scene.frame_set(45)  # the user goes on working
    ticks, slowest, last = 0, 0.0, time.monotonic()
    while jobs.running() is not None:
        now = time.monotonic()
        ticks, slowest, last = ticks + 1, max(slowest, now - last), now
        yield 0.02
    MEASURED["slowest answer of the window while the engine starts, s"] = round(slowest, 2)
    check("the window answered while the engine worked", ticks >= 10 and slowest < 2, (ticks, slowest))
    check("the user's frame stayed", bpy.context.scene.frame_current == 45, bpy.context.scene.frame_current)
    yield 0.5
    told = panel.expectation(bpy.context)
    check("the expected error is told", "Expected" in told, (told, status().message))
    check("an estimate changes nothing", actions() == before, actions())
    yield from over_view("F24")  # the mouse off the buttons
    hand.picture(OUT / "fill_gap.png", sidebar())


def cancelling() -> hand.Steps:
    """Progress in the panel and the status bar, and Esc."""
    before, jobs = actions(), module("jobs")
    yield from over_view("NUMPAD_PERIOD")
    bpy.context.scene.mmdm.takes = 16
    yield from hand.press("mmdm.fill_gap")
    yield from over_view("F24")
    yield from hand.until(lambda: jobs.running() is None or jobs.running().call.done > 0, "progress")
    check("there is time to cancel", jobs.running() is not None)
    yield 0.2
    hand.picture(OUT / "running.png", editors())
    check("the panel shows progress", status().running and "Fill Gap" in status().text, status().text)
    began = time.monotonic()
    yield from hand.tap("ESC")
    while jobs.running() is not None:
        yield 0.02
    took = time.monotonic() - began
    MEASURED["Esc until the job has ended, s"] = round(took, 2)
    check("Esc cancels within a second", took < 1, took)
    check("a cancel changes nothing", actions() == before, actions())
    check("a cancel is told", status().message == "Cancelled; nothing was changed.", status().message)
    check("the status bar is clean again", not status().text and not status().running)
    bpy.context.scene.mmdm.takes = 1


def filling() -> hand.Steps:
    """Fill Gap to its end, one step of undo, and the two takes by mouse."""
    before, source = actions(), action()
    began = time.monotonic()
    yield from hand.press("mmdm.fill_gap")
    yield from hand.until(lambda: module("jobs").running() is None, "the fill ends")
    MEASURED["Fill Gap of 29 frames from the click, s"] = round(time.monotonic() - began, 2)
    yield 0.5
    check("the result is there", f"Filled {FIRST}-{LAST}" in status().message, status().message)
    check("as a new action", action() == f"{source} fill", action())
    check("progress is gone", not status().running)
    yield from over_view("Z", ctrl=True)
    check("one undo step takes all of it back", actions() == before and action() == source, actions())
    check("and no more than it", rig().mode == "POSE" and not rig().mmdm.takes and selected_frames(), rig().mode)
    yield from over_view("Z", ctrl=True, shift=True)
    check("redo brings it again", action() == f"{source} fill", action())
    bpy.context.scene.frame_set((FIRST + LAST) // 2)
    yield from over_view("NUMPAD_PERIOD")
    hand.picture(OUT / "window.png", editors())
    yield from hand.press("mmdm.take_switch(index=0)")
    check("a click shows what was there before", action() == source, action())
    yield from hand.press("mmdm.take_switch(index=1)")
    check("another one the result", action() == f"{source} fill", action())


def refining() -> hand.Steps:
    """Refine Jitter on a shaken elbow."""
    points = curve("left_elbow").keyframe_points
    for point in points[FIRST : LAST + 1]:
        point.co.y += 0.15 * (-1) ** round(point.co.x)
    push("shaken")
    before = len(bpy.data.actions)
    yield from run("mmdm.refine_jitter")
    check("the shake is refined", f"Refined {FIRST}-{LAST}" in status().message, status().message)
    check("into a new action", len(bpy.data.actions) == before + 1, actions())
    for _ in range(2):
        yield from over_view("Z", ctrl=True)
    check("and taken back", len(bpy.data.actions) == before, actions())


def finding() -> hand.Steps:
    """Detect Problems, a click on a row, and what mends it."""
    point = min(curve("left_elbow").keyframe_points, key=lambda p: abs(p.co.x - BAD))
    point.co.y += 0.8
    push("a spoilt key")
    yield from hand.open_below("mmdm.complete_bones()", rows=1)
    yield from run("mmdm.detect_problems")
    listed = rig().mmdm.problems
    spoilt = [i for i, p in enumerate(listed) if p.start <= BAD <= p.end and p.role == "left_elbow"]
    check("the spoilt key is on the list", bool(spoilt), [(p.start, p.end, p.role, p.kind) for p in listed])
    yield from hand.press("mmdm.problem_index")
    yield 0.5
    chosen = rig().mmdm.problem_index
    check("a click chooses a row", 0 <= chosen < len(listed), chosen)
    shown, frame = listed[chosen], bpy.context.scene.frame_current
    check("and goes to its frame", frame == shown.start, frame)
    selected = module("jobs").selected_bones(rig())
    check("and selects its bone", selected == [shown.bone], selected)
    yield from hand.find("mmdm.problem_fix(method='REFINE'")  # in sight
    yield from over_view("F24")
    hand.picture(OUT / "problems.png", sidebar())
    before = len(bpy.data.actions)
    yield from run("mmdm.problem_fix(method='REFINE'")
    check("Refine mends the chosen one", "Refined" in status().message and len(bpy.data.actions) > before,
          status().message)  # fmt: skip


def completing() -> hand.Steps:
    """Click the bones of an arm in the view, and Complete Bones."""
    yield from over_view("A", alt=True)
    bpy.context.scene.frame_set(FIRST)
    yield 0.5
    view, chains = hand.region("VIEW_3D"), module("rig.roles").detect(rig()).chains
    names = [chains[role][0] for role in ARM]
    for i, name in enumerate(names):
        bone = rig().pose.bones[name]
        middle = rig().matrix_world @ ((bone.head + bone.tail) / 2)
        place = location_3d_to_region_2d(view, hand.area("VIEW_3D").spaces.active.region_3d, middle)
        yield from hand.move(view.x + place.x, view.y + place.y)
        yield from hand.tap("LEFTMOUSE", shift=i > 0)
        yield 0.3
    selected = module("jobs").selected_bones(rig())
    check("clicks select the arm", sorted(selected) == sorted(names), selected)
    before = len(bpy.data.actions)
    yield from run("mmdm.complete_bones")
    check("an arm is completed", f"Completed {FIRST}-{LAST}" in status().message, status().message)
    check("as one more action", len(bpy.data.actions) == before + 1, actions())
    yield from over_view("F24")
    hand.picture(OUT / "completed.png", sidebar())


def mapping() -> hand.Steps:
    """Bone Map: the table, a map saved, and the menu that loads it."""
    yield from hand.open_below("mmdm.takes_clear")
    yield from hand.press("mmdm.bone_map_save")
    yield 0.5
    yield from hand.tap("RET")
    yield 0.5
    yield from hand.find("mmdm.bone_map_save")
    left, bottom, right, top = hand.box("VIEW_3D", "UI")
    _, y = hand.mouse()
    yield from hand.click(left + (right - left) * 0.15, y)
    yield 0.5
    hand.picture(OUT / "bone_map.png", (left - 12, bottom - 100, right, top))
    yield from hand.tap("ESC")
    yield 0.5


def preferences() -> hand.Steps:
    """The extension's page."""
    manager, (x, y) = bpy.context.window_manager, hand.centre("VIEW_3D")
    yield from hand.move(x, y)  # it opens at the mouse
    bpy.ops.screen.userpref_show(section="ADDONS")
    manager.addon_search = "MMDM"
    yield 1
    page = manager.windows[-1]
    with bpy.context.temp_override(window=page, area=page.screen.areas[0]):
        bpy.ops.preferences.addon_expand(module=EXTENSION)
    bpy.ops.mmdm.runtime_test("INVOKE_DEFAULT")
    yield from hand.until(lambda: module("operators.runtime").testing() is None, "the test of the engine")
    check("the engine passes its test", "The engine works" in status().message, status().message)
    yield from hand.wheel_down(page, 20)
    hand.picture(OUT / "preferences.png", (page.x + 174, page.y, page.x + page.width, page.y + 350))
    with bpy.context.temp_override(window=page):
        bpy.ops.wm.window_close()
    yield 0.5


def start(operator: str, **options: object) -> None:
    with hand.inside("VIEW_3D"):
        getattr(bpy.ops.mmdm, operator)("INVOKE_DEFAULT", True, **options)


def accidents() -> hand.Steps:
    """Undo, deletion and another file while a job runs, with an engine that is slow."""
    jobs, runtime = module("jobs"), module("runtime")
    standin = [runtime.worker_command(runtime.find())[0], str(STANDIN)]
    runtime.worker_command = lambda _: standin
    runtime.forget()
    yield from over_view("A")
    push("before the key")
    curve("left_elbow").keyframe_points[5].co.y += 1
    push("moved a key")
    start("refine_jitter", frame_start=20, frame_end=40)
    yield from over_view("Z", ctrl=True)
    yield from idle()
    check("undo during the run drops the result with a message", "dropped" in status().message, status().message)

    start("fill_gap", label="slow", frame_start=20, frame_end=40)
    yield from hand.until(lambda: jobs.running().call.done > 2, "the slow fill")
    yield from over_view("F24")
    check("other keys do not end it", jobs.running() is not None)
    push("before the rig goes")
    bpy.data.objects.remove(rig())
    push("the rig is gone")
    yield from idle()
    check("deleting the rig drops the result with a message", "gone" in status().message, status().message)

    with hand.inside("VIEW_3D"):
        bpy.ops.ed.undo()
    yield 0.5
    start("fill_gap", label="slow", frame_start=20, frame_end=40)
    yield 0.3
    call = jobs.running().call
    with hand.inside("VIEW_3D"):
        bpy.ops.wm.read_homefile(app_template="")
    yield 2
    check("loading a file ends the job", jobs.running() is None and (call.finished or call.cancelling), jobs.running())

    hand.area("VIEW_3D").spaces.active.show_region_ui = True
    yield 0.5
    hand.region("VIEW_3D", "UI").active_panel_category = "MMDM"
    yield 0.5
    hand.picture(OUT / "no_rig.png", sidebar())
    addon_utils.disable(EXTENSION, default_set=True)
    check("nothing is left after disabling", not hasattr(bpy.types.Scene, "mmdm"))


def session() -> hand.Steps:
    scenes = (opening, reasons, choosing, estimating, cancelling, filling, refining, finding, completing, mapping,
              preferences, accidents)  # fmt: skip
    for scene in scenes:
        began = time.monotonic()
        yield from scene()
        print(f"{scene.__name__}: {time.monotonic() - began:.0f} s", flush=True)


def drive(script: hand.Steps) -> None:
    """Go on with the session whenever Blender has handled what was done."""

    def tick() -> float | None:
        finished: object = True
        try:
            return next(script)
        except StopIteration:
            pass
        except Exception:
            finished = traceback.format_exc()
            hand.picture(OUT / "failed.png")
        report = {"finished": finished, "checks": CHECKS, "measured": MEASURED}
        (OUT / "report.json").write_text(json.dumps(report, indent=1))
        bpy.ops.wm.quit_blender()
        return None

    bpy.app.timers.register(tick, first_interval=1.0, persistent=True)


bpy.context.preferences.view.show_splash = False
bpy.context.preferences.system.viewport_aa = "OFF"  # a display without a graphics card draws in software
drive(session())
