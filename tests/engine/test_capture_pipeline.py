"""Capture as a whole, on made-up scenes of CMU validation clips: the error through every stage, and bad input."""

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from test_capture import write_detections, write_forms

from benchmarks import capture as benchmark
from benchmarks import shelf
from mmdm_engine import MotionError, bvh, cli, kinematics
from mmdm_engine.capture import bones, clean, files, pipeline, synthetic
from mmdm_engine.capture.accuracy import accuracy
from mmdm_engine.capture.body import Points, points
from mmdm_engine.capture.clean import FILTER, Priors
from mmdm_engine.capture.synthetic import CLEAN, SceneRecording, Trouble
from mmdm_engine.contract import JOINTS, PARENTS, protocol
from mmdm_engine.contract.protocol import Message
from mmdm_engine.joint_sets import CAPTURE15
from mmdm_engine.model.config import DecoderConfig, KAAConfig, MaskedConfig
from mmdm_engine.priors.masked import PositionsNetwork
from mmdm_engine.worker import METHODS

FRAMES = 100


@pytest.fixture(scope="session")
def pack(data):
    from mmdm_engine.pack import Pack

    return Pack.load(data("cmu/val.npz"))


@pytest.fixture(scope="session")
def scenes(pack):
    return [
        synthetic.scene(pack, people_count=count, cameras=cameras, frames=FRAMES, seed=seed)
        for seed, (count, cameras) in enumerate([(4, 4), (3, 5), (2, 8)])
    ]


@pytest.fixture(scope="session")
def found(scenes):
    return [pipeline.people(s.cameras, SceneRecording(s), s.fps) for s in scenes]


@pytest.fixture(scope="session")
def spoilt(pack):
    """A small scene for input that goes wrong."""
    return synthetic.scene(
        pack, people_count=2, cameras=4, frames=60, trouble=Trouble(0.01, ghosts=0.0, boards=0), seed=5
    )


def stages(scene, people):
    """Accuracy captured, completed, refined."""
    whole = [clean.clean(first, p, scene.fps, Priors(refinement=None)) for first, p in people]
    final = [clean.clean(first, p, scene.fps, Priors()) for first, p in people]
    return (
        accuracy([(first, p.positions) for first, p in people], scene),
        accuracy([(p.first, p.positions) for p in whole], scene),
        accuracy([(p.first, p.positions) for p in final], scene),
    )


def test_every_stage_makes_it_better(scenes, found):
    for scene, (people, pixels) in zip(scenes, found, strict=True):
        captured, completed, refined = stages(scene, people)
        assert len(people) == len(scene.truth)
        assert captured.ghosts < 5
        assert captured.switches == 0
        assert captured.pcp > 90
        assert completed.pcp > 99
        assert completed.pcp >= captured.pcp
        assert captured.missing > completed.missing == 0
        assert completed.gross <= captured.gross + 0.1
        assert refined.pcp > 99
        assert refined.mpjpe_mm < 0.9 * completed.mpjpe_mm < 30
        assert refined.accel_mm < 0.3 * completed.accel_mm
        assert max(pixels) < 8


def test_perfect_detections_give_the_truth(pack):
    scene = synthetic.scene(pack, people_count=2, cameras=4, frames=50, trouble=CLEAN, seed=3)
    people, pixels = pipeline.people(scene.cameras, SceneRecording(scene), scene.fps)
    figures = accuracy([(first, p.positions) for first, p in people], scene)
    assert figures.mpjpe_mm < 0.1
    assert max(pixels) < 0.01


