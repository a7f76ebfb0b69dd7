"""File > Import > Multi-view Capture: people and cameras come in as files say, and a bad file changes nothing.

A made-up dance of two people is seen by four made-up cameras; one loses an arm for a while. The engine is the real one.
"""

from __future__ import annotations

import json
import time
import zipfile
from pathlib import Path
from types import SimpleNamespace

import bpy
import figures
import numpy as np
import pytest
from bpy_extras.object_utils import world_to_camera_view
from mathutils import Vector
from operator_support import curves, ensure_registered, refused, select
from test_import_motion import in_blender, moved
from test_jobs import Session

from mmdm_addon import compat, jobs, problems, timeline
from mmdm_addon.engine_link import INDEX, JOINTS, Camera
from mmdm_addon.operators import detect_problems, import_capture
from mmdm_addon.operators.import_capture import MMDM_OT_import_capture
from mmdm_addon.rig import cameras, confidence
from mmdm_addon.rig.roles import detect
from mmdm_engine.capture import synthetic
from mmdm_engine.capture.detections import BODY_25

pytestmark = pytest.mark.usefixtures("engine")

FRAMES, FPS, FIRST = 40, 20.0, 300
UNSEEN = slice(12, 24)
ARM = ("left_elbow", "left_wrist")
LIMBS = [f"{side}_{name}" for side in ("left", "right") for name in ("hip", "knee", "ankle", "elbow", "wrist")]
EXACT = [INDEX[name] for name in LIMBS]
"""Joints that detectors mark where the skeleton has them."""
capture = bpy.ops.mmdm.import_capture


def dance() -> list[np.ndarray]:
    """What detectors mark of two dancers, (40, 25, 3) each, Y up."""
    motion = moved(FRAMES)
    stiff = [j for j, name in enumerate(JOINTS) if name not in LIMBS and "shoulder" not in name]
    motion.rotations[:, stiff] = (1, 0, 0, 0)  # a torso that bends has no constant distances between what is marked
    marks = synthetic.body25(motion)
    aside = np.array([0.9, 0, 0])
    return [marks + aside, marks[::-1] - aside]


def rig() -> list[Camera]:
    """Cameras that differ in what Blender could get wrong: principal point, shape of the image, focal length."""
    made = []
    spoilt = [((516, 388), (1032, 776), 1080), ((470, 410), (1032, 776), 900), ((380, 540), (776, 1032), 1000),
              ((700, 300), (1280, 720), 1100)]  # fmt: skip
    for camera, (centre, size, focal) in zip(synthetic.ring(4, np.random.default_rng(3)), spoilt, strict=True):
        matrix = np.array([[focal, 0, centre[0]], [0, focal, centre[1]], [0, 0, 1.0]])
        made.append(Camera(camera.name, matrix, camera.rotation, camera.translation, np.zeros(8), size))
    return made


def write_calibration(path: Path, made: list[Camera], **changed: object) -> None:
    entries = {
        c.name: {"K": c.matrix.tolist(), "R": c.rotation.tolist(), "t": c.translation.tolist(), "image_size": c.size}
        for c in made
    }
    for entry in entries.values():
        entry.update(changed)
    path.write_text(json.dumps({"cameras": entries}))


def write_camera(path: Path, frames: list[list[np.ndarray]], first: int = FIRST) -> None:
    """One zip of OpenPose JSON; frames: lists of people, (25, 3) each."""
    with zipfile.ZipFile(path, "w") as file:
        for number, people in enumerate(frames, first):
            told = [{"pose_keypoints_2d": np.round(p, 3).ravel().tolist()} for p in people]
            file.writestr(f"take_{number:012d}_keypoints.json", json.dumps({"people": told}))


def views(camera: Camera) -> list[list[np.ndarray]]:
    """What a camera detects; the first dancer's left forearm is hidden from all of them for a while."""
    seen = []
    for marks in dance():
        sure = np.full((FRAMES, 25, 1), 0.9)
        seen.append(np.concatenate([camera.project(marks), sure], axis=-1))
    for name in ARM:
        seen[0][UNSEEN, BODY_25.index(name)] = 0
    return [[person[t] for person in seen] for t in range(FRAMES)]


