"""Capture's parts, each alone: cameras, detections, triangulation, matching, sides, tracking, weights."""

import json
import zipfile
from dataclasses import replace

import numpy as np
import pytest

from mmdm_engine import MotionError
from mmdm_engine.capture import cameras, detections, matching, sides, synthetic, tracking, weights
from mmdm_engine.capture.body import points, reduce
from mmdm_engine.capture.detections import BODY_25, COCO_17, COCO_18
from mmdm_engine.capture.pipeline import cast
from mmdm_engine.capture.triangulation import miss, triangulate
from mmdm_engine.joint_sets import CAPTURE15

LENS = np.array([0.12, -0.05, 0.002, -0.001, 0.01, 0, 0, 0])


def rng(seed=0):
    return np.random.default_rng(seed)


def around(count, reach=1.0):
    """(count, 3) points where people's joints are."""
    return rng().uniform(-reach, reach, (count, 3)) + np.array([0, 1, 0])


def rig(count=5):
    return synthetic.ring(count, rng(3))


def body(seed=0):
    """(25, 3) some upright figure, 1.7 m, at a place of its own."""
    draw = rng(seed)
    height = {"ankle": 0.1, "toe": 0.02, "heel": 0.03, "knee": 0.5, "hip": 0.95, "wrist": 0.9, "elbow": 1.15}
    tall = {"shoulder": 1.4, "neck": 1.42, "nose": 1.6, "eye": 1.64, "ear": 1.62}
    out = np.zeros((25, 3))
    for i, name in enumerate(BODY_25):
        side = 0.18 if "left" in name else -0.18 if "right" in name else 0.0
        out[i] = side, next(h for key, h in {**height, **tall}.items() if key in name), 0.05 * draw.standard_normal()
    return out + draw.uniform(-1, 1, 3) * np.array([1, 0, 1])


def seen_by(rig_, poses, confidence=0.8):
    """(C, …, 25, 3) what cameras detect of poses (…, 25, 3)."""
    pixels = np.stack([c.project(poses) for c in rig_])
    return np.concatenate([pixels, np.full((*pixels.shape[:-1], 1), confidence)], axis=-1)


# --- cameras --------------------------------------------------------------------------------------------------------


def test_undistortion_is_the_inverse_of_the_lens():
    camera = replace(rig()[0], distortion=LENS)
    spots = around(200, 0.8)
    assert np.abs(camera.undistort(camera.project(spots)) - camera.see(spots)[0]).max() < 1e-7
    assert np.abs(camera.project(spots) - replace(camera, distortion=np.zeros(8)).project(spots)).max() > 0.5


def test_rays_lead_from_the_camera_to_the_point():
    for camera in rig():
        spots = around(50)
        rays = camera.rays(camera.undistort(camera.project(spots)))
        assert miss(spots, camera.centre, rays).max() < 1e-9
        assert (np.sum((spots - camera.centre) * rays, axis=-1) > 0).all()


def rotation_vector(matrix):
    from scipy.spatial.transform import Rotation

    return Rotation.from_matrix(matrix).as_rotvec()


def yml(name, array):
    array = np.atleast_2d(array)
    data = ", ".join(f"{x:.17g}" for x in array.ravel())
    rows, columns = array.shape
    return f"{name}: !!opencv-matrix\n   rows: {rows}\n   cols: {columns}\n   dt: d\n   data: [ {data} ]\n"