def test_a_long_take_in_chunks_is_the_same_take(scenes, found):
    scene, (whole, _) = scenes[0], found[0]
    told = []
    pieces, _ = pipeline.people(
        scene.cameras, SceneRecording(scene), scene.fps, chunk=30, progress=lambda *x: told.append(x)
    )
    assert told == sorted(told)
    assert {(30, FRAMES), (60, FRAMES), (90, FRAMES), (100, FRAMES)} < set(told)
    assert max(b - a for (a, _), (b, _) in pairwise(told)) <= 12, "a capture must not run on for long when cancelled"
    assert [first for first, _ in pieces] == [first for first, _ in whole]
    assert abs(
        accuracy([(f, p.positions) for f, p in pieces], scene).pcp
        - accuracy([(f, p.positions) for f, p in whole], scene).pcp
    ) < 1.0  # fmt: skip
    for (_, a), (_, b) in zip(whole, pieces, strict=True):
        off = np.linalg.norm(a.positions - b.positions, axis=-1)
        assert np.nanmedian(off) == 0
        assert np.nanquantile(off, 0.95) < 0.02


def test_who_is_hidden_for_a_second_is_one_person_without_holes(spoilt):
    gone = spoilt.detections.copy()
    gone[:, 20:45] = 0
    scene = replace(spoilt, detections=gone)
    capture = pipeline.capture(scene.cameras, SceneRecording(scene), 25.0)
    assert len(capture.people) == 2
    for person in capture.people:
        assert len(person) == 60
        assert np.isfinite(person.positions).all()
        assert not person.visible[20:45].any()
        assert (person.confidence[20:45] == 0).all()
        assert person.confidence[:20].mean() > 0.4


def test_frame_rate_and_people_may_be_anything(pack):
    for fps, count in ((50.0, 1), (12.0, 6)):
        scene = synthetic.scene(pack, people_count=count, cameras=6, frames=40, fps=fps, seed=2)
        people, _ = pipeline.people(scene.cameras, SceneRecording(scene), fps)
        assert accuracy([(f, p.positions) for f, p in people], scene).pcp > 85


# --- priors ---------------------------------------------------------------------------------------------------------


def small_network():
    return PositionsNetwork(
        MaskedConfig(
            KAAConfig(
                rounds=1, joint_dim=16, pose_dim=16, heads=1, head_dim=16, time_heads=1, time_head_dim=16, ffn=16,
                time_ffn=16,
            ),
            DecoderConfig(dim=16, depth=1, heads=1, head_dim=16, ffn=16),
            joint_set=CAPTURE15, window=8, residual=True, scope="window",
        )
    ).eval()  # fmt: skip


def test_a_prior_fills_what_is_hidden_and_leaves_the_rest(scenes, found):
    first, person = found[0][0][0]
    result = clean.clean(first, person, 25.0, Priors(small_network(), None, steps=2, device="cpu"))
    plain = clean.clean(first, person, 25.0, Priors(None, None))
    assert np.array_equal(result.visible, plain.visible)
    assert 0 < (~result.visible).sum() < 0.3 * result.visible.size
    assert np.array_equal(result.positions[result.visible], plain.positions[plain.visible])
    assert np.array_equal(result.positions[result.visible], person.positions.astype(np.float32)[result.visible])
    assert np.isfinite(result.positions).all()
    refined = clean.clean(first, person, 25.0, Priors(None, small_network(), steps=2, device="cpu"))
    assert refined.positions.shape == plain.positions.shape
    assert not np.array_equal(refined.positions, plain.positions)


def test_before_training_a_residual_prior_interpolates(scenes, found):
    first, person = found[0][0][0]
    result = clean.clean(first, person, 25.0, Priors(small_network(), None, steps=2, device="cpu"))
    plain = clean.clean(first, person, 25.0, Priors(None, None))
    off = np.linalg.norm(result.positions - plain.positions, axis=-1)
    inside = np.array([v[:8].any() and v[-8:].any() for v in result.visible.T])
    assert np.median(off[:, inside][~result.visible[:, inside]]) < 0.02


def test_training_hides_spells_as_capture_does():
    import torch

    from mmdm_engine.training.positions import Drill, hide

    generator = torch.Generator().manual_seed(0)
    truth = torch.randn((200, 1, 15, 3), generator=generator).expand(-1, 16, -1, -1) * 0.4
    hidden = ~hide(truth, truth, Drill(pattern="limit"), generator)
    assert 0.05 < hidden.float().mean() < 0.5
    lasting = (hidden[:, 1:] & hidden[:, :-1]).float().mean() / hidden.float().mean()
    assert lasting > 1.5 * hidden.float().mean()