@pytest.fixture(scope="session")
def take(tmp_path_factory) -> Path:
    """A folder with calibration.json and a zip of detections for each camera."""
    folder = tmp_path_factory.mktemp("dance")
    write_calibration(folder / "calibration.json", rig())
    for camera in rig():
        write_camera(folder / f"{camera.name}.zip", views(camera))
    return folder


@pytest.fixture
def imported(take) -> list[bpy.types.Object]:
    """The dancers' armatures, not filtered, in a scene of the capture's rate."""
    assert capture(filepath=str(take / "calibration.json"), fps=FPS, clean=False, set_scene=True) == {"FINISHED"}
    return armatures()


def armatures() -> list[bpy.types.Object]:
    return sorted((o for o in bpy.data.objects if o.type == "ARMATURE"), key=lambda o: o.name)


def cameras_now() -> list[bpy.types.Object]:
    return sorted((o for o in bpy.data.objects if o.type == "CAMERA"), key=lambda o: o.name)


def blocks() -> dict[str, int]:
    """How many things of every kind are in the file."""
    kinds = ("objects", "armatures", "cameras", "actions", "collections", "scenes", "meshes")
    return {kind: len(getattr(bpy.data, kind)) for kind in kinds}


def heads_at(armature: bpy.types.Object, frame: int) -> np.ndarray:
    """(22, 3) where Blender puts the bones' heads, in its world."""
    bpy.context.scene.frame_set(frame)
    return np.array([armature.matrix_world @ armature.pose.bones[joint].head for joint in JOINTS])


def truth(dancer: int) -> np.ndarray:
    """(40, 22, 3) in Blender's world; NaN where a detector marks no such joint."""
    out = np.full((FRAMES, 22, 3), np.nan)
    for j in EXACT:
        out[:, j] = dance()[dancer][:, BODY_25.index(JOINTS[j])]
    return in_blender(out)


def dancer_of(armature: bpy.types.Object) -> int:
    return int(heads_at(armature, 1)[INDEX["pelvis"], 0] < 0)


def of_the_arm(imported: list[bpy.types.Object]) -> bpy.types.Object:
    """The armature of the dancer whose arm was hidden."""
    return next(a for a in imported if dancer_of(a) == 0)


# --- people ---------------------------------------------------------------------------------------------------------


def test_each_person_is_an_armature_that_stands_where_cameras_saw_them(imported):
    assert len(imported) == 2
    assert {dancer_of(a) for a in imported} == {0, 1}
    for armature in imported:
        wanted = truth(dancer_of(armature))
        for frame in (0, 7, 30, FRAMES - 1):
            off = np.linalg.norm(heads_at(armature, 1 + frame) - wanted[frame], axis=-1)[EXACT]
            assert off.max() < 0.01, off


def test_every_role_is_found_and_the_names_say_which_take_and_who(imported, take):
    name = take.name
    assert [a.name for a in imported] == [f"{name} person 1", f"{name} person 2"]
    assert all(a.animation_data.action.name == a.name for a in imported)
    assert all(detect(a).problems == [] for a in imported)
    assert {o.name for o in bpy.data.collections[name].objects} == {o.name for o in bpy.data.objects}
    assert all(len(o.users_collection) == 1 for o in bpy.data.objects)
    assert all(a.select_get() for a in imported)
    assert bpy.context.object == imported[0]


def test_keys_lie_on_the_cameras_frames_from_the_start_frame_on(take):
    bpy.context.scene.render.fps = 24
    before = bpy.context.scene.frame_end
    capture(filepath=str(take / "calibration.json"), fps=FPS, frame_start=101)
    for armature in armatures():
        assert tuple(armature.animation_data.action.frame_range) == (101, 100 + FRAMES)
        assert armature.mmdm.source_fps == FPS  # the scene goes on at its own rate
    assert (bpy.context.scene.render.fps, bpy.context.scene.frame_end) == (24, before)


