"""Forward kinematics against a loop over joints, and its inverse."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from mmdm_engine import kinematics
from mmdm_engine import rotations as rot
from mmdm_engine.contract import PARENTS
from mmdm_engine.contract.skeleton import MAIN_CHILD


def pose(frames: int = 6, joints: int = 22, seed: int = 0):
    rng = np.random.default_rng(seed)
    return (
        rot.normalize(rng.standard_normal((frames, joints, 4))),
        rng.standard_normal((frames, 3)),
        rng.standard_normal((joints, 3)),
    )


def by_joint(rotations, root, offsets, parents):
    """The textbook loop with SciPy matrices."""
    frames, joints = rotations.shape[:2]
    turns, points = np.zeros((frames, joints, 3, 3)), np.zeros((frames, joints, 3))
    for t in range(frames):
        for j in range(joints):
            own = Rotation.from_quat(rotations[t, j, [1, 2, 3, 0]]).as_matrix()
            if parents[j] < 0:
                turns[t, j], points[t, j] = own, root[t]
            else:
                turns[t, j] = turns[t, parents[j]] @ own
                points[t, j] = points[t, parents[j]] + turns[t, parents[j]] @ offsets[j]
    return turns, points


def test_forward_agrees_with_the_loop():
    rotations, root, offsets = pose()
    turns, points = kinematics.forward(rotations, root, offsets)
    wanted_turns, wanted_points = by_joint(rotations, root, offsets, PARENTS)
    np.testing.assert_allclose(rot.to_matrix(turns), wanted_turns, atol=1e-10)
    np.testing.assert_allclose(points, wanted_points, atol=1e-10)


def test_any_tree_and_leading_axes():
    parents = (-1, 0, 1, 0, 3, 3)
    rotations, root, offsets = pose(4, 6)
    _, wanted = by_joint(rotations, root, offsets, parents)
    np.testing.assert_allclose(kinematics.positions(rotations, root, offsets, parents), wanted, atol=1e-10)
    split = kinematics.positions(rotations.reshape(2, 2, 6, 4), root.reshape(2, 2, 3), offsets, parents)
    np.testing.assert_allclose(split.reshape(4, 6, 3), wanted, atol=1e-10)


def test_children_may_come_first():
    rotations, root, offsets = pose(3, 4)
    order = [3, 1, 2, 0]  # a chain 0-1-2-3 with its numbers shuffled
    parents = [-1, 0, 1, 2]
    shuffled = tuple(-1 if parents[j] < 0 else order.index(parents[j]) for j in order)
    plain = kinematics.positions(rotations, root, offsets, tuple(parents))
    mixed = kinematics.forward(rotations[:, order], root, offsets[order], shuffled)[1]
    np.testing.assert_allclose(mixed, plain[:, order], atol=1e-10)


def test_to_local_is_the_inverse():
    rotations, root, offsets = pose(seed=3)
    turns, _ = kinematics.forward(rotations, root, offsets)
    assert rot.angle(kinematics.to_local(turns), rotations).max() < 1e-9


def test_bone_lengths_stay(val_motion):
    points = kinematics.positions(
        *(x.astype(np.float64) for x in (val_motion.rotations, val_motion.root, val_motion.skeleton.offsets))
    )
    bones = np.linalg.norm(points[:, 1:] - points[:, list(PARENTS[1:])], axis=-1)
    np.testing.assert_allclose(
        bones, np.broadcast_to(np.linalg.norm(val_motion.skeleton.offsets[1:], axis=-1), bones.shape), atol=1e-6
    )


def test_torch_agrees_and_has_gradients():
    torch = pytest.importorskip("torch")
    rotations, root, offsets = pose()
    tensors = [torch.from_numpy(x).requires_grad_() for x in (rotations, root, offsets)]
    turns, points = kinematics.forward(*tensors)
    wanted_turns, wanted = kinematics.forward(rotations, root, offsets)
    np.testing.assert_allclose(points.detach().numpy(), wanted, atol=1e-12)
    np.testing.assert_allclose(turns.detach().numpy(), wanted_turns, atol=1e-12)
    for gradient in torch.autograd.grad(points.square().sum(), tensors):
        assert torch.isfinite(gradient).all()
        assert gradient.abs().sum() > 0


def test_aimed_bones_point_at_the_places_and_turn_no_further_than_they_must():
    rotations, root, offsets = pose()
    places = kinematics.positions(rotations, root, offsets) + 0.3 * np.random.default_rng(1).normal(size=(6, 22, 3))
    aimed, moved = kinematics.aim(rotations, root, offsets, places)
    turns, found = kinematics.forward(aimed, moved, offsets)
    before, was = kinematics.forward(rotations, root, offsets)
    np.testing.assert_array_equal(moved, places[:, 0])
    joints = [j for j, c in enumerate(MAIN_CHILD) if c >= 0]
    children = [MAIN_CHILD[j] for j in joints]
    unit = lambda p: rot.normalize(p[:, children] - p[:, joints])  # noqa: E731
    np.testing.assert_allclose(unit(found), unit(places), atol=1e-9)
    between = np.arccos(np.clip((unit(was) * unit(places)).sum(axis=-1), -1, 1))
    np.testing.assert_allclose(rot.angle(turns, before)[:, joints], between, atol=1e-6)
    leaves = [j for j, c in enumerate(MAIN_CHILD) if c < 0]
    np.testing.assert_array_equal(aimed[:, leaves], rotations[:, leaves])


def test_aiming_where_a_body_is_changes_nothing(val_motion):
    q, root = val_motion.rotations.astype(np.float64), val_motion.root.astype(np.float64)
    offsets = val_motion.skeleton.offsets.astype(np.float64)  # one bone of it has no length
    aimed, moved = kinematics.aim(q, root, offsets, kinematics.positions(q, root, offsets))
    assert rot.angle(aimed, q).max() < 1e-7
    np.testing.assert_allclose(moved, root, atol=1e-12)
