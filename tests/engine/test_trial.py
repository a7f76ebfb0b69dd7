"""Trial: holes of the gap's own pattern in good motion, predictions that are worth something, exact blending."""

from __future__ import annotations

import argparse
import json

import numpy as np
import pytest

import mmdm_engine as mmdm
from mmdm_engine import MotionError, baselines, cli, evaluate, worker
from mmdm_engine import rotations as rot
from mmdm_engine.contract import protocol
from mmdm_engine.pack import resample
from mmdm_engine.priors import difficulty
from mmdm_engine.priors import trial as trials
from mmdm_engine.priors.difficulty import Formula


@pytest.fixture(scope="module")
def take(pack_clip):
    """Some eight seconds at 30 fps."""
    return resample(pack_clip("02_05"), 30.0).slice(0, 240)


def _hole(motion, start, stop):
    rotations, root = motion.rotations.copy(), motion.root.copy()
    rotations[start:stop], root[start:stop] = np.nan, np.nan
    return motion.with_frames(rotations, root)


@pytest.fixture
def places(monkeypatch):
    """What `attempt` fills: the gap first, then the holes, in frames of the take it is given."""
    seen = []
    real = trials._fill

    def spy(network, take, where, *rest):
        seen.append((take, where))
        return real(network, take, where, *rest)

    monkeypatch.setattr(trials, "_fill", spy)
    return seen


def test_the_gap_itself_is_never_looked_at(take):
    rng = np.random.default_rng(0)
    rotations, root = take.rotations.copy(), take.root.copy()
    rotations[100:130] = rot.normalize(rng.normal(size=(30, 22, 4)))
    root[100:130] += 5
    plain = mmdm.trial(_hole(take, 100, 130), 100, 130)
    assert plain == mmdm.trial(take.with_frames(rotations, root), 100, 130)
    assert plain.holes == trials.HOLES
    assert 0 < plain.ours.position_cm < 100
    assert 0 < plain.ours.angle_deg < 60
    assert plain.sentence.startswith(f"expected {plain.ours.position_cm:.1f} cm / ")
    assert f"Bézier {plain.bezier.position_cm:.1f} cm" in plain.sentence


def test_holes_lie_in_good_motion_only(take, places):
    broken = _hole(_hole(take, 100, 115), 150, 160)
    rotations, root = broken.rotations.copy(), broken.root.copy()
    rotations[20:32], root[20:32] = rotations[20], root[20]  # a frozen run
    mmdm.trial(broken.with_frames(rotations, root), 100, 115)
    ((_, (gap, *holes)),) = places
    assert (gap.start, gap.stop) == (100, 115)
    assert len(holes) == trials.HOLES
    for hole in holes:
        assert hole.stop - hole.start == 15
        seen = set(range(hole.first, hole.last))
        assert not seen & ({*range(100, 115)} | {*range(150, 160)} | {*range(20, 32)})
        assert hole.start - hole.first >= 4
        assert hole.last - hole.stop >= 4
    assert len({hole.start for hole in holes}) == trials.HOLES


def test_a_pose_that_is_held_for_a_moment_is_no_frozen_run(take, places):
    rotations, root = take.rotations.copy(), take.root.copy()
    rotations[61], root[61] = rotations[60], root[60]
    assert not trials._frozen(take.with_frames(rotations, root)).any()
    rotations[60:66], root[60:66] = rotations[60], root[60]
    assert trials._frozen(take.with_frames(rotations, root)).nonzero()[0].tolist() == [60, 61, 62, 63, 64, 65]


def test_too_little_good_motion_is_said_and_is_no_error(take):
    short = take.slice(90, 140)
    found = mmdm.trial(short, 10, 40)
    assert found.holes == 0
    assert found.blend == 0
    assert found.ours.position_cm > 0
    assert "too little good motion" in found.sentence


@pytest.mark.parametrize(("start", "stop"), [(0, 20), (220, 240), (0, 239), (1, 240), (100, 101), (5, 235)])
def test_every_legal_gap_gets_an_answer(take, start, stop):
    found = mmdm.trial(_hole(take, start, stop), start, stop)
    for expected in (found.ours, found.bezier, found.interpolation):
        assert np.isfinite([expected.position_cm, expected.angle_deg]).all()


