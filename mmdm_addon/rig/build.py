"""A motion as a new armature: SMPL-22 bones in a T-pose on the floor, one action."""

from __future__ import annotations

import bpy
import numpy as np

from .. import compat
from ..engine_link import CANONICAL_DIRECTIONS, JOINTS, MAIN_CHILD, PARENTS, Motion, Skeleton, kinematics
from ..engine_link import rotations as rot
from .keys import HANDLE, INTERPOLATION
from .sampling import WORLD_AXES, bone_path, metres
from .tree import BoneTree

_SHORTEST = 0.03
"""Leg lengths of the shortest bone that is drawn; Blender drops bones without length."""
_LEAVES = {"head": 0.22, "left_wrist": 0.2, "right_wrist": 0.2, "left_foot": 0.08, "right_foot": 0.08}
"""Leg lengths of the bones that end in nothing."""


def build(context: bpy.types.Context, motion: Motion, name: str, first_frame: float = 1.0) -> bpy.types.Object:
    """A new armature that performs the motion, a key on every frame from ``first_frame`` on; active, in Object Mode.

    The motion's frame rate is not looked at: one frame of the motion is one frame of the scene.
    """
    scale = 1 / metres(context.scene)
    armature = _armature(context, motion.skeleton, name, scale)
    tree = BoneTree.of(armature)
    order = [tree.index[joint] for joint in JOINTS]
    at_rest = rot.from_matrix(tree.matrices[order, :3, :3])
    turns = _to_blender(motion.rotations.astype(np.float64))
    turns = rot.continuous(rot.multiply(rot.multiply(rot.conjugate(at_rest), turns), at_rest))
    path = scale * motion.root.astype(np.float64) @ WORLD_AXES - tree.heads[tree.index["pelvis"]]
    path = rot.rotate(rot.conjugate(at_rest[0]), path)

    action, slot = compat.new_action(name, armature)
    times = first_frame + np.arange(len(motion))
    for j, joint in enumerate(JOINTS):
        if motion.skeleton.exists[j]:
            turning = bone_path(joint, "rotation_quaternion")
            for axis in range(4):
                linear_curve(action, slot, joint, turning, axis, times, turns[:, j, axis])
    for axis in range(3):
        linear_curve(action, slot, "pelvis", bone_path("pelvis", "location"), axis, times, path[:, axis])
    compat.assign(armature, action, slot)
    return armature


def _to_blender(q: np.ndarray) -> np.ndarray:
    """Rotations about the motion's axes (..., 4) → about Blender's."""
    return np.concatenate([q[..., :1], q[..., 1:] @ WORLD_AXES], axis=-1)


def _armature(context: bpy.types.Context, skeleton: Skeleton, name: str, scale: float) -> bpy.types.Object:
    """The armature at rest. Absent joints get a bone as well, which is never keyed: children keep their parents."""
    offsets = skeleton.offsets.astype(np.float64)
    still = np.tile(np.array(rot.IDENTITY), (22, 1))
    heads = kinematics.positions(still, np.zeros(3), offsets)
    heads[:, 1] -= heads[:, 1].min()
    leg = skeleton.leg_length

    data = bpy.data.armatures.new(name)
    armature = bpy.data.objects.new(name, data)
    context.collection.objects.link(armature)
    for other in context.view_layer.objects.selected:
        other.select_set(False)
    context.view_layer.objects.active = armature
    armature.select_set(True)
    bpy.ops.object.mode_set(mode="EDIT")
    for j, joint in enumerate(JOINTS):
        child = MAIN_CHILD[j]
        length = _LEAVES.get(joint, 0.0) * leg if child < 0 else float(np.linalg.norm(offsets[child]))
        tail = CANONICAL_DIRECTIONS[j] * max(length, _SHORTEST * leg)
        bone = data.edit_bones.new(joint)
        bone.head = scale * heads[j] @ WORLD_AXES
        bone.tail = scale * (heads[j] + tail) @ WORLD_AXES
        bone.parent = data.edit_bones[JOINTS[PARENTS[j]]] if j else None
    bpy.ops.object.mode_set(mode="OBJECT")
    for bone in armature.pose.bones:
        bone.rotation_mode = "QUATERNION"
    return armature


def linear_curve(
    action: bpy.types.Action, slot: object, bone: str, path: str, axis: int, times: np.ndarray, values: np.ndarray
) -> None:
    """A new curve in the group of a bone, with a linear key at each time."""
    points = compat.new_curve(action, slot, path, axis, bone).keyframe_points
    points.add(len(times))
    points.foreach_set("co", np.stack([times, values], axis=-1).astype(np.float32).ravel())
    points.foreach_set("interpolation", np.full(len(times), INTERPOLATION["LINEAR"], np.int32))
    for side in ("handle_left_type", "handle_right_type"):
        points.foreach_set(side, np.full(len(times), HANDLE["AUTO_CLAMPED"], np.int32))
