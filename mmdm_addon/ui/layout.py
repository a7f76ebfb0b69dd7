"""What every panel of the MMDM tab is made of."""

from __future__ import annotations

import re
import textwrap
from functools import lru_cache
from typing import Any

import bpy

_MARGINS, _CHARACTER = 70, 6.2
"""Pixels beside the text of a panel, and of a character of average width, at interface scale 1."""


def paragraph(layout: bpy.types.UILayout, text: str, icon: str = "NONE", inset: int = 0) -> None:
    """Lines that fit the sidebar; Blender would cut them short. inset: pixels that boxes around it take away."""
    region = bpy.context.region  # None in the background
    width = region.width / (bpy.context.preferences.system.ui_scale or 1) if region else 0  # 0 before the first window
    width -= inset
    column = layout.column(align=True)
    column.scale_y = 0.8
    for i, line in enumerate(_lines(text, max(16, int((width - _MARGINS) / _CHARACTER)))):
        column.label(text=line, icon=icon if i == 0 else "NONE" if icon == "NONE" else "BLANK1")


@lru_cache(64)  # the same few sentences, many times a second
def _lines(text: str, characters: int) -> tuple[str, ...]:
    together = re.sub(r"(?<=\d) (?=\S)", "\N{NO-BREAK SPACE}", text)  # a number stays with its unit
    return tuple(textwrap.wrap(together, characters))


def short(bone: str) -> str:
    """A bone's name for a column: without the namespace that importers put before it, as in mixamorig:LeftArm."""
    return bone.rpartition(":")[2] or bone


class Panel:
    """Mix-in: a panel in the MMDM tab."""

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
