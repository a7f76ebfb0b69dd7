"""Panels and menu entries."""

from . import bone_map, follow, menus, panels

CLASSES = (*panels.CLASSES, *bone_map.CLASSES, *menus.CLASSES)


def register() -> None:
    """Append to Blender's menus, and follow its editors of keys."""
    menus.register()
    follow.register()


def unregister() -> None:
    """Take both back."""
    follow.unregister()
    menus.unregister()
