"""Everything that differs between Blender 4.2 and 5.2, so that no other module asks for a version.

Up to 4.3 an action holds its F-curves itself; from 4.4 on they live in the channelbag of a slot, and from 5.0 on
nowhere else. A slot of None stands for the former throughout.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

import bpy
import numpy as np


@cache
def has_slots() -> bool:
    """Whether actions are layered in this Blender (4.4 and newer)."""
    return hasattr(bpy.types.Action, "slots") or "slots" in bpy.types.Action.bl_rna.properties


def assigned_slot(owner: bpy.types.ID) -> Any:
    """The slot through which ``owner`` is animated, None without one or before Blender 4.4."""
    data = owner.animation_data
    return getattr(data, "action_slot", None) if data else None


def action_animates(owner: bpy.types.ID) -> bool:
    """Whether the assigned action reaches ``owner``: from 4.4 on it needs a slot as well."""
    data = owner.animation_data
    return bool(data and data.action and (not has_slots() or data.action_slot is not None))


def _channelbag(action: bpy.types.Action, slot: Any, ensure: bool) -> Any:
    if not action.layers:
        if not ensure:
            return None
        action.layers.new("Layer")
    layer = action.layers[0]
    if not layer.strips:
        if not ensure:
            return None
        layer.strips.new(type="KEYFRAME")
    return layer.strips[0].channelbag(slot, ensure=True) if ensure else layer.strips[0].channelbag(slot)


def curves(action: bpy.types.Action | None, slot: Any) -> Iterable[bpy.types.FCurve]:
    """The F-curves of an action for one slot; empty where there are none."""
    if action is None:
        return ()
    if not has_slots():
        return action.fcurves
    bag = _channelbag(action, slot, ensure=False) if slot is not None else None
    return bag.fcurves if bag else ()


def new_curve(action: bpy.types.Action, slot: Any, path: str, index: int, group: str) -> bpy.types.FCurve:
    """Add an F-curve in the named group; the curve must not exist yet."""
    if not has_slots():
        return action.fcurves.new(path, index=index, action_group=group)
    bag = _channelbag(action, slot, ensure=True)
    curve = bag.fcurves.new(path, index=index)
    curve.group = bag.groups.get(group) or bag.groups.new(group)
    return curve


def copy_action(action: bpy.types.Action, slot: Any, name: str) -> tuple[bpy.types.Action, Any]:
    """A local copy of an action and the copy's twin of ``slot``."""
    copy = action.copy()
    copy.name = name
    if slot is None:
        return copy, None
    return copy, next(s for s in copy.slots if s.handle == slot.handle)


def new_action(name: str, owner: bpy.types.ID) -> tuple[bpy.types.Action, Any]:
    """An empty action with the slot and channelbag that ``owner`` needs.

    An action that is assigned before it has them leaves ``action_slot`` empty in Blender 4.5, and nothing moves.
    """
    action = bpy.data.actions.new(name)
    if not has_slots():
        return action, None
    slot = action.slots.new(owner.id_type, owner.name)
    _channelbag(action, slot, ensure=True)
    return action, slot


def assign(owner: bpy.types.ID, action: bpy.types.Action | None, slot: Any) -> None:
    """Let ``owner`` be animated by an action through a slot."""
    data = owner.animation_data or owner.animation_data_create()
    data.action = action
    if slot is not None:
        data.action_slot = slot


def strip_slot(strip: bpy.types.NlaStrip) -> Any:
    """The slot of an NLA strip's action, None without one or before Blender 4.4."""
    return getattr(strip, "action_slot", None)


def assign_strip(strip: bpy.types.NlaStrip, action: bpy.types.Action, slot: Any) -> None:
    """Let an NLA strip play an action through a slot; not in tweak mode, where Blender forbids it."""
    strip.action = action
    if slot is not None:
        strip.action_slot = slot


def is_selected(bone: bpy.types.PoseBone) -> bool:
    """Whether the animator has selected this pose bone."""
    return bone.select if hasattr(bone, "select") else bone.bone.select


def select(bone: bpy.types.PoseBone, state: bool) -> None:
    """Select or deselect a pose bone."""
    if hasattr(bone, "select"):
        bone.select = state
    else:
        bone.bone.select = state


@cache
def _pose_bones_are_selected() -> bool:
    return "select" in bpy.types.PoseBone.bl_rna.properties


def _selectable(armature: bpy.types.Object) -> Any:
    """The bones that hold the selection."""
    return armature.pose.bones if _pose_bones_are_selected() else armature.data.bones


def selection(armature: bpy.types.Object) -> np.ndarray:
    """(B,) bool, which pose bones are selected, hidden ones too; quick enough to be asked at every redraw."""
    bones = _selectable(armature)
    flags = np.zeros(len(bones), bool)
    bones.foreach_get("select", flags)
    return flags


_found_selected = ""


def any_selected(armature: bpy.types.Object) -> bool:
    """Whether a pose bone is selected, hidden ones too; for polls, of which there are many in a redraw.

    The bone that was found the last time is asked first, and nearly always is the answer.
    """
    global _found_selected
    bones = _selectable(armature)
    known = bones.get(_found_selected)
    if known is not None and known.select:
        return True
    flags = selection(armature)
    if not flags.any():
        return False
    _found_selected = bones[int(flags.argmax())].name
    return True


def is_hidden(bone: bpy.types.PoseBone) -> bool:
    """Whether a pose bone is hidden by itself or because none of its bone collections is shown."""
    hidden = bone.hide if hasattr(bone, "hide") else bone.bone.hide
    collections = bone.bone.collections
    return hidden or (len(collections) > 0 and not any(c.is_visible_effectively for c in collections))


def hide(bone: bpy.types.PoseBone, state: bool) -> None:
    """Hide or show a pose bone."""
    if hasattr(bone, "hide"):
        bone.hide = state
    else:
        bone.bone.hide = state


def key_enum(field: str) -> dict[str, int]:
    """Names and numbers of a keyframe's enum property, as ``foreach_get`` and ``foreach_set`` use them."""
    return {item.identifier: item.value for item in bpy.types.Keyframe.bl_rna.properties[field].enum_items}
