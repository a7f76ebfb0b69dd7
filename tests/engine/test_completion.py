"""Completion: exact bits outside the mask, any mask, any rate; and its evaluation.

What must hold for any weights is tested with a network of chance, whose residuals are large and which no learning has
made smooth; what the weights have learned is tested on the shipped prior.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import made_up
import numpy as np
import pytest
import torch

import mmdm_engine as mmdm
from mmdm_engine import cli, contacts, evaluate, kinematics
from mmdm_engine import rotations as rot
from mmdm_engine.baselines import interpolate
from mmdm_engine.contract import protocol
from mmdm_engine.evaluate import completion as measured
from mmdm_engine.model.config import KAAConfig
from mmdm_engine.pack import Pack, resample
from mmdm_engine.priors import completion, store
from mmdm_engine.priors.network import InbetweenNetwork
from mmdm_engine.priors.selection import PARTS
from mmdm_engine.worker import METHODS

ROOT = Path(__file__).resolve().parents[2]
ARM, LEG = list(PARTS["left_arm"]), list(PARTS["left_leg"])


@pytest.fixture(scope="module")
def chance(tmp_path_factory) -> Path:
    """Weights of chance: small, with an output layer that says something."""
    torch.manual_seed(0)
    network = InbetweenNetwork(KAAConfig(rounds=1, joint_dim=16, pose_dim=32, heads=1, head_dim=16, time_heads=2,
                                         time_head_dim=16, ffn=16, time_ffn=32))  # fmt: skip
    with torch.no_grad():
        for p in network.encoder.parameters():
            p += 0.05 * torch.randn(p.shape)
        for table in network.scale.buffers():
            table.fill_(0.2)
    path = tmp_path_factory.mktemp("weights") / "chance.safetensors"
    store.save(network, "completion", {}, path)
    return path


@pytest.fixture(scope="module")
def walk(pack_clip):
    """A walk of 80 frames at 30 fps."""
    return resample(pack_clip("02_01"), 30.0).slice(0, 80)


def masked(motion, joints, start=0, stop=None):
    mask = np.zeros((len(motion), 22), bool)
    mask[start:stop, joints] = True
    return mask


def without(motion, mask, root_mask=None):
    rotations, root = motion.rotations.copy(), motion.root.copy()
    rotations[mask] = np.nan
    root[mask[:, 0] if root_mask is None else root_mask] = np.nan
    return motion.with_frames(rotations, root)


def complete(motion, mask, prior, **options):
    return mmdm.complete(without(motion, mask, options.get("root_mask")), mask, prior=prior, device="cpu", **options)


def same_bits(a, b):
    return np.array_equal(np.ascontiguousarray(a).view(np.uint8), np.ascontiguousarray(b).view(np.uint8))


def degrees(a, b):
    return np.rad2deg(rot.angle(a.rotations.astype(np.float64), b.rotations.astype(np.float64)))


def interpolated(motion, mask):
    observed = ~np.concatenate([mask, mask[:, :1]], axis=1)
    return motion.with_frames(*interpolate(motion.rotations, motion.root, observed))


def positions(motion):
    return kinematics.positions(motion.rotations, motion.root, motion.skeleton.offsets)


def steps(motion):
    """(T − 1, 22) degrees from frame to frame."""
    q = motion.rotations.astype(np.float64)
    return np.rad2deg(rot.angle(q[:-1], q[1:]))


def scattered(frames, seed=1):
    mask = np.random.default_rng(seed).random((frames, 22)) < 0.4
    mask[7] = False
    return mask


MASKS = {
    "an arm for a while": lambda n: masked_rows(n, ARM, 20, 60),
    "an arm throughout": lambda n: masked_rows(n, ARM, 0, n),
    "from the first frame": lambda n: masked_rows(n, LEG, 0, 30),
    "to the last frame": lambda n: masked_rows(n, [12, 15], 50, n),
    "below the waist": lambda n: masked_rows(n, list(PARTS["below_waist"]), 20, 60),
    "whole poses": lambda n: masked_rows(n, range(22), 25, 55),
    "whole poses to the end": lambda n: masked_rows(n, range(22), 30, n),
    "here and there": scattered,
    "everything but one frame": lambda n: ~masked_rows(n, range(22), 40, 41),
}


def masked_rows(frames, joints, start, stop):
    mask = np.zeros((frames, 22), bool)
    mask[start:stop, list(joints)] = True
    return mask


# --- what any weights must keep -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MASKS)
def test_what_is_not_masked_keeps_its_bits_and_what_is_may_be_nan(walk, chance, name):
    mask = MASKS[name](len(walk))
    rotations = walk.rotations.copy()
    rotations[5] *= -1  # signs are part of the promise
    motion = walk.with_frames(rotations, walk.root)
    out = complete(motion, mask, chance, lock_feet=False)
    known = mmdm.complete(motion, mask, prior=chance, device="cpu", lock_feet=False)
    assert same_bits(out.rotations[~mask], rotations[~mask])
    assert same_bits(out.root[~mask[:, 0]], walk.root[~mask[:, 0]])
    assert same_bits(out.rotations, known.rotations), "what is masked must not be read"
    assert same_bits(out.root, known.root)
    assert np.isfinite(out.root).all()
    assert np.abs(np.linalg.norm(out.rotations, axis=-1) - 1).max() < 1e-5
    made = mask[1:] & ((out.rotations[1:] * out.rotations[:-1]).sum(-1) < 0)
    assert not made[6:].any(), "signs follow the frame before"
    assert degrees(out, interpolated(walk, mask))[mask].mean() > 0.05, "the network says something"


@pytest.mark.parametrize("which", ["rotation", "place"])
def test_the_pelvis_may_lack_its_rotation_or_its_place_alone(walk, chance, which):
    mask, root_mask = masked(walk, [0] if which == "rotation" else [], 20, 60), np.zeros(len(walk), bool)
    root_mask[20:60] = which == "place"
    out = complete(walk, mask, chance, root_mask=root_mask)
    assert same_bits(out.rotations[~mask], walk.rotations[~mask])
    assert same_bits(out.root[~root_mask], walk.root[~root_mask])
    assert np.isfinite(out.rotations).all()
    assert np.isfinite(out.root).all()
    if which == "place":
        assert np.linalg.norm(out.root - walk.root, axis=-1)[20:60].mean() > 1e-3


def test_nothing_masked_is_nothing_done(walk, chance):
    out = mmdm.complete(walk, np.zeros((len(walk), 22), bool), prior=chance, device="cpu")
    assert same_bits(out.rotations, walk.rotations)
    assert same_bits(out.root, walk.root)


def test_joints_that_are_not_there_stay_as_they_are(walk, chance):
    exists = np.ones(22, bool)
    exists[[10, 11, 13]] = False
    rotations = walk.rotations.copy()
    rotations[:, [10, 11, 13]] = rot.IDENTITY
    motion = mmdm.Motion(rotations, walk.root, mmdm.Skeleton(walk.skeleton.offsets, exists), walk.fps)
    out = complete(motion, masked(walk, ARM + LEG, 20, 60), chance)
    assert same_bits(out.rotations[:, [10, 11, 13]], rotations[:, [10, 11, 13]])
    assert degrees(out, motion)[20:60, 16].mean() > 0.05


@pytest.mark.parametrize(
    "change", [{"yaw": 2.1}, {"scale": 100.0}, {"lift": 10.0}, {"yaw": -0.7, "scale": 0.01, "lift": -3.0}]
)
@pytest.mark.parametrize("part", ["left_arm", "below_waist"])
def test_yaw_scale_and_height_do_not_change_the_local_result(walk, chance, change, part):
    mask = masked(walk, list(PARTS[part]), 20, 60)
    plain = turned(complete(walk, mask, chance, lock_feet=False), **change)
    other = complete(turned(walk, **change), mask, chance, lock_feet=False)
    assert degrees(other, plain).max() < 0.05
    assert np.abs(other.root - plain.root).max() < 2e-3 * change.get("scale", 1.0) * walk.skeleton.leg_length


def turned(motion, yaw=0.0, scale=1.0, lift=0.0):
    q = rot.about_y(np.array(yaw))
    rotations = motion.rotations.astype(np.float64).copy()
    rotations[:, 0] = rot.multiply(q, rotations[:, 0])
    root = rot.rotate(q, motion.root.astype(np.float64)) * scale + np.array([0, lift, 0])
    return mmdm.Motion(rotations, root, mmdm.Skeleton(motion.skeleton.offsets * scale, motion.skeleton.exists), 30.0)


def test_seeds_repeat_and_differ(walk, chance):
    mask = masked(walk, ARM, 20, 60)
    one, again, other = (complete(walk, mask, chance, steps=4, seed=s) for s in (3, 3, 4))
    assert same_bits(one.rotations, again.rotations)
    assert degrees(one, other)[mask].mean() > 0.01


def test_a_batch_gives_what_single_calls_give(walk, chance):
    short = walk.slice(10, 50)
    masks = [masked(walk, ARM, 20, 60), masked(short, LEG, 5, 30)]
    both = completion.complete_many([walk, short], masks, prior=chance, device="cpu")
    for together, motion, mask in zip(both, (walk, short), masks, strict=True):
        assert degrees(together, mmdm.complete(motion, mask, prior=chance, device="cpu")).max() < 1e-3


def test_progress_reaches_its_end(walk, chance):
    seen = []
    complete(walk, masked(walk, ARM, 20, 60), chance, steps=4, progress=lambda done, of: seen.append((done, of)))
    assert seen[-1][0] == seen[-1][1] > 1
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


# --- long losses, fast takes ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def long(pack_clip):
    """A dance of 300 frames at 30 fps."""
    return resample(pack_clip("05_02"), 30.0).slice(0, 300)


@pytest.mark.parametrize("loss", [(40, 250), (0, 300), (100, 175)])
def test_windows_of_a_long_loss_meet_without_a_jump(long, chance, loss):
    mask = masked(long, ARM, *loss)
    out = complete(long, mask, chance)
    assert same_bits(out.rotations[~mask], long.rotations[~mask])
    made, true = steps(out)[:, ARM], steps(long)[:, ARM]
    assert made.max() < true.max() + 5.0


@pytest.mark.parametrize("loss", [(40, 120), (60, 260)])
def test_the_body_may_be_lost_for_longer_than_a_window(long, chance, loss):
    mask = masked(long, range(22), *loss)
    out = complete(long, mask, chance, lock_feet=False)
    assert same_bits(out.rotations[~mask], long.rotations[~mask])
    assert np.isfinite(out.rotations).all()
    way, true = (np.linalg.norm(np.diff(m.root, axis=0), axis=-1) for m in (out, long))
    assert way.max() < true.max() + 0.1
    assert steps(out).max() < steps(long).max() + 5.0


@pytest.mark.parametrize("loss", [(31, 210), (50, 151), (0, 260)])
@pytest.mark.parametrize("factor", [4, 2])
def test_fast_takes_are_solved_on_fewer_frames_and_continuous_at_the_borders(pack_clip, chance, factor, loss):
    motion = resample(pack_clip("05_02"), 30.0 * factor).slice(0, 260)
    mask = masked(motion, ARM, *loss)
    out = complete(motion, mask, chance)
    assert same_bits(out.rotations[~mask], motion.rotations[~mask])
    made, usual = steps(out)[:, ARM], steps(motion)[:, ARM].max()
    borders = [t for t in (loss[0] - 1, loss[1] - 1) if 0 < t < len(motion) - 1]
    assert made.max() < 2 * usual + 4.0
    for t in borders:
        assert np.abs(made[t] - made[t - 1]).max() < usual + 1.0


def test_every_loss_is_shown_whole_where_it_is_short_enough():
    random = np.random.default_rng(0)
    for frames in (30, 84, 200, 500):
        hidden = np.zeros((frames, 23), bool)
        for _ in range(6):
            start = int(random.integers(frames))
            hidden[start : start + int(random.integers(1, 120)), random.integers(23)] = True
        found = completion.spans(hidden, 30.0)
        assert all(0 <= a < b <= frames and b - a == min(completion.FRAMES, frames) for a, b in found)
        for column in hidden.T:
            for start, stop in completion.runs(column):
                shown = np.zeros(frames, bool)
                for a, b in found:
                    shown[a:b] = True
                assert shown[start:stop].all()
                if stop - start <= 60:
                    near, far = max(0, start - 8), min(frames, stop + 8)
                    assert any(a <= near and far <= b for a, b in found)
    assert len(completion.spans(np.ones((800, 23), bool), 30.0)) < 22


@pytest.mark.parametrize(
    ("fps", "loss", "joints", "stride"),
    [(30, 60, ARM, 1), (30, 300, ARM, 1), (60, 60, ARM, 1), (60, 90, ARM, 2), (120, 30, ARM, 2), (120, 600, ARM, 6),
     (30, 150, [0], 3), (24, 60, [0], 1)],
)  # fmt: skip
def test_a_grid_is_only_as_coarse_as_needed(fps, loss, joints, stride):
    hidden = np.zeros((loss, 23), bool)
    hidden[:, joints] = True
    assert completion.stride(hidden, fps) == stride


# --- feet -----------------------------------------------------------------------------------------------------------


def test_feet_are_held_only_where_a_whole_leg_is_made(walk, chance):
    still = walk.with_frames(np.repeat(walk.rotations[:1], 80, axis=0), np.repeat(walk.root[:1], 80, axis=0))
    for joints, locked in ((LEG, True), (LEG[:2], False), (ARM, False)):
        mask = masked(still, joints, 20, 60)
        held, free = (complete(still, mask, chance, lock_feet=lock) for lock in (True, False))
        changed = degrees(held, free) > 1e-3
        assert changed[mask].any() == locked
        assert not changed[~mask].any()
        if locked:
            standing = contacts.detect(free, contacts.SLIDING_SPEED)
            standing[:, 2:] = False
            assert standing[20:60].any()
            assert contacts.slide(held, standing) < 0.7 * contacts.slide(free, standing)


# --- refusals -------------------------------------------------------------------------------------------------------


def test_what_cannot_be_done_is_said_in_one_sentence(walk, chance):
    frames = len(walk)
    arm = masked(walk, ARM, 20, 60)
    bad = walk.rotations.copy()
    bad[3, 5] = np.nan
    cases = [
        (walk, arm[:-1], {}, "shape"),
        (walk, arm.astype(np.uint8), {}, "bool"),
        (walk, arm, {"root_mask": np.zeros(3, bool)}, "root mask"),
        (walk, np.ones((frames, 22), bool), {}, "pelvis"),
        (walk, masked(walk, [0]), {}, "pelvis"),
        (walk, arm, {"root_mask": np.ones(frames, bool)}, "pelvis"),
        (walk.with_frames(bad, walk.root), arm, {}, "frame 3"),
        (walk.slice(0, 1), arm[:1], {}, "two frames"),
        (walk, arm, {"steps": 0}, "steps"),
        (walk, arm, {"steps": 51}, "steps"),
        (walk, arm, {"label": "walk"}, "label"),
    ]
    for motion, mask, options, word in cases:
        with pytest.raises(mmdm.MotionError, match=word) as error:
            mmdm.complete(motion, mask, prior=chance, device="cpu", **options)
        assert str(error.value).count(". ") == 0
    with pytest.raises(mmdm.MotionError, match="not a prior for completion"):
        mmdm.complete(walk, arm, prior="inbetween", device="cpu")


# --- what the shipped weights have learned --------------------------------------------------------------------------


def test_borders_are_as_smooth_as_motion_is(pack_clip):
    """Second differences at the borders against those within true motion: 95th percentile, and interpolation's."""
    ours, base, usual = [], [], []
    for name in ("02_01", "05_02", "06_02"):
        motion = resample(pack_clip(name), 30.0)
        for joints in (ARM, LEG):
            mask = masked(motion, joints, 30, 75)
            moved = joints[1:]
            for out, jumps in (
                (complete(motion, mask, completion.PRIOR, lock_feet=False), ours),
                (interpolated(motion, mask), base),
            ):
                bend = np.linalg.norm(np.diff(positions(out), 2, axis=0), axis=-1)[:, moved]
                jumps.append(bend[[28, 29, 73, 74]])
            usual.append(np.linalg.norm(np.diff(positions(motion), 2, axis=0), axis=-1)[:, moved].ravel())
    assert np.mean(ours) < np.mean(base)
    assert np.mean(ours) < np.percentile(np.concatenate(usual), 95)


