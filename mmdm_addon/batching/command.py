"""``blender --command mmdm``: the batch without naming a script."""

from __future__ import annotations

from typing import Any

import bpy

NAME = "mmdm"
_handle: Any = None


def _execute(argv: list[str]) -> int:
    from . import run  # what only a batch needs is not loaded into everybody's Blender

    return run.main(argv, "blender --command mmdm")


def register() -> None:
    """Make the command known to Blender."""
    global _handle
    _handle = bpy.utils.register_cli_command(NAME, _execute)


def unregister() -> None:
    """Take it back."""
    global _handle
    if _handle is not None:
        bpy.utils.unregister_cli_command(_handle)
        _handle = None
