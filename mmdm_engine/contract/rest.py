"""Rest alignment: from any character's rest pose to the canonical T-pose and back.

A source skeleton gives, for each role, where its bone starts at rest and how its bone is turned away from rest in each
frame. Both are turned into canonical local rotations and offsets, exactly invertibly. Limb directions come from joint
positions, never from rest matrices, which say nothing about them in many files.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .. import kinematics
from .. import rotations as rot
from .errors import MotionError
from .motion import Skeleton
from .skeleton import CANONICAL_DIRECTIONS, INDEX, JOINTS, LIMBS, MAIN_CHILD, PARENTS, TORSO

REQUIRED = ("pelvis", "left_hip", "right_hip", "left_knee", "right_knee")
"""Without these there is neither a heading nor a unit of length."""


@dataclass(frozen=True, eq=False)
class RestPose:
    """Rest positions in the world of the motion: metres, right-handed, Y up; the figure may face or lie anywhere.

    heads: (22, 3) where each role's bone starts; rows of absent roles are ignored.
    exists: (22,) bool.
    tails: (22, 3) where the last bone of a role ends, NaN where unknown; only leaves use it.
    """

    heads: np.ndarray
    exists: np.ndarray
    tails: np.ndarray


@dataclass(frozen=True, eq=False)
class RestAlignment:
    """The map between a source's rotations from rest and canonical local rotations.

    frame: (4,) rotation of the anatomical rest frame in the world.
    corrections: (22, 4) C_j of the design page: canonical global rotation = rotation from rest · frame · C_j⁻¹.
    skeleton: canonical offsets; absent joints lie on the way to their main child and keep the identity.
    """

    frame: np.ndarray
    corrections: np.ndarray
    skeleton: Skeleton

    def to_canonical(self, from_rest: np.ndarray) -> np.ndarray:
        """World rotations from rest (T, 22, 4) → canonical local rotations (T, 22, 4), sign-continuous, float64.

        Rows of absent joints are ignored.
        """
        canonical = rot.multiply(from_rest, rot.multiply(self.frame, rot.conjugate(self.corrections)))
        for j in range(1, 22):
            if not self.skeleton.exists[j]:
                canonical[:, j] = canonical[:, PARENTS[j]]
        return rot.continuous(rot.normalize(kinematics.to_local(canonical)))

    def from_canonical(self, local: np.ndarray) -> np.ndarray:
        """Canonical local rotations (T, 22, 4) → world rotations from rest (T, 22, 4), float64."""
        canonical, _ = kinematics.forward(
            rot.normalize(np.asarray(local, np.float64)), np.zeros((len(local), 3)), np.zeros((22, 3))
        )
        return rot.multiply(canonical, rot.multiply(self.corrections, rot.conjugate(self.frame)))


def anatomical_frame(heads: np.ndarray, exists: np.ndarray) -> np.ndarray:
    """(3, 3) matrix whose columns are left, up and forward of the figure at rest, in world coordinates.

    Up runs from between the ankles (else the knees) to the neck: the line a standing figure is balanced on. From the
    hips to the neck would lean by up to 10 degrees, since pelvis bones sit behind or before the spine as each rig
    likes, and that lean would turn up as a pitch of the pelvis.
    """
    left = heads[INDEX["left_hip"]] - heads[INDEX["right_hip"]]
    both = exists[INDEX["left_ankle"]] and exists[INDEX["right_ankle"]]
    below = "ankle" if both else "knee"
    ground = (heads[INDEX[f"left_{below}"]] + heads[INDEX[f"right_{below}"]]) / 2
    top = next((name for name in ("neck", "head", "spine3", "spine2", "spine1") if exists[INDEX[name]]), "pelvis")
    up = heads[INDEX[top]] - ground
    forward = np.cross(left, up)
    if np.linalg.norm(forward) < 1e-9:
        raise MotionError("The hips of this skeleton lie in one point or in line with its spine; check the bone map.")
    left = left / np.linalg.norm(left)
    forward = forward / np.linalg.norm(forward)
    return np.stack([left, np.cross(forward, left), forward], axis=-1)


def _fill_absent(heads: np.ndarray, tails: np.ndarray, exists: np.ndarray) -> np.ndarray:
    """Give absent joints a place: evenly on the way to their nearest existing main descendant, else at a known tail."""
    heads = heads.copy()
    for j in range(1, 22):
        if exists[j]:
            continue
        parent, steps, below = PARENTS[j], 1, j
        while below >= 0 and not exists[below]:
            below, steps = MAIN_CHILD[below], steps + 1
        if below >= 0:
            heads[j] = heads[parent] + (heads[below] - heads[parent]) / steps
        elif MAIN_CHILD[parent] == j and exists[parent] and np.isfinite(tails[parent]).all():
            heads[j] = tails[parent]
        else:
            heads[j] = heads[parent]
    return heads


def align(rest: RestPose) -> RestAlignment:
    """Find the alignment of a rest pose. Raises `MotionError` when hips or knees are missing or coincide."""
    exists = np.asarray(rest.exists, bool)
    for name in REQUIRED:
        if not exists[INDEX[name]]:
            raise MotionError(f"No {name.replace('_', ' ')} bone found. Open Bone Map and choose one.")
    tails = np.asarray(rest.tails, np.float64)
    heads = _fill_absent(np.asarray(rest.heads, np.float64), tails, exists)
    frame = anatomical_frame(heads, exists)
    heads = (heads - heads[0]) @ frame
    tails = (tails - np.asarray(rest.heads, np.float64)[0]) @ frame

    leg = sum(np.linalg.norm(heads[b] - heads[a]) for a, b in ((1, 4), (2, 5), (4, 7), (5, 8)) if exists[b]) / 2
    limb_joints = {j for limb in LIMBS for j in limb}
    limb_roots = {limb[0] for limb in LIMBS}

    corrections = np.zeros((22, 4))
    corrections[:, 0] = 1
    for j in range(22):  # SMPL order lists parents first
        parent = PARENTS[j]
        inherited = corrections[parent] if parent >= 0 else corrections[0]
        if not exists[j]:
            corrections[j] = inherited
            continue
        carried = inherited if j in limb_joints and j not in limb_roots else np.array(rot.IDENTITY)
        # the direction the segment would have if it needed no correction beyond its parent's
        expected = rot.rotate(rot.conjugate(inherited), CANONICAL_DIRECTIONS[j])
        direction = _segment(j, heads, tails, exists, expected)
        if j in TORSO and j != INDEX["head"] and np.linalg.norm(direction) < 0.05 * leg:
            direction = CANONICAL_DIRECTIONS[j]  # too short to have one of its own: the body's up
        if np.linalg.norm(direction) < 1e-6 * max(leg, 1e-9):
            corrections[j] = inherited
            continue
        arc = rot.shortest_arc(rot.rotate(carried, direction), CANONICAL_DIRECTIONS[j])
        corrections[j] = rot.normalize(rot.multiply(arc, carried))

    offsets = np.zeros((22, 3))
    for j in range(1, 22):
        offsets[j] = rot.rotate(corrections[PARENTS[j]], heads[j] - heads[PARENTS[j]])
    return RestAlignment(rot.from_matrix(frame), corrections, Skeleton(offsets, exists))


def _segment(joint: int, heads: np.ndarray, tails: np.ndarray, exists: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Rest direction of a joint's segment: to its nearest existing main descendant, else along a plausible tail."""
    child = MAIN_CHILD[joint]
    while child >= 0 and not exists[child]:
        child = MAIN_CHILD[child]
    if child >= 0:
        return heads[child] - heads[joint]
    tail = tails[joint] - heads[joint]
    length = np.linalg.norm(tail)
    if np.isfinite(length) and length > 0 and tail @ expected / length > 0.5:  # within 60 degrees
        return tail
    return expected


assert len(JOINTS) == 22
