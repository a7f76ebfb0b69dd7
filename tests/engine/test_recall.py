"""Recall: what a take does elsewhere is found, believed as far as it deserves, and never taken from what is hidden."""

import json
from dataclasses import replace

import made_up
import numpy as np
import pytest
import torch

from mmdm_engine import cli, complete, fill_gap, kinematics, trial
from mmdm_engine import rotations as rot
from mmdm_engine.contract import MIRROR, Skeleton
from mmdm_engine.priors import passage, store
from mmdm_engine.priors.recall import LEAST, Memory
from mmdm_engine.priors.window import Bodies

FPS = 30.0
PERIOD = 40
"""Frames after which the made-up person does the same again."""
START, STOP = 205, 230


def repeating(frames=400, seed=3, fps=FPS):
    """Somebody who does the same again and again while gliding ahead: in no way that a prior could know of."""
    rates = [k * FPS / PERIOD for k in (1, 2, 3)]
    return made_up.swaying(np.random.default_rng(seed), frames, fps=fps, rates=rates)


def off(motion, truth, start=START, stop=STOP):
    """Mean distance of joints in millimetres."""
    apart = kinematics.joint_positions(motion) - kinematics.joint_positions(truth)
    return 1000 * float(np.linalg.norm(apart[start:stop], axis=-1).mean())


def holed(motion, start=START, stop=STOP):
    rotations, root = motion.rotations.copy(), motion.root.copy()
    rotations[start:stop], root[start:stop] = np.nan, np.nan
    return motion.with_frames(rotations, root)


def hidden(motion, start=START, stop=STOP):
    mask = np.zeros((len(motion), 23), bool)
    mask[start:stop] = True
    return mask


def question(motion, start=START, stop=STOP):
    """The gap as the passages' network is asked about it."""
    memory = Memory.of(motion, np.zeros(len(motion), bool))
    lag = torch.tensor(passage.AROUND) * motion.fps
    times = torch.cat([start - 1 - lag, stop + lag])
    q, p = memory._at(times[None])
    skeleton = motion.skeleton
    bodies = Bodies(torch.from_numpy(skeleton.offsets)[None], torch.from_numpy(skeleton.exists)[None])
    return passage.Passages(
        q.unflatten(0, (1, 2, -1)), p.unflatten(0, (1, 2, -1)), torch.ones(1, 2, len(lag)),
        torch.tensor([(stop - start + 1) / motion.fps]), bodies, torch.zeros(1, 23, dtype=torch.bool),
    )  # fmt: skip


def mirrored(motion):
    """Left and right exchanged."""
    rotations = motion.rotations[:, list(MIRROR)] * np.array([1, 1, -1, -1], np.float32)
    return motion.with_frames(rotations, motion.root * np.array([-1, 1, 1], np.float32))


@pytest.fixture(scope="module")
def network():
    return store.load("inbetween", "inbetween", "cpu").passage


def test_who_repeats_themselves_is_recalled(network):
    take = repeating()
    asked, phase = question(take), torch.linspace(0.1, 0.9, 7)
    with torch.inference_mode():
        found = Memory.of(take, hidden(take)).recall(network, asked, 0, phase)
        reading, _ = network.read(asked)
        q, p = Memory.of(take, np.zeros(len(take), bool))._at(START - 1 + phase[None] * (STOP - START + 1))
        true = network.residual(reading, *reading.frame.enter(q[None], p[None]), phase[None])[0]
    assert found.unlike < 1e-3
    assert (found.state - true).abs().max() < 0.05 * true.abs().max()


def test_a_gap_in_a_take_that_repeats_itself_is_filled_as_the_take_goes():
    take = repeating()
    near = slice(START - 12, STOP + 12)  # all that the prior would see without the take
    alone = fill_gap(holed(take.slice(near.start, near.stop), 12, 12 + STOP - START), 12, 12 + STOP - START)[0]
    within = fill_gap(holed(take), START, STOP, lock_feet=False)[0]
    assert off(within, take) < 0.35 * off(alone, take.slice(near.start, near.stop), 12, 12 + STOP - START)
    np.testing.assert_array_equal(within.rotations[:START], take.rotations[:START])
    np.testing.assert_array_equal(within.root[STOP:], take.root[STOP:])


def test_it_works_at_rates_that_are_solved_on_fewer_frames():
    take = repeating(frames=1600, fps=120.0)
    start, stop = 820, 920
    within = fill_gap(holed(take, start, stop), start, stop, lock_feet=False)[0]
    part = take.slice(start - 48, stop + 48)
    alone = fill_gap(holed(part, 48, 148), 48, 148, lock_feet=False)[0]
    assert off(within, take, start, stop) < 0.5 * off(alone, part, 48, 148)


def test_a_lost_arm_swings_as_it_did_before():
    take = repeating()
    mask = np.zeros((len(take), 22), bool)
    mask[START:STOP, [16, 18, 20]] = True
    near = slice(START - 30, STOP + 29)
    within = complete(take, mask)
    alone = complete(take.slice(near.start, near.stop), mask[near])
    angles = [
        np.degrees(rot.angle(m.rotations[rows], take.rotations[START:STOP]))[:, [16, 18]].mean()
        for m, rows in ((within, slice(START, STOP)), (alone, slice(30, 30 + STOP - START)))
    ]
    assert angles[0] < 0.6 * angles[1]


