"""The way from detections to people, chunk by chunk.

    detections ─► rays ─► match in each frame ─► triangulate ─► track over time
                   └────► attach to the tracks ─► swap sides back ─► triangulate again ─► fifteen points
    points ─► Eq. 9's weights ─► completion ─► refinement

Only the last row sees a whole take, as fifteen points for each person and frame; images' worth of detections are held
for one chunk at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.ndimage import median_filter

from ..contract import MotionError
from ..joint_sets import CAPTURE15
from . import matching, weights
from .body import Points, reduce
from .cameras import Camera
from .clean import Priors, clean
from .detections import Detections
from .result import Capture
from .sides import unswapped
from .tracking import Track, Tracker, distances
from .triangulation import Rays, triangulate

Progress = Callable[[int, int], None]
CHUNK = 256
"""Frames of detections in memory at once."""
FEWEST_JOINTS = 6
"""A pose with fewer joints is nobody."""
SAME_PERSON = 0.2
"""Metres between two poses that are one person's, seen by two groups of cameras."""
HOLD_SECONDS = 0.5
"""How long a track tells where to look after its last pose."""
SHORTEST_SECONDS = 0.4
"""People who are found for less time are ghosts."""
FEWEST_SHARE = 0.25
"""People of whom less is found between the first frame and the last are strung together from others' leavings."""
_READ, _MATCHED, _TRIANGULATED, _TRACKED, _ATTACHED = 0.1, 0.35, 0.6, 0.7, 0.8
"""Shares of a chunk's time, of four people before five cameras."""
_MANY_CAMERAS = 4
"""With so many cameras a person is sometimes seen by more than two: where two rays happen to meet, nobody need be."""
_SMOOTH_SECONDS = 0.2
_ENOUGH_TO_JUDGE = 50
"""People in frames of a camera before it is said not to fit the others."""


@dataclass(eq=False)
class _Found:
    """What is known of one person so far: chunks of `Points`, from frame ``first`` on."""

    first: int
    parts: list[Points] = field(default_factory=list)

    def add(self, start: int, points: Points) -> None:
        """Append a chunk's points from frame ``start`` on, with nothing known in between."""
        lost = start - self.first - sum(len(p.error) for p in self.parts)
        if lost:
            joints, cameras = points.confidence.shape[1:]
            shape = (lost, joints)
            self.parts.append(Points(np.full((*shape, 3), np.nan), np.full(shape, np.inf), np.zeros((*shape, cameras))))
        self.parts.append(points)

    def joined(self) -> Points:
        """All chunks as one, cut to the frames between the first and the last joint found."""
        positions, error, confidence = (
            np.concatenate([getattr(p, name) for p in self.parts]) for name in ("positions", "error", "confidence")
        )
        frames = np.flatnonzero(np.isfinite(positions[..., 0]).any(axis=1))
        inside = slice(0, 0) if not len(frames) else slice(frames[0], frames[-1] + 1)
        self.first += inside.start
        return Points(positions[inside], error[inside], confidence[inside])


def capture(
    cameras: Sequence[Camera],
    recording: Detections,
    fps: float,
    *,
    priors: Priors | None = None,
    progress: Progress | None = None,
    chunk: int = CHUNK,
) -> Capture:
    """Everybody in a take, whole and clean.

    cameras: from `cameras.load`. recording: from `detections.find`. fps: frames a second of the cameras. priors: None =
    holes are interpolated and noise is filtered. progress: called with (frames done, of). Raises `MotionError`.
    """
    if not (np.isfinite(fps) and fps > 0):
        raise MotionError(f"The frame rate must be above 0, not {fps}; say at how many frames a second was filmed.")
    found, pixels = people(cameras, recording, fps, progress=progress, chunk=chunk)
    cleaned = tuple(clean(first, points, fps, priors or Priors()) for first, points in found)
    return Capture(cleaned, CAPTURE15, recording.frames, fps, tuple(cameras), pixels, recording.notes)


def people(
    cameras: Sequence[Camera],
    recording: Detections,
    fps: float,
    *,
    progress: Progress | None = None,
    chunk: int = CHUNK,
) -> tuple[list[tuple[int, Points]], tuple[float, ...]]:
    """Everybody in a take as (first frame, points), before any prior; and each camera's reprojection error in pixels.

    Raises `MotionError` where the calibration does not fit or nobody is found.
    """
    total = len(recording.frames)
    tracker = Tracker(fps)
    found: dict[int, _Found] = {}
    pixels: list[list[np.ndarray]] = [[] for _ in cameras]
    for start in range(0, total, chunk):
        stop = min(start + chunk, total)
        told = _within(progress, start, stop, total)
        rays = cast(cameras, recording.read(start, stop))
        told(_READ)
        numbers, points, off = _chunk(rays, tracker, start, fps, told, check=cameras if start == 0 else None)
        for number, person in zip(numbers, points, strict=True):
            found.setdefault(number, _Found(start)).add(start, person)
        for camera, miss, all_pixels in zip(cameras, off, pixels, strict=True):
            all_pixels.append(miss * camera.focal)
        told(1.0)
    whole = [(mine, mine.joined()) for mine in found.values()]
    kept = [(mine.first, points) for mine, points in whole if _is_person(points, fps)]
    if not kept:
        raise MotionError(
            "Nobody is seen by two cameras at once for half a second; check that detections and calibration belong "
            "together and that the cameras are in step."
        )
    kept.sort(key=lambda item: item[0])
    return kept, tuple(float(np.median(np.concatenate(p))) if sum(map(len, p)) else float("nan") for p in pixels)