def write_forms(folder, some):
    """The same cameras as JSON, OpenCV yml and Pose2Sim toml."""
    values = {
        c.name: {"K": c.matrix.tolist(), "R": c.rotation.tolist(), "t": c.translation.tolist(),
                 "distortion": c.distortion.tolist(), "image_size": c.size} for c in some
    }  # fmt: skip
    (folder / "rig.json").write_text(json.dumps({"cameras": values}))
    names = "%YAML:1.0\n---\nnames:\n" + "".join(f'  - "{c.name}"\n' for c in some)
    intri, extri = names, names
    for c in some:
        intri += yml(f"K_{c.name}", c.matrix) + yml(f"dist_{c.name}", c.distortion[:5])
        extri += yml(f"R_{c.name}", rotation_vector(c.rotation)[:, None]) + yml(f"Rot_{c.name}", c.rotation)
        extri += yml(f"T_{c.name}", c.translation[:, None])
    (folder / "intri.yml").write_text(intri)
    (folder / "extri.yml").write_text(extri)
    toml = "".join(
        f'[{c.name}]\nname = "{c.name}"\nsize = [{c.size[0]}.0, {c.size[1]}.0]\nmatrix = {c.matrix.tolist()}\n'
        f"distortions = {c.distortion[:4].tolist()}\nrotation = {rotation_vector(c.rotation).tolist()}\n"
        f"translation = {c.translation.tolist()}\nfisheye = false\n\n"
        for c in some
    )
    (folder / "rig.toml").write_text(toml + "[metadata]\nadjusted = false\n")
    return [folder / "rig.json", folder, folder / "extri.yml", folder / "rig.toml"]


def test_every_form_of_calibration_says_the_same(tmp_path):
    some = [replace(c, distortion=np.array([0.1, -0.02, 1e-3, 2e-3, 0, 0, 0, 0])) for c in rig(3)]
    spots = around(20)
    for path in write_forms(tmp_path, some):
        for a, b in zip(some, cameras.load(path, up="y"), strict=True):
            assert a.name == b.name
            assert np.abs(a.project(spots) - b.project(spots)).max() < 1e-6


@pytest.mark.parametrize("up", ["x", "y", "z", "-x", "-y", "-z"])
def test_any_axis_may_be_up_and_is_found(up):
    axis, sign = "xyz".index(up[-1]), -1.0 if "-" in up else 1.0
    to_y = cameras._to_y(axis, sign)
    assert np.allclose(to_y @ (sign * np.eye(3)[axis]), [0, 1, 0])
    assert np.linalg.det(to_y) == pytest.approx(1)
    lying = [replace(c, rotation=c.rotation @ to_y) for c in rig()]
    for mode in (up, "auto"):
        for a, b in zip(rig(), cameras.upright(lying, mode), strict=True):
            assert np.allclose(a.centre, b.centre)


def test_unusable_calibrations_get_a_sentence(tmp_path):
    good = {"K": np.eye(3).tolist(), "R": np.eye(3).tolist(), "t": [0, 0, 4]}
    far = {**good, "t": [4000, 0, 0]}

    def tell(values, match, name="rig.json", **options):
        path = tmp_path / name
        path.write_text(values if isinstance(values, str) else json.dumps({"cameras": values}))
        with pytest.raises(MotionError, match=match) as error:
            cameras.load(path, **options)
        assert str(error.value).count("\n") == 0

    tell({"a": good}, "at least two")
    tell({"a": good, "b": {**good, "R": (2 * np.eye(3)).tolist()}}, "not a rotation")
    tell({"a": good, "b": {**good, "R": np.diag([1, 1, -1]).tolist()}}, "not a rotation")
    tell({"a": good, "b": {**good, "t": [0, float("nan"), 0]}}, "NaN")
    tell({"a": good, "b": {**good, "K": np.zeros((3, 3)).tolist()}}, "focal length")
    tell({"a": good, "b": {**good, "t": [0, 0]}}, "three numbers")
    tell({"a": good, "b": {"K": 1}}, "not a calibration")
    tell({"a": good, "b": far}, "0.001 for millimetres")
    tell({"a": good, "b": good}, "0 m apart")
    tell({"a": good, "b": far}, "positive number", scale=0)
    tell({"a": good, "b": {**good, "t": [4, 0, 0]}}, "vertical axis", up="w")
    tell("{", "not a calibration")
    tell("[a]\nmatrix = 1", "not a calibration", name="rig.toml")
    tell("[a]\nmatrix = 1\nfisheye = true", "fisheye", name="rig.toml")
    tell("K_a: !!opencv-matrix\n rows: 3\n cols: 3\n dt: d\n data: [1,0,0,0,1,0,0,0,1]", "where camera a", name="b.yml")
    (tmp_path / "intri.yml").write_text("")
    with pytest.raises(MotionError, match=r"extri\.yml, which is missing"):
        cameras.load(tmp_path)
    with pytest.raises(MotionError, match="no calibration at"):
        cameras.load(tmp_path / "nothing.json")


