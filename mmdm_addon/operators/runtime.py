"""Test the engine's Python, and read what the engine wrote."""

import time

import bpy

from .. import jobs, runtime
from ..engine_link import MotionError

LOG_NAME = "MMDM engine log"


class MMDM_OT_runtime_test(bpy.types.Operator):
    """Start the engine and ask it whether it is there"""

    bl_idname = "mmdm.runtime_test"
    bl_label = "Test Engine"

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Blender's hook."""
        if jobs.running() is not None:
            cls.poll_message_set("The engine is at work; wait for it or cancel it")
            return False
        return True

    def execute(self, context: bpy.types.Context) -> set[str]:
        """A ping, answered within some seconds on a first start."""
        started = time.monotonic()
        try:
            call = runtime.client().submit("ping")
            call.wait()
            call.result()
        except MotionError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        self.report({"INFO"}, f"{runtime.status()}; answered in {time.monotonic() - started:.1f} s.")
        return {"FINISHED"}


class MMDM_OT_runtime_log(bpy.types.Operator):
    """Put the last lines of the engine's log into a text of this file"""

    bl_idname = "mmdm.runtime_log"
    bl_label = "Show Log"

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Into the text editor, where it can be copied."""
        client = runtime.current()
        text = bpy.data.texts.get(LOG_NAME) or bpy.data.texts.new(LOG_NAME)
        lines = client.log if client is not None else []
        text.from_string("\n".join([runtime.status(), "", *lines]))
        self.report({"INFO"}, f"The log is in the text '{LOG_NAME}' of the Text Editor.")
        return {"FINISHED"}


CLASSES = (MMDM_OT_runtime_test, MMDM_OT_runtime_log)
