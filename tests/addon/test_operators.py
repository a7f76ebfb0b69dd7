"""Fill Gap and Refine Jitter as a user runs them; everything is real but the network (tests/standin_worker.py)."""

from __future__ import annotations

import bpy
import figures
import numpy as np
import pytest
from drawing_support import drawn
from operator_support import (
    armature_now,
    bone_of,
    changed_frames,
    curves,
    deselect,
    figure,
    frames_of,
    meanwhile,
    refused,
    same,
    select,
    select_keys,
    state,
)

from mmdm_addon import compat, jobs, timeline
from mmdm_addon.engine_client import CallCancelledError
from mmdm_addon.operators import reading
from mmdm_addon.operators.fill_gap import hidden
from mmdm_addon.ui import panels

pytestmark = pytest.mark.usefixtures("standin")
fill, refine = bpy.ops.mmdm.fill_gap, bpy.ops.mmdm.refine_jitter


def values(armature, frame):
    return {(c.data_path, c.array_index): c.evaluate(frame) for c in curves(armature)}


# ---------------------------------------------------------------- fill


def test_fill_makes_a_new_action_and_leaves_the_source_alone():
    armature = figure()
    source, before = armature.animation_data.action, state(armature)
    assert not source.use_fake_user
    assert fill(frame_start=20, frame_end=40) == {"FINISHED"}
    result = armature.animation_data.action
    assert result != source
    assert result.use_fake_user
    assert source.use_fake_user
    assert compat.action_animates(armature)
    touched = changed_frames(before, state(armature))
    assert frames_of(touched) <= set(range(21, 40))
    assert len({bone_of(k) for k in touched}) == 22
    bpy.ops.mmdm.take_switch(index=0)
    assert armature.animation_data.action == source
    assert same(state(armature), before)


def test_the_sentence_names_frames_bones_and_the_largest_change():
    figure()
    fill(frame_start=20, frame_end=40)
    message = bpy.context.window_manager.mmdm.message
    assert message.startswith("Filled 21-39 on 22 bones, largest change ")
    assert "°" in message
    assert "cm" in message


def test_only_selected_bones_are_written():
    armature = figure()
    select(armature, "left_elbow", "left_wrist")
    before = state(armature)
    fill(frame_start=20, frame_end=40)
    assert {bone_of(k) for k in changed_frames(before, state(armature))} == {"left_elbow", "left_wrist"}


def test_a_run_of_selected_keys_is_replaced():
    armature = figure()
    select_keys(armature, range(25, 32))
    before = state(armature)
    fill()
    touched = changed_frames(before, state(armature))
    assert frames_of(touched) <= set(range(25, 32))
    assert touched


def test_the_same_keys_are_selected_afterwards_so_that_it_can_be_repeated():
    armature = figure()
    select_keys(armature, range(25, 32))
    for operator in (fill, refine):
        operator()
        keys = timeline.pose_keys(armature).bones
        assert timeline.selected_columns(keys.values()).tolist() == list(range(25, 32))
        assert all(k.selected.sum() == 7 for k in keys.values())


def test_several_gaps_are_solved_in_one_request(asked):
    armature = figure()
    select_keys(armature, [*range(15, 20), *range(40, 45)])
    before = state(armature)
    fill()
    assert len(asked) == 1
    frames = frames_of(changed_frames(before, state(armature)))
    assert frames <= {*range(15, 20), *range(40, 45)}
    assert frames & set(range(15, 20))
    assert frames & set(range(40, 45))
    assert len(armature.mmdm.takes) == 2


@pytest.mark.parametrize(
    ("every", "missing", "tool", "read"),
    [
        (1, (), "fill", (500 - 360, 520 + 360)),
        (1, (), "complete", (500 - 360, 520 + 360)),
        (1, (), "refine", (500 - 24, 520 + 24)),  # does not look at the rest of the take
        (1, (400, 401, 402), "fill", (403, 520 + 360)),  # as far as the motion is told frame by frame
        (10, (), "fill", (481, 541)),  # the outermost poses within a second
    ],
)
def test_the_take_is_read_as_far_as_the_engine_can_learn_from_it(asked, every, missing, tool, read):
    armature = figure(frames=1000, every=every)
    for curve in curves(armature):
        for frame in missing:
            at = [round(point.co.x) for point in curve.keyframe_points].index(frame)
            curve.keyframe_points.remove(curve.keyframe_points[at])
    borders = {"frame_start": 501, "frame_end": 521} if every > 1 else {"frame_start": 500, "frame_end": 520}
    {"fill": fill, "refine": refine, "complete": lambda **k: complete_bones(armature, **k)}[tool](**borders)
    (request,) = asked
    assert len(request.arrays["rotations"]) == read[1] - read[0] + 1