# --- detections -----------------------------------------------------------------------------------------------------


def write_detections(folder, found, first=0, as_zip=()):
    """OpenPose files of detections (C, T, P, 25, 3)."""
    folder.mkdir(exist_ok=True)
    for c, camera in enumerate(found):
        texts = {
            f"take_{first + t:012d}_keypoints.json": json.dumps(
                {"version": 1.3, "people": [{"pose_keypoints_2d": p.ravel().tolist()} for p in frame if p[:, 2].any()]}
            )
            for t, frame in enumerate(camera)
        }
        if c in as_zip:
            with zipfile.ZipFile(folder / f"camera{c}.zip", "w") as archive:
                for name, text in texts.items():
                    archive.writestr(f"json/{name}", text)
        else:
            (folder / f"camera{c}").mkdir(exist_ok=True)
            for name, text in texts.items():
                (folder / f"camera{c}" / name).write_text(text)
    return folder


def test_folders_and_zips_are_read_by_frame_number(tmp_path):
    found = np.zeros((2, 7, 2, 25, 3))
    found[..., 0, :, :] = rng().uniform(1, 700, (2, 7, 25, 3)).round(3)
    found[1, 3:, 1] = 5
    take = detections.find(write_detections(tmp_path / "d", found, first=40, as_zip=[1]), ["camera0", "camera1"])
    assert take.frames.tolist() == list(range(40, 47))
    assert take.notes == ()
    assert np.allclose(take.read(0, 7), found)
    assert np.allclose(take.read(2, 4), found[:, 2:4])


def test_detections_beside_a_calibration_are_found_where_there_is_one_folder_that_can_be_meant(tmp_path):
    names, calibration = ["camera0", "camera1"], tmp_path / "rig.json"
    calibration.write_text("{}")
    assert detections.beside(calibration, names) == tmp_path, "where else should it say that they are missing"
    found = np.ones((2, 3, 1, 25, 3))
    write_detections(tmp_path / "openpose", found, as_zip=[1])
    write_detections(tmp_path / "half", found[:1])
    assert detections.beside(calibration, names) == tmp_path / "openpose"
    assert detections.beside(tmp_path, names) == tmp_path / "openpose", "a calibration may be a folder"
    write_detections(tmp_path / "other", found)
    assert detections.beside(calibration, names) == tmp_path, "two are one too many"
    write_detections(tmp_path, found)
    assert detections.beside(calibration, names) == tmp_path


def test_cameras_without_matching_names_are_taken_in_order(tmp_path):
    folder = write_detections(tmp_path / "d", np.ones((2, 3, 1, 25, 3)))
    assert len(detections.find(folder, ["left", "right"]).cameras) == 2
    with pytest.raises(MotionError, match="no detections of camera b"):
        detections.find(folder, ["camera0", "b"])
    with pytest.raises(MotionError, match="There is no folder"):
        detections.find(tmp_path / "none", ["a"])


@pytest.mark.parametrize("order", [BODY_25, COCO_18, COCO_17])
def test_joint_orders_are_told_by_their_length(tmp_path, order):
    person = np.array([[BODY_25.index(n), 2 * BODY_25.index(n) + 1, 0.5] for n in order], float)
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "frame_000007.json").write_text(
        json.dumps({"people": [{"pose_keypoints_2d": person.ravel().tolist()}]})
    )
    (out,) = detections.CameraFiles(tmp_path / "a").people(7)
    for name in order:
        assert out[BODY_25.index(name)].tolist() == [BODY_25.index(name), 2 * BODY_25.index(name) + 1, 0.5]
    hips = out[[BODY_25.index("left_hip"), BODY_25.index("right_hip")], :2].mean(axis=0)
    assert order == BODY_25 or np.allclose(out[BODY_25.index("mid_hip"), :2], hips)
    assert (out[BODY_25.index("left_heel"), 2] > 0) == (order == BODY_25)
    assert out[BODY_25.index("neck"), 2] > 0


