"""Evaluation: the same windows every time, nothing of the truth reaches a method, and figures that add up."""

from __future__ import annotations

import argparse
import csv
import json

import made_up
import numpy as np
import pytest

from mmdm_engine import Motion, MotionError, Skeleton, baselines, evaluate, metrics
from mmdm_engine import rotations as rot
from mmdm_engine.baselines import Filter
from mmdm_engine.evaluate import filters, noise
from mmdm_engine.metrics import Score
from mmdm_engine.pack import Pack, resample

FPS = 60.0


def _clip(frames: int, seed: int) -> Motion:
    random = np.random.default_rng(seed)
    t = np.arange(frames) / FPS
    speed, phase = random.uniform(0.5, 2, (22, 3)), random.uniform(0, 6, (22, 3))
    rotations = rot.exp(0.4 * np.sin(t[:, None, None] * speed * 2 + phase))
    root = np.stack([t, 0.9 + 0.05 * np.sin(6 * t), np.sin(t)], -1)
    return Motion(rotations, root, made_up.skeleton(), FPS)


@pytest.fixture(scope="module")
def pack_path(tmp_path_factory):
    clips = [_clip(frames, seed) for seed, frames in enumerate([200, 80, 500, 420, 30])]
    labels = ["walk", "walk - slow", "dance, turn", "Dance/jump", "stand"]
    names = np.array([f"clip{i}" for i in range(5)])
    return made_up.write_pack(tmp_path_factory.mktemp("pack") / "small.npz", clips, labels, names=names)


@pytest.fixture
def pack(pack_path):
    return Pack.load(pack_path)


def _run(*words: str) -> int:
    parser = argparse.ArgumentParser()
    evaluate.add_arguments(parser)
    return evaluate.run(parser.parse_args(words))


@pytest.mark.parametrize(
    ("name", "label", "kind"),
    [
        ("02_05", "punch/strike", "punch"),
        ("06_02", "basketball - forward dribble", "basketball"),
        ("x", "Bend over, scoop up", "bend over"),
        ("dataset-2_raise-up-both-hands_elderly_005", "", "raise-up-both-hands"),
        ("clip_7", "", ""),
    ],
)
def test_category_from_label_or_name(name, label, kind):
    assert evaluate.category(name, label) == kind


@pytest.mark.parametrize("count", [1, 7, 40, 10_000])
def test_windows_are_even_repeatable_and_inside_their_clips(pack, count):
    frames = 50
    windows = evaluate.cut(pack, 30.0, frames, count)
    again = evaluate.cut(pack, 30.0, frames, count)
    total = sum(max(0, len(resample(m, 30.0)) - frames + 1) for m in pack)
    assert min(count, total) <= len(windows) <= max(1.5 * count, 1)
    assert all(len(w.motion) == frames for w in windows)
    assert all((a.motion.root == b.motion.root).all() for a, b in zip(windows, again, strict=True))
    if count == 40:
        share = np.bincount([w.clip for w in windows], minlength=5)
        assert share[2] > share[0] > 0
        assert share[4] == 0
    if count == 10_000:
        assert len(windows) == total


def test_windows_too_long_for_the_pack_are_an_error(pack):
    with pytest.raises(MotionError, match="holds 900 frames"):
        evaluate.cut(pack, 30.0, 900, 10)


def test_a_perfect_method_scores_zero_and_no_method_sees_the_gap(pack):
    truth = {w.motion.root.tobytes()[:24]: w.motion for w in evaluate.cut(pack, 30.0, 12 + 12 + 12, 20)}
    seen = []

    def oracle(motions, start, stop, keep):
        seen.extend(motions)
        return [truth[m.root.tobytes()[:24]] for m in motions]

    methods = {**evaluate.FILLERS, "ours": oracle}
    report = evaluate.inbetween(pack, 12, 30.0, 20, methods=methods)
    assert report["windows"] == len(seen) == len(truth)
    for motion in seen:
        assert np.isnan(motion.rotations[12:24]).all()
        assert np.isnan(motion.root[12:24]).all()
        assert np.isfinite(motion.rotations[:12]).all()
        assert np.isfinite(motion.root[24:]).all()
    for name, entry in report["figures"].items():
        if name != "foot_slide_cm_s":
            assert entry["values"]["ours"] == pytest.approx(0, abs=1e-5)
            assert entry["values"]["interpolation"] > 1e-3
            assert entry["ours_to_best"][2] < 0.01


