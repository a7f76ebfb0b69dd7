"""Armatures that tests make themselves: a human figure under any bone names, with smooth made-up motion."""

from __future__ import annotations

import bpy
import numpy as np

from mmdm_addon import compat
from mmdm_addon.rig import sampling
from mmdm_engine import rotations as rot
from mmdm_engine.contract import JOINTS, PARENTS, Motion

# Blender's world: Z up, facing -Y, left at +X; metres
HEADS = {
    "pelvis": (0, 0, 0.95), "spine1": (0, 0.01, 1.05), "spine2": (0, 0.02, 1.17), "spine3": (0, 0.01, 1.29),
    "neck": (0, 0.03, 1.48), "head": (0, 0.01, 1.57), "left_collar": (0.03, 0.02, 1.43),
    "left_shoulder": (0.17, 0.03, 1.42), "left_elbow": (0.43, 0.04, 1.41), "left_wrist": (0.68, 0.02, 1.4),
    "left_hip": (0.09, 0, 0.92), "left_knee": (0.1, -0.01, 0.5), "left_ankle": (0.1, 0.03, 0.09),
    "left_foot": (0.11, -0.1, 0.03),
}  # fmt: skip
TAILS = {"head": (0, 0, 0.2), "left_wrist": (0.15, 0, 0), "left_foot": (0, -0.07, 0)}


def mirrored(name: str) -> str:
    """The right side's bone of a left one."""
    for left, right in (
        ("Left", "Right"), ("left", "right"), (".L", ".R"), ("_L_", "_R_"), (" L ", " R "), ("_l", "_r"), ("_L", "_R"),
        ("L_", "R_"),
    ):  # fmt: skip
        if left in name:
            return name.replace(left, right, 1)
    return "r" + name[1:] if name.startswith("l") else name


def heads() -> dict[str, np.ndarray]:
    """Role → where its bone starts."""
    both = {role: np.array(place, float) for role, place in HEADS.items()}
    for role in list(both):
        if role.startswith("left"):
            both[role.replace("left", "right")] = both[role] * (-1, 1, 1)
    return both


def make(
    names: dict[str, str] | None = None, *, absent: tuple[str, ...] = (), sideways: bool = False, scale: float = 1.0
) -> bpy.types.Object:
    """An armature in the scene. names: role → bone, SMPL's own by default. sideways: bone Y across the limb.

    scale: size in Blender units of a metre.
    """
    names = names or {role: role for role in JOINTS}
    place = heads()
    data = bpy.data.armatures.new("Figure")
    figure = bpy.data.objects.new("Figure", data)
    bpy.context.scene.collection.objects.link(figure)
    bpy.context.view_layer.objects.active = figure
    bpy.ops.object.mode_set(mode="EDIT")
    for j, role in enumerate(JOINTS):
        if role in absent or role not in names:
            continue
        bone = data.edit_bones.new(names[role])
        bone.head = place[role] * scale
        parent = PARENTS[j]
        while parent >= 0 and (JOINTS[parent] in absent or JOINTS[parent] not in names):
            parent = PARENTS[parent]
        if parent >= 0:
            bone.parent = data.edit_bones[names[JOINTS[parent]]]
        children = [place[JOINTS[c]] for c in range(22) if PARENTS[c] == j]
        side = 1 if role.startswith("left") else -1
        tip = np.array(TAILS.get(role.replace("right", "left"), (0, 0, 0.1))) * (
            side if role.startswith("right") else 1,
            1,
            1,
        )
        tail = children[0] if children else place[role] + tip
        bone.tail = (place[role] + (0, 0.1, 0.02) if sideways else tail) * scale
    bpy.ops.object.mode_set(mode="OBJECT")
    return figure


