"""Refine Jitter: take the shake out of a range.

Annotations stay real objects here, because Blender reads them.
"""

import math
from dataclasses import dataclass

import bpy
import numpy as np
from bpy.props import IntProperty

from .. import jobs, timeline
from ..engine_link import MotionError, protocol
from ..properties import lock_feet_option, strength_option
from ..rig.binding import RigTake
from ..rig.write import check, write
from . import applying, reading


@dataclass(frozen=True, eq=False)
class Refinement:
    """What `apply` needs: the take as read, (T, 23) bool what may change, and the frames' span in words."""

    take: RigTake
    changed: np.ndarray
    bones: frozenset[str]
    span: str


class MMDM_OT_refine_jitter(jobs.EngineOperator, bpy.types.Operator):
    """Refine what the animator chose."""

    bl_idname = "mmdm.refine_jitter"
    bl_label = "Refine Jitter"
    bl_description = (
        "Take the shake out of the selected keys, the preview range or everything. The result is a new action"
    )
    bl_options = {"UNDO"}
    title = "Refine Jitter"
    panel_options = ("strength", "lock_feet")

    __annotations__ = {
        "frame_start": IntProperty(
            name="First Frame", description="The first frame to refine; 0 and 0: from the selection", default=0
        ),
        "frame_end": IntProperty(
            name="Last Frame", description="The last frame to refine; 0 and 0: from the selection", default=0
        ),
        "strength": strength_option(),
        "lock_feet": lock_feet_option(),
    }

    def prepare(self, context: bpy.types.Context, armature: bpy.types.Object) -> jobs.Request:
        """Find the range and read the motion around it."""
        about = reading.subject(armature)
        check(context, armature, about.roles, set(about.bones))
        first, last = timeline.plan_range(
            about.keys.bones,
            about.role_bones,
            frame_start=self.frame_start,
            frame_end=self.frame_end,
            preview=reading.preview_range(context),
        )
        first, last = math.ceil(first - timeline.SAME), math.floor(last + timeline.SAME)
        if self.strength == 0:
            raise MotionError("With strength 0 nothing would change; raise the strength.")
        take = reading.read_around(context, armature, about, first, last)
        inside = (take.frames >= first) & (take.frames <= last)
        rows = np.flatnonzero(inside)
        params = {
            "fps": take.motion.fps,
            "start": int(rows[0]),
            "stop": int(rows[-1]) + 1,
            "strength": self.strength,
            "lock_feet": self.lock_feet,
        }
        arrays = protocol.motion_arrays(take.motion) | {"joints": about.joints}
        changed = inside[:, None] & np.append(about.joints, about.joints[0])
        notes = Refinement(take, changed, about.bones, f"{first:g}-{last:g}")
        return jobs.Request(jobs.Target.of(armature, about.keys), "refine", params, arrays, notes)

    def apply(
        self,
        context: bpy.types.Context,
        armature: bpy.types.Object,
        request: jobs.Request,
        arrays: dict[str, np.ndarray],
    ) -> str:
        """One new action, assigned; none where every frame is trusted as it is."""
        refinement: Refinement = request.notes
        take = refinement.take
        source = armature.animation_data.action
        slot = applying.slot_handle(armature)
        frames = take.frames[refinement.changed.any(axis=1)]
        if all(np.array_equal(arrays[name], getattr(take.motion, name)) for name in ("rotations", "root")):
            return f"Nothing in {refinement.span} needs refining, so nothing was changed."
        with applying.all_or_nothing(armature):
            applying.list_source(armature)
            report = write(
                context,
                armature,
                take,
                take.motion.with_frames(arrays["rotations"], arrays["root"]),
                changed=refinement.changed,
                bones=set(refinement.bones),
                name=f"{source.name} refined",
                start=frames[0],
                end=frames[-1],
                style="REFINE",
            )
            applying.keep_selection(bpy.data.actions[report.action], slot, source)
            applying.list_take(armature, report, slot, f"Refine {refinement.span}, strength {self.strength:.2g}")
        return applying.sentence(f"Refined {refinement.span}", [report])


CLASSES = (MMDM_OT_refine_jitter,)
