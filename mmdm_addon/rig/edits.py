"""Putting new channel values into the F-curves of one property of one bone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import pairwise
from typing import Any, Literal

import bpy
import numpy as np

from .. import compat
from ..engine_link import chains
from . import channels, reduce
from .keys import INTERPOLATION, SAME_TIME, Keys, Track
from .solve import Style

Density = Literal["ALL", "MATCH", "STEP"]

LOCATION, SCALE = "LOCATION", "SCALE"
"""Stand for a rotation mode where the property is a location or a scale."""
_VECTORS = (LOCATION, SCALE)


@dataclass(frozen=True, eq=False)
class Edit:
    """New values of a property.

    owner: the pose bone or object. path: of the property. mode: rotation mode, `LOCATION` or `SCALE`. target: (T, 4)
    rotations or (T, 3) locations or scales. frames: (T,) bool, where they hold. group: name for new F-curves.
    """

    owner: Any
    path: str
    mode: str
    target: np.ndarray
    frames: np.ndarray
    group: str


@dataclass(frozen=True)
class Spacing:
    """How densely keys are set. tolerance: of a channel's value, in the channel's own unit. origin: frame of step 0."""

    density: Density
    step: int
    tolerance: float
    origin: float


@dataclass(frozen=True)
class Piece:
    """A stretch of new frames [start, stop) between two borders in time that keep the old values."""

    start: int
    stop: int
    left: float
    right: float


class Property:
    """The old curves of one property: values at any time, and which of its channels may be written."""

    def __init__(self, edit: Edit, curves: dict[tuple[str, int], Track], refused: Callable[[str, int], bool]):
        name = edit.path.rpartition(".")[2]
        self.static = np.array(getattr(edit.owner, name), np.float64)
        self.edit = edit
        self.curves = [curves.get((edit.path, i)) for i in range(len(self.static))]
        self.writable = [not refused(edit.path, i) for i in range(len(self.static))]

    def channel(self, i: int, times: np.ndarray) -> np.ndarray:
        """(N,) old values of one channel."""
        track = self.curves[i]
        return np.full(len(times), self.static[i]) if track is None else track.evaluate(times)

    def old(self, times: np.ndarray) -> np.ndarray:
        """(N, C) old values."""
        return np.stack([self.channel(i, times) for i in range(len(self.static))], axis=-1)

    @cached_property
    def key_times(self) -> np.ndarray:
        """All old key times of all channels."""
        columns = [track.co[:, 0] for track in self.curves if track is not None]
        if not columns:
            return np.zeros(0)
        if not all(len(c) == len(columns[0]) and (c == columns[0]).all() for c in columns[1:]):
            columns = [np.unique(np.concatenate(columns))]
        found = columns[0].astype(np.float64)
        return found[np.concatenate([[True], np.diff(found) > SAME_TIME])]


def pieces(frames: np.ndarray, flags: np.ndarray, kept: np.ndarray) -> list[Piece]:
    """Cut the frames to write at borders and at keys that stay.

    frames: (T,). flags: (T,) bool. kept: times of keys that stay.
    """
    near = np.abs(frames[:, None] - kept[None]).min(axis=1) if len(kept) else np.full(len(frames), np.inf)
    found = []
    for start, stop in chains.runs(flags & (near >= SAME_TIME)):
        left = frames[start - 1] if start > 0 else frames[0] - 1
        right = frames[stop] if stop < len(frames) else frames[-1] + 1
        inner = [k for k in kept if left + SAME_TIME < k < right - SAME_TIME]
        bounds = [left, *inner, right]
        for a, b in pairwise(bounds):
            inside = np.flatnonzero((frames[start:stop] > a) & (frames[start:stop] < b)) + start
            if len(inside):
                found.append(Piece(int(inside[0]), int(inside[-1]) + 1, float(a), float(b)))
    return found


def is_dense(times: np.ndarray, left: float, right: float) -> bool | None:
    """Whether a curve has a key on about every frame around and inside a gap; None where it has too few keys to say."""
    near = times[(times >= left - 12) & (times <= right + 12)]
    near = near if len(near) > 2 else times
    if len(near) < 3:
        return None
    gaps = np.diff(near)
    gaps = (
        gaps[gaps < right - left - SAME_TIME]
        if (gaps >= right - left - SAME_TIME).sum() == 1 and len(gaps) > 1
        else gaps
    )
    return bool((gaps <= 1.01).mean() >= 0.5)


def apply(
    edit: Edit,
    source: Property,
    action: bpy.types.Action,
    slot: Any,
    frames: np.ndarray,
    cuts: list[Piece],
    spacing: Spacing,
    dense: bool,
    style: Style,
) -> int:
    """Write an edit into an action whose curves are copies of the source's; returns the number of generated keys."""
    target = {(c.data_path, c.array_index): c for c in compat.curves(action, slot) if c.data_path == edit.path}
    stays = [_stays(track, cuts) for track in source.curves]
    columns = [
        Keys.load(target.get((edit.path, i)) if stays[i] else None) if source.writable[i] else None
        for i in range(len(source.static))
    ]
    for i, keys in enumerate(columns):
        if keys is not None:
            for border in sorted({b for cut in cuts for b in (cut.left, cut.right)}):
                keys.pin(border, partial(source.channel, i))
    for cut in cuts:
        _apply_piece(edit, source, columns, frames, cut, spacing, dense, style)
    for keys in columns:
        if keys is not None:
            _drop_borders_beyond(keys, source, frames, cuts)
    count = 0
    for i, keys in enumerate(columns):
        if keys is None:
            continue
        curve = target.get((edit.path, i)) or compat.new_curve(action, slot, edit.path, i, edit.group)
        keys.store(curve)
        count += int(keys.fresh.sum())
    return count


