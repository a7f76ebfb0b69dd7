"""Poses of bones over time: evaluated by Blender, or straight from F-curves where nothing else moves the bones.

Both ways give the same `Samples`; a test compares them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import bpy
import numpy as np

from .. import compat, nla
from ..engine_link import MotionError
from ..engine_link import rotations as rot
from . import channels
from .keys import Track
from .tree import BoneTree

Progress = Callable[[int, int], None]
Replaced = Callable[[str, np.ndarray], np.ndarray]
"""(bone, key times) → which of these keys will be replaced."""

WORLD_AXES = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
"""Blender's Z up, facing -Y → the motion's Y up, facing +Z."""


@dataclass(frozen=True, eq=False)
class Samples:
    """T frames of B bones. ``pose`` (T, B, 4, 4) in armature space, ``basis`` (T, B, 4, 4) the bone's own channels,
    ``world`` (T, 4, 4) armature space → Blender's world."""

    pose: np.ndarray
    basis: np.ndarray
    world: np.ndarray


def part(progress: Progress | None, start: float, stop: float) -> Progress | None:
    """Progress of a part of the work, from one share of the whole to another, in thousandths."""
    if progress is None:
        return None
    return lambda done, of: progress(round(1000 * (start + (stop - start) * done / of)), 1000)


def metres(scene: bpy.types.Scene) -> float:
    """Metres per Blender unit."""
    return scene.unit_settings.scale_length if scene.unit_settings.system != "NONE" else 1.0


def rotations_of(matrices: np.ndarray) -> np.ndarray:
    """(..., 3 or 4, 3 or 4) → (..., 4) nearest rotations, scale and shear taken off."""
    m = np.asarray(matrices, np.float64)[..., :3, :3]
    length = np.sqrt(np.einsum("...ij,...ij->...j", m, m))
    m = m / np.maximum(length, 1e-30)[..., None, :]
    across = np.einsum("...ij,...ij->...j", m, m[..., [1, 2, 0]])
    skew = ((np.abs(across) > 1e-5) | (length < 1e-30)).any(axis=-1)
    if skew.any():
        u, _, v = np.linalg.svd(m[skew])
        m[skew] = u @ v
    return rot.from_matrix(m)


def muted(curve: bpy.types.FCurve) -> bool:
    """Whether a curve is switched off, by itself or with its group."""
    return curve.mute or bool(curve.group and curve.group.mute)


Tracks = dict[tuple[str, int], Track]


def live_curves(owner: bpy.types.Object) -> Tracks:
    """The curves that really animate ``owner``, by path and index, on the action's own time (`nla.shift`).

    Valid until the action changes.
    """
    if not compat.action_animates(owner):
        return {}
    found = compat.curves(owner.animation_data.action, compat.assigned_slot(owner))
    return {(c.data_path, c.array_index): Track(c) for c in found if not muted(c) and len(c.keyframe_points)}


def bone_path(bone: str, name: str) -> str:
    """The data path of a pose bone's property."""
    return f'pose.bones["{bpy.utils.escape_identifier(bone)}"].{name}'


def require_finite_keys(
    armature: bpy.types.Object,
    curves: Tracks,
    bones: tuple[str, ...],
    first: float,
    last: float,
    replaced: Replaced | None = None,
) -> None:
    """Raise `MotionError` where a key of these bones or of the object, from first to last, is not a number.

    Blender evaluates such a key to a rotation as if nothing were wrong. replaced: keys that may be anything, since they
    will be replaced; what remains must hold one number at least.
    """
    prefixes = {bone_path(name, ""): name for name in bones}
    shift = nla.shift(armature)
    for (path, _), track in curves.items():
        name = prefixes.get(path[: path.rfind(".") + 1]) if path.startswith("pose.") else armature.name
        if name is None or track.finite.all():
            continue
        times = track.co[:, 0] + shift
        bad = ~track.finite & ~((times < first) | (times > last))
        if replaced is not None and bad.any() and track.finite.any() and path.startswith("pose."):
            bad &= ~replaced(name, times)
        if bad.any():
            raise MotionError(
                f"A key of '{name}' in frame {times[np.argmax(bad)]:g} is not a number; "
                "delete or repair it and try again."
            )


def plain_bone(bone: bpy.types.PoseBone, driven: set[str]) -> bool:
    """Whether a pose bone's rotation follows from its parent's and its own channels alone.

    driven: data paths of the object's drivers.
    """
    prefix = bone_path(bone.name, "")
    return not any(not c.mute for c in bone.constraints) and not any(path.startswith(prefix) for path in driven)


def driven_paths(armature: bpy.types.Object) -> set[str]:
    """Data paths of the armature object's active drivers."""
    data = armature.animation_data
    return {driver.data_path for driver in data.drivers if not driver.mute} if data else set()


