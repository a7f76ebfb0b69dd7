"""An armature's motion, as evaluated, into the motion contract."""

from __future__ import annotations

import bpy
import numpy as np

from ..engine_link import INDEX, Motion, MotionError, rest
from ..engine_link import rotations as rot
from . import sampling, stored
from .binding import Binding, Carrier, RigTake
from .names import key
from .roles import RoleMap, detect
from .sampling import WORLD_AXES, Progress, Replaced, Samples, metres
from .tree import BoneTree

SOURCE_FPS = "mmdm_source_fps"
"""Custom property of the armature object: the take's true frame rate where the scene has another."""

_CHUNK = 4096
"""Frames that are held as matrices at a time."""


def frame_rate(context: bpy.types.Context, armature: bpy.types.Object) -> float:
    """Frames per second of a take: the armature's own "Source frame rate", else the scene's."""
    own = stored.load(armature, SOURCE_FPS)
    if isinstance(own, int | float) and own > 0:
        return float(own)
    return context.scene.render.fps / context.scene.render.fps_base


def read(
    context: bpy.types.Context,
    armature: bpy.types.Object,
    frames: np.ndarray,
    *,
    roles: RoleMap | None = None,
    fps: float | None = None,
    progress: Progress | None = None,
    replaced: Replaced | None = None,
) -> RigTake:
    """Read the evaluated motion: constraints, drivers, parents and NLA included.

    frames: (T,) scene frames, increasing, fractions allowed. roles: as `detect` finds them by default. fps: as
    `frame_rate` says by default. progress(done, of) may raise to cancel. replaced: keys that need not be numbers, on
    rigs without constraints. The scene's frame, the mode and the selection
    are as before. Raises `MotionError` when hips or knees are unknown, in Edit Mode, on a mirrored armature, and where
    a key is not a number.
    """
    frames = np.asarray(frames, np.float64).reshape(-1)
    if len(frames) < 1 or (np.diff(frames) <= 0).any() or not np.isfinite(frames).all():
        raise MotionError("The frame range is empty; choose an end frame after the start frame.")
    if armature.mode == "EDIT":
        raise MotionError(f"'{armature.name}' is in Edit Mode; switch to Pose Mode and try again.")
    roles = roles or detect(armature)
    roles.require()
    tree = BoneTree.of(armature)
    bones = _needed(tree, roles)
    curves = sampling.live_curves(armature)
    plain = sampling.curves_suffice(armature, curves, bones)
    sampling.require_finite_keys(armature, curves, bones, frames[0], frames[-1], replaced if plain else None)

    unit = metres(context.scene)
    candidates = _carrier_candidates(armature, tree, roles)
    parts: list[tuple[np.ndarray, ...]] = []
    for start in range(0, len(frames), _CHUNK):
        chunk = frames[start : start + _CHUNK]

        def report(done: int, _of: int, start: int = start) -> None:
            if progress:
                progress(start + done, len(frames))

        if plain:
            samples = sampling.from_curves(armature, curves, tree, bones, chunk)
        else:
            samples = sampling.evaluated(context, armature, bones, chunk, report)
        parts.append(_digest(samples, tree, roles, bones, candidates, unit))
        report(len(chunk), len(chunk))
    world, to_world, pose, basis, head, *ways = (np.concatenate(column) for column in zip(*parts, strict=True))
    if not all(np.isfinite(part).all() for part in (pose, basis, head, to_world)):
        raise MotionError(
            f"The pose of '{armature.name}' is not a number in some frame; look for a scale of zero or a broken driver."
        )

    scale = float(np.linalg.norm(world[0], axis=0).mean()) * unit
    alignment = rest.align(_rest_pose(tree, roles, scale))
    motion = _motion(
        alignment, tree, roles, bones, pose, to_world, head, frame_rate(context, armature) if fps is None else fps
    )
    carriers = [Carrier(name, way) for name, way in zip(candidates, ways, strict=True)]
    horizontal, vertical = _choose(curves, carriers, alignment.skeleton.leg_length)
    place = {name: i for i, name in enumerate(bones)}
    binding = Binding(
        armature.name,
        roles,
        alignment,
        bones,
        tuple(place[armature.data.bones[n].parent.name] if armature.data.bones[n].parent else -1 for n in bones),
        np.array([armature.data.bones[n].use_inherit_rotation for n in bones]),
        pose,
        basis,
        to_world,
        horizontal,
        vertical,
        not roles.control and _tree_is_plain(armature, tree, roles),
    )
    return RigTake(motion, frames, binding)


def _needed(tree: BoneTree, roles: RoleMap) -> tuple[str, ...]:
    """All bones of all roles and everything above them, parents first."""
    wanted: set[int] = set()
    for chains in (roles.chains, roles.read):
        for chain in chains.values():
            for bone in chain:
                wanted.update(tree.ancestors(tree.index[bone]))
    return tuple(tree.names[b] for b in sorted(wanted))


