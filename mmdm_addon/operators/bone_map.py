"""Bone Map: which bone plays which role.

Annotations stay real objects here, because Blender reads them.
"""

from typing import TYPE_CHECKING, Any

import bpy
from bpy.props import StringProperty

from .. import jobs
from ..engine_link import MotionError
from ..rig import roles


class _BoneMapOperator:
    bl_options = {"UNDO"}
    if TYPE_CHECKING:  # what bpy.types.Operator brings
        poll_message_set: Any

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Blender's hook."""
        if jobs.active_armature(context) is None:
            cls.poll_message_set("No armature is active; click the rig first")
            return False
        return True


class MMDM_OT_bones_detect(_BoneMapOperator, bpy.types.Operator):
    """Find the bones by name and shape again, forgetting what was chosen by hand"""

    bl_idname = "mmdm.bones_detect"
    bl_label = "Detect Bones"

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Clear the choices and report what is found."""
        armature = jobs.require_armature(context)
        roles.clear_overrides(armature)
        found = roles.detect(armature)
        if found.problems:
            self.report({"WARNING"}, " ".join(found.problems))
        else:
            self.report({"INFO"}, f"{found.preset}: {len(found.chains)} of 22 roles found.")
        return {"FINISHED"}


class MMDM_OT_bone_role_set(_BoneMapOperator, bpy.types.Operator):
    """Choose the bone of a role; no bone means that the rig lacks it"""

    bl_idname = "mmdm.bone_role_set"
    bl_label = "Choose Bone"

    role: StringProperty(name="Role", description="One of the 22 roles, as left_knee")
    bone: StringProperty(name="Bone", description="A bone of the active armature; empty = the rig has none")

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Keep the choice on the armature."""
        try:
            roles.set_override(jobs.require_armature(context), self.role, self.bone)
        except MotionError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return {"FINISHED"}

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> set[str]:
        """Ask for the bone, starting from the one in force."""
        chain = roles.detect(jobs.require_armature(context)).chains.get(self.role, ("",))
        self.bone = chain[0]
        return context.window_manager.invoke_props_dialog(self)

    def draw(self, context: bpy.types.Context) -> None:
        """Blender's hook: a picker over the armature's bones."""
        armature = jobs.require_armature(context)
        self.layout.prop_search(self, "bone", armature.data, "bones", text=self.role.replace("_", " ").capitalize())


CLASSES = (MMDM_OT_bones_detect, MMDM_OT_bone_role_set)
