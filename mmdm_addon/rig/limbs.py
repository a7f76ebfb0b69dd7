"""Rigify's limbs and the switches between their IK and FK controls."""

from __future__ import annotations

from dataclasses import dataclass

import bpy
import numpy as np

from .. import compat, nla
from ..engine_link import MotionError
from . import sampling
from .keys import INTERPOLATION, Keys
from .roles import RoleMap
from .sampling import Tracks

_FK = 0.999
"""From here on a limb counts as in FK."""

_KINDS = (
    ("thigh_parent", "leg", ("hip", "knee", "ankle", "foot"), ("thigh_", "shin_", "foot_", "toe_")),
    ("upper_arm_parent", "arm", ("shoulder", "elbow", "wrist"), ("upper_arm_", "forearm_", "hand_")),
)


@dataclass(frozen=True)
class Limb:
    """An arm or a leg. name: as ``left leg``. switch: the bone with the IK_FK property. roles: of its segments.

    controls: its FK and IK controls by name.
    """

    name: str
    switch: str
    roles: tuple[str, ...]
    controls: frozenset[str]

    @property
    def path(self) -> str:
        """The data path of the switch."""
        return sampling.bone_path(self.switch, "")[:-1] + '["IK_FK"]'

    def in_ik(self, armature: bpy.types.Object, curves: Tracks, span: tuple[float, float] | None) -> bool:
        """Whether the limb follows its IK controls in some frame of a span; without a span: in every frame."""
        track = curves.get((self.path, 0))
        if track is None:
            return float(armature.pose.bones[self.switch]["IK_FK"]) < _FK
        if span is None:
            return bool(track.co[:, 1].max() < _FK)
        frames = np.arange(np.ceil(span[0]), np.floor(span[1]) + 1) - nla.shift(armature)
        return bool((track.evaluate(frames) < _FK).any())


def of(armature: bpy.types.Object, roles: RoleMap) -> list[Limb]:
    """The limbs with a switch; none on rigs without controls."""
    if not roles.control:
        return []
    found = []
    for side, letter in (("left", "L"), ("right", "R")):
        for switch, kind, parts, starts in _KINDS:
            pose = armature.pose.bones.get(f"{switch}.{letter}")
            if pose is not None and "IK_FK" in pose:
                controls = frozenset(
                    b.name for b in armature.pose.bones if b.name.startswith(starts) and b.name.endswith(f".{letter}")
                )
                parts_here = tuple(f"{side}_{part}" for part in parts if f"{side}_{part}" in roles.chains)
                found.append(Limb(f"{side} {kind}", pose.name, parts_here, controls))
    return found


def require_fk(
    armature: bpy.types.Object, roles: RoleMap, bones: set[str], span: tuple[float, float] | None = None
) -> None:
    """Raise `MotionError` if a limb of a Rigify rig that would be written follows its IK controls.

    span: first and last frame to write; before these are known, a limb that is nowhere in FK is refused.
    """
    curves = sampling.live_curves(armature) if roles.control else {}
    for limb in of(armature, roles):
        written = {b for role in limb.roles for b in roles.chains[role]}
        if written & bones and limb.in_ik(armature, curves, span):
            raise MotionError(
                f"The {limb.name} is in IK, so keys on its FK controls would do nothing; press Limbs to FK in Bone Map "
                f"(or snap FK to IK and set IK-FK of '{limb.switch}' to 1), or deselect it."
            )


def key_fk(
    armature: bpy.types.Object, action: bpy.types.Action, slot: object, limb: Limb, curves: Tracks,
    span: tuple[float, float],
) -> None:  # fmt: skip
    """Key a limb's switch to FK from the first to the last frame of a span; other frames keep what they show.

    curves: of the action before, of which this one is a copy. span: on the action's own time.
    """
    ours = {c.data_path: c for c in compat.curves(action, slot)}
    old = curves.get((limb.path, 0))
    static = float(armature.pose.bones[limb.switch]["IK_FK"])

    def value_at(times: np.ndarray) -> np.ndarray:
        return np.full(len(times), static) if old is None else old.evaluate(times)

    points = [track.co[:, 0] for track in curves.values()]
    keyed = np.concatenate(points) if points else np.zeros(0)
    keys = Keys.load(ours.get(limb.path))
    left, right = span[0] - 1, span[1] + 1
    before, after = bool((keyed < span[0]).any()), bool((keyed > span[1]).any())
    if before:  # nothing lies outside the animation that a border would keep
        keys.pin(left, value_at)
        row = keys.find(left)
        assert row is not None
        keys.columns["interpolation"][row] = INTERPOLATION["CONSTANT"]
    if after:
        keys.pin(right, value_at)
    keys.remove((keys.times > left) & (keys.times < right))
    keys.add(np.array([span[0]]), np.array([1.0]), "CONSTANT")
    keys.store(ours.get(limb.path) or compat.new_curve(action, slot, limb.path, 0, limb.switch))
