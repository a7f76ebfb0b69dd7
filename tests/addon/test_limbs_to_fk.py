"""Rigify's limbs from IK to FK: nothing moves, the switch is keyed, and the source comes back whole."""

from __future__ import annotations

import bpy
import figures
import numpy as np
import pytest
from operator_support import ensure_registered, refused, same, select, state

from mmdm_addon import compat
from mmdm_addon.engine_link import MotionError
from mmdm_addon.engine_link import rotations as rot
from mmdm_addon.rig import fk, limbs, read, roles, sampling, write

convert = bpy.ops.mmdm.limbs_to_fk
FRAMES = np.arange(1.0, 14.0)
SEEN = ("ORG-thigh.L", "ORG-shin.L", "ORG-foot.L", "ORG-toe.L", "ORG-foot.R", "ORG-upper_arm.L", "ORG-hand.L")


@pytest.fixture
def walker(rigify):
    """A control rig with its limbs in IK, hands and feet keyed every fourth frame; the animation starts at frame 1."""
    ensure_registered()
    for limb in ("thigh_parent", "upper_arm_parent"):
        for side in "LR":
            rigify.pose.bones[f"{limb}.{side}"]["IK_FK"] = 0.0
            rigify.pose.bones[f"{limb}.{side}"]["IK_Stretch"] = 0.0
    action, slot = compat.new_action("Walk", rigify)
    times = np.arange(1.0, 14.0, 4.0)
    # hands come in and feet come up, so that no limb is stretched; the torso only turns and sways
    bones = {"foot_ik.L": (0, 0, 0.12), "foot_ik.R": (0, 0, 0.1), "hand_ik.L": (0, -0.12, 0), "torso": (0, 0, 0)}
    for b, (bone, shift) in enumerate(bones.items()):
        for name, first, middle, size in (("location", 0, shift, 0.03), ("rotation_quaternion", 1, (0, 0, 0), 0.1)):
            for i in range(3):
                curve = compat.new_curve(action, slot, sampling.bone_path(bone, name), first + i, bone)
                curve.keyframe_points.add(len(times))
                values = middle[i] + size * np.sin(times / 3 + b + i)
                curve.keyframe_points.foreach_set("co", np.stack([times, values], -1).astype(np.float32).ravel())
                curve.update()
    compat.assign(rigify, action, slot)
    bpy.context.view_layer.objects.active = rigify
    select(rigify, "torso")
    return rigify


def poses(rig) -> np.ndarray:
    return sampling.evaluated(bpy.context, rig, SEEN, FRAMES).pose


def assert_same(a, b):
    moved = np.abs(a - b)[..., 3].max(axis=(0, 2))
    assert moved.max() < 2e-4, dict(zip(SEEN, moved.tolist(), strict=True))
    assert rot.angle(sampling.rotations_of(a), sampling.rotations_of(b)).max() < 2e-4


def switch(rig, limb) -> list[float]:
    path = f'pose.bones["{limb}"]["IK_FK"]'
    found = [c for c in compat.curves(rig.animation_data.action, compat.assigned_slot(rig)) if c.data_path == path]
    return [found[0].evaluate(frame) for frame in FRAMES.tolist()] if found else []


def test_nothing_moves_and_the_limbs_can_be_written_afterwards(walker):
    before, source = poses(walker), state(walker)
    slot = compat.assigned_slot(walker)
    assert np.ptp(before[:, SEEN.index("ORG-foot.L"), :3, 3], axis=0).max() > 0.03
    found = roles.detect(walker)
    with pytest.raises(MotionError, match=r"left leg is in IK.*press Limbs to FK"):
        write.check(bpy.context, walker, found)
    assert convert("EXEC_DEFAULT", True) == {"FINISHED"}
    assert_same(poses(walker), before)
    assert switch(walker, "thigh_parent.L") == [1.0] * len(FRAMES)
    write.check(bpy.context, walker, found)
    refused(convert, "No limb is in IK in frames 2-7; there is nothing to convert", frame_start=2, frame_end=7)
    kept = bpy.data.actions[source[0]]
    assert all((figures.snapshot(kept, slot)[k][c] == v).all() for k, t in source[1].items() for c, v in t.items())
    assert [take.name for take in walker.mmdm.takes] == ["Walk", "Walk FK"]
    assert "cm" in walker.mmdm.takes[1].detail
    assert bpy.ops.mmdm.take_switch(index=0) == {"FINISHED"}  # the switch is not keyed there
    assert walker.pose.bones["thigh_parent.L"]["IK_FK"] == 0.0
    assert_same(poses(walker), before)


def test_a_part_of_the_range_and_of_the_limbs(walker):
    before = poses(walker)
    select(walker, "foot_ik.L")
    assert convert("EXEC_DEFAULT", True, frame_start=5, frame_end=9) == {"FINISHED"}
    assert_same(poses(walker), before)
    assert switch(walker, "thigh_parent.L") == [float(5 <= frame <= 9) for frame in FRAMES]
    assert switch(walker, "thigh_parent.R") == []
    found = roles.detect(walker)
    write.check(bpy.context, walker, found, {"thigh_fk.L"}, (5, 9))
    with pytest.raises(MotionError, match="left leg is in IK"):
        write.check(bpy.context, walker, found, {"thigh_fk.L"}, (5, 10))
    with pytest.raises(MotionError, match="right leg is in IK"):
        write.check(bpy.context, walker, found, {"thigh_fk.R"}, (5, 9))
    refused(convert, "must not come after", frame_start=9, frame_end=5)


def test_a_strip_in_tweak_mode_is_converted_where_it_lies(walker):
    data, action = walker.animation_data, walker.animation_data.action
    before = poses(walker)
    data.nla_tracks.new().strips.new("Strip", 21, action)
    data.action = None
    data.use_tweak_mode = True
    moved = sampling.evaluated(bpy.context, walker, SEEN, FRAMES + 20).pose
    assert_same(moved, before)
    assert convert("EXEC_DEFAULT", True, frame_start=25, frame_end=29) == {"FINISHED"}
    assert data.use_tweak_mode
    assert data.action.name == "Walk FK"
    assert_same(sampling.evaluated(bpy.context, walker, SEEN, FRAMES + 20).pose, moved)
    assert switch(walker, "thigh_parent.L") == [float(5 <= frame <= 9) for frame in FRAMES]
    found = roles.detect(walker)
    write.check(bpy.context, walker, found, {"thigh_fk.L"}, (25, 29), strips=True)
    with pytest.raises(MotionError, match="left leg is in IK"):
        write.check(bpy.context, walker, found, {"thigh_fk.L"}, (25, 30), strips=True)


def test_progress_rises_and_may_cancel(walker):
    before, found = state(walker), roles.detect(walker)
    take = read.read(bpy.context, walker, FRAMES, roles=found)
    seen = []

    def run(progress):
        fk.to_fk(bpy.context, walker, take, limbs.of(walker, found), name="FK", progress=progress)

    def stop(done, of):
        if done / of > 0.5:
            raise MotionError("stopped")

    with pytest.raises(MotionError, match="stopped"):
        run(stop)
    assert same(state(walker), before)
    assert [action.name for action in bpy.data.actions] == ["Walk"]
    run(lambda done, of: seen.append(done / of))
    assert seen == sorted(seen)
    assert 0 < seen[0] < 0.15
    assert 0.85 < seen[-1] <= 1
    assert len(seen) > 4


def test_rigs_without_switches_are_greyed_out_in_words():
    ensure_registered()
    figures.animate(figures.make(), frames=5)
    assert not convert.poll()
    refused(convert, "no IK-FK switches")
