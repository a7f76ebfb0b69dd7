"""Every figure on a case that can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from mmdm_engine import metrics
from mmdm_engine import rotations as rot
from mmdm_engine.contract import JOINTS

N, T = 3, 8


def _about(axis: int, degrees: np.ndarray | float) -> np.ndarray:
    half = np.radians(np.asarray(degrees, float)) / 2
    q = np.zeros((*half.shape, 4))
    q[..., 0], q[..., 1 + axis] = np.cos(half), np.sin(half)
    return q


def _identity(*shape: int) -> np.ndarray:
    return np.broadcast_to(rot.IDENTITY, (*shape, 4)).copy()


def _offsets(n: int = N) -> np.ndarray:
    offsets = np.zeros((n, 22, 3))
    offsets[:, 1:, 1] = 0.1
    return offsets


def _random(seed: int = 0):
    rng = np.random.default_rng(seed)
    q = rot.continuous(rot.normalize(np.cumsum(rng.normal(scale=0.3, size=(N, T, 22, 4)), 1) + 1), axis=1)
    return q, np.cumsum(rng.normal(size=(N, T, 3)), 1)


def test_score_is_a_weighted_mean_and_can_be_resampled():
    score = metrics.Score(np.array([2.0, 9.0]), np.array([1.0, 3.0]))
    assert score.value == pytest.approx(11 / 4)
    assert score.of(np.array([1, 1])).value == pytest.approx(3)
    assert score.of(np.array([True, False])).value == pytest.approx(2)
    assert np.isnan(score.of(np.array([], int)).value)


def test_leaves_are_the_joints_that_move_nothing():
    assert {JOINTS[j] for j in metrics.LEAVES} == {"left_foot", "right_foot", "head", "left_wrist", "right_wrist"}
    assert sorted(metrics.LEAVES + metrics.BODY) == list(range(22))
    assert [JOINTS[j] for j in metrics.FEET] == ["left_ankle", "left_foot", "right_ankle", "right_foot"]


def test_mpjpe_is_in_millimetres():
    truth = np.zeros((1, 2, 2, 3))
    positions = truth.copy()
    positions[0, 0, 0] = [0.003, 0.004, 0.0]  # 5 mm in one of four places
    assert metrics.mpjpe(positions, truth).value == pytest.approx(5 / 4)


def test_accel_sees_only_the_second_difference():
    t = np.arange(6.0)[None, :, None, None] * np.ones((1, 1, 2, 3))
    truth = np.zeros((1, 6, 2, 3))
    assert metrics.accel(truth + 0.01 * t + 0.5, truth).value == pytest.approx(0, abs=1e-9)
    curved = truth.copy()
    curved[..., 1] = 0.001 * t[..., 1] ** 2  # second difference 2 mm
    assert metrics.accel(curved, truth).value == pytest.approx(2)


def test_jitter_is_the_third_derivative_per_second_cubed():
    fps = 10.0
    t = np.arange(8) / fps
    positions = np.zeros((1, 8, 1, 3))
    positions[0, :, 0, 0] = t**3  # third derivative 6
    assert metrics.jitter(positions, fps).value == pytest.approx(6)


def test_foot_slide_counts_standing_steps_only_and_no_height():
    feet = np.zeros((1, 4, 2, 3))
    feet[0, :, 0, 0] = [0.0, 0.01, 0.03, 0.03]  # 1 cm, 2 cm, 0 per frame
    feet[0, :, 0, 1] = [0.0, 0.5, 0.0, 0.5]
    feet[0, :, 1, 2] = [0, 1, 2, 3]  # in the air throughout
    contact = np.zeros((1, 4, 2), bool)
    contact[0, :3, 0] = True
    assert metrics.foot_slide(feet, contact, 30.0).value == pytest.approx((1 + 2) / 2 * 30)
    assert np.isnan(metrics.foot_slide(feet, np.zeros_like(contact), 30.0).value)


def test_pcp_halves_the_limb_and_skips_what_is_not_annotated():
    truth = np.zeros((1, 4, 3, 3))
    truth[..., 1, 1], truth[..., 2, 1] = 0.4, 0.8
    found = truth.copy()
    found[0, 0, 0, 0] = 0.39  # mean end error 0.195 ≤ 0.2: right
    found[0, 1, 0, 0] = 0.41  # 0.205: wrong
    found[0, 2, 2] = np.nan  # not found: wrong
    truth[0, 3, 1] = np.nan  # not annotated: both limbs out
    limbs = np.array([(0, 1), (1, 2)])
    score = metrics.pcp(found, truth, limbs)
    assert score.weight.sum() == 6
    assert score.value == pytest.approx(100 * 4 / 6)
    assert metrics.pcp(found, truth, limbs, alpha=0.6).value == pytest.approx(100 * 5 / 6)


def test_pcp_without_limbs_takes_every_bone_with_a_length():
    positions = np.random.default_rng(0).normal(size=(1, 2, 22, 3))
    positions[..., 3, :] = positions[..., 0, :]  # spine1 on the pelvis
    score = metrics.pcp(positions, positions)
    assert score.weight.sum() == 2 * 20
    assert score.value == pytest.approx(100)


def test_angle_keeps_leaves_apart_and_ignores_signs():
    truth = _identity(1, 2, 22)
    found = truth.copy()
    found[0, :, 4] = -_about(0, 34.0)  # one of 17 body joints
    found[0, :, 15] = _about(2, 10.0)  # one of 5 leaves
    assert metrics.angle(found, truth).value == pytest.approx(2)
    assert metrics.angle(found, truth, metrics.LEAVES).value == pytest.approx(2)


def test_euler_is_about_fixed_axes_and_unwrapped():
    degrees = np.linspace(0, 400, 41)
    angles = np.degrees(metrics.euler(_about(2, degrees)[None, :, None]))
    np.testing.assert_allclose(angles[0, :, 0, 2], degrees, atol=1e-9)
    x, y, z = 20.0, -35.0, 70.0
    q = rot.multiply(_about(2, z), rot.multiply(_about(1, y), _about(0, x)))
    np.testing.assert_allclose(np.degrees(metrics.euler(q[None, None, None])).ravel(), [x, y, z], atol=1e-9)


@pytest.mark.filterwarnings("error")
def test_euler_at_gimbal_lock_is_quiet_and_still_right():
    q = np.broadcast_to(rot.multiply(_about(1, 90.0), _about(0, 30.0)), (1, 4, 1, 4))
    x, y, z = metrics.euler(q)[0, 0, 0]
    back = rot.multiply(_about(2, np.degrees(z)), rot.multiply(_about(1, np.degrees(y)), _about(0, np.degrees(x))))
    assert np.degrees(rot.angle(back, q[0, 0, 0])) < 1e-4


def test_npss_of_one_cosine_against_another():
    """A cosine of k turns in 8 frames has its power in bins k and 8 - k, half each."""
    t = np.arange(8)
    one, two = (np.cos(2 * np.pi * k * t / 8)[None, :, None] for k in (1, 2))
    # running sums, bins 0-7: 0 ½ ½ ½ ½ ½ ½ 1 against 0 0 ½ ½ ½ ½ 1 1 → ½ + ½
    assert metrics.npss(two, one).value == pytest.approx(1.0)
    assert metrics.npss(one, one).value == pytest.approx(0.0, abs=1e-12)
    assert metrics.npss(3 * one, one).value == pytest.approx(0.0, abs=1e-12)


def test_npss_weighs_features_by_the_power_of_the_truth_over_all_sequences():
    t = np.arange(8)
    one, two = (np.cos(2 * np.pi * k * t / 8) for k in (1, 2))
    truth = np.stack([np.stack([one, 3 * one], -1), np.stack([one, one], -1)])
    found = np.stack([np.stack([two, 3 * one], -1), np.stack([one, one], -1)])
    # powers 1, 9 and 1, 1; only the first is wrong, by 1
    assert metrics.npss(found, truth).value == pytest.approx(1 / 12)


def test_npss_is_finite_without_power():
    still = np.zeros((1, 6, 3))
    moving = np.random.default_rng(0).normal(size=(1, 6, 3))
    assert np.isnan(metrics.npss(moving, still).value)  # nothing to compare: no weight rather than a number
    assert np.isfinite(metrics.npss(still, moving).value)
    mixed = np.concatenate([still, moving], axis=2)
    assert metrics.npss(mixed, mixed).value == pytest.approx(0)


def test_npss_is_the_published_computation():
    """Harvey et al.'s steps, written out feature by feature."""
    rng = np.random.default_rng(1)
    truth, found = rng.normal(size=(2, 5, 9, 4))
    distances, weights = [], []
    for n in range(5):
        for f in range(4):
            a, b = (np.fft.fft(x[n, :, f]).real ** 2 for x in (truth, found))
            weights.append(a.sum())
            distances.append(np.abs(np.cumsum(b / b.sum()) - np.cumsum(a / a.sum())).sum())
    assert metrics.npss(found, truth).value == pytest.approx(np.average(distances, weights=weights))


