"""Channels that only a result keys: their values from before, put back when the result is no longer shown.

Blender leaves a channel at its last value when the action that moved it is taken off, so without this a switch back to
the source would not bring the source's pose back.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

import bpy

PROPERTY = "mmdm_unkeyed"
"""Custom property of the result's action: JSON, [[path, index, value], …]."""

Values = dict[tuple[str, int], float]


def remember(action: bpy.types.Action, values: Values) -> None:
    """Keep the values with the action, beside those that it has from the action it was copied from."""
    known = values | recall(action)  # the oldest ones are those without any result
    if known:
        action[PROPERTY] = json.dumps([[path, index, value] for (path, index), value in known.items()])


def recall(action: bpy.types.Action | None) -> Values:
    """The values that an action keeps."""
    try:
        return {(path, index): value for path, index, value in json.loads(action.get(PROPERTY, "[]"))} if action else {}
    except (TypeError, ValueError):
        return {}


def put_back(armature: bpy.types.Object, values: Values, curves: Iterable[bpy.types.FCurve]) -> None:
    """Set the channels that are not among the curves which move the armature now."""
    keyed = {(c.data_path, c.array_index) for c in curves} if values else set()
    for (path, index), value in values.items():
        if (path, index) in keyed:
            continue
        try:
            if path.endswith('"]'):  # a custom property
                cut = path.rindex('["')
                armature.path_resolve(path[:cut])[bpy.utils.unescape_identifier(path[cut + 2 : -2])] = value
            else:
                armature.path_resolve(path)[index] = value
        except (ValueError, KeyError, IndexError):  # the bone is gone, or turns in another rotation mode by now
            continue
