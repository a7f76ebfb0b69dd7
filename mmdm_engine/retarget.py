"""From a named joint hierarchy to the motion contract and back.

Roles are found by name for the limbs and by structure for the torso: the pelvis is where legs and spine meet, the
spine runs from there to where the arms branch off, the neck from there to the head. A role owns a chain of joints,
top-down: its own joint and every further one above the next role's joint. A chain is read as one segment that starts
at its first joint and turns like its last.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

from . import kinematics
from . import rotations as rot
from .contract import Motion, MotionError, Skeleton
from .contract.chains import bridged, jitter
from .contract.rest import REQUIRED, RestAlignment, RestPose, align, anatomical_frame
from .contract.skeleton import CANONICAL_DIRECTIONS, INDEX, JOINTS, MAIN_CHILD, PARENTS

log = logging.getLogger(__name__)

Style = Literal["fill", "refine"]

# What the limb joints are called, best name first, once side and rig prefix are taken off. A name that two roles share
# ("shoulder", "foot", "hand") comes last in the role that takes it only where nothing better is there.
_UPPER_ARM = ("upperarm", "arm", "uparm", "humerus", "shldr", "shldrbend", "shoulder")
_COLLAR = ("collar", "clavicle", "clav", "shoulder")
_FOREARM = ("forearm", "lowerarm", "lowarm", "elbow", "radius", "forearmbend")
_WRIST = ("wrist", "hand")
_THIGH = ("thigh", "upleg", "upperleg", "femur", "thighbend", "hip")
_SHIN = ("shin", "lowerleg", "lowleg", "knee", "calf", "tibia", "leg")
_ANKLE = ("ankle", "foot")
_TOES = ("toebase", "toe", "toes", "ball", "foot")
_LIMB_NAMES = frozenset(_UPPER_ARM + _COLLAR + _FOREARM + _WRIST + _THIGH + _SHIN + _ANKLE + _TOES)
_HEAD = ("head",)
_SAME_HAND = ("hand", "fingerbase")
"""Joints that share the wrist's place and carry its bend where the wrist's own joint carries the twist (CMU)."""

_PREFIX = re.compile(
    r"^(mixamorig\d*_|character\d*_|[mf]_avg_|bip\d+[ _]?|cc_base_|valvebiped[._]|j_bip_c_|j_bip_|def-|org-)+", re.I
)
_WORDS = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|\d+")
_SIDES = {"left": "left", "l": "left", "right": "right", "r": "right"}


@dataclass(frozen=True, eq=False)
class Hierarchy:
    """A joint tree at rest, where every rotation is the identity in world axes.

    names: J strings. parents: J numbers, -1 for a root, parents before children. offsets: (J, 3) from the parent, in
    the source's unit. tips: (J, 3) a leaf's end from its joint, NaN where the source gives none.
    """

    names: tuple[str, ...]
    parents: tuple[int, ...]
    offsets: np.ndarray
    tips: np.ndarray

    def heads(self) -> np.ndarray:
        """(J, 3) rest positions."""
        heads = np.array(self.offsets, np.float64)
        for j, parent in enumerate(self.parents):
            if parent >= 0:
                heads[j] += heads[parent]
        return heads

    def path(self, top: int, bottom: int) -> list[int]:
        """Joints from ``top`` to ``bottom``, both included; empty when bottom does not hang below top."""
        path = [bottom]
        while path[-1] != top:
            if self.parents[path[-1]] < 0:
                return []
            path.append(self.parents[path[-1]])
        return path[::-1]

    def ancestors(self, joint: int) -> list[int]:
        """The joint and everything above it, nearest first."""
        path = [joint]
        while self.parents[path[-1]] >= 0:
            path.append(self.parents[path[-1]])
        return path


def side_and_name(name: str) -> tuple[str, str]:
    """``("left" | "right" | "", core)`` of a joint name: rig prefix, side and trailing number taken off, lower case."""
    name = _PREFIX.sub("", name.rsplit(":", 1)[-1].rsplit("|", 1)[-1])
    words = [w.lower() for w in _WORDS.findall(name)]
    while words and words[-1].isdigit() and len(words) > 1 and not int(words[-1]):
        words.pop()  # "Toe0"
    for at in (0, -1):
        if len(words) > 1 and words[at] in _SIDES:
            side = _SIDES[words.pop(at)]
            return side, "".join(words)
    core = "".join(words)
    if core[:1] in _SIDES and core[1:] in _LIMB_NAMES | set(_SAME_HAND):  # "lfemur"
        return _SIDES[core[0]], core[1:]
    return "", core


def find_roles(hierarchy: Hierarchy) -> dict[str, tuple[int, ...]]:
    """Role → its chain of joints, top-down. Raises `MotionError` when hips or knees cannot be found."""
    named = [side_and_name(name) for name in hierarchy.names]

    def pick(side: str, cores: tuple[str, ...], below: int | None = None, taken: tuple[int, ...] = ()) -> int | None:
        for core in cores:
            for j, (its_side, its_core) in enumerate(named):
                fits = (its_side, its_core) == (side, core) and j not in taken
                if fits and (below is None or below in hierarchy.ancestors(j)[1:]):
                    return j
        return None

    first: dict[str, int] = {}

    def assign(role: str, joint: int | None) -> int | None:
        if joint is not None:
            first[role] = joint
        return joint

    for side in ("left", "right"):
        thigh = assign(f"{side}_hip", pick(side, _THIGH))
        knee = None if thigh is None else assign(f"{side}_knee", pick(side, _SHIN, below=thigh))
        ankle = None if knee is None else assign(f"{side}_ankle", pick(side, _ANKLE, below=knee))
        if ankle is not None:
            assign(f"{side}_foot", pick(side, _TOES, below=ankle, taken=(ankle,)))
        arm = assign(f"{side}_shoulder", pick(side, _UPPER_ARM))
        if arm is not None:
            collar = pick(side, _COLLAR, taken=(arm,))
            if collar is not None and collar in hierarchy.ancestors(arm):
                assign(f"{side}_collar", collar)
            elbow = assign(f"{side}_elbow", pick(side, _FOREARM, below=arm))
            if elbow is not None:
                assign(f"{side}_wrist", pick(side, _WRIST, below=elbow))
    for role in REQUIRED[1:]:
        if role not in first:
            raise MotionError(
                f"No joint for the {role.replace('_', ' ')} was found among {', '.join(hierarchy.names[:6])} "
                "and so on; rename the joints, for instance to LeftUpLeg, LeftLeg, LeftFoot and their right twins."
            )

    chains = _torso(hierarchy, named, first, pick("", _HEAD))
    for side in ("left", "right"):
        for limb in (("hip", "knee", "ankle", "foot"), ("collar", "shoulder", "elbow", "wrist")):
            roles = [f"{side}_{part}" for part in limb if f"{side}_{part}" in first]
            for role, following in pairwise(roles):
                chains[role] = tuple(hierarchy.path(first[role], first[following])[:-1])
            for role in roles[-1:]:
                chains[role] = (first[role],)
    for role in ("left_wrist", "right_wrist"):
        if role in chains:
            chains[role] += _same_place(hierarchy, named, chains[role][-1])
    return chains


def _torso(
    hierarchy: Hierarchy, named: list[tuple[str, str]], limbs: dict[str, int], head: int | None
) -> dict[str, tuple[int, ...]]:
    def meeting(joints: list[int]) -> int | None:
        common = [j for j in hierarchy.ancestors(joints[0]) if all(j in hierarchy.ancestors(o) for o in joints)]
        return common[0] if common else None

    arms = [limbs[r] for r in ("left_collar", "right_collar", "left_shoulder", "right_shoulder") if r in limbs]
    upper = [*arms, *([head] if head is not None else [])]
    pelvis = meeting([limbs["left_hip"], limbs["right_hip"], *upper])
    if pelvis is None:
        raise MotionError("The legs do not hang on one joint; connect both thighs to one pelvis joint.")
    chains: dict[str, tuple[int, ...]] = {"pelvis": (pelvis,)}
    if not upper:
        return chains
    chest = meeting(upper) if arms else None
    if chest is None:  # a head without arms: what is called neck ends the spine
        chest = next((j for j in hierarchy.ancestors(upper[0])[1:] if not named[j][1].startswith("neck")), pelvis)
    spine = hierarchy.path(pelvis, chest)[1:]
    neck = hierarchy.path(chest, head)[1:-1] if head is not None and head != chest else []
    while spine and "neck" in named[spine[-1]][1]:  # arms that hang on the neck (3ds Max Biped)
        neck.insert(0, spine.pop())
    if head in spine:
        spine.remove(head)
    roles = {1: ("spine1",), 2: ("spine1", "spine3")}.get(len(spine), ("spine1", "spine2", "spine3"))
    for role, part in zip(roles, np.array_split(np.array(spine, int), len(roles)), strict=True):
        if len(part):
            chains[role] = tuple(int(j) for j in part)
    if neck:
        chains["neck"] = tuple(neck)
    if head is not None:
        chains["head"] = (head,)
    return chains


def _same_place(hierarchy: Hierarchy, named: list[tuple[str, str]], wrist: int) -> tuple[int, ...]:
    for j, parent in enumerate(hierarchy.parents):
        if parent == wrist and named[j][1] in _SAME_HAND and not np.any(hierarchy.offsets[j]):
            return (j,)
    return ()


def rest_pose(hierarchy: Hierarchy, roles: dict[str, tuple[int, ...]], local: np.ndarray) -> RestPose:
    """Where the roles are in one frame of local rotations (1, J, 4), in the source's unit."""
    turns, points = place(hierarchy.parents, local, hierarchy.offsets[None])
    pose = RestPose(np.zeros((22, 3)), np.zeros(22, bool), np.full((22, 3), np.nan))
    for role, chain in roles.items():
        j, last = INDEX[role], chain[-1]
        pose.exists[j] = True
        pose.heads[j] = points[0, chain[0]]
        pose.tails[j] = points[0, last] + rot.rotate(turns[0, last], _tip(hierarchy, last, role))
    return pose


