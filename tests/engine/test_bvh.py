"""BVH files: every spelling that is legal, every damage that is said, and values that come back as they were."""

from __future__ import annotations

import logging
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from mmdm_engine import bvh, kinematics
from mmdm_engine import rotations as rot
from mmdm_engine.contract import Motion, MotionError, Skeleton

RAW = ["05_06", "05_12", "06_01", "06_04", "06_12", "06_15", "11_01_43joints", "94_13_43joints", "131_01", "131_03"]
FILES = [f"cmu/raw/{name}.bvh" for name in RAW] + [
    f"rigs/{name}.bvh" for name in ("axisneuron_18", "character1_walk", "chest_collar_100style_like", "xia_cmu_normal")
]

LEGS = """HIERARCHY
ROOT Hips
{
  OFFSET 0 0 0
  CHANNELS 6 Xposition Yposition Zposition Zrotation Xrotation Yrotation
  JOINT LeftUpLeg
  {
    OFFSET 9 -8 0
    CHANNELS 3 Yrotation Xrotation Zrotation
    JOINT LeftLeg
    {
      OFFSET 0 -42 0
      CHANNELS 1 Xrotation
      End Site
      {
        OFFSET 0 -40 0
      }
    }
  }
  JOINT RightUpLeg
  {
    OFFSET -9 -8 0
    CHANNELS 3 Xrotation Yrotation Zrotation
    JOINT RightLeg
    {
      OFFSET 0 -42 0
      CHANNELS 6 Xposition Yposition Zposition Xrotation Yrotation Zrotation
      End Site
      {
        OFFSET 0 -40 0
      }
    }
  }
  JOINT Head
  {
    OFFSET 0 60 0
    CHANNELS 3 Zrotation Xrotation Yrotation
  }
}
MOTION
Frames: 2
Frame Time: 0.0333333
1 2 3 10 20 30 1 2 3 4 5 6 7 0 -42 0 1e1 -2.0E-1 3 4 5 6
1 2 3 10 20 30 1 2 3 4 5 6 7 0 -42 0 1e1 -2.0E-1 3 4 5 6
"""


def text_file(tmp_path, text=LEGS, name="take.bvh"):
    path = tmp_path / name
    path.write_bytes(text.encode("utf-8", errors="surrogateescape"))
    return path


def test_parses_channels_of_every_kind():
    file = bvh.parse(LEGS)
    assert file.hierarchy.names == ("Hips", "LeftUpLeg", "LeftLeg", "RightUpLeg", "RightLeg", "Head")
    assert file.hierarchy.parents == (-1, 0, 1, 0, 3, 0)
    assert file.fps == 30
    assert file.values.shape == (2, 22)
    np.testing.assert_array_equal(file.hierarchy.tips[2], [0, -40, 0])
    assert np.isnan(file.hierarchy.tips[5]).all()
    local, moves = file.local()
    expected = Rotation.from_euler("ZXY", [10, 20, 30], degrees=True).as_matrix()
    np.testing.assert_allclose(rot.to_matrix(local[0, 0]), expected, atol=1e-12)
    np.testing.assert_allclose(
        rot.to_matrix(local[0, 4]), Rotation.from_euler("XYZ", [10, -0.2, 3], degrees=True).as_matrix(), atol=1e-12
    )
    np.testing.assert_allclose(rot.log(local[0, 2]), [np.radians(4), 0, 0], atol=1e-12)
    np.testing.assert_array_equal(moves[0, 0], [1, 2, 3])
    np.testing.assert_array_equal(moves[0, 1], [9, -8, 0])


@pytest.mark.parametrize(
    "change",
    [
        lambda t: t.replace("\n", "\r\n"),
        lambda t: t.replace("  ", "\t").replace(" ", "\t"),
        lambda t: "\ufeff" + t,
        lambda t: t.replace("\nMOTION", " \n\n MOTION ").replace("Frame Time:", "Frame Time :"),
        lambda t: re.sub(r"\n\s*{", " {", t),
        lambda t: t.replace("End Site", "End site").replace("CHANNELS", "Channels").replace("rotation", "Rotation"),
        lambda t: t.rstrip("\n") + "\n\n  \n",
        lambda t: t.replace("\r\n", "\r"),
    ],
)
def test_spacing_line_ends_and_case_do_not_matter(change):
    plain, other = bvh.parse(LEGS), bvh.parse(change(LEGS))
    np.testing.assert_array_equal(plain.values, other.values)
    assert plain.hierarchy.names == other.hierarchy.names
    assert plain.fps == other.fps


def test_names_with_spaces_and_odd_bytes_survive(tmp_path):
    text = LEGS.replace("JOINT Head", "JOINT Bip01 \udce9 Head")
    path = text_file(tmp_path, text)
    bvh.save(bvh.load(path), tmp_path / "out.bvh", like=path)
    assert b"JOINT Bip01 \xe9 Head" in (tmp_path / "out.bvh").read_bytes()


