"""Fill Gap: in-between motion for what the animator selected.

Annotations stay real objects here, because Blender reads them.
"""

from dataclasses import dataclass
from typing import Protocol

import bpy
import numpy as np

from .. import jobs, timeline
from ..engine_link import MotionError, protocol
from ..properties import fill_options, frame_options, lock_feet_option
from ..rig.binding import RigTake
from ..rig.write import WriteReport, check, write
from . import applying, estimates, reading

CURVES = {"bezier": "Bézier", "interpolation": "interpolation"}
"""What can be mixed in where it serves better, in words."""


@dataclass(frozen=True, eq=False)
class Fill:
    """What `apply` needs: the plan, the take as read, and (T, 23) bool what is generated inside the gaps.

    blend: what is mixed in, in words; empty for nothing.
    """

    plan: timeline.FillPlan
    take: RigTake
    changed: np.ndarray
    bones: frozenset[str]
    blend: str


def planned(
    context: bpy.types.Context,
    about: reading.Subject,
    *,
    keep: str,
    extend: bool,
    frame_start: int = 0,
    frame_end: int = 0,
) -> timeline.FillPlan:
    """What the options mean for this selection. Raises `MotionError` when nothing sensible is selected."""
    return timeline.plan_fill(
        about.keys.bones,
        about.role_bones,
        frame_start=frame_start,
        frame_end=frame_end,
        preview=reading.preview_range(context),
        keep_keys=keep == "KEYS",
        extend=extend,
    )


class GapOptions(Protocol):
    """The options of an operator that say which gaps it is about."""

    frame_start: int
    frame_end: int
    keep: str
    extend: bool


def chosen(
    context: bpy.types.Context, armature: bpy.types.Object, options: GapOptions
) -> tuple[reading.Subject, timeline.FillPlan]:
    """The bones and the gaps that an operator is about. Raises `MotionError` where these could not be written."""
    about = reading.subject(armature)
    check(context, armature, about.roles, set(about.bones), strips=True)
    borders = {"frame_start": options.frame_start, "frame_end": options.frame_end}
    return about, planned(context, about, keep=options.keep, extend=options.extend, **borders)


def hidden(plan: timeline.FillPlan, about: reading.Subject, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What the engine generates, and which frames of it are written: (T, 22) bool, (T,) bool.

    Between sparse keys around the gap a curve only guesses, so these frames are no context: the engine generates them
    as well, and nobody writes them.
    """
    inside = np.isin(frames, np.concatenate([gap.frames for gap in plan.gaps]))
    poses = timeline.trusted(timeline.columns(about.keys.bones.values()), frames) & ~inside
    for gap in plan.gaps:
        if not gap.open_start:
            poses[np.flatnonzero(frames <= gap.start + timeline.SAME)[-1]] = True
        if not gap.open_end:
            poses[np.flatnonzero(frames >= gap.end - timeline.SAME)[0]] = True
    mask = ~poses[:, None] & about.joints
    for bone, kept in plan.keep.items():
        for joint in about.joints_of(bone):
            mask[np.abs(frames[:, None] - np.asarray(kept)).min(axis=1) <= 0.5, joint] = False
    return mask, inside


def wanted(plan: timeline.FillPlan, about: reading.Subject, frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`hidden`. Raises `MotionError` where kept keys leave nothing to write."""
    mask, inside = hidden(plan, about, frames)
    if not (mask & inside[:, None]).any():
        raise MotionError("Every frame of the gap has a key that is kept; choose Replace Keys or a longer gap.")
    return mask, inside


class MMDM_OT_fill_gap(jobs.EngineOperator, bpy.types.Operator):
    """Generate what lies between the poses that the animator chose."""

    bl_idname = "mmdm.fill_gap"
    bl_label = "Fill Gap"
    bl_description = (
        "Fill the gap between the selected keys with motion that fits both sides. The result is a new action"
    )
    bl_options = {"UNDO"}
    title = "Fill Gap"
    panel_options = ("keep", "takes", "seed", "label", "density", "step", "tolerance", "lock_feet", "extend")

    __annotations__ = {
        **frame_options("The pose before the gap", "The pose after the gap", kept=True),
        **fill_options(),
        "lock_feet": lock_feet_option(),
    }

    def prepare(self, context: bpy.types.Context, armature: bpy.types.Object) -> jobs.Request:
        """Find the gaps and read the motion around them."""
        about, plan = chosen(context, armature, self)
        take = reading.read_around(context, armature, about, *plan.extent, reach=reading.REACH, plan=plan)
        mask, inside = wanted(plan, about, take.frames)
        rows = np.flatnonzero(mask.any(axis=1))
        params = {
            "fps": take.motion.fps,
            "start": int(rows[0]),
            "stop": int(rows[-1]) + 1,
            "takes": self.takes,
            "seed": self.seed,
            "label": self.label,
            "one_sided": plan.gaps[0].open_start or plan.gaps[-1].open_end,
            "lock_feet": self.lock_feet,
        }
        estimate = estimates.recall(estimates.question(context, armature, about, plan))
        blend = ""
        if estimate and estimate.share:  # as the panel has announced
            params["blend"] = [estimate.share, estimate.towards]
            blend = f", {estimate.share:.0%} {CURVES.get(estimate.towards, estimate.towards)}"
        arrays = protocol.motion_arrays(take.motion) | {"keep": ~mask, "joints": about.joints}
        changed = np.concatenate([mask, mask[:, :1]], axis=1) & inside[:, None]
        return jobs.Request(
            jobs.Target.of(armature, about.keys),
            "fill_gap",
            params,
            arrays,
            Fill(plan, take, changed, about.bones, blend),
        )

    def apply(
        self,
        context: bpy.types.Context,
        armature: bpy.types.Object,
        request: jobs.Request,
        arrays: dict[str, np.ndarray],
    ) -> str:
        """One new action per take; the first one is assigned."""
        fill: Fill = request.notes
        source = armature.animation_data.action
        first, last = fill.plan.gaps[0], fill.plan.gaps[-1]
        spans = fill.plan.spans
        slot = applying.slot_handle(armature)
        reports: list[WriteReport] = []
        with applying.all_or_nothing(armature):
            applying.list_source(armature)
            for index in reversed(range(len(arrays["rotations"]))):  # the first take last, so that it stays assigned
                edited = fill.take.motion.with_frames(arrays["rotations"][index], arrays["root"][index])
                report = write(
                    context,
                    armature,
                    fill.take,
                    edited,
                    changed=fill.changed,
                    bones=set(fill.bones),
                    name=f"{source.name} fill {index + 1}" if len(arrays["rotations"]) > 1 else f"{source.name} fill",
                    start=first.start,
                    end=last.end,
                    density=self.density,
                    step=self.step,
                    tolerance=self.tolerance,
                    keep={bone: list(frames) for bone, frames in fill.plan.keep.items()},
                    style="FILL",
                    assign=index == 0,
                )
                reports.insert(0, report)
                applying.trust(armature, report, slot, fill.take, fill.changed)
            for index, report in enumerate(reports):
                applying.keep_selection(bpy.data.actions[report.action], slot, source)
                seed = f", seed {self.seed + index}" if index else ""
                applying.list_take(armature, report, slot, f"Fill {spans}{fill.blend}{seed}")
        return applying.sentence(f"Filled {spans}", reports)


CLASSES = (MMDM_OT_fill_gap,)
