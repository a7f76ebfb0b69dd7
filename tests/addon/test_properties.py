"""Any rig, any keys, any options: read, fill and write keep their promises (the stand-in worker fills).

Deterministic: the same examples in every run. What a promise means in detail is tested in test_read_write.py.
"""

from __future__ import annotations

import bpy
import families
import figures
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from operator_support import curves, select, select_keys, state

from mmdm_addon import compat
from mmdm_addon.rig import roles

pytestmark = pytest.mark.usefixtures("standin")
MODES = ("QUATERNION", "XYZ", "ZXY", "YZX", "AXIS_ANGLE")
OPTIONAL = ("left_foot", "right_foot", "left_collar", "right_collar", "neck", "spine2", "left_wrist")
EXAMPLES = 12
EXACT = ("co", "interpolation", "easing", "type")

rigs = st.fixed_dictionaries(
    {
        "family": st.sampled_from([None, *families.TABLES]),
        "absent": st.sets(st.sampled_from(OPTIONAL), max_size=2),
        "modes": st.lists(st.sampled_from(MODES), min_size=1, max_size=3).map(tuple),
        "size": st.sampled_from([0.01, 1.0, 100.0]),
        "turned": st.tuples(*[st.floats(-3, 3)] * 3),
        "parented": st.booleans(),
        "every": st.sampled_from([1, 1, 4, 9]),
        "offset": st.sampled_from([0.0, -40.0, 0.25]),
        "interpolation": st.sampled_from(["BEZIER", "LINEAR", "CONSTANT"]),
        "seed": st.integers(0, 1000),
    }
)
jobs = st.fixed_dictionaries(
    {
        "gap": st.tuples(st.integers(4, 30), st.integers(3, 25)),
        "keep": st.sampled_from(["KEYS", "NONE"]),
        "density": st.sampled_from(["MATCH", "ALL", "STEP"]),
        "step": st.integers(1, 6),
        "tolerance": st.floats(0.05, 2),
        "takes": st.integers(1, 2),
        "chosen": st.sets(st.integers(0, 200), min_size=1, max_size=8),
        "everything": st.booleans(),
        "locked": st.sets(st.integers(0, 200), max_size=2),
        "muted": st.sets(st.integers(0, 200), max_size=3),
    }
)


def build(rig):
    """The armature of an example, animated, in Pose Mode."""
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)
    armature = families.make(rig["family"]) if rig["family"] else figures.make(absent=tuple(rig["absent"]))
    hips = roles.detect(armature).chains["pelvis"][0]
    figures.animate(
        armature, modes=rig["modes"], every=rig["every"], amount=0.3, root=hips, interpolation=rig["interpolation"],
        seed=rig["seed"],
    )  # fmt: skip
    for curve in curves(armature):
        co = np.empty(2 * len(curve.keyframe_points), np.float32)
        curve.keyframe_points.foreach_get("co", co)
        co[::2] += rig["offset"]
        curve.keyframe_points.foreach_set("co", co)
        curve.update()
    armature.scale, armature.rotation_euler = (rig["size"],) * 3, rig["turned"]
    if rig["parented"]:
        parent = bpy.data.objects.new("parent", None)
        bpy.context.scene.collection.objects.link(parent)
        parent.rotation_euler, parent.scale, parent.location = (0.5, 0, 1), (2, 2, 2), (1, 2, 3)
        armature.parent = parent
    bpy.context.view_layer.update()
    bpy.ops.object.mode_set(mode="POSE")
    select_keys(armature, ())
    return armature


def is_kept(columns, frame):
    return np.abs(columns["co"][:, 0] - frame) < 1e-3


def check_keys(before, after, frozen, kept, span):
    """Keys outside are the same bits, kept ones and forbidden curves too, and everything is a number."""
    low, high = span
    for key, columns in after.items():
        assert np.isfinite(columns["co"]).all(), key
        assert np.isfinite(columns["handle_left"]).all(), key
        assert np.isfinite(columns["handle_right"]).all(), key
        times = columns["co"][:, 0]
        assert (np.diff(times) > 0).all(), key
        old = before.get(key)
        if old is None:
            continue
        rows = (old["co"][:, 0] <= low) | (old["co"][:, 0] >= high)
        for name in EXACT:
            same = np.isin(times, old["co"][rows, 0])
            np.testing.assert_array_equal(columns[name][same], old[name][rows], err_msg=f"{key} {name}")
        if key in frozen:
            for name in columns:
                np.testing.assert_array_equal(columns[name], old[name], err_msg=f"{key} {name}")
        for frame in kept:
            if is_kept(old, frame).any():
                (was,), (now,) = old["co"][is_kept(old, frame)], columns["co"][is_kept(columns, frame)]
                assert (was == now).all(), (key, frame)