@pytest.mark.parametrize(
    ("seconds", "fps"),
    [
        (".0083333", 120), ("0.008333", 120), ("0.0166667", 60), ("0.0333333333333333", 30), ("0.04166", 24),
        ("0.0333667", 1 / 0.0333667), ("4.1666667e-2", 24), ("0.05", 20), ("1", 1), ("2", 0.5),
    ],
)  # fmt: skip
def test_frame_rates_are_whole_where_the_digits_allow(seconds, fps):
    assert bvh.parse(LEGS.replace("0.0333333", seconds)).fps == pytest.approx(fps, rel=1e-12)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda t: t.replace("1e1", "nan", 1), r"take\.bvh, line 43: nan is not a finite number"),
        (lambda t: t[:-40].rstrip() + "\n", r"take\.bvh, line 44: \d+ numbers where the joints have 22.*cut short"),
        (lambda t: t.replace("1 2 3 10", "1 2 3 10 11", 1), r"line 43: 23 numbers where the joints have 22"),
        (lambda t: t.replace("Frames: 2", "Frames: 5"), r"line 44: the file ends after 2 of 5 frames.*cut short"),
        (lambda t: t.replace("Frames: 2", "Frames: 1"), r"line 44: more frames follow than the 1"),
        (lambda t: t.replace("Frames: 2", "Frames: 0"), r"line 40: Frames 0 .* hold no motion"),
        (lambda t: t.replace("Frames: 2", "Frames: many"), "Frames many"),
        (lambda t: t.replace("0.0333333", "-1"), "Frame Time -1"),
        (lambda t: t[: t.index("MOTION")], "cut short"),
        (lambda t: t[: t.index("JOINT RightLeg")], "cut short"),
        (lambda t: t[: t.index("Frames")], "Frames and Frame Time are missing"),
        (lambda t: t.replace("OFFSET 9 -8 0", "OFFSET 9 -8 x"), r"line 8: x is not a finite number"),
        (lambda t: t.replace("OFFSET 9 -8 0", "OFFSET 9 inf 0"), r"line 8: inf is not a finite number"),
        (lambda t: t.replace("OFFSET 9 -8 0", "OFFSET 9 -8"), r"line 9: CHANNELS is not a finite number"),
        (
            lambda t: t.replace("Yrotation Xrotation Zrotation", "Yrotation Xrotation Wrotation"),
            "Wrotation is not a channel",
        ),
        (lambda t: t.replace("CHANNELS 1 X", "CHANNELS 1.5 X"), "not a count"),
        (lambda t: t.replace("JOINT LeftLeg", "BONE LeftLeg"), "BONE is not expected"),
        (lambda t: "solid cube\n" + t, r"line 1: HIERARCHY was expected, not solid"),
        (lambda t: "", "HIERARCHY"),
        (lambda t: t.replace("1e1", "1,5", 1), "1,5 is not a finite number"),
        (lambda t: t.replace("LeftLeg", "Plank"), "left knee"),
        (lambda t: re.sub(r"OFFSET 0 -4. 0", "OFFSET 0 0 0", t), "length zero"),
    ],
)
def test_damage_is_said_with_file_and_line(tmp_path, change, sentence):
    path = text_file(tmp_path, change(LEGS))
    with pytest.raises(MotionError, match=sentence) as error:
        bvh.load(path)
    assert "take.bvh" in str(error.value)


@given(st.integers(0, len(LEGS) - 2))
@settings(max_examples=150, deadline=None)
def test_a_cut_file_never_gives_anything_but_a_sentence(length):
    try:
        bvh.parse(LEGS[:length])
    except MotionError:
        return
    pytest.fail("a cut file was read as whole")


def test_missing_and_unwritable_files(tmp_path):
    with pytest.raises(MotionError, match=r"none\.bvh cannot be read"):
        bvh.load(tmp_path / "none.bvh")
    motion = bvh.load(text_file(tmp_path))
    with pytest.raises(MotionError, match="cannot be written"):
        bvh.save(motion, tmp_path / "no" / "folder" / "x.bvh")


def test_nothing_unfinished_is_written(tmp_path):
    motion = bvh.load(text_file(tmp_path))
    motion.rotations[1, 0] = np.nan
    with pytest.raises(MotionError, match="frame 1"):
        bvh.save(motion, tmp_path / "x.bvh")
    assert not (tmp_path / "x.bvh").exists()


