"""Problems put into real motion are found where they are, as what they are; the motion itself is left in peace."""

from __future__ import annotations

import json

import numpy as np
import pytest

import mmdm_engine as mmdm
from mmdm_engine import cli, kinematics
from mmdm_engine import rotations as rot
from mmdm_engine.contract import JOINTS, Motion, MotionError, Skeleton
from mmdm_engine.contract.protocol import Message
from mmdm_engine.contract.skeleton import INDEX
from mmdm_engine.evaluate import detection
from mmdm_engine.pack import Pack, resample
from mmdm_engine.quality import KINDS, Kind, Problem, Quality, detect
from mmdm_engine.worker import METHODS

WALK, DANCE, PUNCH, JUMP = "02_01", "05_02", "02_05", "02_04"


@pytest.fixture
def walk(pack_clip) -> Motion:
    return resample(pack_clip(WALK), 30.0)


def turned(motion: Motion, joint: str, frames: slice, turns: np.ndarray) -> Motion:
    """Rotation vectors in degrees on the right of one joint."""
    rotations = motion.rotations.copy()
    q = rotations[frames, INDEX[joint]].astype(np.float64)
    rotations[frames, INDEX[joint]] = rot.multiply(q, rot.exp(np.radians(np.broadcast_to(turns, (len(q), 3)))))
    return motion.with_frames(rot.continuous(rotations), motion.root)


def shifted(motion: Motion, shift: np.ndarray) -> Motion:
    return motion.with_frames(motion.rotations, motion.root + shift)


def of(quality: Quality, kind: str) -> list[tuple[str, int, int]]:
    return [(p.joint, p.start, p.stop) for p in quality.problems if p.kind == kind]


def new(quality: Quality, before: Quality) -> set[tuple[Kind, str]]:
    """(kind, joint) of problems of which the untouched motion has none."""
    return {(p.kind, p.joint) for p in quality.problems} - {(p.kind, p.joint) for p in before.problems}


@pytest.mark.parametrize("fps", [20.0, 24.0, 30.0, 60.0, 120.0])
@pytest.mark.parametrize("joint", ["left_elbow", "spine2", "neck"])
def test_a_pop_is_found_in_its_own_frames_at_any_rate(pack_clip, fps, joint):
    motion = resample(pack_clip(WALK), fps)
    start, length = len(motion) // 2, max(1, round(0.05 * fps))
    frames = slice(start, start + length)
    quality = detect(turned(motion, joint, frames, np.array([0, 25.0, 10.0])))
    assert (joint, frames.start, frames.stop) in of(quality, "pop")
    assert quality.confidence[frames, INDEX[joint]].max() == 0
    outside = np.delete(quality.confidence[:, INDEX[joint]], np.r_[frames])
    assert outside.mean() > 0.97


def test_a_larger_pop_is_more_severe(walk):
    small, large = (
        next(
            p
            for p in detect(turned(walk, "left_shoulder", slice(40, 41), np.array([a, 0, 0]))).problems
            if p.kind == "pop"
        )
        for a in (12.0, 40.0)
    )
    assert 0 < small.severity < large.severity < 1


@pytest.mark.parametrize("fps", [20.0, 30.0, 60.0, 120.0])
def test_jitter_of_an_arm_is_found_and_its_edges_with_it(pack_clip, fps):
    motion = resample(pack_clip(WALK), fps)
    frames = slice(round(0.8 * fps), round(1.8 * fps))
    turns = np.random.default_rng(0).normal(0, 4, (frames.stop - frames.start, 3))
    quality = detect(turned(motion, "left_elbow", frames, turns))
    found = [p for p in quality.problems if p.kind == "jitter" and p.joint == "left_elbow"]
    assert len(found) == 1
    near = round(0.25 * fps)
    assert abs(found[0].start - frames.start) <= near
    assert abs(found[0].stop - frames.stop) <= near
    assert quality.confidence[frames, INDEX["left_elbow"]].mean() < (0.35 if fps < 24 else 0.15)
    assert np.delete(quality.confidence, INDEX["left_elbow"], axis=1).mean() > 0.97


