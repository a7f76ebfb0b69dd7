"""What is kept on an armature object: a custom property each.

A library override loses custom properties that the linked rig does not have as soon as the file is loaded again. There
they are kept in a property of the extension, which Blender does save with the override.
"""

from __future__ import annotations

import json
from typing import Any

import bpy


def load(armature: bpy.types.Object, name: str) -> Any:
    """The value, None where there is none."""
    own = _own(armature)
    return own[name] if name in own else armature.get(name)


def store(armature: bpy.types.Object, name: str, value: str | float | None) -> None:
    """Keep a value; None takes it off."""
    if armature.override_library and hasattr(armature, "mmdm_own"):
        own = _own(armature)
        own.pop(name, None)
        if value is not None or name in armature:  # None then hides what the linked rig says
            own[name] = value
        armature.mmdm_own = json.dumps(own, sort_keys=True) if own else ""
    elif value is not None:
        armature[name] = value
    elif name in armature:
        del armature[name]


def _own(armature: bpy.types.Object) -> dict[str, Any]:
    text = armature.mmdm_own if armature.override_library and hasattr(armature, "mmdm_own") else ""
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
