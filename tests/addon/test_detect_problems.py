"""Detect Problems as a user runs it: the list, the jump, the repair. The stand-in worker finds single-frame spikes."""

from __future__ import annotations

from types import SimpleNamespace

import bpy
import figures
import numpy as np
import pytest
from drawing_support import Drawing, drawn
from operator_support import (
    bone_of,
    changed_frames,
    curves,
    deselect,
    figure,
    frames_of,
    refused,
    same,
    select,
    state,
)

from mmdm_addon import compat, jobs, problems
from mmdm_addon.rig import roles
from mmdm_addon.ui import problems as panel

detect, fix = bpy.ops.mmdm.detect_problems, bpy.ops.mmdm.problem_fix


@pytest.fixture(autouse=True)
def fresh():
    panel._stale._until = panel._order._until = 0


def spike(armature, bone, *frames, size=1.0):
    """Turn a bone of one quaternion curve away and back."""
    curve = next(c for c in curves(armature) if f'"{bone}"' in c.data_path and c.array_index == 1)
    for point in curve.keyframe_points:
        if point.co.x in frames:
            point.co.y += size
    curve.update()


def listed(armature):
    return [(p.start, p.end, p.bone, p.kind) for p in armature.mmdm.problems]


@pytest.fixture
def spiked(standin):
    """A figure with three pops of different size, found."""
    armature = figure(amount=0.2)
    spike(armature, "left_knee", 40, size=2.0)
    spike(armature, "right_elbow", 20, size=0.8)
    spike(armature, "left_knee", 50, size=1.2)
    assert detect() == {"FINISHED"}
    return armature


def test_problems_are_listed_with_scene_frames_bones_and_severity_and_nothing_is_written(spiked):
    before = state(spiked)
    assert listed(spiked) == [
        (20, 20, "right_elbow", "pop"), (40, 40, "left_knee", "pop"), (50, 50, "left_knee", "pop"),
    ]  # fmt: skip
    severity = [p.severity for p in spiked.mmdm.problems]
    assert severity[1] > severity[2] > severity[0] > 0.3
    assert bpy.context.window_manager.mmdm.message == "3 problems in 1-60: 3 × pop."
    assert len(bpy.data.actions) == 1
    assert same(state(spiked), before)


def test_no_bone_needs_to_be_selected(standin):
    armature = figure(amount=0.2)
    deselect(armature)
    spike(armature, "left_knee", 40, size=2.0)
    assert detect() == {"FINISHED"}
    assert len(armature.mmdm.problems) == 1


def test_the_preview_range_limits_the_search(standin):
    armature = figure(amount=0.2)
    spike(armature, "left_knee", 20, 40, size=2.0)
    scene = bpy.context.scene
    scene.use_preview_range, scene.frame_preview_start, scene.frame_preview_end = True, 30, 50
    detect()
    assert [p.start for p in armature.mmdm.problems] == [40]
    assert "in 30-50" in bpy.context.window_manager.mmdm.message


def test_what_a_curve_makes_up_between_sparse_keys_is_not_judged(standin):
    armature = figure(amount=0.2, every=10)
    for curve in curves(armature):
        curve.keyframe_points[3].co.y += 2.0 * (curve.array_index == 1)
        for point in curve.keyframe_points:
            point.interpolation = "CONSTANT"
        curve.update()
    spike(armature, "left_knee", 31, size=3.0)
    detect()
    assert listed(armature) == []
    message = bpy.context.window_manager.mmdm.message
    assert message == "No problems found in 1-51. Frames between keys that are far apart were not judged."


def test_a_click_goes_to_the_frame_and_selects_the_bone(spiked):
    scene = bpy.context.scene
    scene.frame_set(1)
    spiked.mmdm.problem_index = 1
    assert scene.frame_current == 40
    assert jobs.selected_bones(spiked) == ["left_knee"]
    assert spiked.data.bones.active.name == "left_knee"
    spiked.mmdm.problem_index = 0
    assert scene.frame_current == 20
    assert jobs.selected_bones(spiked) == ["right_elbow"]
    spiked.mmdm.problem_index = 7  # beyond the list, as after an undo
    assert scene.frame_current == 20