def test_noise_everywhere_leaves_no_trust_and_is_not_called_pops(pack_clip):
    dance = resample(pack_clip(DANCE), 30.0).slice(0, 120)
    random = np.random.default_rng(1)
    q = rot.multiply(dance.rotations.astype(np.float64), rot.exp(random.normal(0, np.radians(5), (120, 22, 3))))
    quality = detect(dance.with_frames(rot.continuous(q), dance.root + random.normal(0, 0.02, (120, 3))))
    assert quality.confidence[:, dance.skeleton.exists].max() == 0
    assert {p.kind for p in quality.problems} == {"jitter"}
    assert not quality.lost().any()


def test_jitter_of_the_root_is_the_pelvis_s(walk):
    random = np.random.default_rng(2)
    quality = detect(shifted(walk, random.normal(0, 0.02, (len(walk), 3))))
    assert "pelvis" in {joint for joint, _, _ in of(quality, "jitter")}
    assert quality.confidence[:, 0].mean() < 0.1


@pytest.mark.parametrize("fps", [24.0, 30.0, 60.0])
def test_a_frozen_limb_and_a_repeated_frame_are_found(pack_clip, fps):
    motion = resample(pack_clip(WALK), fps)
    rotations, root = motion.rotations.copy(), motion.root.copy()
    hip, start = INDEX["left_hip"], round(0.6 * fps)
    rotations[start : start + 5, hip] = rotations[start - 1, hip]
    again = round(1.6 * fps)
    rotations[again], root[again] = rotations[again - 1], root[again - 1]
    quality = detect(motion.with_frames(rotations, root))
    found = of(quality, "frozen")
    assert ("left_hip", start, start + 5) in found
    assert ("pelvis", again, again + 1) in found
    assert quality.lost()[again, 22]


def test_a_character_that_stands_still_is_not_frozen(walk):
    still = Motion(np.repeat(walk.rotations[:1], 60, 0), np.repeat(walk.root[:1], 60, 0), walk.skeleton, 30.0)
    quality = detect(still)
    assert quality.problems == ()
    assert quality.confidence.min() == 1


@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_a_planted_foot_that_slides_is_found_at_any_size(walk, scale):
    big = Motion(
        walk.rotations, walk.root * scale, Skeleton(walk.skeleton.offsets * scale, walk.skeleton.exists), walk.fps
    )
    drift = np.zeros((len(walk), 3))
    drift[:, 0] = scale * 0.4 * np.clip(np.arange(len(walk)) - 25, 0, 30) / walk.fps
    quality = detect(shifted(big, drift))
    assert new(quality, detect(big)) <= {("slide", "left_ankle"), ("slide", "right_ankle")}
    marked = detection.marks(quality, "slide")
    assert marked[25:55, [7, 8]].any(axis=1).mean() > 0.6
    assert not marked[:20].any()
    foot = INDEX[of(quality, "slide")[0][0]]
    assert quality.confidence[marked[:, foot], foot].max() < 0.7


def test_a_sunken_stance_is_found_but_a_step_down_is_not(walk):
    depth = 0.1 * np.clip(1 - np.abs(np.arange(len(walk)) - 40) / 10, 0, 1)
    sunken = of(detect(shifted(walk, -depth[:, None] * [0, 1, 0])), "penetration")
    assert any(30 < start < stop < 50 for _, start, stop in sunken)
    down = 0.4 * np.clip((np.arange(len(walk)) - 38) / 9, 0, 1)
    stepped = of(detect(shifted(walk, -down[:, None] * [0, 1, 0])), "penetration")
    assert not [run for run in stepped if run[1] < 60 and run[2] > 20]


@pytest.mark.parametrize("clip", [WALK, "05_09_p1", PUNCH, JUMP])
@pytest.mark.parametrize("fps", [30.0, 60.0])
def test_dance_blows_and_landings_are_movement(pack_clip, clip, fps):
    quality = detect(resample(pack_clip(clip), fps))
    assert quality.confidence.mean() > 0.97
    body = [p for p in quality.problems if p.kind in ("pop", "jitter") and "foot" not in p.joint]
    assert len(body) <= 3


