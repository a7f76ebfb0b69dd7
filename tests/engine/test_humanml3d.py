"""The 263 columns against the published reference clip, and back."""

from __future__ import annotations

import numpy as np
import pytest

from mmdm_engine import humanml3d, kinematics
from mmdm_engine import rotations as rot
from mmdm_engine.contract import MotionError
from mmdm_engine.pack import resample


@pytest.fixture
def published(data):
    return (
        np.load(data("humanml3d/012314_new_joint_vecs.npy")),
        np.load(data("humanml3d/012314_new_joints.npy")),
    )


def positions(motion):
    return kinematics.positions(
        motion.rotations.astype(np.float64), motion.root.astype(np.float64), motion.skeleton.offsets.astype(np.float64)
    )


def test_recovered_joints_are_the_published_ones(published):
    vectors, joints = published
    np.testing.assert_allclose(humanml3d.recover_joints(vectors), joints, atol=5e-7)


def test_all_columns_are_the_published_ones(published):
    """Made from the published joints, which lack the clip's last frame; the heading's filter carries that 80 frames."""
    vectors, joints = published
    made = humanml3d.from_joints(joints)
    assert made.shape == (169, 263)
    assert made.dtype == np.float32
    assert np.abs(made - vectors[:169])[:85].max() < 1e-5
    np.testing.assert_array_equal(made[:, 259:], vectors[:169, 259:])
    np.testing.assert_allclose(made[:, 3], vectors[:169, 3], atol=1e-6)


def test_a_motion_from_the_published_clip(published):
    vectors, joints = published
    motion = humanml3d.from_humanml3d(vectors)
    assert (len(motion), motion.fps) == (170, 20)
    motion.require_finite()
    np.testing.assert_allclose(positions(motion), joints, atol=1e-4)


@pytest.mark.parametrize("name", ["02_01", "06_15", "131_01"])
def test_there_and_back(pack_clip, name):
    motion = pack_clip(name)
    array = humanml3d.to_humanml3d(motion)
    source = resample(motion, 20.0)
    assert array.shape == (len(source) - 1, 263)
    again = humanml3d.from_humanml3d(array)
    # the same shape of figure in every frame, up to heading and place
    wanted, found = positions(source)[:-1], positions(again)
    distances = [np.linalg.norm(p[:, :, None] - p[:, None], axis=-1) for p in (wanted, found)]
    assert np.abs(distances[0] - distances[1]).max() < 2e-3
    np.testing.assert_allclose(
        np.linalg.norm(again.skeleton.offsets, axis=-1), np.linalg.norm(motion.skeleton.offsets, axis=-1), atol=2e-3
    )
    np.testing.assert_allclose(found[0, 0, [0, 2]], 0, atol=1e-6)
    # knees bend like knees: about the thigh's own +X
    bend = rot.log(again.rotations[:, [4, 5]].astype(np.float64))
    assert np.median(bend[..., 0]) > 0.05
    assert np.abs(np.median(bend[..., 1:], axis=(0, 1))).max() < 0.1


def test_heading_and_place_of_the_take_do_not_matter(val_motion):
    turn = rot.about_y(np.array(1.1))
    rotations = val_motion.rotations.astype(np.float64).copy()
    rotations[:, 0] = rot.multiply(turn, rotations[:, 0])
    root = rot.rotate(turn, val_motion.root.astype(np.float64)) + np.array([3.0, 7.0, -2.0])
    moved = humanml3d.to_humanml3d(val_motion.with_frames(rotations, root))
    np.testing.assert_allclose(moved, humanml3d.to_humanml3d(val_motion), atol=1e-4)


def test_another_skeleton_is_used_and_the_path_scaled(published, val_motion):
    own, other = (humanml3d.from_humanml3d(published[0], skeleton) for skeleton in (None, val_motion.skeleton))
    np.testing.assert_array_equal(other.skeleton.offsets, val_motion.skeleton.offsets)
    np.testing.assert_array_equal(other.rotations, own.rotations)
    ratio = val_motion.skeleton.leg_length / own.skeleton.leg_length
    np.testing.assert_allclose(other.root, own.root * ratio, atol=1e-6)


@pytest.mark.parametrize(
    ("array", "sentence"),
    [
        (np.zeros((4, 262)), "263 columns"), (np.zeros((0, 263)), "at least one row"), (np.zeros(263), "263 columns"),
        (np.full((4, 263), np.nan), "NaN"),
    ],
)  # fmt: skip
def test_wrong_arrays_are_said(array, sentence):
    with pytest.raises(MotionError, match=sentence):
        humanml3d.from_humanml3d(array)


def test_too_short_and_unfinished_motions_are_said(val_motion):
    with pytest.raises(MotionError, match="two frames"):
        humanml3d.to_humanml3d(val_motion.slice(0, 1))
    broken = val_motion.rotations.copy()
    broken[3, 3] = np.nan
    with pytest.raises(MotionError, match="spine1 in frame 3"):
        humanml3d.to_humanml3d(val_motion.with_frames(broken, val_motion.root))