# --- worker and command line ----------------------------------------------------------------------------------------


def test_the_worker_completes(walk, chance):
    mask = masked(walk, ARM, 20, 60)
    params = {"fps": walk.fps, "prior": str(chance), "device": "cpu"}
    message = protocol.Message({"params": params}, {**protocol.motion_arrays(without(walk, mask)), "mask": mask})
    header, arrays = METHODS["complete"](mmdm, message, lambda done, of: None)
    assert header == {}
    assert same_bits(arrays["rotations"], complete(walk, mask, chance).rotations)
    del message.arrays["mask"]
    with pytest.raises(protocol.ProtocolError, match="mask"):
        METHODS["complete"](mmdm, message, lambda done, of: None)


def test_the_command_writes_a_completed_take(walk, chance, tmp_path, capsys):
    take, out = tmp_path / "take.bvh", tmp_path / "whole.bvh"
    mmdm.save_bvh(walk, take)
    words = ["complete", str(take), str(out), "--joints", "left_arm,head", "--start", "20", "--stop", "60",
             "--prior", str(chance), "--device", "cpu", "--scale", "1", "--json"]  # fmt: skip
    assert cli.main(words) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["joints"] == [mmdm.JOINTS[j] for j in (13, 15, 16, 18, 20)]
    before, after = mmdm.load_bvh(take, scale=1.0), mmdm.load_bvh(out, scale=1.0)
    change = degrees(before, after)
    assert change[20:60, ARM].mean() > 0.05
    assert change[:20].max() < 1e-2
    assert change[:, LEG].max() < 1e-2
    for extra, word in ((["--joints", ""], "--joints"), (["--stop", "900"], "range"), (["--joints", "tail"], "tail")):
        assert cli.main([*words, *extra]) == 1
        assert word in capsys.readouterr().err