def test_absent_joints_are_trusted_and_short_takes_are_read(walk):
    exists = np.ones(22, bool)
    exists[[10, 11]] = False
    rotations = walk.rotations.copy()
    rotations[:, 10:12] = rot.IDENTITY
    noisy = rot.multiply(
        rotations.astype(np.float64),
        rot.exp(np.random.default_rng(0).normal(0, 0.1, (len(walk), 22, 3)) * exists[:, None]),
    )
    motion = Motion(rot.continuous(noisy), walk.root, Skeleton(walk.skeleton.offsets, exists), 30.0)
    confidence = detect(motion).confidence
    assert confidence[:, [10, 11]].min() == 1
    assert confidence[:, exists].mean() < 0.05
    for frames in (4, 5, 7):
        assert detect(walk.slice(10, 10 + frames)).confidence.shape == (frames, 22)
    with pytest.raises(MotionError, match="at least four frames"):
        detect(walk.slice(0, 3))
    broken = walk.root.copy()
    broken[3] = np.nan
    with pytest.raises(MotionError, match="root position in frame 3"):
        detect(walk.with_frames(walk.rotations, broken))


def test_neither_yaw_nor_signs_nor_height_change_what_is_found(walk):
    spoiled = turned(walk, "left_elbow", slice(30, 32), np.array([30.0, 0, 0]))
    q = spoiled.rotations.astype(np.float64)
    q[:, 0] = rot.multiply(rot.about_y(np.array(1.3)), q[:, 0])
    q[20:, 5] *= -1
    root = rot.rotate(rot.about_y(np.array(1.3)), spoiled.root.astype(np.float64)) + np.array([0, 10, 0])
    a, b = detect(spoiled), detect(spoiled.with_frames(q, root))
    assert [(p.kind, p.joint, p.start, p.stop) for p in a.problems] == [
        (p.kind, p.joint, p.start, p.stop) for p in b.problems
    ]
    assert np.abs(a.confidence - b.confidence).max() < 0.02