def test_kept_keys_are_shown_to_every_method_and_help(pack):
    plain = evaluate.inbetween(pack, 24, 30.0, 12)
    seen = []

    def spy(motions, start, stop, keep):
        seen.append((keep, motions))
        return evaluate.FILLERS["interpolation"](motions, start, stop, keep)

    keyed = evaluate.inbetween(pack, 24, 30.0, 12, keys=6, methods={"interpolation": spy, "bezier": spy})
    keep, motions = seen[0]
    assert keep == [17, 23, 29, 35]
    assert np.isfinite(motions[0].root[keep]).all()
    assert np.isnan(motions[0].root[[12, 16, 18]]).all()
    figures = [r["figures"]["mpjpe_mm"]["values"]["interpolation"] for r in (plain, keyed)]
    assert figures[1] < 0.3 * figures[0]
    assert keyed["figures"]["mpjpe_mm"]["ratio_to_interpolation"]["bezier"][0] == pytest.approx(1)


def test_interpolation_figure_is_what_a_loop_finds(pack):
    report = evaluate.inbetween(pack, 12, 30.0, 10)
    errors = []
    for window in evaluate.cut(pack, 30.0, 36, 10):
        m = window.motion
        for t in range(12, 24):
            part = (t - 11) / 13
            q = rot.slerp(m.rotations[11], m.rotations[24], part)[None, None]
            p = (m.root[11] + part * (m.root[24] - m.root[11]))[None, None]
            truth = m.rotations[None, t : t + 1], m.root[None, t : t + 1]
            offsets = m.skeleton.offsets[None]
            errors.append(metrics.mpjpe(metrics.forward(q, p, offsets), metrics.forward(*truth, offsets)).value)
    assert report["figures"]["mpjpe_mm"]["values"]["interpolation"] == pytest.approx(np.mean(errors), rel=1e-3)


def test_short_gaps_need_a_spectrum(pack):
    with pytest.raises(MotionError, match="at least two frames"):
        evaluate.inbetween(pack, 1, 30.0, 5)


def test_bootstrap_is_paired_and_draws_whole_clips():
    clips = np.repeat(np.arange(12), 5)
    rng = np.random.default_rng(0)
    level = np.repeat(rng.uniform(1, 9, 12), 5)
    base = Score(level + rng.uniform(0, 0.1, 60), np.ones(60))
    half = Score(base.total * 0.5, base.weight)
    ratio, low, high = evaluate.bootstrap_ratio(half, base, clips)
    assert (ratio, low, high) == pytest.approx((0.5, 0.5, 0.5))  # levels differ 9-fold, the pairs do not
    # what differs between clips only, one window per clip tells as much as five
    other = Score(base.total * np.repeat(rng.uniform(0.5, 1.5, 12), 5), base.weight)
    ratio, low, high = evaluate.bootstrap_ratio(other, base, clips)
    first = clips.searchsorted(np.arange(12))
    _, low1, high1 = evaluate.bootstrap_ratio(other.of(first), base.of(first), clips[first])
    assert low < ratio < high
    assert high - low == pytest.approx(high1 - low1, rel=0.1)
    assert evaluate.bootstrap_ratio(other, base, clips) == (ratio, low, high)


def test_bootstrap_bounds_hold_what_they_claim():
    """Of 200 experiments with a known ratio about 95 % have it inside their bounds."""
    inside = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        base = Score(rng.gamma(8, 1, 40), np.ones(40))
        ours = Score(0.8 * base.total * rng.normal(1, 0.2, 40), np.ones(40))
        _, low, high = evaluate.bootstrap_ratio(ours, base, np.arange(40), draws=400)
        inside += low <= 0.8 <= high
    assert 0.88 <= inside / 200 <= 0.99


