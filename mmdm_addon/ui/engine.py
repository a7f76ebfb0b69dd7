"""What the sidebar and the preferences both show about an engine that is not there yet: one button, or its progress."""

from __future__ import annotations

import bpy

from .. import runtime
from ..operators import runtime as commands


def under_way() -> bool:
    """Whether the engine is being installed or tested."""
    return runtime.installation() is not None or commands.testing() is not None


def obstacle(context: bpy.types.Context) -> str:
    """Why the engine cannot be installed, or could not; empty for no reason."""
    if problem := runtime.offline(commands.chosen_index()):
        return problem + "."
    status = context.window_manager.mmdm
    return status.message if status.failed and not under_way() else ""


def draw_install(layout: bpy.types.UILayout) -> None:
    """Install Engine; while it is being installed or tested, how far that is and Cancel."""
    layout.operator_context = "INVOKE_DEFAULT"
    under_way = runtime.installation()
    if under_way is not None:
        layout.progress(factor=under_way.progress, text=under_way.text)
        layout.operator("mmdm.runtime_cancel", icon="X")
    elif commands.testing() is not None:
        layout.label(text="Testing the engine", icon="TIME")
        layout.operator("mmdm.runtime_cancel", icon="X")
    else:
        label = "Install Again" if runtime.managed() else "Install Engine"
        layout.operator("mmdm.runtime_install", text=label, icon="IMPORT")
