"""Which bone plays which SMPL-22 role.

Every preset is tried by name, checked against the order of parents, and the best-scoring one wins; a figure with
unknown names is recognised by its shape; what the user chose in the Bone Map comes last and wins.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from itertools import zip_longest
from pathlib import Path
from typing import Any

import bpy
import numpy as np

from ..engine_link import INDEX, JOINTS, PARENTS, MotionError, rest
from . import stored, structure
from .names import key
from .tree import BoneTree

OVERRIDES = "mmdm_roles"
"""Custom property of the armature object: JSON, role → bone, "" for a role that the figure lacks."""

_LIMBS = (("hip", "knee", "ankle", "foot"), ("collar", "shoulder", "elbow", "wrist"))


@dataclass(frozen=True)
class RoleMap:
    """Who is who.

    chains: role → the bones that are keyed for it, top-down; the first one carries the role, further ones (Neck1,
        twist bones) share its segment. Absent roles are absent keys.
    read: role → the bones whose pose is read: the first one's head is the joint, the last one's rotation the segment's.
        The same as ``chains`` unless the rig separates controls from the skeleton.
    score: the part of the 22 roles that was found, 0-1.
    preset: the name of the naming convention, "Shape" for the structure fallback.
    problems: plain sentences, each with the fix.
    control: bones are moved by controls through constraints, so parents say nothing.
    """

    chains: dict[str, tuple[str, ...]]
    read: dict[str, tuple[str, ...]]
    score: float
    preset: str
    problems: list[str] = field(default_factory=list)
    control: bool = False

    def require(self) -> None:
        """Raise `MotionError` with the first problem, if there is one."""
        if self.problems:
            raise MotionError(self.problems[0])

    def bones(self) -> set[str]:
        """Every bone that is keyed for some role."""
        return {bone for chain in self.chains.values() for bone in chain}


def presets() -> list[dict[str, Any]]:
    """The naming conventions, as stored beside this module."""
    return _presets()


@cache
def _presets() -> list[dict[str, Any]]:
    return json.loads((Path(__file__).parent / "presets.json").read_text(encoding="utf-8"))


def detect(armature: bpy.types.Object, chosen: Mapping[str, str] | None = None) -> RoleMap:
    """Recognise an armature's bones. chosen: as `detect_tree`, by default what the user chose on this armature."""
    tree = BoneTree.of(armature)
    turn = np.array(armature.matrix_world.to_quaternion().to_matrix())
    chosen = overrides(armature) if chosen is None else chosen
    return detect_tree(tree, chosen, forward=turn.T @ (0.0, -1.0, 0.0))


def detect_tree(
    tree: BoneTree, chosen: Mapping[str, str] | None = None, forward: Iterable[float] = (0.0, -1.0, 0.0)
) -> RoleMap:
    """`detect` on plain data. chosen: role → bone or ""; bones that do not exist are reported and left out."""
    chosen = dict(chosen or {})
    best = max((_match(tree, preset) for preset in presets()), key=lambda found: found.score)
    if not all(role in best.first for role in rest.REQUIRED):
        shape = structure.find(tree, np.asarray(list(forward), np.float64))
        if all(role in shape for role in rest.REQUIRED):
            best = _Found(shape, {}, "Shape", _score(shape), False, {})
    first = dict(best.first)
    problems = []
    for role, bone in chosen.items():
        first.pop(role, None)
        if bone and bone not in tree.index:
            problems.append(
                f"The bone '{bone}', chosen as {_spoken(role)}, does not exist. Open Bone Map and choose one."
            )
        elif bone:
            first[role] = tree.index[bone]
    if best.control:
        chains = {role: (bone, *best.further.get(role, ())) for role, bone in first.items()}
        read = {r: best.read[r] if r in best.read and r not in chosen else chains[r][:1] for r in first}
    else:
        chains = read = _chains(tree, first, chosen)
    problems += _twice(tree, chains, chosen)
    problems += [
        f"No {_spoken(role)} bone found. Open Bone Map and choose one." for role in rest.REQUIRED if role not in chains
    ]
    ordered = [role for role in JOINTS if role in chains]
    names = tree.names
    return RoleMap(
        {role: tuple(names[b] for b in chains[role]) for role in ordered},
        {role: tuple(names[b] for b in read[role]) for role in ordered},
        len(chains) / len(JOINTS),
        best.preset,
        problems,
        best.control,
    )


