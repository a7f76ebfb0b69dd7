"""Passages: which gaps are seen as one, what is read of them, and that training reads what filling does."""

import math

import made_up
import numpy as np
import pytest
import torch
from test_training import TINY

from mmdm_engine import MotionError, cli, fill_gap, kinematics
from mmdm_engine import rotations as rot
from mmdm_engine.baselines import interpolate
from mmdm_engine.masking import nearest_trusted
from mmdm_engine.pack import Pack
from mmdm_engine.priors import passage, store
from mmdm_engine.priors.network import Windows
from mmdm_engine.priors.passage import PassageConfig, PassageNetwork
from mmdm_engine.priors.window import Bodies
from mmdm_engine.training import passage as training
from mmdm_engine.training.clips import Clips
from mmdm_engine.training.tasks import InbetweenTask

FPS = 30.0
FRAMES = 60


def network(seed=0, size=0.05):
    """A small network that says something."""
    torch.manual_seed(seed)
    made = PassageNetwork(PassageConfig(width=32, blocks=1)).eval()
    for layer in (made.answer, made.straight):
        torch.nn.init.normal_(layer.weight, std=0.02)
    made.size.table.fill_(size)
    return made


def windows(count=2, seed=0, fps=FPS, frames=FRAMES):
    """Somebody who sways: rotations (B, T, 22, 4), root (B, T, 3), bodies."""
    random = np.random.default_rng(seed)
    motions = [made_up.swaying(random, frames, fps=fps, rates=(0.4, 1.1)) for _ in range(count)]
    rotations = torch.from_numpy(np.stack([m.rotations for m in motions])).float()
    root = torch.from_numpy(np.stack([m.root for m in motions])).float()
    offsets = torch.from_numpy(np.stack([m.skeleton.offsets for m in motions])).float()
    return rotations, root, Bodies(offsets, torch.ones((count, 22), dtype=torch.bool))


def filled(made, rotations, root, observed, bodies, fps=FPS):
    base = interpolate(rotations, root, observed)
    return *made.guess(*base, observed, bodies, torch.full((len(root),), 1 / fps)), *base


def test_columns_lost_together_are_one_gap_and_open_ends_are_none():
    observed = torch.ones((2, 20, 23), dtype=torch.bool)
    observed[0, 5:9] = False
    observed[0, 12:15, [16, 18, 20]] = False
    observed[0, 12:14, 3] = False
    observed[1, :4] = False
    observed[1, 18:] = False
    window, start, stop, hidden = passage.stretches(observed)
    found = {(int(w), int(a), int(b), tuple(h.nonzero()[:, 0].tolist())) for w, a, b, h in
             zip(window, start, stop, hidden, strict=True)}  # fmt: skip
    assert found == {(0, 5, 9, tuple(range(23))), (0, 12, 15, (16, 18, 20)), (0, 12, 14, (3,))}


def test_what_is_observed_keeps_its_bits_and_the_rest_moves_from_border_to_border():
    rotations, root, bodies = windows()
    observed = torch.ones((2, FRAMES, 23), dtype=torch.bool)
    observed[0, 15:40] = False
    observed[1, 20:30, [16, 18]] = False
    q, p, base, base_root = filled(network(), rotations, root, observed, bodies)
    assert torch.equal(q[observed[..., :22]], rotations[observed[..., :22]])
    assert torch.equal(p[observed[..., 22]], root[observed[..., 22]])
    moved = rot.angle(q, base)[~observed[..., :22]]
    assert moved.mean() > 1e-3
    assert (p - base_root).abs().max() > 1e-3
    step = rot.angle(q[:, 1:], q[:, :-1]).amax(dim=(0, 2))
    assert step[[14, 39]].max() < 3 * step[15:39].max(), "no jump at the borders"


def test_what_has_one_border_or_is_too_long_stays_as_it_was():
    rotations, root, bodies = windows(2)
    observed = torch.ones((2, FRAMES, 23), dtype=torch.bool)
    observed[0, 40:] = False
    observed[1, 10:50] = False
    q, p, base, base_root = filled(network(), rotations, root, observed, bodies, fps=5.0)
    assert torch.equal(q, base)
    assert torch.equal(p, base_root)