def _within(progress: Progress | None, start: int, stop: int, total: int) -> Callable[[float], None]:
    """Progress of a take from the share of a chunk that is done; it is also where a capture can be cancelled."""
    if progress is None:
        return lambda _: None
    return lambda share: progress(start + round(share * (stop - start)), total)


def _is_person(points: Points, fps: float) -> bool:
    """Whether this was found for long enough, in large enough a share, and not by the same two cameras of many only."""
    joints = np.isfinite(points.positions[..., 0])
    there = joints.any(axis=1)
    if there.sum() < SHORTEST_SECONDS * fps or joints.mean() < FEWEST_SHARE:
        return False
    views = (points.confidence > 0).sum(axis=-1).max(axis=-1)
    return points.confidence.shape[-1] < _MANY_CAMERAS or bool((views[there] > 2).mean() > 1 / 10)


def cast(cameras: Sequence[Camera], detections: np.ndarray) -> Rays:
    """Detections (C, …, 3) in pixels → rays in the world."""
    directions = [c.rays(c.undistort(d[..., :2])) for c, d in zip(cameras, detections, strict=True)]
    return Rays(np.stack([c.centre for c in cameras]), np.stack(directions), detections[..., 2])


def _pick(rays: Rays, chosen: np.ndarray, frames: np.ndarray) -> Rays:
    """Rays of people put together from detections: chosen (N, C) person or -1, in frames (N,) → rays of (C, N, 25)."""
    there = chosen.T >= 0
    camera = np.arange(len(rays.centres))[:, None]
    index = (camera, frames[None], np.maximum(chosen.T, 0))
    return Rays(rays.centres, rays.directions[index], np.where(there[..., None], rays.confidence[index], 0.0))


def _chunk(
    rays: Rays,
    tracker: Tracker,
    start: int,
    fps: float,
    told: Callable[[float], None],
    check: Sequence[Camera] | None,
) -> tuple[list[int], list[Points], list[np.ndarray]]:
    """One chunk: numbers of the people in it, their points, and per camera the misses as parts of the focal length."""
    frames = rays.confidence.shape[1]
    distance = matching.epipolar(rays)
    present = (rays.confidence > 0).sum(axis=-1) > 2
    before = {t: t.pose for t in tracker.active if start - t.seen[-1] <= HOLD_SECONDS * fps}
    poses = {t: np.full((frames, 25, 3), np.nan) for t in before}
    chosen, rows = _groups(distance, present)
    told(_MATCHED)
    triangulated = triangulate(_pick(rays, chosen, rows)).positions if len(rows) else np.zeros((0, 25, 3))
    told(_TRIANGULATED)
    for t in range(frames):
        here = _distinct(triangulated[rows == t])
        for track, pose in zip(tracker.step(start + t, here), here, strict=True):
            poses.setdefault(track, np.full((frames, 25, 3), np.nan))[t] = pose
    poses = {t: p for t, p in poses.items() if tracker.is_certain(t) or t in tracker.active}
    expected = _united(poses, before, tracker, fps)
    if not expected:
        if check is not None:
            _check_rig(distance, check)
        return [], [], [np.zeros(0) for _ in rays.centres]
    told(_TRACKED)
    where = np.stack(list(expected.values()))
    attached, nearest = matching.attach(where, rays)  # (K, C, T)
    if check is not None:
        _check_camera(attached >= 0, nearest, where, check)
    count = len(where)
    mine = _pick(rays, attached.transpose(0, 2, 1).reshape(count * frames, -1), np.tile(np.arange(frames), count))
    near = where.reshape(count * frames, 25, 3)
    mine = unswapped(near, mine)
    told(_ATTACHED)
    joints = triangulate(mine, near)
    points = reduce(joints, mine.confidence)
    few = np.isfinite(joints.positions[..., 0]).sum(axis=-1) < FEWEST_JOINTS
    points.positions[few], points.error[few], points.confidence[few] = np.nan, np.inf, 0.0
    split = [x.reshape(count, frames, *x.shape[1:]) for x in (points.positions, points.error, points.confidence)]
    parts = [Points(*arrays) for arrays in zip(*split, strict=True)]
    off = []
    for c, centre in enumerate(rays.centres):
        depth = np.linalg.norm(joints.positions - centre, axis=-1)
        off.append((joints.miss[c] / depth)[joints.used[c]])
    return [t.number for t in expected], parts, off


