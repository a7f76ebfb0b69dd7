"""File > Import > HumanML3D motion: the armature it makes moves as the file says, and the rest of the file stays."""

from __future__ import annotations

import bpy
import figures
import numpy as np
import pytest
from operator_support import curves, ensure_registered, refused

from mmdm_addon.engine_link import INDEX, JOINTS, MAIN_CHILD, Motion, Skeleton, kinematics
from mmdm_addon.engine_link import rotations as rot
from mmdm_addon.rig.build import build
from mmdm_addon.rig.read import read
from mmdm_addon.rig.roles import detect
from mmdm_engine import humanml3d


@pytest.fixture(autouse=True)
def registered():
    ensure_registered()


def moved(frames: int = 40) -> Motion:
    """A made-up dance of a T-posed figure, at 20 fps."""
    offsets = np.zeros((22, 3))
    leg = {"left_hip": (0.09, -0.09, 0.01), "left_knee": (0, -0.4, 0), "left_ankle": (0, -0.41, 0),
           "left_foot": (0, 0, 0.13), "spine1": (0, 0.12, 0), "spine2": (0, 0.13, 0), "spine3": (0, 0.06, 0),
           "neck": (0, 0.21, 0), "head": (0, 0.1, 0), "left_collar": (0.07, 0.11, -0.02),
           "left_shoulder": (0.12, 0, 0), "left_elbow": (0.26, 0, 0), "left_wrist": (0.25, 0, 0)}  # fmt: skip
    for name, place in leg.items():
        offsets[INDEX[name]] = place
        if "left" in name:
            offsets[INDEX[name.replace("left", "right")]] = np.array(place) * (-1, 1, 1)
    random = np.random.default_rng(0)
    times = np.arange(frames)[:, None, None] / 20
    turns = rot.exp(0.4 * np.sin(2 * times * random.uniform(0.5, 2, (22, 3)) + random.uniform(0, 6, (22, 3))))
    root = np.stack([0.3 * np.sin(times[:, 0, 0]), 0.9 + 0 * times[:, 0, 0], times[:, 0, 0]], axis=-1)
    return Motion(rot.continuous(turns), root, Skeleton(offsets), 20.0)


def positions(motion: Motion) -> np.ndarray:
    return kinematics.positions(
        motion.rotations.astype(np.float64), motion.root.astype(np.float64), motion.skeleton.offsets.astype(np.float64)
    )


@pytest.fixture
def joints() -> np.ndarray:
    return positions(moved()).astype(np.float32)


@pytest.fixture
def file(tmp_path, joints) -> str:
    np.save(tmp_path / "dance.npy", joints)
    return str(tmp_path / "dance.npy")


def heads_at(armature: bpy.types.Object, frame: int) -> np.ndarray:
    """(22, 3) where Blender puts the bones' heads, in its world."""
    bpy.context.scene.frame_set(frame)
    return np.array([armature.matrix_world @ armature.pose.bones[joint].head for joint in JOINTS])


def in_blender(points: np.ndarray) -> np.ndarray:
    """The motion's Y up, facing +Z → Blender's Z up, facing −Y."""
    return points[..., [0, 2, 1]] * (1, -1, 1)


def test_every_bone_is_where_the_file_says_on_every_frame(file, joints):
    assert bpy.ops.mmdm.import_motion(filepath=file) == {"FINISHED"}
    armature = bpy.context.object
    assert armature.name == armature.animation_data.action.name == "dance"
    assert armature.select_get()
    for frame in (0, 7, 39):
        np.testing.assert_allclose(heads_at(armature, 1 + frame), in_blender(joints[frame]), atol=2e-5)
    assert {len(c.keyframe_points) for c in curves(armature)} == {40}
    assert len(curves(armature)) == 22 * 4 + 3


def test_the_bone_map_finds_every_role_and_reading_gives_the_motion(file, joints):
    bpy.ops.mmdm.import_motion(filepath=file)
    armature = bpy.context.object
    roles = detect(armature)
    assert roles.problems == []
    assert {role: chain[0] for role, chain in roles.chains.items()} == {joint: joint for joint in JOINTS}
    take = read(bpy.context, armature, np.arange(1, 41, dtype=float))
    assert take.motion.fps == 20  # the scene runs at 24, the armature remembers
    np.testing.assert_allclose(positions(take.motion), joints, atol=5e-5)


def test_features_are_imported_too(tmp_path):
    features = humanml3d.to_humanml3d(moved())
    np.save(tmp_path / "features.npy", features)
    np.save(tmp_path / "tokens.npy", humanml3d.to_joint_level(np.stack([features * 0, features])))
    assert bpy.ops.mmdm.import_motion(filepath=str(tmp_path / "features.npy")) == {"FINISHED"}
    first = bpy.context.object
    assert bpy.ops.mmdm.import_motion(filepath=str(tmp_path / "tokens.npy"), index=1, frame_start=11) == {"FINISHED"}
    second = bpy.context.object
    assert second != first
    wanted = in_blender(humanml3d.recover_joints(features)[20])
    for armature, start in ((first, 1), (second, 11)):
        np.testing.assert_allclose(heads_at(armature, start + 20), wanted, atol=2e-5)