def test_without_a_frame_rate_the_scenes_counts(take):
    bpy.context.scene.render.fps, bpy.context.scene.render.fps_base = 30, 1.001
    capture(filepath=str(take / "calibration.json"))
    assert all(a.mmdm.source_fps == 0 for a in armatures())
    assert "29.97 fps" in bpy.context.window_manager.mmdm.message


def test_the_scene_can_be_set_to_the_capture(imported):
    scene = bpy.context.scene
    assert scene.render.fps / scene.render.fps_base == pytest.approx(FPS)
    assert (scene.frame_start, scene.frame_end) == (1, FRAMES)
    assert (scene.render.resolution_x, scene.render.resolution_y) == (1032, 776)
    assert all(a.mmdm.source_fps == 0 for a in imported)


def test_so_many_people_as_are_wanted(take, tmp_path):
    for camera in rig():
        frames = views(camera)
        for people in frames[:15]:
            del people[0]  # the first dancer comes later
        write_camera(tmp_path / f"{camera.name}.zip", frames)
    write_calibration(tmp_path / "calibration.json", rig())
    assert capture(filepath=str(tmp_path / "calibration.json"), fps=FPS, people=1) == {"FINISHED"}
    (only,) = armatures()
    assert dancer_of(only) == 1
    assert capture(filepath=str(tmp_path / "calibration.json"), fps=FPS) == {"FINISHED"}
    ranges = sorted(tuple(a.animation_data.action.frame_range) for a in armatures() if a != only)
    assert ranges == [(1, FRAMES), (16, FRAMES)]


def test_cleaning_takes_shake_out(take, tmp_path):
    noise = np.random.default_rng(0)
    for camera in rig():
        shaken = [[p + noise.normal(0, 3, (25, 3)) * (1, 1, 0) * (p[:, 2:] > 0) for p in people]
                  for people in views(camera)]  # fmt: skip
        write_camera(tmp_path / f"{camera.name}.zip", shaken)
    write_calibration(tmp_path / "calibration.json", rig())
    shake = []
    for clean in (False, True):
        capture(filepath=str(tmp_path / "calibration.json"), fps=FPS, clean=clean, people=1)
        path = np.array([heads_at(bpy.context.object, f)[EXACT] for f in range(5, 35)])
        shake.append(np.linalg.norm(np.diff(path, 2, axis=0), axis=-1).mean())
    assert shake[1] < shake[0] / 2


def test_centimetre_scenes_get_people_and_cameras_of_the_right_size(take):
    bpy.context.scene.unit_settings.scale_length = 0.01
    capture(filepath=str(take / "calibration.json"), fps=FPS, clean=False)
    for armature in armatures():
        off = heads_at(armature, 8) / 100 - truth(dancer_of(armature))[7]
        assert np.linalg.norm(off, axis=-1)[EXACT].max() < 0.01
    for made, camera in zip(cameras_now(), rig(), strict=True):
        np.testing.assert_allclose(np.array(made.location) / 100, in_blender(camera.centre), atol=1e-5)


@pytest.mark.parametrize("mode", ["POSE", "EDIT"])
def test_it_may_be_run_while_another_armature_is_worked_on(take, mode):
    other = figures.make()
    bpy.ops.object.mode_set(mode=mode)
    assert capture(filepath=str(take / "calibration.json"), fps=FPS) == {"FINISHED"}
    assert len(armatures()) == 3
    assert not other.select_get()


def test_detections_may_lie_elsewhere(take, tmp_path):
    write_calibration(tmp_path / "rig.json", rig())
    assert capture(filepath=str(tmp_path / "rig.json"), detections=str(take), fps=FPS) == {"FINISHED"}
    assert len(armatures()) == 2


def test_detections_are_found_in_a_folder_beside_the_calibration(tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "openpose").mkdir()
    write_calibration(tmp_path / "calibration.json", rig())
    for camera in rig():
        write_camera(tmp_path / "openpose" / f"{camera.name}.zip", views(camera))
    assert capture(filepath=str(tmp_path / "calibration.json"), fps=FPS) == {"FINISHED"}


