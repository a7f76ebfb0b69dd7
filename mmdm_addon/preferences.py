"""The extension's preferences: which Python runs the engine, how it is installed, and what it says.

Annotations stay real objects here, because Blender reads them.
"""

import bpy
from bpy.props import EnumProperty, StringProperty

from . import runtime, runtime_install, runtime_locks
from .engine_link import PREFERENCES_ID, MotionError
from .ui import engine
from .ui.layout import paragraph

_BUILD_TEXTS = {
    "cpu": "The processor; works on every computer",
    "cuda": "An NVIDIA card; faster, and a much larger download",
    "mps": "Apple's graphics processor, or the processor where that cannot be used",
}

_BOXES = 20
"""Pixels that the boxes of Blender's page and ours take from its width."""


def _changed(_self: bpy.types.AddonPreferences, _context: bpy.types.Context) -> None:
    runtime.forget()  # the next request starts the engine with the new Python


def _builds() -> tuple[tuple[str, str, str], ...]:
    """What can be installed on this machine; CPU where nothing can, so that there is something to show."""
    builds = runtime_locks.available() or ("cpu",)
    return tuple((build.upper(), runtime_locks.BUILDS[build], _BUILD_TEXTS[build]) for build in builds)


class MMDM_AP_preferences(bpy.types.AddonPreferences):
    """Shown under Preferences > Add-ons."""

    bl_idname = PREFERENCES_ID

    python: StringProperty(
        name="Python",
        description="A Python 3.11 or newer with torch, scipy, safetensors and array-api-compat; empty = the engine "
        "that is installed below, else Blender's own Python if it has torch",
        subtype="FILE_PATH",
        update=_changed,
    )
    build: EnumProperty(name="Computes With", description="Which build of the engine to install", items=_builds())
    package_index: StringProperty(
        name="Package Index",
        description="Where the engine's packages come from: the address of an index, or a folder that holds them; "
        "empty = pypi.org and download.pytorch.org",
    )

    def draw(self, context: bpy.types.Context) -> None:
        """Blender's hook."""
        layout = self.layout
        layout.use_property_split = True
        layout.prop(self, "python")
        self._draw_managed(context, layout.box())
        self._draw_state(context, layout.box())

    def _draw_managed(self, context: bpy.types.Context, box: bpy.types.UILayout) -> None:
        about = runtime.managed()
        if about is None:
            box.label(text="No engine is installed by this extension", icon="IMPORT")
        else:
            build, torch = (
                runtime_locks.BUILDS.get(str(about.get("build")), "?"),
                about.get("versions", {}).get("torch"),
            )
            box.label(text=f"Installed: {build}, Python {about.get('python')}, torch {torch}", icon="CHECKMARK")
            if self._outdated(about):
                box.label(text="This extension was tested with newer packages; install again", icon="FILE_REFRESH")
        box.prop(self, "build", expand=True)
        box.prop(self, "package_index")
        engine.draw_install(box)
        if about is not None:
            box.operator("mmdm.runtime_remove", icon="TRASH")

    @staticmethod
    def _outdated(about: dict) -> bool:
        try:
            return runtime_install.digest(runtime_locks.find(about["build"])) != about["lock"]
        except (KeyError, MotionError):
            return False

    def _draw_state(self, context: bpy.types.Context, box: bpy.types.UILayout) -> None:
        paragraph(box, runtime.status() + ".", icon="INFO", inset=_BOXES)
        client = runtime.current()
        if client is not None and client.hello:
            names = zip(client.hello["devices"], client.hello["device_names"], strict=True)
            devices = ", ".join(f"{device} ({name})" for device, name in names)
            paragraph(box, f"Devices: {devices}. Priors: {', '.join(client.hello['priors']) or 'none'}.", inset=_BOXES)
        status = context.window_manager.mmdm
        if status.message:
            paragraph(box, status.message, icon="ERROR" if status.failed else "CHECKMARK", inset=_BOXES)
        row = box.row()
        row.operator("mmdm.runtime_test", icon="CHECKMARK")
        row.operator("mmdm.runtime_log", icon="TEXT")


CLASSES = (MMDM_AP_preferences,)