def test_blocked_poses_are_joined_wherever_they_lie(engine):
    """At 24 fps a second before the gap need not be a pose; what is read must begin at one all the same."""
    armature = figure(frames=300, every=10)
    before = values(armature, 101)
    fill(frame_start=101, frame_end=121)
    assert bpy.context.window_manager.mmdm.message.startswith("Filled 102-120")
    after = values(armature, 101)
    assert all(after[k] == before[k] for k in before)


def complete_bones(armature, **borders):
    select(armature, "left_elbow", "left_wrist")
    bpy.ops.mmdm.complete_bones(**borders)


def test_isolated_keys_inside_are_kept_and_hit_exactly():
    armature = figure(every=10)  # keys on 1, 11, 21, 31, 41, 51
    select_keys(armature, (11, 41))
    kept = {f: values(armature, f) for f in (11, 21, 31, 41)}
    fill(keep="KEYS")
    for frame, before in kept.items():
        after = values(armature, frame)
        assert all(after[k] == before[k] for k in before), frame


def test_keys_inside_can_be_replaced():
    armature = figure(every=10)
    select_keys(armature, (11, 41))
    before = values(armature, 31)
    fill(keep="NONE")
    after = values(armature, 31)
    assert max(abs(after[k] - before[k]) for k in before) > 1e-3


def test_frames_between_sparse_keys_are_no_context():
    """What a Bézier curve makes up around the gap must not be told to the engine as motion."""
    armature = figure(every=10)
    about = reading.subject(armature)
    plan = timeline.plan_fill(about.keys.bones, about.role_bones, frame_start=21, frame_end=41)
    frames = np.arange(1, 61, dtype=float)
    mask, inside = hidden(plan, about, frames)
    assert frames[~mask.any(axis=1)].tolist() == [1, 11, 21, 31, 41, 51]
    assert frames[inside].tolist() == list(range(22, 41))


def test_far_keys_between_frames_are_context_all_the_same():
    armature = figure(every=10)
    for curve in curves(armature):
        for point in curve.keyframe_points:
            point.co.x += 0.25
        curve.update()
    assert fill(frame_start=21, frame_end=41, keep="NONE") == {"FINISHED"}
    refused(fill, "Nothing is keyed at or before frame 1", frame_start=1, frame_end=20)


@pytest.mark.parametrize(("density", "expected"), [("ALL", 19), ("STEP", 4)])
def test_density(density, expected):
    armature = figure(every=20, frames=61)
    fill(frame_start=21, frame_end=41, density=density, step=5, keep="NONE")
    curve = next(c for c in curves(armature) if "left_elbow" in c.data_path)
    inside = [p for p in curve.keyframe_points if 21 < p.co.x < 41]
    assert abs(len(inside) - expected) <= 1
    assert {p.type for p in inside} == {"GENERATED"}


def test_extend_fills_beyond_the_last_pose():
    armature = figure()
    refused(fill, "Nothing is keyed at or after frame 80", "Extend", frame_start=60, frame_end=80)
    assert fill(frame_start=60, frame_end=80, extend=True) == {"FINISHED"}
    assert max(p.co.x for c in curves(armature) for p in c.keyframe_points) == 79  # no snap back in frame 80


def test_fill_is_the_same_twice_with_the_same_seed():
    armature = figure()
    fill(frame_start=20, frame_end=40, takes=2, seed=5)
    bpy.ops.mmdm.take_switch(index=2)
    first = values(armature, 30)
    bpy.ops.mmdm.take_switch(index=0)
    fill(frame_start=20, frame_end=40, takes=2, seed=5)
    bpy.ops.mmdm.take_switch(index=4)
    assert values(armature, 30) == first