# --- cameras --------------------------------------------------------------------------------------------------------


def test_a_joint_is_seen_through_blenders_camera_where_the_calibration_projects_it(imported):
    scene = bpy.context.scene
    for made, camera in zip(cameras_now(), rig(), strict=True):
        width, height = camera.size
        scene.render.resolution_x, scene.render.resolution_y = width, height
        assert list(made.data["resolution"]) == [width, height]
        for armature in imported:
            points = heads_at(armature, 20)
            wanted = camera.project(points @ cameras.WORLD_AXES.T)
            seen = np.array([world_to_camera_view(scene, made, Vector(p)) for p in points])
            off = np.linalg.norm(seen[:, :2] * (width, -height) + (0, height) - wanted, axis=-1)
            assert off.max() < 0.05
            assert (seen[:, 2] > 1).all()  # before the lens, not behind it


def test_the_detections_themselves_lie_on_the_joints_that_blender_shows(imported):
    scene = bpy.context.scene
    for made, camera in zip(cameras_now(), rig(), strict=True):
        width, height = scene.render.resolution_x, scene.render.resolution_y = camera.size
        for armature in imported:
            detected = views(camera)[6][dancer_of(armature)]
            points = heads_at(armature, 7)
            for j in EXACT:
                x, y, _ = world_to_camera_view(scene, made, Vector(points[j]))
                mark = detected[BODY_25.index(JOINTS[j])]
                assert np.hypot(x * width - mark[0], (1 - y) * height - mark[1]) < 3


def test_a_calibration_without_image_size_takes_the_principal_point_for_the_middle(take, tmp_path):
    write_calibration(tmp_path / "calibration.json", rig(), image_size=None)
    capture(filepath=str(tmp_path / "calibration.json"), detections=str(take), fps=FPS)
    assert [list(c.data["resolution"]) for c in cameras_now()] == [[1032, 776], [940, 820], [760, 1080], [1400, 600]]
    assert all(c.data.shift_x == c.data.shift_y == 0 for c in cameras_now())


def test_what_blenders_cameras_cannot_show_is_said_in_pixels():
    plain = rig()[0]
    assert cameras.deviation(plain) < 1e-6
    oblong = plain.matrix.copy()
    oblong[1, 1] *= 1.01
    assert 1 < cameras.deviation(Camera("a", oblong, plain.rotation, plain.translation, np.zeros(8), plain.size)) < 6
    lens = np.array([0.1, 0, 0, 0, 0, 0, 0, 0])
    assert cameras.deviation(Camera("a", plain.matrix, plain.rotation, plain.translation, lens, plain.size)) > 10


def test_a_lens_is_named_in_the_sentence(take, tmp_path):
    write_calibration(tmp_path / "calibration.json", rig(), distortion=[0.01, 0, 0, 0, 0])
    capture(filepath=str(tmp_path / "calibration.json"), detections=str(take), fps=FPS)
    assert "no lens distortion" in bpy.context.window_manager.mmdm.message


def test_cameras_may_be_left_out(take):
    capture(filepath=str(take / "calibration.json"), fps=FPS, cameras=False)
    assert cameras_now() == []
    assert bpy.context.scene.camera is None


def test_the_scene_gets_a_camera_only_where_it_has_none(take):
    capture(filepath=str(take / "calibration.json"), fps=FPS)
    assert bpy.context.scene.camera == cameras_now()[0]
    own = bpy.context.scene.camera = bpy.data.objects.new("Own", bpy.data.cameras.new("Own"))
    capture(filepath=str(take / "calibration.json"), fps=FPS)
    assert bpy.context.scene.camera == own


# --- confidence -----------------------------------------------------------------------------------------------------


def curve_of(armature: bpy.types.Object, bone: str) -> bpy.types.FCurve:
    return next(c for c in curves(armature) if c.data_path == f'pose.bones["{bone}"]["mmdm_confidence"]')


