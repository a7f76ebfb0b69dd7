"""Writing to rigs whose skeleton follows controls through constraints (Rigify's generated rig).

No formula says where a control must be for a bone to end up somewhere. So controls are set from the hips outwards, one
tree level at a time, and Blender evaluates the rig after each level; what a level leaves over, the next one sees.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import bpy
import numpy as np

from .. import nla
from ..engine_link import INDEX, Motion
from ..engine_link import rotations as rot
from . import sampling, solve
from .binding import RigTake
from .edits import Edit
from .roles import RoleMap
from .sampling import WORLD_AXES, Progress, metres
from .tree import BoneTree

if TYPE_CHECKING:
    from .write import Session

_SAME_SCALE = 1e-5
"""Scales that differ by less need no keys."""


def solve_by_evaluation(
    context: bpy.types.Context,
    armature: bpy.types.Object,
    take: RigTake,
    goal: Motion,
    where: np.ndarray,
    allowed: set[str],
    session: Session,
    *,
    carried: bool,
    lengths: Mapping[str, np.ndarray] | None = None,
    progress: Progress | None = None,
) -> list[Edit]:
    """Edits that bring the evaluated skeleton to the goal.

    They are tried out in the session's action, which is a fresh copy again afterwards.

    carried: whether what carries the root motion may be written. lengths: bone that is read → (T, 3) scale of its axes
    that the controls are to give it as well; without it scales stay as they are. progress(done, of) may raise to
    cancel.
    """
    binding = take.binding
    tree = BoneTree.of(armature)
    place = {name: i for i, name in enumerate(binding.bones)}
    delta = solve.turns(take, goal)
    plan = _plan(tree, binding.roles, where, allowed)
    made: list[Edit] = []
    if not plan and not where[:, 22].any():
        return made

    every = np.zeros(len(take.frames), bool)
    for _, _, _, frames in plan:
        every |= frames
    every |= where[:, 22]
    rows = np.flatnonzero(every)

    depths = sorted({entry[0] for entry in plan})
    looks = len(depths) + 1  # the hips' place may come last
    looked = 0

    def look() -> sampling.Samples:
        nonlocal looked
        session.apply(made, trial=True)
        nla.assign(armature, session.action, session.slot)
        share = sampling.part(progress, looked / looks, (looked + 1) / looks)
        shown = sampling.evaluated(context, armature, binding.bones, take.frames[rows], share)
        looked += 1
        session.reset()
        return shown

    for depth in depths:
        shown = look()
        pose, basis = sampling.rotations_of(shown.pose), sampling.rotations_of(shown.basis)
        for _, bone, role, frames in (entry for entry in plan if entry[0] == depth):
            seen = place[binding.roles.read[role][-1]]
            wanted = rot.multiply(delta[rows, INDEX[role]], binding.pose[rows, seen])
            # the bone that is read turns rigidly with its control
            left_over = rot.multiply(wanted, rot.conjugate(pose[:, seen]))
            at = place[bone]
            local = rot.multiply(rot.conjugate(pose[:, at]), rot.multiply(left_over, pose[:, at]))
            target = binding.basis[:, at].copy()
            target[rows] = rot.normalize(rot.multiply(basis[:, at], local))
            made.append(session.rotation(bone, target, frames))
            name = binding.roles.read[role][-1]
            if lengths is not None and name in lengths:
                factor = lengths[name][rows] / axis_scales(shown.pose[:, seen])
                if np.abs(factor - 1).max() > _SAME_SCALE:
                    scale = np.ones((len(take.frames), 3))
                    scale[rows] = axis_scales(shown.basis[:, at]) * factor
                    made.append(session.scale(bone, scale, frames))

    hips_turned = np.zeros(len(take.frames), bool)
    for _, _, role, frames in plan:
        if role in ("pelvis", "spine1"):
            hips_turned |= frames
    frames = where[:, 22] | (hips_turned & carried)
    if frames.any():
        shown = look()
        hips = shown.pose[:, place[binding.roles.read["pelvis"][0]], :3, 3].astype(np.float64)
        head = (np.einsum("tij,tj->ti", shown.world[:, :3, :3], hips) + shown.world[:, :3, 3]) @ WORLD_AXES.T
        move = np.zeros((len(take.frames), 3))
        move[rows] = goal.root[rows] - head * metres(context.scene)
        made += session.locations(move, frames)
    return made


def axis_scales(matrices: np.ndarray) -> np.ndarray:
    """(..., 4, 4) → (..., 3) lengths of the axes."""
    return np.linalg.norm(np.asarray(matrices, np.float64)[..., :3, :3], axis=-2)


def _plan(
    tree: BoneTree, roles: RoleMap, where: np.ndarray, allowed: set[str]
) -> list[tuple[int, str, str, np.ndarray]]:
    """(depth, control, role, frames) of every control to set."""
    plan = []
    for role, chain in roles.chains.items():
        frames = where[:, INDEX[role]]
        for n, bone in enumerate(chain):
            # Rigify's pelvis control hangs on the first spine control and must undo what that does
            needed = frames | where[:, INDEX["spine1"]] if role == "pelvis" and n else frames
            if bone in allowed and needed.any():
                plan.append((len(tree.ancestors(tree.index[bone])), bone, role, needed))
    return plan
