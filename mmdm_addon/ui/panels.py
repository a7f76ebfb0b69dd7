"""The MMDM tab of the 3D View's sidebar."""

import textwrap
from typing import Any

import bpy

from .. import jobs, runtime, timeline
from ..engine_link import JOINTS, MotionError
from ..operators.reading import preview_range
from ..rig import roles
from . import engine
from .memo import Memo

_plan = Memo()
_MARGINS, _CHARACTER = 70, 6.2
"""Pixels beside the text of a panel, and of a character of average width, at interface scale 1."""


def _paragraph(layout: bpy.types.UILayout, text: str, icon: str = "NONE") -> None:
    """Lines that fit the sidebar; Blender would cut them short."""
    width = bpy.context.region.width / bpy.context.preferences.system.ui_scale
    column = layout.column(align=True)
    column.scale_y = 0.8
    for i, line in enumerate(textwrap.wrap(text, max(16, int((width - _MARGINS) / _CHARACTER)))):
        column.label(text=line, icon=icon if i == 0 else "NONE" if icon == "NONE" else "BLANK1")


class _Panel:
    bl_space_type = "VIEW_3D"
    bl_region_type = "UI"
    bl_category = "MMDM"

    def tool_layout(self: Any) -> bpy.types.UILayout:
        """For options beside their names, and buttons that run in the window."""
        layout = self.layout
        layout.use_property_split = True
        layout.use_property_decorate = False
        layout.operator_context = "INVOKE_DEFAULT"
        return layout


class MMDM_PT_main(_Panel, bpy.types.Panel):
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
                _paragraph(layout, sentence, icon="INFO")
            engine.draw_install(layout)
        elif problem := jobs.unready(context):
            _paragraph(layout, problem + ".", icon="INFO")
        elif status.message:
            _paragraph(layout, status.message, icon="ERROR" if status.failed else "CHECKMARK")


class MMDM_PT_fill(_Panel, bpy.types.Panel):
    """Fill Gap and its options."""

    bl_idname = "MMDM_PT_fill"
    bl_label = "Fill Gap"

    def draw(self, context: bpy.types.Context) -> None:
        """Blender's hook."""
        layout, options = self.tool_layout(), context.scene.mmdm
        if not jobs.unready(context):
            _paragraph(layout, fill_preview(context), icon="KEYFRAME_HLT")
        layout.operator("mmdm.fill_gap", icon="IPO_EASE_IN_OUT")
        column = layout.column()
        column.prop(options, "keep")
        column.prop(options, "density")
        if options.density == "STEP":
            column.prop(options, "step")
        elif options.density == "MATCH":
            column.prop(options, "tolerance")
        column.prop(options, "takes")
        column.prop(options, "seed")
        column.prop(options, "lock_feet")
        column.prop(options, "extend")


def fill_preview(context: bpy.types.Context) -> str:
    """What Fill Gap would write and keep, or why it cannot."""
    armature, options = jobs.require_armature(context), context.scene.mmdm
    selected = frozenset(jobs.selected_bones(armature))
    count = timeline.key_count(armature)
    preview = preview_range(context)
    key = (armature.session_uid, armature.animation_data.action.session_uid, count, selected, preview, options.keep,
           options.extend)  # fmt: skip

    def compute() -> str:
        try:
            plan = timeline.plan_fill(
                timeline.pose_keys(armature).bones,
                selected,
                preview=preview,
                keep_keys=options.keep == "KEYS",
                extend=options.extend,
            )
        except MotionError as error:
            return str(error)
        return plan.sentence[0].upper() + plan.sentence[1:]

    return _plan.get(key, compute)


class MMDM_PT_refine(_Panel, bpy.types.Panel):
    """Refine Jitter and its options."""

    bl_idname = "MMDM_PT_refine"
    bl_label = "Refine Jitter"

    def draw(self, context: bpy.types.Context) -> None:
        """Blender's hook."""
        layout, options = self.tool_layout(), context.scene.mmdm
        layout.operator("mmdm.refine_jitter", icon="SMOOTHCURVE")
        layout.prop(options, "strength", slider=True)
        layout.prop(options, "lock_feet")


class MMDM_PT_takes(_Panel, bpy.types.Panel):
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
        shown = armature.animation_data.action if armature.animation_data else None
        column = layout.column(align=True)
        for index, take in enumerate(armature.mmdm.takes):
            here = take.action is not None and take.action == shown
            name = take.action.name if take.action is not None else f"{take.name} (deleted)"
            row = column.row(align=True)
            row.enabled = take.action is not None
            icon = "RADIOBUT_ON" if here else "RADIOBUT_OFF"
            row.operator("mmdm.take_switch", text=name, icon=icon, depress=here).index = index
            if here:
                _paragraph(column, take.detail)
        layout.operator("mmdm.takes_clear", icon="TRASH")


class MMDM_PT_bones(_Panel, bpy.types.Panel):
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
        found = roles.detect(armature)
        chosen = roles.overrides(armature)
        layout.label(text=f"{found.preset}: {len(found.chains)} of {len(JOINTS)} roles")
        for problem in found.problems:
            _paragraph(layout, problem, icon="ERROR")
        column = layout.column(align=True)
        for role in JOINTS:
            row = column.row(align=True).split(factor=0.4)
            row.label(text=role.replace("_", " ").capitalize())
            chain = found.chains.get(role, ())
            text = chain[0] + (f" +{len(chain) - 1}" if len(chain) > 1 else "") if chain else "none"
            row.operator("mmdm.bone_role_set", text=text, icon="USER" if role in chosen else "NONE").role = role
        layout.operator("mmdm.bones_detect", icon="FILE_REFRESH")
        layout.prop(armature.mmdm, "source_fps")


class MMDM_PT_runtime(_Panel, bpy.types.Panel):
    """The engine's Python."""

    bl_idname = "MMDM_PT_runtime"
    bl_label = "Engine"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        """Blender's hook."""
        _paragraph(self.layout, runtime.status(), icon="INFO")
        if engine.under_way():
            engine.draw_install(self.layout)
        row = self.layout.row()
        row.operator("mmdm.runtime_test")
        row.operator("mmdm.runtime_log")


CLASSES = (MMDM_PT_main, MMDM_PT_fill, MMDM_PT_refine, MMDM_PT_takes, MMDM_PT_bones, MMDM_PT_runtime)