def test_what_is_hidden_is_never_recalled():
    take = repeating()
    asked = question(take)
    whole = Memory.of(take, np.zeros(len(take), bool)).unlike(asked, 0)
    assert whole.argmin() == START - 1, "the gap itself is the most like it"
    without = Memory.of(take, hidden(take)).unlike(asked, 0)
    starts = torch.arange(len(take))
    length, lag = STOP - START + 1, 2
    overlapping = (starts + length + lag >= START) & (starts - lag < STOP)
    assert torch.isinf(without[overlapping]).all()
    clear = ~overlapping & (starts >= lag) & (starts + length + lag < len(take))
    assert torch.isfinite(without[clear]).all()
    later = Memory.of(take, np.zeros(len(take), bool)).without(START, STOP)
    torch.testing.assert_close(later.unlike(asked, 0), without)
    torch.testing.assert_close(later.rotations, Memory.of(take, hidden(take)).rotations)
    for more in (later.without(STOP, STOP + 9), later.without(START - 9, START), later.without(0, 5)):
        torch.testing.assert_close(more.rotations, Memory.of(take, more._hidden.numpy()).rotations)


def test_the_gaps_own_values_do_not_count():
    take = repeating()
    strange = take.with_frames(take.rotations.copy(), take.root.copy())
    strange.rotations[START:STOP] = take.rotations[0]
    filled = [fill_gap(m, START, STOP)[0] for m in (holed(take), strange)]
    np.testing.assert_array_equal(filled[0].rotations, filled[1].rotations)


def test_likeness_knows_neither_the_worlds_heading_nor_its_place():
    take = repeating()
    turn = rot.about_y(np.float64(1.9))
    rotations = take.rotations.astype(np.float64)
    rotations[:, 0] = rot.multiply(turn, rotations[:, 0])
    root = rot.rotate(turn, take.root.astype(np.float64)) + np.array([5, 0, -3])
    moved = take.with_frames(rotations.astype(np.float32), root.astype(np.float32))
    here, there = (Memory.of(m, hidden(m)).unlike(question(take), 0) for m in (take, moved))
    torch.testing.assert_close(here, there, atol=1e-3, rtol=1e-3)


def test_the_other_side_tells_as_well_where_a_body_is_built_alike(network):
    take = repeating()
    other = mirrored(take)
    asked, phase = question(other), torch.linspace(0.1, 0.9, 7)
    with torch.inference_mode():
        found = Memory.of(take, hidden(take)).recall(network, asked, 0, phase)
        assert found.unlike < 1e-3
        lame = Skeleton(take.skeleton.offsets * np.where(np.arange(22) == 4, 0.7, 1)[:, None].astype(np.float32))
        lame = replace(take, skeleton=lame)
        assert Memory.of(lame, hidden(lame)).recall(network, asked, 0, phase).unlike > 0.05


def test_a_take_without_the_like_is_hardly_leant_on(network):
    take = repeating()
    random = np.random.default_rng(8)
    strange = made_up.swaying(random, 400, fps=FPS, speed=-1.5, rates=(0.2, 2.3))
    phase = torch.linspace(0.1, 0.9, 7)
    with torch.inference_mode():
        asked = question(take)
        reading, features = network.read(asked)
        said = network.state(reading, network(reading, features), phase[None])[0]
        trusted = [
            Memory.of(m, hidden(m)).recall(network, asked, 0, phase).trust(said, reading.size[0], reading.seconds[0])
            for m in (take, strange)
        ]
    assert trusted[0].mean() > 0.8
    assert trusted[1].mean() < 0.4


def test_a_short_take_is_not_searched():
    take = repeating(frames=int(LEAST * FPS) + STOP - START - 1)
    assert Memory.of(take, hidden(take, 10, 10 + STOP - START)) is None
    longer = repeating(frames=int(LEAST * FPS) + STOP - START + 1)
    assert Memory.of(longer, hidden(longer, 10, 10 + STOP - START)) is not None


def test_a_trial_expects_less_error_where_the_take_repeats_itself():
    expected = [
        trial(holed(m), START, STOP).unblended.position_cm
        for m in (repeating(), made_up.swaying(np.random.default_rng(3), 400, fps=FPS, rates=(0.31, 0.83, 1.7)))
    ]
    assert expected[0] < 0.7 * expected[1]


def test_evaluate_shows_the_clip_only_when_asked(tmp_path, capsys):
    data = made_up.write_pack(tmp_path / "pack.npz", [repeating(seed=s) for s in range(3)])
    ratios = []
    for more in ([], ["--take"]):
        words = ["evaluate", "inbetween", "--data", str(data), "--gaps", "25", "--windows", "6", "--json", *more]
        assert cli.main(words) == 0
        case = json.loads(capsys.readouterr().out)["cases"][0]
        assert case["take"] == bool(more)
        ratios.append(case["figures"]["table5.l2q"]["ratio_to_interpolation"]["ours"][0])
    assert ratios[1] < 0.6 * ratios[0]
    words = ["evaluate", "completion", "--data", str(data), "--parts", "left_arm", "--losses", "25", "--windows", "6",
             "--json", "--take"]  # fmt: skip
    assert cli.main(words) == 0
    assert json.loads(capsys.readouterr().out)["cases"][0]["take"]