def leg_length(hierarchy: Hierarchy, roles: dict[str, tuple[int, ...]]) -> float:
    """Thigh plus shin in the source's unit, mean of both sides; a shin without an ankle ends at its tip."""
    heads, lengths = hierarchy.heads(), []
    for side in ("left", "right"):
        leg = [heads[roles[f"{side}_{part}"][0]] for part in ("hip", "knee", "ankle") if f"{side}_{part}" in roles]
        if len(leg) == 2:
            shin = roles[f"{side}_knee"][-1]
            tip = _tip(hierarchy, shin, f"{side}_knee")
            leg += [heads[shin] + tip] if np.isfinite(tip).all() else []
        bones = [float(np.linalg.norm(b - a)) for a, b in pairwise(leg)]
        lengths.append(sum(bones) * 2 / len(bones))
    return sum(lengths) / 2


def _is_figure(pose: RestPose) -> bool:
    """Whether legs point away from the trunk, not up nor far sideways, and arms not across the body."""
    try:
        frame = anatomical_frame(pose.heads, pose.exists)
    except MotionError:
        return False
    top = next((name for name in ("neck", "head", "spine3") if pose.exists[INDEX[name]]), "pelvis")
    trunk = _bone(pose, "left_hip", top) + _bone(pose, "right_hip", top)
    for upper, lower in pairwise(("hip", "knee", "ankle")):
        for side in ("left", "right"):
            leg = _bone(pose, f"{side}_{upper}", f"{side}_{lower}")
            bone = leg @ frame
            if leg @ trunk > 0.6 or bone[1] > 0.3 or abs(bone[0]) > 0.85:
                return False
    for side, outwards in (("left", 1), ("right", -1)):
        if _bone(pose, f"{side}_shoulder", f"{side}_elbow") @ frame[:, 0] * outwards < -0.5:
            return False
    return True


