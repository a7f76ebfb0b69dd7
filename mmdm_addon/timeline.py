"""What the animator selected: gaps to fill, keys to keep, the range to refine, the frames worth trusting.

The rules work on key columns (the frames at which bones have keys); `pose_keys` fetches these from an armature. All
frames are scene frames and may be fractional.
"""

from __future__ import annotations

import itertools
import math
import re
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import bpy
import numpy as np

from . import compat, nla
from .engine_link import MotionError

TOUCHING = 1.0 + 1e-3
"""Keys at most this many frames apart belong to one run."""
SAME = 1e-3
"""Frames closer than this are one."""
_MANY = 8
_BONE_PATH = re.compile(r'^pose\.bones\["((?:[^"\\]|\\.)*)"\]')


@dataclass(frozen=True, eq=False)
class BoneKeys:
    """The key columns of one bone over all its curves.

    frames: (K,) float64, increasing. selected: (K,) bool, whether any of the keys in that column is.
    """

    frames: np.ndarray
    selected: np.ndarray


@dataclass(frozen=True)
class Gap:
    """Frames strictly between two border frames, which are kept.

    open_start, open_end: there is no pose at that border (the animation is being extended).
    """

    start: float
    end: float
    open_start: bool = False
    open_end: bool = False

    @property
    def frames(self) -> np.ndarray:
        """The whole frames to write, float64."""
        return np.arange(math.floor(self.start + SAME) + 1, math.ceil(self.end - SAME), dtype=np.float64)


@dataclass(frozen=True)
class FillPlan:
    """What Fill Gap will do.

    gaps: in order, apart. keep: bone → its key frames inside the gaps that stay.
    """

    gaps: tuple[Gap, ...]
    keep: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    def replaced(self, bone: str, frames: np.ndarray) -> np.ndarray:
        """(K,) bool: which keys of a bone that is written go."""
        inside = np.zeros(len(frames), bool)
        for gap in self.gaps:
            inside |= (frames > gap.start + SAME) & (frames < gap.end - SAME)
        for frame in self.keep.get(bone, ()):
            inside &= np.abs(frames - frame) > SAME
        return inside

    @property
    def extent(self) -> tuple[float, float]:
        """From the first border to the last; where there is no pose at a border, from the frame beside it."""
        first, last = self.gaps[0], self.gaps[-1]
        return (
            float(first.frames[0]) if first.open_start else first.start,
            float(last.frames[-1]) if last.open_end else last.end,
        )

    @property
    def spans(self) -> str:
        """The frames to write, in words: ``31-59 and 71-89``."""
        return _and([_span(gap.frames[0], gap.frames[-1]) for gap in self.gaps])

    @property
    def sentence(self) -> str:
        """For the panel: ``writes 31-59, keeps 30, 45, 60``."""
        inside = sorted({frame for frames in self.keep.values() for frame in frames})
        borders = {g.start for g in self.gaps if not g.open_start} | {g.end for g in self.gaps if not g.open_end}
        if len(inside) + len(borders) > _MANY:
            keeps = f"{_and([f'{f:g}' for f in sorted(borders)])} and {len(inside)} key columns between"
        else:
            keeps = ", ".join(f"{f:g}" for f in sorted(borders | set(inside)))
        return f"writes {self.spans}, keeps {keeps}"


def _span(first: float, last: float) -> str:
    return f"{first:g}" if first == last else f"{first:g}-{last:g}"


