"""A Rigify rig's limbs from IK to FK over a range, pose for pose."""

from __future__ import annotations

from collections.abc import Sequence

import bpy
import numpy as np

from .. import nla
from ..engine_link import INDEX
from ..engine_link import rotations as rot
from . import controls, sampling
from .binding import RigTake
from .limbs import Limb
from .sampling import Progress
from .write import TOLERANCE, Session, WriteReport


def to_fk(
    context: bpy.types.Context,
    armature: bpy.types.Object,
    take: RigTake,
    limbs: Sequence[Limb],
    *,
    name: str,
    progress: Progress | None = None,
) -> WriteReport:
    """Key the limbs' FK controls to the poses of a take and switch them over, in a new action that is assigned.

    Rotations, and scales where IK makes bones longer or shorter (Rigify's does by a percent or so).

    take: all frames of the range as read, from the first to the last. progress(done, of) may raise to cancel. The
    report's largest change is what moved all the same, where channels are locked.
    """
    roles = take.binding.roles
    where = np.zeros((len(take.frames), 23), bool)
    where[:, [INDEX[role] for limb in limbs for role in limb.roles]] = True
    allowed = {bone for limb in limbs for role in limb.roles for bone in roles.chains[role]}
    notes: list[str] = []
    span = (float(take.frames[0]), float(take.frames[-1]))
    bones = tuple(dict.fromkeys(bone for limb in limbs for role in limb.roles for bone in roles.read[role]))
    before = sampling.evaluated(context, armature, bones, take.frames, sampling.part(progress, 0, 0.15))
    session = Session(
        armature, take, name, "ALL", 1, TOLERANCE, span[0], {}, "FILL", notes, switched=tuple(limbs), span=span
    )
    try:
        goal = take.motion
        lengths = {bone: controls.axis_scales(before.pose[:, b]) for b, bone in enumerate(bones)}
        made = controls.solve_by_evaluation(
            context, armature, take, goal, where, allowed, session, carried=False, lengths=lengths,
            progress=sampling.part(progress, 0.15, 0.85),
        )  # fmt: skip
        session.apply(made)
    except BaseException:
        session.discard()
        raise
    nla.assign(armature, session.action, session.slot)
    context.scene.frame_set(context.scene.frame_current, subframe=context.scene.frame_subframe)
    after = sampling.evaluated(context, armature, bones, take.frames, sampling.part(progress, 0.85, 1))
    turned = rot.angle(sampling.rotations_of(after.pose), sampling.rotations_of(before.pose)).max()
    moved = np.linalg.norm(after.world[:, None, :3, :3] @ (after.pose - before.pose)[..., :3, 3:], axis=(-1, -2)).max()
    centimetres = 100 * sampling.metres(context.scene) * float(moved)
    return WriteReport(
        session.action.name, session.bones, session.keys, float(np.degrees(turned)), centimetres, session.notes
    )
