"""The operators with the shipped priors behind them: a real BVH take, a hole in it, jitter on it, damaged weights."""

from __future__ import annotations

import shutil

import bpy
import numpy as np
import pytest
from operator_support import figure, refused, same, state
from worker_support import ROOT

from mmdm_addon import compat, runtime
from mmdm_addon.engine_client import EngineClient
from mmdm_addon.rig.read import read

pytestmark = pytest.mark.usefixtures("engine")


def motion(armature, frames):
    return read(bpy.context, armature, np.asarray(frames, float)).motion


def test_a_hole_in_a_walk_is_filled_and_joins_both_sides(walk):
    truth, frames = motion(walk, range(80, 181)), np.arange(80, 181)
    hole = (frames > 110) & (frames < 150)
    assert bpy.ops.mmdm.fill_gap(frame_start=110, frame_end=150) == {"FINISHED"}
    filled = motion(walk, frames)
    np.testing.assert_allclose(filled.root[~hole], truth.root[~hole], atol=1e-4 * truth.skeleton.leg_length)
    dots = np.abs((filled.rotations * truth.rotations).sum(axis=-1))
    assert dots[~hole].min() > 1 - 1e-6
    assert dots[hole].min() < 1 - 1e-4  # it is not the source
    # no frame-to-frame step at the seam that the walk itself does not have
    step = np.linalg.norm(np.diff(filled.root, axis=0), axis=-1)
    usual = np.linalg.norm(np.diff(truth.root, axis=0), axis=-1).max()
    assert step.max() < 1.5 * usual


def test_a_second_take_differs_and_a_seed_repeats(walk):
    bpy.ops.mmdm.fill_gap(frame_start=110, frame_end=150, takes=2, seed=3)
    bpy.ops.mmdm.take_switch(index=2)
    second = motion(walk, range(111, 150))
    bpy.ops.mmdm.take_switch(index=1)
    first = motion(walk, range(111, 150))
    assert not np.array_equal(second.rotations, first.rotations)
    bpy.ops.mmdm.take_switch(index=0)
    bpy.ops.mmdm.fill_gap(frame_start=110, frame_end=150, takes=2, seed=3)
    bpy.ops.mmdm.take_switch(index=4)
    np.testing.assert_array_equal(motion(walk, range(111, 150)).rotations, second.rotations)


def shake(armature, size):
    random = np.random.default_rng(0)
    for curve in compat.curves(armature.animation_data.action, compat.assigned_slot(armature)):
        if "rotation" in curve.data_path:
            points = curve.keyframe_points
            co = np.empty(2 * len(points), np.float32)
            points.foreach_get("co", co)
            co[1::2] += random.normal(0, size, len(points))
            points.foreach_set("co", co)
            curve.update()


def test_refine_takes_out_more_than_half_of_the_shaking(walk):
    frames = np.arange(100, 201)
    shake(walk, np.radians(3))
    shaken = motion(walk, frames)
    assert bpy.ops.mmdm.refine_jitter(frame_start=100, frame_end=200) == {"FINISHED"}
    calm = motion(walk, frames)

    def jerk(m):
        return np.abs(np.diff(m.rotations[10:-10].astype(float), n=3, axis=0)).mean()

    assert jerk(calm) < 0.5 * jerk(shaken)


def test_damaged_weights_are_named_with_the_way_out(tmp_path, monkeypatch):
    engine = tmp_path / "mmdm_engine"
    shutil.copytree(ROOT / "mmdm_engine", engine, ignore=shutil.ignore_patterns("__pycache__"))
    for weights in (engine / "weights").glob("*.safetensors"):
        weights.write_bytes(weights.read_bytes()[:5000])
    command = runtime.worker_command(runtime.find())
    client = EngineClient(command, {"PYTHONPATH": str(tmp_path)})
    monkeypatch.setattr(runtime, "_client", client)
    armature = figure()
    before = state(armature)
    refused(bpy.ops.mmdm.fill_gap, "weights", "damaged", "again", frame_start=20, frame_end=40)
    assert same(state(armature), before)
    shake(armature, 0.08)  # the prior is asked for only where something is to be refined
    before = state(armature)
    refused(bpy.ops.mmdm.refine_jitter, "weights", "damaged", "again", frame_start=20, frame_end=40)
    assert same(state(armature), before)
    assert len(bpy.data.actions) == 1
    client.close()


def test_missing_weights_are_named_with_the_way_out(tmp_path, monkeypatch):
    engine = tmp_path / "mmdm_engine"
    shutil.copytree(ROOT / "mmdm_engine", engine, ignore=shutil.ignore_patterns("__pycache__", "*.safetensors"))
    client = EngineClient(runtime.worker_command(runtime.find()), {"PYTHONPATH": str(tmp_path)})
    monkeypatch.setattr(runtime, "_client", client)
    figure()
    refused(bpy.ops.mmdm.fill_gap, "no weights", frame_start=20, frame_end=40)
    client.close()
