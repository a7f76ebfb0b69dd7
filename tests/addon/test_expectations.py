"""Expectations of an animator that only whole operators can meet; those about reading and writing: test_read_write.py.

Named after the numbered list in the project's notes on Blender. The engine is the real one where the motion itself is
judged, else the stand-in (tests/standin_worker.py).
"""

from __future__ import annotations

import time

import bpy
import numpy as np
import pytest
from operator_support import armature_now, curves, deselect, figure, meanwhile, refused, same, select, state
from test_jobs import Session

from mmdm_addon import jobs, runtime
from mmdm_addon.engine_link import INDEX, kinematics
from mmdm_addon.rig import read

mmdm = bpy.ops.mmdm
FRAMES = np.arange(1.0, 61.0)


def motion(armature, frames=FRAMES):
    return read.read(bpy.context, armature, frames).motion


def positions(moving):
    parts = (moving.rotations, moving.root, moving.skeleton.offsets)
    return kinematics.positions(*(part.astype(np.float64) for part in parts))


WRITERS = {
    "fill_gap": {"frame_start": 20, "frame_end": 40},
    "refine_jitter": {"frame_start": 20, "frame_end": 40},
    "complete_bones": {"frame_start": 20, "frame_end": 40},
}


def run(name, **more):
    if name == "complete_bones":  # what is regenerated needs a body that is not
        select(armature_now(), "left_shoulder", "left_elbow", "left_wrist")
    return getattr(mmdm, name)("EXEC_DEFAULT", True, **WRITERS[name], **more)


@pytest.mark.usefixtures("standin")
@pytest.mark.parametrize("name", WRITERS)
def test_expectation_02_one_undo_step_takes_the_whole_result_back(name):
    figure()
    bpy.ops.ed.undo_push(message="before")
    before = state(armature_now())
    assert run(name) == {"FINISHED"}
    assert len(bpy.data.actions) == 2
    assert not same(state(armature_now()), before)
    bpy.ops.ed.undo()
    assert [a.name for a in bpy.data.actions] == ["Source"]
    assert same(state(armature_now()), before)
    assert len(armature_now().mmdm.takes) == 0


@pytest.mark.usefixtures("standin")
@pytest.mark.parametrize("after", ["cancel", "refusal"])
def test_expectation_02_no_step_while_computing_or_without_a_result(after, monkeypatch):
    armature = figure()
    for x in (1.0, 2.0):
        armature.location.x = x
        bpy.ops.ed.undo_push(message=f"to {x}")
    before, seen = state(armature), []

    def look(call):
        seen.append((same(state(armature_now()), before), len(bpy.data.actions), len(armature_now().mmdm.takes)))
        if after == "cancel":
            call.cancel()

    meanwhile(monkeypatch, look)
    if after == "cancel":
        assert run("fill_gap", label="slow") == {"CANCELLED"}
    else:
        refused(mmdm.fill_gap, "damaged", label="corrupt", **WRITERS["fill_gap"])
    assert seen == [(True, 1, 0)]
    assert same(state(armature_now()), before)
    bpy.ops.ed.undo()
    assert armature_now().location.x == 1.0  # the animator's own last step was undone, none of ours lay above it


@pytest.mark.usefixtures("engine")
def test_expectation_06_value_and_velocity_are_continuous_at_the_borders():
    armature = figure(amount=0.3)
    before = motion(armature)
    assert mmdm.fill_gap(frame_start=20, frame_end=41) == {"FINISHED"}
    after = motion(armature)
    inside = (FRAMES > 20) & (FRAMES < 41)
    places, source = positions(after), positions(before)
    assert np.abs(places - source)[~inside].max() < 1e-5
    assert np.abs(places - source)[inside].max() > 1e-3  # it is not the source
    step, usual = (np.linalg.norm(np.diff(p, axis=0), axis=-1) for p in (places, source))
    turn = np.linalg.norm(np.diff(places, n=2, axis=0), axis=-1)
    for border in (20, 41):
        at = int(border) - 1
        # value: no jump into or out of the border; velocity: no kink there
        assert step[at - 1 : at + 1].max() < 1.5 * usual.max() + 0.005
        assert turn[at - 2 : at + 1].max() < usual.max() + 0.01


