"""Fill Gap in the MMDM tab: what it would do, how well, and its options."""

from __future__ import annotations

from collections.abc import Hashable

import bpy

from .. import compat, jobs, nla
from ..engine_link import MotionError
from ..operators import estimates, reading
from ..operators.fill_gap import planned
from .layout import Panel, paragraph
from .memo import Memo

_plan: Memo[tuple[str, Hashable]] = Memo()


class MMDM_PT_fill(Panel, bpy.types.Panel):
    """Fill Gap and its options."""

    bl_idname = "MMDM_PT_fill"
    bl_label = "Fill Gap"

    def draw(self, context: bpy.types.Context) -> None:
        """Blender's hook."""
        layout, options = self.tool_layout(), context.scene.mmdm
        if not jobs.unready(context):
            text, question = _outlook(context)
            paragraph(layout, text, icon="KEYFRAME_HLT")
            _draw_estimate(layout, question)
        layout.operator("mmdm.fill_gap", icon="IPO_EASE_IN_OUT")
        column = layout.column()
        column.prop(options, "keep")
        column.prop(options, "density")
        if options.density == "STEP":
            column.prop(options, "step")
        elif options.density == "MATCH":
            column.prop(options, "tolerance")
        column.prop(options, "label")
        column.prop(options, "takes")
        column.prop(options, "seed")
        column.prop(options, "lock_feet")
        column.prop(options, "extend")


def _draw_estimate(layout: bpy.types.UILayout, question: Hashable) -> None:
    """The expected error once it is known for this plan, until then the button; greyed out where there is no plan."""
    estimate = estimates.recall(question)
    if estimate:
        paragraph(layout, estimate.sentence, icon="INFO")
        return
    row = layout.row()
    row.enabled = question is not None
    row.operator("mmdm.trial", icon="DRIVER_DISTANCE")


def fill_preview(context: bpy.types.Context) -> str:
    """What Fill Gap would write and keep, or why it cannot."""
    return _outlook(context)[0]


def expectation(context: bpy.types.Context) -> str:
    """The expected error of what Fill Gap would do, if it was estimated."""
    estimate = estimates.recall(_outlook(context)[1])
    return estimate.sentence if estimate else ""


def _outlook(context: bpy.types.Context) -> tuple[str, Hashable]:
    """The preview, and what an estimate must be of to hold for it; None without a plan."""
    armature, options = jobs.require_armature(context), context.scene.mmdm
    key = (armature.session_uid, armature.animation_data.action.session_uid, compat.selection(armature).tobytes(),
           nla.shift(armature), reading.preview_range(context), options.keep, options.extend)  # fmt: skip

    def compute() -> tuple[str, Hashable]:
        try:
            about = reading.subject(armature)
            plan = planned(context, about, keep=options.keep, extend=options.extend)
        except MotionError as error:
            return str(error), None
        text = plan.sentence[0].upper() + plan.sentence[1:]
        return text, estimates.question(context, armature, about, plan)

    return _plan.get(key, compute)


CLASSES = (MMDM_PT_fill,)