def test_frame_selection_mode_and_range_are_as_before():
    armature = figure()
    scene = bpy.context.scene
    scene.frame_set(17, subframe=0.25)
    scene.use_preview_range, scene.frame_preview_start, scene.frame_preview_end = True, 5, 50
    select(armature, "pelvis", "left_knee")
    fill(frame_start=20, frame_end=40)
    refine(frame_start=10, frame_end=50)
    assert (scene.frame_current, scene.frame_subframe) == (17, 0.25)
    assert (scene.frame_preview_start, scene.frame_preview_end, scene.use_preview_range) == (5, 50, True)
    assert (scene.frame_start, scene.frame_end, scene.render.fps) == (1, 250, 24)
    assert armature.mode == "POSE"
    assert jobs.selected_bones(armature) == ["pelvis", "left_knee"]


# ---------------------------------------------------------------- refine


def test_refine_changes_the_range_and_only_selected_bones():
    armature = figure()
    select(armature, "spine1", "left_elbow")
    before, source = state(armature), armature.animation_data.action
    assert refine(frame_start=20, frame_end=40) == {"FINISHED"}
    touched = changed_frames(before, state(armature))
    assert {bone_of(k) for k in touched} == {"spine1", "left_elbow"}
    assert frames_of(touched) <= set(range(20, 41))
    assert source.use_fake_user
    assert "Refined 20-40 on 2 bones" in bpy.context.window_manager.mmdm.message


def test_the_takes_are_listed_by_what_was_done_and_the_shown_one_in_full(monkeypatch):
    armature = figure()
    select(armature, "left_elbow")
    own = armature.animation_data.action.name
    for _ in range(2):
        assert refine(frame_start=20, frame_end=40) == {"FINISHED"}
    shown = drawn(panels.MMDM_PT_takes, monkeypatch)
    buttons = [settings.button for kind, name, _, settings in shown.items if name == "mmdm.take_switch"]
    assert buttons == [own, *["Refine 20-40, strength 1"] * 2]
    (told,) = shown.texts("label")
    assert told.startswith(f"{own} refined refined: Refine 20-40, strength 1; largest change ")
    armature.mmdm.takes[1].action = None
    shown = drawn(panels.MMDM_PT_takes, monkeypatch)
    assert [settings.button for _, _, on, settings in shown.items if not on] == [f"{own} refined (deleted)"]


def test_one_frame_of_one_bone_is_told_in_the_singular():
    select(figure(), "left_elbow")
    assert refine(frame_start=30, frame_end=30) == {"FINISHED"}
    assert "Refined 30 on 1 bone, " in bpy.context.window_manager.mmdm.message


@pytest.mark.parametrize("every", [1, 10])
def test_refining_everything_makes_the_action_no_longer(every):
    armature = figure(every=every, frames=61)
    assert refine() == {"FINISHED"}
    assert tuple(armature.animation_data.action.frame_range) == (1, 61)
    if every > 1:
        return
    fill(frame_start=20, frame_end=40)
    assert tuple(armature.animation_data.action.frame_range) == (1, 61)


def test_strength_scales_the_change():
    armature = figure()
    base = values(armature, 30)
    sizes = []
    for strength in (0.5, 1.0):
        refine(strength=strength)
        after = values(armature, 30)
        sizes.append(max(abs(after[k] - base[k]) for k in base))
        bpy.ops.mmdm.take_switch(index=0)
    assert 0.4 < sizes[0] / sizes[1] < 0.6


# ---------------------------------------------------------------- takes


def test_takes_are_listed_and_switched_without_computing(monkeypatch):
    armature = figure()
    source = armature.animation_data.action
    fill(frame_start=20, frame_end=40, takes=3, seed=7)
    takes = armature.mmdm.takes
    assert [t.source for t in takes] == [True, False, False, False]
    assert armature.animation_data.action == takes[1].action
    assert "seed 8" in takes[2].detail
    monkeypatch.setattr(jobs.runtime, "client", lambda: pytest.fail("switching must not compute"))
    seen = set()
    for index in range(4):
        assert bpy.ops.mmdm.take_switch(index=index) == {"FINISHED"}
        assert armature.animation_data.action == takes[index].action
        assert compat.action_animates(armature)
        seen.add(tuple(values(armature, 30).values()))
    assert len(seen) >= 3
    refused(bpy.ops.mmdm.take_switch, "There is no take 9", index=9)
    bpy.ops.mmdm.take_switch(index=0)
    assert armature.animation_data.action == source


