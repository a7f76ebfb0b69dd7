"""How sure a capture was of each bone, frame by frame: curves of a custom property that an animator may edit.

1 = several cameras agree, 0 = made up. Detect Problems lists what is near 0, Refine Jitter doubts what is below 1.
"""

from __future__ import annotations

from typing import Any

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


def trust(
    action: bpy.types.Action, slot: Any, roles: RoleMap, frames: np.ndarray, changed: np.ndarray, shift: float
) -> None:
    """What is made anew is no longer what the cameras missed: set its keys to 1.

    frames: (T,) increasing scene frames. changed: (T, 22 or more) bool, what was made. shift: `nla.shift`.
    """
    curves = {curve.data_path: curve for curve in compat.curves(action, slot)}
    for role, chain in roles.chains.items():
        times = frames[changed[:, INDEX[role]]] - shift
        for curve in (curves[_path(bone)] for bone in chain if _path(bone) in curves):
            if not len(times):
                continue
            points = curve.keyframe_points
            co = np.empty(2 * len(points), np.float32)
            points.foreach_get("co", co)
            after = np.clip(np.searchsorted(times, co[::2]), 0, len(times) - 1)
            near = np.minimum(np.abs(times[after] - co[::2]), np.abs(times[np.maximum(after - 1, 0)] - co[::2])) < 0.5
            co[1::2][near] = 1
            points.foreach_set("co", co)
            curve.update()


def _path(bone: str) -> str:
    return f'pose.bones["{bpy.utils.escape_identifier(bone)}"]["{PROPERTY}"]'