def test_a_hidden_bone_is_said_instead_of_a_crash(spiked):
    compat.hide(spiked.pose.bones["left_knee"], True)
    spiked.mmdm.problem_index = 1
    status = bpy.context.window_manager.mmdm
    assert status.failed
    assert status.message == "'left_knee' is hidden; show it (Alt H in Pose Mode), or detect the problems again."


def test_detecting_again_replaces_the_list_without_jumping(spiked):
    scene = bpy.context.scene
    spiked.mmdm.problem_index = 1
    scene.frame_set(33)
    select(spiked, "pelvis")
    spike(spiked, "left_knee", 40, size=-2.0)
    detect()
    assert [p.start for p in spiked.mmdm.problems] == [20, 50]
    assert scene.frame_current == 33
    assert jobs.selected_bones(spiked) == ["pelvis"]


def test_the_list_is_kept_with_the_file(spiked, tmp_path):
    before = listed(spiked)
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "problems.blend"))
    bpy.ops.wm.open_mainfile(filepath=str(tmp_path / "problems.blend"))
    armature = bpy.data.objects["Figure"]
    assert listed(armature) == before
    assert not problems.stale(armature)


def test_changed_keys_make_it_stale_and_the_same_keys_do_not(spiked, monkeypatch):
    assert not problems.stale(spiked)
    shown = drawn(panel.MMDM_PT_problems, monkeypatch)
    assert shown.texts("list") == ["problems"]
    assert shown.enabled_operators() == [("mmdm.detect_problems", ""), ("mmdm.problem_fix", "ALL")]
    spiked.mmdm.problem_index = 1
    shown = drawn(panel.MMDM_PT_problems, monkeypatch)
    assert [method for _, method in shown.enabled_operators()] == ["", "ALL", "REFINE", "FILL"]
    spike(spiked, "left_wrist", 30, size=0.01)
    panel._stale._until = 0
    assert problems.stale(spiked)
    shown = drawn(panel.MMDM_PT_problems, monkeypatch)
    assert shown.texts("label") == [
        "The keys have changed since; detect the problems again.",
        "40, left_knee: a bone jumps away and back within a few frames.",
    ]
    assert shown.enabled_operators() == [("mmdm.detect_problems", "")]
    refused(fix, "The keys have changed since the problems were found; press Detect Problems again", method="ALL")


def test_a_take_makes_it_stale_and_the_original_brings_it_back(spiked):
    select(spiked, "left_knee")
    bpy.ops.mmdm.refine_jitter(frame_start=35, frame_end=45)
    assert problems.stale(spiked)
    bpy.ops.mmdm.take_switch(index=0)
    assert not problems.stale(spiked)


def test_the_list_keeps_no_take_alive(spiked):
    select(spiked, "left_knee")
    bpy.ops.mmdm.refine_jitter(frame_start=35, frame_end=45)
    detect()
    bpy.ops.mmdm.take_switch(index=0)
    bpy.ops.mmdm.takes_clear()
    assert [a.name for a in bpy.data.actions] == ["Source"]


def test_an_empty_list_is_good_news(standin, monkeypatch):
    armature = figure(amount=0.2)
    shown = drawn(panel.MMDM_PT_problems, monkeypatch)
    assert shown.texts("label") == []
    detect()
    assert len(armature.mmdm.problems) == 0
    assert bpy.context.window_manager.mmdm.message == "No problems found in 1-60."
    assert drawn(panel.MMDM_PT_problems, monkeypatch).texts("label") == ["No problems were found."]


def test_one_undo_step_brings_the_old_list_back(spiked):
    bpy.ops.ed.undo_push(message="found")
    spike(spiked, "left_wrist", 30, size=2.0)
    bpy.ops.ed.undo_push(message="another pop")
    assert detect("EXEC_DEFAULT", True) == {"FINISHED"}
    assert len(spiked.mmdm.problems) == 4
    bpy.ops.ed.undo()
    assert len(bpy.data.objects["Figure"].mmdm.problems) == 3


# ---------------------------------------------------------------- order and rows


