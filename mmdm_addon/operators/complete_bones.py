"""Complete Bones: make the selected bones up from the rest of the body.

Annotations stay real objects here, because Blender reads them.
"""

import math
from dataclasses import dataclass

import bpy
import numpy as np
from bpy.props import IntProperty

from .. import jobs, timeline
from ..engine_link import MotionError, protocol
from ..properties import lock_feet_option
from ..rig.binding import RigTake
from ..rig.write import check, write
from . import applying, reading


@dataclass(frozen=True, eq=False)
class Completion:
    """What `apply` needs: the take as read, (T, 23) bool what is written, and the frames' span in words."""

    take: RigTake
    changed: np.ndarray
    bones: frozenset[str]
    span: str


def lost(about: reading.Subject, frames: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """(T, 22) bool, what the engine generates.

    inside: (T,) bool, the frames that are written. Outside them a selected bone is shown where it is keyed; what a
    curve makes up between keys that are far apart is no pose, except next to the range, where the seam must fit.
    """
    poses = timeline.trusted(timeline.columns(about.keys.bones.values()), frames)
    beside = np.convolve(inside, (1, 1, 1), mode="same") > 0
    return ~((poses | beside) & ~inside)[:, None] & about.joints


class MMDM_OT_complete_bones(jobs.EngineOperator, bpy.types.Operator):
    """Regenerate the bones that the animator chose."""

    bl_idname = "mmdm.complete_bones"
    bl_label = "Complete Bones"
    bl_description = (
        "Make up the selected bones anew from the rest of the body, over the selected keys, the preview range or "
        "everything. The other bones are held. The result is a new action"
    )
    bl_options = {"UNDO"}
    title = "Complete Bones"
    panel_options = ("lock_feet",)

    __annotations__ = {
        "frame_start": IntProperty(
            name="First Frame", description="The first frame to regenerate; 0 and 0: from the selection", default=0
        ),
        "frame_end": IntProperty(
            name="Last Frame", description="The last frame to regenerate; 0 and 0: from the selection", default=0
        ),
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
        take = reading.read_around(context, armature, about, first, last)
        inside = (take.frames >= first) & (take.frames <= last)
        mask = lost(about, take.frames, inside)
        if mask[:, 0].all():
            raise MotionError(
                "The hips are selected over the whole animation, so that nothing says where the body is; "
                "deselect them, or choose a shorter range."
            )
        params = {"fps": take.motion.fps, "lock_feet": self.lock_feet}
        arrays = protocol.motion_arrays(take.motion) | {"mask": mask}
        changed = np.concatenate([mask, mask[:, :1]], axis=1) & inside[:, None]
        notes = Completion(take, changed, about.bones, f"{first:g}-{last:g}")
        return jobs.Request(jobs.Target.of(armature, about.keys), "complete", params, arrays, notes)

    def apply(
        self,
        context: bpy.types.Context,
        armature: bpy.types.Object,
        request: jobs.Request,
        arrays: dict[str, np.ndarray],
    ) -> str:
        """One new action, assigned."""
        completion: Completion = request.notes
        take = completion.take
        source = armature.animation_data.action
        slot = applying.slot_handle(armature)
        frames = take.frames[completion.changed.any(axis=1)]
        with applying.all_or_nothing(armature):
            applying.list_source(armature)
            report = write(
                context,
                armature,
                take,
                take.motion.with_frames(arrays["rotations"], arrays["root"]),
                changed=completion.changed,
                bones=set(completion.bones),
                name=f"{source.name} completed",
                start=frames[0],
                end=frames[-1],
                style="FILL",
            )
            applying.keep_selection(bpy.data.actions[report.action], slot, source)
            applying.list_take(armature, report, slot, f"Complete {completion.span}")
        return applying.sentence(f"Completed {completion.span}", [report])


CLASSES = (MMDM_OT_complete_bones,)