def test_neither_heading_nor_place_nor_size_matters():
    rotations, root, bodies = windows(1)
    observed = torch.ones((1, FRAMES, 23), dtype=torch.bool)
    observed[0, 15:40] = False
    made = network()
    q, p, _, _ = filled(made, rotations, root, observed, bodies)
    turn = rot.about_y(torch.tensor(2.1))
    turned = rotations.clone()
    turned[:, :, 0] = rot.multiply(turn, rotations[:, :, 0])
    moved = 1.5 * rot.rotate(turn, root) + torch.tensor([3.0, 0.4, -2.0])
    q2, p2, _, _ = filled(made, turned, moved, observed, Bodies(1.5 * bodies.offsets, bodies.exists))
    assert rot.angle(q2[:, :, 1:], q[:, :, 1:]).max() < 2e-3
    assert rot.angle(q2[:, :, 0], rot.multiply(turn, q[:, :, 0])).max() < 2e-3
    expected = 1.5 * rot.rotate(turn, p) + torch.tensor([3.0, 0.4, -2.0])
    assert (p2 - expected).abs().max() < 2e-3


def test_without_training_the_border_velocities_are_carried_on():
    """What accelerates evenly is met better than by interpolation."""
    time = torch.arange(FRAMES) / FPS
    turn = (time**2)[:, None, None] * torch.tensor([0.3, -0.2, 0.1])
    rotations = rot.exp(turn.expand(1, FRAMES, 22, 3))
    _, _, bodies = windows(1)
    root = torch.stack([time**2, 0.9 + 0 * time, 0 * time], dim=-1)[None]
    observed = torch.ones((1, FRAMES, 23), dtype=torch.bool)
    observed[0, 25:31] = False
    made = PassageNetwork(PassageConfig(width=32, blocks=1)).eval()
    q, p, base, base_root = filled(made, rotations, root, observed, bodies)
    lost = slice(25, 31)
    assert rot.angle(q, rotations)[:, lost].mean() < 0.7 * rot.angle(base, rotations)[:, lost].mean()
    assert (p - root)[:, lost].norm(dim=-1).mean() < 0.7 * (base_root - root)[:, lost].norm(dim=-1).mean()


@pytest.fixture(scope="module")
def pack_path(tmp_path_factory):
    random = np.random.default_rng(0)
    clips = [made_up.swaying(random, 260, speed=random.normal(), rates=(0.4, 1.1)) for _ in range(24)]
    return made_up.write_pack(tmp_path_factory.mktemp("pack") / "made_up.npz", clips)


