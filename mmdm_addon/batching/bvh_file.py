"""An armature's motion as BVH text, by NumPy: Y up, at the size and rate of the source.

Blender's own exporter writes its Z-up axes and evaluates frame by frame. Where the source was a BVH file, its header
and every number of a joint and frame that did not change are kept.
"""

from __future__ import annotations

from pathlib import Path

import bpy
import numpy as np

from ..engine_link import MotionError, bvh, retarget
from ..engine_link import rotations as rot
from ..rig import sampling
from ..rig.tree import BoneTree

SAME_TURN, SAME_PLACE = 2e-4, 2e-5
"""Radians, and shares of the skeleton's size: what float32 channels differ by without an edit."""
AXES = {"X": 0, "Y": 1, "Z": 2}


def write(
    armature: bpy.types.Object, frames: np.ndarray, path: Path, fps: float, like: tuple[bvh.Bvh, float] | None
) -> None:
    """Write what the armature does over these frames. like: the source's text and metres per unit of it.

    Raises `MotionError`, `OSError`.
    """
    tree = BoneTree.of(armature)
    local, moves, offsets, tips = _joints(armature, tree, frames)
    text = _onto(like, tree, local, moves) if like else None
    path.write_bytes(
        (text or _fresh(armature, tree, local, moves, offsets, tips, fps)).text().encode("utf-8", "surrogateescape")
    )


def _joints(
    armature: bpy.types.Object, tree: BoneTree, frames: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Rotations from rest (T, J, 4), places (T, J, 3), rest offsets and tips (J, 3): Y up, relative to the parent."""
    curves = sampling.live_curves(armature)
    if sampling.curves_suffice(armature, curves, tree.names):
        samples = sampling.from_curves(armature, curves, tree, tree.names, frames)
    else:
        samples = sampling.evaluated(bpy.context, armature, tree.names, frames)
    linear = sampling.WORLD_AXES @ samples.world[:, :3, :3]
    heads = np.einsum("tij,tbj->tbi", linear, samples.pose[..., :3, 3].astype(np.float64))
    heads += (samples.world[:, :3, 3] @ sampling.WORLD_AXES.T)[:, None]
    turned = rot.multiply(sampling.rotations_of(linear)[:, None], sampling.rotations_of(samples.pose))
    at_rest = rot.multiply(sampling.rotations_of(linear[:1]), sampling.rotations_of(tree.matrices))
    from_rest = rot.multiply(turned, rot.conjugate(at_rest)[None])
    rest_heads, rest_tails = tree.heads @ linear[0].T, tree.tails @ linear[0].T
    local, moves = from_rest.copy(), heads.copy()
    offsets = rest_heads.copy()
    for j, parent in enumerate(tree.parents):
        if parent >= 0:
            back = rot.conjugate(from_rest[:, parent])
            local[:, j] = rot.multiply(back, from_rest[:, j])
            moves[:, j] = rot.rotate(back, heads[:, j] - heads[:, parent])
            offsets[j] = rest_heads[j] - rest_heads[parent]
    return local, moves, offsets, rest_tails - rest_heads


def _onto(like: tuple[bvh.Bvh, float], tree: BoneTree, local: np.ndarray, moves: np.ndarray) -> bvh.Bvh | None:
    """The source's text with what changed; None where the armature no longer has the file's joints and frames."""
    text, scale = like
    if len(set(text.hierarchy.names)) != len(tree.names) or len(text.values) != len(local):
        return None
    try:
        order = [tree.index[name] for name in text.hierarchy.names]
    except KeyError:  # a name that Blender had to shorten
        return None
    old_local, old_moves = text.local()
    new_local, new_moves = local[:, order], moves[:, order] / scale
    size = float(np.linalg.norm(text.hierarchy.offsets, axis=-1).max())
    turned = rot.angle(new_local, old_local) > SAME_TURN
    moved = np.linalg.norm(new_moves - old_moves, axis=-1) > SAME_PLACE * np.maximum(
        np.abs(old_moves).max(axis=-1), size
    )
    return text.with_local(
        np.where(turned[..., None], new_local, old_local), np.where(moved[..., None], new_moves, old_moves)
    )


def _fresh(
    armature: bpy.types.Object,
    tree: BoneTree,
    local: np.ndarray,
    moves: np.ndarray,
    offsets: np.ndarray,
    tips: np.ndarray,
    fps: float,
) -> bvh.Bvh:
    """A file of its own: the root with place and rotation, all other joints with rotations."""
    trees = {
        j: [b for b in range(len(tree.names)) if tree.ancestors(b)[-1] == j]
        for j, p in enumerate(tree.parents)
        if p < 0
    }
    keep = max(trees.values(), key=len)
    if any(len(bones) > 1 for bones in trees.values() if bones is not keep):
        raise MotionError(f"'{armature.name}' has several bone trees, which BVH cannot hold; choose another --format.")
    place = {j: i for i, j in enumerate(keep)}
    names = tuple(tree.names[j].replace("{", "(").replace("}", ")") for j in keep)
    parents = tuple(place[tree.parents[j]] if tree.parents[j] >= 0 else -1 for j in keep)
    channels = []
    for j in keep:
        turns = tuple(f"{axis}rotation" for axis in "ZXY")
        channels.append((*(f"{axis}position" for axis in "XYZ"), *turns) if tree.parents[j] < 0 else turns)
    hierarchy = retarget.Hierarchy(names, parents, offsets[keep], tips[keep])
    blank = bvh.Bvh(
        hierarchy, tuple(channels), np.zeros((len(local), sum(map(len, channels)))), 1 / fps,
        bvh.header_text(hierarchy, tuple(channels)), f"{1 / fps:.9g}",
    )  # fmt: skip
    return blank.with_local(local[:, keep], moves[:, keep])