def test_noise_is_seeded_has_the_stated_size_and_spares_absent_joints():
    skeleton = Skeleton(made_up.skeleton().offsets, np.arange(22) != 10)
    still = Motion(np.broadcast_to(rot.IDENTITY, (400, 22, 4)), np.zeros((400, 3)), skeleton, 30.0)
    noisy = evaluate.add_noise(still, 5)
    turn = np.degrees(rot.log(noisy.rotations.astype(float)))
    assert np.abs(turn[:, 10]).max() == 0
    np.testing.assert_allclose(turn[:, np.arange(22) != 10].std(axis=(0, 1)), 5.0, rtol=0.03)
    np.testing.assert_allclose(noisy.root.std(axis=0), 0.02, rtol=0.1)
    np.testing.assert_array_equal(noisy.root, evaluate.add_noise(still, 5).root)
    assert (noisy.root != evaluate.add_noise(still, 6).root).any()


def test_noise_is_multiplied_on_the_right():
    """On the right, the size of the change of a turned pose is the same, and so is the error left of it."""
    motion = _clip(50, 0)
    noisy = evaluate.add_noise(motion, 1)
    still = motion.with_frames(np.broadcast_to(rot.IDENTITY, (50, 22, 4)), motion.root)
    expected = rot.multiply(motion.rotations.astype(float), evaluate.add_noise(still, 1).rotations.astype(float))
    assert np.degrees(rot.angle(noisy.rotations.astype(float), expected)).max() < 1e-3


def test_refinement_report_holds_every_method_and_what_clean_input_suffers(pack):
    truth = [w.motion for w in evaluate.cut(pack, 30.0, 90, 6)]
    calls = []

    def oracle(motions):
        calls.append(motions)
        done = sum(len(c) for c in calls[:-1]) % len(truth)
        return truth[done : done + len(motions)]

    report = evaluate.refine(pack, 30.0, 6, ours=oracle)
    values = report["figures"]["mpjpe_mm"]["values"]
    assert list(values) == ["noisy", *(f.kind for f in evaluate.TUNED), "ours"]
    assert values["ours"] == pytest.approx(0, abs=1e-4)
    assert values["noisy"] > 1.5 * values[report["best_filter"]]
    assert report["clean_input_moves_mm"]["ours"] == pytest.approx(0, abs=1e-4)
    assert report["clean_input_moves_mm"][report["best_filter"]] > 0.1
    assert {"accel_mm", "angle_deg", "leaf_angle_deg"} < set(report["figures"])
    noisy = calls[0][0]
    assert noisy.root.shape == truth[0].root.shape
    assert (noisy.root != truth[0].root).any()


def test_tuning_puts_the_best_filter_first(pack):
    steps = []
    found = evaluate.tune_filters(pack, 30.0, 2, progress=lambda *step: steps.append(step))
    assert [s for _, s in found] == sorted(s for _, s in found)
    assert sorted(f.kind for f, _ in found) == sorted(baselines.FILTERS)
    clean = [w.motion for w in evaluate.cut(pack, 30.0, 90, 2)]
    noisy = [evaluate.add_noise(m, 10_000 + i) for i, m in enumerate(clean)]
    assert evaluate.mean_mpjpe(clean, found[0][0](noisy)) == pytest.approx(found[0][1])
    assert steps[-1][1] == steps[-1][2]


def test_stored_constants_are_those_of_the_training_pack(data):
    pack = Pack.load(data("cmu/train.npz"))
    np.testing.assert_allclose(evaluate.lafan1_deviation(pack), evaluate.LAFAN1_DEVIATION, atol=2e-4)


def test_stored_filters_are_near_the_optimum_on_real_motion(data):
    """Halving or doubling the width of the stored best filter makes it worse."""
    pack = Pack.load(data("cmu/train.npz"))
    clean = [w.motion for w in evaluate.cut(pack, 30.0, 90, 60)]
    noisy = [evaluate.add_noise(m, i) for i, m in enumerate(clean)]
    best = evaluate.TUNED[0]
    score = evaluate.mean_mpjpe(clean, best(noisy))
    for factor in (0.5, 2.0):
        other = Filter(
            best.kind,
            *({k: v * (factor if k != "order" else 1) for k, v in s.items()} for s in (best.rotation, best.root)),
        )
        assert evaluate.mean_mpjpe(clean, other(noisy)) > score
    for filter_ in evaluate.TUNED:
        assert evaluate.mean_mpjpe(clean, filter_(noisy)) < 0.7 * evaluate.mean_mpjpe(clean, noisy)