def test_a_few_missing_frames_are_borne_and_told_and_more_are_not(tmp_path):
    folder = write_detections(tmp_path / "d", np.full((2, 40, 1, 25, 3), 0.5))
    files = sorted((folder / "camera1").iterdir())
    files[5].unlink()
    take = detections.find(folder, ["camera0", "camera1"])
    assert "camera1 lacks 1 of 40 frames" in take.notes[0]
    read = take.read(0, 40)
    assert not read[1, 5].any()
    assert read[1, 6].any()
    for path in files[20:]:
        path.unlink()
    with pytest.raises(MotionError, match="cut all cameras to the same frames"):
        detections.find(folder, ["camera0", "camera1"])


def test_unreadable_detections_get_a_sentence(tmp_path):
    folder = tmp_path / "a"
    folder.mkdir()
    with pytest.raises(MotionError, match="holds no files"):
        detections.CameraFiles(folder)
    with pytest.raises(MotionError, match="neither a folder nor a zip"):
        detections.CameraFiles(tmp_path / "b.zip")
    for text, match in (
        ("{", "not OpenPose JSON"),
        ('{"people": [{}]}', "not OpenPose JSON"),
        ('{"people": [{"pose_keypoints_2d": [1, 2]}]}', "2 numbers"),
        (json.dumps({"people": [{"pose_keypoints_2d": [float("nan")] * 75}]}), "NaN"),
    ):
        (folder / "frame_1.json").write_text(text)
        with pytest.raises(MotionError, match=match):
            detections.CameraFiles(folder).people(1)


# --- triangulation --------------------------------------------------------------------------------------------------


def rays_to(rig_, spots, confidence=0.8):
    detected = np.concatenate(
        [np.stack([c.project(spots) for c in rig_]), np.full((len(rig_), *spots.shape[:-1], 1), confidence)], axis=-1
    )
    return cast(rig_, detected)


def test_rays_that_meet_give_the_point():
    spots = around(100)
    joints = triangulate(rays_to(rig(), spots))
    assert np.abs(joints.positions - spots).max() < 1e-9
    assert joints.used.all()
    assert joints.error.max() < 0.03


def test_outlying_views_are_found_and_have_no_influence():
    spots = around(200)
    rays = rays_to(rig(), spots)
    wrong = rng(1).integers(0, 5, 200), np.arange(200)
    rays.directions[wrong] = rays_to(rig(), spots + np.array([0.5, 0.6, -0.4])).directions[wrong]
    off = miss(spots, rays.centres[wrong[0]], rays.directions[wrong])
    far = off > 0.2  # some still pass the joint
    joints = triangulate(rays)
    assert far.sum() > 150
    assert np.abs(joints.positions - spots)[far].max() < 1e-9
    assert not joints.used[wrong][far].any()
    assert (joints.used.sum(axis=0)[far] == 4).all()


def test_unseen_joints_are_nan_and_fewer_rays_mean_more_error():
    spots = around(20)
    rays = rays_to(rig(), spots)
    rays.confidence[1:, :5] = 0
    rays.confidence[:, 5] = 0
    rays.confidence[2:, 6:12] = 0
    joints = triangulate(rays)
    assert np.isnan(joints.positions[:6]).all()
    assert np.isinf(joints.error[:6]).all()
    assert not joints.used[:, :6].any()
    assert joints.error[6:12].min() > joints.error[12:].max()


@pytest.mark.parametrize("noise", [0.02, 0.035])
@pytest.mark.parametrize("count", [3, 6])
def test_expected_error_is_about_the_true_one(noise, count):
    some = rig(count)
    spots = around(2000, 0.8)
    pixels = [c.project(spots + noise * rng(i).standard_normal(spots.shape)) for i, c in enumerate(some)]
    detected = np.concatenate([pixels, np.full((count, 2000, 1), 0.8)], axis=-1)
    joints = triangulate(cast(some, detected))
    off = np.linalg.norm(joints.positions - spots, axis=-1)
    assert 0.6 < np.nanmedian(off) / np.median(joints.error) < 1.4


