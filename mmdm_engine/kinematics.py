"""Forward kinematics by tree level: eight batched products for the SMPL tree instead of one per joint."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from .arrays import namespace
from .contract.skeleton import MAIN_CHILD, PARENTS
from .rotations import conjugate, multiply, norm, rotate, shortest_arc, take

if TYPE_CHECKING:
    from .contract import Motion

Array = Any


def levels(parents: tuple[int, ...]) -> tuple[tuple[int, ...], ...]:
    """Joints by distance from the root; parents may come after their children in the list."""
    depth: dict[int, int] = {}

    def of(joint: int) -> int:
        if joint not in depth:
            depth[joint] = 0 if parents[joint] < 0 else of(parents[joint]) + 1
        return depth[joint]

    for j in range(len(parents)):
        of(j)
    return tuple(tuple(j for j in range(len(parents)) if depth[j] == d) for d in range(max(depth.values()) + 1))


_SMPL_LEVELS = levels(PARENTS)


def _plan(parents: tuple[int, ...]) -> tuple[tuple[tuple[int, ...], ...], list[int]]:
    tree = _SMPL_LEVELS if parents == PARENTS else levels(parents)
    order = [j for level in tree for j in level]
    return tree, [order.index(j) for j in range(len(parents))]


def forward(rotations: Array, root: Array, offsets: Array, parents: tuple[int, ...] = PARENTS) -> tuple[Array, Array]:
    """Local rotations → global rotations and joint positions.

    rotations: (..., J, 4). root: (..., 3), the position of joint 0. offsets: (..., J, 3), broadcast against the
    leading axes. Returns ((..., J, 4), (..., J, 3)) in the units of root and offsets. One root joint is assumed.
    """
    xp = namespace(rotations, root, offsets)
    tree, inverse = _plan(parents)
    offsets = offsets + xp.zeros_like(rotations[..., :3])
    level_rotations, level_positions = [take(rotations, tree[0], -2)], [root[..., None, :]]
    for above, level in pairwise(tree):
        rows = [above.index(parents[j]) for j in level]
        parent = take(level_rotations[-1], rows, -2)
        level_positions.append(take(level_positions[-1], rows, -2) + rotate(parent, take(offsets, level, -2)))
        level_rotations.append(multiply(parent, take(rotations, level, -2)))
    return (
        take(xp.concat(level_rotations, axis=-2), inverse, -2),
        take(xp.concat(level_positions, axis=-2), inverse, -2),
    )


def positions(rotations: Array, root: Array, offsets: Array, parents: tuple[int, ...] = PARENTS) -> Array:
    """Joint positions only: see `forward`."""
    return forward(rotations, root, offsets, parents)[1]


def joint_positions(motion: Motion) -> Array:
    """Where a motion's joints are: (T, 22, 3) metres, NumPy float64."""
    rotations, root, offsets = (
        part.astype("float64") for part in (motion.rotations, motion.root, motion.skeleton.offsets)
    )
    return positions(rotations, root, offsets)


def to_local(global_rotations: Array, parents: tuple[int, ...] = PARENTS) -> Array:
    """Global rotations (..., J, 4) → local ones, the inverse of `forward`."""
    xp = namespace(global_rotations)
    children = [j for j in range(len(parents)) if parents[j] >= 0]
    roots = [j for j in range(len(parents)) if parents[j] < 0]
    local = multiply(
        conjugate(take(global_rotations, [parents[j] for j in children], -2)), take(global_rotations, children, -2)
    )
    order = roots + children
    return take(
        xp.concat([take(global_rotations, roots, -2), local], axis=-2),
        [order.index(j) for j in range(len(parents))],
        -2,
    )


SHORT = 0.03
"""Leg lengths: a bone no longer than this has no direction of its own."""


def aim(rotations: Array, root: Array, offsets: Array, places: Array) -> tuple[Array, Array]:
    """Turn every bone on the shortest way into the direction in which ``places`` has its main child.

    rotations (..., 22, 4), root (..., 3) and offsets (..., 22, 3) as for `forward`; places (..., 22, 3). Returns
    rotations and root, which comes from the places. Bones keep their lengths, so only directions are met. A leaf and a
    bone without length keep their own rotation.
    """
    xp = namespace(rotations, root, offsets, places)
    turns, now = forward(rotations, root, offsets)
    child = [c if c >= 0 else j for j, c in enumerate(MAIN_CHILD)]
    bone = take(now, child, -2) - now
    arc = shortest_arc(bone, take(places, child, -2) - places)
    leg = norm(take(now, [4, 7], -2) - take(now, [1, 4], -2)).sum(axis=-2)[..., None, :]
    steady = norm(bone) < SHORT * leg
    local = to_local(xp.where(steady, turns, multiply(arc, turns)))
    return xp.where(steady, rotations, local), places[..., 0, :]
