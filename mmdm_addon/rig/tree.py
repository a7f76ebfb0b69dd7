"""An armature's rest pose as plain names and numbers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import bpy
import numpy as np


@dataclass(frozen=True, eq=False)
class BoneTree:
    """Bones at rest.

    names: J strings. parents: J numbers, -1 for a root, parents before children. matrices: (J, 4, 4) in armature space.
    tails: (J, 3) in armature space.
    """

    names: tuple[str, ...]
    parents: tuple[int, ...]
    matrices: np.ndarray
    tails: np.ndarray

    @classmethod
    def of(cls, armature: bpy.types.Object) -> BoneTree:
        """Read the rest pose. Blender lists parents before children."""
        bones = armature.data.bones
        place = {bone.name: i for i, bone in enumerate(bones)}
        matrices, tails = np.empty((len(bones), 4, 4), np.float32), np.empty((len(bones), 3), np.float32)
        bones.foreach_get("matrix_local", matrices.reshape(-1))
        bones.foreach_get("tail_local", tails.reshape(-1))
        return cls(
            tuple(place),
            tuple(place[b.parent.name] if b.parent else -1 for b in bones),
            matrices.swapaxes(1, 2).astype(np.float64),  # foreach_get gives columns first
            tails.astype(np.float64),
        )

    @cached_property
    def index(self) -> dict[str, int]:
        """Name → number."""
        return {name: i for i, name in enumerate(self.names)}

    @cached_property
    def children(self) -> tuple[tuple[int, ...], ...]:
        """Numbers of every bone's children."""
        found: list[list[int]] = [[] for _ in self.names]
        for j, parent in enumerate(self.parents):
            if parent >= 0:
                found[parent].append(j)
        return tuple(tuple(c) for c in found)

    @property
    def heads(self) -> np.ndarray:
        """(J, 3) where the bones start, armature space."""
        return self.matrices[:, :3, 3]

    def ancestors(self, bone: int) -> list[int]:
        """The bone and everything above it, nearest first."""
        path = [bone]
        while self.parents[path[-1]] >= 0:
            path.append(self.parents[path[-1]])
        return path

    def path(self, top: int, bottom: int) -> list[int]:
        """Bones from ``top`` to ``bottom``, both included; empty when bottom does not hang below top."""
        above = self.ancestors(bottom)
        return above[above.index(top) :: -1] if top in above else []

    def meeting(self, bones: list[int]) -> int | None:
        """The lowest bone that all the given ones are or hang below."""
        rest = [set(self.ancestors(b)) for b in bones[1:]]
        return next((b for b in self.ancestors(bones[0]) if all(b in r for r in rest)), None)
