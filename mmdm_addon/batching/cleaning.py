"""One take: find what is wrong, fill, complete and refine it, write it once, and say what changed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import bpy
import numpy as np

from .. import compat, timeline
from ..engine_link import JOINTS, Motion, MotionError
from ..operators.fill_gap import hidden
from ..operators.reading import CONTEXT_SECONDS, Subject
from ..rig import roles as rig_roles
from ..rig.binding import RigTake
from ..rig.read import read
from ..rig.write import check, write
from . import evidence, gaps, lost_limbs
from .arguments import Settings
from .engine import Engine

LEG = 0.82
"""Metres; an adult's, by which files in other units are told."""


class NotOursError(MotionError):
    """An armature that is no human figure, or one whose rig forbids writing; it is left alone."""


@dataclass(eq=False)
class _Work:
    """A take while it is being cleaned: as read, as it shall be, and what was done."""

    armature: bpy.types.Object
    about: Subject
    take: RigTake
    motion: Motion
    poses: np.ndarray
    notes: list[str] = field(default_factory=list)
    filled: list[dict[str, Any]] = field(default_factory=list)
    completed: list[dict[str, Any]] = field(default_factory=list)

    @property
    def frames(self) -> np.ndarray:
        """(T,) scene frames."""
        return self.take.frames

    @property
    def changed(self) -> np.ndarray:
        """(T, 23) bool: what is no longer as it was read, to the bit."""
        before = self.take.motion
        turned = (self.motion.rotations != before.rotations).any(axis=-1)
        return np.concatenate([turned, (self.motion.root != before.root).any(axis=-1)[:, None]], axis=1)


def clean(context: bpy.types.Context, armature: bpy.types.Object, settings: Settings, engine: Engine) -> dict[str, Any]:
    """Do what the settings say to one armature; the record of it. Raises `NotOursError`, `MotionError`."""
    engine.reset()
    work = _begin(context, armature)
    # what was found says where a captured take is frozen, so filling needs it too
    before = _detect(work, engine) if {"detect", "fill"} & set(settings.do) else []
    if "fill" in settings.do:
        _fill(context, work, before, settings, engine)
    if "complete" in settings.do:
        _complete(work, settings, engine)
    if "refine" in settings.do:
        _refine(work, settings, engine)
    changed = work.changed
    after, cleaned = before, work.take
    if changed.any():
        _write(context, work, changed)
        cleaned = read(context, armature, work.frames, roles=work.about.roles)
        if "detect" in settings.do:
            after = _detect(work, engine, cleaned.motion)
    return _record(work, settings, changed, cleaned.motion, before, after, engine)


def _begin(context: bpy.types.Context, armature: bpy.types.Object) -> _Work:
    context.view_layer.objects.active = armature
    if armature.mode != "OBJECT":
        bpy.ops.object.mode_set(mode="OBJECT")
    roles = rig_roles.detect(armature)
    bones = frozenset(b.name for b in armature.pose.bones if not compat.is_hidden(b))
    try:
        roles.require()
        check(context, armature, roles, set(bones))
    except MotionError as error:
        raise NotOursError(f"'{armature.name}': {error}") from error
    joints = np.array([not bones.isdisjoint(roles.chains.get(joint, ())) for joint in JOINTS])
    keys = timeline.pose_keys(armature)
    first, last = timeline.plan_range(keys.bones, ())
    frames = np.arange(math.ceil(first - timeline.SAME), math.floor(last + timeline.SAME) + 1, dtype=np.float64)
    take = read(context, armature, frames, roles=roles)
    poses = timeline.trusted(timeline.columns(keys.bones.values()), frames)
    return _Work(armature, Subject(keys, roles, bones, joints), take, take.motion, poses)


def _detect(work: _Work, engine: Engine, motion: Motion | None = None) -> list[dict[str, Any]]:
    """Problems at what is keyed; what a curve does between two keys is not the take's fault."""
    found = engine.ask("detect", motion or work.motion)[0]["problems"]
    return [p for p in found if work.poses[int(p["start"]) : int(p["stop"])].mean() >= 0.5]


def _fill(
    context: bpy.types.Context, work: _Work, problems: list[dict[str, Any]], settings: Settings, engine: Engine
) -> None:
    exists = work.take.motion.skeleton.exists
    found = gaps.find(work.armature, context.scene, work.about.keys, problems, work.frames, exists, work.notes)
    plan = gaps.plan(found, work.about.keys, work.about.roles, work.notes)
    if plan is None:
        return
    mask, inside = hidden(plan, work.about, work.frames)
    margin = math.ceil(CONTEXT_SECONDS * work.motion.fps)
    rotations, root = work.motion.rotations.copy(), work.motion.root.copy()
    near = np.convolve(inside, np.ones(2 * margin + 1), "same") > 0
    edges = np.flatnonzero(np.diff(np.concatenate([[False], near, [False]])))
    for first, stop in zip(edges[::2], edges[1::2], strict=True):  # gaps that see each other are solved together
        part = mask[first:stop]
        rows = np.flatnonzero(part.any(axis=1))
        if not len(rows):
            continue
        params = {
            "start": int(rows[0]),
            "stop": int(rows[-1]) + 1,
            "one_sided": bool(rows[0] == 0 or rows[-1] == len(part) - 1),
            "lock_feet": settings.lock_feet,
        }
        answer = engine.ask("fill_gap", work.motion.slice(first, stop), params, keep=~part, joints=work.about.joints)[1]
        written = part & inside[first:stop, None]
        rotations[first:stop][written] = answer["rotations"][0][written]
        root[first:stop][written[:, 0]] = answer["root"][0][written[:, 0]]
    work.motion = work.motion.with_frames(rotations, root)
    work.poses = work.poses | inside
    spans = [(gap.start, gap.end) for gap in plan.gaps]
    work.filled = [g.words for g in found if any(a <= g.start and g.end <= b for a, b in spans)]