@pytest.mark.usefixtures("standin")
def test_expectation_06_how_wide_the_change_is_can_be_seen_before_and_after():
    from mmdm_addon.ui.fill_gap import fill_preview

    armature = figure()
    for curve in curves(armature):
        for point in curve.keyframe_points:
            point.select_control_point = 25 <= point.co.x <= 31
    assert fill_preview(bpy.context) == "Writes 25-31, keeps 24, 32"
    before = state(armature)[1]
    assert mmdm.fill_gap() == {"FINISHED"}
    after = state(armature)[1]
    moved = {float(x) for key, old in before.items() for x, y, z in
             zip(old["co"][:, 0], old["co"][:, 1], after[key]["co"][:, 1], strict=True) if y != z}  # fmt: skip
    assert min(moved) >= 25
    assert max(moved) <= 31  # the blend lies inside what was announced
    assert "Fill 25-31" in armature.mmdm.takes[1].detail


@pytest.mark.usefixtures("standin")
def test_expectation_17_blender_stays_usable_and_cancel_takes_less_than_a_second():
    armature = figure()
    job = Session(frame_start=20, frame_end=40, label="slow")
    began = time.monotonic()
    job.start()
    assert time.monotonic() - began < 1.0  # reading the rig, not waiting for the engine
    slowest, end = 0.0, time.monotonic() + 60
    while job.operator._job.call.done < 3:
        assert time.monotonic() < end
        tick = time.monotonic()
        assert job.tick() == {"PASS_THROUGH"}
        assert job.tick("LEFTMOUSE", "PRESS") == {"PASS_THROUGH"}
        slowest = max(slowest, time.monotonic() - tick)
        bpy.context.scene.frame_set(30)  # the user goes on
        time.sleep(0.02)
    assert slowest < 0.25
    assert "s left" in bpy.context.window_manager.mmdm.text
    assert 0 < bpy.context.window_manager.mmdm.progress < 1
    before, began = state(armature), time.monotonic()
    job.tick("ESC", "PRESS")
    assert job.run() == {"CANCELLED"}
    assert time.monotonic() - began < 1.0
    assert same(state(armature), before)
    assert bpy.context.scene.frame_current == 30


def _undo():
    bpy.ops.ed.undo()


def _load():
    bpy.ops.wm.read_homefile(use_empty=True, use_factory_startup=True)


def _delete():
    bpy.data.objects.remove(armature_now())


@pytest.mark.usefixtures("standin")
@pytest.mark.parametrize(("what", "left"), [(_undo, 1), (_load, 0), (_delete, 1)])
def test_expectation_18_undo_closing_and_deleting_drop_the_result_with_a_message(what, left, monkeypatch):
    figure()
    bpy.ops.ed.undo_push(message="posed")
    curves(armature_now())[0].keyframe_points[30].co.y += 1
    bpy.ops.ed.undo_push(message="moved a key")
    meanwhile(monkeypatch, lambda _call: what())
    # Blender drops reports of operators whose file was closed under them, so the panel's copy is what counts
    try:
        outcome = run("fill_gap")
    except RuntimeError:
        outcome = {"CANCELLED"}
    assert outcome == {"CANCELLED"}
    message = bpy.context.window_manager.mmdm.message
    assert "dropped" in message
    assert "\n" not in message
    assert len(bpy.data.actions) == left


@pytest.mark.usefixtures("engine")
def test_expectation_19_the_seed_is_shown_and_repeatable_and_takes_are_switched_without_computing(monkeypatch):
    armature = figure()
    gap = {"frame_start": 20, "frame_end": 40, "takes": 3, "seed": 7}
    assert mmdm.fill_gap(**gap) == {"FINISHED"}
    takes = armature.mmdm.takes
    assert ["seed 8" in takes[2].detail, "seed 9" in takes[3].detail] == [True, True]

    def shown(index):
        assert mmdm.take_switch(index=index) == {"FINISHED"}
        return motion(armature).rotations

    with monkeypatch.context() as patch:
        patch.setattr(runtime, "client", lambda: pytest.fail("switching must not compute"))
        first = [shown(index) for index in range(4)]
        assert len({part.tobytes() for part in first}) == 4
        shown(0)
    assert mmdm.fill_gap(**gap) == {"FINISHED"}
    assert all(np.array_equal(shown(4 + n), first[1 + n]) for n in range(3))
    shown(0)
    mmdm.fill_gap(**(gap | {"seed": 20}))
    assert not np.array_equal(shown(8), first[2])