# --- evaluation -----------------------------------------------------------------------------------------------------


def test_moved_joints_are_the_descendants():
    assert measured.moved_by((13, 16, 18, 20)) == [16, 18, 20]
    assert measured.moved_by((7, 10, 8, 11)) == [10, 11]
    assert measured.moved_by((16,)) == [18, 20]
    assert measured.moved_by((0, 1)) == list(range(22))


def test_a_seam_counts_jumps_where_a_loss_begins_and_ends():
    x = np.zeros((1, 20, 1, 3))
    x[:, 8:, 0, 1] = 0.01  # a jump of 1 cm into frame 8: second differences of 10 mm about frames 7 and 8
    assert measured.seam(x, 8, 14).value == pytest.approx(5.0)  # two of the four
    assert measured.seam(x, 9, 14).value == pytest.approx(2.5)
    assert measured.seam(x, 0, 8).value == pytest.approx(10.0)
    assert measured.seam(x, 0, 14).value == pytest.approx(0.0)


@pytest.fixture(scope="module")
def small_pack(tmp_path_factory):
    """A pack of two clips of 300 frames at 30 fps, made of sines; the same names as the real ones."""
    random = np.random.default_rng(0)
    clips = [made_up.swaying(random, 300, fps=30.0, speed=0.0, rates=(0.3, 0.5)) for _ in range(2)]
    return made_up.write_pack(tmp_path_factory.mktemp("pack") / "small.npz", clips, names=np.array(["a", "b"]))


