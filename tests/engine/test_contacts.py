"""Contacts and foot lock on real walks that were made to slide."""

from __future__ import annotations

import numpy as np
import pytest

from mmdm_engine import contacts, kinematics
from mmdm_engine import rotations as rot
from mmdm_engine.contract import Motion, MotionError, Skeleton
from mmdm_engine.pack import resample

CLIPS = ["02_01", "02_04", "05_01", "06_01", "11_01", "131_01"]


def positions(motion):
    return kinematics.positions(
        motion.rotations.astype(np.float64), motion.root.astype(np.float64), motion.skeleton.offsets.astype(np.float64)
    )


def sliding(motion: Motion) -> tuple[Motion, np.ndarray]:
    """The middle third drifts sideways and back by centimetres. Returns the motion and the changed frames."""
    start, stop = len(motion) // 3, 2 * len(motion) // 3
    phase = np.arange(stop - start) / (stop - start)
    root = motion.root.copy()
    root[start:stop, 0] += 0.06 * np.sin(np.pi * phase) ** 2
    root[start:stop, 2] += 0.05 * np.sin(2 * np.pi * phase)
    changed = np.zeros(len(motion), bool)
    changed[start:stop] = True
    return motion.with_frames(motion.rotations, root), changed


def inside(flags: np.ndarray, changed: np.ndarray) -> np.ndarray:
    """Contacts in changed frames and the ones next to them."""
    near = np.convolve(changed, np.ones(3), mode="same") > 0
    return flags & near[:, None]


def knee_snap(motion: Motion) -> float:
    """Largest second difference of a knee, degrees per frame²."""
    q = motion.rotations[:, [4, 5]].astype(np.float64)
    steps = rot.log(rot.multiply(rot.conjugate(q[:-1]), q[1:]))
    return float(np.degrees(np.abs(np.diff(steps, axis=0)).max()))


def test_a_walk_has_two_alternating_feet(val_motion):
    found = contacts.detect(val_motion)
    left, right = found[:, :2].any(axis=1), found[:, 2:].any(axis=1)
    assert 0.25 < left.mean() < 0.75
    assert 0.25 < right.mean() < 0.75
    assert (left | right).mean() > 0.7
    assert (left & right).mean() < 0.4
    feet = positions(val_motion)[:, [7, 10, 8, 11]]
    speed = np.linalg.norm(np.diff(feet, axis=0), axis=-1) * val_motion.fps
    assert np.median(speed[found[1:]]) < 0.1 < 0.5 < np.median(speed[~found[1:]])


@pytest.mark.parametrize("fps", [20, 24, 30, 120])
def test_contacts_do_not_depend_on_the_frame_rate(val_motion, fps):
    here, there = contacts.detect(val_motion), contacts.detect(resample(val_motion, fps))
    at = np.minimum(np.round(np.arange(len(there)) * 60 / fps).astype(int), len(here) - 1)
    assert (here[at] == there).mean() > 0.9


@pytest.mark.parametrize("scale", [0.1, 100])
def test_contacts_do_not_depend_on_size_or_height(val_motion, scale):
    skeleton = Skeleton(val_motion.skeleton.offsets * scale)
    big = Motion(val_motion.rotations, val_motion.root * scale + np.float32(10 * scale), skeleton, val_motion.fps)
    assert (contacts.detect(big) == contacts.detect(val_motion)).mean() > 0.999


def still(frames: int, height: np.ndarray | float = 0.0) -> Motion:
    rotations = np.zeros((frames, 22, 4), np.float32)
    rotations[..., 0] = 1
    offsets = np.zeros((22, 3))
    offsets[[1, 2, 4, 5, 7, 8, 10, 11]] = [
        (0.1, -0.1, 0), (-0.1, -0.1, 0), (0, -0.42, 0), (0, -0.42, 0), (0, -0.4, 0), (0, -0.4, 0),
        (0, -0.05, 0.13), (0, -0.05, 0.13),
    ]  # fmt: skip
    root = np.zeros((frames, 3))
    root[:, 1] = height
    return Motion(rotations, root, Skeleton(offsets), 60)


def test_standing_still_stands_and_flying_does_not():
    assert contacts.detect(still(30)).all()
    assert contacts.detect(still(1)).all()
    fall = still(60, 5 - 0.5 * 9.81 * (np.arange(60) / 60) ** 2)
    assert not contacts.detect(fall)[10:].any()


def test_a_lifted_leg_that_holds_still_does_not_stand():
    motion = still(60)
    rotations = motion.rotations.copy()
    rotations[:, 1] = rot.exp(np.array([-1.2, 0, 0]))
    rotations[:, 4] = rot.exp(np.array([1.2, 0, 0]))
    found = contacts.detect(motion.with_frames(rotations, motion.root))
    assert not found[:, :2].any()
    assert found[:, 2:].all()