def _and(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def columns(keys: Iterable[BoneKeys]) -> np.ndarray:
    """(C,) frames at which any of these bones has a key, increasing."""
    return _merge([k.frames for k in keys])


def selected_columns(keys: Iterable[BoneKeys]) -> np.ndarray:
    """(C,) frames at which any of these bones has a selected key, increasing."""
    return _merge([k.frames[k.selected] for k in keys])


def _merge(parts: list[np.ndarray]) -> np.ndarray:
    frames = np.unique(np.concatenate(parts)) if parts else np.zeros(0)
    return frames[np.concatenate([[True], np.diff(frames) > SAME])] if len(frames) else frames


def runs(frames: np.ndarray) -> list[np.ndarray]:
    """Split increasing frames where neighbours lie more than one frame apart."""
    if len(frames) == 0:
        return []
    return np.split(frames, np.flatnonzero(np.diff(frames) > TOUCHING) + 1)


def plan_fill(
    keys: Mapping[str, BoneKeys],
    bones: Iterable[str],
    *,
    frame_start: float = 0,
    frame_end: float = 0,
    preview: tuple[int, int] | None = None,
    keep_keys: bool = True,
    extend: bool = False,
) -> FillPlan:
    """Find the gaps.

    keys: of all bones. bones: the ones to write. frame_start, frame_end: explicit borders; 0, 0 = from the selection,
    without selected keys the preview range. keep_keys: isolated unselected keys inside stay. extend: a border without
    a pose is accepted. Raises `MotionError` when nothing sensible is selected.
    """
    chosen = {bone: keys[bone] for bone in bones if bone in keys}
    everything = columns(keys.values())
    if len(everything) == 0:
        raise MotionError("The armature's action has no bone keys; set a few key poses first.")
    selected = selected_columns(chosen.values())
    if frame_start or frame_end:
        gaps, selected = [_checked(Gap(float(frame_start), float(frame_end)), everything, extend)], np.zeros(0)
    elif len(selected):
        gaps = _selected_gaps(selected, columns(chosen.values()), extend)
    elif preview is not None:
        gaps = [_checked(Gap(float(preview[0]), float(preview[1])), everything, extend)]
    else:
        raise MotionError(
            "No gap is chosen; select the keys on both sides of it (or the bad run of keys), set a preview range, or "
            "enter the first and last frame to keep."
        )
    return FillPlan(tuple(gaps), _kept(chosen, gaps, selected) if keep_keys else {})


def _checked(gap: Gap, everything: np.ndarray, extend: bool) -> Gap:
    """An explicit gap that has frames in it and poses on both sides."""
    if gap.end <= gap.start:
        raise MotionError(f"The first kept frame ({gap.start:g}) must come before the last one ({gap.end:g}).")
    _require_frames(gap)
    first, last = everything[0], everything[-1]
    open_start, open_end = bool(gap.start < first - SAME), bool(gap.end > last + SAME)
    if open_start and open_end:
        raise MotionError(
            f"The range {gap.start:g}-{gap.end:g} is longer than the animation ({first:g}-{last:g}); "
            "choose two frames inside it that are to be kept."
        )
    if not extend and open_start:
        raise MotionError(f"Nothing is keyed at or before frame {gap.start:g}; start at frame {first:g} or later, "
                          "or turn on Extend.")  # fmt: skip
    if not extend and open_end:
        raise MotionError(f"Nothing is keyed at or after frame {gap.end:g}; end at frame {last:g} or earlier, "
                          "or turn on Extend.")  # fmt: skip
    return Gap(gap.start, gap.end, open_start, open_end)


def _require_frames(gap: Gap) -> None:
    if len(gap.frames) == 0:
        raise MotionError(f"There is no frame between {gap.start:g} and {gap.end:g}; choose frames further apart.")


def _selected_gaps(selected: np.ndarray, keyed: np.ndarray, extend: bool) -> list[Gap]:
    """Runs of selected columns are replaced; spaces between single columns are filled.

    What lies between two runs is left alone: somebody who box-selects two bad parts of a baked take means these.
    """
    groups = runs(selected)
    if len(groups) == 1 and len(groups[0]) == 1:
        raise MotionError(
            f"Only the keys of frame {groups[0][0]:g} are selected; select the keys on both sides of the gap, or a run "
            "of neighbouring keys to replace."
        )
    gaps = [_around(group, keyed, extend) for group in groups if len(group) > 1]
    gaps += [Gap(float(a[0]), float(b[0])) for a, b in itertools.pairwise(groups) if len(a) == len(b) == 1]
    if not gaps:
        raise MotionError("The selection has no gap; select two single key columns or a run of neighbouring keys.")
    gaps.sort(key=lambda gap: (gap.start, gap.end))
    merged = gaps[:1]
    for gap in gaps[1:]:
        last = merged[-1]
        if gap.start < last.end - SAME:
            later = gap if gap.end > last.end else last
            merged[-1] = Gap(last.start, later.end, last.open_start, later.open_end)
        else:
            merged.append(gap)
    for gap in merged:
        _require_frames(gap)
    return merged


def _around(run: np.ndarray, keyed: np.ndarray, extend: bool) -> Gap:
    before, after = keyed[keyed < run[0] - SAME], keyed[keyed > run[-1] + SAME]
    for side, found, edge in (("before", before, run[0]), ("after", after, run[-1])):
        if len(found) == 0 and not extend:
            raise MotionError(
                f"The selected keys reach the {'start' if side == 'before' else 'end'} of the animation: no key "
                f"is left {side} frame {edge:g}. Deselect the outermost one, or turn on Extend."
            )
    if len(before) == 0 and len(after) == 0:
        raise MotionError("Every key is selected, so that no pose is left to start from; deselect those to keep.")
    return Gap(
        float(before[-1]) if len(before) else math.ceil(run[0]) - 1.0,
        float(after[0]) if len(after) else math.floor(run[-1]) + 1.0,
        open_start=len(before) == 0,
        open_end=len(after) == 0,
    )


def _kept(chosen: Mapping[str, BoneKeys], gaps: list[Gap], selected: np.ndarray) -> dict[str, tuple[float, ...]]:
    """Isolated unselected keys inside the gaps, per bone; runs of neighbouring keys are replaced."""
    keep = {}
    for bone, keys in chosen.items():
        alone = [float(run[0]) for run in runs(keys.frames) if len(run) == 1]
        inside = tuple(
            frame
            for frame in alone
            if any(gap.start + SAME < frame < gap.end - SAME for gap in gaps)
            and not (len(selected) and np.abs(selected - frame).min() < SAME)
        )
        if inside:
            keep[bone] = inside
    return keep


def plan_range(
    keys: Mapping[str, BoneKeys],
    bones: Iterable[str],
    *,
    frame_start: float = 0,
    frame_end: float = 0,
    preview: tuple[int, int] | None = None,
) -> tuple[float, float]:
    """First and last frame to refine, both included.

    0, 0 = the selected keys' span (two columns or more), else the preview range, else everything that is keyed.
    Raises `MotionError` when the range holds nothing.
    """
    everything = columns(keys.values())
    if len(everything) == 0:
        raise MotionError("The armature's action has no bone keys; set a few key poses first.")
    selected = selected_columns(keys[bone] for bone in bones if bone in keys)
    if frame_start or frame_end:
        first, last = float(frame_start), float(frame_end)
        if last < first:
            raise MotionError(f"The first frame ({first:g}) must not come after the last one ({last:g}).")
    elif len(selected) > 1:
        first, last = float(selected[0]), float(selected[-1])
    elif preview is not None:
        first, last = float(preview[0]), float(preview[1])
    else:
        first, last = float(everything[0]), float(everything[-1])
    clipped = max(first, float(everything[0])), min(last, float(everything[-1]))
    if math.ceil(clipped[0] - SAME) > math.floor(clipped[1] + SAME):
        raise MotionError(
            f"Nothing is keyed in frames {_span(first, last)}; the animation lies at "
            f"{_span(float(everything[0]), float(everything[-1]))}."
        )
    return clipped


def trusted(keyed: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """Which frames are poses rather than something a curve made up between keys.

    keyed: (C,) key columns. frames: (T,). (T,) bool: True on a key and between keys at most one frame apart; and beside
    the first and the last key where these lie between frames, since curves hold them outside.
    """
    if len(keyed) == 0:
        return np.zeros(len(frames), bool)
    after = np.searchsorted(keyed, frames - SAME)
    at = keyed[np.minimum(after, len(keyed) - 1)]
    before = keyed[np.maximum(after - 1, 0)]
    on_key = np.abs(at - frames) <= SAME
    within = (after > 0) & (after < len(keyed)) & (at - before <= TOUCHING)
    first, last = keyed[0], keyed[-1]
    beside = ((frames < first) & (frames > first - 1)) | ((frames > last) & (frames < last + 1))
    return on_key | within | beside


@dataclass(frozen=True)
class PoseKeys:
    """All bone keys of an armature's action.

    bones: bone → its key columns: those of its own channels, not of custom properties, which are no poses. count: keys
    in all curves. fingerprint: changes when a key moves.
    """

    bones: Mapping[str, BoneKeys]
    count: int
    fingerprint: int


def _bone_curves(armature: bpy.types.Object) -> list[tuple[str, bool, bpy.types.FCurve]]:
    """(bone, whether it is a custom property, curve) of all curves with keys."""
    data = armature.animation_data
    if data is None or data.action is None:
        return []
    found = []
    for curve in compat.curves(data.action, compat.assigned_slot(armature)):
        match = _BONE_PATH.match(curve.data_path)
        if match and len(curve.keyframe_points):
            custom = curve.data_path[match.end() :].startswith("[")
            found.append((bpy.utils.unescape_identifier(match.group(1)), custom, curve))
    return found


def pose_keys(armature: bpy.types.Object) -> PoseKeys:
    """The key columns of every bone in the armature's action, on the scene's time; empty without an action."""
    shift = nla.shift(armature)
    frames: dict[str, list[np.ndarray]] = {}
    selected: dict[str, list[np.ndarray]] = {}
    count, fingerprint = 0, 0
    for bone, custom, curve in _bone_curves(armature):
        points = curve.keyframe_points
        co = np.empty(2 * len(points), np.float32)
        points.foreach_get("co", co)
        if not custom:
            flags = np.empty(len(points), bool)
            points.foreach_get("select_control_point", flags)
            frames.setdefault(bone, []).append(co[::2].astype(np.float64) + shift)
            selected.setdefault(bone, []).append(flags)
        count += len(points)
        fingerprint = zlib.crc32(
            co.tobytes(), zlib.crc32(f"{curve.data_path}[{curve.array_index}]".encode(), fingerprint)
        )
    return PoseKeys({bone: _columns(frames[bone], selected[bone]) for bone in frames}, count, fingerprint)


def _columns(frames: list[np.ndarray], selected: list[np.ndarray]) -> BoneKeys:
    """Keys of several curves → columns; a column is selected when any of its keys is."""
    if all(len(f) == len(frames[0]) and (f == frames[0]).all() for f in frames[1:]):  # the rule for keyed poses
        return BoneKeys(frames[0], np.logical_or.reduce(selected))
    every, flags = np.concatenate(frames), np.concatenate(selected)
    merged = _merge(frames)
    column = np.clip(np.searchsorted(merged, every + SAME) - 1, 0, len(merged) - 1)
    hit = np.zeros(len(merged), bool)
    np.logical_or.at(hit, column, flags)
    return BoneKeys(merged, hit)