def test_the_worker_and_the_command_line_tell_the_same(walk, tmp_path, capsys):
    spoiled = turned(walk, "left_elbow", slice(30, 31), np.array([40.0, 0, 0]))
    arrays = {
        "rotations": spoiled.rotations, "root": spoiled.root,
        "offsets": spoiled.skeleton.offsets, "exists": spoiled.skeleton.exists,
    }  # fmt: skip
    header, answer = METHODS["detect"](mmdm, Message({"params": {"fps": 30.0}}, arrays), lambda done, of: None)
    assert answer["confidence"].shape == (len(walk), 22)
    assert answer["confidence"].dtype == np.float32
    pops = [p for p in header["problems"] if p["kind"] == "pop"]
    assert {"kind": "pop", "joint": "left_elbow", "start": 30, "stop": 31, "severity": pops[0]["severity"]} in pops
    json.dumps(header)
    path = tmp_path / "take.bvh"
    mmdm.save_bvh(spoiled, path)
    assert cli.main(["detect", str(path), "--kind", "pop", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert ("left_elbow", 30, 31) in [(p["joint"], p["start"], p["stop"]) for p in report["problems"]]
    assert cli.main(["detect", str(path), "--severity", "0.4"]) == 0
    assert "left_elbow" in capsys.readouterr().out


def test_spoiling_marks_what_it_changes(pack_clip):
    motion = resample(pack_clip(DANCE), 30.0).slice(0, 120)
    random = np.random.default_rng(0)
    for kind in KINDS * 4:
        spoiled = detection.spoil(motion, kind, random)
        assert spoiled is not None
        assert (spoiled.bad | spoiled.unsure).any()
        changed = rot.angle(motion.rotations.astype(float), spoiled.motion.rotations.astype(float)) > 1e-3
        changed[:, 0] |= np.linalg.norm(motion.root - spoiled.motion.root, axis=1) > 1e-6
        if kind in ("slide", "penetration"):
            assert set(np.flatnonzero(spoiled.bad.any(axis=0))) <= {7, 8}
        else:
            assert not (changed & ~spoiled.bad & ~spoiled.unsure).any()


def test_tallies_by_hand(walk):
    bad, found = np.zeros((20, 22), bool), Quality(np.ones((20, 22), np.float32), ())
    bad[5:9, 4] = True
    spoiled = detection.Spoiled(walk, "pop", bad, np.zeros_like(bad))
    cells, events = {k: detection.Tally() for k in KINDS}, {k: detection.Tally() for k in KINDS}
    hit = Quality(
        found.confidence,
        (Problem("pop", "left_knee", 7, 11, 0.5), Problem("jitter", "head", 0, 3, 0.5)),
    )
    detection.judge(spoiled, hit, found, 30.0, cells, events)
    assert (cells["pop"].hit, cells["pop"].false, cells["pop"].missed) == (2, 2, 2)
    assert (events["pop"].hit, events["pop"].false, events["pop"].missed) == (1, 0, 0)
    assert (cells["jitter"].false, events["jitter"].false) == (3, 1)
    assert cells["pop"].figures() == {"precision": 0.5, "recall": 0.5, "f1": 0.5}


def test_the_measurement_runs_on_a_pack(data):
    report = detection.detection(Pack.load(data("cmu/val.npz")), 30.0, 6)
    for kind in ("pop", "jitter", "frozen"):
        assert report["kinds"][kind]["events"]["precision"] > 0.8
        assert report["kinds"][kind]["confidence_where_bad"] < report["confidence_elsewhere"] - 0.3


def test_repair_is_measured_against_the_truth(data):
    report = detection.repair(Pack.load(data("cmu/val.npz")), list, 30.0, 4)  # a cleaner that changes nothing
    for entry in report.values():
        assert entry["before"] == entry["after"]
        assert entry["before"]["mm_in_other_frames"] == 0
        assert entry["before"]["angle_deg_where_bad"] >= 0


# --- refine, driven by confidence -----------------------------------------------------------------------------------


def positions(motion: Motion) -> np.ndarray:
    return kinematics.positions(
        motion.rotations.astype(np.float64), motion.root.astype(np.float64), motion.skeleton.offsets.astype(np.float64)
    )


def test_refine_repairs_a_burst_and_leaves_the_rest_bit_for_bit(walk):
    frames = slice(30, 50)
    turns = np.random.default_rng(0).normal(0, 6, (20, 3))
    spoiled = turned(walk, "left_elbow", frames, turns)
    clean = mmdm.refine(spoiled, device="cpu", lock_feet=False)
    elbow = INDEX["left_elbow"]

    def error(motion):
        return np.degrees(rot.angle(motion.rotations[:, elbow].astype(float), walk.rotations[:, elbow].astype(float)))

    assert error(clean)[frames].mean() < 0.75 * error(spoiled)[frames].mean()
    trusted = detect(spoiled).confidence == 1
    assert trusted.mean() > 0.9
    assert not trusted[frames, elbow].any()
    assert np.array_equal(clean.rotations[trusted], spoiled.rotations[trusted])


def test_refine_regenerates_pops_and_frozen_runs(walk):
    arm, leg = INDEX["left_shoulder"], INDEX["left_hip"]
    spoiled = turned(walk, "left_shoulder", slice(40, 42), np.array([0, 40.0, 0]))
    rotations = spoiled.rotations.copy()
    rotations[18:26, leg] = rotations[17, leg]
    spoiled = spoiled.with_frames(rotations, walk.root)
    clean = mmdm.refine(spoiled, device="cpu", lock_feet=False)
    for joint, frames in ((arm, slice(40, 42)), (leg, slice(18, 26))):
        before, after = (
            np.degrees(rot.angle(m.rotations[frames, joint].astype(float), walk.rotations[frames, joint].astype(float)))
            for m in (spoiled, clean)
        )
        assert after.mean() < 0.4 * before.mean(), JOINTS[joint]
    assert np.linalg.norm(positions(clean) - positions(walk), axis=-1).mean() < 0.002


@pytest.mark.parametrize("clip", [PUNCH, JUMP])
def test_blows_and_landings_keep_their_force_through_refine(pack_clip, clip):
    motion = resample(pack_clip(clip), 30.0)
    clean = mmdm.refine(motion, device="cpu")
    before, after = (np.linalg.norm(np.diff(positions(m), 2, axis=0), axis=-1).max(axis=0) for m in (motion, clean))
    ends = [INDEX[name] for name in ("left_wrist", "right_wrist", "left_ankle", "right_ankle")]
    assert (after[ends] >= 0.95 * before[ends]).all()
    assert 1000 * np.linalg.norm(positions(motion) - positions(clean), axis=-1).mean() < 5
