"""The motion contract: validation sentences, and rest alignment whatever the placement, scale or pose of the rest."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmdm_engine import kinematics
from mmdm_engine import rotations as rot
from mmdm_engine.contract import (
    CANONICAL_DIRECTIONS,
    JOINTS,
    MAIN_CHILD,
    MIRROR,
    PARENTS,
    Motion,
    MotionError,
    Skeleton,
)
from mmdm_engine.contract.rest import RestPose, align, anatomical_frame
from mmdm_engine.contract.skeleton import INDEX, LIMBS

STILL = np.tile(np.array(rot.IDENTITY), (22, 1))


def figure() -> np.ndarray:
    """(22, 3) rest positions of a T-pose facing +Z whose anatomical frame is the world's."""
    offsets = np.zeros((22, 3))
    lengths = np.full(22, 0.12)
    lengths[[4, 5, 7, 8]] = 0.42
    lengths[[18, 19, 20, 21]] = 0.27
    for j in range(22):
        if MAIN_CHILD[j] >= 0:
            offsets[MAIN_CHILD[j]] = CANONICAL_DIRECTIONS[j] * lengths[MAIN_CHILD[j]]
    offsets[1], offsets[2] = (0.09, -0.08, 0), (-0.09, -0.08, 0)
    offsets[13], offsets[14] = (0.03, 0.1, 0), (-0.03, 0.1, 0)
    return kinematics.positions(STILL, np.array([0.3, 0.95, -0.2]), offsets)


def rest(heads: np.ndarray, absent: tuple[str, ...] = ()) -> RestPose:
    exists = np.ones(22, bool)
    exists[[INDEX[name] for name in absent]] = False
    return RestPose(heads, exists, np.full((22, 3), np.nan))


def movement(frames: int = 8, seed: int = 0) -> np.ndarray:
    """(T, 22, 4) world rotations from rest."""
    return rot.exp(np.random.default_rng(seed).standard_normal((frames, 22, 3)) * 0.6)


def turned(from_rest: np.ndarray, world: np.ndarray) -> np.ndarray:
    """What the same bones do from a rest pose that was turned by ``world`` before: the pose on screen is the same."""
    return rot.multiply(from_rest, rot.conjugate(world))


def bent(heads: np.ndarray, joint: int, turn: np.ndarray) -> np.ndarray:
    """Rest positions with everything below a joint turned about it."""
    heads = heads.copy()
    for j in range(22):
        above = j
        while PARENTS[above] >= 0 and PARENTS[above] != joint:
            above = PARENTS[above]
        if PARENTS[above] == joint:
            heads[j] = heads[joint] + rot.rotate(turn, heads[j] - heads[joint])
    return heads


def test_tables_agree():
    assert len(JOINTS) == len(PARENTS) == len(MIRROR) == len(MAIN_CHILD) == 22
    assert all(MIRROR[MIRROR[j]] == j for j in range(22))
    assert all(PARENTS[child] == j for j, child in enumerate(MAIN_CHILD) if child >= 0)
    np.testing.assert_allclose(np.linalg.norm(CANONICAL_DIRECTIONS, axis=-1), 1)
    np.testing.assert_allclose(CANONICAL_DIRECTIONS[list(MIRROR)] * (-1, 1, 1), CANONICAL_DIRECTIONS)


def test_a_canonical_rest_needs_no_correction():
    alignment = align(rest(figure()))
    assert rot.angle(alignment.frame, np.array(rot.IDENTITY)) < 1e-7
    assert rot.angle(alignment.corrections, STILL).max() < 1e-7
    local = rot.exp(np.random.default_rng(1).standard_normal((5, 22, 3)) * 0.4)
    turns, _ = kinematics.forward(local, np.zeros((5, 3)), np.zeros((22, 3)))
    assert rot.angle(alignment.to_canonical(turns), local).max() < 1e-7


@given(st.tuples(*[st.floats(-3, 3)] * 3), st.floats(0.01, 100), st.tuples(*[st.floats(-50, 50)] * 3))
@settings(max_examples=60, deadline=None)
def test_place_turn_and_size_of_the_rest_do_not_matter(axis, scale, shift):
    world = rot.exp(np.array(axis))
    plain, from_rest = align(rest(figure())), movement()
    moved = align(rest(rot.rotate(world, figure()) * scale + np.array(shift)))
    wanted, found = plain.to_canonical(from_rest), moved.to_canonical(turned(from_rest, world))
    assert rot.angle(wanted, found).max() < 1e-6
    np.testing.assert_allclose(moved.skeleton.offsets, plain.skeleton.offsets * scale, rtol=1e-5, atol=1e-6 * scale)


@pytest.mark.parametrize("degrees", [-45.0, -20.0, 30.0])
def test_an_a_pose_gives_the_rotations_of_the_t_pose(degrees):
    """Arms lowered and legs splayed in the rest pose are undone, without roll of hands and feet."""
    heads, posed = figure(), np.zeros((22, 4))
    posed[:, 0] = 1
    for joint, side in ((16, -1), (17, 1), (1, 1), (2, -1)):
        turn = rot.exp(np.array([0, 0, np.radians(degrees * side * (1 if joint > 3 else 0.4))]))
        heads = bent(heads, joint, turn)
        for limb in LIMBS:
            if joint in limb:
                posed[list(limb[limb.index(joint) :])] = turn
    plain, from_rest = align(rest(figure())), movement()
    a_pose = align(rest(heads))
    assert (
        rot.angle(
            plain.to_canonical(from_rest), a_pose.to_canonical(rot.multiply(from_rest, rot.conjugate(posed)))
        ).max()
        < 1e-6
    )
    np.testing.assert_allclose(a_pose.skeleton.offsets, plain.skeleton.offsets, atol=1e-6)