def _twice(tree: BoneTree, chains: Mapping[str, tuple[int, ...]], chosen: Mapping[str, str]) -> list[str]:
    """Sentences on bones that a choice gives a second role."""
    owners: dict[int, list[str]] = {}
    for role, chain in chains.items():
        for bone in chain:
            owners.setdefault(bone, []).append(role)
    return [
        f"The bone '{tree.names[bone]}' plays both {_spoken(both[0])} and {_spoken(both[1])}. "
        "Open Bone Map and choose another one."
        for bone, both in owners.items()
        if len(both) > 1 and any(chosen.get(role) for role in both)
    ]


def _spoken(role: str) -> str:
    return {"pelvis": "hips"}.get(role, role.replace("_", " "))


@dataclass(frozen=True)
class _Found:
    first: dict[str, int]
    read: dict[str, tuple[int, ...]]
    preset: str
    score: float
    control: bool
    further: dict[str, tuple[int, ...]]


def _score(first: Mapping[str, int], exact: int = 0, of: int = 22) -> float:
    required = sum(role in first for role in rest.REQUIRED)
    # what the preset names but the rig lacks counts a little, and so do names spelt exactly as in the preset
    return len(first) + required - 0.1 * max(of - len(first), 0) + 0.01 * exact


def _match(tree: BoneTree, preset: Mapping[str, Any]) -> _Found:
    """Bones that a preset names, those in the wrong place of the tree left out."""
    by_key: dict[Any, list[int]] = {}
    for j, name in enumerate(tree.names):
        by_key.setdefault(key(name), []).append(j)

    def find(names: str | list[str], mirror: bool) -> list[int]:
        wanted = [names] if isinstance(names, str) else names
        found: list[int] = []
        for name in wanted:
            bones = by_key.get(key(name).mirrored() if mirror else key(name), [])
            found += sorted(bones, key=lambda j: tree.names[j] != name)
        return found

    def both(table: Mapping[str, str | list[str]]) -> dict[str, list[int]]:
        roles = {role: find(names, False) for role, names in table.items()}
        for role, names in table.items():
            twin = role.replace("left", "right")
            if twin not in roles:
                roles[twin] = find(names, True)
        return {role: bones for role, bones in roles.items() if bones}

    named = set(preset["roles"]) | {role.replace("left", "right") for role in preset["roles"]}
    candidates = both(preset["roles"])
    control = bool(preset.get("control"))
    first: dict[str, int] = {}
    for role in JOINTS:  # parents come first
        for bone in candidates.get(role, ()):
            if bone not in first.values() and (control or _in_order(tree, first, role, bone)):
                first[role] = bone
                break
    exact = sum(
        key(tree.names[b]).side == "" and tree.names[b] in str(preset["roles"].get(r)) for r, b in first.items()
    )
    read = {role: tuple(bones) for role, bones in both(preset.get("read", {})).items()}
    further = {role: tuple(bones) for role, bones in both(preset.get("further", {})).items()}
    if control and not all(role in read for role in first):
        first = {}
    return _Found(first, read, preset["name"], _score(first, exact, len(named)), control, further)


def _in_order(tree: BoneTree, first: Mapping[str, int], role: str, bone: int) -> bool:
    """Whether a bone hangs below the bone of its role's nearest known parent, and not above another role's."""
    parent = PARENTS[INDEX[role]]
    while parent >= 0 and JOINTS[parent] not in first:
        parent = PARENTS[parent]
    if parent < 0:
        return not first
    above = tree.ancestors(bone)[1:]
    if first[JOINTS[parent]] in above:
        return True
    # thighs on the first spine bone, collars on the neck: in order as seen from the hips
    return role.endswith(("hip", "collar", "shoulder")) and first.get("pelvis") in above


