"""Complete Bones: make the selected bones up from the rest of the body.

Annotations stay real objects here, because Blender reads them.
"""

import bpy
import numpy as np

from .. import jobs, timeline
from ..engine_link import MotionError, protocol
from ..properties import frame_options, lock_feet_option
from . import ranged, reading


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
        **frame_options("The first frame to regenerate", "The last frame to regenerate"),
        "lock_feet": lock_feet_option(),
    }

    def prepare(self, context: bpy.types.Context, armature: bpy.types.Object) -> jobs.Request:
        """Find the range and read the motion around it."""
        asked = ranged.read(context, armature, self.frame_start, self.frame_end, reading.REACH)
        mask = lost(asked.about, asked.take.frames, asked.inside)
        if mask[:, 0].all():
            raise MotionError(
                "The hips are selected over the whole animation, so that nothing says where the body is; "
                "deselect them, or choose a shorter range."
            )
        arrays = protocol.motion_arrays(asked.take.motion) | {"mask": mask}
        return ranged.request(armature, "complete", asked, mask, {"lock_feet": self.lock_feet}, arrays)

    def apply(
        self,
        context: bpy.types.Context,
        armature: bpy.types.Object,
        request: jobs.Request,
        arrays: dict[str, np.ndarray],
    ) -> str:
        """One new action, assigned."""
        change: ranged.Change = request.notes
        detail = f"Complete {change.span}"
        return ranged.write_take(context, armature, change, arrays, done="completed", detail=detail, style="FILL")


CLASSES = (MMDM_OT_complete_bones,)
