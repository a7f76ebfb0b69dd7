"""The motion of a BVH file as keys of the armature that Blender has made of its skeleton.

Blender's importer sets every key by itself, which takes about as long as the engine needs to clean the take.
"""

from __future__ import annotations

import bpy
import numpy as np

from .. import compat
from ..engine_link import MotionError, bvh
from ..engine_link import rotations as rot
from ..rig import channels, sampling
from ..rig.keys import INTERPOLATION
from ..rig.tree import BoneTree

FIRST = 1
"""Scene frame of the first key, as Blender's importer has it."""


def put(armature: bpy.types.Object, text: bvh.Bvh, scale: float) -> None:
    """Give the armature a key on every frame of the text.

    armature: as Blender imports the same hierarchy with one frame, Z up. scale: metres per unit of the file. Raises
    `MotionError` where its bones are not the file's joints.
    """
    tree = BoneTree.of(armature)
    if tree.parents != text.hierarchy.parents:
        raise MotionError(
            f"Blender has not made a bone of every joint of '{armature.name}'; look for joints on one spot."
        )
    curves = {
        (curve.data_path, curve.array_index): curve
        for curve in compat.curves(armature.animation_data.action, compat.assigned_slot(armature))
    }
    local, moves = text.local()
    moves = scale * (moves - text.hierarchy.offsets) @ sampling.WORLD_AXES
    turns = np.concatenate([local[..., :1], local[..., 1:] @ sampling.WORLD_AXES], axis=-1)
    at_rest = sampling.rotations_of(tree.matrices)
    back = rot.conjugate(at_rest)
    moves = rot.rotate(back, moves)
    turns = rot.multiply(rot.multiply(back, turns), at_rest)
    for j, name in enumerate(tree.names):
        mode = armature.pose.bones[name].rotation_mode
        angles = channels.from_quaternion(turns[:, j], mode, np.zeros(3))
        for channel, values in (("location", moves[:, j]), (channels.path_of(mode), angles)):
            path = sampling.bone_path(name, channel)
            for axis in range(3):
                if (path, axis) in curves:
                    _fill(curves[path, axis], values[:, axis])
    scene = bpy.context.scene
    scene.frame_end = max(scene.frame_end, FIRST + len(turns) - 1)


def _fill(curve: bpy.types.FCurve, values: np.ndarray) -> None:
    """One straight key per frame in the place of what the curve has."""
    points = curve.keyframe_points
    points.add(len(values) - len(points))
    times = FIRST + np.arange(len(values))
    points.foreach_set("co", np.stack([times, values], axis=-1).astype(np.float32).ravel())
    points.foreach_set("interpolation", np.full(len(values), INTERPOLATION["LINEAR"], np.int32))
    curve.update()
