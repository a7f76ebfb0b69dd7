"""The extension's preferences: which Python runs the engine, and what it says.

Annotations stay real objects here, because Blender reads them.
"""

import bpy
from bpy.props import StringProperty

from . import runtime
from .engine_link import PREFERENCES_ID


def _changed(_self: bpy.types.AddonPreferences, _context: bpy.types.Context) -> None:
    runtime.shut_down()  # the next request starts the engine with the new Python


class MMDM_AP_preferences(bpy.types.AddonPreferences):
    """Shown under Preferences > Add-ons."""

    bl_idname = PREFERENCES_ID

    python: StringProperty(
        name="Python",
        description="A Python 3.11 or newer with torch, scipy, safetensors and array-api-compat; empty = look for one",
        subtype="FILE_PATH",
        update=_changed,
    )

    def draw(self, context: bpy.types.Context) -> None:
        """Blender's hook."""
        layout = self.layout
        layout.prop(self, "python")
        box = layout.box()
        box.label(text=runtime.status(), icon="INFO")
        client = runtime.current()
        if client is not None and client.hello:
            names = zip(client.hello["devices"], client.hello["device_names"], strict=True)
            box.label(text="Devices: " + ", ".join(f"{device} ({name})" for device, name in names))
            box.label(text="Priors: " + (", ".join(client.hello["priors"]) or "none"))
        row = layout.row()
        row.operator("mmdm.runtime_test", icon="CHECKMARK")
        row.operator("mmdm.runtime_log", icon="TEXT")


CLASSES = (MMDM_AP_preferences,)
