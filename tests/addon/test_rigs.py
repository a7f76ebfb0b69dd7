"""Rigs of every family, made from their name tables: recognised bone by bone, read, and written back."""

from __future__ import annotations

import bpy
import families
import figures
import numpy as np
import pytest

from mmdm_addon import compat
from mmdm_addon.engine_link import INDEX
from mmdm_addon.engine_link import rotations as rot
from mmdm_addon.rig import read, roles, unkeyed, write
from mmdm_addon.rig.keys import Keys

SPINE = ("spine1", "spine2", "spine3")


@pytest.mark.parametrize("family", families.TABLES)
def test_every_bone_of_a_familys_table_is_recognised(family):
    expected = families.chains(families.TABLES[family])
    found = roles.detect(families.make(family))
    assert found.problems == []
    assert found.chains.keys() == expected.keys()
    for role, chain in expected.items():
        if role not in SPINE:
            assert found.chains[role] == chain, role
    # spines are divided evenly between the roles, in order and without losing a bone
    ours, theirs = ([b for role in SPINE for b in chains.get(role, ())] for chains in (found.chains, expected))
    assert ours == theirs
    assert found.preset != "Shape"


@pytest.mark.parametrize("family", families.TABLES)
def test_every_family_is_read_and_written_back(family):
    figure = families.make(family)
    found = roles.detect(figure)
    figures.animate(figure, frames=24, amount=0.3, root=found.chains["pelvis"][0])
    take = read.read(bpy.context, figure, np.arange(1.0, 25.0))
    edited = figures.bend(take.motion, 8, 16)
    mask = figures.columns(24, 8, 16)
    report = write.write(
        bpy.context, figure, take, edited, changed=mask, bones=None, name="Result", start=8, end=17, density="ALL"
    )
    assert report.notes == []
    back = read.read(bpy.context, figure, take.frames).motion
    error = rot.angle(back.rotations.astype(np.float64), edited.rotations.astype(np.float64))
    assert error.max() < 1e-5
    assert np.abs(back.root - edited.root).max() < 1e-6
    assert rot.angle(*(m.rotations.astype(np.float64)[8:16] for m in (back, take.motion))).max() > 0.1
    assert take.motion.skeleton.exists[[INDEX[role] for role in found.chains]].all()


def test_rigify_is_read_from_org_bones_and_written_to_fk_controls(rigify):
    found = roles.detect(rigify)
    side = {
        "hip": "thigh", "knee": "shin", "ankle": "foot", "foot": "toe", "shoulder": "upper_arm", "elbow": "forearm",
        "wrist": "hand",
    }  # fmt: skip
    for role, bone in side.items():
        for left, letter in (("left", "L"), ("right", "R")):
            assert found.read[f"{left}_{role}"] == (f"ORG-{bone}.{letter}",)
            assert found.chains[f"{left}_{role}"] == (f"{bone}_fk.{letter}",)
    assert found.chains["left_collar"] == ("shoulder.L",)
    assert [found.chains[role][0] for role in SPINE] == ["spine_fk.001", "spine_fk.002", "spine_fk.003"]
    assert (found.chains["neck"], found.chains["head"]) == (("neck",), ("head",))


def gap_of(figure, start, end):
    """Read a figure's whole frames, bend those strictly between two and write them; the take, edit and report."""
    first, last = figure.animation_data.action.frame_range
    take = read.read(bpy.context, figure, np.arange(np.ceil(first), np.floor(last) + 1))
    low, high = take.index(start) + 1, take.index(end)
    edited = figures.bend(take.motion, low, high)
    mask = figures.columns(len(take.frames), low, high)
    report = write.write(
        bpy.context, figure, take, edited, changed=mask, bones=None, name="Result", start=start, end=end, density="ALL"
    )
    return take, edited, report