def test_interpolation_on_real_motion_is_of_the_published_size(data):
    """Other data than Table V's (.0764 / .0497 / .5501), the same definition: the same order of magnitude."""
    report = evaluate.inbetween(Pack.load(data("cmu/val.npz")), 30, 30.0, 80)
    values = {k: v["values"]["interpolation"] for k, v in report["figures"].items()}
    assert 0.05 < values["table5.l2p"] < 0.12
    assert 0.035 < values["table5.l2q"] < 0.11
    assert 0.3 < values["table5.npss"] < 0.9
    assert 1.5 < values["lafan1.l2p"] < 5
    assert 0.6 < values["lafan1.l2q"] < 1.6
    assert report["categories"]


def test_another_rate_and_pack_work(data):
    pack = Pack.load(data("bandai/dataset2_sample.npz"))
    report = evaluate.inbetween(pack, 12, 24.0, 40)
    assert report["context"] == 10
    assert 0 < report["figures"]["table5.l2p"]["ratio_to_interpolation"]["bezier"][0] < 2


def test_command_prints_tables(pack_path, capsys):
    words = ["inbetween", "--data", str(pack_path), "--gaps", "5,8", "--windows", "30", "--prior", "none"]
    assert _run(*words) == 0
    out = capsys.readouterr().out
    for text in (
        "5 frames at 30 fps",
        "8 frames",
        "table5.l2p",
        "lafan1.npss",
        "bezier / interpolation",
        "dance",
        "small.npz",
    ):
        assert text in out


def test_command_prints_json_without_nan(pack_path, capsys):
    words = [
        "inbetween",
        "--data",
        str(pack_path),
        "--gaps",
        "6",
        "--keys",
        "3",
        "--windows",
        "8",
        "--prior",
        "none",
        "--json",
    ]
    assert _run(*words) == 0
    report = json.loads(capsys.readouterr().out, parse_constant=lambda c: pytest.fail(c))
    assert report["cases"][0]["keys"] == 3
    assert report["prior"] is None
    assert set(report["cases"][0]["figures"]["table5.l2q"]["values"]) == set(evaluate.FILLERS)


def test_refine_command_prints_the_tuned_settings(pack_path, capsys):
    assert _run("refine", "--data", str(pack_path), "--windows", "4", "--prior", "none") == 0
    out = capsys.readouterr().out
    for text in ("noise 5° and 2 cm", "one_euro(", "root window", "clean input moves by", "leaf_angle_deg"):
        assert text in out


@pytest.mark.parametrize(
    "words",
    [
        ["--gaps", "five"],
        ["--gaps", "0"],
        ["--fps", "-3"],
        ["--fps", "nan"],
        ["--windows", "0"],
        ["--gaps", "4000"],
        ["--seeds", "0"],
    ],
)
def test_bad_options_are_one_sentence(pack_path, words):
    with pytest.raises(MotionError):
        _run("inbetween", "--data", str(pack_path), "--prior", "none", *words)