def test_what_is_no_gap_is_an_error(take):
    with pytest.raises(MotionError, match="inside it"):
        mmdm.trial(take, 230, 250)
    with pytest.raises(MotionError, match="no frame of the motion to start from"):
        mmdm.trial(take, 0, 240)
    with pytest.raises(MotionError, match="no good motion next to it"):
        mmdm.trial(_hole(_hole(take, 90, 110), 120, 140), 110, 120)
    with pytest.raises(MotionError, match="try it out on this one"):
        mmdm.blended(take.slice(0, 50), mmdm.trial(take, 100, 105))


def test_size_heading_and_place_do_not_count(take):
    small = take.slice(60, 180)
    plain = mmdm.trial(small, 40, 60)
    turn = rot.about_y(np.array(1.1))
    rotations = small.rotations.astype(np.float64)
    rotations[:, 0] = rot.multiply(turn, rotations[:, 0])
    root = 100 * rot.rotate(turn, small.root.astype(np.float64)) + [3, 10, -2]
    skeleton = mmdm.Skeleton(100 * small.skeleton.offsets, small.skeleton.exists)
    giant = mmdm.trial(mmdm.Motion(rotations, root, skeleton, small.fps), 40, 60)
    # Blender's curves of the pelvis' quaternion, from which the error is judged too, depend on the heading by a percent
    assert giant.ours.position_cm == pytest.approx(100 * plain.ours.position_cm, rel=0.03)
    assert giant.ours.angle_deg == pytest.approx(plain.ours.angle_deg, rel=0.03)
    assert giant.holes == plain.holes


def test_keys_and_joints_make_it_easier_and_pattern_reaches_the_holes(take):
    whole = mmdm.trial(take, 100, 130)
    keyed = mmdm.trial(take, 100, 130, keep=[107, 115, 122])
    assert keyed.bezier.position_cm < 0.5 * whole.bezier.position_cm
    assert not keyed.hidden[[107, 115, 122]].any()
    arm = mmdm.trial(take, 100, 130, joints=["left_shoulder", "left_elbow", "left_wrist"])
    assert arm.hidden.any(axis=0).nonzero()[0].tolist() == [16, 18, 20]
    assert arm.ours.position_cm > 0


def test_only_joints_that_can_move_are_measured(take):
    pattern = np.zeros((4, 23), bool)
    pattern[1:3, 18] = True
    measure = trials.Measure(take, pattern)
    q, p = take.rotations[None, :4].astype(float), take.root[None, :4].astype(float)
    bent = q.copy()
    bent[0, 2, 18] = rot.multiply(bent[0, 2, 18], rot.exp(np.array([0, 0, 0.2])))
    distance, angle = measure((bent, p), (q, p))[0]
    forearm = np.linalg.norm(take.skeleton.offsets[20])
    assert angle == pytest.approx(np.degrees(0.2) / 2, rel=1e-4)  # one of two frames
    chord = 2 * forearm * np.sin(0.1) / take.skeleton.leg_length
    assert distance <= chord / 4 + 1e-9  # elbow and wrist, two frames: one of four
    assert distance > 0.5 * chord / 4


def _attempt(errors, blended, weights=None, leg=0.8):
    errors, blended = np.asarray(errors, float), np.asarray(blended, float)
    holes = len(errors)
    weights = np.ones(holes) if weights is None else np.asarray(weights, float)
    return trials.Attempt(np.zeros((holes + 1, 3)), errors, blended, weights, (), np.zeros((5, 23), bool), leg)


def _flat(level):
    """A formula that expects the same of every gap."""
    weights = np.zeros((1 + 3 + 6, 3, 2))
    weights[0] = np.log(level)
    return Formula(np.zeros(3), np.ones(3), weights)


def test_holes_correct_the_formula_by_their_weight():
    errors = np.tile([[[0.04, 8.0], [0.08, 9.0], [0.1, 10.0]]], (2, 1, 1))
    blends = np.full((2, 2, 4, 2), 99.0)
    found = trials.judged(_attempt(errors, blends, [1.0, 0.5]), 1, 3, _flat(0.02))
    part = 1.5 / (1.5 + trials.TRUST)
    for method, column in (("ours", 0), ("bezier", 1), ("interpolation", 2)):
        expected = getattr(found, method)
        for value, unit, k in ((expected.position_cm, 100 * 0.8, 0), (expected.angle_deg, 1, 1)):
            floor = difficulty.SMALLEST[k]
            shift = part * (np.log(errors[0, column, k] + floor) - np.log(0.02))
            assert value == pytest.approx(unit * (0.02 * np.exp(shift - trials.LEAN) - floor))
    assert found.blend == 0


