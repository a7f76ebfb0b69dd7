"""``.npy`` motions in and out: every accepted shape, what is refused, the commands, and cleaning what came in."""

from __future__ import annotations

import json

import numpy as np
import pytest

import mmdm_engine as mmdm
from mmdm_engine import MotionError, cli, exchange, humanml3d, kinematics
from mmdm_engine import rotations as rot
from mmdm_engine.contract import CANONICAL_DIRECTIONS, MAIN_CHILD


def positions(motion):
    return kinematics.positions(
        motion.rotations.astype(np.float64), motion.root.astype(np.float64), motion.skeleton.offsets.astype(np.float64)
    )


@pytest.fixture(scope="module")
def walk(val_motion):
    """A real walk at 20 fps."""
    from mmdm_engine.pack import resample

    return resample(val_motion, 20.0)


@pytest.fixture(scope="module")
def joints(walk):
    return positions(walk).astype(np.float32)


@pytest.fixture(scope="module")
def features(walk):
    return humanml3d.to_humanml3d(walk)


@pytest.fixture
def saved(tmp_path):
    def write(array, name="motion.npy"):
        np.save(tmp_path / name, array)
        return tmp_path / name

    return write


def test_positions_come_back_as_they_were(joints, saved):
    motion = mmdm.load_npy(saved(joints))
    assert (len(motion), motion.fps) == (len(joints), 20)
    np.testing.assert_allclose(positions(motion), joints, atol=2e-5)


@pytest.mark.parametrize(
    ("arrange", "options"),
    [
        (lambda j: j.astype(np.float64), {}), (lambda j: j[None], {}), (lambda j: np.stack([j * 2, j]), {"index": 1}),
        (lambda j: np.moveaxis(j, 0, -1), {}), (lambda j: np.moveaxis(np.stack([j, j * 2]), 1, -1), {"index": 0}),
        (lambda j: np.concatenate([j, np.full_like(j, np.nan)]), {"frames": 58}), (lambda j: j * 100, {"scale": 0.01}),
        (np.asfortranarray, {}),
    ],
    ids=["double", "batch of one", "batch", "time last", "batch, time last", "padded", "centimetres", "fortran"],
)  # fmt: skip
def test_every_arrangement_of_positions(joints, saved, arrange, options):
    assert len(joints) == 58
    motion = mmdm.load_npy(saved(arrange(joints)), **options)
    np.testing.assert_allclose(positions(motion), joints, atol=2e-5)


def test_features_and_tokens_are_the_same_motion(features, saved):
    wanted = humanml3d.from_humanml3d(features)
    for array, options in (
        (features, {}), (humanml3d.to_joint_level(features), {}), (np.stack([features * 0, features]), {"index": 1}),
        (humanml3d.to_joint_level(features)[None], {}),
    ):  # fmt: skip
        motion = mmdm.load_npy(saved(array), **options)
        np.testing.assert_array_equal(motion.rotations, wanted.rotations)
        np.testing.assert_array_equal(motion.root, wanted.root)


def test_frame_rate_is_the_callers(features, saved):
    assert mmdm.load_npy(saved(features), fps=30).fps == 30


@pytest.mark.parametrize("form", ["features", "tokens"])
def test_normalised_files_need_their_statistics(walk, features, saved, data, tmp_path, form):
    statistics = {"mean": data("humanml3d/Mean.npy"), "std": data("humanml3d/Std.npy")}
    out = tmp_path / "normalised.npy"
    shape = mmdm.save_npy(walk, out, form=form, **statistics)
    array = np.load(out)
    assert array.shape == shape == (57, *((263,) if form == "features" else (22, 12)))
    assert np.abs(array[..., :4]).mean() < 20  # standard deviations of speeds are small, so far outliers are normal
    with pytest.raises(MotionError, match="give the mean and std"):
        mmdm.load_npy(out)
    motion = mmdm.load_npy(out, **statistics)
    np.testing.assert_allclose(positions(motion), humanml3d.recover_joints(features), atol=1e-4)
    with pytest.raises(MotionError, match="belong together"):
        mmdm.load_npy(out, mean=statistics["mean"])
    with pytest.raises(MotionError, match="263 finite numbers"):
        mmdm.load_npy(out, mean=statistics["mean"], std=saved(np.ones(66), "std.npy"))
    with pytest.raises(MotionError, match="exchanged"):
        mmdm.load_npy(out, mean=statistics["std"], std=statistics["mean"])