def test_an_expected_place_decides_between_two_pairs_of_rays():
    some = rig(4)
    a, b = np.array([[0.3, 1.0, 0.2]]), np.array([[-0.8, 1.7, -0.6]])
    rays = rays_to(some, a)
    rays.directions[2:] = rays_to(some, b).directions[2:]
    for spot in (a, b):
        assert np.allclose(triangulate(rays, near=spot).positions, spot)


# --- matching -------------------------------------------------------------------------------------------------------


def crowd(count=4):
    some = rig()
    poses = np.stack([body(k) for k in range(count)])
    detected = seen_by(some, poses)
    order = [rng(c).permutation(count) for c in range(5)]
    return some, poses, np.stack([d[o] for d, o in zip(detected, order, strict=True)]), order


def test_detections_of_one_person_are_put_together():
    some, _, detected, order = crowd()
    groups = matching.match(matching.epipolar(cast(some, detected)), np.ones((5, 4), bool))
    assert len(groups) == 4
    for group in groups:
        assert len({int(order[c][p]) for c, p in group.items()}) == 1
        assert len(group) == 5


def test_whoever_only_one_camera_sees_is_nobody():
    some, _, detected, _ = crowd()
    ghost = np.zeros((5, 1, 25, 3))
    ghost[2, 0] = seen_by(some, body(9) + np.array([0.6, 0, 0.7]))[2]
    everybody = np.concatenate([detected, ghost], axis=1)
    present = everybody[..., 2].any(axis=-1)
    groups = matching.match(matching.epipolar(cast(some, everybody)), present)
    assert sorted(map(len, groups)) == [5, 5, 5, 5]
    assert all(group.get(2) != 4 for group in groups)


def test_hidden_hips_leave_the_other_joints_to_tell():
    some, _, detected, order = crowd()
    detected[:, :, BODY_25.index("mid_hip")] = 0
    groups = matching.match(matching.epipolar(cast(some, detected)), np.ones((5, 4), bool))
    assert all(len({int(order[c][p]) for c, p in g.items()}) == 1 for g in groups)


def test_detections_are_attached_to_known_people():
    some, poses, detected, order = crowd()
    detected[3, 1] = 0
    attached = matching.attach((poses + 0.03)[:, None], cast(some, detected[:, None]))[0][..., 0]
    for camera in range(5):
        for person in range(4):
            place = int(np.flatnonzero(order[camera] == person)[0])
            assert attached[person, camera] == (-1 if (camera, place) == (3, 1) else place)


def test_swapped_sides_are_put_back():
    some = rig()
    pose = body()
    detected = seen_by(some, pose[None])
    arms = {s: [BODY_25.index(f"{s}_{j}") for j in ("shoulder", "elbow", "wrist")] for s in ("left", "right")}
    right = cast(some, detected)
    detected[1, 0, arms["left"] + arms["right"]] = detected[1, 0, arms["right"] + arms["left"]]
    wrong = cast(some, detected)
    assert not np.allclose(wrong.directions, right.directions)
    assert np.allclose(sides.unswapped(pose[None], wrong).directions, right.directions)
    assert np.allclose(sides.unswapped(pose[None], right).directions, right.directions)
    nothing = sides.unswapped(np.full((1, 25, 3), np.nan), wrong)
    assert np.allclose(nothing.directions, wrong.directions)


# --- tracking -------------------------------------------------------------------------------------------------------


def test_people_keep_their_numbers_through_occlusion_and_lists_in_any_order():
    tracker = tracking.Tracker(25)
    paths = np.stack([body(k) for k in range(3)])
    seen = []
    for frame in range(50):
        paths = paths + np.array([[[0.02, 0, 0]], [[-0.01, 0, 0.01]], [[0, 0, 0]]])
        here = [k for k in rng(frame).permutation(3) if not (k == 1 and 15 <= frame < 30)]
        for k, track in zip(here, tracker.step(frame, paths[here]), strict=True):
            seen.append((k, track.number))
    assert len(set(seen)) == 3


