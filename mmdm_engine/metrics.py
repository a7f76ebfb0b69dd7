"""How far a motion is from the truth, in the units that the field reports.

Everything is NumPy, float64 inside, and batched: N sequences of T frames, J joints. A function returns a `Score` with
one entry per sequence, so that totals, per-category figures and bootstrap bounds all come from one evaluation. Two
families of in-betweening figures exist under the same names and are never mixed: `table5` (local rotations, metres)
and `lafan1` (global rotations, z-scored positions).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np

from . import kinematics
from . import rotations as rot
from .contract import JOINTS, PARENTS

LEAVES: tuple[int, ...] = tuple(j for j in range(22) if j not in PARENTS)
"""Joints whose rotation moves no other joint: position errors cannot see them (toes, head, wrists)."""

BODY: tuple[int, ...] = tuple(j for j in range(22) if j not in LEAVES)

FEET: tuple[int, ...] = tuple(JOINTS.index(n) for n in ("left_ankle", "left_foot", "right_ankle", "right_foot"))


@dataclass(frozen=True, eq=False)
class Score:
    """A figure as a weighted mean: value = Σ total / Σ weight over sequences.

    total, weight: (N,) float64.
    """

    total: np.ndarray
    weight: np.ndarray

    @property
    def value(self) -> float:
        """The figure over all sequences; NaN where nothing carries weight."""
        weight = float(self.weight.sum())
        return float(self.total.sum()) / weight if weight > 0 else float("nan")

    def of(self, rows: np.ndarray) -> Score:
        """The figure's parts for some sequences (indices, repeats allowed, or a bool mask)."""
        return Score(self.total[rows], self.weight[rows])


def _mean(per_sequence: np.ndarray) -> Score:
    values = np.asarray(per_sequence, np.float64).reshape(-1)
    return Score(values, np.ones_like(values))