@pytest.mark.usefixtures("engine")
def test_expectation_20_strength_scales_and_one_click_shows_before_and_after():
    armature = figure(amount=0.3)
    random = np.random.default_rng(1)
    for curve in curves(armature):
        points = curve.keyframe_points
        co = np.empty(2 * len(points), np.float32)
        points.foreach_get("co", co)
        co[1::2] += random.normal(0, 0.03, len(points))
        points.foreach_set("co", co)
        curve.update()
    shaken, bits = motion(armature), state(armature)
    sizes = []
    for strength in (0.25, 0.5, 1.0):
        assert mmdm.refine_jitter(strength=strength) == {"FINISHED"}
        sizes.append(float(np.linalg.norm(positions(motion(armature)) - positions(shaken), axis=-1).mean()))
        assert mmdm.take_switch(index=0) == {"FINISHED"}  # before
        assert same(state(armature), bits)
        assert mmdm.take_switch(index=len(sizes)) == {"FINISHED"}  # after
        assert np.abs(positions(motion(armature)) - positions(shaken)).max() > 0
        mmdm.take_switch(index=0)
    assert sizes[0] > 1e-4
    assert sizes[0] / sizes[2] == pytest.approx(0.25, abs=0.08)
    assert sizes[1] / sizes[2] == pytest.approx(0.5, abs=0.08)


FEET = [INDEX[f"{side}_{part}"] for side in ("left", "right") for part in ("ankle", "foot")]
LEGS = ("hip", "knee", "ankle", "foot")


def standing():
    """A figure that stands on both feet and moves from the waist up; its legs are hardly ever quite still."""
    armature = figure(amount=0.3, root=None)
    for curve in curves(armature):
        if any(part in curve.data_path for part in (*LEGS, "pelvis")):
            for point in curve.keyframe_points:
                still = float(curve.array_index == 0)
                point.co.y = still or 0.0005 * np.sin(0.3 * point.co.x + curve.array_index)
            curve.update()
    return armature


@pytest.mark.usefixtures("engine")
def test_expectation_22_planted_feet_stay_and_knees_do_not_pop_and_it_can_be_turned_off():
    armature = standing()
    before = motion(armature)
    slides, results = [], []
    for lock in (True, False):
        assert mmdm.fill_gap(frame_start=15, frame_end=46, lock_feet=lock) == {"FINISHED"}
        results.append(motion(armature))
        slides.append(np.linalg.norm((positions(results[-1]) - positions(before))[:, FEET], axis=-1).max())
        mmdm.take_switch(index=0)
    locked, free = slides
    assert locked < 0.01  # metres
    assert locked < free
    assert not np.array_equal(results[0].rotations, results[1].rotations)
    for side in ("left", "right"):
        w = results[0].rotations[:, INDEX[f"{side}_knee"], 0].astype(np.float64)
        bend = np.degrees(2 * np.arccos(np.clip(np.abs(w), 0, 1)))
        assert np.abs(np.diff(bend, n=2)).max() < 5


def _no_hips(armature):
    for role in ("pelvis", "left_hip", "right_hip", "left_knee", "right_knee"):
        mmdm.bone_role_set(role=role, bone="")


def _not_a_number(armature):
    curves(armature)[40].keyframe_points[9].co.y = float("nan")


def _linked_ik(armature):
    ik = armature.pose.bones["left_ankle"].constraints.new("IK")
    ik.chain_count = 3
    select(armature, "left_hip", "left_knee")


def _nothing_of_the_body(armature):
    for role in ("left_wrist", "left_elbow"):
        mmdm.bone_role_set(role=role, bone="")
    select(armature, "left_wrist")


@pytest.mark.usefixtures("standin")
@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (_no_hips, ("No hips bone found", "Open Bone Map and choose one")),
        (_not_a_number, ("not a number", "10")),
        (_linked_ik, ("IK constraint on 'left_ankle'", "bake the limb to FK or mute the constraint")),
        (_nothing_of_the_body, ("part of the body", "open Bone Map")),
    ],
)
@pytest.mark.parametrize("name", WRITERS)
def test_expectation_23_errors_are_plain_words_with_the_fix(name, spoil, words):
    armature = figure()
    spoil(armature)
    before = state(armature)[0]
    text = refused(getattr(mmdm, name), *words, **WRITERS[name])
    assert text.endswith(".")
    assert text[0].isupper() or text[0] == "'"
    assert bpy.context.window_manager.mmdm.message == text
    assert state(armature)[0] == before
    assert len(bpy.data.actions) == 1


@pytest.mark.usefixtures("standin")
def test_expectation_23_a_greyed_out_button_says_why():
    armature = figure()
    deselect(armature)
    for name in WRITERS:
        assert not getattr(mmdm, name).poll()
        with pytest.raises(RuntimeError, match="No bone is selected; select the bones to write"):
            getattr(mmdm, name)(**WRITERS[name])
    assert "No bone is selected" in jobs.unready(bpy.context)
