"""Takes: switch between results and what was there before, without computing again.

Annotations stay real objects here, because Blender reads them.
"""

from typing import Any

import bpy
from bpy.props import IntProperty

from .. import compat, jobs, nla
from ..engine_link import MotionError
from ..rig import unkeyed
from . import applying


def _armature(cls: Any, context: bpy.types.Context) -> bpy.types.Object | None:
    armature = jobs.active_armature(context)
    if armature is None:
        cls.poll_message_set("No armature is active; click the rig first")
    elif not armature.mmdm.takes:
        cls.poll_message_set("There are no takes yet; Fill Gap, Refine Jitter, Complete Bones, Limbs to FK make them")
    else:
        return armature
    return None


def _assign(armature: bpy.types.Object, take: bpy.types.PropertyGroup) -> None:
    """Show a take where it belongs. Raises `MotionError` where that is out of reach."""
    before, slot = applying.shown(armature, take), applying.find_slot(take.action, take.slot)
    tweaking = armature.animation_data is not None and armature.animation_data.use_tweak_mode
    if take.strip == nla.home(armature) and bool(take.strip) == tweaking:
        nla.assign(armature, take.action, slot)
    elif tweaking:
        place = f"the NLA strip '{take.strip}'" if take.strip else "the armature's own action"
        raise MotionError(f"'{take.name}' belongs to {place}; leave tweak mode (Tab in the NLA editor) first.")
    else:
        strip = nla.find(armature, take.strip)
        if strip is None:
            raise MotionError(f"The NLA strip '{take.strip}' of '{take.name}' is gone; choose another take.")
        compat.assign_strip(strip, take.action, slot)
    unkeyed.put_back(armature, unkeyed.recall(before), compat.curves(take.action, slot))


class MMDM_OT_take_switch(bpy.types.Operator):
    """Show this action on the armature"""

    bl_idname = "mmdm.take_switch"
    bl_label = "Switch Take"
    bl_options = {"UNDO"}

    index: IntProperty(name="Take", description="Its place in the list, counted from 0", default=0, min=0)

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Blender's hook."""
        return _armature(cls, context) is not None

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Assign the take's action with its slot."""
        armature = jobs.require_armature(context)
        takes = armature.mmdm.takes
        if self.index >= len(takes):
            self.report({"ERROR"}, f"There is no take {self.index}; the list has {len(takes)}, counted from 0.")
            return {"CANCELLED"}
        take = takes[self.index]
        if take.action is None:
            self.report({"ERROR"}, f"The action of '{take.name}' was deleted; choose another take.")
            return {"CANCELLED"}
        try:
            _assign(armature, take)
        except MotionError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        self.report({"INFO"}, f"Showing {take.action.name}: {take.detail}.")
        return {"FINISHED"}


class MMDM_OT_takes_clear(bpy.types.Operator):
    """Delete every take that is not shown, and empty the list"""

    bl_idname = "mmdm.takes_clear"
    bl_label = "Delete Other Takes"
    bl_options = {"UNDO"}

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Blender's hook."""
        return _armature(cls, context) is not None

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Remove results that nobody uses; sources stay and get back the fake user they had."""
        armature = jobs.require_armature(context)
        takes = armature.mmdm.takes
        entries = [
            (take.action, take.action == applying.shown(armature, take), take.source, take.fake_user)
            for take in takes
            if take.action is not None
        ]
        takes.clear()
        removed = 0
        for action, shown, source, fake_user in entries:
            if source:
                # while a result is shown the source has no other user, and would be lost on saving
                action.use_fake_user = fake_user or not shown
            elif not shown and action.users <= int(action.use_fake_user):
                bpy.data.actions.remove(action)
                removed += 1
        self.report({"INFO"}, f"Deleted {removed} take{'' if removed == 1 else 's'}.")
        return {"FINISHED"}


CLASSES = (MMDM_OT_take_switch, MMDM_OT_takes_clear)