def same_hemisphere(quaternions: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(..., 4) with signs that lie nearest to the truth's: q and −q are one rotation and must not count as an error."""
    dots = np.sum(quaternions * truth, axis=-1, keepdims=True)
    return np.where(dots < 0, -quaternions, quaternions)


# --- positions ------------------------------------------------------------------------------------------------------


def mpjpe(positions: np.ndarray, truth: np.ndarray) -> Score:
    """Mean distance of joints in millimetres. (N, T, J, 3) metres each."""
    return _mean(1000 * np.linalg.norm(positions - truth, axis=-1).mean(axis=(1, 2)))


def accel(positions: np.ndarray, truth: np.ndarray) -> Score:
    """Mean length of the error of the second difference, mm per frame². (N, T ≥ 3, J, 3) metres."""
    return _mean(1000 * np.linalg.norm(np.diff(positions - truth, 2, axis=1), axis=-1).mean(axis=(1, 2)))


def jitter(positions: np.ndarray, fps: float) -> Score:
    """Mean length of the third derivative, m/s³; needs no truth. (N, T ≥ 4, J, 3) metres."""
    return _mean(fps**3 * np.linalg.norm(np.diff(positions, 3, axis=1), axis=-1).mean(axis=(1, 2)))


def foot_slide(feet: np.ndarray, contact: np.ndarray, fps: float) -> Score:
    """Mean horizontal speed of feet that ought to stand, cm/s.

    feet: (N, T, F, 3) metres. contact: (N, T, F) bool, usually the truth's; a step counts where both its frames touch.
    """
    step = np.linalg.norm(np.diff(feet[..., [0, 2]], axis=1), axis=-1) * fps * 100
    both = contact[:, 1:] & contact[:, :-1]
    return Score((step * both).sum(axis=(1, 2)), both.sum(axis=(1, 2)).astype(np.float64))


def pcp(positions: np.ndarray, truth: np.ndarray, limbs: np.ndarray | None = None, alpha: float = 0.5) -> Score:
    """Percentage of correct parts: the mean of a limb's two end errors is at most ``alpha`` times its true length.

    positions, truth: (N, T, J, 3). limbs: (L, 2) joint pairs; None = every bone of SMPL-22 that has a length.
    A limb with a NaN end in the truth is not counted; one with a NaN end in ``positions`` is wrong.
    """
    pairs = np.array([(PARENTS[j], j) for j in range(1, 22)]) if limbs is None else np.asarray(limbs)
    error = np.linalg.norm(positions - truth, axis=-1)
    length = np.linalg.norm(truth[..., pairs[:, 0], :] - truth[..., pairs[:, 1], :], axis=-1)
    counted = length > 1e-6  # false for NaN
    with np.errstate(invalid="ignore"):
        right = (error[..., pairs[:, 0]] + error[..., pairs[:, 1]]) / 2 <= alpha * length
    return Score(100.0 * (right & counted).sum(axis=(1, 2)), counted.sum(axis=(1, 2)).astype(np.float64))


# --- rotations ------------------------------------------------------------------------------------------------------


def angle(rotations: np.ndarray, truth: np.ndarray, joints: tuple[int, ...] = BODY) -> Score:
    """Mean angle between local rotations in degrees, over ``joints``. (N, T, 22, 4) each."""
    a, b = (x[..., list(joints), :].astype(np.float64) for x in (rotations, truth))
    return _mean(np.degrees(rot.angle(rot.normalize(a), rot.normalize(b))).mean(axis=(1, 2)))


def euler(rotations: np.ndarray) -> np.ndarray:
    """XYZ Euler angles in radians (about fixed X, then Y, then Z), unwrapped in time. (N, T, J, 4) → (N, T, J, 3)."""
    from scipy.spatial.transform import Rotation  # slow to import

    flat = np.asarray(rotations, np.float64).reshape(-1, 4)[:, [1, 2, 3, 0]]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # at gimbal lock SciPy says that it picks one of many right answers
        angles = Rotation.from_quat(flat).as_euler("xyz").reshape(*rotations.shape[:-1], 3)
    return np.unwrap(angles, axis=1)


def npss(features: np.ndarray, truth: np.ndarray) -> Score:
    """Normalised power spectrum similarity (Gopalakrishnan et al. 2019, in Harvey et al.'s form).

    (N, T, F) each. The squared real part of the Fourier transform over time is normalised per feature; the L1 distance
    of the running sums is weighted with the truth's power. Features without power weigh nothing in the truth, and
    count as an all-zero spectrum in the prediction.
    """

    def spectrum(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        power = np.square(np.real(np.fft.fft(np.asarray(x, np.float64), axis=1)))
        total = power.sum(axis=1)
        share = power / np.where(total > 0, total, 1.0)[:, None]
        return np.cumsum(share, axis=1), total

    predicted, _ = spectrum(features)
    true, weight = spectrum(truth)
    distance = np.abs(predicted - true).sum(axis=1)
    return Score((distance * weight).sum(axis=1), weight.sum(axis=1))


# --- the two families -----------------------------------------------------------------------------------------------


def _positions(rotations: np.ndarray, root: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Global rotations (N, T, 22, 4) and positions (N, T, 22, 3), float64. offsets: (N, 22, 3)."""
    q = rot.normalize(np.asarray(rotations, np.float64))
    return kinematics.forward(q, np.asarray(root, np.float64), np.asarray(offsets, np.float64)[:, None])


def forward(rotations: np.ndarray, root: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Joint positions in metres, float64. (N, T, 22, 4), (N, T, 3), (N, 22, 3) → (N, T, 22, 3)."""
    return _positions(rotations, root, offsets)[1]


def _z_up(rotations: np.ndarray) -> np.ndarray:
    """Local rotations (N, T, 22, 4) with the root's in a world whose Z is up.

    There, as in the paper's data, heading is the last Euler angle; with Y up it would be the middle one, and every turn
    past a quarter would flip the other two.
    """
    quarter = np.array([np.sqrt(0.5), np.sqrt(0.5), 0.0, 0.0])
    return np.concatenate([rot.multiply(quarter, rotations[:, :, :1]), rotations[:, :, 1:]], axis=2)


def table5(
    rotations: np.ndarray, root: np.ndarray, truth_rotations: np.ndarray, truth_root: np.ndarray, offsets: np.ndarray
) -> dict[str, Score]:
    """The family of the paper's Table V, on the frames of the transition alone.

    rotations (N, T, 22, 4), root (N, T, 3): frames that were generated; the same of the truth; offsets (N, 22, 3).
    l2p: root mean square in metres over frames, joints and coordinates, with each motion's root moved to the origin at
    the first of these frames. l2q: root mean square over the components of the local quaternions (truth's
    hemisphere). Both per sequence, then averaged. npss: on unwrapped XYZ Euler angles of local rotations, Z up.
    """
    truth_q = rot.normalize(np.asarray(truth_rotations, np.float64))
    q = same_hemisphere(rot.normalize(np.asarray(rotations, np.float64)), truth_q)
    p, truth_p = forward(q, root - root[:, :1], offsets), forward(truth_q, truth_root - truth_root[:, :1], offsets)
    angles, truth_angles = euler(_z_up(q)), euler(_z_up(truth_q))
    # the same first turn for both, or equal rotations would differ by whole turns
    angles = angles - 2 * np.pi * np.round((angles[:, :1] - truth_angles[:, :1]) / (2 * np.pi))
    flat = (*q.shape[:2], 66)
    return {
        "l2p": _mean(np.sqrt(np.square(p - truth_p).mean(axis=(1, 2, 3)))),
        "l2q": _mean(np.sqrt(np.square(q - truth_q).mean(axis=(1, 2, 3)))),
        "npss": npss(angles.reshape(flat), truth_angles.reshape(flat)),
    }


def facing_x(rotation: np.ndarray) -> np.ndarray:
    """(..., 4) root rotation → the rotation about Y (..., 4) after which its forward axis points along +X."""
    facing = rot.heading(np.asarray(rotation, np.float64))
    yaw = np.arctan2(facing[..., 0], facing[..., 1])
    return rot.about_y(np.pi / 2 - yaw)


def lafan1_statistics(rotations: np.ndarray, root: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Standard deviation of each global joint coordinate over training windows, metres. → (22, 3).

    (N, 50, 22, 4), (N, 50, 3), (N, 22, 3): windows of 50 frames at 30 fps, 20 apart. Each is shifted so that its mean
    root lies over the origin and turned so that the root faces +X in its frame 9.
    """
    positions = forward(rotations, root, offsets)
    positions = positions - np.asarray(root, np.float64).mean(axis=1)[:, None, None] * np.array([1.0, 0.0, 1.0])
    positions = rot.rotate(facing_x(rotations[:, 9, 0])[:, None, None], positions)
    return positions.reshape(-1, 22, 3).std(axis=0)


def lafan1(
    rotations: np.ndarray,
    root: np.ndarray,
    truth_rotations: np.ndarray,
    truth_root: np.ndarray,
    offsets: np.ndarray,
    last_past: np.ndarray,
    deviation: np.ndarray,
) -> dict[str, Score]:
    """The family of Harvey et al. 2020, on the frames of the transition alone.

    Arrays as in `table5`; last_past: (N, 4) the root's true rotation in the last frame before the transition, which is
    turned to face +X; deviation: (22, 3) metres from `lafan1_statistics`. l2p: length of the z-scored difference of
    66 global coordinates, mean over frames. l2q: the same of 88 raw components of global quaternions, in the truth's
    hemisphere. npss: on these quaternions. The window's shift cancels in differences.
    """
    turn = facing_x(last_past)[:, None, None]
    truth_q, truth_p = _positions(truth_rotations, truth_root, offsets)
    q, p = _positions(rotations, root, offsets)
    q, truth_q = rot.multiply(turn, q), rot.multiply(turn, truth_q)
    q = same_hemisphere(q, truth_q)
    difference = rot.rotate(turn, p - truth_p) / deviation
    frames = q.shape[:2]
    return {
        "l2p": _mean(np.sqrt(np.square(difference).sum(axis=(2, 3))).mean(axis=1)),
        "l2q": _mean(np.sqrt(np.square(q - truth_q).sum(axis=(2, 3))).mean(axis=1)),
        "npss": npss(q.reshape(*frames, 88), truth_q.reshape(*frames, 88)),
    }