def raise_confidence(armature: bpy.types.Object) -> None:
    """What an animator does in the Graph Editor who is content with what was made up."""
    for joint in JOINTS:
        curve = curve_of(armature, joint)
        for point in curve.keyframe_points:
            point.co.y = 1
        curve.update()


def test_confidence_is_a_curve_of_every_bone_that_blender_evaluates(imported):
    armature, other = of_the_arm(imported), next(a for a in imported if dancer_of(a) == 1)
    for joint in JOINTS:
        assert len(curve_of(armature, joint).keyframe_points) == FRAMES
    sure = confidence.read(armature, detect(armature), np.arange(1.0, FRAMES + 1))
    hidden = [INDEX[j] for j in ("left_shoulder", "left_elbow", "left_wrist")]  # rotations that move what is hidden
    assert (sure[UNSEEN][:, hidden] == 0).all()
    rest = np.delete(sure, hidden, axis=1)
    assert rest.min() > 0.5
    assert sure[: UNSEEN.start].min() > 0.5
    bpy.context.scene.frame_set(1 + UNSEEN.start)
    assert armature.pose.bones["left_elbow"]["mmdm_confidence"] == 0
    assert other.pose.bones["left_elbow"]["mmdm_confidence"] > 0.5
    assert confidence.read(figures.make(), detect(armature), np.arange(5.0)) is None


def test_detect_problems_lists_what_the_cameras_did_not_see(imported):
    armature = of_the_arm(imported)
    bpy.context.view_layer.objects.active = armature
    assert bpy.ops.mmdm.detect_problems() == {"FINISHED"}
    found = {(p.start, p.end, p.bone) for p in armature.mmdm.problems if p.kind == "unseen"}
    first, last = 1 + UNSEEN.start, UNSEEN.stop
    assert found == {(first, last, bone) for bone in ("left_shoulder", "left_elbow", "left_wrist")}
    assert "3 × unseen" in bpy.context.window_manager.mmdm.message
    assert [p.start for p in armature.mmdm.problems] == sorted(p.start for p in armature.mmdm.problems)
    assert "made up" in problems.sentence(next(p for p in armature.mmdm.problems if p.kind == "unseen"))
    raise_confidence(armature)
    assert problems.stale(armature)
    bpy.ops.mmdm.detect_problems()
    assert not [p for p in armature.mmdm.problems if p.kind == "unseen"]


def test_confidence_keys_are_no_poses(imported):
    """Where a take is thinned out, what lies between its poses is no pose, though a curve of doubt has keys there."""
    armature = of_the_arm(imported)
    for curve in curves(armature):
        if not curve.data_path.endswith('["mmdm_confidence"]'):
            for point in reversed(curve.keyframe_points):
                if point.co.x not in (1, 15, 30, 40):
                    curve.keyframe_points.remove(point)
    keys = timeline.pose_keys(armature)
    assert keys.bones["left_elbow"].frames.tolist() == [1, 15, 30, 40]
    before = keys.fingerprint
    raise_confidence(armature)
    assert timeline.pose_keys(armature).fingerprint != before


@pytest.mark.parametrize("tool", ["fill_gap", "complete_bones"])
def test_what_is_made_anew_is_no_longer_unseen(imported, tool):
    armature = of_the_arm(imported)
    bpy.context.view_layer.objects.active = armature
    bpy.ops.object.mode_set(mode="POSE")
    select(armature, "left_shoulder", "left_elbow", "left_wrist")
    source, slot = armature.animation_data.action, compat.assigned_slot(armature)
    assert getattr(bpy.ops.mmdm, tool)(frame_start=UNSEEN.start, frame_end=UNSEEN.stop + 1) == {"FINISHED"}
    sure = confidence.read(armature, detect(armature), np.arange(1.0, FRAMES + 1))
    arm = [INDEX[name] for name in ("left_shoulder", "left_elbow", "left_wrist")]
    assert (sure[UNSEEN][:, arm] == 1).all()
    assert (sure[: UNSEEN.start - 1][:, arm] < 1).any(), "frames that were not written are as sure as they were"
    assert bpy.ops.mmdm.detect_problems() == {"FINISHED"}
    assert not [p for p in armature.mmdm.problems if p.kind == "unseen"]
    compat.assign(armature, source, slot)
    assert (confidence.read(armature, detect(armature), np.arange(1.0, FRAMES + 1))[UNSEEN][:, arm] == 0).all()