def _chains(tree: BoneTree, first: Mapping[str, int], chosen: Mapping[str, str]) -> dict[str, tuple[int, ...]]:
    """Give every role the bones down to the next role's; the torso is divided by shape, whatever its names."""
    chains: dict[str, tuple[int, ...]] = {}
    if "pelvis" in first:
        chains["pelvis"] = (first["pelvis"],)
    for side in ("left", "right"):
        for limb in _LIMBS:
            roles = [f"{side}_{part}" for part in limb if f"{side}_{part}" in first]
            for role, following in zip_longest(roles, roles[1:]):
                path = tree.path(first[role], first[following])[:-1] if following else []
                chains[role] = tuple(path) or (first[role],)
            wrist = f"{side}_wrist"
            if wrist in chains and limb[-1] == "wrist":
                chains[wrist] += _same_place(tree, chains[wrist][-1])
    chains |= _torso(tree, first)
    for role in chosen:  # the user's word on a torso bone
        if role in ("spine1", "spine2", "spine3", "neck", "head"):
            chains.pop(role, None)
            if role in first:
                for other, chain in list(chains.items()):
                    chains[other] = tuple(b for b in chain if b != first[role])
                chains[role] = (first[role],)
    return {role: chain for role, chain in chains.items() if chain}


def _torso(tree: BoneTree, first: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
    """Spine, neck and head: the spine runs from the pelvis to where the arms branch off, the neck from there on."""
    named: dict[str, tuple[int, ...]] = {
        role: (first[role],) for role in ("spine1", "spine2", "spine3", "neck", "head") if role in first
    }
    arms = [
        first[f"{side}_{part}"]
        for side in ("left", "right")
        for part in ("collar", "shoulder")
        if f"{side}_{part}" in first
    ]
    head = first.get("head")
    upper = [*arms, *([] if head is None else [head])]
    pelvis = first.get("pelvis")
    chest = tree.meeting(upper) if arms and upper else None
    if pelvis is None or chest is None or not tree.path(pelvis, chest):
        return named
    spine = tree.path(pelvis, chest)[1:]
    neck = tree.path(chest, head)[1:-1] if head is not None and head != chest else []
    while spine and "neck" in key(tree.names[spine[-1]]).text:  # arms that hang on the neck (3ds Max Biped)
        neck.insert(0, spine.pop())
    spine = [b for b in spine if b != head]
    roles = {1: ("spine1",), 2: ("spine1", "spine3")}.get(len(spine), ("spine1", "spine2", "spine3"))
    parts = np.array_split(np.array(spine, int), len(roles))
    chains = {role: tuple(int(b) for b in part) for role, part in zip(roles, parts, strict=True)}
    if neck:
        chains["neck"] = tuple(neck)
    if head is not None:
        chains["head"] = (head,)
    return chains


def _same_place(tree: BoneTree, wrist: int) -> tuple[int, ...]:
    """The hand bone that starts where the wrist bone does and carries its bend (CMU)."""
    for child in tree.children[wrist]:
        if key(tree.names[child]).text in ("hand", "lhand", "rhand", "fingerbase") and np.allclose(
            tree.heads[child], tree.heads[wrist], atol=1e-5 * np.ptp(tree.heads)
        ):
            return (child,)
    return ()


def overrides(armature: bpy.types.Object) -> dict[str, str]:
    """What the user chose on this armature: role → bone, "" for none."""
    try:
        found = json.loads(stored.load(armature, OVERRIDES) or "{}")
    except (TypeError, ValueError):
        return {}
    return {r: b for r, b in found.items() if r in INDEX and isinstance(b, str)} if isinstance(found, dict) else {}


def set_override(armature: bpy.types.Object, role: str, bone: str) -> None:
    """Choose the bone of a role; "" says that the figure lacks it. Raises `MotionError` on unknown names."""
    _require_role(role)
    if bone and bone not in armature.data.bones:
        raise MotionError(f"The armature has no bone '{bone}'. Open Bone Map and choose one.")
    set_overrides(armature, overrides(armature) | {role: bone})


def set_overrides(armature: bpy.types.Object, chosen: Mapping[str, str]) -> None:
    """Replace all of the user's choices."""
    stored.store(armature, OVERRIDES, json.dumps(dict(chosen), sort_keys=True) if chosen else None)


def forget_override(armature: bpy.types.Object, role: str) -> None:
    """Forget the user's choice for one role, back to what is detected. Raises `MotionError` on unknown names."""
    _require_role(role)
    set_overrides(armature, {r: b for r, b in overrides(armature).items() if r != role})


def clear_overrides(armature: bpy.types.Object) -> None:
    """Forget the user's choices, back to what is detected."""
    set_overrides(armature, {})


def _require_role(role: str) -> None:
    if role not in INDEX:
        raise MotionError(f"There is no role '{role}'; use one of {', '.join(JOINTS)}.")