def _complete(work: _Work, settings: Settings, engine: Engine) -> None:
    if not gaps.is_captured(timeline.columns(work.about.keys.bones.values())):
        work.notes.append("Complete was left out: a limb that rests between hand-set keys is not lost.")
        return
    mask, limbs = lost_limbs.find(work.motion)
    mask &= work.about.joints
    if not mask.any():
        return
    answer = engine.ask("complete", work.motion, {"lock_feet": settings.lock_feet}, mask=mask)[1]
    rotations = work.motion.rotations.copy()
    rotations[mask] = answer["rotations"][mask]
    work.motion = work.motion.with_frames(rotations, work.motion.root)
    work.completed = [
        {"limb": w["limb"], "start": int(work.frames[w["start"]]), "end": int(work.frames[w["stop"] - 1])}  # type: ignore[call-overload,operator]
        for w in limbs
    ]


def _refine(work: _Work, settings: Settings, engine: Engine) -> None:
    if len(work.frames) < 4:
        work.notes.append("Refine was left out: the take has fewer than four frames.")
        return
    params = {"start": 0, "stop": len(work.frames), "strength": settings.strength, "lock_feet": settings.lock_feet}
    answer = engine.ask("refine", work.motion, params, joints=work.about.joints)[1]
    work.motion = work.motion.with_frames(answer["rotations"], answer["root"])


def _write(context: bpy.types.Context, work: _Work, changed: np.ndarray) -> None:
    """Everything at once, into a new action; the source's keeps a fake user."""
    rows = np.flatnonzero(changed.any(axis=1))
    only_new = not changed[work.poses & ~_inside(work)].any()
    report = write(
        context,
        work.armature,
        work.take,
        work.motion,
        changed=changed,
        bones=set(work.about.bones),
        name=f"{work.armature.animation_data.action.name} cleaned",
        start=work.frames[rows[0]],
        end=work.frames[rows[-1]],
        style="FILL" if only_new else "REFINE",
    )
    work.notes += report.notes


def _inside(work: _Work) -> np.ndarray:
    inside = np.zeros(len(work.frames), bool)
    for done in (*work.filled, *work.completed):
        inside |= (work.frames >= done["start"]) & (work.frames <= done["end"])
    return inside


def _record(
    work: _Work,
    settings: Settings,
    changed: np.ndarray,
    cleaned: Motion,
    before: list[dict[str, Any]],
    after: list[dict[str, Any]],
    engine: Engine,
) -> dict[str, Any]:
    original = work.take.motion
    record: dict[str, Any] = {
        "armature": work.armature.name,
        "action": work.armature.animation_data.action.name,
        "fps": original.fps,
        "first_frame": float(work.frames[0]),
        "last_frame": float(work.frames[-1]),
        "frames": len(work.frames),
        "changed_frames": int(changed.any(axis=1).sum()),
        "filled": work.filled,
        "completed": work.completed,
        **evidence.show(original, cleaned, work.frames, _metres(original)),
        "notes": list(dict.fromkeys(work.notes)),
        "engine_seconds": round(engine.seconds, 3),
    }
    if "detect" in settings.do:
        record["problems"] = {
            "before": len(before),
            "after": len(after),
            "list": [_problem(p, work, before, after) for p in [*before, *_new(before, after)]],
        }
    return record


def _same(a: Mapping[str, Any], b: Mapping[str, Any]) -> bool:
    overlap = a["start"] < b["stop"] and b["start"] < a["stop"]
    return overlap and a["kind"] == b["kind"] and a["joint"] == b["joint"]


def _new(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Problems that were not there, or not seen under worse ones."""
    return [p for p in after if not any(_same(p, q) for q in before)]


def _problem(
    problem: Mapping[str, Any], work: _Work, before: list[dict[str, Any]], after: list[dict[str, Any]]
) -> dict[str, Any]:
    start, stop = int(problem["start"]), int(problem["stop"])
    chain = work.about.roles.chains.get(problem["joint"], ("",))
    return {
        "kind": problem["kind"],
        "joint": problem["joint"],
        "bone": chain[0],
        "start": int(work.frames[start]),
        "end": int(work.frames[stop - 1]),
        "severity": float(problem["severity"]),
        "fixed": not any(_same(problem, p) for p in after),
        "new": not any(_same(problem, p) for p in before),
    }


def _metres(motion: Motion) -> float:
    """Metres per unit of a take: a power of ten where its legs could not be a human's otherwise."""
    leg = motion.skeleton.leg_length
    return 1.0 if 0.3 < leg < 1.6 else 10.0 ** round(math.log10(LEG / leg))