def _bone(pose: RestPose, start: str, end: str) -> np.ndarray:
    """Unit direction between two roles; zero where one is absent."""
    a, b = INDEX[start], INDEX[end]
    if not (pose.exists[a] and pose.exists[b]):
        return np.zeros(3)
    return (pose.heads[b] - pose.heads[a]) / max(float(np.linalg.norm(pose.heads[b] - pose.heads[a])), 1e-12)


def plainest_frame(hierarchy: Hierarchy, roles: dict[str, tuple[int, ...]], take: np.ndarray) -> int:
    """The frame of a take (T, J, 4) that stands most like a figure at rest: upright, legs and arms straight."""
    _, points = place(hierarchy.parents, take, np.broadcast_to(hierarchy.offsets, (*take.shape[:2], 3)))

    def bone(start: str, end: str) -> np.ndarray:
        if start not in roles or end not in roles:
            return np.zeros((len(take), 3))
        return rot.normalize(points[:, roles[end][0]] - points[:, roles[start][0]])

    left = bone("right_hip", "left_hip")
    up = bone("pelvis", "head") if "head" in roles else np.broadcast_to((0.0, 1.0, 0.0), left.shape)
    forward = np.cross(left, up)
    score = up[:, 1].copy()
    for side, outwards in (("left", 1), ("right", -1)):
        score -= np.sum((bone(f"{side}_hip", f"{side}_knee") + bone(f"{side}_knee", f"{side}_ankle")) * up, axis=-1)
        score += np.sum(bone(f"{side}_ankle", f"{side}_foot") * forward, axis=-1)
        upper, lower = bone(f"{side}_shoulder", f"{side}_elbow"), bone(f"{side}_elbow", f"{side}_wrist")
        score += np.sum(upper * lower, axis=-1) - np.sum(upper * forward, axis=-1) ** 2
        score += np.minimum(np.sum(upper * left, axis=-1) * outwards, 0.0)
    return int(np.argmax(score))