def test_joints_that_no_detector_shows_lie_on_the_next_one():
    """COCO has no toes."""
    path = np.random.default_rng(0).standard_normal((20, 15, 3))
    toes = [CAPTURE15.names.index(f"{side}_toes") for side in ("left", "right")]
    ankles = [CAPTURE15.names.index(f"{side}_ankle") for side in ("left", "right")]
    path[:, toes] = np.nan
    nothing = Points(path, np.where(np.isnan(path[..., 0]), np.inf, 0.001), np.full((20, 15, 4), 5.0))
    person = clean.clean(0, nothing, 25.0, Priors(refinement=None))
    assert np.isfinite(person.positions).all()
    assert np.allclose(person.positions[:, toes], person.positions[:, ankles], atol=1e-5)
    assert not person.visible[:, toes].any()


def test_a_filter_refines_every_joint_alone():
    path = np.random.default_rng(0).standard_normal((60, 15, 3))
    out = clean.refined(path, 25.0, Priors())
    assert np.allclose(out[:, 4], FILTER.apply_root(path[:, 4], 25.0))


# --- bones ----------------------------------------------------------------------------------------------------------


def test_bones_keep_their_length_and_lie_on_the_joints(scenes, found):
    scene, (people, _) = scenes[1], found[1]
    for first, p in people:
        person = clean.clean(first, p, scene.fps, Priors())
        motion = bones.armature(person, scene.fps)
        placed = kinematics.positions(
            *(x.astype(float) for x in (motion.rotations, motion.root, motion.skeleton.offsets))
        )
        limbs = [
            (j, name) for j, name in ((4, "left_knee"), (5, "right_knee"), (18, "left_elbow"), (21, "right_wrist"))
        ]
        for joint, name in limbs:
            off = np.linalg.norm(placed[:, joint] - person.positions[:, CAPTURE15.names.index(name)], axis=-1)
            assert off.mean() < 0.05
        lengths = np.linalg.norm(motion.skeleton.offsets[1:], axis=-1)
        measured = np.linalg.norm(placed[:, 1:] - placed[:, list(PARENTS[1:])], axis=-1)
        assert np.abs(measured - lengths).max() < 1e-5
        assert lengths[3] == pytest.approx(lengths[4], rel=0.02), "thighs alike"
        assert 0.6 < motion.skeleton.leg_length < 1.1


def test_one_wrong_frame_does_not_change_the_bones(scenes, found):
    first, p = found[1][0][0]
    person = clean.clean(first, p, 25.0, Priors())
    wrong = person.positions.copy()
    wrong[40, CAPTURE15.names.index("left_wrist")] += 5
    a, b = (bones.armature(x, 25.0).skeleton.offsets for x in (person, replace(person, positions=wrong)))
    assert np.abs(np.linalg.norm(a, axis=-1) - np.linalg.norm(b, axis=-1)).max() < 0.003


# --- files and command line -----------------------------------------------------------------------------------------


@pytest.fixture
def on_disk(spoilt, tmp_path):
    """(calibration, detections) of a scene as files."""
    return write_forms(tmp_path, spoilt.cameras)[0], write_detections(
        tmp_path / "d", spoilt.detections, first=100, as_zip=[2]
    )