def test_by_severity_the_worst_comes_first(spiked):
    assert panel.places(spiked.mmdm.problems) == [2, 0, 1]


def test_the_list_is_filtered_by_bone_and_ordered_by_the_option(spiked):
    itself = SimpleNamespace(filter_name="", bitflag_filter_item=1 << 30)
    scene = bpy.context.scene

    def order():
        return panel.MMDM_UL_problems.filter_items(itself, bpy.context, spiked.mmdm, "problems")

    assert order() == ([], [])
    scene.mmdm.problem_order = "SEVERITY"
    assert order() == ([], [2, 0, 1])
    itself.filter_name = "KNEE"
    shown, _ = order()
    assert [bool(flag) for flag in shown] == [False, True, True]


def row_of(problem):
    drawing = Drawing()
    panel.MMDM_UL_problems.draw_item(None, bpy.context, drawing, None, problem, 0, None, "")
    return drawing.texts("label")


def test_a_row_names_frame_bone_kind_and_severity(spiked):
    problem = spiked.mmdm.problems[1]
    assert row_of(problem) == ["40", "left_knee", "Pop", f"{problem.severity:.0%}"]
    problem.end, problem.kind = 44, "penetration"
    assert row_of(problem)[::2] == ["40", "Sunken"]
    problem.kind = "a kind that a later engine knows"
    assert row_of(problem)[2] == "a kind that a later engine knows"
    problem.bone = "mixamorig:LeftLeg"
    assert row_of(problem)[1] == "LeftLeg"


def test_the_chosen_problem_is_told_in_words(spiked, monkeypatch):
    problem = spiked.mmdm.problems[1]
    problem.end, problem.bone = 44, "mixamorig:LeftLeg"
    told = "40-44, mixamorig:LeftLeg: a bone jumps away and back within a few frames."
    assert told not in drawn(panel.MMDM_PT_problems, monkeypatch).texts("label")
    spiked.mmdm.problem_index = 1
    assert told in drawn(panel.MMDM_PT_problems, monkeypatch).texts("label")
    problem.end, problem.kind = 40, "a kind that a later engine knows"
    assert problems.sentence(problem) == "40, mixamorig:LeftLeg: a kind that a later engine knows."


def test_every_kind_of_the_engine_has_a_name_and_an_explanation():
    from typing import get_args

    from mmdm_engine.quality import Kind

    assert set(problems.KINDS) == {*get_args(Kind), "unseen"}  # which a capture says of itself
    assert all(name and text for name, text in problems.KINDS.values())


# ---------------------------------------------------------------- mending


def bones_and_frames(before, after):
    touched = changed_frames(before, after)
    return {bone_of(key) for key in touched}, frames_of(touched)


def test_fill_replaces_the_chosen_problem(spiked):
    before = state(spiked)
    spiked.mmdm.problem_index = 1
    assert fix(method="FILL") == {"FINISHED"}
    assert bones_and_frames(before, state(spiked)) == ({"left_knee"}, {40})
    detect()
    assert [p.start for p in spiked.mmdm.problems] == [20, 50]


def test_refine_works_on_the_chosen_problem(spiked):
    before = state(spiked)
    assert fix(method="REFINE", index=0) == {"FINISHED"}
    assert bones_and_frames(before, state(spiked)) == ({"right_elbow"}, {20})


def test_refine_all_takes_every_bone_of_the_list_in_one_undo_step(spiked):
    before = state(spiked)
    bpy.ops.ed.undo_push(message="before")
    assert fix("EXEC_DEFAULT", True, method="ALL") == {"FINISHED"}
    names, frames = bones_and_frames(before, state(spiked))
    assert names == {"left_knee", "right_elbow"}
    assert {20, 40, 50} <= frames <= set(range(20, 51))
    assert len(bpy.data.actions) == 2
    bpy.ops.ed.undo()
    assert len(bpy.data.actions) == 1
    assert same(state(bpy.data.objects["Figure"]), before)


