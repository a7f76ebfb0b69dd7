"""Limbs to FK: Rigify's arms and legs from IK to FK over a range, so that the other commands can write them.

Annotations stay real objects here, because Blender reads them.
"""

import math

import bpy
import numpy as np

from .. import compat, jobs, nla, timeline
from ..engine_link import MotionError
from ..properties import frame_options
from ..rig import limbs, sampling
from ..rig.fk import to_fk
from ..rig.limbs import Limb
from ..rig.read import read
from ..rig.roles import RoleMap, detect
from ..rig.sampling import Progress
from . import applying, reading


class MMDM_OT_limbs_to_fk(bpy.types.Operator):
    """Snap the FK controls of limbs in IK to the pose on every frame and switch them over, in a new action"""

    bl_idname = "mmdm.limbs_to_fk"
    bl_label = "Limbs to FK"
    bl_options = {"UNDO"}

    __annotations__ = frame_options(
        "The first frame in FK", "The last frame in FK", otherwise="the preview range, or all that is keyed"
    )

    @classmethod
    def poll(cls, context: bpy.types.Context) -> bool:
        """Blender's hook."""
        armature = jobs.active_armature(context)
        if armature is None:
            cls.poll_message_set("No armature is active; click the rig first")
        elif job := jobs.running():
            cls.poll_message_set(f"{job.title} is running; wait for it or cancel it")
        elif armature.mode == "EDIT":
            cls.poll_message_set("The armature is in Edit Mode; switch to Pose Mode")
        elif not any("IK_FK" in bone for bone in armature.pose.bones):
            cls.poll_message_set("The rig has no IK-FK switches as Rigify makes them; only such limbs can be converted")
        elif not compat.action_animates(armature):
            cls.poll_message_set("The armature has no action; set a few key poses first")
        elif problem := nla.obstacle(armature):
            cls.poll_message_set(problem)
        else:
            return True
        return False

    def execute(self, context: bpy.types.Context) -> set[str]:
        """Read, convert, and say what moved."""
        armature = jobs.require_armature(context)
        manager = context.window_manager
        manager.progress_begin(
            0, 1
        )  # Blender waits for Python here, so all there is to show is the number at the mouse
        try:
            text = self._convert(context, armature, lambda done, of: manager.progress_update(done / of))
        except MotionError as error:
            self.report({"ERROR"}, str(error))
            return {"CANCELLED"}
        finally:
            manager.progress_end()
        self.report({"INFO"}, text)
        return {"FINISHED"}

    def _convert(self, context: bpy.types.Context, armature: bpy.types.Object, progress: Progress) -> str:
        roles = detect(armature)
        roles.require()
        first, last = self._range(context, armature)
        chosen = _chosen(armature, roles, (first, last))
        source, slot = armature.animation_data.action, applying.slot_handle(armature)
        frames = np.arange(first, last + 1, dtype=np.float64)
        take = read(context, armature, frames, roles=roles, progress=sampling.part(progress, 0, 0.15))
        with applying.all_or_nothing(armature):
            applying.list_source(armature)
            share = sampling.part(progress, 0.15, 1)
            report = to_fk(context, armature, take, chosen, name=f"{source.name} FK", progress=share)
            names = " and ".join(limb.name for limb in chosen) if len(chosen) < 3 else f"{len(chosen)} limbs"
            applying.list_take(armature, report, slot, f"FK {first:g}-{last:g}")
        words = [f"{names.capitalize()} in FK in frames {first:g}-{last:g}, {applying.changes(report)}."]
        if any(compat.is_hidden(armature.pose.bones[bone]) for bone in report.bones):
            words.append("Show the FK controls in the rig's bone collections to select them.")
        return " ".join([*words, *report.notes])

    def _range(self, context: bpy.types.Context, armature: bpy.types.Object) -> tuple[float, float]:
        if self.frame_start or self.frame_end:
            first, last = float(self.frame_start), float(self.frame_end)
        elif preview := reading.preview_range(context):
            first, last = float(preview[0]), float(preview[1])
        else:
            keyed = timeline.columns(timeline.pose_keys(armature).bones.values())
            if not len(keyed):
                raise MotionError("The armature's action has no bone keys; set a few key poses first.")
            first, last = math.floor(keyed[0]), math.ceil(keyed[-1])
        if last < first:
            raise MotionError(f"The first frame ({first:g}) must not come after the last one ({last:g}).")
        return first, last


def _chosen(armature: bpy.types.Object, roles: RoleMap, span: tuple[float, float]) -> list[Limb]:
    """The limbs to convert: in IK somewhere, those with a selected control if there are such."""
    curves = sampling.live_curves(armature)
    found = [limb for limb in limbs.of(armature, roles) if limb.in_ik(armature, curves, span)]
    if not found:
        raise MotionError(f"No limb is in IK in frames {span[0]:g}-{span[1]:g}; there is nothing to convert.")
    selected = set(jobs.selected_bones(armature))
    return [limb for limb in found if limb.controls & selected] or found


CLASSES = (MMDM_OT_limbs_to_fk,)