def test_a_short_moment_is_not_listed_and_a_long_one_is_more_severe():
    sure = np.ones((100, 22))
    sure[10:13, 4] = 0
    sure[20:30, 4] = 0
    sure[50:90, 5] = 0.29
    short, long = detect_problems.unseen(sure, 25.0)
    assert (short["joint"], short["start"], short["stop"]) == (JOINTS[4], 20, 30)
    assert (long["joint"], long["start"], long["stop"]) == (JOINTS[5], 50, 90)
    assert 0 < short["severity"] < 0.5 < long["severity"] < 1
    assert detect_problems.unseen(None, 25.0) == []


def tremble(armature: bpy.types.Object) -> None:
    """Shake that is too faint for the engine to doubt it by itself."""
    noise = np.random.default_rng(0)
    for curve in curves(armature):
        if curve.data_path.endswith("rotation_quaternion"):
            for point in curve.keyframe_points:
                point.co.y += noise.normal(0, 0.004)
            curve.update()


def test_refine_jitter_changes_what_is_doubted_and_not_what_the_animator_vouches_for(imported):
    armature = of_the_arm(imported)
    tremble(armature)
    bpy.context.view_layer.objects.active = armature
    bpy.ops.object.mode_set(mode="POSE")
    select(armature)

    def moved_by_refine() -> np.ndarray:
        """(40,) metres by which the left wrist moves."""
        source, slot = armature.animation_data.action, compat.assigned_slot(armature)
        before = np.array([heads_at(armature, f)[INDEX["left_wrist"]] for f in range(1, FRAMES + 1)])
        assert bpy.ops.mmdm.refine_jitter(lock_feet=False) == {"FINISHED"}
        after = np.array([heads_at(armature, f)[INDEX["left_wrist"]] for f in range(1, FRAMES + 1)])
        compat.assign(armature, source, slot)
        return np.linalg.norm(after - before, axis=-1)

    doubted = moved_by_refine()
    raise_confidence(armature)
    vouched = moved_by_refine()
    unseen = slice(UNSEEN.start + 3, UNSEEN.stop - 3)  # doubt comes and goes softly
    seen = np.delete(doubted, range(UNSEEN.start - 3, UNSEEN.stop + 3))
    assert doubted[unseen].mean() > 1.5 * seen.mean()
    assert doubted[unseen].mean() > 0.003
    assert vouched.max() < 1e-4


def test_a_broken_confidence_key_is_no_obstacle(imported):
    armature = of_the_arm(imported)
    curve = curve_of(armature, "left_knee")
    curve.keyframe_points[5].co.y = float("nan")
    sure = confidence.read(armature, detect(armature), np.arange(1.0, FRAMES + 1))
    assert np.isfinite(sure).all()


# --- bad input ------------------------------------------------------------------------------------------------------


def copy(take: Path, folder: Path) -> Path:
    """The take in a folder of its own; its calibration."""
    for path in take.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder / "calibration.json"


def absent(calibration: Path) -> None:
    calibration.unlink()


def no_json(calibration: Path) -> None:
    calibration.write_text("hello")


def no_camera(calibration: Path) -> None:
    write_calibration(calibration, rig()[:1])


def not_a_number(calibration: Path) -> None:
    write_calibration(calibration, rig(), t=[float("nan")] * 3)


def no_image(calibration: Path) -> None:
    write_calibration(calibration, rig(), image_size=[0, 0])


def millimetres(calibration: Path) -> None:
    made = [Camera(c.name, c.matrix, c.rotation, c.translation * 1000, c.distortion, c.size) for c in rig()]
    write_calibration(calibration, made)