def test_takes_survive_saving(tmp_path):
    armature = figure()
    fill(frame_start=20, frame_end=40, takes=2)
    names = [t.action.name for t in armature.mmdm.takes]
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "takes.blend"))
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "takes.blend"))
    armature = bpy.data.objects["Figure"]
    assert [t.action.name for t in armature.mmdm.takes] == names
    for index in range(3):
        assert bpy.ops.mmdm.take_switch(index=index) == {"FINISHED"}


@pytest.mark.parametrize("fake", [False, True])
def test_deleting_takes_restores_the_source(fake):
    armature = figure()
    source = armature.animation_data.action
    source.use_fake_user = fake
    fill(frame_start=20, frame_end=40, takes=2)
    bpy.ops.mmdm.take_switch(index=0)
    assert bpy.ops.mmdm.takes_clear() == {"FINISHED"}
    assert list(bpy.data.actions) == [source]
    assert source.use_fake_user == fake
    assert len(armature.mmdm.takes) == 0


def test_deleting_while_a_take_is_shown_keeps_both_it_and_the_source():
    armature = figure()
    source = armature.animation_data.action
    fill(frame_start=20, frame_end=40, takes=2)
    shown = armature.animation_data.action
    bpy.ops.mmdm.takes_clear()
    assert set(bpy.data.actions) == {source, shown}
    assert source.use_fake_user


# ---------------------------------------------------------------- undo


def test_one_undo_step_removes_the_whole_result():
    armature = figure()
    before = state(armature)
    bpy.ops.ed.undo_push(message="before")
    assert fill("EXEC_DEFAULT", True, frame_start=20, frame_end=40, takes=2) == {"FINISHED"}
    assert len(bpy.data.actions) == 3
    bpy.ops.ed.undo()
    assert [a.name for a in bpy.data.actions] == ["Source"]
    assert same(state(armature_now()), before)
    assert len(armature_now().mmdm.takes) == 0
    bpy.ops.ed.redo()
    assert len(bpy.data.actions) == 3


def assert_untouched(before):
    """After a refusal: same keys, no new actions, and undo goes back past it to the step before."""
    assert same(state(armature_now()), before)
    assert len(bpy.data.actions) == 1
    assert len(armature_now().mmdm.takes) == 0
    bpy.context.view_layer.objects.active = armature_now()
    bpy.ops.ed.undo()
    assert armature_now().location.x == 1.0  # the step that was pushed last was undone, not one of the operator's


@pytest.fixture
def watched():
    """A figure with two undo steps behind it; what the refusal tests start from."""
    armature = figure()
    armature.location.x = 1.0
    bpy.ops.ed.undo_push(message="first")
    armature.location.x = 2.0
    bpy.ops.ed.undo_push(message="second")
    return armature_now()


# ---------------------------------------------------------------- bad input, each one sentence


def test_a_gap_without_context(watched):
    before = state(watched)
    refused(fill, "Nothing is keyed at or before frame -9", frame_start=-9, frame_end=20)
    refused(fill, "Nothing is keyed at or after frame 75", frame_start=40, frame_end=75)
    assert_untouched(before)


def test_a_gap_longer_than_the_motion(watched):
    before = state(watched)
    refused(fill, "longer than the animation (1-60)", frame_start=-100, frame_end=900)
    assert_untouched(before)


def test_no_keys_selected_and_no_range(watched):
    before = state(watched)
    refused(fill, "No gap is chosen", "select the keys")
    assert_untouched(before)


def test_a_key_that_is_not_a_number(watched):
    curve = next(c for c in curves(watched) if "left_knee" in c.data_path)
    curve.keyframe_points[9].co.y = float("nan")
    _, keys = state(watched)
    for operator in (fill, refine):
        text = refused(operator, frame_start=20, frame_end=40)
        assert "left_knee" in text
        assert "10" in text
    assert len(bpy.data.actions) == 1
    after = state(watched)[1]
    assert all(np.array_equal(after[k]["co"], keys[k]["co"], equal_nan=True) for k in keys)