def test_nothing_of_what_is_lost_reaches_a_method(small_pack):
    seen = []

    def spy(motions, mask):
        seen.append((motions, mask))
        return measured.RESTORERS["interpolation"](motions, mask)

    report = measured.completion(Pack.load(small_pack), "below_waist", 30, count=4, methods={"interpolation": spy})
    for motions, mask in seen:
        assert mask.sum() == 30 * 9
        for motion in motions:
            assert np.isnan(motion.rotations[mask]).all()
            assert np.isfinite(motion.rotations[~mask]).all()
            assert (np.isnan(motion.root).all(axis=1) == mask[:, 0]).all()
    assert report["figures"]["mpjpe_mm"]["values"]["interpolation"] > 1
    assert report["figures"]["mpjpe_mm"]["values"]["truth"] == 0


def test_the_most_similar_pose_of_the_same_pack_is_the_pose_itself(small_pack):
    pack = Pack.load(small_pack)
    methods = {"interpolation": measured.RESTORERS["interpolation"], "nearest pose": measured.nearest_pose(pack)}
    report = measured.completion(pack, "left_arm", None, count=3, methods=methods)
    values = report["figures"]["angle_deg"]["values"]
    assert values["nearest pose"] < 0.1 < values["interpolation"]
    assert "seam_mm" not in report["figures"], "a loss throughout has no seam"