def no_detections(calibration: Path) -> None:
    for path in calibration.parent.glob("*.zip"):
        path.unlink()


def one_camera_without(calibration: Path) -> None:
    (calibration.parent / "camera2.zip").unlink()


def no_zip(calibration: Path) -> None:
    (calibration.parent / "camera2.zip").write_text("hello")


def out_of_step(calibration: Path) -> None:
    write_camera(calibration.parent / "camera1.zip", views(rig()[1])[:25])


def nobody(calibration: Path) -> None:
    for camera in rig():
        write_camera(calibration.parent / f"{camera.name}.zip", [[] for _ in range(FRAMES)])


def broken_detection(calibration: Path) -> None:
    frames = views(rig()[1])
    frames[7][0][3, 0] = np.nan
    write_camera(calibration.parent / "camera1.zip", frames)


def wrong_calibration(calibration: Path) -> None:
    made = rig()
    moved_away = made[2].translation + np.array([1.2, 0.5, 0])
    made[2] = Camera(made[2].name, made[2].matrix, made[2].rotation, moved_away, np.zeros(8), made[2].size)
    write_calibration(calibration, made)


BAD = {
    absent: ["There is no calibration at"],
    no_json: ["is not a calibration that can be read"],
    no_camera: ["at least two are needed"],
    not_a_number: ["The translation of camera camera0", "holds NaN"],
    no_image: ["The image size of camera camera0"],
    millimetres: ["give its unit as the scale, 0.001 for millimetres"],
    no_detections: ["has no detections of camera camera0"],
    one_camera_without: ["has no detections of camera camera2"],
    no_zip: ["is neither a folder nor a zip file"],
    out_of_step: ["cut all cameras to the same frames"],
    nobody: ["Nobody is seen by two cameras"],
    broken_detection: ["NaN"],
    wrong_calibration: ["camera2", "pixels"],
}


@pytest.mark.parametrize("spoil", BAD, ids=lambda f: f.__name__)
def test_bad_input_is_one_sentence_and_leaves_nothing_behind(take, tmp_path, spoil):
    calibration = copy(take, tmp_path)
    spoil(calibration)
    before, render = blocks(), bpy.context.scene.render
    told = refused(capture, *BAD[spoil], filepath=str(calibration), fps=FPS, set_scene=True)
    assert (told.count(". "), told.count("MotionError")) == (0, 0), told
    assert blocks() == before
    assert (render.fps, render.resolution_x, bpy.context.scene.frame_end) == (24, 1920, 250)


def test_no_file_and_no_folder_are_said(take, tmp_path):
    refused(capture, "No calibration is chosen")
    refused(capture, "There is no folder", filepath=str(take / "calibration.json"), detections=str(tmp_path / "none"))


def test_should_building_fail_nothing_is_left(take, monkeypatch):
    def fail(*_: object) -> None:
        raise RuntimeError("made up")

    monkeypatch.setattr(cameras, "build", fail)
    before = blocks()
    refused(capture, "unexpected problem", filepath=str(take / "calibration.json"), fps=FPS)
    assert blocks() == before


# --- as an operator -------------------------------------------------------------------------------------------------


class ImportSession(Session):
    """`Session` of this operator."""

    kind, name = MMDM_OT_import_capture, "import_capture"
    own = ("prepare", "receive", "subject", "title")

    def __init__(self, **options: object) -> None:
        super().__init__(**options)
        self.context.collection, self.context.object = bpy.context.collection, bpy.context.object


@pytest.fixture
def session(take):
    def start(**options: object) -> ImportSession:
        made = ImportSession(filepath=str(take / "calibration.json"), fps=FPS, **options)
        made.start()
        return made

    yield start
    jobs._running = None


def test_in_the_window_it_runs_beside_the_user_and_shows_progress(session):
    job = session()
    assert armatures() == []
    assert "Multi-view Capture" in bpy.context.window_manager.mmdm.text
    assert not capture.poll()
    assert job.tick("MOUSEMOVE", "NOTHING") == {"PASS_THROUGH"}
    assert job.run() == {"FINISHED"}
    assert len(armatures()) == 2
    assert job.reports[-1][0] == "INFO"
    assert "2 people in 40 frames" in job.reports[-1][1]
    assert not bpy.context.window_manager.mmdm.running