def test_the_command_writes_people_and_reads_them_again(on_disk, tmp_path, spoilt, capsys):
    calibration, folder = on_disk
    assert cli.main(["capture", str(calibration), str(folder), str(tmp_path / "out"), "--fps", "25", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [p["frames"] for p in told["people"]] == [60, 60]
    assert told["people"][0]["first_frame"] == 100
    capture = files.load(tmp_path / "out")
    assert accuracy([(p.first, p.positions) for p in capture.people], spoilt).pcp > 99
    assert capture.frames.tolist() == list(range(100, 160))
    again = files.save(capture, tmp_path / "again")
    again = json.loads(json.dumps(again))
    assert {k: told[k] for k in again} == again
    for camera, loaded in zip(spoilt.cameras, capture.cameras, strict=True):
        assert np.allclose(camera.project(spoilt.truth[0]), loaded.project(spoilt.truth[0]), atol=1e-3)
    motion = bvh.load(tmp_path / "out" / "person_1.bvh")
    assert len(motion) == 60
    assert motion.fps == 25
    assert cli.main(["capture", str(calibration), str(folder), str(tmp_path / "b"), "--fps", "25", "--no-bvh"]) == 0
    assert "2 people in 60 frames" in capsys.readouterr().out
    assert not list((tmp_path / "b").glob("*.bvh"))


def test_a_capture_that_cannot_be_read_gets_a_sentence(tmp_path):
    with pytest.raises(MotionError, match="missing"):
        files.load(tmp_path)
    (tmp_path / "capture.json").write_text('{"format": 99}')
    with pytest.raises(MotionError, match="format 99"):
        files.load(tmp_path)


def test_a_wrong_calibration_is_told_by_its_reprojection_error(spoilt):
    turn = np.array([[np.cos(0.15), 0, np.sin(0.15)], [0, 1, 0], [-np.sin(0.15), 0, np.cos(0.15)]])
    turned = replace(spoilt.cameras[2], rotation=turn @ spoilt.cameras[2].rotation)
    turned = replace(turned, translation=-turned.rotation @ spoilt.cameras[2].centre)
    wrong = [*spoilt.cameras[:2], turned, *spoilt.cameras[3:]]
    with pytest.raises(MotionError, match=r"Camera camera2 does not fit .* reprojection error of about \d+ pixels"):
        pipeline.people(wrong, SceneRecording(spoilt), 25.0)


def test_a_bone_is_as_sure_as_the_less_sure_of_its_ends(spoilt):
    capture = pipeline.capture(spoilt.cameras, SceneRecording(spoilt), 25.0)
    person = capture.people[0]
    hidden = person.visible.copy()
    hidden[10:20, CAPTURE15.names.index("left_elbow")] = False
    sure, before = (bones.confidence(replace(person, visible=v)) for v in (hidden, person.visible))
    assert sure.shape == (len(person), 22)
    assert sure.dtype == np.float32
    assert sure.min() >= 0
    assert sure.max() <= 1
    upper, lower = JOINTS.index("left_shoulder"), JOINTS.index("left_elbow")
    assert (sure[10:20, [upper, lower]] == 0).all()
    sure[10:20, [upper, lower]] = before[10:20, [upper, lower]]
    assert np.array_equal(sure, before), "and of all other bones nothing is less sure"


def test_the_worker_answers_with_what_blender_needs(spoilt, tmp_path):
    write_forms(tmp_path, spoilt.cameras)
    write_detections(tmp_path / "detections", spoilt.detections, first=100)
    told = []
    message = Message({"params": {"calibration": str(tmp_path / "rig.json"), "detections": "", "fps": 25.0}})
    about, arrays = METHODS["capture"](None, message, lambda *x: told.append(x))
    assert (told[0], told[-1]) == ((0, 60), (60, 60))
    assert (about["first_frame"], about["frames"], about["fps"]) == (100, 60, 25.0)
    json.dumps(about)
    for mine, theirs in zip(files.cameras_of(about), spoilt.cameras, strict=True):
        assert mine.name == theirs.name
        assert mine.size == theirs.size
        assert np.allclose(mine.rotation, theirs.rotation)
        assert np.allclose(mine.project(np.ones(3)), theirs.project(np.ones(3)))
    assert [p["name"] for p in about["people"]] == ["person_1", "person_2"]
    for person in about["people"]:
        own = {name: arrays[f"{person['name']}/{name}"] for name in ("rotations", "root", "offsets", "exists")}
        motion = protocol.motion_from(own, about["fps"])
        assert arrays[f"{person['name']}/confidence"].shape == (len(motion), 22) == (person["frames"], 22)
    message.header["params"].pop("fps")
    with pytest.raises(protocol.ProtocolError, match="frame rate"):
        METHODS["capture"](None, message, lambda *_: None)


def test_nobody_and_no_frame_rate_get_a_sentence(spoilt):
    empty = replace(spoilt, detections=np.zeros((4, 30, 0, 25, 3)))
    alone = replace(spoilt, detections=np.where(np.arange(4)[:, None, None, None, None] == 1, spoilt.detections, 0))
    for scene in (empty, alone):
        with pytest.raises(MotionError, match="Nobody is seen by two cameras"):
            pipeline.people(scene.cameras, SceneRecording(scene), 25.0)
    for fps in (0, float("nan"), -1):
        with pytest.raises(MotionError, match="frame rate"):
            pipeline.capture(spoilt.cameras, SceneRecording(spoilt), fps)


# --- made-up scenes -------------------------------------------------------------------------------------------------


def test_scenes_repeat_and_hide_what_stands_behind(scenes, pack):
    again = synthetic.scene(pack, people_count=4, cameras=4, frames=FRAMES, seed=0)
    assert np.array_equal(again.detections, scenes[0].detections)
    truth = np.zeros((2, 1, 25, 3)) + scenes[0].truth[0, 0]
    truth[1] += scenes[0].cameras[0].centre * [0.2, 0, 0.2]
    behind = synthetic._hidden(truth, scenes[0].cameras[0].centre)
    assert (behind[0] == 1).sum() > 5
    assert (behind[1] == 0).sum() == 0


def test_fifteen_points_of_a_scene_are_those_the_priors_were_trained_on(pack):
    """The head lies within 5 cm of where `CAPTURE15` puts it, toes within 3 cm."""
    motion = pack[0].slice(0, 50)
    joints = kinematics.positions(motion.rotations, motion.root, motion.skeleton.offsets)
    off = np.linalg.norm(points(synthetic.body25(motion)) - CAPTURE15.weights @ joints, axis=-1).mean(axis=0)
    assert off[:12].max() < 1e-5
    assert off[12] < 0.05
    assert off[13:].max() < 0.03


# --- the benchmark --------------------------------------------------------------------------------------------------


def test_refine_gains_by_the_captures_confidence(scenes, found):
    everybody = [(scene, people) for scene, (people, _) in zip(scenes, found, strict=True)]
    rows = benchmark.armatures(everybody, Priors())
    plain, blind, told = (rows[name] for name in ("armature", "refined", "refined, confidence told"))
    assert told["mpjpe_mm"] < min(plain["mpjpe_mm"], blind["mpjpe_mm"]) < 30
    assert told["accel_mm"] < 1.2 * plain["accel_mm"], "confidence flickers, its corrections do not"


def test_shelf_stands_at_its_bar(data, capsys, tmp_path, monkeypatch):
    folder = data("shelf/calibration.json").parent
    out = tmp_path / "poses.npz"
    monkeypatch.setattr("sys.argv", ["shelf.py", "--data", str(folder), "--json", "--out", str(out)])
    assert shelf.main() == 0
    told = json.loads(capsys.readouterr().out)
    reference = told["stages"]["published 3-D result of 4DAG"]["pcp"][:3]
    assert reference == pytest.approx([99.75, 91.35, 97.70], abs=0.01), "the scorer gives what is known of it"
    assert told["pcp_average"] >= 97.5
    assert told["pcp_average"] >= 1.0 + told["stages"]["captured"]["pcp_average"]
    with np.load(out) as poses:
        truth = shelf.Truth.load(folder / "ground_truth.npz")
        tracks = [shelf.Track(0, joints.astype(float)) for joints in poses["joints"]]
    assert shelf.score(tracks, truth)["pcp_average"] == pytest.approx(told["pcp_average"], abs=0.02)