def test_the_better_curve_is_mixed_in_only_where_neither_figure_suffers():
    errors = np.ones((4, 3, 2))
    blends = np.ones((4, 2, 4, 2))
    assert trials.judged(_attempt(errors, blends), 0, 1, _flat(1.0)).blend == 0
    blends[:, 1, 2] = [0.9, 0.95]
    blends[:, 0, 3] = [0.2, 1.05]  # a better position at the price of the angle
    found = trials.judged(_attempt(errors, blends), 0, 1, _flat(1.0))
    assert (found.blend, found.towards) == (0.75, "interpolation")
    assert found.ours.position_cm < found.unblended.position_cm
    assert "75 % interpolation" in found.sentence
    assert trials.judged(_attempt(errors[:2], blends[:2]), 0, 1, _flat(1.0)).blend == 0  # two holes prove nothing


@pytest.mark.parametrize(("share", "towards"), [(1.0, "bezier"), (0.5, "interpolation"), (0.0, "bezier")])
def test_blending_hits_borders_and_keys_and_touches_nothing_else(take, share, towards):
    filled = mmdm.fill_gap(take, 100, 130, keep=[110], lock_feet=False)[0]
    plain = mmdm.trial(take, 100, 130, keep=[110])
    found = trials.Trial(**{**{f: getattr(plain, f) for f in trials.Trial.__dataclass_fields__},
                            "blend": share, "towards": towards})  # fmt: skip
    out = mmdm.blended(filled, found, lock_feet=False)
    kept = ~found.hidden.any(axis=1)
    assert kept[110]
    assert out.rotations[kept].tobytes() == take.rotations[kept].tobytes()
    assert out.root[kept].tobytes() == take.root[kept].tobytes()
    curve = baselines.bezier if towards == "bezier" else baselines.interpolate
    q, p = curve(take.rotations.astype(float), take.root.astype(float), ~found.hidden)
    np.testing.assert_allclose(out.root, filled.root + share * (p - filled.root), atol=1e-5)
    middle = rot.angle(out.rotations.astype(float), filled.rotations.astype(float))
    whole = rot.angle(q, filled.rotations.astype(float))
    np.testing.assert_allclose(middle, share * whole, atol=2e-3)
    steps = np.linalg.norm(np.diff(out.root.astype(float), axis=0), axis=-1)
    assert steps[99:131].max() < 3 * steps[80:150].mean() + 0.02  # no seam


@pytest.mark.parametrize("towards", ["bezier", "interpolation"])
def test_fill_gap_blends_as_a_trial_would(take, towards):
    """For those who carry only the share and the curve from the trial to the filling."""
    plain = mmdm.trial(take, 100, 130)
    found = trials.Trial(**{**{f: getattr(plain, f) for f in trials.Trial.__dataclass_fields__},
                            "blend": 0.5, "towards": towards})  # fmt: skip
    expected = mmdm.blended(mmdm.fill_gap(take, 100, 130, lock_feet=False)[0], found)
    out = mmdm.fill_gap(take, 100, 130, blend=(0.5, towards))[0]
    np.testing.assert_allclose(out.root, expected.root, atol=1e-5)
    assert rot.angle(out.rotations.astype(float), expected.rotations.astype(float)).max() < 1e-3
    with pytest.raises(mmdm.MotionError, match="share from 0 to 1 and one of bezier, interpolation"):
        mmdm.fill_gap(take, 100, 130, blend=(2.0, towards))
    with pytest.raises(mmdm.MotionError, match=r"not 0\.5 of magic"):
        mmdm.fill_gap(take, 100, 130, blend=(0.5, "magic"))


