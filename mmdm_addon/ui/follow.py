"""The MMDM tab follows the keys that are selected in the Dope Sheet, Timeline and Graph Editor.

Blender redraws the 3D View's sidebar for keys that move, not for keys that are selected; yet what Fill Gap would do
depends on these, and a panel that changes only once the mouse is on it is read wrong and clicked wrong.
"""

from __future__ import annotations

from typing import Any

import bpy

from .layout import Panel

_handles: list[tuple[Any, Any]] = []


def _key_editor_drawn() -> None:
    if bpy.context.screen.is_animation_playing:  # then it is the frame that moves
        return
    for window in bpy.context.window_manager.windows:
        for area in window.screen.areas:
            if area.type != "VIEW_3D":
                continue
            for region in area.regions:
                if region.type == Panel.bl_region_type and region.active_panel_category == Panel.bl_category:
                    region.tag_redraw()


def register() -> None:
    """Look on while editors of keys are drawn."""
    for editor in (bpy.types.SpaceDopeSheetEditor, bpy.types.SpaceGraphEditor):
        _handles.append((editor, editor.draw_handler_add(_key_editor_drawn, (), "WINDOW", "POST_PIXEL")))


def unregister() -> None:
    """No longer."""
    for editor, handle in _handles:
        editor.draw_handler_remove(handle, "WINDOW")
    _handles.clear()