def test_a_foots_fault_is_mended_by_the_leg(spiked):
    problem = spiked.mmdm.problems[1]
    problem.kind, problem.role, problem.bone = "slide", "right_ankle", "right_ankle"
    assert problems.bones(spiked, [problem], repair=False) == ["right_ankle"]
    assert problems.bones(spiked, [problem], repair=True) == ["right_hip", "right_knee", "right_ankle"]


def test_a_fault_at_the_very_end_is_filled_from_one_side(standin):
    armature = figure(amount=0.2)
    spike(armature, "left_knee", 30, size=2.0)
    detect()
    armature.mmdm.problems[0].start, armature.mmdm.problems[0].end = 55, 60
    before = state(armature)
    assert fix(method="FILL", index=0) == {"FINISHED"}
    assert bones_and_frames(before, state(armature))[1] <= set(range(55, 61))


def test_mending_without_a_choice_or_a_list_is_refused_in_words(spiked):
    refused(fix, "No problem is chosen; click one in the list.", method="FILL")
    refused(fix, "No problem is chosen", method="FILL", index=9)
    spiked.mmdm.problems.clear()
    assert not fix.poll()
    with pytest.raises(RuntimeError, match="No problems are listed; press Detect Problems first"):
        fix(method="ALL")


def test_the_tools_own_refusal_comes_through_as_one_sentence(spiked):
    constraint = spiked.pose.bones["left_knee"].constraints.new("COPY_ROTATION")
    constraint.target = spiked
    constraint.subtarget = "right_knee"
    refused(fix, "'left_knee' is driven by its constraint", method="FILL", index=1)
    assert len(bpy.data.actions) == 1


def test_refusals_of_the_search(standin):
    armature = figure(frames=3)
    refused(detect, "at least four frames; choose a longer take")
    armature.animation_data_clear()
    with pytest.raises(RuntimeError, match="has no action; set a few key poses first"):
        detect()


def test_on_a_control_rig_the_controls_are_listed_selected_and_written(rigify, standin):
    bpy.context.view_layer.objects.active = rigify
    bpy.ops.object.mode_set(mode="POSE")
    figures.animate(rigify, amount=0.1, frames=30, root="torso")
    body = roles.detect(rigify).bones()
    for curve in curves(rigify):
        curve.mute = curve.data_path.split('"')[1] not in body
    spike(rigify, "forearm_fk.L", 15, size=2.0)
    detect()
    found = [i for i, p in enumerate(rigify.mmdm.problems) if p.bone == "forearm_fk.L"]
    assert [rigify.mmdm.problems[i].start for i in found] == [15]
    rigify.mmdm.problem_index = found[0]
    assert jobs.selected_bones(rigify) == ["forearm_fk.L"]
    before = state(rigify)
    assert bpy.ops.mmdm.complete_bones(frame_start=15, frame_end=15) == {"FINISHED"}
    assert bones_and_frames(before, state(rigify)) == ({"forearm_fk.L"}, {15})
    detect()
    assert "forearm_fk.L" not in [p.bone for p in rigify.mmdm.problems]


# ---------------------------------------------------------------- the engine itself


@pytest.mark.usefixtures("engine")
def test_the_engine_finds_a_pop_in_a_walk_and_refine_takes_it_out(walk):
    armature = walk
    for curve in compat.curves(armature.animation_data.action, compat.assigned_slot(armature)):
        if '"LeftForeArm"' in curve.data_path and "rotation" in curve.data_path:
            points = curve.keyframe_points
            for i in (150, 151):
                points[i].co.y += np.radians(40)
            curve.update()
    assert detect() == {"FINISHED"}
    pops = [(i, p) for i, p in enumerate(armature.mmdm.problems) if p.kind == "pop" and p.bone == "LeftForeArm"]
    assert len(pops) == 1
    index, pop = pops[0]
    assert (pop.start, pop.end) == (151, 152)
    assert pop.severity > 0.4
    assert fix(method="FILL", index=index) == {"FINISHED"}
    assert jobs.selected_bones(armature) == ["LeftForeArm"]
    assert detect() == {"FINISHED"}
    assert not [p for p in armature.mmdm.problems if p.kind == "pop" and p.bone == "LeftForeArm"]
