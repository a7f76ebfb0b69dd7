"""What Refine Jitter and Complete Bones share: a range is read with its surroundings, and one take is written back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import bpy
import numpy as np

from .. import jobs, timeline
from ..rig.binding import RigTake
from ..rig.solve import Style
from ..rig.write import check, write
from . import applying, reading


@dataclass(frozen=True, eq=False)
class Range:
    """The frames that an operator is about. take: as read, with its surroundings. inside: (T,) bool, the range in it.

    span: the range in words.
    """

    about: reading.Subject
    take: RigTake
    inside: np.ndarray
    span: str


@dataclass(frozen=True, eq=False)
class Change:
    """What `write_take` needs: the take as read, (T, 23) bool what may change, and the range in words."""

    take: RigTake
    changed: np.ndarray
    bones: frozenset[str]
    span: str


def read(
    context: bpy.types.Context, armature: bpy.types.Object, frame_start: int, frame_end: int, reach: float = 0.0
) -> Range:
    """Find the range (0, 0: from the selection) and read the motion around it. Raises `MotionError`.

    reach: see `reading.read_around`.
    """
    about = reading.subject(armature)
    check(context, armature, about.roles, set(about.bones), strips=True)
    first, last = timeline.plan_range(
        about.keys.bones,
        about.role_bones,
        frame_start=frame_start,
        frame_end=frame_end,
        preview=reading.preview_range(context),
    )
    first, last = math.ceil(first - timeline.SAME), math.floor(last + timeline.SAME)
    take = reading.read_around(context, armature, about, first, last, reach=reach)
    inside = (take.frames >= first) & (take.frames <= last)
    return Range(about, take, inside, f"{first:g}" if first == last else f"{first:g}-{last:g}")


def request(
    armature: bpy.types.Object,
    method: str,
    asked: Range,
    joints: np.ndarray,
    params: Mapping[str, object],
    arrays: Mapping[str, np.ndarray],
) -> jobs.Request:
    """Ask the engine; of its answer the range is taken where ``joints``, bool (22,) or (T, 22), is True."""
    changed = np.concatenate([joints, joints[..., :1]], axis=-1) & asked.inside[:, None]
    return jobs.Request(
        jobs.Target.of(armature, asked.about.keys),
        method,
        {"fps": asked.take.motion.fps, **params},
        arrays,
        Change(asked.take, changed, asked.about.bones, asked.span),
    )


def write_take(
    context: bpy.types.Context,
    armature: bpy.types.Object,
    change: Change,
    arrays: Mapping[str, np.ndarray],
    *,
    done: str,
    detail: str,
    style: Style,
) -> str:
    """The engine's answer as one new action, assigned and listed; the sentence for the user.

    done: what was done, a lower-case participle. detail: for the list of takes.
    """
    source = armature.animation_data.action
    slot = applying.slot_handle(armature)
    frames = change.take.frames[change.changed.any(axis=1)]
    with applying.all_or_nothing(armature):
        applying.list_source(armature)
        report = write(
            context,
            armature,
            change.take,
            change.take.motion.with_frames(arrays["rotations"], arrays["root"]),
            changed=change.changed,
            bones=set(change.bones),
            name=f"{source.name} {done}",
            start=frames[0],
            end=frames[-1],
            style=style,
        )
        if style == "FILL":
            applying.trust(armature, report, slot, change.take, change.changed)
        applying.keep_selection(bpy.data.actions[report.action], slot, source)
        applying.list_take(armature, report, slot, detail)
    return applying.sentence(f"{done.capitalize()} {change.span}", [report])
