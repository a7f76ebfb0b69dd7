"""Where feet stand, and keeping them there.

Speeds are metres per second of a character with an adult's legs; lengths and speeds scale with the leg, so a giant
walks like anyone. Nothing depends on the frame rate.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from . import kinematics
from . import rotations as rot
from .contract import Motion, MotionError
from .contract.chains import runs
from .contract.skeleton import INDEX

FEET: tuple[int, ...] = tuple(INDEX[f"{side}_{part}"] for side in ("left", "right") for part in ("ankle", "foot"))
"""Left ankle, left toe, right ankle, right toe: the columns of `detect`."""

ADULT_LEG = 0.82
SPEED = 0.10
"""Below this a foot starts to stand, m/s; it goes on standing up to half as much again."""
SLIDING_SPEED = 0.35
"""The same where the feet are known to slide: generated and jittered frames."""
HEIGHT = 0.06
"""A standing joint is at most this far above the lowest place of its kind nearby, metres."""
SUPPORT_SECONDS, SHORTEST_SECONDS, BRIDGED_SECONDS, BLEND_SECONDS = 0.25, 0.1, 0.05, 0.2
MOST_TIP = 0.35
"""Foot lengths by which the sole may be tipped, 19 degrees: ankle and toe that want to stand far apart cannot both."""


def detect(motion: Motion, speed: float = SPEED) -> np.ndarray:
    """(T, 4) bool: left ankle, left toe, right ankle, right toe stand still near the ground under them.

    speed: m/s at an adult's size. Ground is the lowest that either foot comes within a quarter of a second, so stairs
    and slopes count. Phases shorter than 0.1 s are dropped, gaps below 0.05 s closed.
    """
    motion.require_finite()
    size = motion.skeleton.leg_length / ADULT_LEG
    feet = kinematics.joint_positions(motion)[:, list(FEET)] / size
    speeds = _speed(feet, motion.fps)
    reach = max(1, round(SUPPORT_SECONDS * motion.fps))
    height = feet[..., 1].reshape(-1, 2, 2)  # side, then ankle or toe
    ground = ndimage.minimum_filter1d(height.min(axis=1), 2 * reach + 1, axis=0, mode="nearest")
    above = (height - ground[:, None]).reshape(-1, 4)
    start = (speeds < speed) & (above < HEIGHT)
    stay = (speeds < 1.5 * speed) & (above < 1.5 * HEIGHT)
    contacts = np.zeros_like(stay)
    for column in range(4):
        held = [(a, b) for a, b in runs(stay[:, column]) if start[a:b, column].any()]
        bridged: list[tuple[int, int]] = []
        for a, b in held:
            if bridged and (a - bridged[-1][1]) / motion.fps < BRIDGED_SECONDS:
                bridged[-1] = (bridged[-1][0], b)
            else:
                bridged.append((a, b))
        for a, b in bridged:
            if (b - a) / motion.fps >= SHORTEST_SECONDS - 1e-9 or b - a == len(motion):
                contacts[a:b, column] = True
    return contacts


def slide(motion: Motion, contacts: np.ndarray) -> float:
    """Mean horizontal speed in m/s of foot joints between frames in which they stand; 0 without contacts."""
    feet = kinematics.joint_positions(motion)[:, list(FEET)]
    both = contacts[1:] & contacts[:-1]
    steps = np.linalg.norm(np.diff(feet[..., [0, 2]], axis=0), axis=-1) * motion.fps
    return float(steps[both].mean()) if both.any() else 0.0


def _speed(points: np.ndarray, fps: float) -> np.ndarray:
    """(T, k) speed in units per second over about a fifteenth of a second, one-sided at the ends."""
    frames = len(points)
    if frames < 2:
        return np.zeros(points.shape[:2])
    half = max(1, round(fps / 30))
    before = np.maximum(np.arange(frames) - half, 0)
    after = np.minimum(np.arange(frames) + half, frames - 1)
    return np.linalg.norm(points[after] - points[before], axis=-1) * fps / (after - before)[:, None]


def _smoothstep(x: np.ndarray) -> np.ndarray:
    x = np.clip(x, 0.0, 1.0)
    return x * x * (3 - 2 * x)


@dataclass(frozen=True, eq=False)
class _Pin:
    """One contact phase of one joint: how far the joint must move in each frame, and how much that counts.

    shift: (T, 3) metres, held outside the phase. weight: (T,) 1 in the phase, falling to 0 beside it.
    """

    shift: np.ndarray
    weight: np.ndarray


def lock_feet(motion: Motion, changed: np.ndarray, contacts: np.ndarray | None = None) -> Motion:
    """Hold standing feet in place by bending the legs, in changed frames only.

    changed: (T,) bool; every other frame comes back bit for bit. contacts: (T, 4) as `detect` gives; None = detected
    with a tolerance for sliding. A phase that reaches into unchanged frames is held at the place it has there; where
    it does so on both sides, the foot passes evenly from one to the other. The root does not move, so a foot beyond
    the leg's reach slides the rest of the way. Raises `MotionError` on wrong shapes.
    """
    changed = np.asarray(changed, bool)
    if changed.shape != (len(motion),):
        raise MotionError(f"changed must have shape ({len(motion)},), not {changed.shape}.")
    if not changed.any():
        return motion
    if contacts is None:
        contacts = detect(motion, SLIDING_SPEED)
    if contacts.shape != (len(motion), 4):
        raise MotionError(f"contacts must have shape ({len(motion)}, 4), not {contacts.shape}.")
    motion.require_finite()
    local = motion.rotations.astype(np.float64)
    offsets = motion.skeleton.offsets.astype(np.float64)
    turns, points = kinematics.forward(local, motion.root.astype(np.float64), offsets)
    out = motion.rotations.copy()
    for side, columns in (("left", (0, 1)), ("right", (2, 3))):
        hip, knee, ankle, toe = (INDEX[f"{side}_{part}"] for part in ("hip", "knee", "ankle", "foot"))
        pins = {
            joint: _pins(points[:, joint], contacts[:, column], changed, motion.fps)
            for joint, column in zip((ankle, toe), columns, strict=True)
        }
        if not any(pins.values()):
            continue
        move, weight = _combine([*pins[ankle], *pins[toe]], len(motion))
        toe_move, toe_weight = _combine(pins[toe], len(motion))
        frames = changed & (weight > 0)
        if not frames.any():
            continue
        solved = _solve_leg(local, turns, points, offsets, (hip, knee, ankle), move)
        # the sole keeps its turn, except for the little that brings a standing toe to its own place
        lever = points[:, toe] - points[:, ankle]
        aside = np.minimum(toe_weight, 1.0)[:, None] * (toe_move - move)
        longest = MOST_TIP * np.linalg.norm(lever, axis=-1, keepdims=True)
        wanted = lever + aside * longest / np.hypot(np.linalg.norm(aside, axis=-1, keepdims=True), longest).clip(1e-9)
        tip = rot.shortest_arc(lever, wanted) if np.linalg.norm(offsets[toe]) > 1e-6 else np.array(rot.IDENTITY)
        foot = rot.multiply(tip, turns[:, ankle])
        shin = rot.multiply(rot.multiply(turns[:, 0], solved[hip]), solved[knee])
        solved[ankle] = rot.multiply(rot.conjugate(shin), foot)
        for joint, q in solved.items():
            q = rot.normalize(q)
            sign = np.where(np.sum(q * local[:, joint], axis=-1, keepdims=True) < 0, -1.0, 1.0)
            out[frames, joint] = (q * sign)[frames].astype(np.float32)
    return motion.with_frames(out, motion.root)


def _pins(points: np.ndarray, contact: np.ndarray, changed: np.ndarray, fps: float) -> list[_Pin]:
    """The phases of one joint that lie at least partly in changed frames. points: (T, 3)."""
    frames = np.arange(len(points))
    blend = max(2.0, BLEND_SECONDS * fps)
    pins = []
    for first, last in runs(changed):
        for start, stop in runs(contact):
            a, b = max(start, first), min(stop, last)
            if a >= b:
                continue
            # a trusted frame next to the phase holds it; one close by holds it where the phase begins or ends
            left = first > 0 and a - first < blend
            right = last < len(points) and last - b < blend
            from_left, from_right = points[a - 1 if start < first else a], points[b if stop > last else b - 1]
            if left and right:
                way = _smoothstep(np.arange(1, b - a + 1) / (b - a + 1))[:, None]
                place = from_left + way * (from_right - from_left)
            elif left or right:
                place = np.broadcast_to(from_left if left else from_right, (b - a, 3))
            else:
                place = np.broadcast_to(np.median(points[a:b], axis=0), (b - a, 3))
            shift = (place - points[a:b])[np.clip(frames, a, b - 1) - a]
            weight = 1 - _smoothstep(np.maximum(a - frames, frames - (b - 1)) / blend)
            # beside a trusted frame that does not hold the phase, every correction must have died away
            if first > 0 and start >= first:
                weight = weight * np.where(frames < a, _smoothstep((frames - first + 1) / blend), 1.0)
            if last < len(points) and stop <= last:
                weight = weight * np.where(frames >= b, _smoothstep((last - frames) / blend), 1.0)
            inside = (frames >= first) & (frames < last)
            pins.append(_Pin(shift, np.where(inside, weight, 0.0)))
    return pins


def _combine(pins: list[_Pin], frames: int) -> tuple[np.ndarray, np.ndarray]:
    """Weighted mean shift (T, 3), falling to zero where the weights do, and the sum of weights (T,)."""
    total, shift = np.zeros(frames), np.zeros((frames, 3))
    for pin in pins:
        total += pin.weight
        shift += pin.weight[:, None] * pin.shift
    return shift / np.maximum(total, 1.0)[:, None], total


def _solve_leg(
    local: np.ndarray,
    turns: np.ndarray,
    points: np.ndarray,
    offsets: np.ndarray,
    leg: tuple[int, int, int],
    move: np.ndarray,
) -> dict[int, np.ndarray]:
    """Local rotations {hip: (T, 4), knee: (T, 4)} that carry the ankle by ``move`` (T, 3), knee plane kept."""
    hip, knee, ankle = leg
    origin = points[:, hip]
    target = points[:, ankle] + move
    thigh_length, shin_length = float(np.linalg.norm(offsets[knee])), float(np.linalg.norm(offsets[ankle]))
    distance = np.linalg.norm(target - origin, axis=-1)
    now = np.linalg.norm(points[:, ankle] - origin, axis=-1)
    distance = _soft_reach(distance, now, thigh_length + shin_length, abs(thigh_length - shin_length))
    hip_turn, knee_turn = turns[:, hip], turns[:, knee]
    for _ in range(3):  # the bend axis is not quite square to the leg's plane when the leg is straight: again
        thigh, shin = rot.rotate(hip_turn, offsets[knee]), rot.rotate(knee_turn, offsets[ankle])
        hinge = rot.rotate(hip_turn, np.array([1.0, 0.0, 0.0]))
        axis = rot.cross(thigh, shin) / (thigh_length * shin_length)
        flexed = np.sum(axis * hinge, axis=-1, keepdims=True) > -0.05  # a straight leg bends forwards
        axis = rot.normalize(np.where(flexed, axis, -axis) + 0.02 * hinge)
        reached = np.linalg.norm(thigh + shin, axis=-1)
        bend = _bend(distance, thigh_length, shin_length) - _bend(reached, thigh_length, shin_length)
        bend = np.where(flexed[:, 0], bend, -bend)
        knee_turn = rot.multiply(rot.exp(axis * bend[:, None]), knee_turn)
        span = thigh + rot.rotate(knee_turn, offsets[ankle])
        swing = rot.shortest_arc(span, target - origin)
        hip_turn, knee_turn = rot.multiply(swing, hip_turn), rot.multiply(swing, knee_turn)
    pelvis = turns[:, 0]
    return {
        hip: rot.multiply(rot.conjugate(pelvis), hip_turn),
        knee: rot.multiply(rot.conjugate(hip_turn), knee_turn),
    }


def _bend(distance: np.ndarray, thigh: float, shin: float) -> np.ndarray:
    """Knee angle in radians, 0 = straight, at which hip and ankle are ``distance`` apart."""
    cosine = (distance**2 - thigh**2 - shin**2) / (2 * thigh * shin)
    return np.arccos(np.clip(cosine, -1.0, 1.0))


def _soft_reach(distance: np.ndarray, now: np.ndarray, longest: float, shortest: float) -> np.ndarray:
    """Hip-to-ankle distances that a leg can take on without a pop of the knee.

    Beyond 97 % of its length it gives way softly; straighter legs may stay as they are but get no straighter than
    99.9 %. A leg that is straight now bends in proportion to how much it is shortened, not to its square root, at the
    price of less than 0.6 % of its length.
    """
    knee_point = np.maximum(0.97 * longest, np.minimum(now, longest))
    room = np.maximum(np.maximum(0.999 * longest, now) - knee_point, 1e-9)
    over = np.maximum(distance - knee_point, 0.0)
    soft = np.where(over > 0, knee_point + room * (1 - np.exp(-over / room)), distance)
    slack = 0.006 * longest * np.clip((now / longest - 0.985) / 0.015, 0.0, 1.0)
    shorter = np.maximum(now - soft, 0.0)
    soft = np.where(shorter > 0, now - shorter**2 / np.maximum(shorter + slack, 1e-12), soft)
    return np.maximum(soft, 1.001 * shortest + 1e-9)
