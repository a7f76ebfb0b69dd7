"""Entries in Blender's own menus: Dope Sheet, Timeline, Graph Editor, Pose, File > Import. F3 finds them there."""

import bpy

MENUS = (
    "DOPESHEET_MT_key",
    "DOPESHEET_MT_context_menu",
    "GRAPH_MT_key",
    "GRAPH_MT_context_menu",
    "TIME_MT_view",
    "VIEW3D_MT_pose",
    "VIEW3D_MT_pose_context_menu",
)


class MMDM_MT_motion(bpy.types.Menu):
    """Motion diffusion on the selected bones and keys."""

    bl_idname = "MMDM_MT_motion"
    bl_label = "MMDM"

    def draw(self, context: bpy.types.Context) -> None:
        """Blender's hook."""
        layout = self.layout
        layout.operator_context = "INVOKE_DEFAULT"
        layout.operator("mmdm.fill_gap", icon="IPO_EASE_IN_OUT")
        layout.operator("mmdm.trial", icon="DRIVER_DISTANCE")
        layout.operator("mmdm.refine_jitter", icon="SMOOTHCURVE")
        layout.operator("mmdm.complete_bones", icon="ARMATURE_DATA")
        layout.operator("mmdm.detect_problems", icon="VIEWZOOM")
        layout.operator("mmdm.limbs_to_fk", icon="CON_KINEMATIC")


def _draw(self: bpy.types.Menu, context: bpy.types.Context) -> None:
    self.layout.separator()
    self.layout.menu(MMDM_MT_motion.bl_idname)


def _draw_import(self: bpy.types.Menu, context: bpy.types.Context) -> None:
    self.layout.operator("mmdm.import_motion", text="HumanML3D motion (.npy)")
    self.layout.operator("mmdm.import_capture", text="Multi-view Capture (OpenPose)")


def register() -> None:
    """Append the menu."""
    bpy.types.TOPBAR_MT_file_import.append(_draw_import)
    for name in MENUS:
        getattr(bpy.types, name).append(_draw)


def unregister() -> None:
    """Remove the menu."""
    bpy.types.TOPBAR_MT_file_import.remove(_draw_import)
    for name in MENUS:
        getattr(bpy.types, name).remove(_draw)


CLASSES = (MMDM_MT_motion,)
