"""Results of the engine as actions: written, listed as takes, and cleared away again if anything fails."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import bpy
import numpy as np

from .. import compat, nla
from ..rig import confidence
from ..rig.binding import RigTake
from ..rig.write import WriteReport


@contextmanager
def all_or_nothing(armature: bpy.types.Object) -> Iterator[None]:
    """Should writing fail, remove the actions and takes it made and give the armature its own action back."""
    data = armature.animation_data
    action, slot, fake = data.action, compat.assigned_slot(armature), data.action.use_fake_user
    there = {a.session_uid for a in bpy.data.actions}
    takes = armature.mmdm.takes
    listed = len(takes)
    try:
        yield
    except BaseException:
        nla.assign(armature, action, slot)
        action.use_fake_user = fake
        while len(takes) > listed:
            takes.remove(len(takes) - 1)
        for made in [a for a in bpy.data.actions if a.session_uid not in there]:
            bpy.data.actions.remove(made)
        raise


def slot_handle(owner: bpy.types.Object) -> int:
    """Handle of the assigned slot; 0 before Blender 4.4."""
    slot = compat.assigned_slot(owner)
    return slot.handle if slot else 0


def trust(armature: bpy.types.Object, report: WriteReport, slot: int, take: RigTake, changed: np.ndarray) -> None:
    """In a new action, what was made anew, (T, 23) bool of the take's frames, is no longer doubted by its capture."""
    action = bpy.data.actions[report.action]
    shift = nla.shift(armature)
    confidence.trust(action, find_slot(action, slot), take.binding.roles, take.frames, changed, shift)


def list_source(armature: bpy.types.Object) -> None:
    """Put the armature's present action on the list of takes, unless it is there."""
    action, strip = armature.animation_data.action, nla.home(armature)
    takes = armature.mmdm.takes
    if any(take.action == action and take.strip == strip for take in takes):
        return
    entry = takes.add()
    entry.strip = strip
    entry.name, entry.action, entry.slot = action.name, action, slot_handle(armature)
    entry.source, entry.fake_user, entry.detail = True, action.use_fake_user, "As it was"


def keep_selection(result: bpy.types.Action, slot: int, source: bpy.types.Action) -> None:
    """Select the new keys where the source's were, so that the same command can be given again.

    Only curves that still have a key on every selected frame: half a selection would mean something else.
    """
    before = {(c.data_path, c.array_index): _selected_frames(c) for c in compat.curves(source, find_slot(source, slot))}
    for curve in compat.curves(result, find_slot(result, slot)):
        wanted = before.get((curve.data_path, curve.array_index))
        if wanted is None or not len(wanted):
            continue
        points = curve.keyframe_points
        co = np.empty(2 * len(points), np.float32)
        points.foreach_get("co", co)
        flags = np.isin(co[::2], wanted)
        if flags.sum() == len(wanted):
            points.foreach_set("select_control_point", flags)


def _selected_frames(curve: bpy.types.FCurve) -> np.ndarray:
    points = curve.keyframe_points
    co, flags = np.empty(2 * len(points), np.float32), np.empty(len(points), bool)
    points.foreach_get("co", co)
    points.foreach_get("select_control_point", flags)
    return co[::2][flags]


def list_take(armature: bpy.types.Object, report: WriteReport, slot: int, detail: str) -> None:
    """Put a new action on the list of takes."""
    entry = armature.mmdm.takes.add()
    entry.name, entry.action, entry.slot = report.action, bpy.data.actions[report.action], slot
    entry.strip = nla.home(armature)
    entry.detail = f"{detail}; {changes(report)}"


def shown(armature: bpy.types.Object, take: bpy.types.PropertyGroup) -> bpy.types.Action | None:
    """The action that is seen where a take belongs: on its NLA strip, else as the armature's own."""
    data = armature.animation_data
    if data is None:
        return None
    if take.strip:
        strip = nla.find(armature, take.strip)
        return strip.action if strip else None
    return data.action_tweak_storage if data.use_tweak_mode else data.action


def changes(report: WriteReport) -> str:
    """The largest change, in words."""
    return f"largest change {report.largest_degrees:.1f}° and {report.largest_cm:.1f} cm"


def sentence(done: str, reports: list[WriteReport]) -> str:
    """What the user reads at the end: what was done, the largest change, and every note once."""
    first = reports[0]
    bones = len([b for b in first.bones if b])
    words = [f"{done} on {bones} bone{'' if bones == 1 else 's'}, {changes(first)}."]
    if len(reports) > 1:
        words.append(f"{len(reports)} takes are listed in the sidebar.")
    words += unique(note for report in reports for note in report.notes)
    return " ".join(words)


def unique(items: Iterable[str]) -> list[str]:
    """In order, without repeats."""
    return list(dict.fromkeys(items))


def find_slot(action: bpy.types.Action, handle: int) -> Any:
    """The slot of an action by its handle; None before Blender 4.4."""
    if not compat.has_slots():
        return None
    return next((slot for slot in action.slots if slot.handle == handle), None)