def _tip(hierarchy: Hierarchy, joint: int, role: str) -> np.ndarray:
    """Where a joint's segment ends, from the joint: its end site, else the middle of the fingers without the thumb."""
    if np.isfinite(hierarchy.tips[joint]).all() or role == "head":  # what hangs on a head are eyes and jaws
        return hierarchy.tips[joint]
    children = [
        hierarchy.offsets[j]
        for j, parent in enumerate(hierarchy.parents)
        if parent == joint and "thumb" not in hierarchy.names[j].lower() and np.any(hierarchy.offsets[j])
    ]
    return np.mean(children, axis=0) if children else np.full(3, np.nan)


def place(parents: tuple[int, ...], local: np.ndarray, moves: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """World rotations (T, J, 4) and positions (T, J, 3) of a tree whose joints may move too.

    local: (T, J, 4). moves: (T, J, 3) each joint's position in its parent's frame. Several roots are allowed.
    """
    rotations, positions = np.array(local, np.float64), np.array(moves, np.float64)
    for j, parent in enumerate(parents):
        if parent >= 0:
            positions[:, j] = positions[:, parent] + rot.rotate(rotations[:, parent], moves[:, j])
            rotations[:, j] = rot.multiply(rotations[:, parent], local[:, j])
    return rotations, positions


@dataclass(frozen=True, eq=False)
class Retargeter:
    """The fixed map between one hierarchy and the motion contract.

    reference: (22, 4) world rotations of the roles in the pose that counts as rest. scale: metres per source unit.
    """

    hierarchy: Hierarchy
    roles: dict[str, tuple[int, ...]]
    alignment: RestAlignment
    reference: np.ndarray
    scale: float

    @classmethod
    def make(cls, hierarchy: Hierarchy, scale: float, take: np.ndarray) -> Retargeter:
        """Find roles and rest alignment.

        take: (T, J, 4) local rotations. Where the zero pose is no figure at all (in LAFAN1 and Bandai-Namco files every
        bone lies along one axis) the frame that stands most plainly is the rest. Raises `MotionError` when the tree is
        no figure.
        """
        roles = find_roles(hierarchy)
        still = np.tile(np.array(rot.IDENTITY), (1, len(hierarchy.names), 1))
        pose, reference = rest_pose(hierarchy, roles, still), np.tile(np.array(rot.IDENTITY), (22, 1))
        if not _is_figure(pose):
            standing = plainest_frame(hierarchy, roles, take)
            log.warning("The zero pose of this file is no standing figure; frame %d is taken as its rest.", standing)
            pose = rest_pose(hierarchy, roles, take[standing : standing + 1])
            turns, _ = place(hierarchy.parents, take[standing : standing + 1], hierarchy.offsets[None])
            for role, chain in roles.items():
                reference[INDEX[role]] = turns[0, chain[-1]]
        alignment = align(RestPose(pose.heads * scale, pose.exists, pose.tails * scale))
        if set(hierarchy.names) <= set(JOINTS):
            alignment = _as_it_stands(alignment)
        return cls(hierarchy, roles, alignment, reference, scale)

    def read(self, local: np.ndarray, moves: np.ndarray, fps: float) -> Motion:
        """Local rotations (T, J, 4) and positions in the parent's frame (T, J, 3), source unit → `Motion`."""
        rotations, positions = place(self.hierarchy.parents, local, moves)
        from_rest = np.zeros((len(local), 22, 4))
        from_rest[..., 0] = 1
        for role, chain in self.roles.items():
            j = INDEX[role]
            from_rest[:, j] = rot.multiply(rotations[:, chain[-1]], rot.conjugate(self.reference[j]))
        root = positions[:, self.roles["pelvis"][0]] * self.scale
        canonical = self.alignment.to_canonical(from_rest)
        return Motion(canonical.astype(np.float32), root.astype(np.float32), self.alignment.skeleton, fps)

    def write(
        self,
        motion: Motion,
        local: np.ndarray,
        moves: np.ndarray,
        changed: np.ndarray,
        *,
        movable: np.ndarray,
        style: Style = "fill",
    ) -> tuple[np.ndarray, np.ndarray]:
        """Put an edited motion onto local rotations (T, J, 4) and positions (T, J, 3); returns new ones.

        changed: (T, 23) bool, what differs from the motion these channels were read from (column 22 the root).
        movable: (J,) bool, joints whose position is animated. Everything else keeps its values to the bit. A chain's
        further joints go from border to border when filled and share the correction by their own jitter when refined;
        the end of the chain is exact either way. Raises `MotionError` where the root moved and no joint can.
        """
        local, moves = np.array(local, np.float64), np.array(moves, np.float64)
        target = rot.multiply(self.alignment.from_canonical(motion.rotations), self.reference)
        owner = {chain[0]: role for role, chain in self.roles.items()}
        rotations = np.array(local)
        for j, parent in enumerate(self.hierarchy.parents):
            above = rotations[:, parent] if parent >= 0 else np.broadcast_to(rot.IDENTITY, (len(local), 4))
            if j in owner:
                frames = self._edited(changed, INDEX[owner[j]])
                if frames.any():
                    chain = self.roles[owner[j]]
                    wanted = rot.multiply(rot.conjugate(above), target[:, INDEX[owner[j]]])
                    _set_chain(local, chain, wanted, frames, style)
            rotations[:, j] = rot.multiply(above, local[:, j])
        if changed[:, 22].any():
            self._set_root(motion, local, moves, changed[:, 22], movable)
        return local, moves

    def _edited(self, changed: np.ndarray, joint: int) -> np.ndarray:
        """Frames in which a joint, or an absent joint between it and its nearest existing parent, differs."""
        frames = changed[:, joint].copy()
        parent = PARENTS[joint]
        while parent >= 0 and not self.alignment.skeleton.exists[parent]:
            frames |= changed[:, parent]
            parent = PARENTS[parent]
        return frames

    def _set_root(
        self, motion: Motion, local: np.ndarray, moves: np.ndarray, frames: np.ndarray, movable: np.ndarray
    ) -> None:
        pelvis = self.roles["pelvis"][0]
        mover = next((j for j in self.hierarchy.ancestors(pelvis) if movable[j]), None)
        if mover is None:
            raise MotionError("This file's root has no position channels, so a new root path cannot be written there.")
        rotations, positions = place(self.hierarchy.parents, local, moves)
        step = (motion.root.astype(np.float64) / self.scale - positions[:, pelvis])[frames]
        above = self.hierarchy.parents[mover]
        if above >= 0:
            step = rot.rotate(rot.conjugate(rotations[frames, above]), step)
        moves[frames, mover] += step


def _as_it_stands(alignment: RestAlignment) -> RestAlignment:
    """The identity alignment where the rest pose is canonical already, as in files that `bvh.save` made."""
    offsets = alignment.skeleton.offsets.astype(np.float64)
    parents = np.array([max(parent, 0) for parent in PARENTS])
    back = rot.multiply(alignment.frame, rot.conjugate(alignment.corrections[parents]))
    offsets = rot.rotate(back, offsets)
    for joint, child in enumerate(MAIN_CHILD):
        if child >= 0 and np.linalg.norm(np.cross(offsets[child], CANONICAL_DIRECTIONS[joint])) > 1e-5:
            return alignment
    identity = np.tile(np.array(rot.IDENTITY), (22, 1))
    return RestAlignment(identity[0], identity, Skeleton(offsets, alignment.skeleton.exists))


def differences(motion: Motion, source: Motion) -> np.ndarray:
    """(T, 23) bool: rotations (sign of the quaternion aside) and root positions that are not the same bits."""
    same = (motion.rotations == source.rotations).all(axis=-1) | (motion.rotations == -source.rotations).all(axis=-1)
    moved = (motion.root != source.root).any(axis=-1)
    return np.concatenate([~same, moved[:, None]], axis=1)


def _set_chain(local: np.ndarray, chain: tuple[int, ...], wanted: np.ndarray, frames: np.ndarray, style: Style) -> None:
    """Change a chain's local rotations in place so that their product is ``wanted`` (T, 4) in the given frames."""
    if style == "refine" and len(chain) > 1:
        shake = [jitter(local[:, j]) for j in chain]
        rest = wanted
        for i, j in enumerate(chain):
            tail = _product(local, chain[i:])
            share = shake[i] / max(sum(shake[i:]), 1e-12) if i + 1 < len(chain) and sum(shake[i:]) > 1e-12 else 1.0
            step = rot.log(rot.multiply(rest, rot.conjugate(tail)))
            turned = rot.multiply(rot.exp(share * step), local[:, j])
            local[frames, j] = turned[frames]
            rest = rot.multiply(rot.conjugate(local[:, j]), rest)
        return
    for j in chain[1:]:
        local[:, j] = bridged(local[:, j], frames)
    tail = _product(local, chain[1:])
    local[frames, chain[0]] = rot.normalize(rot.multiply(wanted, rot.conjugate(tail)))[frames]


def _product(local: np.ndarray, chain: tuple[int, ...]) -> np.ndarray:
    product = np.broadcast_to(rot.IDENTITY, local[:, 0].shape)
    for j in chain:
        product = rot.multiply(product, local[:, j])
    return product


def canonical_hierarchy(motion: Motion) -> Hierarchy:
    """The motion's own skeleton as a hierarchy with SMPL names, depth first; absent joints are left out."""
    skeleton = motion.skeleton
    still = np.tile(np.array(rot.IDENTITY), (22, 1))
    rest = kinematics.positions(still, np.zeros(3), skeleton.offsets.astype(np.float64))
    kept = [j for j in _depth_first(0) if skeleton.exists[j] or j == 0]
    parents, offsets, tips = [], [], []
    for j in kept:
        parent = next((a for a in _above(j) if a in kept), None)
        parents.append(-1 if parent is None else kept.index(parent))
        offsets.append(np.zeros(3) if parent is None else rest[j] - rest[parent])
        continues = any(j in _above(k) for k in kept)
        tips.append(np.full(3, np.nan) if continues else _ending(j, rest, skeleton.leg_length))
    return Hierarchy(tuple(JOINTS[j] for j in kept), tuple(parents), np.array(offsets), np.array(tips))


def _ending(joint: int, rest: np.ndarray, leg: float) -> np.ndarray:
    """Tip of a leaf from the joint: where its absent main child would be, else a usual length."""
    child = MAIN_CHILD[joint]
    if child >= 0 and np.any(rest[child] != rest[joint]):
        return rest[child] - rest[joint]
    length = {"head": 0.22, "left_wrist": 0.2, "right_wrist": 0.2, "left_foot": 0.08, "right_foot": 0.08}
    return CANONICAL_DIRECTIONS[joint] * length.get(JOINTS[joint], 0.15) * leg


def _depth_first(joint: int) -> list[int]:
    return [joint, *(k for child in range(22) if PARENTS[child] == joint for k in _depth_first(child))]


def _above(joint: int) -> list[int]:
    """Every ancestor, nearest first."""
    parent = PARENTS[joint]
    return [] if parent < 0 else [parent, *_above(parent)]