def test_the_command_prints_every_part_and_length(small_pack, chance, tmp_path, capsys):
    parser = argparse.ArgumentParser()
    evaluate.add_arguments(parser)

    def run(*words):
        return evaluate.run(parser.parse_args(["completion", "--data", str(small_pack), "--windows", "3", *words]))

    picture = tmp_path / "ratios.png"
    words = ["--parts", "left_arm,below_waist", "--losses", "30,all", "--prior", str(chance), "--device", "cpu"]
    assert run(*words, "--json", "--plot", str(picture), "--csv", str(tmp_path / "table.csv")) == 0
    report = json.loads(capsys.readouterr().out)
    assert [(c["part"], c["loss"]) for c in report["cases"]] == [
        ("left_arm", 30), ("left_arm", None), ("below_waist", 30),
    ]  # fmt: skip
    assert set(report["cases"][0]["figures"]["angle_deg"]["values"]) == {
        "truth", "interpolation", "zero velocity", "ours",
    }  # fmt: skip
    assert picture.stat().st_size > 1000
    assert (tmp_path / "table.csv").read_text().count("left_arm,all") == 3 * 5
    assert run("--parts", "left_arm", "--losses", "30", "--prior", "none") == 0
    assert "left_arm lost 30 frames" in capsys.readouterr().out
    with pytest.raises(mmdm.MotionError, match="no part tail"):
        run("--parts", "tail")
    with pytest.raises(mmdm.MotionError, match="--losses"):
        run("--losses", "30,x")


def test_the_package_imports_without_torch():
    code = "import sys, mmdm_engine.evaluate.completion; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
