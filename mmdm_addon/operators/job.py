"""Cancel from the panel."""

import bpy

from .. import jobs


class MMDM_OT_cancel(bpy.types.Operator):
    """Stop computing; nothing is changed"""

    bl_idname = "mmdm.cancel"
    bl_label = "Cancel"
    bl_options = {"INTERNAL"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Blender's hook."""
        return jobs.running() is not None

    def execute(self, context: bpy.types.Context) -> set[str]:
        """The job's own operator notices at its next tick."""
        jobs.cancel_running()
        return {"FINISHED"}


CLASSES = (MMDM_OT_cancel,)
