"""What the Bone Map panel shows about saved maps."""

from __future__ import annotations

import bpy

from ..operators import bone_map as commands
from ..rig import bone_maps


class MMDM_MT_bone_maps(bpy.types.Menu):
    """Saved bone maps to put on this armature."""

    bl_idname = "MMDM_MT_bone_maps"
    bl_label = "Load"

    def draw(self, context: bpy.types.Context) -> None:
        """Blender's hook. The folder is read only when the menu opens."""
        layout = self.layout
        names = bone_maps.saved(commands.folder())
        for name in names:
            layout.operator("mmdm.bone_map_load", text=name).name = name
        if not names:
            layout.label(text="None saved yet")
        layout.separator()
        layout.operator("mmdm.bone_map_import", text="Import...", icon="IMPORT")
        layout.operator("mmdm.bone_map_export", text="Export...", icon="EXPORT")
        if names:
            layout.menu(MMDM_MT_bone_maps_delete.bl_idname, icon="TRASH")


class MMDM_MT_bone_maps_delete(bpy.types.Menu):
    """Saved bone maps to delete."""

    bl_idname = "MMDM_MT_bone_maps_delete"
    bl_label = "Delete"

    def draw(self, context: bpy.types.Context) -> None:
        """Blender's hook."""
        self.layout.operator_context = "INVOKE_DEFAULT"
        for name in bone_maps.saved(commands.folder()):
            self.layout.operator("mmdm.bone_map_delete", text=name).name = name


def draw_saved(layout: bpy.types.UILayout) -> None:
    """Save, load, forget."""
    row = layout.row(align=True)
    row.menu(MMDM_MT_bone_maps.bl_idname)
    row.operator("mmdm.bone_map_save", text="Save")
    row.operator("mmdm.bone_role_clear", text="Clear")


CLASSES = (MMDM_MT_bone_maps, MMDM_MT_bone_maps_delete)