def animate(
    figure: bpy.types.Object,
    *,
    modes: tuple[str, ...] = ("QUATERNION",),
    frames: int = 60,
    every: int = 1,
    amount: float = 0.5,
    root: str | None = "pelvis",
    interpolation: str = "BEZIER",
    seed: int = 0,
) -> bpy.types.Action:
    """Key every bone's rotation, and the location of ``root`` ("" = the object), on frames 1, 1 + every, …"""
    random = np.random.default_rng(seed)
    action, slot = compat.new_action("Source", figure)
    times = np.arange(1, frames + 1, every, dtype=float)
    kinds = compat.key_enum("interpolation")
    handles = compat.key_enum("handle_left_type")["AUTO_CLAMPED"]

    def key(path: str, index: int, group: str, values: np.ndarray) -> None:
        curve = compat.new_curve(action, slot, path, index, group)
        curve.keyframe_points.add(len(times))
        curve.keyframe_points.foreach_set("co", np.stack([times, values], -1).astype(np.float32).ravel())
        curve.keyframe_points.foreach_set("interpolation", np.full(len(times), kinds[interpolation], np.int32))
        for side in ("handle_left_type", "handle_right_type"):
            curve.keyframe_points.foreach_set(side, np.full(len(times), handles, np.int32))
        curve.update()

    from mmdm_addon.rig import channels

    for b, bone in enumerate(figure.pose.bones):
        bone.rotation_mode = modes[b % len(modes)]
        speed, phase = random.uniform(0.5, 2.0, 3), random.uniform(0, 6, 3)
        vector = amount * np.sin(times[:, None] / 15 * speed + phase)
        q = rot.continuous(rot.exp(vector))
        anchor = np.array(channels.DEFAULTS.get(bone.rotation_mode, (0.0, 0.0, 0.0)))
        values = channels.from_quaternion(q, bone.rotation_mode, anchor)
        for i in range(values.shape[1]):
            key(sampling.bone_path(bone.name, channels.path_of(bone.rotation_mode)), i, bone.name, values[:, i])
    if root is not None:
        path = sampling.bone_path(root, "location") if root else "location"
        for i in range(3):
            key(path, i, root or "Object Transforms", 0.3 * np.sin(times / 20 + i))
    compat.assign(figure, action, slot)
    return action


def bend(motion: Motion, start: int, stop: int, *, amount: float = 0.4, move: float = 0.2, seed: int = 0) -> Motion:
    """A smooth change of frames [start, stop), zero at both ends: every joint, and the root by ``move`` metres."""
    random = np.random.default_rng(seed)
    weight = np.sin(np.linspace(0, np.pi, stop - start + 2)[1:-1])[:, None]
    rotations, root = motion.rotations.astype(np.float64), motion.root.astype(np.float64)
    turn = rot.exp(amount * weight[:, None] * random.normal(size=(1, 22, 3)))
    exists = motion.skeleton.exists[None, :, None]
    rotations[start:stop] = np.where(exists, rot.multiply(rotations[start:stop], turn), rotations[start:stop])
    root[start:stop] += move * weight * random.normal(size=(1, 3))
    return motion.with_frames(rotations, root)


def columns(count: int, start: int, stop: int, joints: tuple[str, ...] | None = None) -> np.ndarray:
    """(count, 23) bool mask: frames [start, stop) of these joints, or of everything and the root."""
    mask = np.zeros((count, 23), bool)
    mask[start:stop, [JOINTS.index(j) for j in joints] if joints else slice(None)] = True
    return mask


def snapshot(action: bpy.types.Action, slot: object) -> dict[tuple[str, int], dict[str, np.ndarray]]:
    """Every column of every key of every curve, for comparison to the bit."""
    from mmdm_addon.rig.keys import Keys

    return {(c.data_path, c.array_index): Keys.load(c).columns for c in compat.curves(action, slot)}


def sampled(action: bpy.types.Action, slot: object, times: np.ndarray) -> dict[tuple[str, int], np.ndarray]:
    """Every curve's values at many times, as Blender evaluates them."""
    return {
        (c.data_path, c.array_index): np.array([c.evaluate(t) for t in times.tolist()])
        for c in compat.curves(action, slot)
    }
