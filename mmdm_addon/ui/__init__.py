"""Panels and menu entries."""

from . import menus, panels

CLASSES = (*panels.CLASSES, *menus.CLASSES)


def register() -> None:
    """Append to Blender's menus."""
    menus.register()


def unregister() -> None:
    """Take the entries out again."""
    menus.unregister()