def _groups(distance: np.ndarray, present: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All frames' groups: (N, C) detection or -1, and (N,) frame."""
    chosen, rows = [], []
    for t in range(present.shape[1]):
        for group in matching.match(distance[:, :, t], present[:, t]):
            chosen.append([group.get(c, -1) for c in range(len(present))])
            rows.append(t)
    return np.array(chosen, int).reshape(-1, len(present)), np.array(rows, int)


def _distinct(poses: np.ndarray) -> np.ndarray:
    """The poses (M, 25, 3) of a frame without fragments, and without the poorer of two at one place."""
    count = np.isfinite(poses[..., 0]).sum(axis=-1)
    poses = poses[np.argsort(-count, kind="stable")][: int((count >= FEWEST_JOINTS).sum())]
    kept: list[int] = []
    for i in range(len(poses)):
        if not kept or distances(poses[kept], poses[i : i + 1]).min() > SAME_PERSON:
            kept.append(i)
    return poses[kept]


def _united(
    poses: dict[Track, np.ndarray], before: dict[Track, np.ndarray], tracker: Tracker, fps: float
) -> dict[Track, np.ndarray]:
    """Where each person's joints ought to be (T, 25, 3); tracks that run along one another are one person's."""
    expected: dict[Track, np.ndarray] = {}
    for track in sorted(poses, key=lambda t: (-len(t.seen), t.number)):
        mine = _expected(poses[track], before.get(track), fps)
        for other in expected:
            off = np.linalg.norm(mine - expected[other], axis=-1)
            if np.isfinite(off).any() and np.nanmedian(off) < SAME_PERSON:
                known = np.isfinite(poses[other][..., 0]).any(axis=1)
                poses[other] = np.where(known[:, None, None], poses[other], poses[track])
                expected[other] = _expected(poses[other], before.get(other), fps)
                tracker.unite(other, track)
                break
        else:
            expected[track] = mine
    return dict(sorted(expected.items(), key=lambda item: item[0].number))


def _expected(poses: np.ndarray, before: np.ndarray | None, fps: float) -> np.ndarray:
    """Where a person's joints ought to be (T, 25, 3): the poses found, with short holes filled and leaps removed.

    before: (25, 3) the pose at the end of the chunk before, None = the person is new.
    """
    known = np.isfinite(poses[..., 0]).any(axis=1)
    times = np.flatnonzero(known)
    if before is not None:
        poses = np.concatenate([before[None], poses])
        times = np.concatenate([[-1], times])
    filled = weights.filled_in_time(poses)
    width = 2 * round(_SMOOTH_SECONDS * fps / 2) + 1
    filled = median_filter(filled, size=(width, 1, 1), mode="nearest")[-len(known) :]
    lost = np.abs(np.arange(len(known))[:, None] - times).min(axis=1) > HOLD_SECONDS * fps
    filled[lost] = np.nan
    return filled


def _check_camera(attached: np.ndarray, nearest: np.ndarray, expected: np.ndarray, cameras: Sequence[Camera]) -> None:
    """Raise `MotionError` for a camera that has detections, but none where most of the others see people.

    attached: (K, C, T) bool, which camera sees whom; nearest: (K, C, T) metres, both of `matching.attach`. expected:
    (K, T, 25, 3).
    """
    known = np.isfinite(expected[..., 0]).any(axis=-1)
    attached, nearest = attached.swapaxes(1, 2)[known], nearest.swapaxes(1, 2)[known]  # (people in frames, C)
    middle = np.nanmedian(expected[known], axis=1)
    for c, camera in enumerate(cameras):
        others = attached.sum(axis=1) - attached[:, c]
        judged = (nearest[:, c] < matching.FAR) & (others >= max(2, len(cameras) // 2))
        if camera.size is not None:
            pixels = camera.project(middle)
            judged &= (pixels > 0).all(axis=-1) & (pixels < camera.size).all(axis=-1)
        if judged.sum() < _ENOUGH_TO_JUDGE:
            continue
        off = float(np.median(nearest[:, c][judged]))
        if off > matching.GATE:
            depth = float(np.median(camera.see(middle)[1][judged]))
            raise MotionError(
                f"Camera {camera.name} does not fit the others: it misses the people they see by {off:.2f} m, a "
                f"reprojection error of about {off / depth * camera.focal:.0f} pixels; calibrate it again, or check "
                "that the cameras are in step."
            )


def _check_rig(distance: np.ndarray, cameras: Sequence[Camera]) -> None:
    """Raise `MotionError` where cameras have detections, yet few rays meet. distance: from `matching.epipolar`."""
    nearest = distance.min(axis=(1, -1), initial=matching.FAR)
    nearest = nearest[nearest < matching.FAR]
    if len(nearest) >= _ENOUGH_TO_JUDGE and np.median(nearest) > matching.GATE / 2:
        off = float(np.median(nearest))
        aim = np.mean([c.centre for c in cameras], axis=0)
        pixels = off * np.mean([c.focal / np.linalg.norm(c.centre - aim) for c in cameras])
        raise MotionError(
            f"The calibration does not fit the detections: rays of different cameras miss each other by {off:.2f} m, a "
            f"reprojection error of about {pixels:.0f} pixels; check that names, order and calibration belong together."
        )
