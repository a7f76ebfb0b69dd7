"""MMDM for Blender, the add-on: reads keys from an armature, asks the engine, writes the answer back."""

from __future__ import annotations


def register() -> None:
    """Make the operators, panels and properties known to Blender."""
    from . import registration

    registration.register()


def unregister() -> None:
    """Take everything back and end the worker process."""
    from . import registration

    registration.unregister()
