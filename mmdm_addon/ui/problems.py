"""The list of problems in the MMDM tab."""

from __future__ import annotations

from typing import Any

import bpy

from .. import jobs, problems
from .layout import Panel, paragraph, short
from .memo import Memo

_stale: Memo[bool] = Memo()
_order: Memo[list[int]] = Memo()


class MMDM_UL_problems(bpy.types.UIList):
    """One problem a row: first frame, bone, kind, severity."""

    bl_idname = "MMDM_UL_problems"

    def draw_item(
        self,
        _context: bpy.types.Context,
        layout: bpy.types.UILayout,
        _data: bpy.types.AnyType,
        item: bpy.types.PropertyGroup,
        _icon: int,
        _active: bpy.types.AnyType,
        _active_name: str,
    ) -> None:
        """Blender's hook."""
        row = layout.row(align=True).split(factor=0.2)
        row.label(text=f"{item.start}")
        row = row.split(factor=0.52)
        row.label(text=short(item.bone or item.role))
        row = row.split(factor=0.58)
        row.label(text=problems.KINDS[item.kind][0] if item.kind in problems.KINDS else item.kind)
        row.label(text=f"{item.severity:.0%}")

    def filter_items(
        self, context: bpy.types.Context, data: bpy.types.AnyType, name: str
    ) -> tuple[list[int], list[int]]:
        """Blender's hook: by the typed bone, in the order of the option."""
        listed = getattr(data, name)
        shown: list[int] = []
        if self.filter_name:
            shown = bpy.types.UI_UL_list.filter_items_by_name(
                self.filter_name, self.bitflag_filter_item, listed, "bone"
            )
        if context.scene.mmdm.problem_order == "FRAME":  # as the engine lists them
            return shown, []
        key = (data.id_data.session_uid, data.problems_state, len(listed))
        return shown, _order.get(key, lambda: places(listed))


def places(listed: Any) -> list[int]:
    """Where each problem stands when the worst comes first."""
    order = sorted(range(len(listed)), key=lambda i: -listed[i].severity)
    place = [0] * len(order)
    for rank, index in enumerate(order):
        place[index] = rank
    return place


def stale(armature: bpy.types.Object) -> bool:
    """`problems.stale`, from memory where that is enough."""
    action = armature.animation_data.action if armature.animation_data else None
    key = (armature.session_uid, action.session_uid if action else 0, armature.mmdm.problems_state)
    return _stale.get(key, lambda: problems.stale(armature))


class MMDM_PT_problems(Panel, bpy.types.Panel):
    """Detect Problems and what it found."""

    bl_idname = "MMDM_PT_problems"
    bl_label = "Problems"
    bl_options = {"DEFAULT_CLOSED"}

    def draw(self, context: bpy.types.Context) -> None:
        """Blender's hook."""
        layout, armature = self.layout, jobs.active_armature(context)
        layout.operator_context = "INVOKE_DEFAULT"
        layout.operator("mmdm.detect_problems", icon="VIEWZOOM")
        if armature is None or not armature.mmdm.problems_state:
            return
        own = armature.mmdm
        old = stale(armature)
        if old:
            paragraph(layout, "The keys have changed since; detect the problems again.", icon="ERROR")
        if not len(own.problems):
            if not old:
                paragraph(layout, "No problems were found.", icon="CHECKMARK")
            return
        layout.row().prop(context.scene.mmdm, "problem_order", expand=True)
        layout.template_list(MMDM_UL_problems.bl_idname, "", own, "problems", own, "problem_index", rows=6)
        if 0 <= own.problem_index < len(own.problems):
            paragraph(layout, problems.sentence(own.problems[own.problem_index]))
        row = layout.row(align=True)
        row.enabled = not old
        row.operator("mmdm.problem_fix", text="Refine All").method = "ALL"
        chosen = row.row(align=True)
        chosen.enabled = 0 <= own.problem_index < len(own.problems)
        chosen.operator("mmdm.problem_fix", text="Refine").method = "REFINE"
        chosen.operator("mmdm.problem_fix", text="Fill").method = "FILL"


CLASSES = (MMDM_UL_problems, MMDM_PT_problems)
