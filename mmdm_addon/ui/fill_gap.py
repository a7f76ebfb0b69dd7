"""Fill Gap in the MMDM tab: what it would do, how well, and its options."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import bpy

from .. import compat, jobs, nla
from ..engine_link import MotionError
from ..operators import estimates, reading
from ..operators.fill_gap import planned
from .layout import Panel, paragraph
from .memo import Memo


@dataclass(frozen=True)
class Outlook:
    """What Fill Gap would do. text: in words, or why it cannot. gaps: how many.

    question: what an estimate must be of to hold for it; None without a plan.
    """

    text: str
    gaps: int = 0
    question: Hashable = None


_plan: Memo[Outlook] = Memo()


class MMDM_PT_fill(Panel, bpy.types.Panel):
    """Fill Gap and its options."""

    bl_idname = "MMDM_PT_fill"
    bl_label = "Fill Gap"

    def draw(self, context: bpy.types.Context) -> None:
        """Blender's hook."""
        layout, options = self.tool_layout(), context.scene.mmdm
        if not jobs.unready(context):
            outlook = _outlook(context)
            paragraph(layout, outlook.text, icon="KEYFRAME_HLT")
            _draw_estimate(layout, outlook)
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


def _draw_estimate(layout: bpy.types.UILayout, outlook: Outlook) -> None:
    """The expected error once it is known for this plan, until then the button; greyed out where there is no plan."""
    estimate = estimates.recall(outlook.question)
    if estimate:
        paragraph(layout, estimate.sentence, icon="INFO")
        return
    row = layout.row()
    row.enabled = outlook.question is not None
    text = "Estimate Error of the Longest Gap" if outlook.gaps > 1 else "Estimate Error"
    row.operator("mmdm.trial", text=text, icon="DRIVER_DISTANCE")


def fill_preview(context: bpy.types.Context) -> str:
    """What Fill Gap would write and keep, or why it cannot."""
    return _outlook(context).text


def expectation(context: bpy.types.Context) -> str:
    """The expected error of what Fill Gap would do, if it was estimated."""
    estimate = estimates.recall(_outlook(context).question)
    return estimate.sentence if estimate else ""


def _outlook(context: bpy.types.Context) -> Outlook:
    armature, options = jobs.require_armature(context), context.scene.mmdm
    key = (armature.session_uid, armature.animation_data.action.session_uid, compat.selection(armature).tobytes(),
           nla.shift(armature), reading.preview_range(context), options.keep, options.extend)  # fmt: skip

    def compute() -> Outlook:
        try:
            about = reading.subject(armature)
            plan = planned(context, about, keep=options.keep, extend=options.extend)
        except MotionError as error:
            return Outlook(str(error))
        text = plan.sentence[0].upper() + plan.sentence[1:]
        return Outlook(text, len(plan.gaps), estimates.question(context, armature, about, plan))

    return _plan.get(key, compute)


CLASSES = (MMDM_PT_fill,)
