"""Complete Bones as a user runs it; everything is real but the network (tests/standin_worker.py)."""

from __future__ import annotations

import bpy
import numpy as np
import pytest
from operator_support import (
    bone_of,
    changed_frames,
    curves,
    deselect,
    ensure_registered,
    figure,
    frames_of,
    meanwhile,
    refused,
    same,
    select,
    select_keys,
    state,
)

from mmdm_addon import compat, timeline
from mmdm_addon.operators import applying, reading
from mmdm_addon.operators.complete_bones import lost
from mmdm_addon.rig.read import read
from mmdm_engine.contract.skeleton import INDEX

complete = bpy.ops.mmdm.complete_bones
ARM = ("left_collar", "left_shoulder", "left_elbow", "left_wrist")


def test_only_the_selected_bones_in_the_range_change_and_the_rest_is_held(asked):
    armature = figure()
    select(armature, *ARM)
    before, source = state(armature), armature.animation_data.action
    assert complete(frame_start=20, frame_end=40) == {"FINISHED"}
    touched = changed_frames(before, state(armature))
    assert {bone_of(key) for key in touched} == set(ARM)
    assert frames_of(touched) <= set(range(20, 41))
    assert all({20, 40} <= frames for frames in touched.values() if len(frames) > 15)
    assert armature.animation_data.action.name == "Source completed"
    assert source.use_fake_user
    assert armature.animation_data.action.use_fake_user
    message = bpy.context.window_manager.mmdm.message
    assert message.startswith("Completed 20-40 on 4 bones, largest change ")
    bpy.ops.mmdm.take_switch(index=0)
    assert same(state(armature), before)


def test_the_engine_is_told_what_to_generate_and_sees_the_rest(asked):
    armature = figure()
    select(armature, *ARM)
    complete(frame_start=20, frame_end=40)
    method, params, arrays = asked[-1]
    frames = np.arange(1, 61)[: len(arrays["mask"])]  # one second of context is more than there is on the left
    assert method == "complete"
    assert params["fps"] == 24
    expected = np.zeros((len(frames), 22), bool)
    expected[19:40, [INDEX[role] for role in ARM]] = True
    np.testing.assert_array_equal(arrays["mask"], expected)


def test_the_hips_carry_the_place_of_the_body(asked):
    armature = figure()
    select(armature, "pelvis")
    before = state(armature)
    assert complete(frame_start=20, frame_end=40) == {"FINISHED"}
    paths = {key[0].rpartition(".")[2] for key in changed_frames(before, state(armature))}
    assert paths == {"rotation_quaternion", "location"}


def test_without_frames_the_selected_keys_then_the_preview_range_then_everything_count(asked):
    armature = figure()
    select(armature, *ARM)
    scene = bpy.context.scene

    def written():
        _, _, arrays = asked[-1]
        return int(arrays["mask"].any(axis=1).sum())

    complete()
    assert written() == 60
    bpy.ops.mmdm.take_switch(index=0)
    scene.use_preview_range, scene.frame_preview_start, scene.frame_preview_end = True, 11, 30
    complete()
    assert written() == 20
    bpy.ops.mmdm.take_switch(index=0)
    select_keys(armature, range(25, 32))
    complete()
    assert written() == 7
    keys = timeline.pose_keys(armature).bones
    assert timeline.selected_columns(keys.values()).tolist() == list(range(25, 32))


def test_between_keys_that_are_far_apart_a_selected_bone_is_no_context():
    ensure_registered()
    armature = figure(every=10)  # keys on 1, 11, 21, 31, 41, 51
    select(armature, *ARM)
    about = reading.subject(armature)
    frames = np.arange(1, 52, dtype=float)
    inside = (frames >= 22) & (frames <= 30)
    mask = lost(about, frames, inside)
    arm = mask[:, INDEX["left_elbow"]]
    assert frames[~arm].tolist() == [1, 11, 21, 31, 41, 51]
    assert not mask[:, INDEX["left_knee"]].any()
    inside = (frames >= 24) & (frames <= 28)  # the borders carry no key: what plays there is what must be met
    arm = lost(about, frames, inside)[:, INDEX["left_elbow"]]
    assert frames[~arm].tolist() == [1, 11, 21, 23, 29, 31, 41, 51]


def test_locked_and_muted_channels_stay(asked):
    armature = figure()
    select(armature, *ARM)
    locked = next(c for c in curves(armature) if "left_elbow" in c.data_path)
    locked.lock = True
    before = state(armature)
    complete(frame_start=20, frame_end=40)
    touched = changed_frames(before, state(armature))
    assert (locked.data_path, locked.array_index) not in touched
    assert "left alone on left_elbow" in bpy.context.window_manager.mmdm.message