def test_two_armatures_in_one_action_keep_apart():
    if not compat.has_slots():
        pytest.skip("an action serves one armature before Blender 4.4")
    first, second = figures.make(), figures.make()
    shared, other = figures.animate(first, frames=24), figures.animate(second, frames=24, seed=7)
    slot = shared.slots.new("OBJECT", second.name)
    for curve in compat.curves(other, compat.assigned_slot(second)):
        Keys.load(curve).store(compat.new_curve(shared, slot, curve.data_path, curve.array_index, curve.group.name))
    compat.assign(second, shared, slot)
    handle = slot.handle
    before = figures.snapshot(shared, slot)

    def same(action):
        found = figures.snapshot(action, next(s for s in action.slots if s.handle == handle))
        return all((found[k][c] == v).all() for k, columns in before.items() for c, v in columns.items())

    take, edited, report = gap_of(first, 8, 17)
    back = read.read(bpy.context, first, take.frames).motion
    assert rot.angle(back.rotations.astype(np.float64), edited.rotations.astype(np.float64)).max() < 1e-5
    assert same(shared)
    assert same(bpy.data.actions[report.action])
    assert second.animation_data.action == shared
    assert second.animation_data.action_slot.handle == handle
    gap_of(second, 8, 17)
    assert first.animation_data.action == bpy.data.actions[report.action]
    assert same(shared)


@pytest.mark.parametrize("shift", [-100.0, -30.5, 0.25])
def test_negative_and_fractional_frames_and_any_frame_rate(shift):
    scene = bpy.context.scene
    scene.render.fps, scene.render.fps_base = 24, 1.001
    figure = figures.make()
    source = figures.animate(figure, frames=40)
    slot = compat.assigned_slot(figure)
    for curve in compat.curves(source, slot):
        keys = Keys.load(curve)
        for name in ("co", "handle_left", "handle_right"):
            keys.columns[name][:, 0] += np.float32(shift)
        keys.store(curve)
    before = figures.snapshot(source, slot)
    start, end = np.ceil(10 + shift), np.ceil(20 + shift)
    take, edited, _ = gap_of(figure, start, end)
    assert take.motion.fps == pytest.approx(24 / 1.001)
    back = read.read(bpy.context, figure, take.frames).motion
    assert rot.angle(back.rotations.astype(np.float64), edited.rotations.astype(np.float64)).max() < 1e-5
    after = figures.snapshot(figure.animation_data.action, compat.assigned_slot(figure))
    for key, old in before.items():
        outside = [(c["co"][:, 0] < start) | (c["co"][:, 0] > end) for c in (old, after[key])]
        assert (old["co"][outside[0]] == after[key]["co"][outside[1]]).all()
    assert (scene.render.fps, scene.frame_current) == (24, 1)


def test_the_source_comes_back_whole_where_only_the_result_has_keys():
    figure = figures.make()
    figures.animate(figure, frames=24, root=None)
    action, slot = figure.animation_data.action, compat.assigned_slot(figure)
    bare = [c for c in compat.curves(action, slot) if "left_knee" in c.data_path]
    owner = action.fcurves if not compat.has_slots() else action.layers[0].strips[0].channelbag(slot).fcurves
    for curve in bare:
        owner.remove(curve)
    knee = figure.pose.bones["left_knee"]
    knee.rotation_quaternion = (0.8, 0.6, 0, 0)
    gap_of(figure, 8, 17)
    result = figure.animation_data.action
    bpy.context.scene.frame_set(12)
    assert abs(knee.rotation_quaternion[0] - 0.8) > 1e-3
    compat.assign(figure, action, slot)
    unkeyed.put_back(figure, unkeyed.recall(result), compat.curves(action, slot))
    bpy.context.scene.frame_set(12)
    assert tuple(knee.rotation_quaternion) == pytest.approx((0.8, 0.6, 0, 0), abs=1e-6)
    assert tuple(figure.pose.bones["pelvis"].location) == (0, 0, 0)