def _stays(track: Track | None, cuts: list[Piece]) -> bool:
    """Whether any key of a curve can stay. Of a take that is written from end to end none does, which saves time."""
    if track is None or len(cuts) != 1:
        return True
    times = track.co[:, 0]
    return not bool(((times > cuts[0].left + SAME_TIME) & (times < cuts[0].right - SAME_TIME)).all())


def _drop_borders_beyond(keys: Keys, source: Property, frames: np.ndarray, cuts: list[Piece]) -> None:
    """Remove border keys before the first and after the last key there was: nothing lies there that they could keep.

    They would make the action longer, and the figure snap back to its old pose in the frame after the last.
    """
    own = source.key_times
    for border, outermost in ((cuts[0].left, frames[0]), (cuts[-1].right, frames[-1])):
        row = keys.find(border)
        beyond = border < outermost if outermost == frames[0] else border > outermost
        unkeyed = not len(own) or (border < own[0] if outermost == frames[0] else border > own[-1])
        if row is not None and keys.fresh[row] and beyond and unkeyed:
            keys.remove(np.arange(len(keys)) == row)


def _apply_piece(
    edit: Edit,
    source: Property,
    columns: list[Keys | None],
    frames: np.ndarray,
    cut: Piece,
    spacing: Spacing,
    dense: bool,
    style: Style,
) -> None:
    times = frames[cut.start : cut.stop]
    ends = source.old(np.array([cut.left, cut.right]))
    values = edit.target[cut.start : cut.stop]
    if edit.mode not in _VECTORS:
        values = channels.from_quaternion(values, edit.mode, ends[0])
    flips = edit.mode not in _VECTORS and channels.jumps(values[-1], ends[1], edit.mode)
    all_times = np.concatenate([[cut.left], times, [cut.right]])
    all_values = np.concatenate([ends[:1], values, ends[1:]])
    if flips:  # the other side spells the same rotation differently, so the last frame must not blend into it
        all_values[-1] = values[-1]
    slope = reduce.slopes(all_times, all_values)

    if spacing.density == "ALL" or (spacing.density == "MATCH" and dense):
        at, new = times, values
        own = source.key_times
        own = own[(own > cut.left + SAME_TIME) & (own < cut.right - SAME_TIME)]
        beside = own - times[0]  # frames are a whole number of frames from this one
        if spacing.density == "MATCH" and len(own) and np.abs(beside - np.round(beside)).max() > SAME_TIME:
            at, new = own, _between(source, own, all_times, all_values, slope, style)
        for i, keys in enumerate(columns):
            if keys is None:
                continue
            _clear(keys, cut)
            rows = keys.add(at, new[:, i], _usual_interpolation(keys))
            if flips:
                keys.columns["interpolation"][rows[-1]] = INTERPOLATION["CONSTANT"]
            for border, inner in ((rows[0] - 1, rows[0]), (rows[-1] + 1, rows[-1])):
                keys.lean(border, inner)
        return

    fixed = np.zeros(len(all_times), bool)
    curved = all(
        keys is None or keys.columns["interpolation"][keys.find(cut.left)] == INTERPOLATION["BEZIER"]
        for keys in columns
    )
    if not curved:  # a stepped or straight border would spoil the first segment
        fixed[1] = True
    if flips:
        fixed[-2] = True
    if spacing.density == "STEP":
        fixed |= np.isclose((all_times - spacing.origin) % spacing.step, 0, atol=1e-6)
        fixed[[0, -1]] = True
        chosen = np.flatnonzero(fixed)
    else:
        chosen = reduce.knots(all_times, all_values, slope, spacing.tolerance, fixed)
    inner = chosen[1:-1]
    for i, keys in enumerate(columns):
        if keys is None:
            continue
        _clear(keys, cut)
        rows = keys.add(all_times[inner], all_values[inner, i], "BEZIER")
        first, last = keys.find(cut.left), keys.find(cut.right)
        assert first is not None  # both were pinned
        assert last is not None
        keys.shape(np.arange(first, last + 1), slope[chosen, i])
        if flips:
            keys.columns["interpolation"][rows[-1]] = INTERPOLATION["CONSTANT"]


def _clear(keys: Keys, cut: Piece) -> None:
    keys.remove((keys.times > cut.left + SAME_TIME) & (keys.times < cut.right - SAME_TIME))


def _usual_interpolation(keys: Keys) -> str:
    kinds = keys.columns["interpolation"][~keys.fresh]
    straight = len(kinds) > 0 and (kinds == INTERPOLATION["LINEAR"]).mean() >= 0.5
    return "LINEAR" if straight else "BEZIER"


def _between(
    source: Property, at: np.ndarray, times: np.ndarray, values: np.ndarray, slope: np.ndarray, style: Style
) -> np.ndarray:
    """New values at key times between frames: the correction is interpolated when refining, the motion when filling."""
    old = source.old(times)
    if style == "REFINE" and np.abs(values - old).max() < 1.0:
        change = values - old
        return source.old(at) + reduce.hermite(times, change, reduce.slopes(times, change), at)
    return reduce.hermite(times, values, slope, at)
