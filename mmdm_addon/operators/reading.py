"""What Fill Gap and Refine Jitter read before they ask the engine."""

from __future__ import annotations

import math
from dataclasses import dataclass

import bpy
import numpy as np

from .. import jobs, timeline
from ..engine_link import INDEX, MotionError
from ..rig.binding import RigTake
from ..rig.limbs import require_fk
from ..rig.read import frame_rate, read
from ..rig.roles import RoleMap, detect

CONTEXT_SECONDS = 1.0
"""Read on each side of what is written; the priors look 0.4 s far."""
REACH = 15.0
"""Seconds on each side in which the engine looks for the like of what is missing, and tries out what it can do."""


@dataclass(frozen=True, eq=False)
class Subject:
    """The armature as the animator selected it.

    bones: selected bones, with a role or without. joints: (22,) bool, the roles that have a selected bone.
    """

    keys: timeline.PoseKeys
    roles: RoleMap
    bones: frozenset[str]
    joints: np.ndarray

    @property
    def role_bones(self) -> list[str]:
        """The selected bones that have a role."""
        return sorted(self.bones & self.roles.bones())

    def joints_of(self, bone: str) -> list[int]:
        """The joints for which a bone is keyed."""
        return [INDEX[role] for role, chain in self.roles.chains.items() if bone in chain]


def subject(armature: bpy.types.Object) -> Subject:
    """Keys, roles and selection of an armature. Raises `MotionError` when no selected bone can be written."""
    roles = detect(armature)
    roles.require()
    bones = frozenset(jobs.selected_bones(armature))
    joints = np.zeros(22, bool)
    for role, chain in roles.chains.items():
        joints[INDEX[role]] = not bones.isdisjoint(chain)
    if not joints.any():
        raise MotionError(
            "None of the selected bones is known as a part of the body (fingers, face and props are left alone); "
            "select body bones, or open Bone Map and give these a role."
        )
    return Subject(timeline.pose_keys(armature), roles, bones, joints)


def preview_range(context: bpy.types.Context) -> tuple[int, int] | None:
    """The scene's preview range, if it is on."""
    scene = context.scene
    return (scene.frame_preview_start, scene.frame_preview_end) if scene.use_preview_range else None


def read_around(
    context: bpy.types.Context,
    armature: bpy.types.Object,
    about: Subject,
    first: float,
    last: float,
    seconds: float = CONTEXT_SECONDS,
    reach: float = 0.0,
    plan: timeline.FillPlan | None = None,
) -> RigTake:
    """The whole frames from ``first`` to ``last`` and so many seconds around them, as far as something is keyed.

    reach: up to so many seconds, as far as the keys are as dense as captured motion is. plan: of what will be filled;
    keys that go may be anything.
    """
    # the borders themselves are not written
    require_fk(armature, about.roles, set(about.bones), (math.floor(first) + 1, math.ceil(last) - 1))
    written = set(about.role_bones)

    def replaced(bone: str, times: np.ndarray) -> np.ndarray:
        return plan.replaced(bone, times) if plan and bone in written else np.zeros(len(times), bool)

    rate, keyed = frame_rate(context, armature), timeline.columns(about.keys.bones.values())
    ends = math.floor(keyed[0] + timeline.SAME), math.ceil(keyed[-1] - timeline.SAME)
    margin, far = math.ceil(seconds * rate), math.ceil(max(reach, seconds) * rate)
    start = min(math.floor(first), max(math.floor(first) - margin, ends[0]))
    end = max(math.ceil(last), min(math.ceil(last) + margin, ends[1]))
    start -= _dense(keyed, np.arange(start, max(math.floor(first) - far, ends[0]) - 1, -1))
    end += _dense(keyed, np.arange(end, min(math.ceil(last) + far, ends[1]) + 1))
    if plan:  # the engine generates what lies between sparse keys, so it has to be shown a pose at either end
        start = _outermost(keyed, np.arange(start, math.floor(first) + 1))
        end = _outermost(keyed, np.arange(end, math.ceil(last) - 1, -1))
    return read(context, armature, np.arange(start, end + 1, dtype=np.float64), roles=about.roles, replaced=replaced)


def _dense(keyed: np.ndarray, frames: np.ndarray) -> int:
    """How many steps along the frames, nearest first, everything is keyed without a break."""
    known = timeline.trusted(keyed, frames.astype(np.float64))
    return max(int(np.cumprod(known).sum()) - 1, 0)


def _outermost(keyed: np.ndarray, frames: np.ndarray) -> int:
    """The first of the frames that is a pose, else the last of them."""
    known = timeline.trusted(keyed, frames.astype(np.float64))
    return int(frames[known.argmax() if known.any() else -1])
