"""Roles from the shape of the tree alone, for rigs whose names say nothing.

A figure is a bone with two limbs of equal length and a trunk; the trunk ends in a bone with two further limbs of equal
length and a neck. Left and right follow from where the feet point.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import combinations, pairwise

import numpy as np

from .tree import BoneTree

Pair = tuple[int, int]
Reach = Callable[[int], float]

_EVEN = 0.12
"""Largest relative difference in length between the two limbs of a pair."""

_ARM_TO_LEG = 0.35
"""Arms shorter than this part of the legs are ears or fins."""

_COLLAR = 0.3
"""A collar's distance from the middle, at most, in parts of its child's."""


def find(tree: BoneTree, forward: np.ndarray) -> dict[str, int]:
    """Role → the number of its first bone; empty where no figure is found.

    forward: (3,) where the figure looks in armature space if its feet do not tell.
    """

    @cache
    def reach(bone: int) -> float:
        """Longest way down from a bone's head, in bone units."""
        below = [float(np.linalg.norm(tree.heads[c] - tree.heads[bone])) + reach(c) for c in tree.children[bone]]
        return max(below, default=0.0)

    def limb(bone: int) -> list[int]:
        chain = [bone]
        while tree.children[chain[-1]]:
            chain.append(max(tree.children[chain[-1]], key=reach))
        return chain

    def pairs(bone: int) -> list[tuple[int, int]]:
        return sorted(
            (
                (a, b)
                for a, b in combinations(tree.children[bone], 2)
                if len(limb(a)) >= 3
                and len(limb(a)) == len(limb(b))
                and abs(reach(a) - reach(b)) <= _EVEN * max(reach(a), reach(b))
            ),
            key=lambda pair: -reach(pair[0]),
        )

    best: tuple[float, dict[str, int]] = (0.0, {})
    for pelvis in range(len(tree.names)):
        for legs in pairs(pelvis):
            for trunk in tree.children[pelvis]:
                if trunk in legs:
                    continue
                upper = _chest(tree, trunk, reach, pairs, _ARM_TO_LEG * reach(legs[0]))
                if upper is None:
                    continue
                roles = _figure(tree, pelvis, legs, *upper, limb, reach, forward)
                if roles and reach(legs[0]) > best[0]:
                    best = (reach(legs[0]), roles)
    return best[1]


def _chest(
    tree: BoneTree, trunk: int, reach: Reach, pairs: Callable[[int], list[Pair]], least: float
) -> tuple[int, Pair] | None:
    """The first bone of the trunk from which a pair of arms branches off, and that pair."""
    waiting = [trunk]
    while waiting:
        bone = waiting.pop(0)
        for pair in pairs(bone):
            if reach(pair[0]) >= least and len(tree.children[bone]) >= 3:
                return bone, pair
        waiting += tree.children[bone]
    return None


def _segments(tree: BoneTree, chain: list[int]) -> int:
    """Where in a chain its two longest neighbouring segments start: thigh and shin, upper arm and forearm."""
    lengths = [float(np.linalg.norm(tree.heads[b] - tree.heads[a])) for a, b in pairwise(chain)]
    sums = [a + b for a, b in pairwise(lengths)]
    return int(np.argmax(sums)) if sums else 0


def _figure(
    tree: BoneTree,
    pelvis: int,
    legs: Pair,
    chest: int,
    arms: Pair,
    limb: Callable[[int], list[int]],
    reach: Reach,
    forward: np.ndarray,
) -> dict[str, int]:
    """All roles of a figure, sides told apart; empty where a limb is too short."""
    roles = {"pelvis": pelvis}
    necks = [c for c in tree.children[chest] if c not in arms]
    neck = max(necks, key=reach)
    chain = limb(neck)
    head = next((i for i, b in enumerate(chain) if len(tree.children[b]) > 1), min(1, len(chain) - 1))
    roles["head"] = chain[head]
    if head > 0:
        roles["neck"] = neck
    hips = (tree.heads[legs[0]] + tree.heads[legs[1]]) / 2
    up = tree.heads[neck] - hips

    parts = {pair: [limb(pair[0]), limb(pair[1])] for pair in (legs, arms)}
    feet = []
    for chain in parts[legs]:
        at = _segments(tree, chain)
        if len(chain) < at + 3:
            return {}
        end = tree.heads[chain[at + 3]] if len(chain) > at + 3 else tree.tails[chain[at + 2]]
        feet.append(end - tree.heads[chain[at + 2]])
    ahead = np.sum(feet, axis=0)
    ahead -= up * (ahead @ up) / (up @ up)
    if np.linalg.norm(ahead) < 0.05 * reach(legs[0]):
        ahead = np.asarray(forward, np.float64)
    left = np.cross(up, ahead)

    for pair, names in ((legs, ("hip", "knee", "ankle", "foot")), (arms, ("shoulder", "elbow", "wrist"))):
        towards = [left @ (tree.heads[chain].mean(axis=0) - hips) for chain in parts[pair]]
        sides = ("left", "right") if towards[0] > towards[1] else ("right", "left")
        for chain, side in zip(parts[pair], sides, strict=True):
            aside = np.abs((tree.heads[chain] - hips) @ left)
            # a bone that starts near the middle and leads outwards is a collar
            collar = int(pair == arms and aside[0] < _COLLAR * aside[1])
            at = collar + _segments(tree, chain[collar:])
            if len(chain) < at + 3:
                return {}
            for name, bone in zip(names, chain[at:], strict=False):
                roles[f"{side}_{name}"] = bone
            if pair == arms and at > 0:
                roles[f"{side}_collar"] = chain[0]
    return roles