def test_what_is_saved_is_what_the_library_makes(walk, joints, features, tmp_path):
    for form, wanted in (("features", features), ("tokens", humanml3d.to_joint_level(features)), ("joints", joints)):
        shape = mmdm.save_npy(walk, tmp_path / "plain", form=form)  # the name stays, without a suffix
        array = np.load(tmp_path / "plain")
        assert array.dtype == np.float32
        assert array.shape == shape
        np.testing.assert_array_equal(array, wanted)
    assert mmdm.save_npy(walk, tmp_path / "slow", form="joints", fps=10) == (29, 22, 3)


@pytest.mark.parametrize(
    ("array", "options", "words"),
    [
        (np.zeros((5, 262)), {}, "has the shape (5, 262); a motion is"),
        (np.zeros((5, 24, 3)), {}, "(5, 24, 3)"),
        (np.zeros((0, 263)), {}, "(0, 263)"),
        (np.zeros(263), {}, "(263,)"),
        (np.zeros((4, 5, 263)), {}, "holds 4 motions; choose one by its index, 0 to 3"),
        (np.zeros((4, 5, 263)), {"index": 4}, "no motion 4; it holds 4"),
        (np.zeros((4, 5, 263)), {"index": -1}, "no motion -1"),
        (np.zeros((5, 263)), {"index": 2}, "leave the index out"),
        (np.zeros((5, 22, 3)), {"frames": 6}, "has 5 frames, so 6"),
        (np.zeros((5, 22, 3)), {"fps": 0}, "frame rate must be a positive"),
        (np.zeros((5, 22, 3)), {"scale": -1}, "scale must be a positive"),
        (np.zeros((5, 263)), {"scale": 2}, "leave the scale out"),
        (np.zeros((5, 22, 3)), {}, "are no figure"),
        (np.zeros((5, 263), complex), {}, "no real numbers"),
        (np.array(["walk"]), {}, "no real numbers"),
        (np.array([{"motion": 1}]), {}, "pickled Python object"),
    ],
)  # fmt: skip
def test_wrong_files_are_said_in_one_sentence(saved, array, options, words):
    with pytest.raises(MotionError) as error:
        mmdm.load_npy(saved(array), **options)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_numbers_that_are_no_figure_are_said(joints, features, saved, tmp_path):
    random = np.random.default_rng(0)
    with pytest.raises(MotionError, match="order of its joints"):
        mmdm.load_npy(saved(random.permutation(joints.reshape(-1, 3)).reshape(joints.shape)))
    with pytest.raises(MotionError, match=r"83\.8 m long; give a scale, such as 0\.01"):
        mmdm.load_npy(saved(joints * 100))
    broken = features.copy()
    broken[30:] = np.nan
    with pytest.raises(MotionError, match="from frame 30 on; take fewer frames"):
        mmdm.load_npy(saved(broken))
    assert len(mmdm.load_npy(saved(broken), frames=30)) == 30
    (tmp_path / "text.npy").write_text("not an array")
    with pytest.raises(MotionError, match="not a sound"):
        mmdm.load_npy(tmp_path / "text.npy")
    whole = saved(features).read_bytes()
    (tmp_path / "cut.npy").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(MotionError, match="not a sound"):
        mmdm.load_npy(tmp_path / "cut.npy")
    with pytest.raises(MotionError, match="cannot be read"):
        mmdm.load_npy(tmp_path / "absent.npy")


def test_exports_that_make_no_sense_are_said(walk, tmp_path):
    for options, words in (
        ({"form": "features", "fps": 30}, "always at 20 fps"), ({"form": "joints", "mean": "m", "std": "s"}, "are not"),
        ({"form": "joints", "fps": -2}, "positive number"), ({"form": "words"}, "no form words"),
    ):  # fmt: skip
        with pytest.raises(MotionError, match=words):
            mmdm.save_npy(walk, tmp_path / "out.npy", **options)
    with pytest.raises(MotionError, match="cannot be written"):
        mmdm.save_npy(walk, tmp_path / "no" / "out.npy")
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------- positions to rotations


def test_bones_of_changing_length_become_bones_of_one_length_near_by(joints):
    """What a network makes is no skeleton; errors of a limb must not add up from hip to toe."""
    noise = 0.01
    shaken = joints + np.random.default_rng(0).normal(scale=noise, size=joints.shape)
    motion = exchange.from_positions(shaken, 20.0)
    error = np.linalg.norm(positions(motion) - shaken, axis=-1)
    assert error.mean() < 1.7 * noise  # no further from the data than its noise, whose mean length is 1.6 σ
    assert error[:, [10, 11, 20, 21]].mean() < 1.7 * noise
    np.testing.assert_array_equal(motion.root, shaken[:, 0].astype(np.float32))