@settings(
    max_examples=EXAMPLES, derandomize=True, database=None, deadline=None, phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)  # fmt: skip
@given(rig=rigs, job=jobs)
def test_fill_gap_keeps_its_promises_on_any_rig(rig, job):
    armature = build(rig)
    roled = sorted(roles.detect(armature).bones())
    if not job["everything"]:
        select(armature, *{roled[n % len(roled)] for n in job["chosen"]})
    else:
        select(armature)
    everyone = curves(armature)
    frozen = set()
    for n in job["locked"]:
        curve = everyone[n % len(everyone)]
        curve.lock = True
        frozen.add((curve.data_path, curve.array_index))
    for n in job["muted"]:
        curve = everyone[n % len(everyone)]
        curve.mute = True
        frozen.add((curve.data_path, curve.array_index))
    keyed = np.unique(np.concatenate([[p.co.x for p in c.keyframe_points] for c in everyone]))
    first = int(np.ceil(keyed[0])) + job["gap"][0]
    last = min(first + job["gap"][1], int(np.floor(keyed[-1])))
    modes = {bone.name: bone.rotation_mode for bone in armature.pose.bones}
    placed = tuple(armature.matrix_world.copy()[i][j] for i in range(4) for j in range(4))
    bpy.ops.ed.undo_push(message="ready")
    armature = bpy.data.objects["Figure"]
    action, before = state(armature)
    times = np.concatenate([np.linspace(first - 30, first, 40), np.linspace(last, last + 30, 40)])
    source, slot = armature.animation_data.action, compat.assigned_slot(armature)
    curve_before = figures.sampled(source, slot, times)

    options = {name: job[name] for name in ("keep", "density", "step", "tolerance", "takes")}
    # a gap whose every frame is a kept key, or whose every channel is locked, is refused in words
    try:
        outcome = bpy.ops.mmdm.fill_gap("EXEC_DEFAULT", True, frame_start=first, frame_end=last, **options)
    except RuntimeError as error:
        text = str(error)
        assert "unexpected problem" not in text, text
        assert (armature.animation_data.action.name, len(bpy.data.actions)) == (action, 1)
        return
    assert outcome == {"FINISHED"}

    armature = bpy.data.objects["Figure"]
    assert {bone.name: bone.rotation_mode for bone in armature.pose.bones} == modes
    assert tuple(armature.matrix_world[i][j] for i in range(4) for j in range(4)) == pytest.approx(placed)
    isolated = [f for f in keyed if first < f < last] if job["keep"] == "KEYS" and rig["every"] > 1 else []
    chosen = {bone.name for bone in armature.pose.bones if compat.is_selected(bone)}
    for take in armature.mmdm.takes:
        if take.source:
            continue
        after = figures.snapshot(take.action, _slot(take.action, slot))
        others = {key for key in before if not any(f'"{bone}"' in key[0] for bone in chosen)}
        check_keys(before, after, frozen | others, isolated, (first, last))
        for key, values in figures.sampled(take.action, _slot(take.action, slot), times).items():
            assert np.isfinite(values).all(), key
            if key in curve_before:
                size = max(1.0, float(np.abs(curve_before[key]).max()))
                assert np.abs(values - curve_before[key]).max() < 1e-6 * size, key

    bpy.ops.ed.undo()
    assert [a.name for a in bpy.data.actions] == [action]
    restored = state(bpy.data.objects["Figure"])[1]
    for key, columns in before.items():
        for name, column in columns.items():
            np.testing.assert_array_equal(column, restored[key][name])


def _slot(action, slot):
    return next((s for s in action.slots if s.handle == slot.handle), None) if compat.has_slots() else None
