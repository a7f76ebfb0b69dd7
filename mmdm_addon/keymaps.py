"""Shortcuts, in the add-on key configuration where the user can change them."""

import bpy

BINDINGS = (
    ("Dopesheet", "DOPESHEET_EDITOR"),
    ("Graph Editor", "GRAPH_EDITOR"),
)
KEY = "F"
"""With Ctrl, Shift and Alt: nothing of Blender's lies there."""

_added: list[tuple[bpy.types.KeyMap, bpy.types.KeyMapItem]] = []


def register() -> None:
    """Bind Fill Gap; there is no key configuration in the background."""
    configuration = bpy.context.window_manager.keyconfigs.addon
    if configuration is None:
        return
    for name, space in BINDINGS:
        keymap = configuration.keymaps.new(name=name, space_type=space)
        _added.append((keymap, keymap.keymap_items.new("mmdm.fill_gap", KEY, "PRESS", ctrl=True, shift=True, alt=True)))


def unregister() -> None:
    """Remove the bindings."""
    for keymap, item in _added:
        keymap.keymap_items.remove(item)
    _added.clear()