@pytest.mark.parametrize("name", ["94_07_p2", "131_02", "06_05"])
def test_pelvis_and_legs_turn_as_in_the_source(pack_clip, name):
    from mmdm_engine.pack import resample

    source = resample(pack_clip(name), 20.0)
    found = exchange.from_positions(positions(source), 20.0)
    angles = np.degrees(rot.angle(source.rotations.astype(np.float64), found.rotations.astype(np.float64)))
    median = np.median(angles, axis=0)
    assert median[0] < 12  # the spine starts at the hips here, so the pelvis's tilt is known on average only
    assert median[[4, 5]].max() < 2
    offsets = found.skeleton.offsets
    for joint, child in enumerate(MAIN_CHILD):
        if child >= 0 and np.linalg.norm(offsets[child]) > 0.02:
            along = offsets[child] @ CANONICAL_DIRECTIONS[joint] / np.linalg.norm(offsets[child])
            assert along > 0.99999, joint


def test_a_straight_arm_does_not_lose_its_turn(walk):
    """The elbow is straightened for half a second: the upper arm's turn about itself is carried over."""
    bent = walk.rotations.astype(np.float64).copy()
    bent[:, 18] = rot.exp(np.broadcast_to([0, -0.8, 0], (len(bent), 3)))
    bent[:, 16] = rot.exp(np.broadcast_to([0.9, 0.0, 0.0], (len(bent), 3)))
    source = walk.with_frames(bent, walk.root)
    bent = bent.copy()
    bent[20:30, 18] = rot.exp(np.array([0, -0.01, 0.01]))
    straight = walk.with_frames(bent, walk.root)
    wanted, found = (exchange.from_positions(positions(m), 20.0).rotations for m in (source, straight))
    assert np.degrees(rot.angle(wanted, found))[:, 16].max() < 3


# ---------------------------------------------------------------- commands


def test_import_and_export_are_each_others_inverse(walk, joints, saved, tmp_path, capsys):
    bvh, back = tmp_path / "walk.bvh", tmp_path / "back.npy"
    assert cli.main(["import", str(saved(joints)), str(bvh)]) == 0
    assert "58 frames at 20 fps" in capsys.readouterr().out
    assert cli.main(["export", str(bvh), str(back), "--form", "joints", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["shape"] == [58, 22, 3]
    np.testing.assert_allclose(np.load(back), joints, atol=2e-5)


def test_features_survive_a_bvh_file(features, saved, tmp_path):
    bvh, back = tmp_path / "walk.bvh", tmp_path / "back.npy"
    assert cli.main(["import", str(saved(features)), str(bvh), "--json"]) == 0
    assert cli.main(["export", str(bvh), str(back)]) == 0
    again = np.load(back)
    assert again.shape == (56, 263)
    kept = [*range(67), *range(193, 259)]  # rotations follow from positions, contacts from a threshold
    heading = 10  # frames: the heading's filter sees the end of the take from some way off
    np.testing.assert_allclose(again[:-heading, 3], features[: 56 - heading, 3], atol=1e-4)
    assert np.abs(again - features[:56])[: 56 - heading, kept].max() < 0.02


def test_the_commands_fail_with_a_sentence(saved, tmp_path, capsys):
    out = tmp_path / "out.bvh"
    assert cli.main(["import", str(saved(np.zeros((3, 7)))), str(out)]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert cli.main(["export", str(tmp_path / "none.bvh"), str(tmp_path / "out.npy")]) == 1
    assert "none.bvh" in capsys.readouterr().err
    assert not out.exists()


# ---------------------------------------------------------------- cleaning what came in


def test_text_to_motion_output_is_cleaned_filled_saved_and_loaded(joints, saved, tmp_path):
    """The whole chain on positions as a text-to-motion network gives them: shaken, with bones of changing length."""
    pytest.importorskip("torch", reason="the priors need torch")
    shaken = joints + np.random.default_rng(1).normal(scale=0.006, size=joints.shape).astype(np.float32)
    motion = mmdm.load_npy(saved(shaken))
    clean = mmdm.refine(motion, lock_feet=False)

    def shake(m):
        return np.linalg.norm(np.diff(positions(m), n=2, axis=0), axis=-1).mean()

    assert shake(clean) < 0.6 * shake(motion)
    filled = mmdm.fill_gap(clean, 20, 35)[0]
    np.testing.assert_array_equal(filled.rotations[:20], clean.rotations[:20])
    np.testing.assert_array_equal(filled.rotations[35:], clean.rotations[35:])
    mmdm.save_bvh(filled, tmp_path / "filled.bvh")
    again = mmdm.load_bvh(tmp_path / "filled.bvh")
    np.testing.assert_allclose(positions(again), positions(filled), atol=2e-5)
    assert rot.angle(again.rotations, filled.rotations).max() < 1e-5
