"""Bone Map: which bone plays which role.

Annotations stay real objects here, because Blender reads them.
"""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bpy
from bpy.props import StringProperty
from bpy_extras.io_utils import ExportHelper, ImportHelper

from .. import jobs
from ..engine_link import ROOT_PACKAGE, MotionError
from ..rig import bone_maps, roles


def folder() -> Path:
    """Where saved bone maps lie; nothing is created."""
    if ROOT_PACKAGE:
        return Path(bpy.utils.extension_path_user(ROOT_PACKAGE, path="bone_maps"))
    return Path(bpy.utils.user_resource("DATAFILES", path="mmdm/bone_maps"))


def _saved_names(_self: Any, _context: bpy.types.Context, typed: str) -> list[str]:
    return [name for name in bone_maps.saved(folder()) if typed.casefold() in name.casefold()]


class _BoneMapOperator:
    bl_options = {"UNDO"}
    if TYPE_CHECKING:  # what bpy.types.Operator brings
        poll_message_set: Any
        report: Any

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Blender's hook."""
        if jobs.active_armature(context) is None:
            cls.poll_message_set("No armature is active; click the rig first")
            return False
        return True

    def _carry_out(self, work: Callable[[], str]) -> set[str]:
        """Do it and say so, or say why not."""
        try:
            self.report({"INFO"}, work())
        except MotionError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        return {"FINISHED"}


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


class MMDM_OT_bone_role_clear(_BoneMapOperator, bpy.types.Operator):
    """Forget the bone that was chosen by hand, back to what is detected; without a role, forget all choices"""

    bl_idname = "mmdm.bone_role_clear"
    bl_label = "Clear"

    role: StringProperty(name="Role", description="One of the 22 roles, as left_knee; empty = all")

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Blender's hook."""
        if not super().poll(context):
            return False
        if not roles.overrides(jobs.require_armature(context)):
            cls.poll_message_set("No bone was chosen by hand; all roles are as detected")
            return False
        return True

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Take the choice off the armature."""
        armature = jobs.require_armature(context)

        def work() -> str:
            if self.role:
                roles.forget_override(armature, self.role)
                return f"{self.role.replace('_', ' ').capitalize()} is as detected again."
            roles.clear_overrides(armature)
            return "All roles are as detected again."

        return self._carry_out(work)


class MMDM_OT_bone_map_save(_BoneMapOperator, bpy.types.Operator):
    """Keep this rig's bone map under a name, for other armatures of its kind"""

    bl_idname = "mmdm.bone_map_save"
    bl_label = "Save Bone Map"
    bl_options = {"REGISTER"}  # a file is written, nothing that undo could take back

    name: StringProperty(name="Name", description="What to find it by; a map of this name is replaced")

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Into the extension's own user folder."""
        armature = jobs.require_armature(context)

        def work() -> str:
            path = bone_maps.file_of(folder(), self.name)
            replaced = path.exists()
            bone_maps.save(path, bone_maps.current(armature))
            return f"The bone map '{path.stem}' was {'replaced' if replaced else 'saved'}."

        return self._carry_out(work)

    def invoke(self, context: bpy.types.Context, _event: bpy.types.Event) -> set[str]:
        """Ask for the name."""
        if not self.name:
            self.name = jobs.require_armature(context).name
        return context.window_manager.invoke_props_dialog(self)


class _LoadingOperator(_BoneMapOperator):
    def _load(self, context: bpy.types.Context, find: Callable[[], Path]) -> set[str]:
        armature = jobs.require_armature(context)

        def work() -> str:
            path = find()
            done = bone_maps.apply(armature, bone_maps.load(path))
            words = f"The bone map '{path.stem}' gives {done.roles} of 22 roles their bones."
            if done.missing:
                words += f" This rig lacks {', '.join(done.missing[:4])}"
                words += f" and {len(done.missing) - 4} more." if len(done.missing) > 4 else "."
            return words

        return self._carry_out(work)


class MMDM_OT_bone_map_load(_LoadingOperator, bpy.types.Operator):
    """Put a saved bone map on this armature, in place of what was chosen by hand"""

    bl_idname = "mmdm.bone_map_load"
    bl_label = "Load Bone Map"

    name: StringProperty(name="Name", description="Of a saved bone map", search=_saved_names)

    def execute(self, context: bpy.types.Context) -> set[str]:
        """From the extension's own user folder."""
        return self._load(context, lambda: _existing(self.name))


class MMDM_OT_bone_map_delete(_BoneMapOperator, bpy.types.Operator):
    """Delete a saved bone map; armatures that it was put on keep their choices"""

    bl_idname = "mmdm.bone_map_delete"
    bl_label = "Delete Bone Map"
    bl_options = {"REGISTER"}

    name: StringProperty(name="Name", description="Of a saved bone map", search=_saved_names)

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Blender's hook: needs no armature."""
        return True

    def execute(self, _context: bpy.types.Context) -> set[str]:
        """The file goes."""

        def work() -> str:
            path = _existing(self.name)
            try:
                path.unlink()
            except OSError as error:
                raise MotionError(f"'{path}' cannot be deleted ({error.strerror}); delete it yourself.") from error
            return f"The bone map '{path.stem}' was deleted."

        return self._carry_out(work)

    def invoke(self, context: bpy.types.Context, event: bpy.types.Event) -> set[str]:
        """Ask first: no undo brings it back."""
        return context.window_manager.invoke_confirm(self, event)


def _existing(name: str) -> Path:
    path = bone_maps.file_of(folder(), name)
    if not path.exists():
        there = bone_maps.saved(folder())
        hint = f"choose one of {', '.join(there[:8])}" if there else "save one first"
        raise MotionError(f"There is no bone map '{name}'; {hint}.")
    return path


class MMDM_OT_bone_map_export(_BoneMapOperator, bpy.types.Operator, ExportHelper):
    """Write this rig's bone map to a file, for another computer or a colleague"""

    bl_idname = "mmdm.bone_map_export"
    bl_label = "Export Bone Map"
    bl_options = {"REGISTER"}
    filename_ext = ".json"

    filter_glob: StringProperty(default="*.json", options={"HIDDEN"})

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Wherever the user says."""
        armature, path = jobs.require_armature(context), Path(bpy.path.abspath(self.filepath))

        def work() -> str:
            bone_maps.save(path, bone_maps.current(armature))
            return f"The bone map was written to {path.name}."

        return self._carry_out(work)


class MMDM_OT_bone_map_import(_LoadingOperator, bpy.types.Operator, ImportHelper):
    """Put a bone map from a file on this armature, in place of what was chosen by hand"""

    bl_idname = "mmdm.bone_map_import"
    bl_label = "Import Bone Map"
    filename_ext = ".json"

    filter_glob: StringProperty(default="*.json", options={"HIDDEN"})

    def execute(self, context: bpy.types.Context) -> set[str]:
        """From wherever the user says."""
        return self._load(context, lambda: Path(bpy.path.abspath(self.filepath)))


CLASSES = (
    MMDM_OT_bones_detect,
    MMDM_OT_bone_role_set,
    MMDM_OT_bone_role_clear,
    MMDM_OT_bone_map_save,
    MMDM_OT_bone_map_load,
    MMDM_OT_bone_map_delete,
    MMDM_OT_bone_map_export,
    MMDM_OT_bone_map_import,
)