def test_one_undo_step_takes_the_result_back(asked):
    armature = figure()
    select(armature, *ARM)
    before = state(armature)
    bpy.ops.ed.undo_push(message="before")
    assert complete("EXEC_DEFAULT", True, frame_start=20, frame_end=40) == {"FINISHED"}
    bpy.ops.ed.undo()
    assert [a.name for a in bpy.data.actions] == ["Source"]
    assert same(state(bpy.data.objects["Figure"]), before)


def test_bones_outside_the_body_are_refused_in_words(asked):
    armature = figure()
    bpy.ops.object.mode_set(mode="EDIT")
    prop = armature.data.edit_bones.new("prop")
    prop.head, prop.tail = (1, 0, 0), (1, 0, 1)
    bpy.ops.object.mode_set(mode="POSE")
    select(armature, "prop")
    refused(complete, "part of the body", "Bone Map", frame_start=20, frame_end=40)


def test_nothing_selected_greys_out_with_the_reason(asked):
    armature = figure()
    deselect(armature)
    assert not complete.poll()
    with pytest.raises(RuntimeError, match="No bone is selected; select the bones to write"):
        complete()


def test_hips_over_everything_are_refused_in_words(asked):
    armature = figure()
    before = state(armature)
    refused(complete, "The hips are selected over the whole animation", "deselect them, or choose a shorter range")
    assert same(state(armature), before)
    assert asked == []


def test_a_range_without_keys_and_one_the_wrong_way_round_are_refused_in_words(asked):
    figure()
    refused(complete, "Nothing is keyed in frames 100-120; the animation lies at 1-60", frame_start=100, frame_end=120)
    refused(complete, "The first frame (40) must not come after the last one (20)", frame_start=40, frame_end=20)


def test_a_moved_key_drops_the_result(asked, monkeypatch):
    armature = figure()
    select(armature, *ARM)

    def move(_call):
        curves(armature)[0].keyframe_points[30].co.y += 1

    meanwhile(monkeypatch, move)
    refused(complete, "changed while the engine worked", "run it again", frame_start=20, frame_end=40)
    assert len(bpy.data.actions) == 1


def test_a_failure_while_writing_leaves_nothing(asked, monkeypatch):
    armature = figure()
    select(armature, *ARM)
    before = state(armature)
    monkeypatch.setattr(applying, "keep_selection", lambda *_: 1 / 0)
    refused(complete, "unexpected problem", "ZeroDivisionError", frame_start=20, frame_end=40)
    assert same(state(armature), before)
    assert len(bpy.data.actions) == 1
    assert len(armature.mmdm.takes) == 0
    assert not armature.animation_data.action.use_fake_user


@pytest.mark.usefixtures("engine")
def test_a_broken_arm_of_a_walk_comes_back_with_the_shipped_prior(walk):
    armature = walk
    bones = ("LeftShoulder", "LeftArm", "LeftForeArm", "LeftHand")
    select(armature, *bones)
    frames = np.arange(80, 221, dtype=float)
    truth = read(bpy.context, armature, frames).motion
    arm = np.isin(np.arange(22), [INDEX[role] for role in ARM])
    inside = (frames >= 120) & (frames <= 180)
    break_arm(armature, bones, 120, 180)
    broken = read(bpy.context, armature, frames).motion
    assert complete(frame_start=120, frame_end=180) == {"FINISHED"}
    whole = read(bpy.context, armature, frames).motion

    def turn(a, b):
        return np.degrees(2 * np.arccos(np.clip(np.abs((a.rotations * b.rotations).sum(-1)), 0, 1)))

    assert turn(whole, truth)[:, ~arm].max() < 0.1
    assert turn(whole, truth)[~inside].max() < 0.1
    ours, theirs = turn(whole, truth)[inside][:, arm].mean(), turn(broken, truth)[inside][:, arm].mean()
    assert ours < 0.5 * theirs
    steps = turn(whole.slice(0, len(frames) - 1), whole.slice(1, len(frames)))[:, arm]
    usual = turn(truth.slice(0, len(frames) - 1), truth.slice(1, len(frames)))[:, arm]
    assert steps.max() < 2 * usual.max() + 0.5  # no jump at the seams


def break_arm(armature, bones, first, last):
    """Random angles on every frame of these bones, up to a right angle."""
    random = np.random.default_rng(0)
    for curve in compat.curves(armature.animation_data.action, compat.assigned_slot(armature)):
        if "rotation" in curve.data_path and any(f'"{bone}"' in curve.data_path for bone in bones):
            for point in curve.keyframe_points:
                if first <= point.co.x <= last:
                    point.co.y += random.uniform(-1.5, 1.5)
            curve.update()
