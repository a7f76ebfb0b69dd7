"""What has to be filled: frames without keys in a captured take, frozen runs, what markers named ``gap`` enclose."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import bpy
import numpy as np

from .. import timeline
from ..engine_link import INDEX, MotionError
from ..rig.roles import RoleMap

MARKER = "gap"
FROZEN_SHARE = 0.5
"""A frame is lost where so many of the joints are frozen; fewer are Refine's or Complete's business."""


@dataclass(frozen=True)
class Found:
    """A gap between two kept scene frames, and why it is one."""

    start: float
    end: float
    why: str

    @property
    def words(self) -> dict[str, Any]:
        """For the record: the frames that are written."""
        return {"start": int(self.start) + 1, "end": int(np.ceil(self.end)) - 1, "why": self.why}


def is_captured(keyed: np.ndarray) -> bool:
    """Whether there is a key on about every frame, so that a longer distance is a hole and not a pose to pose."""
    return len(keyed) > 2 and bool((np.diff(keyed) <= timeline.TOUCHING).mean() >= 0.5)


def find(
    armature: bpy.types.Object, scene: bpy.types.Scene, keys: timeline.PoseKeys, problems: Iterable[Mapping[str, Any]],
    frames: np.ndarray, exists: np.ndarray, notes: list[str],
) -> list[Found]:  # fmt: skip
    """All gaps in order. problems: as the engine lists them over ``frames``. notes: what could not be understood."""
    keyed = timeline.columns(keys.bones.values())
    found = _marked(armature, scene, notes)
    if is_captured(keyed):
        holes = np.flatnonzero(np.diff(keyed) > timeline.TOUCHING)
        found += [Found(float(keyed[i]), float(keyed[i + 1]), "no keys") for i in holes]
        found += _frozen(problems, frames, exists)
    return sorted(found, key=lambda gap: (gap.start, gap.end))


def _marked(armature: bpy.types.Object, scene: bpy.types.Scene, notes: list[str]) -> list[Found]:
    sources = [scene.timeline_markers, armature.animation_data.action.pose_markers]
    found = []
    for markers in sources:
        frames = sorted(m.frame for m in markers if m.name.strip().lower() == MARKER)
        if len(frames) % 2:
            notes.append(f"The marker '{MARKER}' at frame {frames[-1]} has no partner; set one on each side of a gap.")
            frames.pop()
        found += [Found(float(a), float(b), "marker") for a, b in zip(frames[::2], frames[1::2], strict=True)]
    return found


def _frozen(problems: Iterable[Mapping[str, Any]], frames: np.ndarray, exists: np.ndarray) -> list[Found]:
    still = np.zeros((len(frames), 22), bool)
    for problem in problems:
        if problem["kind"] == "frozen":
            still[int(problem["start"]) : int(problem["stop"]), INDEX[problem["joint"]]] = True
    lost = still[:, exists].mean(axis=1) >= FROZEN_SHARE
    edges = np.flatnonzero(np.diff(np.concatenate([[False], lost, [False]])))
    return [
        Found(float(frames[a - 1]), float(frames[b]), "frozen")
        for a, b in zip(edges[::2], edges[1::2], strict=True)
        if a > 0 and b < len(frames)
    ]


def plan(found: Sequence[Found], keys: timeline.PoseKeys, roles: RoleMap, notes: list[str]) -> timeline.FillPlan | None:
    """What to write and which keys inside stay; a gap that cannot be filled becomes a note. None where none is left."""
    gaps: list[timeline.Gap] = []
    keep: dict[str, set[float]] = {}
    for gap in found:
        try:
            one = timeline.plan_fill(
                keys.bones, roles.bones(), frame_start=gap.start, frame_end=gap.end, keep_keys=gap.why == "marker"
            )
        except MotionError as error:
            notes.append(f"The gap {gap.start:g}-{gap.end:g} ({gap.why}) was not filled: {error}")
            continue
        gaps += one.gaps
        for bone, frames in one.keep.items():
            keep.setdefault(bone, set()).update(frames)
    if not gaps:
        return None
    merged = [gaps[0]]
    for following in gaps[1:]:
        if following.start < merged[-1].end:
            merged[-1] = timeline.Gap(merged[-1].start, max(following.end, merged[-1].end))
        else:
            merged.append(following)
    return timeline.FillPlan(tuple(merged), {bone: tuple(sorted(frames)) for bone, frames in keep.items()})