def test_scene_rate_plays_at_its_own_speed(file, joints):
    bpy.context.scene.render.fps = 30
    bpy.ops.mmdm.import_motion(filepath=file, timing="SCENE")
    armature = bpy.context.object
    assert armature.mmdm.source_fps == 0
    assert {len(c.keyframe_points) for c in curves(armature)} == {59}  # 39 steps of 1/20 s
    np.testing.assert_allclose(heads_at(armature, 1 + 30), in_blender(joints[20]), atol=2e-5)  # after one second


def test_the_scene_can_get_the_files_rate(file):
    bpy.ops.mmdm.import_motion(filepath=file, timing="SET", fps=12.5)
    render = bpy.context.scene.render
    assert render.fps / render.fps_base == pytest.approx(12.5)
    assert bpy.context.object.mmdm.source_fps == 0


def test_centimetre_scenes_get_an_armature_of_the_right_size(file, joints):
    bpy.context.scene.unit_settings.scale_length = 0.01
    bpy.ops.mmdm.import_motion(filepath=file)
    armature = bpy.context.object
    np.testing.assert_allclose(heads_at(armature, 8) / 100, in_blender(joints[7]), atol=1e-4)


def test_at_rest_it_stands_in_a_t_pose_on_the_floor(file):
    bpy.ops.mmdm.import_motion(filepath=file)
    bones = bpy.context.object.data.bones
    assert min(b.head_local.z for b in bones) == pytest.approx(0, abs=1e-6)
    for j, child in enumerate(MAIN_CHILD):
        if child >= 0:
            np.testing.assert_allclose(bones[JOINTS[j]].tail_local, bones[JOINTS[child]].head_local, atol=1e-4)
    assert bones["left_wrist"].head_local.x > 0.6  # the character's left at +X, facing −Y
    assert bones["left_foot"].head_local.y < -0.1
    assert all(b.length > 0.02 for b in bones)


def test_bones_without_length_and_absent_joints_are_drawn_all_the_same():
    motion = moved()
    offsets = motion.skeleton.offsets.copy()
    offsets[[INDEX["spine1"], INDEX["head"]]] = 0
    exists = np.ones(22, bool)
    exists[[INDEX["left_foot"], INDEX["right_foot"]]] = False
    short = Motion(motion.rotations, motion.root, Skeleton(offsets, exists), 20.0)
    armature = build(bpy.context, short, "short")
    assert len(armature.data.bones) == 22
    np.testing.assert_allclose(heads_at(armature, 15), in_blender(positions(short)[14]), atol=2e-5)
    assert not any("foot" in c.data_path for c in curves(armature))


@pytest.mark.parametrize("mode", ["POSE", "EDIT"])
def test_it_may_be_run_while_another_armature_is_worked_on(file, mode):
    other = figures.make()
    bpy.ops.object.mode_set(mode=mode)
    assert bpy.ops.mmdm.import_motion(filepath=file) == {"FINISHED"}
    assert bpy.context.object != other
    assert not other.select_get()
    assert len(other.data.bones) == 22


def test_a_bad_file_changes_nothing_and_says_why(tmp_path, file, joints):
    before = (len(bpy.data.objects), len(bpy.data.armatures), len(bpy.data.actions))
    np.save(tmp_path / "wrong.npy", joints[:, :20])
    np.save(tmp_path / "batch.npy", np.stack([joints] * 3))
    np.save(tmp_path / "nan.npy", joints * np.nan)
    np.save(tmp_path / "cm.npy", joints * 100)
    operator = bpy.ops.mmdm.import_motion
    refused(operator, "a motion is (frames, 263)", filepath=str(tmp_path / "wrong.npy"))
    refused(operator, "holds 3 motions", "index, 0 to 2", filepath=str(tmp_path / "batch.npy"))
    refused(operator, "NaN", filepath=str(tmp_path / "nan.npy"))
    refused(operator, "give a scale, such as 0.01", filepath=str(tmp_path / "cm.npy"))
    refused(operator, "cannot be read", filepath=str(tmp_path / "absent.npy"))
    refused(operator, "leave them out", filepath=file, mean=file, std=file)
    assert (len(bpy.data.objects), len(bpy.data.armatures), len(bpy.data.actions)) == before


def test_it_is_in_the_import_menu_and_is_one_undo_step():
    from mmdm_addon.operators.import_motion import MMDM_OT_import_motion
    from mmdm_addon.ui import menus

    assert menus._draw_import in bpy.types.TOPBAR_MT_file_import._dyn_ui_initialize()
    assert "UNDO" in MMDM_OT_import_motion.bl_options


def test_undo_takes_the_armature_away_again(file):
    bpy.context.preferences.edit.use_global_undo = True
    bpy.ops.ed.undo_push(message="before")
    bpy.ops.mmdm.import_motion("EXEC_DEFAULT", True, filepath=file)
    assert len(bpy.data.armatures) == 1
    bpy.ops.ed.undo()
    assert len(bpy.data.armatures) == 0
    assert "dance" not in bpy.data.objects