def test_seeds_measure_other_windows_and_report_their_mean_and_spread(pack_path, capsys, tmp_path):
    table, picture = tmp_path / "table.csv", tmp_path / "picture.png"
    words = ["inbetween", "--data", str(pack_path), "--gaps", "6,9", "--windows", "12", "--prior", "none"]
    assert _run(*words, "--json") == 0
    once = json.loads(capsys.readouterr().out)
    assert "over_seeds" not in once
    assert _run(*words, "--seeds", "3", "--csv", str(table), "--plot", str(picture), "--json") == 0
    thrice = json.loads(capsys.readouterr().out)
    assert thrice["cases"][1]["figures"] == once["cases"][1]["figures"]  # the first seed is the plain run
    rows = list(csv.DictReader(table.open()))
    own = [r for r in rows if (r["gap"], r["figure"], r["method"]) == ("9", "mpjpe_mm", "bezier")]
    values = [float(r["value"]) for r in own]
    assert [r["seed"] for r in own] == ["0", "1", "2"]
    assert len(set(values)) == 3
    assert values[0] == once["cases"][1]["figures"]["mpjpe_mm"]["values"]["bezier"]
    entry = next(e for e in thrice["over_seeds"] if (e["gap"], e["figure"], e["method"]) == (9, "mpjpe_mm", "bezier"))
    assert entry["mean"] == pytest.approx(np.mean(values))
    assert entry["deviation"] == pytest.approx(np.std(values, ddof=1))
    assert entry["ratio_mean"] == pytest.approx(np.mean([float(r["ratio"]) for r in own]))
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_refinement_over_seeds_as_table_csv_and_picture(pack_path, capsys, tmp_path):
    table, picture = tmp_path / "table.csv", tmp_path / "picture.png"
    words = ["refine", "--data", str(pack_path), "--windows", "4", "--prior", "none", "--seeds", "2"]
    assert _run(*words, "--csv", str(table), "--plot", str(picture)) == 0
    assert "standard deviation over 2 seeds" in capsys.readouterr().out
    moved = [r for r in csv.DictReader(table.open()) if r["figure"] == "clean_input_moves_mm"]
    assert {r["method"] for r in moved} == {"noisy", *(f.kind for f in evaluate.TUNED)}
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("case", list(noise.CASES))
def test_every_case_of_bad_capture_is_seeded_and_spoils_what_it_says(pack, case):
    words, spoil = noise.CASES[case]
    motion = pack.decode(2)
    bad = spoil(motion, 3)
    np.testing.assert_array_equal(bad.rotations, spoil(motion, 3).rotations)
    assert (bad.rotations != spoil(motion, 4).rotations).any() or case == "root"
    turned = np.degrees(rot.angle(bad.rotations.astype(float), motion.rotations.astype(float)))
    shifted = np.linalg.norm(bad.root - motion.root, axis=-1)
    sizes = {
        "root": (0.0, 0.032), "places": (5.1, 0.016), "limb": (1.4, 0.0), "spikes": (0.32, 0.0),
        "frozen": (None, None), "drift": (6.4, 0.0),
    }  # fmt: skip
    angle, distance = sizes[case]
    if angle is None:
        changed = turned.max(axis=1) > 1e-3
        assert 0.1 < changed.mean() < 0.25
        assert words.startswith("frozen for 0.2 s")
    else:
        assert turned.mean() == pytest.approx(angle, rel=0.35, abs=1e-3)
        assert shifted.mean() == pytest.approx(distance, rel=0.1, abs=1e-6)


def test_a_size_of_jitter_wants_filters_tuned_for_it(pack_path):
    words = ["refine", "--data", str(pack_path), "--windows", "2", "--prior", "none", "--noise", "3"]
    with pytest.raises(MotionError, match="--tune-data"):
        _run(*words)


def test_filters_are_kept_for_every_case(pack_path, capsys):
    usual = list(filters.KEPT)
    assert set(usual) >= {words for words, _ in noise.CASES.values()}
    assert all(sorted(f.kind for f in kept) == sorted(baselines.FILTERS) for kept in filters.KEPT.values())
    words = ["refine", "--data", str(pack_path), "--windows", "2", "--prior", "none", "--json"]
    best = []
    for more in ([], ["--case", "limb"], ["--noise", "2", "--root-noise", "1"]):
        assert _run(*words, *more) == 0
        report = json.loads(capsys.readouterr().out)
        best.append(report["filters"][0])
        assert report["case"] in usual
    assert best[0] != best[1] != best[2]


@pytest.mark.parametrize(("option", "name"), [("--csv", "table.csv"), ("--plot", "picture.png"), ("--plot", "p.odd")])
def test_a_file_that_cannot_be_written_is_one_sentence(pack_path, tmp_path, option, name):
    place = tmp_path / name if name == "p.odd" else tmp_path / "nowhere" / name
    words = ["inbetween", "--data", str(pack_path), "--gaps", "5", "--windows", "4", "--prior", "none"]
    with pytest.raises(MotionError, match=option):
        _run(*words, option, str(place))
