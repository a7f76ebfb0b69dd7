"""Shortcuts, in the add-on key configuration where the user can change them."""

import bpy

BINDINGS = (
    ("Dopesheet", "DOPESHEET_EDITOR", "F", "mmdm.fill_gap"),
    ("Graph Editor", "GRAPH_EDITOR", "F", "mmdm.fill_gap"),
    ("Pose", "EMPTY", "F", "mmdm.fill_gap"),
    ("Pose", "EMPTY", "R", "mmdm.refine_jitter"),
    ("Pose", "EMPTY", "B", "mmdm.complete_bones"),
    ("Pose", "EMPTY", "D", "mmdm.detect_problems"),
)
"""Editor, its space, key, operator. With Ctrl, Shift and Alt: nothing of Blender's lies there."""

_added: list[tuple[bpy.types.KeyMap, bpy.types.KeyMapItem]] = []


def register() -> None:
    """Bind the operators; there is no key configuration in the background."""
    configuration = bpy.context.window_manager.keyconfigs.addon
    if configuration is None:
        return
    for name, space, key, operator in BINDINGS:
        keymap = configuration.keymaps.new(name=name, space_type=space)
        _added.append((keymap, keymap.keymap_items.new(operator, key, "PRESS", ctrl=True, shift=True, alt=True)))


def unregister() -> None:
    """Remove the bindings."""
    for keymap, item in _added:
        keymap.keymap_items.remove(item)
    _added.clear()
