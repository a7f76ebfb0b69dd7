"""The list of problems on an armature: kept with the file, shown frame by frame and bone by bone.

`operators.detect_problems` fills it; a problem whose keys have changed since is stale.
"""

from __future__ import annotations

from collections.abc import Iterable

import bpy

from . import compat, timeline
from .engine_link import MotionError
from .rig import roles

KINDS = {
    "pop": ("Pop", "A bone jumps away and back within a few frames"),
    "jitter": ("Jitter", "A bone shakes faster than a body moves"),
    "frozen": ("Frozen", "A bone stops dead while it should move, and catches up with a jump"),
    "slide": ("Slide", "A standing foot moves over the floor"),
    "penetration": ("Sunken", "A foot sinks below where it stood"),
    "unseen": ("Unseen", "The cameras of the capture do not show where this bone was, so it is made up"),
}
"""Kinds → what the list calls them, and what they are: the engine's, and what a capture says of itself."""
_FEET = ("slide", "penetration")
_LEG = ("hip", "knee", "ankle")


def sentence(problem: bpy.types.PropertyGroup) -> str:
    """A problem in words, with all of its frames and the bone's whole name."""
    span = f"{problem.start}" if problem.start == problem.end else f"{problem.start}-{problem.end}"
    text = KINDS[problem.kind][1] if problem.kind in KINDS else problem.kind
    return f"{span}, {problem.bone or problem.role}: {text[:1].lower()}{text[1:]}."


def state(armature: bpy.types.Object) -> str:
    """Of the keys; changes when one moves."""
    return f"{timeline.pose_keys(armature).fingerprint:08x}"


def stale(armature: bpy.types.Object) -> bool:
    """Whether the keys are no longer those in which the problems were found."""
    return bool(armature.mmdm.problems_state) and armature.mmdm.problems_state != state(armature)


def bones(armature: bpy.types.Object, listed: Iterable[bpy.types.PropertyGroup], *, repair: bool) -> list[str]:
    """The bones of some problems, as the Bone Map has them now.

    repair: what has to be written to be rid of them: for a foot that slides or sinks the whole leg.
    """
    chains = roles.detect(armature).chains
    found: dict[str, None] = {}
    for problem in listed:
        wanted = [problem.role]
        if repair and problem.kind in _FEET:
            wanted = [f"{problem.role.partition('_')[0]}_{part}" for part in _LEG]
        for role in wanted:
            found.update(dict.fromkeys(chains.get(role, (problem.bone,) if role == problem.role else ())))
    return [name for name in found if name in armature.pose.bones]


def select(armature: bpy.types.Object, names: list[str]) -> None:
    """Select these pose bones and no others. Raises `MotionError` when none of them can be seen."""
    shown = [name for name in names if not compat.is_hidden(armature.pose.bones[name])]
    if not shown:
        what = f"'{names[0]}' is hidden" if names else "The bone of this problem is gone"
        raise MotionError(f"{what}; show it (Alt H in Pose Mode), or detect the problems again.")
    for bone in armature.pose.bones:
        compat.select(bone, bone.name in shown)
    armature.data.bones.active = armature.data.bones[shown[0]]


def show(context: bpy.types.Context, armature: bpy.types.Object, problem: bpy.types.PropertyGroup) -> None:
    """Go to the first frame of a problem and select its bone. Raises `MotionError` when that cannot be seen."""
    context.scene.frame_set(problem.start)
    select(armature, bones(armature, [problem], repair=False))