def test_keys_that_are_not_numbers_may_lie_in_the_gap_and_are_gone_afterwards(watched):
    knee = [c for c in curves(watched) if "left_knee" in c.data_path]
    for curve in knee:
        for at in (20, 24, 25, 38):  # frame 21 stands beside the border, which has automatic handles
            curve.keyframe_points[at].co.y = float("nan")
        curve.update()
    assert fill(frame_start=20, frame_end=40) == {"FINISHED"}
    for columns in state(watched)[1].values():
        assert all(np.isfinite(columns[name]).all() for name in ("co", "handle_left", "handle_right"))
    times = np.arange(1.0, 61.0)
    result, slot = watched.animation_data.action, compat.assigned_slot(watched)
    assert all(np.isfinite(values).all() for values in figures.sampled(result, slot, times).values())


def test_a_kept_or_unselected_key_in_the_gap_must_be_a_number(watched):
    curve = next(c for c in curves(watched) if "left_knee" in c.data_path)
    curve.keyframe_points[24].co.y = float("nan")
    select(watched, "left_hip")
    refused(fill, "'left_knee' in frame 25 is not a number", frame_start=20, frame_end=40)


def test_an_armature_without_hips():
    armature = figures.make(absent=("pelvis", "left_hip", "right_hip", "left_knee", "right_knee"))
    figures.animate(armature, root=None)
    bpy.ops.object.mode_set(mode="POSE")
    select(armature)
    before = state(armature)
    for operator in (fill, refine):
        assert "Open Bone Map" in refused(operator, "No hips bone found", frame_start=20, frame_end=40)
    assert same(state(armature), before)


def test_no_action():
    armature = figures.make()
    bpy.ops.object.mode_set(mode="POSE")
    select(armature)
    for operator in (fill, refine):
        assert not operator.poll()
        with pytest.raises(RuntimeError, match="has no action; set a few key poses first"):
            operator()


def test_no_selection_greys_out_with_the_reason():
    armature = figure()
    deselect(armature)
    for operator in (fill, refine):
        assert not operator.poll()
        with pytest.raises(RuntimeError, match="No bone is selected; select the bones to write"):
            operator()


def test_no_armature():
    for operator in (fill, refine):
        with pytest.raises(RuntimeError, match="No armature is active"):
            operator()


def test_bones_that_are_no_part_of_the_body(watched):
    bpy.ops.object.mode_set(mode="EDIT")
    prop = watched.data.edit_bones.new("prop")
    prop.head, prop.tail = (1, 0, 0), (1, 0, 1)
    bpy.ops.object.mode_set(mode="POSE")
    select(watched, "prop")
    refused(fill, "part of the body", "Bone Map", frame_start=20, frame_end=40)
    refused(refine, "part of the body", frame_start=20, frame_end=40)


def test_corrupt_weights(watched):
    before = state(watched)
    refused(fill, "damaged; install", frame_start=20, frame_end=40, label="corrupt")
    assert_untouched(before)


def test_a_worker_that_dies_in_the_middle(watched):
    before = state(watched)
    refused(fill, "stopped unexpectedly", "run again", "dying now", frame_start=20, frame_end=40, label="die")
    assert same(state(watched), before)
    assert fill(frame_start=20, frame_end=40) == {"FINISHED"}  # it restarts by itself


def test_an_engine_that_fails_inside(watched):
    before = state(watched)
    refused(fill, "failed unexpectedly", frame_start=20, frame_end=40, label="raise")
    assert_untouched(before)


def test_no_python_for_the_engine(watched, monkeypatch):
    before = state(watched)
    monkeypatch.setenv("MMDM_PYTHON", "/no/such/python")
    refused(fill, "MMDM_PYTHON names /no/such/python", "enter the path", frame_start=20, frame_end=40)
    assert_untouched(before)


