"""People of a motion pack before made-up cameras, with all that goes wrong in detections; the truth is known.

Every threshold of this package is chosen here (`benchmarks/capture.py`). A scene has people who work close to each
other, so that they hide one another, and detections err as real ones do: noise that lasts, guesses at hidden joints,
joints taken from whoever stands in front, left and right swapped, people missed, people who are not there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .. import kinematics
from .. import rotations as rot
from ..contract import Motion
from ..contract.skeleton import INDEX
from ..pack import Pack, resample
from .cameras import Camera
from .detections import BODY_25

SIZE, FOCAL = (1032, 776), 1080.0

_AT = {name: i for i, name in enumerate(BODY_25)}
_SAME = [n for n in BODY_25 if n in INDEX]
_ON: dict[str, tuple[str, tuple[float, float, float]]] = {
    "nose": ("head", (0.0, 0.04, 0.11)),
    "left_eye": ("head", (0.032, 0.07, 0.09)),
    "right_eye": ("head", (-0.032, 0.07, 0.09)),
    "left_ear": ("head", (0.075, 0.06, 0.01)),
    "right_ear": ("head", (-0.075, 0.06, 0.01)),
    "left_big_toe": ("left_foot", (-0.02, -0.01, 0.06)),
    "left_small_toe": ("left_foot", (0.05, -0.01, 0.02)),
    "left_heel": ("left_ankle", (0.0, -0.05, -0.05)),
    "right_big_toe": ("right_foot", (0.02, -0.01, 0.06)),
    "right_small_toe": ("right_foot", (-0.05, -0.01, 0.02)),
    "right_heel": ("right_ankle", (0.0, -0.05, -0.05)),
}
"""Points of head and feet: the joint that carries them, and where they lie in its frame at rest, metres."""

_BLUR = {"hip": 1.8, "shoulder": 1.2, "knee": 1.2, "ankle": 1.2, "wrist": 1.4, "elbow": 1.2, "toe": 1.3, "heel": 1.3}
"""How much less sharply than an eye a joint is seen."""
_BALLS: tuple[tuple[str, str, float, float], ...] = (
    ("mid_hip", "neck", 0.0, 0.16), ("mid_hip", "neck", 0.35, 0.16), ("mid_hip", "neck", 0.7, 0.17),
    ("left_ear", "right_ear", 0.5, 0.11),
    *((f"{side}_{a}", f"{side}_{b}", share, radius) for side in ("left", "right") for a, b, share, radius in (
        ("hip", "knee", 0.35, 0.09), ("hip", "knee", 0.75, 0.08), ("knee", "ankle", 0.2, 0.07),
        ("knee", "ankle", 0.6, 0.06), ("shoulder", "elbow", 0.0, 0.09), ("shoulder", "elbow", 0.5, 0.06),
        ("elbow", "wrist", 0.4, 0.05),
    )),
)  # fmt: skip
"""What hides things: balls between two joints, at a share of the way, with a radius in metres."""


@dataclass(frozen=True)
class Trouble:
    """How much goes wrong; 1 = about what OpenPose shows of people who crowd, 0 = nothing at all.

    noise: metres at the body. hidden_seen: share of hidden joints that are guessed all the same. stolen: share of the
    guesses that are the joint of the one in front. swapped, missed: share of the time in which a person's sides are
    swapped, or the person is overlooked. dropped: share of the time in which a joint in full view is not found. ghosts:
    people per camera who are not there. boards: things that stand about and hide people.
    """

    noise: float = 0.016
    hidden_seen: float = 0.4
    stolen: float = 0.35
    swapped: float = 0.02
    missed: float = 0.03
    dropped: float = 0.05
    ghosts: float = 0.5
    boards: int = 3


CLEAN = Trouble(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0)


@dataclass(frozen=True, eq=False)
class Scene:
    """truth: (people, T, 25, 3) metres, Y up. detections: (C, T, P, 25, 3) pixels and confidence, in no order."""

    cameras: tuple[Camera, ...]
    truth: np.ndarray
    detections: np.ndarray
    fps: float


def body25(motion: Motion) -> np.ndarray:
    """(T, 25, 3) metres: what a detector would mark on this body."""
    turns, joints = kinematics.forward(motion.rotations, motion.root, motion.skeleton.offsets)
    out = np.zeros((len(motion), 25, 3))
    for name in _SAME:
        out[:, _AT[name]] = joints[:, INDEX[name]]
    for name, (carrier, offset) in _ON.items():
        out[:, _AT[name]] = joints[:, INDEX[carrier]] + rot.rotate(turns[:, INDEX[carrier]], np.array(offset))
    for middle, side in (("neck", "shoulder"), ("mid_hip", "hip")):
        out[:, _AT[middle]] = (out[:, _AT[f"left_{side}"]] + out[:, _AT[f"right_{side}"]]) / 2
    return out


def ring(count: int, rng: np.random.Generator, radius: float = 4.6) -> tuple[Camera, ...]:
    """Cameras around the middle, 1.1 to 2.9 m high, all looking at a point near hip height there."""
    cameras = []
    for i in range(count):
        angle = 2 * np.pi * (i + rng.uniform(-0.25, 0.25)) / count
        distance = radius * rng.uniform(0.85, 1.15)
        centre = np.array([distance * np.sin(angle), rng.uniform(1.1, 2.9), distance * np.cos(angle)])
        forward = np.array([0.0, 0.9, 0.0]) - centre
        forward /= np.linalg.norm(forward)
        right = np.cross(forward, [0.0, 1.0, 0.0])
        right /= np.linalg.norm(right)
        rotation = np.stack([right, np.cross(forward, right), forward])
        matrix = np.array([[FOCAL, 0, SIZE[0] / 2], [0, FOCAL, SIZE[1] / 2], [0, 0, 1]])
        cameras.append(Camera(f"camera{i}", matrix, rotation, -rotation @ centre, np.zeros(8), SIZE))
    return tuple(cameras)


def people(pack: Pack, count: int, frames: int, fps: float, rng: np.random.Generator, area: float = 0.8) -> np.ndarray:
    """(count, frames, 25, 3): clips of a pack, each on its own spot of a circle of radius ``area`` metres.

    Of several clips drawn for each, the one that strays least from its spot is taken.
    """
    long_enough = np.flatnonzero(pack.length >= (frames + 1) * pack.fps / fps + 1)
    out = np.zeros((count, frames, 25, 3))
    for person in range(count):
        best, least = None, np.inf
        for clip in rng.choice(long_enough, 4):
            motion = resample(pack.decode(int(clip)), fps)
            start = int(rng.integers(0, len(motion) - frames + 1))
            part = motion.slice(start, start + frames)
            stray = float(np.ptp(part.root[:, [0, 2]], axis=0).max())
            if stray < least:
                best, least = part, stray
        assert best is not None
        angle = 2 * np.pi * (person + rng.uniform(-0.2, 0.2)) / count
        turned = rot.rotate(rot.about_y(np.array(rng.uniform(0, 2 * np.pi))), body25(best))
        middle = turned[:, _AT["mid_hip"]].mean(axis=0) * [1, 0, 1]
        floor = np.array([0, turned[..., 1].min(), 0])
        out[person] = turned - middle - floor + area * np.array([np.sin(angle), 0, np.cos(angle)])
    return out


def _hidden(truth: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """(people, T, 25) int: who stands between the camera and each joint; -1 = nobody. The body itself counts."""
    ways = truth - centre
    depth = np.linalg.norm(ways, axis=-1)
    ways /= depth[..., None]
    by = np.full(depth.shape, -1)
    for a, b, share, radius in _BALLS:
        balls = truth[:, :, _AT[a]] * (1 - share) + truth[:, :, _AT[b]] * share - centre  # (people, T, 3)
        for owner, ball in enumerate(balls):
            along = np.sum(ways * ball[:, None], axis=-1)
            off2 = np.sum(ball**2, axis=-1)[:, None] - along**2
            own = -0.07 if a == "left_ear" else 0.17  # a limb does not hide itself, a head hides its far side
            gap = np.where(np.arange(len(truth)) == owner, own, 0.05)[:, None, None]
            by = np.where((off2 < radius**2) & (along < depth - radius - gap) & (along > 0), owner, by)
    return by


def _boards(count: int, rng: np.random.Generator, area: float = 0.8) -> np.ndarray:
    """(count, 3, 3): upright boards as middle, half width and half height, about where people stand."""
    angle = rng.uniform(0, 2 * np.pi, (2, count))
    zero = np.zeros(count)
    height, width = rng.uniform(0.4, 0.9, count), rng.uniform(0.15, 0.4, count)
    far = area * rng.uniform(1.0, 2.0, count)
    middle = np.stack([far * np.sin(angle[0]), height, far * np.cos(angle[0])], axis=-1)
    side = np.stack([width * np.sin(angle[1]), zero, width * np.cos(angle[1])], axis=-1)
    return np.stack([middle, side, np.stack([zero, height, zero], axis=-1)], axis=1)


def _behind(truth: np.ndarray, centre: np.ndarray, boards: np.ndarray) -> np.ndarray:
    """(people, T, 25) bool: which joints a camera at ``centre`` sees through a board."""
    behind = np.zeros(truth.shape[:3], bool)
    ways = truth - centre
    for middle, side, up in boards:
        normal = np.cross(side, up)
        along = np.sum((middle - centre) * normal) / np.sum(ways * normal, axis=-1)
        hit = centre + along[..., None] * ways - middle
        inside = (np.abs(hit @ side) < side @ side) & (np.abs(hit @ up) < up @ up)
        behind |= inside & (along > 0) & (along < 1)
    return behind


def _lasting(shape: tuple[int, ...], stay: float, rng: np.random.Generator) -> np.ndarray:
    """Unit normal noise that lasts along the second axis: AR(1) with the given correlation of neighbours."""
    white = rng.standard_normal(shape)
    out = white.copy()
    for t in range(1, shape[1]):
        out[:, t] = stay * out[:, t - 1] + np.sqrt(1 - stay**2) * white[:, t]
    return out


def _spells(shape: tuple[int, int], share: float, length: float, rng: np.random.Generator) -> np.ndarray:
    """(N, T) bool, true for ``share`` of the time in spells of about ``length`` frames."""
    score = _lasting((*shape, 1), float(np.exp(-1 / length)), rng)[..., 0]
    return score > np.quantile(score, 1 - share) if share > 0 else np.zeros(shape, bool)


def observe(truth: np.ndarray, cameras: Sequence[Camera], trouble: Trouble, rng: np.random.Generator) -> np.ndarray:
    """(C, T, P, 25, 3): what a detector says in each camera, pixels and confidence."""
    count, frames = truth.shape[:2]
    blur = np.array([next((f for key, f in _BLUR.items() if key in name), 1.0) for name in BODY_25])
    swap = [_AT[n.replace("left", "right") if "left" in n else n.replace("right", "left")] for n in BODY_25]
    boards = _boards(trouble.boards, rng)
    views = []
    for camera in cameras:
        owner = _hidden(truth, camera.centre)
        hidden = (owner >= 0) | _behind(truth, camera.centre, boards)
        guess = hidden & (_lasting(truth.shape[:3], 0.9, rng) < _normal_quantile(trouble.hidden_seen))
        lasting = 0.8 * _lasting(truth.shape, 0.85, rng) + 0.6 * rng.standard_normal(truth.shape)
        spread = trouble.noise * blur[:, None] * np.where(guess, 4.0, 1.0)[..., None]
        seen = truth + spread * lasting
        others = np.take_along_axis(truth, np.maximum(owner, 0)[..., None], axis=0)
        stolen = guess & (owner >= 0) & (owner != np.arange(count)[:, None, None])
        stolen &= _lasting(truth.shape[:3], 0.9, rng) < _normal_quantile(trouble.stolen)
        seen = np.where(stolen[..., None], others + trouble.noise * lasting, seen)
        confidence = np.clip(0.8 + 0.08 * rng.standard_normal(hidden.shape), 0.3, 0.97)
        confidence = np.where(guess, rng.uniform(0.15, 0.6, hidden.shape), confidence)
        dropped = _lasting(truth.shape[:3], 0.8, rng) < _normal_quantile(trouble.dropped)
        confidence = np.where((hidden & ~guess) | dropped, 0.0, confidence)
        flipped = _spells((count, frames), trouble.swapped, 6, rng)[..., None]
        seen = np.where(flipped[..., None], seen[:, :, swap], seen)
        confidence = np.where(flipped, confidence[:, :, swap], confidence)
        pixels, depth = camera.project(seen), camera.see(seen)[1]
        outside = (pixels < 0).any(axis=-1) | (pixels >= (camera.size or SIZE)).any(axis=-1) | (depth < 0.3)
        confidence[outside] = 0
        overlooked = _spells((count, frames), trouble.missed, 8, rng) | ((confidence > 0).sum(axis=-1) < 5)
        confidence[overlooked] = 0
        views.append(np.concatenate([pixels, confidence[..., None]], axis=-1))
        ghosts = rng.poisson(trouble.ghosts)
        if ghosts:
            views[-1] = np.concatenate([views[-1], _ghosts(truth, camera, ghosts, rng)])
    most = max(len(v) for v in views)
    out = np.zeros((len(cameras), frames, most, 25, 3))
    for c, view in enumerate(views):
        out[c, :, : len(view)] = view.transpose(1, 0, 2, 3)
        for t in range(frames):
            out[c, t] = out[c, t, rng.permutation(most)]
    out[out[..., 2] <= 0] = 0
    return np.round(out, 3)


def _normal_quantile(share: float) -> float:
    from scipy.special import ndtri

    return float(ndtri(share))


def _ghosts(truth: np.ndarray, camera: Camera, count: int, rng: np.random.Generator) -> np.ndarray:
    """(count, T, 25, 3): somebody's pose where nobody is, weakly seen, for a while."""
    frames = truth.shape[1]
    out = np.zeros((count, frames, 25, 3))
    for ghost in out:
        pose = truth[rng.integers(len(truth)), rng.integers(frames)] * 0.8 + rng.uniform(-1.5, 1.5, 3) * [1, 0, 1]
        start = int(rng.integers(frames))
        stop = start + int(rng.integers(5, 60))
        ghost[start:stop, :, :2] = camera.project(pose)
        ghost[start:stop, :, :2] += rng.normal(0, 3, (*ghost[start:stop].shape[:2], 2))
        ghost[start:stop, :, 2] = rng.uniform(0.2, 0.6, ghost[start:stop].shape[:2])
    return out


def scene(
    pack: Pack, *, people_count: int = 4, cameras: int = 5, frames: int = 150, fps: float = 25.0,
    trouble: Trouble | None = None, seed: int = 0,
) -> Scene:  # fmt: skip
    """A scene from a seed; the same seed gives the same scene."""
    rng = np.random.default_rng(seed)
    truth = people(pack, people_count, frames, fps, rng)
    rig = ring(cameras, rng)
    return Scene(rig, truth, observe(truth, rig, trouble or Trouble(), rng), fps)


@dataclass(frozen=True, eq=False)
class SceneRecording:
    """A scene's detections in the place of files: what the pipeline reads of a `detections.Recording`."""

    scene: Scene
    notes: tuple[str, ...] = ()

    @property
    def frames(self) -> np.ndarray:
        """(T,) frame numbers from 0."""
        return np.arange(self.scene.detections.shape[1])

    def read(self, start: int, stop: int) -> np.ndarray:
        """(C, T, P, 25, 3) of some frames."""
        return self.scene.detections[:, start:stop].copy()