def test_table5_is_zero_for_equal_motion_whatever_the_signs():
    q, p = _random()
    flips = np.where(np.random.default_rng(1).random((N, T, 22, 1)) < 0.5, -1, 1)
    for score in metrics.table5(q * flips, p, q, p, _offsets()).values():
        assert score.value == pytest.approx(0, abs=1e-12)


def test_table5_l2p_starts_at_the_first_frame_and_is_root_mean_square():
    q = _identity(N, T, 22)
    truth = np.zeros((N, T, 3))
    found = truth + np.array([5.0, 0.0, 0.0])  # a constant shift is no error
    assert metrics.table5(q, found, q, truth, _offsets())["l2p"].value == pytest.approx(0)
    found = found.copy()
    found[0, 1:, 0] += 0.3  # one sequence of three, 7 of 8 frames, one of three coordinates
    expected = np.sqrt(0.3**2 * 7 / 8 / 3) / 3
    assert metrics.table5(q, found, q, truth, _offsets())["l2p"].value == pytest.approx(expected)


def test_table5_l2q_is_local():
    truth = _identity(1, 4, 22)
    found = truth.copy()
    found[:, :, 0] = _about(1, 60.0)  # the root alone: global rotations would all differ
    difference = np.square(_about(1, 60.0) - _identity(1)[0]).sum()
    score = metrics.table5(found, np.zeros((1, 4, 3)), truth, np.zeros((1, 4, 3)), _offsets(1))["l2q"]
    assert score.value == pytest.approx(np.sqrt(difference / 88))