@pytest.mark.parametrize(
    "absent",
    [
        ("left_foot", "right_foot"), ("left_collar", "right_collar"), ("spine2",), ("spine2", "spine3"), ("neck",),
        ("neck", "head"), ("left_wrist", "right_wrist"), ("spine1", "spine2", "spine3", "neck", "head"),
        ("left_foot", "right_foot", "left_collar", "right_collar", "spine1", "spine2", "neck"),
    ],
)  # fmt: skip
def test_absent_joints_are_legal_and_stay_still(absent):
    heads = figure()
    heads[[INDEX[name] for name in absent]] = np.nan  # their rows must not be read
    alignment, from_rest = align(rest(heads, absent)), movement()
    local = alignment.to_canonical(from_rest)
    assert np.isfinite(local).all()
    assert np.isfinite(alignment.skeleton.offsets).all()
    gone = [INDEX[name] for name in absent]
    assert not alignment.skeleton.exists[gone].any()
    assert rot.angle(local[:, gone], STILL[gone]).max() < 1e-9
    kept = alignment.skeleton.exists
    assert rot.angle(alignment.from_canonical(local)[:, kept], from_rest[:, kept]).max() < 1e-7
    assert alignment.skeleton.leg_length == pytest.approx(0.84)


@given(st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_from_canonical_is_the_inverse_for_any_rest(seed):
    rng = np.random.default_rng(seed)
    heads = figure() + rng.standard_normal((22, 3)) * 0.03
    alignment, from_rest = align(rest(heads)), movement(seed=seed)
    assert rot.angle(alignment.from_canonical(alignment.to_canonical(from_rest)), from_rest).max() < 1e-6


def test_canonical_kinematics_show_the_same_figure():
    """Positions from canonical rotations and offsets are those of the source bones, in the anatomical frame's world."""
    heads = figure() + np.random.default_rng(7).standard_normal((22, 3)) * 0.03
    from_rest = movement(seed=8)
    alignment = align(rest(heads))
    points = kinematics.positions(
        alignment.to_canonical(from_rest), np.zeros((8, 3)), alignment.skeleton.offsets.astype(np.float64)
    )
    wanted = np.zeros((8, 22, 3))
    for j in range(1, 22):
        wanted[:, j] = wanted[:, PARENTS[j]] + rot.rotate(from_rest[:, PARENTS[j]], heads[j] - heads[PARENTS[j]])
    np.testing.assert_allclose(points, wanted, atol=1e-6)


def test_the_anatomical_frame_is_a_rotation():
    for seed in range(5):
        frame = anatomical_frame(
            figure() + np.random.default_rng(seed).standard_normal((22, 3)) * 0.03, np.ones(22, bool)
        )
        np.testing.assert_allclose(frame.T @ frame, np.eye(3), atol=1e-12)
        assert np.linalg.det(frame) == pytest.approx(1)


@pytest.mark.parametrize("name", ["left_hip", "right_knee", "pelvis"])
def test_missing_legs_say_which(name):
    with pytest.raises(MotionError, match=name.replace("_", " ")):
        align(rest(figure(), (name,)))


def test_hips_in_one_point_are_refused():
    heads = figure()
    heads[1] = heads[2]
    with pytest.raises(MotionError, match="hips"):
        align(rest(heads))


# --- Motion and Skeleton -------------------------------------------------------------------------------------------


def motion(frames: int = 4) -> Motion:
    rotations = np.zeros((frames, 22, 4), np.float32)
    rotations[..., 0] = 1
    return Motion(rotations, np.zeros((frames, 3), np.float32), Skeleton(np.ones((22, 3)) * 0.1), 30)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"rotations": np.zeros((4, 21, 4))}, r"\(frames, 22, 4\), not \(4, 21, 4\)"),
        ({"root": np.zeros((3, 3))}, r"root must have shape \(4, 3\)"),
        ({"fps": 0.0}, "positive number, not 0"),
        ({"fps": float("nan")}, "positive number, not nan"),
    ],
)
def test_motion_refuses_what_does_not_fit(change, sentence):
    good = motion()
    parts = {"rotations": good.rotations, "root": good.root, "skeleton": good.skeleton, "fps": good.fps} | change
    with pytest.raises(MotionError, match=sentence):
        Motion(**parts)


@pytest.mark.parametrize(
    ("offsets", "exists", "sentence"),
    [
        (np.zeros((21, 3)), None, r"offsets must have shape \(22, 3\)"),
        (np.full((22, 3), np.nan), None, "NaN or infinite"),
        (np.zeros((22, 3)), np.ones(3, bool), r"exists must have shape \(22,\)"),
    ],
)
def test_skeleton_refuses_what_does_not_fit(offsets, exists, sentence):
    with pytest.raises(MotionError, match=sentence):
        Skeleton(offsets, exists)


def test_a_skeleton_without_legs_has_no_unit():
    with pytest.raises(MotionError, match="legs of length zero"):
        _ = Skeleton(np.zeros((22, 3))).leg_length


def test_bad_values_are_named_by_frame_and_joint_unless_hidden():
    bad = motion()
    bad.rotations[2, 4, 1] = np.nan
    with pytest.raises(MotionError, match="rotation of left_knee in frame 2"):
        bad.require_finite()
    observed = np.ones((4, 23), bool)
    observed[2, 4] = False
    bad.require_finite(observed)
    bad.root[1] = np.inf
    with pytest.raises(MotionError, match="root position in frame 1"):
        bad.require_finite(observed)
    zero = motion()
    zero.rotations[0, 0] = 0
    with pytest.raises(MotionError, match="rotation of pelvis in frame 0"):
        zero.require_finite()


def test_slices_keep_character_and_rate():
    part = motion(6).slice(2, 5)
    assert len(part) == 3
    assert part.fps == 30