def test_escape_stops_it_within_a_second_and_nothing_is_left(session):
    before = blocks()
    job = session()
    started = time.monotonic()
    assert job.tick("ESC", "PRESS") == {"RUNNING_MODAL"}
    assert job.run() == {"CANCELLED"}
    assert time.monotonic() - started < 1.5  # the worker is killed after one, and the machine may be busy
    assert job.reports == [("INFO", "Cancelled; nothing was changed.")]
    assert blocks() == before


def test_the_file_browsers_answer_starts_the_same_job_and_is_no_undo_step_itself(monkeypatch):
    started: list[tuple] = []
    reports: list[tuple] = []
    values = {
        "filepath": "/a/calibration.json", "detections": "/b", "fps": 50.0, "scale": 0.001, "frame_start": 7,
        "people": 3, "clean": False, "cameras": False, "set_scene": True,
    }  # fmt: skip

    def start(*how: object, **options: object) -> None:
        started.append((how, options))
        if len(started) > 1:
            raise RuntimeError("Error: There is no calibration at /a.\n")

    members = {
        **values, "_chosen_by_hand": True, "_options": MMDM_OT_import_capture._options,
        "execute": MMDM_OT_import_capture.execute, "report": lambda _, kind, text: reports.append((*kind, text)),
    }  # fmt: skip
    operator = type("Operator", (), members)()
    ops = SimpleNamespace(mmdm=SimpleNamespace(import_capture=start))
    monkeypatch.setattr(import_capture, "bpy", SimpleNamespace(ops=ops))
    assert operator.execute(None) == {"CANCELLED"}  # nothing has been changed yet
    assert started == [(("INVOKE_DEFAULT", True), values)]
    assert operator.execute(None) == {"CANCELLED"}
    assert reports == [("ERROR", "There is no calibration at /a.")]


def test_cancelling_the_file_browser_is_no_error_and_nothing_of_another_take_comes_back():
    """Blender calls `cancel` of the operator that shows the browser, and remembers options unless told not to."""
    assert (
        type("Browsing", (), {"_chosen_by_hand": True, "cancel": MMDM_OT_import_capture.cancel})().cancel(None) is None
    )
    options = bpy.ops.mmdm.import_capture.get_rna_type().properties
    assert options["fps"].is_skip_save
    assert options["detections"].is_skip_save
    assert not options["scale"].is_skip_save


def test_every_option_of_the_side_panel_reaches_the_job():
    shown = {
        p.identifier for p in bpy.ops.mmdm.import_capture.get_rna_type().properties
        if p.identifier not in ("rna_type", "filter_glob")
    }  # fmt: skip
    operator = SimpleNamespace(**dict.fromkeys(shown))
    assert set(MMDM_OT_import_capture._options(operator)) == shown


def test_it_is_in_the_import_menu_and_is_one_undo_step(take):
    from mmdm_addon.ui import menus

    entries: list[str] = []

    class Layout:
        def operator(self, name: str, **_: object) -> None:
            entries.append(name)

    menus._draw_import(type("Menu", (), {"layout": Layout()}), bpy.context)
    assert "mmdm.import_capture" in entries
    bpy.context.preferences.edit.use_global_undo = True
    bpy.ops.ed.undo_push(message="before")
    assert capture("EXEC_DEFAULT", True, filepath=str(take / "calibration.json"), fps=FPS) == {"FINISHED"}
    assert len(bpy.data.armatures) == 2
    bpy.ops.ed.undo()
    assert blocks() | {"scenes": 0} == dict.fromkeys(blocks(), 0)


def test_without_an_engine_the_menu_says_why(monkeypatch):
    monkeypatch.setenv("MMDM_PYTHON", "/no/such/python")
    from mmdm_addon import runtime

    runtime.forget()
    assert not capture.poll()
    ensure_registered()