def test_table5_npss_does_not_break_when_a_walker_turns_round():
    """Heading is the last Euler angle; as the middle one it would flip the others past a quarter turn."""
    degrees = np.linspace(0, 350, 40)
    q = _identity(1, 40, 22)
    q[0, :, 0] = rot.multiply(_about(1, degrees), _about(0, 4 * np.sin(degrees / 9)))
    angles = metrics.euler(metrics._z_up(q))[0, :, 0]
    assert np.abs(np.diff(angles, axis=0)).max() < np.radians(12)
    np.testing.assert_allclose(np.degrees(angles[-1, 2] - angles[0, 2]), 350, atol=5)


def test_table5_npss_ignores_whole_turns():
    degrees = np.linspace(170, 190, T)
    q = _identity(1, T, 22)
    q[0, :, 5] = _about(2, degrees)
    late = q.copy()
    late[0, 0, 5] = _about(2, -170.0)
    found = metrics.table5(late, np.zeros((1, T, 3)), q, np.zeros((1, T, 3)), _offsets(1))["npss"].value
    assert found < 0.05  # a 20° difference in one frame, not 360° in the others


@pytest.mark.parametrize("yaw", [0.0, 70.0, 180.0, -120.0])
def test_facing_x_turns_any_heading(yaw):
    q = rot.multiply(metrics.facing_x(_about(1, yaw)), _about(1, yaw))
    np.testing.assert_allclose(rot.rotate(q, np.array([0.0, 0.0, 1.0])), [1, 0, 0], atol=1e-12)


def test_lafan1_l2p_is_a_z_scored_length_in_the_turned_frame():
    q = _identity(1, 4, 22)
    last_past = _about(1, np.array([90.0]))  # already faces +X
    truth = np.zeros((1, 4, 3))
    found = truth + np.array([0.2, 0.0, 0.0])
    deviation = np.full((22, 3), 0.5)
    deviation[:, 0] = 0.1
    score = metrics.lafan1(q, found, q, truth, _offsets(1), last_past, deviation)
    assert score["l2p"].value == pytest.approx(np.sqrt(22) * 2)
    # facing +Z instead, world X becomes −Z of the turned frame
    score = metrics.lafan1(q, found, q, truth, _offsets(1), _identity(1), deviation)
    assert score["l2p"].value == pytest.approx(np.sqrt(22) * 0.4)


def test_lafan1_l2q_is_global_and_a_length():
    truth = _identity(1, 4, 22)
    found = truth.copy()
    found[:, :, 0] = _about(1, 60.0)
    zero = np.zeros((1, 4, 3))
    score = metrics.lafan1(found, zero, truth, zero, _offsets(1), _identity(1), np.ones((22, 3)))["l2q"]
    difference = np.square(_about(1, 60.0) - _identity(1)[0]).sum()
    assert score.value == pytest.approx(np.sqrt(22 * difference))


def test_lafan1_does_not_care_where_the_world_faces():
    (q, p), (q2, p2) = _random(), _random(1)
    turn, shift = _about(1, 130.0), np.array([3.0, 0.0, -2.0])

    def turned(q, p):
        q = q.copy()
        q[:, :, 0] = rot.multiply(turn, q[:, :, 0])
        return q, rot.rotate(turn, p) + shift

    deviation = np.random.default_rng(3).uniform(0.1, 1, (22, 3))
    one = metrics.lafan1(q2, p2, q, p, _offsets(), q[:, 0, 0], deviation)
    (qt, pt), (q2t, p2t) = turned(q, p), turned(q2, p2)
    two = metrics.lafan1(q2t, p2t, qt, pt, _offsets(), qt[:, 0, 0], deviation)
    for name in one:
        assert one[name].value == pytest.approx(two[name].value, rel=1e-9)


def test_lafan1_statistics_centre_and_turn_each_window():
    steps = np.linspace(-1, 1, 50)
    rotations, root = _identity(2, 50, 22), np.zeros((2, 50, 3))
    root[0, :, 2] = 7 + steps  # faces +Z and walks along it
    rotations[1, :, 0] = _about(1, -90.0)
    root[1, :, 0] = 3 - steps  # faces −X and walks along it
    offsets = np.zeros((2, 22, 3))
    found = metrics.lafan1_statistics(rotations, root, offsets)
    np.testing.assert_allclose(found, np.broadcast_to([steps.std(), 0, 0], (22, 3)), atol=1e-12)