def test_who_leaves_for_long_comes_back_as_somebody_else():
    tracker = tracking.Tracker(25)
    (first,) = tracker.step(0, body()[None])
    assert tracker.step(1, np.zeros((0, 25, 3))) == []
    (soon,) = tracker.step(20, body()[None])
    (later,) = tracker.step(20 + int(25 * tracking.PATIENCE) + 1, body()[None])
    assert first is soon is not later


def test_a_ghost_takes_nobodys_pose():
    """Somebody known for long steps next to where a ghost was seen once, and another ghost stands where he was."""
    tracker = tracking.Tracker(25)
    for frame in range(20):
        (known,) = tracker.step(frame, body()[None])
    ghost = tracker.step(20, np.stack([body(), body() + np.array([0.35, 0, 0])]))[1]
    now = tracker.step(21, np.stack([body() + np.array([0.1, 0, 0]), body() + np.array([-0.25, 0, 0])]))
    assert now[0] is known
    assert now[1] not in (known, ghost)


def test_half_a_pose_is_enough_and_does_not_wipe_the_rest():
    tracker = tracking.Tracker(25)
    tracker.step(0, body()[None])
    half = body() + np.array([0.1, 0, 0])
    half[8:] = np.nan
    (track,) = tracker.step(1, half[None])
    assert track.seen == [0, 1]
    assert np.allclose(track.pose, body() + np.array([0.1, 0, 0]))


# --- weights --------------------------------------------------------------------------------------------------------


def walking(frames=50):
    path = np.repeat(points(body())[None], frames, axis=0)
    path[..., 0] += 0.03 * np.arange(frames)[:, None]
    return path


def test_weights_follow_eq_9_and_rise_with_doubt():
    path, confidence = walking(), np.full((50, 15, 4), 0.8)
    error = np.full((50, 15), 0.02)
    plain = weights.adaptive(path, error, confidence, 25)
    assert np.allclose(plain, np.exp(-3.2) + 0.2, atol=1e-6)
    confidence[10, 3] = [0.8, 0, 0, 0]
    error[11, 3] = 0.2
    path[12, CAPTURE15.names.index("left_wrist")] += [0, 0.3, 0]
    path[13, 3] = np.nan
    spoiled = weights.adaptive(path, error, confidence, 25)
    assert spoiled[10, 3] == pytest.approx(np.exp(-0.8) + 0.2)
    assert spoiled[11, 3] == pytest.approx(np.exp(-3.2) + 2.0)
    wrist, elbow = CAPTURE15.names.index("left_wrist"), CAPTURE15.names.index("left_elbow")
    assert spoiled[12, wrist] > 2 * weights.LIMIT
    assert spoiled[12, elbow] == pytest.approx(plain[12, elbow])
    assert np.isposinf(spoiled[13, 3])


def test_steady_movement_is_no_leap():
    assert weights.leap(walking(), 25).max() < 1e-9
    assert weights.leap(walking(3), 25).max() == 0


def test_holes_are_filled_in_a_straight_line():
    path = walking()
    holed = path.copy()
    holed[10:20, 4] = np.nan
    holed[:3, 5] = np.nan
    holed[:, 6] = np.nan
    filled = weights.filled_in_time(holed)
    assert np.allclose(filled[:, 4], path[:, 4])
    assert np.allclose(filled[:3, 5], path[3, 5])
    assert np.isnan(filled[:, 6]).all()


def test_fifteen_points_come_from_25_joints():
    some = rig()
    pose = body()
    rays = cast(some, seen_by(some, pose))
    rays.confidence[0, BODY_25.index("left_ear")] = 0
    found = reduce(triangulate(rays), rays.confidence)
    assert np.allclose(found.positions, points(pose))
    head, wrist = CAPTURE15.names.index("head"), CAPTURE15.names.index("left_wrist")
    ears = pose[[BODY_25.index("left_ear"), BODY_25.index("right_ear")]]
    assert np.allclose(found.positions[head], ears.mean(axis=0))
    assert np.allclose(found.positions[wrist], pose[BODY_25.index("left_wrist")])
    assert found.confidence[head].tolist() == pytest.approx([0.4, 0.8, 0.8, 0.8, 0.8])
