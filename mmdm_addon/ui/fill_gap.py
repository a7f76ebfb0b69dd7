"""Fill Gap in the MMDM tab: what it would do, and its options."""

from __future__ import annotations

import bpy

from .. import jobs, timeline
from ..engine_link import MotionError
from ..operators.reading import preview_range
from .layout import Panel, paragraph
from .memo import Memo

_plan = Memo()


class MMDM_PT_fill(Panel, bpy.types.Panel):
    """Fill Gap and its options."""

    bl_idname = "MMDM_PT_fill"
    bl_label = "Fill Gap"

    def draw(self, context: bpy.types.Context) -> None:
        """Blender's hook."""
        layout, options = self.tool_layout(), context.scene.mmdm
        if not jobs.unready(context):
            paragraph(layout, fill_preview(context), icon="KEYFRAME_HLT")
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


CLASSES = (MMDM_PT_fill,)
