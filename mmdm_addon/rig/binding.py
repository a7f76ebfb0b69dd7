"""What a take remembers of its rig, in names and NumPy: valid after undo, in another thread, after the rig is gone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..engine_link import Motion, rest
from .roles import RoleMap


@dataclass(frozen=True, eq=False)
class Carrier:
    """What moves the whole figure through its location channels.

    bone: name, "" for the armature object itself. frame: (T, 3, 3) a change of the channels → metres, Y up.
    """

    bone: str
    frame: np.ndarray


@dataclass(frozen=True, eq=False)
class Binding:
    """The link between a `Motion` and the rig it was read from.

    armature: name of the object. roles: who is who. alignment: rest pose → canonical.
    bones: B names, parents before children: all role bones and everything above them. parents: their numbers in
        ``bones``, -1 for none. inherits: (B,) bool, whether the bone turns with its parent.
    pose: (T, B, 4) rotations in armature space as evaluated. basis: (T, B, 4) the bone's own rotation, from its
        channels.
    to_world: (T, 4) armature space → the motion's world (rotation only).
    horizontal, vertical: what carries the root motion; the same unless a root bone or the object travels below hips
        that bob on their own.
    direct: the bones form a plain tree without constraints, so that channels follow from rotations.
    """

    armature: str
    roles: RoleMap
    alignment: rest.RestAlignment
    bones: tuple[str, ...]
    parents: tuple[int, ...]
    inherits: np.ndarray
    pose: np.ndarray
    basis: np.ndarray
    to_world: np.ndarray
    horizontal: Carrier
    vertical: Carrier
    direct: bool


@dataclass(frozen=True, eq=False)
class RigTake:
    """A take as read from a rig.

    motion: metres, Y up. frames: (T,) scene frames, float64, increasing. binding: how to write it back.
    """

    motion: Motion
    frames: np.ndarray
    binding: Binding

    def index(self, frame: float) -> int:
        """The array index of a scene frame."""
        return int(np.argmin(np.abs(self.frames - frame)))