def _tree_is_plain(armature: bpy.types.Object, tree: BoneTree, roles: RoleMap) -> bool:
    """Whether no constraint or driver stands between the hips and any role bone, both included."""
    driven = sampling.driven_paths(armature)
    hips = tree.index[roles.chains["pelvis"][0]]
    inside = {b for bone in roles.bones() for b in tree.path(hips, tree.index[bone])}
    inside |= {tree.index[bone] for bone in roles.bones()}
    return all(sampling.plain_bone(armature.pose.bones[tree.names[b]], driven) for b in inside)


def _digest(
    samples: Samples, tree: BoneTree, roles: RoleMap, bones: tuple[str, ...], candidates: list[str], unit: float
) -> tuple[np.ndarray, ...]:
    """What is kept of a chunk: object matrix and rotation, rotations of the bones, hips in metres, carriers' frames."""
    place = {name: i for i, name in enumerate(bones)}
    linear = samples.world[:, :3, :3]
    if (np.linalg.det(linear) < 0).any():
        raise MotionError("The armature object is mirrored by a negative scale; make its scale positive and try again.")
    to_world = rot.from_matrix(WORLD_AXES @ rot.to_matrix(sampling.rotations_of(linear)))
    hips = samples.pose[:, place[roles.read["pelvis"][0]], :3, 3].astype(np.float64)
    head = np.einsum("tij,tj->ti", linear, hips) + samples.world[:, :3, 3]
    ways = []
    for name in candidates:
        if name:
            b = place[name]
            own = samples.pose[:, b, :3, :3].astype(np.float64) @ np.linalg.inv(samples.basis[:, b, :3, :3])
            ways.append(unit * (WORLD_AXES @ linear @ own))
        else:
            ways.append(np.broadcast_to(unit * WORLD_AXES, (len(linear), 3, 3)))
    return (
        linear,
        to_world,
        sampling.rotations_of(samples.pose),
        sampling.rotations_of(samples.basis),
        unit * head @ WORLD_AXES.T,
        *ways,
    )


def _rest_pose(tree: BoneTree, roles: RoleMap, scale: float) -> rest.RestPose:
    """Rest positions in armature space, metres."""
    pose = rest.RestPose(np.zeros((22, 3)), np.zeros(22, bool), np.full((22, 3), np.nan))
    for role, chain in roles.read.items():
        j = INDEX[role]
        last = tree.index[chain[-1]]
        pose.exists[j] = True
        pose.heads[j] = tree.heads[tree.index[chain[0]]] * scale
        pose.tails[j] = _tip(tree, last, role) * scale
    return pose


def _tip(tree: BoneTree, bone: int, role: str) -> np.ndarray:
    """Where a leaf role ends: the middle of the fingers or toes without the thumb, else the bone's own tail."""
    ends = [
        tree.heads[c]
        for c in tree.children[bone]
        if "thumb" not in key(tree.names[c]).text and np.linalg.norm(tree.heads[c] - tree.heads[bone]) > 0
    ]
    return np.mean(ends, axis=0) if ends and role != "head" else tree.tails[bone]


def _motion(
    alignment: rest.RestAlignment,
    tree: BoneTree,
    roles: RoleMap,
    bones: tuple[str, ...],
    pose: np.ndarray,
    to_world: np.ndarray,
    head: np.ndarray,
    fps: float,
) -> Motion:
    place = {name: i for i, name in enumerate(bones)}
    from_rest = np.zeros((len(pose), 22, 4))
    from_rest[..., 0] = 1
    for role, chain in roles.read.items():
        at_rest = sampling.rotations_of(tree.matrices[tree.index[chain[-1]]])
        turned = rot.multiply(pose[:, place[chain[-1]]], rot.conjugate(at_rest))
        from_rest[:, INDEX[role]] = rot.multiply(to_world, turned)
    canonical = alignment.to_canonical(from_rest)
    return Motion(canonical.astype(np.float32), head.astype(np.float32), alignment.skeleton, fps)


def _carrier_candidates(armature: bpy.types.Object, tree: BoneTree, roles: RoleMap) -> list[str]:
    """Bones that could move the figure, hips first, then upwards, then the object itself ("")."""
    names = []
    for b in tree.ancestors(tree.index[roles.chains["pelvis"][0]]):
        bone = armature.pose.bones[tree.names[b]]
        connected = bone.bone.use_connect and bone.parent
        if not connected and not all(bone.lock_location) and bone.bone.use_local_location:
            names.append(bone.name)
    return [*names, ""]


def _choose(curves: sampling.Tracks, carriers: list[Carrier], leg: float) -> tuple[Carrier, Carrier]:
    """Who carries the root motion across the floor and up and down: whoever does already."""

    def travels(carrier: Carrier) -> bool:
        path = sampling.bone_path(carrier.bone, "location") if carrier.bone else "location"
        per_metre = float(np.linalg.norm(carrier.frame[0], axis=0).mean())
        tracks = [curves[path, i] for i in range(3) if (path, i) in curves]
        return any(np.ptp(track.co[:, 1]) * per_metre > 1e-3 * leg for track in tracks)

    moving = [carrier for carrier in carriers if travels(carrier)]
    if not moving:
        return carriers[0], carriers[0]
    return moving[-1], moving[0]