@pytest.mark.parametrize(
    ("size", "unit", "scale"),
    [(1, "centimetres", 0.01), (0.01, "metres", 1), (10, "millimetres", 0.001), (1 / 2.54, "inches", 0.0254),
     (0.01 / (0.0254 / 0.45), "CMU units", 0.0254 / 0.45)],
)  # fmt: skip
def test_unit_is_inferred_and_logged(tmp_path, caplog, size, unit, scale):
    def grow(match):
        return "OFFSET " + " ".join(repr(float(x) * size) for x in match.group(1).split())

    path = text_file(tmp_path, re.sub(r"OFFSET (.*)", grow, LEGS))
    with caplog.at_level(logging.INFO, logger="mmdm_engine.bvh"):
        motion = bvh.load(path)
    assert unit in caplog.text
    assert motion.skeleton.leg_length == pytest.approx(0.82)
    assert bvh.infer_scale(bvh.read(path).hierarchy)[0] == pytest.approx(scale)


def test_an_unknown_unit_is_scaled_to_an_adult_and_warned_about(tmp_path, caplog):
    path = text_file(tmp_path, LEGS.replace("OFFSET 0 -42", "OFFSET 0 -420000").replace("-40", "-400000"))
    assert bvh.load(path).skeleton.leg_length == pytest.approx(0.82, rel=1e-4)
    assert "unknown unit" in caplog.text
    assert caplog.records[0].levelno == logging.WARNING
    with pytest.raises(MotionError, match="scale must be a positive"):
        bvh.load(path, scale=0)


@given(st.permutations([0, 1, 2]), st.tuples(*[st.floats(-180, 180)] * 3))
@settings(max_examples=200, deadline=None)
def test_euler_round_trip_in_any_order_also_at_gimbal_lock(order, degrees):
    q = bvh.from_euler(np.radians([degrees]), list(order))
    again = bvh.from_euler(bvh.to_euler(q, list(order)), list(order))
    assert rot.angle(q, again).max() < 1e-7
    expected = Rotation.from_euler("".join("XYZ"[a] for a in order), degrees, degrees=True)
    assert rot.angle(q[0], expected.as_quat()[[3, 0, 1, 2]]) < 1e-9


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1], [1, 2, 0], [0, 2, 1], [2, 1, 0], [1, 0, 2]])
def test_euler_at_exact_gimbal_lock(order):
    for middle in (90.0, -90.0):
        q = bvh.from_euler(np.radians([[30.0, middle, -70.0]]), order)
        assert rot.angle(q, bvh.from_euler(bvh.to_euler(q, order), order)).max() < 1e-7


@pytest.mark.parametrize("name", FILES)
def test_real_files_come_back_to_the_bit(data, tmp_path, name):
    path, out = data(name), tmp_path / "out.bvh"
    before = bvh.read(path)
    bvh.save(bvh.load(path), out, like=path)
    after = bvh.read(out)
    np.testing.assert_array_equal(before.values, after.values)
    assert before.frame_time_text == after.frame_time_text
    assert before.header.split() == after.header.split()


@pytest.mark.parametrize("name", FILES)
def test_an_edit_of_one_joint_leaves_the_others(data, tmp_path, name):
    path, out = data(name), tmp_path / "out.bvh"
    before, motion = bvh.read(path), bvh.load(path)
    rotations = motion.rotations.copy()
    turn = rot.exp(np.array([0.3, 0.2, -0.4]))
    rotations[40:70, 18] = rot.multiply(rotations[40:70, 18].astype(np.float64), turn)
    bvh.save(motion.with_frames(rotations, motion.root), out, like=path)
    after = bvh.read(out)
    rows, columns = np.nonzero(before.values != after.values)
    assert (rows.min(), rows.max()) == (40, 69)
    owners = np.repeat(np.arange(len(before.channels)), [len(c) for c in before.channels])
    names = {before.hierarchy.names[owners[c]].lower() for c in columns}
    assert len(names) == 1
    assert re.search("forearm|elbow", names.pop())
    assert rot.angle(bvh.load(out).rotations.astype(np.float64), rotations.astype(np.float64)).max() < 1e-5


@pytest.mark.parametrize("style", ["fill", "refine"])
@pytest.mark.parametrize("name", ["cmu/raw/06_04.bvh", "rigs/chest_collar_100style_like.bvh", "rigs/axisneuron_18.bvh"])
def test_edits_everywhere_are_read_back(data, tmp_path, name, style):
    path, out = data(name), tmp_path / "out.bvh"
    motion = bvh.load(path)
    motion = Motion(motion.rotations[:300], motion.root[:300], motion.skeleton, motion.fps)
    noise = rot.exp(np.random.default_rng(0).standard_normal((len(motion), 22, 3)) * 0.05)
    noise[:, ~motion.skeleton.exists] = rot.IDENTITY
    edited = motion.with_frames(
        rot.multiply(motion.rotations.astype(np.float64), noise), motion.root + np.float32(0.02)
    )
    bvh.save(edited, out, like=path, style=style)
    again = bvh.load(out)
    assert rot.angle(again.rotations.astype(np.float64), edited.rotations.astype(np.float64)).max() < 1e-5
    np.testing.assert_allclose(again.root, edited.root, atol=1e-6)


