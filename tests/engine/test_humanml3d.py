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


def test_joint_tokens_hold_the_columns_where_they_are_said_to_be():
    columns = np.arange(263, dtype=np.float32)
    tokens = humanml3d.to_joint_level(columns)
    assert tokens.shape == (22, 12)
    # heading speed, speed x z, height, root velocity, contacts, twice the heading speed
    np.testing.assert_array_equal(tokens[0], [0, 1, 2, 3, 193, 194, 195, 259, 260, 261, 262, 0])
    np.testing.assert_array_equal(tokens[1], [4, 5, 6, *range(67, 73), 196, 197, 198])
    np.testing.assert_array_equal(tokens[21], [64, 65, 66, *range(187, 193), 256, 257, 258])
    assert humanml3d.to_joint_level(columns + 1)[0, 11] == 2


def test_joint_tokens_and_back_keep_every_bit(published):
    vectors, _ = published
    for array in (vectors, np.stack([vectors, vectors[::-1]])):
        tokens = humanml3d.to_joint_level(array)
        assert tokens.shape == (*array.shape[:-1], 22, 12)
        assert tokens.dtype == np.float32
        np.testing.assert_array_equal(humanml3d.from_joint_level(tokens), array)
    # the extra number is the turn of the heading from frame to frame
    joints = humanml3d.recover_joints(vectors).astype(np.float64)
    across = np.diff(joints[:, [2, 1], ::2], axis=1)[:, 0] @ [1, 1j]  # right hip to left hip, in the plane
    whole = np.angle(across[1:] / across[:-1])
    in_heading = (vectors[:, 4:7] - vectors[:, 7:10])[:, ::2] @ [1, 1j]
    turned = whole - np.angle(in_heading[1:] / in_heading[:-1])
    np.testing.assert_allclose(np.angle(np.exp(1j * turned)), humanml3d.to_joint_level(vectors)[:-1, 0, 11], atol=1e-4)


def test_joint_tokens_in_torch_are_those_in_numpy():
    torch = pytest.importorskip("torch", reason="needs torch")
    array = np.random.default_rng(0).normal(size=(2, 5, 263)).astype(np.float32)
    tokens = humanml3d.to_joint_level(torch.from_numpy(array))
    np.testing.assert_array_equal(tokens.numpy(), humanml3d.to_joint_level(array))
    np.testing.assert_array_equal(humanml3d.from_joint_level(tokens).numpy(), array)


def test_normalised_tokens_are_the_tokens_of_normalised_columns(published, data):
    vectors, _ = published
    mean, std = (np.load(data(f"humanml3d/{name}.npy")) for name in ("Mean", "Std"))
    tokens = [humanml3d.to_joint_level(a) for a in (vectors, mean, std, (vectors - mean) / std)]
    normalised = (tokens[0] - tokens[1]) / tokens[2]
    np.testing.assert_allclose(normalised[:, 1:], tokens[3][:, 1:], atol=2e-5)
    np.testing.assert_allclose(normalised[:, 0, :11], tokens[3][:, 0, :11], atol=2e-5)


@pytest.mark.parametrize(
    ("call", "shape", "sentence"),
    [
        (humanml3d.to_joint_level, (5, 264), "263 columns"), (humanml3d.from_joint_level, (5, 264), "22, 12"),
        (humanml3d.from_joint_level, (12,), "22, 12"),
    ],
)  # fmt: skip
def test_wrong_token_shapes_are_said(call, shape, sentence):
    with pytest.raises(MotionError, match=sentence):
        call(np.zeros(shape))