def test_a_failure_while_writing_leaves_nothing(watched, monkeypatch):
    import mmdm_addon.operators.fill_gap as module

    real, calls = module.write, []

    def fails_at_the_second(*args, **options):
        calls.append(1)
        if len(calls) == 2:
            raise ValueError("deliberate")
        return real(*args, **options)

    before = state(watched)
    monkeypatch.setattr(module, "write", fails_at_the_second)
    refused(fill, "unexpected problem", "deliberate", frame_start=20, frame_end=40, takes=2)
    assert not watched.animation_data.action.use_fake_user
    assert_untouched(before)


# ---------------------------------------------------------------- what happens while it runs


def test_deleting_the_rig_drops_the_result(monkeypatch):
    armature = figure()
    meanwhile(monkeypatch, lambda _call: bpy.data.objects.remove(armature))
    refused(fill, "'Figure' is gone", "dropped", frame_start=20, frame_end=40)
    assert len(bpy.data.actions) == 1


def test_moving_a_key_drops_the_result(monkeypatch):
    armature = figure()

    def move(_call):
        curves(armature)[0].keyframe_points[30].co.y += 1

    meanwhile(monkeypatch, move)
    refused(fill, "changed while the engine worked", "run it again", frame_start=20, frame_end=40)
    assert len(bpy.data.actions) == 1


def test_assigning_another_action_drops_the_result(monkeypatch):
    armature = figure()

    def assign(_call):
        action, slot = compat.new_action("Other", armature)
        compat.assign(armature, action, slot)

    meanwhile(monkeypatch, assign)
    refused(refine, "changed while the engine worked", frame_start=20, frame_end=40)
    assert armature.animation_data.action.name == "Other"


def test_undo_during_the_run_drops_the_result_without_a_crash(monkeypatch):
    figure()
    bpy.ops.ed.undo_push(message="posed")
    curves(armature_now())[0].keyframe_points[30].co.y += 1
    bpy.ops.ed.undo_push(message="moved a key")
    meanwhile(monkeypatch, lambda _call: bpy.ops.ed.undo())
    refused(fill, "dropped", frame_start=20, frame_end=40)
    assert len(bpy.data.actions) == 1


def test_renaming_the_rig_does_not_lose_the_result(monkeypatch):
    armature = figure()

    def rename(_call):
        armature.name = "Renamed"

    meanwhile(monkeypatch, rename)
    assert fill(frame_start=20, frame_end=40) == {"FINISHED"}
    assert len(armature.mmdm.takes) == 2


def test_a_cancelled_request_changes_nothing(watched, monkeypatch):
    before = state(watched)
    meanwhile(monkeypatch, lambda call: call.cancel())
    assert fill("EXEC_DEFAULT", True, frame_start=20, frame_end=40, label="slow") == {"CANCELLED"}
    assert bpy.context.window_manager.mmdm.message == str(CallCancelledError("Cancelled; nothing was changed."))
    assert_untouched(before)


# ---------------------------------------------------------------- bone map, runtime


def test_bone_map_override_and_detect():
    armature = figure()
    assert bpy.ops.mmdm.bone_role_set(role="left_wrist", bone="") == {"FINISHED"}
    select(armature, "left_wrist")
    refused(fill, "part of the body", frame_start=20, frame_end=40)
    assert bpy.ops.mmdm.bones_detect() == {"FINISHED"}
    assert fill(frame_start=20, frame_end=40) == {"FINISHED"}
    refused(bpy.ops.mmdm.bone_role_set, "no bone 'nobody'", role="pelvis", bone="nobody")
    refused(bpy.ops.mmdm.bone_role_set, "no role 'tail'", role="tail", bone="pelvis")


def test_runtime_test_and_log():
    assert bpy.ops.mmdm.runtime_test() == {"FINISHED"}
    assert jobs.runtime.status().startswith("Running: Python 3.")
    assert bpy.ops.mmdm.runtime_log() == {"FINISHED"}
    assert "Running" in bpy.data.texts["MMDM engine log"].as_string()


def test_source_frame_rate_reaches_the_engine():
    from mmdm_addon.rig.read import frame_rate

    armature = figure()
    armature.mmdm.source_fps = 120
    assert frame_rate(bpy.context, armature) == 120
    armature.mmdm.source_fps = 0
    assert frame_rate(bpy.context, armature) == 24
