"""Refine Jitter: take the shake out of a range.

Annotations stay real objects here, because Blender reads them.
"""

import bpy
import numpy as np

from .. import jobs
from ..engine_link import MotionError, protocol
from ..properties import frame_options, lock_feet_option, strength_option
from ..rig import confidence
from . import ranged


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
        **frame_options("The first frame to refine", "The last frame to refine"),
        "strength": strength_option(),
        "lock_feet": lock_feet_option(),
    }

    def prepare(self, context: bpy.types.Context, armature: bpy.types.Object) -> jobs.Request:
        """Find the range and read the motion around it."""
        if self.strength == 0:
            raise MotionError("With strength 0 nothing would change; raise the strength.")
        asked = ranged.read(context, armature, self.frame_start, self.frame_end)
        rows = np.flatnonzero(asked.inside)
        params = {
            "start": int(rows[0]),
            "stop": int(rows[-1]) + 1,
            "strength": self.strength,
            "lock_feet": self.lock_feet,
        }
        joints = asked.about.joints
        arrays = protocol.motion_arrays(asked.take.motion) | {"joints": joints}
        sure = confidence.read(armature, asked.about.roles, asked.take.frames)
        if sure is not None:
            arrays["captured"] = sure
        return ranged.request(armature, "refine", asked, joints, params, arrays)

    def apply(
        self,
        context: bpy.types.Context,
        armature: bpy.types.Object,
        request: jobs.Request,
        arrays: dict[str, np.ndarray],
    ) -> str:
        """One new action, assigned; none where every frame is trusted as it is."""
        change: ranged.Change = request.notes
        before = change.take.motion
        if all(np.array_equal(arrays[name], getattr(before, name)) for name in ("rotations", "root")):
            return f"Nothing in {change.span} needs refining, so nothing was changed."
        detail = f"Refine {change.span}, strength {self.strength:.2g}"
        return ranged.write_take(context, armature, change, arrays, done="refined", detail=detail, style="REFINE")


CLASSES = (MMDM_OT_refine_jitter,)
