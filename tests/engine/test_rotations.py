"""Rotations against SciPy, NumPy against torch, round trips, gradients where they are delicate."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.spatial.transform import Rotation, Slerp

from mmdm_engine import rotations as rot

QUATERNIONS = hnp.arrays(np.float64, (5, 4), elements=st.floats(-1, 1)).filter(
    lambda q: bool((np.linalg.norm(q, axis=-1) > 0.1).all())
)
VECTORS = hnp.arrays(np.float64, (5, 3), elements=st.floats(-1.7, 1.7))


def scipy_of(q: np.ndarray) -> Rotation:
    return Rotation.from_quat(np.asarray(q).reshape(-1, 4)[:, [1, 2, 3, 0]])


def random_rotations(count: int, seed: int = 0) -> np.ndarray:
    return rot.normalize(np.random.default_rng(seed).standard_normal((count, 4)))


def same_rotation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.max(rot.angle(a, b)))


def test_against_scipy():
    a, b, v = random_rotations(50), random_rotations(50, 1), np.random.default_rng(2).standard_normal((50, 3))
    product = (scipy_of(a) * scipy_of(b)).as_matrix()
    np.testing.assert_allclose(rot.to_matrix(rot.multiply(a, b)), product, atol=1e-12)
    np.testing.assert_allclose(rot.rotate(a, v), scipy_of(a).apply(v), atol=1e-12)
    np.testing.assert_allclose(rot.log(a), scipy_of(a).as_rotvec(), atol=1e-9)
    np.testing.assert_allclose(rot.to_matrix(rot.exp(v)), Rotation.from_rotvec(v).as_matrix(), atol=1e-9)
    np.testing.assert_allclose(rot.angle(a, b), (scipy_of(a).inv() * scipy_of(b)).magnitude(), atol=1e-9)
    for t in (0.0, 0.3, 1.0):
        ours = rot.slerp(a, b, t)
        for i in range(50):
            theirs = Slerp([0, 1], Rotation.concatenate([scipy_of(a[i]), scipy_of(b[i])]))(t)
            np.testing.assert_allclose(rot.to_matrix(ours[i]), theirs.as_matrix(), atol=1e-7)


@given(QUATERNIONS)
@settings(max_examples=50, deadline=None)
def test_matrix_and_6d_round_trips(q):
    q = rot.normalize(q)
    assert same_rotation(rot.from_matrix(rot.to_matrix(q)), q) < 1e-7
    assert same_rotation(rot.from_6d(rot.to_6d(q)), q) < 1e-6
    np.testing.assert_allclose(
        rot.to_6d(q), np.concatenate(np.moveaxis(rot.to_matrix(q), -1, 0)[:2], axis=-1), atol=1e-12
    )


@given(VECTORS)
@settings(max_examples=50, deadline=None)
def test_exp_and_log_are_inverse(v):
    np.testing.assert_allclose(rot.log(rot.exp(v)), v, atol=1e-7)


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-5, 1e-3, 3.14159, np.pi])
def test_log_of_tiny_and_half_turns(angle):
    axis = np.array([0.6, 0.0, 0.8])
    q = rot.exp(axis * angle)
    assert np.linalg.norm(rot.log(q)) == pytest.approx(angle, abs=1e-7)
    assert rot.angle(np.array(rot.IDENTITY), q) == pytest.approx(angle, abs=1e-9)


def test_6d_takes_any_two_independent_columns():
    d = np.random.default_rng(3).standard_normal((20, 6)) * 5
    m = rot.to_matrix(rot.from_6d(d))
    np.testing.assert_allclose(m @ np.swapaxes(m, -1, -2), np.broadcast_to(np.eye(3), m.shape), atol=1e-9)
    np.testing.assert_allclose(m[..., 0], d[:, :3] / np.linalg.norm(d[:, :3], axis=-1, keepdims=True), atol=1e-9)


def test_continuous_removes_sign_jumps_and_nothing_else():
    walk = np.cumsum(np.random.default_rng(4).standard_normal((40, 3, 4)) * 0.05, axis=0)
    q = rot.normalize(walk + np.array(rot.IDENTITY))
    flipped = q * np.random.default_rng(5).choice([-1.0, 1.0], (40, 3, 1))
    out = rot.continuous(flipped)
    assert (np.sum(out[1:] * out[:-1], axis=-1) > 0).all()
    assert same_rotation(out, q) < 1e-7


def test_shortest_arc_also_between_opposites():
    rng = np.random.default_rng(6)
    a, b = rng.standard_normal((30, 3)), rng.standard_normal((30, 3))
    b[:10] = -a[:10]
    q = rot.shortest_arc(a, b)
    np.testing.assert_allclose(rot.rotate(q, rot.normalize(a)), rot.normalize(b), atol=1e-6)
    between = np.arccos(np.clip(np.sum(rot.normalize(a) * rot.normalize(b), axis=-1), -1, 1))
    np.testing.assert_allclose(rot.angle(np.array(rot.IDENTITY), q), between, atol=1e-5)


def test_heading_turns_with_the_character_even_lying_down():
    yaw = np.linspace(-3, 3, 9)
    for pose in (np.array(rot.IDENTITY), rot.exp(np.array([np.pi / 2, 0, 0]))):
        flat = rot.heading(rot.multiply(rot.about_y(yaw), pose))
        start = rot.heading(pose)
        turned = np.arctan2(flat[:, 0], flat[:, 1]) - np.arctan2(start[0], start[1])
        np.testing.assert_allclose(np.angle(np.exp(1j * (turned - yaw))), 0, atol=1e-9)


def test_numpy_and_torch_agree():
    torch = pytest.importorskip("torch")
    a, b, v = random_rotations(20), random_rotations(20, 1), np.random.default_rng(2).standard_normal((20, 3))
    ta, tb, tv = (torch.from_numpy(x) for x in (a, b, v))
    pairs = [
        (rot.multiply(a, b), rot.multiply(ta, tb)), (rot.rotate(a, v), rot.rotate(ta, tv)),
        (rot.log(a), rot.log(ta)), (rot.exp(v), rot.exp(tv)), (rot.to_6d(a), rot.to_6d(ta)),
        (rot.from_6d(rot.to_6d(a)), rot.from_6d(rot.to_6d(ta))), (rot.to_matrix(a), rot.to_matrix(ta)),
        (rot.slerp(a, b, 0.25), rot.slerp(ta, tb, 0.25)), (rot.angle(a, b), rot.angle(ta, tb)),
        (rot.continuous(a), rot.continuous(ta)),
        (rot.shortest_arc(v, v[::-1].copy()), rot.shortest_arc(tv, tv.flip(0))),
        (rot.heading(a), rot.heading(ta)),
    ]  # fmt: skip
    for ours, theirs in pairs:
        np.testing.assert_allclose(ours, theirs.numpy(), atol=1e-12)


@pytest.mark.parametrize(
    "q", [(1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 0, 1), (1, 1e-12, 0, 0), (0.70710678, 0, 0.70710678, 0)]
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gradients_are_finite_at_identity_and_half_turn(q, dtype):
    torch = pytest.importorskip("torch")
    q = torch.tensor([q], dtype=getattr(torch, dtype), requires_grad=True)
    still = torch.tensor([rot.IDENTITY], dtype=q.dtype)
    functions = [
        lambda: rot.log(q), lambda: rot.exp(rot.log(q)), lambda: rot.angle(q, still + 0), lambda: rot.to_6d(q),
        lambda: rot.from_6d(rot.to_6d(q)), lambda: rot.slerp(still, q, 0.5), lambda: rot.heading(q),
        lambda: rot.normalize(q), lambda: rot.exp(q[:, 1:] * 0),
    ]  # fmt: skip
    for function in functions:
        (gradient,) = torch.autograd.grad(function().sum(), q)
        assert torch.isfinite(gradient).all()