def curves_suffice(armature: bpy.types.Object, curves: Tracks, bones: tuple[str, ...]) -> bool:
    """Whether NumPy can stand in for Blender's evaluation of these bones (which must include all their ancestors)."""
    data = armature.animation_data
    driven = driven_paths(armature)
    if armature.parent or any(not c.mute for c in armature.constraints):
        return False
    if any(path.startswith(("location", "rotation", "scale", "delta")) for path in driven):
        return False
    if data and (data.use_tweak_mode or data.action_influence < 1 or data.action_blend_type != "REPLACE"):
        return False
    if data and data.use_nla and any(not t.mute and any(not s.mute for s in t.strips) for t in data.nla_tracks):
        return False
    if any(path.startswith("delta") for path, _ in curves) or not _is_identity(armature):
        return False
    plain = True
    scaled = False
    for name in bones:
        bone = armature.pose.bones[name]
        scaled = (
            scaled or any((bone_path(name, "scale"), i) in curves for i in range(3)) or tuple(bone.scale) != (1, 1, 1)
        )
        plain = plain and bone.bone.use_inherit_rotation and bone.bone.use_local_location and plain_bone(bone, driven)
    # a scaled parent is plain matrix multiplication only where the child takes it over whole
    return plain and not (scaled and any(armature.pose.bones[n].bone.inherit_scale != "FULL" for n in bones))


def _is_identity(armature: bpy.types.Object) -> bool:
    turned = (armature.delta_rotation_quaternion[0] ** 2 < 1 - 1e-12) or any(armature.delta_rotation_euler)
    return not (turned or any(armature.delta_location) or any(abs(s - 1) > 1e-9 for s in armature.delta_scale))


def from_curves(
    armature: bpy.types.Object, curves: Tracks, tree: BoneTree, bones: tuple[str, ...], frames: np.ndarray
) -> Samples:
    """Pose bones by NumPy alone. Only where `curves_suffice`."""

    def values(owner: bpy.types.bpy_struct, prefix: str, name: str) -> np.ndarray:
        static = np.array(getattr(owner, name), np.float64)
        result = np.repeat(static[None], len(frames), axis=0)
        for i in range(len(static)):
            curve = curves.get((prefix + name, i))
            if curve is not None:
                result[:, i] = curve.evaluate(frames)
        return result

    def turns(owner: bpy.types.bpy_struct, prefix: str) -> np.ndarray:
        mode = owner.rotation_mode
        return channels.to_quaternion(values(owner, prefix, channels.path_of(mode)), mode)

    count = len(frames)
    pose = np.zeros((count, len(bones), 4, 4))
    basis = np.zeros((count, len(bones), 4, 4))
    basis[..., 3, 3] = pose[..., 3, 3] = 1
    place = {name: i for i, name in enumerate(bones)}
    for b, name in enumerate(bones):
        bone = armature.pose.bones[name]
        prefix = bone_path(name, "")
        basis[:, b, :3, :3] = rot.to_matrix(turns(bone, prefix)) * values(bone, prefix, "scale")[:, None, :]
        at = tree.index[name]
        parent = tree.parents[at]
        offset = tree.matrices[at] if parent < 0 else np.linalg.inv(tree.matrices[parent]) @ tree.matrices[at]
        if not bone.bone.use_connect or parent < 0:
            basis[:, b, :3, 3] = values(bone, prefix, "location")
        above = offset if parent < 0 else pose[:, place[tree.names[parent]]] @ offset
        pose[:, b] = above @ basis[:, b]
    world = np.zeros((count, 4, 4))
    world[:, 3, 3] = 1
    world[:, :3, :3] = rot.to_matrix(turns(armature, "")) * values(armature, "", "scale")[:, None, :]
    world[:, :3, 3] = values(armature, "", "location")
    return Samples(pose, basis, world)


def evaluated(
    context: bpy.types.Context,
    armature: bpy.types.Object,
    bones: tuple[str, ...],
    frames: np.ndarray,
    progress: Progress | None = None,
) -> Samples:
    """Pose bones as Blender shows them: constraints, drivers, parents, NLA. Scene frame and pose position are restored.

    Raises `MotionError` where the armature is not in the view layer, since Blender then evaluates nothing.
    """
    if context.view_layer.objects.get(armature.name) != armature:
        raise MotionError(
            f"'{armature.name}' is not in the current view layer, so its motion cannot be evaluated; "
            "enable its collection and try again."
        )
    scene = context.scene
    before = scene.frame_current, scene.frame_subframe
    position = armature.data.pose_position
    place = {bone.name: i for i, bone in enumerate(armature.pose.bones)}
    rows = [place[name] for name in bones]
    buffer = np.empty((len(place), 4, 4), np.float32)
    pose = np.empty((len(frames), len(bones), 4, 4), np.float32)
    basis = np.empty_like(pose)
    world = np.empty((len(frames), 4, 4))
    try:
        if position == "REST":
            armature.data.pose_position = "POSE"
        for t, frame in enumerate(frames):
            whole = int(np.floor(frame))
            scene.frame_set(whole, subframe=float(frame - whole))
            shown = armature.evaluated_get(context.evaluated_depsgraph_get())
            shown.pose.bones.foreach_get("matrix", buffer.reshape(-1))
            pose[t] = buffer[rows].swapaxes(1, 2)
            shown.pose.bones.foreach_get("matrix_basis", buffer.reshape(-1))
            basis[t] = buffer[rows].swapaxes(1, 2)
            world[t] = shown.matrix_world
            if progress and t % 10 == 9:
                progress(t + 1, len(frames))
    finally:
        if armature.data.pose_position != position:
            armature.data.pose_position = position
        scene.frame_set(before[0], subframe=before[1])
    return Samples(pose, basis, world)
