"""The MMDM tab of the 3D View's sidebar."""

import bpy

from .. import jobs, runtime
from ..engine_link import JOINTS
from ..operators import applying
from ..rig import roles
from . import bone_map, engine, fill_gap, problems
from .layout import Panel, paragraph, short
from .memo import Memo

_roles: Memo[roles.RoleMap] = Memo(share=250)  # names and shapes of bones change rarely, choices are in its key


class MMDM_PT_main(Panel, bpy.types.Panel):
    """What the job does, or why none can start."""

    bl_idname = "MMDM_PT_main"
    bl_label = "MMDM"

    def draw(self, context: bpy.types.Context) -> None:
        """Blender's hook."""
        layout = self.layout
        status = context.window_manager.mmdm
        if status.running:
            layout.progress(factor=status.progress, text=status.text)
            layout.operator("mmdm.cancel", icon="X")
        elif problem := runtime.missing():
            for sentence in (problem, engine.obstacle(context)):
                paragraph(layout, sentence, icon="INFO")
            engine.draw_install(layout)
        elif problem := jobs.unready(context):
            paragraph(layout, problem + ".", icon="INFO")
        elif status.message:
            paragraph(layout, status.message, icon="ERROR" if status.failed else "CHECKMARK")
        else:
            paragraph(layout, "Ready. Results are new actions; yours stays as it is.", icon="INFO")


class MMDM_PT_refine(Panel, bpy.types.Panel):
    """Refine Jitter and its options."""

    bl_idname = "MMDM_PT_refine"
    bl_label = "Refine Jitter"

    def draw(self, context: bpy.types.Context) -> None:
        """Blender's hook."""
        layout, options = self.tool_layout(), context.scene.mmdm
        layout.operator("mmdm.refine_jitter", icon="SMOOTHCURVE")
        layout.prop(options, "strength", slider=True)
        layout.prop(options, "lock_feet")


class MMDM_PT_complete(Panel, bpy.types.Panel):
    """Complete Bones."""

    bl_idname = "MMDM_PT_complete"
    bl_label = "Complete Bones"

    def draw(self, context: bpy.types.Context) -> None:
        """Blender's hook."""
        layout = self.tool_layout()
        layout.operator("mmdm.complete_bones", icon="ARMATURE_DATA")
        layout.prop(context.scene.mmdm, "lock_feet")


def _take_label(take: bpy.types.PropertyGroup) -> str:
    """What was done; the actions' names grow with every tool and would be cut."""
    if take.action is None:
        return f"{take.name} (deleted)"
    return take.action.name if take.source else take.detail.partition(";")[0]


class MMDM_PT_takes(Panel, bpy.types.Panel):
    """Results and what was there before."""

    bl_idname = "MMDM_PT_takes"
    bl_label = "Takes"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Blender's hook."""
        armature = jobs.active_armature(context)
        return armature is not None and len(armature.mmdm.takes) > 0

    def draw(self, context: bpy.types.Context) -> None:
        """Blender's hook."""
        layout, armature = self.layout, jobs.require_armature(context)
        column = layout.column(align=True)
        for index, take in enumerate(armature.mmdm.takes):
            here = take.action is not None and take.action == applying.shown(armature, take)
            row = column.row(align=True)
            row.enabled = take.action is not None
            icon = "RADIOBUT_ON" if here else "RADIOBUT_OFF"
            row.operator("mmdm.take_switch", text=_take_label(take), icon=icon, depress=here).index = index
            if here:
                paragraph(column, f"{take.action.name}: {take.detail}")
        layout.operator("mmdm.takes_clear", icon="TRASH")


class MMDM_PT_bones(Panel, bpy.types.Panel):
    """Which bone plays which role."""

    bl_idname = "MMDM_PT_bones"
    bl_label = "Bone Map"
    bl_options = {"DEFAULT_CLOSED"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Blender's hook."""
        return jobs.active_armature(context) is not None

    def draw(self, context: bpy.types.Context) -> None:
        """Blender's hook."""
        layout, armature = self.layout, jobs.require_armature(context)
        chosen = roles.overrides(armature)
        key = (armature.data.session_uid, len(armature.data.bones), tuple(chosen.items()))
        found = _roles.get(key, lambda: roles.detect(armature))
        layout.label(text=f"{found.preset}: {len(found.chains)} of {len(JOINTS)} roles")
        for problem in found.problems:
            paragraph(layout, problem, icon="ERROR")
        column = layout.column(align=True)
        for role in JOINTS:
            row = column.row(align=True).split(factor=0.4)
            row.label(text=role.replace("_", " ").capitalize())
            chain = found.chains.get(role, ())
            text = short(chain[0]) + (f" +{len(chain) - 1}" if len(chain) > 1 else "") if chain else "none"
            row = row.row(align=True)
            row.operator("mmdm.bone_role_set", text=text, icon="USER" if role in chosen else "NONE").role = role
            if role in chosen:
                row.operator("mmdm.bone_role_clear", text="", icon="X").role = role
        layout.operator("mmdm.bones_detect", icon="FILE_REFRESH")
        bone_map.draw_saved(layout)
        if found.control:
            layout.operator("mmdm.limbs_to_fk", icon="CON_KINEMATIC")
        layout.prop(armature.mmdm, "source_fps")


class MMDM_PT_runtime(Panel, bpy.types.Panel):
    """The engine's Python."""

    bl_idname = "MMDM_PT_runtime"
    bl_label = "Engine"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        """Blender's hook."""
        paragraph(self.layout, runtime.status(), icon="INFO")
        if engine.under_way():
            engine.draw_install(self.layout)
        row = self.layout.row()
        row.operator("mmdm.runtime_test")
        row.operator("mmdm.runtime_log")


CLASSES = (
    MMDM_PT_main,
    *fill_gap.CLASSES,
    MMDM_PT_refine,
    MMDM_PT_complete,
    *problems.CLASSES,
    MMDM_PT_takes,
    MMDM_PT_bones,
    MMDM_PT_runtime,
)