def test_feet_are_locked_after_blending(take):
    filled = mmdm.fill_gap(take, 100, 130, lock_feet=False)[0]
    found = mmdm.trial(take, 100, 130)
    calm = trials.Trial(**{**{f: getattr(found, f) for f in trials.Trial.__dataclass_fields__}, "blend": 0.0})
    np.testing.assert_array_equal(mmdm.blended(filled, calm, lock_feet=False).rotations, filled.rotations)
    locked = mmdm.fill_gap(take, 100, 130)[0]
    np.testing.assert_allclose(mmdm.blended(filled, calm).root, locked.root, atol=1e-5)


def test_the_formula_learns_a_law_and_survives_its_file(tmp_path):
    rng = np.random.default_rng(0)
    found = rng.normal(size=(600, 3))
    law = 0.5 * found[:, 0] - 0.3 * found[:, 1] * found[:, 2] - 2
    errors = np.exp(law)[:, None, None] * np.ones((3, 2))
    errors[::40] *= 9  # some gaps are odd
    formula = Formula.fit(found, errors)
    formula.save(tmp_path / "law.json")
    again = Formula.load(tmp_path / "law.json")
    np.testing.assert_allclose(np.median(np.abs(again(found)[:, 1, 0] - law)), 0, atol=0.1)
    (tmp_path / "law.json").write_text("{}")
    with pytest.raises(MotionError, match="cannot be read"):
        Formula.load(tmp_path / "law.json")


def test_predictions_follow_the_true_error_on_people_never_trained_on(data):
    """A loose bound that chance would not meet: `evaluate trial` gives the figures."""
    from mmdm_engine.evaluate.trial import attempts, calibration
    from mmdm_engine.pack import Pack

    found, clips = attempts(Pack.load(data("cmu/val.npz")), 15, 30.0, 20, None, "cpu", lambda *_: None)
    report = calibration(found, clips, 15, 30.0, Formula.shipped())
    for figure in ("position_cm", "angle_deg"):
        ours = report["methods"]["ours"][figure]
        assert ours["correlation"] > 0.85
        assert 0.75 < ours["bias"] < 1.3
        assert ours["close"] > 0.45
        assert report["blended_to_unblended"][figure][0] < 1.03


def test_the_worker_answers_with_figures_and_a_sentence(take):
    message = protocol.Message({"params": {"fps": take.fps, "start": 100, "stop": 115}}, protocol.motion_arrays(take))
    header, arrays = worker.METHODS["trial"](mmdm, message, lambda *_: None)
    json.dumps(header)
    found = mmdm.trial(take, 100, 115)
    assert not arrays
    assert header["sentence"] == found.sentence
    assert header["ours"] == {"position_cm": found.ours.position_cm, "angle_deg": found.ours.angle_deg}
    assert header["holes"] == 8


def test_fill_with_a_trial_says_what_to_expect(take, tmp_path, capsys):
    mmdm.save_bvh(take, tmp_path / "in.bvh")
    words = ["fill", str(tmp_path / "in.bvh"), str(tmp_path / "out.bvh"), "--start", "100", "--stop", "120"]
    assert cli.main([*words, "--trial"]) == 0
    assert "; expected " in capsys.readouterr().out
    assert cli.main([*words, "--trial", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["trial"]["holes"] == 8
    assert report["trial"]["sentence"].startswith("expected")
    assert len(mmdm.load_bvh(tmp_path / "out.bvh")) == len(take)


def test_evaluate_trial_fits_and_reports(data, tmp_path, capsys):
    parser = argparse.ArgumentParser()
    evaluate.add_arguments(parser)
    table, picture, formula = tmp_path / "t.csv", tmp_path / "p.png", tmp_path / "f.json"
    words = ["trial", "--data", str(data("cmu/val.npz")), "--gaps", "5", "--windows", "6"]
    assert (
        evaluate.run(parser.parse_args([*words, "--fit", str(formula), "--csv", str(table), "--plot", str(picture)]))
        == 0
    )
    assert "within ±30 %" in capsys.readouterr().out
    assert formula.exists()
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert "position_cm.close" in table.read_text()
    assert evaluate.run(parser.parse_args([*words, "--json"])) == 0
    case = json.loads(capsys.readouterr().out)["cases"][0]
    assert case["gap"] == 5
    assert 0 <= case["methods"]["ours"]["angle_deg"]["close"] <= 1
    with pytest.raises(MotionError, match="needs a prior"):
        evaluate.run(parser.parse_args([*words, "--prior", "none"]))