@pytest.mark.parametrize("name", CLIPS)
def test_sliding_feet_are_held(pack_clip, name):
    motion = pack_clip(name)
    stand = contacts.detect(motion)
    bad, changed = sliding(motion)
    fixed = contacts.lock_feet(bad, changed)
    judged = inside(stand, changed)
    before, after = contacts.slide(bad, judged), contacts.slide(fixed, judged)
    assert after < 0.25 * before
    assert after < 0.06
    # nothing but legs moves, and that within reason
    turned = np.degrees(rot.angle(fixed.rotations.astype(np.float64), bad.rotations.astype(np.float64)))
    others = [j for j in range(22) if j not in (1, 2, 4, 5, 7, 8)]
    np.testing.assert_array_equal(fixed.rotations[:, others], bad.rotations[:, others])
    assert turned[changed].mean(axis=0).max() < 15
    assert knee_snap(fixed) < max(8.0, 1.5 * knee_snap(bad))


@pytest.mark.parametrize("name", CLIPS)
def test_frames_that_were_not_changed_keep_their_bits(pack_clip, name):
    bad, changed = sliding(pack_clip(name))
    changed[5:9] = True  # a second stretch
    fixed = contacts.lock_feet(bad, changed)
    np.testing.assert_array_equal(fixed.rotations[~changed].view(np.uint32), bad.rotations[~changed].view(np.uint32))
    np.testing.assert_array_equal(fixed.root.view(np.uint32), bad.root.view(np.uint32))
    assert (fixed.skeleton, fixed.fps) == (bad.skeleton, bad.fps)


@pytest.mark.parametrize("name", CLIPS)
def test_feet_pass_smoothly_into_trusted_frames(pack_clip, name):
    """At both borders no joint of the leg steps further than it did before the lock, or than half a degree more."""
    bad, changed = sliding(pack_clip(name))
    fixed = contacts.lock_feet(bad, changed)
    borders = np.flatnonzero(np.diff(changed.astype(int)))
    for motion_joint in (1, 2, 4, 5, 7, 8):
        steps = [
            np.degrees(
                rot.angle(
                    m.rotations[:-1, motion_joint].astype(np.float64), m.rotations[1:, motion_joint].astype(np.float64)
                )
            )
            for m in (bad, fixed)
        ]
        assert (steps[1][borders] <= steps[0][borders] + 3.0).all()


def test_a_phase_that_crosses_the_border_is_held_where_it_was(pack_clip):
    motion = pack_clip("02_04")
    stand = contacts.detect(motion)
    both = np.flatnonzero(stand[:-30].all(axis=1) & stand[30:].all(axis=1))
    start = int(next(t for t in both if stand[t : t + 30].all())) + 5
    changed = np.zeros(len(motion), bool)
    changed[start : start + 20] = True
    root = motion.root.copy()
    root[changed, 0] += 0.03
    fixed = contacts.lock_feet(motion.with_frames(motion.rotations, root), changed, stand)
    ankle = positions(fixed)[:, 7]
    trusted = positions(motion)[[start - 1, start + 20], 7]
    way = np.linalg.norm(trusted[1] - trusted[0])
    assert np.abs(ankle[changed] - trusted[0]).max() < way + 0.006


def test_a_straight_leg_neither_snaps_nor_bends_backwards():
    motion = still(60)  # legs exactly straight
    changed = np.ones(60, bool)
    changed[:5] = changed[-5:] = False
    root = motion.root.copy()
    root[5:55, 1] -= 0.02 * np.sin(np.pi * np.arange(50) / 50)  # the hips sink: knees must bend
    root[5:55, 0] += 0.03 * np.sin(np.pi * np.arange(50) / 50)
    fixed = contacts.lock_feet(motion.with_frames(motion.rotations, root), changed, np.ones((60, 4), bool))
    knees = rot.log(fixed.rotations[:, [4, 5]].astype(np.float64))
    assert knees[..., 0].min() > -1e-3
    assert np.degrees(knees[..., 0].max()) > 5
    assert knee_snap(fixed) < 3
    ankles = positions(fixed)[:, [7, 8]]
    assert np.abs(ankles[..., 0] - ankles[0, :, 0]).max() < 0.01


def test_out_of_reach_slides_instead_of_tearing():
    motion = still(60)
    changed = np.zeros(60, bool)
    changed[20:40] = True
    root = motion.root.copy()
    root[changed, 2] += 2.0
    fixed = contacts.lock_feet(motion.with_frames(motion.rotations, root), changed, np.ones((60, 4), bool))
    assert np.isfinite(fixed.rotations).all()
    np.testing.assert_allclose(np.linalg.norm(fixed.rotations, axis=-1), 1, atol=1e-5)


def test_nothing_to_do_changes_nothing(val_motion):
    changed = np.zeros(len(val_motion), bool)
    assert contacts.lock_feet(val_motion, changed) is val_motion
    changed[20:50] = True
    free = contacts.lock_feet(val_motion, changed, np.zeros((len(val_motion), 4), bool))
    np.testing.assert_array_equal(free.rotations, val_motion.rotations)


def test_wrong_arguments_are_said(val_motion):
    with pytest.raises(MotionError, match=r"changed must have shape \(172,\)"):
        contacts.lock_feet(val_motion, np.ones(3, bool))
    with pytest.raises(MotionError, match=r"contacts must have shape \(172, 4\)"):
        contacts.lock_feet(val_motion, np.ones(172, bool), np.ones((3, 4), bool))
    broken = val_motion.rotations.copy()
    broken[7, 0] = np.nan
    with pytest.raises(MotionError, match="pelvis in frame 7"):
        contacts.detect(val_motion.with_frames(broken, val_motion.root))
