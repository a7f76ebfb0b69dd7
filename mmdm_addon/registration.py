"""The one ordered list of what Blender gets to know."""

import bpy
from bpy.app.handlers import persistent

from . import jobs, keymaps, operators, preferences, properties, runtime, ui
from .batching import command

CLASSES = (*properties.CLASSES, *preferences.CLASSES, *operators.CLASSES, *ui.CLASSES)
PARTS = (properties, ui, keymaps, command)


@persistent
def _on_load(*_: object) -> None:
    jobs.cancel_running()


def register() -> None:
    """Classes in order, then what hangs on Blender's own types. All or nothing: a failure takes back what was done."""
    done: list[object] = []
    try:
        for cls in CLASSES:
            bpy.utils.register_class(cls)
            done.append(cls)
        for part in PARTS:
            part.register()
            done.append(part)
        bpy.app.handlers.load_pre.append(_on_load)
    except BaseException:
        _take_back(done)
        raise


def unregister() -> None:
    """The reverse of `register`; the worker process ends too."""
    jobs.cancel_running()
    runtime.stop_installation()
    runtime.shut_down()
    if _on_load in bpy.app.handlers.load_pre:
        bpy.app.handlers.load_pre.remove(_on_load)
    _take_back([*CLASSES, *PARTS])


def _take_back(done: list[object]) -> None:
    for item in reversed(done):
        if item in PARTS:
            item.unregister()  # type: ignore[attr-defined]
        else:
            bpy.utils.unregister_class(item)
