"""NLA tweak mode: the armature's action is a strip's then, and lies elsewhere on the scene's time.

Blender neither tells which strip is tweaked nor lets the strip's action be exchanged meanwhile. So the strip is found
by its action and its place in time, and `assign` leaves the mode and enters it again.
"""

from __future__ import annotations

from typing import Any

import bpy

from . import compat
from .engine_link import MotionError

_LEAVE = "leave tweak mode (Tab in the NLA editor)"
_SAME = 1e-4
"""Frames; Blender keeps the times of strips in single precision."""


def shift(owner: bpy.types.ID) -> float:
    """Scene frames by which the assigned action's keys come later than the action says; 0 outside of tweak mode."""
    data = owner.animation_data
    return float(data.nla_tweak_strip_time_to_scene(0.0)) if data and data.use_tweak_mode else 0.0


def tweaked(owner: bpy.types.ID) -> bpy.types.NlaStrip | None:
    """The strip in tweak mode; None outside of it, and where no strip is known to show the action where it is."""
    track_and_strip = _tweaked(owner)
    return track_and_strip[1] if track_and_strip else None


def _tweaked(owner: bpy.types.ID) -> tuple[bpy.types.NlaTrack, bpy.types.NlaStrip] | None:
    data = owner.animation_data
    if not data or not data.use_tweak_mode:
        return None
    found = [
        (track, strip)
        for track in data.nla_tracks
        for strip in track.strips
        if strip.action == data.action
        and compat.strip_slot(strip) == compat.assigned_slot(owner)
        and _begins_at(strip, data)
    ]
    chosen = data.nla_tracks.active  # the same action may play twice at the same time
    return max(found, key=lambda pair: (pair[0] == chosen, pair[1].active, pair[1].select), default=None)


def _begins_at(strip: bpy.types.NlaStrip, data: bpy.types.AnimData) -> bool:
    edge = strip.frame_end if strip.use_reverse else strip.frame_start
    if strip.use_animated_time:
        return True
    return abs(data.nla_tweak_strip_time_to_scene(strip.action_frame_start) - edge) < _SAME


def home(owner: bpy.types.ID) -> str:
    """Name of the strip in tweak mode, unique on its owner; empty where the assigned action is the owner's own."""
    strip = tweaked(owner)
    return strip.name if strip else ""


def find(owner: bpy.types.ID, name: str) -> bpy.types.NlaStrip | None:
    """A strip by its name."""
    tracks = owner.animation_data.nla_tracks if owner.animation_data else ()
    return next((strip for track in tracks for strip in track.strips if strip.name == name), None)


def obstacle(owner: bpy.types.ID) -> str:
    """Why the strip in tweak mode cannot be read and written, in words for a greyed-out button; empty if it can."""
    if not owner.animation_data or not owner.animation_data.use_tweak_mode:
        return ""
    found = _tweaked(owner)
    if found is None:  # inside a meta strip
        return f"The strip in tweak mode is not on the armature's own NLA tracks; {_LEAVE} first"
    track, strip = found
    if abs(strip.scale - 1) > 1e-6 or strip.repeat != 1 or strip.use_reverse or strip.use_animated_time:
        return (
            f"The NLA strip '{strip.name}' is scaled, repeated, reversed or has animated time, so its frames are not "
            f"the scene's; undo that or {_LEAVE}"
        )
    if strip.blend_type != "REPLACE" or strip.use_animated_influence or strip.blend_in or strip.blend_out:
        return (
            f"The NLA strip '{strip.name}' is blended with what lies below; set its blending to Replace without "
            f"blend in, blend out and animated influence, or {_LEAVE}"
        )
    if any(other.is_solo for other in owner.animation_data.nla_tracks if other != track):
        return "Another NLA track plays solo and hides the strip in tweak mode; switch its star off in the NLA editor"
    if track.lock or (owner.override_library and track.is_override_data):
        where = "locked" if track.lock else "linked from another file"
        return f"The NLA track '{track.name}' is {where}, so its strip cannot show another action; {_LEAVE}"
    return ""


def assign(owner: bpy.types.ID, action: bpy.types.Action | None, slot: Any) -> None:
    """`compat.assign`; in tweak mode the strip gets the action. Its timing and every selection stay.

    Raises `MotionError` where that strip cannot be told or Blender does not take it up again; it has its old action
    then.
    """
    data = owner.animation_data
    if data is None or not data.use_tweak_mode:
        compat.assign(owner, action, slot)
        return
    strip = tweaked(owner)
    if strip is None or action is None:
        raise MotionError(f"{obstacle(owner) or f'A strip cannot be without an action; {_LEAVE}'}.")
    old, old_slot = data.action, compat.assigned_slot(owner)
    # on leaving, Blender would fit these strips to their action
    synced = [s for track in data.nla_tracks for s in track.strips if s.use_sync_length]
    try:
        for other in synced:
            other.use_sync_length = False
        data.use_tweak_mode = False
        compat.assign_strip(strip, action, slot)
        data.use_tweak_mode = True
        if not data.use_tweak_mode or data.action != action:  # it has entered another strip
            data.use_tweak_mode = False
            compat.assign_strip(strip, old, old_slot)
            raise MotionError(
                f"Blender did not go back to tweaking the NLA strip '{strip.name}'; select it alone, enter tweak mode "
                "(Tab in the NLA editor) and try again."
            )
    finally:
        for other in synced:
            other.use_sync_length = True
