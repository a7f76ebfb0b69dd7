"""Packs: what is written is what is read, every damage is a sentence, and a user's folder becomes one."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from mmdm_engine import bvh, kinematics, pack
from mmdm_engine import rotations as rot
from mmdm_engine.contract import Motion, MotionError, Skeleton


def positions(motion):
    return kinematics.positions(
        motion.rotations.astype(np.float64), motion.root.astype(np.float64), motion.skeleton.offsets.astype(np.float64)
    )


def arrays(frames: int = 6, clips: int = 2) -> dict[str, np.ndarray]:
    rotations = np.zeros((frames, 22, 4), np.int16)
    rotations[..., 0] = 32767
    return {
        "rotations": rotations, "root": np.zeros((frames, 3), np.float32),
        "clip_start": np.arange(clips) * (frames // clips), "clip_length": np.full(clips, frames // clips),
        "offsets": np.ones((clips, 22, 3), np.float32), "fps": np.float32(60),
    }  # fmt: skip


def stored(tmp_path, **change):
    path = tmp_path / "some.npz"
    content = {name: value for name, value in (arrays() | change).items() if value is not None}
    np.savez(path, **content)
    return path


@pytest.mark.parametrize("name", ["cmu/val.npz", "bandai/dataset2_sample.npz"])
def test_real_packs(data, name):
    opened = pack.Pack.load(data(name))
    assert len(opened) == len(opened.names) > 50
    clip = opened[3]
    assert opened[opened.names[3]].root.tobytes() == clip.root.tobytes()
    np.testing.assert_allclose(np.linalg.norm(clip.rotations, axis=-1), 1, atol=1e-6)
    part = opened.decode(3, 10, 20)
    np.testing.assert_array_equal(part.rotations, clip.rotations[10:20])
    assert sum(1 for _ in opened) == len(opened)
    assert opened.length.sum() == len(opened.rotations)


def test_defaults_of_a_minimal_pack(tmp_path):
    opened = pack.Pack.load(stored(tmp_path))
    assert opened.names == ("clip_0", "clip_1")
    assert opened.labels == ("", "")
    assert opened[1].fps == 60
    assert opened[-1].skeleton.exists.all()
    with pytest.raises(MotionError, match="no clip named walk"):
        opened["walk"]
    with pytest.raises(IndexError):
        opened[2]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"root": None}, "lacks the array root"),
        ({"rotations": np.zeros((6, 22, 4), np.float32)}, "rotations must be int16"),
        ({"rotations": np.zeros((6, 21, 4), np.int16)}, "rotations must be int16"),
        ({"root": np.zeros((5, 3), np.float32)}, r"root must be float \(6, 3\)"),
        ({"root": np.full((6, 3), np.nan, np.float32)}, "root holds NaN"),
        ({"clip_length": np.array([3, 4])}, "reaches outside its 6 frames"),
        ({"clip_start": np.array([-1, 3])}, "reaches outside"),
        ({"clip_start": np.array([2**62, 3])}, "reaches outside"),
        ({"clip_length": np.array([0, 3])}, "reaches outside"),
        ({"clip_length": np.array([3])}, "clip_length must hold 2"),
        ({"clip_start": np.array([0.5, 3])}, "clip_start must be a list of integers"),
        ({"offsets": np.ones((1, 22, 3))}, "offsets must be float"),
        ({"offsets": np.full((2, 22, 3), np.inf)}, "offsets hold NaN"),
        ({"fps": np.float32(0)}, "fps must be positive"),
        ({"fps": np.array([30.0, 60.0, 90.0])}, "fps must be one number"),
        ({"names": np.array(["a"])}, "names and labels must hold 2"),
        ({"exists": np.ones((2, 21), bool)}, "exists must be bool"),
        ({"names": np.array([object(), object()])}, "not a readable pack"),
    ],
)
def test_what_does_not_fit_is_said(tmp_path, change, sentence):
    with pytest.raises(MotionError, match=sentence) as error:
        pack.Pack.load(stored(tmp_path, **change))
    assert "some.npz" in str(error.value)


def test_a_rotation_of_zero_is_found_when_decoded(tmp_path):
    opened = pack.Pack.load(stored(tmp_path, rotations=np.zeros((6, 22, 4), np.int16)))
    with pytest.raises(MotionError, match=r"clip_1.*rotation of length zero"):
        opened[1]


def test_damaged_files_are_sentences(tmp_path):
    with pytest.raises(MotionError, match=r"no pack at .*none\.npz"):
        pack.Pack.load(tmp_path / "none.npz")
    whole = stored(tmp_path).read_bytes()
    rng = np.random.default_rng(0)
    damaged = tmp_path / "damaged.npz"
    refused = 0
    for cut in (0, 1, 10, len(whole) // 2, len(whole) - 1):
        damaged.write_bytes(whole[:cut])
        with pytest.raises(MotionError, match=r"damaged\.npz"):
            pack.Pack.load(damaged)
    for _ in range(60):
        noisy = bytearray(whole)
        for at in rng.integers(0, len(whole), 8):
            noisy[at] = rng.integers(0, 256)
        damaged.write_bytes(bytes(noisy))
        try:
            list(pack.Pack.load(damaged))
        except MotionError:
            refused += 1
    assert refused > 30


def test_resampling_keeps_common_frames_and_places(val_motion):
    half = pack.resample(val_motion, 30)
    np.testing.assert_allclose(half.root, val_motion.root[::2], atol=1e-6)
    assert rot.angle(half.rotations.astype(np.float64), val_motion.rotations[::2].astype(np.float64)).max() < 1e-6
    odd = pack.resample(val_motion, 24)
    assert len(odd) == int((len(val_motion) - 1) * 24 / 60) + 1
    np.testing.assert_allclose(odd.root[2], val_motion.root[5], atol=1e-6)
    assert pack.resample(val_motion, 60) is val_motion


def test_a_folder_becomes_a_pack(data, tmp_path):
    takes = tmp_path / "takes"
    (takes / "inner").mkdir(parents=True)
    shutil.copyfile(data("cmu/raw/06_04.bvh"), takes / "dribble.bvh")
    shutil.copyfile(data("rigs/character1_walk.bvh"), takes / "inner" / "walk.BVH")
    (takes / "broken.bvh").write_text("HIERARCHY\nROOT")
    (takes / "notes.txt").write_text("no take")
    seen = []
    made, skipped = pack.write_pack(takes, tmp_path / "out.npz", progress=lambda done, of: seen.append((done, of)))
    assert made.names == ("dribble", "inner/walk")
    assert len(skipped) == 1
    assert "broken.bvh" in skipped[0]
    assert seen[-1] == (3, 3)
    source = bvh.load(data("cmu/raw/06_04.bvh"))
    clip = made["dribble"]
    assert (clip.fps, len(clip)) == (60, 198)  # without the calibration pose at 120 fps
    points, wanted = positions(clip), positions(source)[1::2]
    np.testing.assert_allclose(points - points[:, :1], wanted[:198] - wanted[:198, :1], atol=5e-4)
    feet = points[:, [7, 8, 10, 11], 1].min(axis=1)
    assert np.percentile(feet, 2) == pytest.approx(0.035 * clip.skeleton.leg_length, abs=0.01)
    assert not made["inner/walk"].skeleton.exists[6]


def test_a_take_is_cut_where_it_jumps():
    rotations = np.zeros((120, 22, 4), np.float32)
    rotations[..., 0] = 1
    root = np.zeros((120, 3), np.float32)
    root[50:] += 3
    parts = pack.pieces(Motion(rotations, root, Skeleton(np.ones((22, 3))), 60))
    assert [len(p) for p in parts] == [50, 70]
    rotations[100:, 0] = rot.exp(np.array([0, 1.5, 0])).astype(np.float32)
    assert [len(p) for p in pack.pieces(Motion(rotations, root, Skeleton(np.ones((22, 3))), 60))] == [50, 50]


def test_nothing_usable_is_said_and_leaves_no_file(tmp_path):
    with pytest.raises(MotionError, match=r"no \.bvh files"):
        pack.write_pack(tmp_path, tmp_path / "out.npz")
    with pytest.raises(MotionError, match=r"no \.bvh files"):
        pack.write_pack(tmp_path / "nowhere", tmp_path / "out.npz")
    (tmp_path / "a.bvh").write_text("junk")
    with pytest.raises(MotionError, match=r"None of the 1 files.*a\.bvh"):
        pack.write_pack(tmp_path, tmp_path / "out.npz")
    assert not list(tmp_path.glob("out*"))


def test_the_command_line(data, tmp_path, capsys):
    pytest.importorskip("rich")
    from mmdm_engine.cli import main

    takes = tmp_path / "takes"
    takes.mkdir()
    shutil.copyfile(data("rigs/character1_walk.bvh"), takes / "walk.bvh")
    (takes / "broken.bvh").write_text("junk")
    assert main(["pack", str(takes), str(tmp_path / "out.npz"), "--json", "--fps", "30"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["clips"] == 1
    assert report["frames"] == len(pack.Pack.load(tmp_path / "out.npz")[0]) == 33
    assert "broken.bvh" in report["skipped"][0]
    assert main(["pack", str(takes), str(tmp_path / "out.npz")]) == 0
    printed = capsys.readouterr()
    assert "1 clips" in printed.out
    assert "left out" in printed.err
    assert main(["pack", str(tmp_path / "nowhere"), str(tmp_path / "out.npz")]) != 0
