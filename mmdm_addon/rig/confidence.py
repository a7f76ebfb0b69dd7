"""How sure a capture was of each bone, frame by frame: curves of a custom property that an animator may edit.

1 = several cameras agree, 0 = made up. Detect Problems lists what is near 0, Refine Jitter doubts what is below 1.
"""

from __future__ import annotations

import bpy
import numpy as np

from .. import compat, nla
from ..engine_link import INDEX, JOINTS
from . import sampling
from .build import linear_curve
from .roles import RoleMap

PROPERTY = "mmdm_confidence"
"""Of a pose bone."""
UNSEEN = 0.3
"""What a capture hides and makes up anew lies below."""


def write(armature: bpy.types.Object, confidence: np.ndarray, first_frame: float) -> None:
    """Key the confidence, (T, 22) in [0, 1], of an armature from `build`, in its action."""
    action, slot = armature.animation_data.action, compat.assigned_slot(armature)
    times = first_frame + np.arange(len(confidence))
    for joint, values in zip(JOINTS, confidence.T, strict=True):
        bone = armature.pose.bones[joint]
        bone[PROPERTY] = 1.0
        bone.id_properties_ui(PROPERTY).update(
            min=0.0, max=1.0, description="How sure the capture was of this bone: 1 = cameras agree, 0 = made up"
        )
        linear_curve(action, slot, joint, _path(joint), 0, times, values)


def read(armature: bpy.types.Object, roles: RoleMap, frames: np.ndarray) -> np.ndarray | None:
    """(T, 22) at scene frames: the least of each role's bones, 1 where nothing is said; None where nothing is at all.

    What is not a number in a curve says nothing.
    """
    tracks = sampling.live_curves(armature)
    found = None
    for role, chain in roles.chains.items():
        for bone in chain:
            track = tracks.get((_path(bone), 0))
            if track is not None:
                found = np.ones((len(frames), 22)) if found is None else found
                values = np.nan_to_num(track.evaluate(frames - nla.shift(armature)), nan=1.0)
                found[:, INDEX[role]] = np.minimum(found[:, INDEX[role]], np.clip(values, 0, 1))
    return found


def _path(bone: str) -> str:
    return f'pose.bones["{bpy.utils.escape_identifier(bone)}"]["{PROPERTY}"]'
