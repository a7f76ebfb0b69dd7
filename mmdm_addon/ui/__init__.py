"""Panels and menu entries."""

from . import bone_map, menus, panels

CLASSES = (*panels.CLASSES, *bone_map.CLASSES, *menus.CLASSES)


def register() -> None:
    """Append to Blender's menus."""
    menus.register()


def unregister() -> None:
    """Take the entries out again."""
    menus.unregister()