def test_written_angles_stay_continuous(data, tmp_path):
    """No channel jumps by a turn inside an edited stretch."""
    path, out = data("cmu/raw/06_12.bvh"), tmp_path / "out.bvh"
    motion = bvh.load(path)
    half = rot.exp(np.linspace(0, 2.5, 200)[:, None] * np.array([0.1, 1.0, 0.2]))
    rotations = motion.rotations.copy()
    rotations[300:500, 0] = rot.multiply(half, rotations[300:500, 0].astype(np.float64))
    bvh.save(motion.with_frames(rotations, motion.root), out, like=path)
    values = bvh.read(out).values[299:500, 3:6]
    assert np.abs(np.diff(values, axis=0)).max() < 60


def test_other_lengths_rates_and_sizes_go_onto_a_file(data, tmp_path):
    path, out = data("cmu/raw/06_04.bvh"), tmp_path / "out.bvh"
    motion = bvh.load(path)
    part = Motion(motion.rotations[50:90], motion.root[50:90], motion.skeleton, 24.0)
    bvh.save(part, out, like=path)
    again = bvh.load(out)
    assert len(again) == 40
    assert again.fps == pytest.approx(24)
    assert rot.angle(again.rotations.astype(np.float64), part.rotations.astype(np.float64)).max() < 1e-5
    odd = bvh.load(path, scale=0.0123)
    bvh.save(odd, out, like=path)
    np.testing.assert_array_equal(bvh.read(out).values, bvh.read(path).values)


@pytest.mark.parametrize("name", FILES[::3])
def test_canonical_files_are_read_back_exactly(data, tmp_path, name):
    motion, out = bvh.load(data(name)), tmp_path / "out.bvh"
    bvh.save(motion, out)
    again = bvh.load(out, scale=1.0)
    assert again.fps == motion.fps
    np.testing.assert_array_equal(again.skeleton.exists, motion.skeleton.exists)
    np.testing.assert_allclose(again.skeleton.offsets, motion.skeleton.offsets, atol=1e-8)
    np.testing.assert_allclose(again.root, motion.root, atol=1e-7)
    assert rot.angle(again.rotations.astype(np.float64), motion.rotations.astype(np.float64)).max() < 1e-6


def test_a_pack_clip_becomes_a_file_with_smpl_names(val_motion, tmp_path):
    out = tmp_path / "out.bvh"
    bvh.save(val_motion, out)
    assert "ROOT pelvis" in out.read_text()
    again = bvh.load(out)
    wanted, found = (
        kinematics.positions(
            m.rotations.astype(np.float64), m.root.astype(np.float64), m.skeleton.offsets.astype(np.float64)
        )
        for m in (val_motion, again)
    )
    np.testing.assert_allclose(found, wanted, atol=1e-5)


def test_a_root_that_cannot_move_is_said(tmp_path):
    text = LEGS.replace("CHANNELS 6 Xposition Yposition Zposition Zrotation X", "CHANNELS 3 Zrotation X")
    path = text_file(tmp_path, text.replace("1 2 3 10 20 30", "10 20 30"))
    motion = bvh.load(path)
    with pytest.raises(MotionError, match="no position channels"):
        bvh.save(motion.with_frames(motion.rotations, motion.root + 1), tmp_path / "out.bvh", like=path)


def test_joints_with_fewer_channels_keep_what_they_can_do(tmp_path):
    """The left knee has one channel: its flexion is written, the rest of the edit cannot be."""
    path, out = text_file(tmp_path), tmp_path / "out.bvh"
    motion = bvh.load(path)
    rotations = motion.rotations.copy()
    rotations[:, 4] = rot.exp(np.array([0.5, 0, 0]))
    bvh.save(motion.with_frames(rotations, motion.root), out, like=path)
    assert bvh.read(out).values[0, 9] == pytest.approx(np.degrees(0.5), abs=1e-4)


def test_skeleton_without_feet_keeps_its_legs(tmp_path):
    exists = np.ones(22, bool)
    exists[[10, 11]] = False
    offsets = bvh.load(text_file(tmp_path)).skeleton.offsets.copy()
    offsets[7] = offsets[8] = (0, -0.4, 0)
    offsets[10] = offsets[11] = (0, 0, 0.13)
    rotations = np.zeros((2, 22, 4), np.float32)
    rotations[..., 0] = 1
    motion = Motion(rotations, np.zeros((2, 3)), Skeleton(offsets, exists), 30)
    bvh.save(motion, tmp_path / "out.bvh")
    again = bvh.load(tmp_path / "out.bvh")
    assert not again.skeleton.exists[[10, 11]].any()
    np.testing.assert_allclose(again.skeleton.offsets[10], [0, 0, 0.13], atol=1e-6)