@pytest.mark.parametrize("parts", [False, True])
def test_training_reads_what_filling_reads(pack_path, parts, monkeypatch):
    """Gaps cut from clips in training and the same gaps found in a window have the same features."""
    clips = Clips(Pack.load(pack_path), held_out=None)
    chosen = torch.tensor([1, 4, 7])
    monkeypatch.setattr(clips, "pick", lambda span, _: (chosen, torch.full((3,), 40.0)))
    seconds = torch.full((3,), 31 / 60)
    made = network()
    generator = torch.Generator().manual_seed(0)
    _, cut = training.cut(clips, seconds, torch.full((3, 2), 0.5), parts, generator, augment=False)
    first = 40 + 24  # the border, MARGIN seconds into the stretch
    q, p = clips.at(chosen, torch.arange(200.0).expand(3, -1))
    observed = torch.ones((3, 200, 23), dtype=torch.bool)
    observed[:, first + 1 : first + 31] = cut.given[:, None]
    window, start, stop, hidden = passage.stretches(observed)
    order = window.argsort()
    window, start, stop, hidden = (x[order] for x in (window, start, stop, hidden))
    found = passage._passages(
        q, p, observed, window, start, stop, hidden, clips.bodies(chosen), torch.full((3,), 1 / 60)
    )
    assert torch.equal(found.given, cut.given)
    torch.testing.assert_close(made.read(found)[1], made.read(cut)[1], rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize(("parts", "share"), [(0.0, 0.85), (1.0, 0.98)])
def test_training_learns(pack_path, parts, share):
    """Made-up joints know nothing of one another, so there is less to learn where only a part is lost."""
    clips = Clips(Pack.load(pack_path), held_out=None)
    torch.manual_seed(0)
    task = training.PassageTask({"passage": {"width": 64, "blocks": 1, "dropout": 0.0, "parts": parts}})
    generator = torch.Generator().manual_seed(0)
    task.prepare(clips, generator, 4)
    begun = task.eval().score(clips, torch.Generator().manual_seed(1))
    optimizer = torch.optim.AdamW(task.train().parameters(), lr=3e-3)
    for _ in range(60):
        terms = task(*task.draw(clips, 600, generator), generator)
        optimizer.zero_grad()
        (terms["position"] + terms["rotation"]).backward()
        torch.nn.utils.clip_grad_norm_(task.parameters(), 1.0)
        optimizer.step()
    trained = task.eval().score(clips, torch.Generator().manual_seed(1))
    assert sum(trained.values()) < share * sum(begun.values()), (begun, trained)


def test_train_a_passages_network_and_begin_at_it(pack_path, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(InbetweenTask.prepare, "__defaults__", (3,))
    made = tmp_path / "passage.safetensors"
    data = ["--data", str(pack_path)]
    begin = ["train", "passage", *data, "--run", str(tmp_path / "a"), "--set", "width=64", "blocks=1"]
    assert cli.main([*begin, "--minutes", "0.05", "--batch-frames", "600", "--export", str(made)]) == 0
    trained = store.load(made, "passage", "cpu")

    out = tmp_path / "inbetween.safetensors"
    assert cli.main(["train", "inbetween", *data, "--run", str(tmp_path / "b"), "--minutes", "0.02", *TINY,
                     "--passage", str(made), "--export", str(out)]) == 0  # fmt: skip
    card = store.read_card(out)
    assert card["passage"] == {"width": 64, "blocks": 1}
    assert [entry["task"] for entry in card["ledger"]] == ["passage", "inbetween"], "the passages' run is in the ledger"
    assert all(entry["steps"] > 0 for entry in card["ledger"])
    network = store.load(out, "inbetween", "cpu")
    for name, value in trained.state_dict().items():
        assert torch.equal(network.state_dict()[f"passage.{name}"], value), name
    motion = Pack.load(pack_path).decode(3).slice(0, 90)
    assert np.isfinite(fill_gap(motion, 30, 60, prior=out)[0].rotations).all()

    more = ["train", "inbetween", *data, "--run", str(tmp_path / "c"), "--minutes", "0.02", "--init", str(out)]
    assert cli.main([*more, "--export", str(tmp_path / "more.safetensors")]) == 0
    again = ["train", "inbetween", *data, "--run", str(tmp_path / "e"), "--minutes", "0.02", "--init", str(out)]
    assert cli.main([*again, "--passage", str(made), "--export", str(tmp_path / "again.safetensors")]) == 0
    found = [entry["task"] for entry in store.read_card(tmp_path / "again.safetensors")["ledger"]]
    assert found == ["passage", "inbetween", "inbetween"], "no run twice"
    back = ["train", "passage", *data, "--run", str(tmp_path / "f"), "--init", str(out), "--minutes", "0.02"]
    assert cli.main([*back, "--batch-frames", "600", "--export", str(tmp_path / "back.safetensors")]) == 0
    assert store.read_card(tmp_path / "back.safetensors")["passage"] == card["passage"]
    assert store.read_card(tmp_path / "more.safetensors")["passage"] == card["passage"]
    capsys.readouterr()
    assert cli.main(["train", "refinement", *data, "--run", str(tmp_path / "d"), "--passage", str(made)]) != 0
    assert "leave out --passage" in capsys.readouterr().err


def test_a_prior_that_meets_a_guess_says_what_it_said_elsewhere_and_nothing_over_the_guess(tmp_path):
    """One that began at interpolation keeps what it can, when passages are put under it."""
    made = tmp_path / "passage.safetensors"
    store.save(network(), "passage", {"ledger": []}, made)
    old = store.read_card(store.resolve("inbetween"))
    task = InbetweenTask({"kaa": old["kaa"], "words": old["words"], "passage": {"width": 32, "blocks": 1}})
    fresh = InbetweenTask({"kaa": old["kaa"], "words": old["words"]})
    torch.nn.init.normal_(fresh.network.encoder.read_pose.weight, std=0.05)
    store.save(fresh.network, "inbetween", {"ledger": []}, tmp_path / "plain.safetensors")
    task.start_from(str(tmp_path / "plain.safetensors"))
    task.begin_at(str(made))
    fresh.start_from(str(tmp_path / "plain.safetensors"))
    rotations, root, bodies = windows(2)
    observed = torch.ones((2, FRAMES, 23), dtype=torch.bool)
    observed[0, 20:40] = False
    observed[1, 30:] = False
    before, after = (x / FPS for x in nearest_trusted(observed))
    base = interpolate(rotations, root, observed)
    given = Windows(*base, observed, before, after, torch.ones((2, FRAMES, 22)), bodies, torch.full((2,), 1 / FPS))
    said = []
    for network_ in (task.network.eval(), fresh.network.eval()):
        condition = network_.condition(network_.guess(given))
        said.append(network_.sample(condition))
    assert said[0][0].abs().max() == 0, "nothing over the guess"
    assert said[1][0].abs().max() > 1e-3
    torch.testing.assert_close(said[0][1], said[1][1])
    assert said[1][1].abs().max() > 1e-3


def test_people_who_do_not_exist_keep_what_they_are_asked(pack_path):
    """Bent rest poses turn all frames alike; arms are swapped whole and only between gaps that know alike."""
    clips = Clips(Pack.load(pack_path), held_out=None)
    generator = torch.Generator().manual_seed(0)
    seconds = torch.full((8,), 0.5)
    truth, passages = training.cut(clips, seconds, torch.full((8, 3), 0.5), False, generator)
    config = PassageConfig(mixed=1.0)
    swapped, around = training.varied(truth, passages, config, generator)
    alike = (passages.known[:4] == passages.known[4:]).flatten(1).all(dim=1).repeat(2)
    arms = list(training.ARMS)
    rest = [j for j in range(22) if j not in arms]
    assert torch.equal(swapped.rotations[:, :, rest], truth.rotations[:, :, rest])
    assert torch.equal(swapped.rotations[alike][:, :, arms], truth.rotations.roll(4, dims=0)[alike][:, :, arms])
    assert torch.equal(around.rotations[~alike], passages.rotations[~alike])

    bent, around = training.varied(truth, passages, PassageConfig(bent=20.0), generator)
    turn = rot.multiply(rot.conjugate(truth.rotations), bent.rotations)
    assert rot.angle(turn, turn[:, :1]).max() < 2e-3
    assert rot.angle(turn, rot.multiply(rot.conjugate(passages.rotations), around.rotations)[:, 0, :3]).max() < 2e-3
    assert turn[:, :, 1:, 0].min() < 0.999
    assert rot.angle(turn[:, :, 0], torch.tensor(rot.IDENTITY)).max() < 1e-3, "where the body is headed stays"


def test_other_axes_move_nobody(pack_path):
    """Skeletons differ in how joints are turned at rest; where the joints are is the same."""
    clips = Clips(Pack.load(pack_path), held_out=None)
    generator = torch.Generator().manual_seed(0)
    truth, passages = training.cut(clips, torch.full((8,), 0.5), torch.full((8, 3), 0.5), True, generator)
    turned, around = training.varied(truth, passages, PassageConfig(axes=30.0), generator)
    for was, now in (
        ((truth.rotations, truth.root), (turned.rotations, turned.root)),
        (passages.inside, around.inside),
        ((passages.rotations.flatten(1, 2), passages.root.flatten(1, 2)),
         (around.rotations.flatten(1, 2), around.root.flatten(1, 2))),
    ):  # fmt: skip
        before = kinematics.positions(*was, passages.bodies.offsets[:, None])
        after = kinematics.positions(*now, around.bodies.offsets[:, None])
        torch.testing.assert_close(after, before, atol=2e-5, rtol=0)
    assert rot.angle(turned.rotations, truth.rotations).amax(dim=(0, 1))[1:].min() > 0.05
    assert torch.equal(turned.rotations[:, :, 0], truth.rotations[:, :, 0]), "where the body is headed stays"


def test_some_gaps_are_deaf_to_what_is_known_inside_in_training_only():
    made = PassageNetwork(PassageConfig(width=32, blocks=1, dropout=0.0, blanks=0.0, deaf=0.5))
    torch.nn.init.normal_(made.straight.weight, std=0.1)
    sines = torch.ones((400, passage.MODES * passage.CHANNELS))
    heard = made._overheard(sines).unflatten(1, (passage.MODES, passage.CHANNELS))
    assert ((heard == 0) | (heard == 1)).all()
    assert (heard == heard[:, :1]).all(), "a column is missing as a whole"
    assert 0.3 < (heard == 1).all(dim=(1, 2)).float().mean() < 0.6
    assert (heard == 0).all(dim=(1, 2)).any()
    rotations, root, bodies = windows()
    observed = torch.ones((2, FRAMES, 23), dtype=torch.bool)
    observed[:, 15:40, [16, 18]] = False
    assert torch.equal(*(filled(made.eval(), rotations, root, observed, bodies)[0] for _ in range(2)))


@pytest.mark.parametrize("field", [{"dropout": 1.5}, {"width": 0}, {"bent": -1.0}, {"axes": -1.0}, {"deaf": 2.0}])
def test_impossible_settings_get_a_sentence(field):
    with pytest.raises(MotionError, match="passages' network needs"):
        PassageConfig(**field)


def test_who_stands_still_is_expected_to_stay():
    """The expected size goes by the length of a gap and by what its lost columns do at the borders."""
    generator = torch.Generator().manual_seed(0)
    count = 6000
    seconds = 0.1 * 20 ** torch.rand(count, generator=generator)
    active = 0.01 * 100 ** torch.rand((count, passage.COLUMNS), generator=generator)
    lost = torch.rand((count, passage.COLUMNS), generator=generator) < 0.5
    expected = passage.channels(active * seconds[:, None])
    size = passage.GapSize()
    size.measure(seconds, active, expected.square(), lost)
    found = size(seconds, active)
    inside = passage.channels((active > 0.02) & (active < 0.5)) & ((seconds > 0.2) & (seconds < 1.5))[:, None]
    assert ((found / expected).log().abs()[inside] < math.log(1.6)).float().mean() > 0.95
    still, busy = (size(torch.tensor([0.5]), torch.full((1, passage.COLUMNS), a)) for a in (1e-4, 50.0))
    assert (still < 0.1 * busy).all(), "beyond what was measured, its nearest"
    assert torch.isfinite(size.usual(torch.tensor([1e-3, 100.0]))).all()


def test_activity_is_of_the_lost_columns_and_of_their_own():
    rotations, root, bodies = windows()
    observed = torch.ones((2, FRAMES, 23), dtype=torch.bool)
    observed[:, 15:40, [16, 18]] = False
    q = rotations.clone()
    q[:, :, [1, 4]] = rot.exp(torch.randn((2, FRAMES, 2, 3), generator=torch.Generator().manual_seed(0)))
    found = []
    for motion in (rotations, q):
        gaps = passage.stretches(observed)
        read = passage._passages(motion, root, observed, *gaps, bodies, torch.full((2,), 1 / FPS))
        found.append(passage.activity(network().read(read)[0], ~read.given))
    torch.testing.assert_close(found[0][:, [16, 18]], found[1][:, [16, 18]], rtol=1e-3, atol=1e-5)
    assert (found[1][:, [1, 4]] > found[0][:, [1, 4]]).all()


def test_measuring_anew_changes_nothing_that_is_said():
    made = network()
    rotations, root, bodies = windows(8)
    observed = torch.ones((8, FRAMES, 23), dtype=torch.bool)
    observed[:, 15:40, [16, 18]] = False
    given = passage._passages(
        rotations, root, observed, *passage.stretches(observed), bodies, torch.full((8,), 1 / FPS)
    )
    reading, features = made.read(given)
    with torch.no_grad():
        before = made(reading, features)
        made.measure(features, given.given, 0.1)
        after = made(reading, features)
    assert made.mean.abs().max() > 0
    for a, b in zip(before, after, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)
