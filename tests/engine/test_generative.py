"""In-betweening as generation: the joint layout there and back, the networks' contracts, training, filling."""

import csv
import json
from dataclasses import replace

import made_up
import numpy as np
import pytest
import torch

from mmdm_engine import Motion, MotionError, cli, humanml3d, kinematics
from mmdm_engine import rotations as rot
from mmdm_engine.contract.skeleton import PARENTS
from mmdm_engine.model.config import GENERATIVE, GenerativeConfig, KAAConfig
from mmdm_engine.pack import Pack
from mmdm_engine.priors import joint_level, store
from mmdm_engine.priors.generative import GenerativeNetwork, Guidance
from mmdm_engine.priors.transition import fill_many
from mmdm_engine.priors.window import Bodies, find_frame
from mmdm_engine.training.clips import Clips
from mmdm_engine.training.generative import GAP, GenerativeTask

TINY = KAAConfig(
    rounds=1, joint_dim=8, pose_dim=16, heads=1, head_dim=8, time_heads=1, time_head_dim=16, ffn=16, time_ffn=16
)
TINY_POSE = KAAConfig(
    variant="t", rounds=1, joint_dim=16, pose_dim=16, heads=1, head_dim=16, time_heads=1, time_head_dim=16, ffn=16,
    time_ffn=16,
)  # fmt: skip
CONFIGS = {
    "paper": GenerativeConfig(TINY, steps=20),
    "s_t": GenerativeConfig(replace(TINY, variant="s_t"), context=False, steps=20),
    "kaa": GenerativeConfig(TINY, context=False, steps=20, objective="noise"),
    "mdm": GenerativeConfig(TINY_POSE, tokens="pose", context=False, steps=20),
    "gmd": GenerativeConfig(TINY_POSE, tokens="pose", context=False, steps=20, emphasis=10.0),
}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def wander(frames=60, fps=30.0, seed=0):
    """Somebody who waves about while walking a curve, more than once around."""
    random = np.random.default_rng(seed)
    t = np.arange(frames)[:, None, None] / fps
    q = rot.exp(0.4 * np.sin(t * random.uniform(1, 5, (22, 3)) + random.uniform(0, 6, (22, 3))))
    yaw = 4.0 * t[:, 0, 0]
    q[:, 0] = rot.multiply(rot.about_y(yaw), q[:, 0])
    root = np.stack([2 * np.sin(yaw / 3) + 5, 0.9 + 0.05 * np.sin(3 * yaw), 2 * np.cos(yaw / 3) - 3], axis=-1)
    return Motion(rot.continuous(q), root, made_up.skeleton(hip_forward=0.01), fps)


@pytest.fixture(scope="module")
def pack_path(tmp_path_factory):
    clips = [wander(220, 60.0, seed) for seed in range(24)]
    labels = ["walk" if i % 2 else "dance" for i in range(24)]
    return made_up.write_pack(tmp_path_factory.mktemp("pack") / "made_up.npz", clips, labels)


def inside(motions, observed=None):
    """Frame, inside rotations and hips, frame step and observed frames of a list of motions."""
    q = torch.tensor(np.stack([m.rotations for m in motions])).double()
    p = torch.tensor(np.stack([m.root for m in motions])).double()
    bodies = Bodies(
        torch.tensor(np.stack([m.skeleton.offsets for m in motions])).double(),
        torch.ones((len(motions), 22), dtype=torch.bool),
    )
    seen = torch.ones(q.shape[:2], dtype=torch.bool) if observed is None else observed
    frame = find_frame(q, p, seen, bodies)
    return frame, *frame.enter(q, p), torch.full((len(motions),), 1 / motions[0].fps, dtype=torch.float64), seen


# --- the layout -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fps", [20.0, 30.0, 60.0])
@pytest.mark.parametrize("close", [True, False])
def test_the_layout_holds_the_whole_motion(fps, close):
    motions = [wander(60, fps, seed) for seed in range(3)]
    frame, q, hips, step, seen = inside(motions)
    tokens = joint_level.encode(q, hips, frame, step)
    assert tokens.shape == (3, 60, 22, 12)
    first = torch.zeros_like(seen)
    first[:, 20] = True
    again, place = joint_level.decode(
        tokens, q.roll(7, 1) * 0 + q * first[..., None, None], hips, first, frame, step, close
    )
    assert rot.angle(again, q).max() < 1e-5, "one known frame says where the path runs"
    assert (place - hips).abs().max() < 1e-6


def test_columns_agree_with_the_published_format(pack_clip):
    """The heading is another one, so compare what it cannot change: heights, lengths of vectors, feet that stand."""
    motion = pack_clip("02_01")
    theirs = humanml3d.to_joint_level(humanml3d.to_humanml3d(motion))
    from mmdm_engine.pack import resample

    motion = resample(motion, 20.0)
    frame, q, hips, step, _ = inside([motion])
    points = frame.positions(q, hips)
    leg = motion.skeleton.leg_length
    ours = joint_level.encode(q, hips, frame, step)[0].numpy()
    speed = np.linalg.norm(ours[1:, 1:, 9:], axis=-1) * leg * 1.5  # per 1/30 s → per 1/20 s
    assert np.allclose(speed, np.linalg.norm(theirs[:, 1:, 9:], axis=-1), atol=1e-5)
    rise = np.diff(points[0, :, 1:, 1].numpy() * leg, axis=0)
    assert np.allclose(rise[:-1], np.diff(theirs[:, 1:, 1], axis=0), atol=1e-5)
    width = np.linalg.norm(ours[:-1, 1, :3] - ours[:-1, 2, :3], axis=-1) * leg
    assert np.allclose(width, np.linalg.norm(theirs[:, 1, :3] - theirs[:, 2, :3], axis=-1), atol=1e-5)
    assert np.isin(ours[:, 0, 7:11], (0, 1)).all()
    assert np.allclose(ours[:, 0, 11], 2 * ours[:, 0, 0])


def test_speeds_into_the_frame_after_a_gap_are_not_known():
    observed = torch.ones((1, 12), dtype=torch.bool)
    observed[0, 4:8] = False
    known = joint_level.known_channels(observed)[0]
    assert known[3].all()
    assert not known[4:8].any()
    assert not known[8][joint_level.SPEEDS].any()
    assert known[8][~joint_level.SPEEDS].all()
    assert known[9].all()
    assert known[0].all()


def test_what_is_said_to_be_known_does_not_depend_on_the_gap():
    """Whatever stands in the gap, the known numbers are the same: nothing leaks."""
    motion, other = wander(60), wander(60, seed=5)
    mixed = motion.with_frames(
        np.concatenate([motion.rotations[:15], other.rotations[15:45], motion.rotations[45:]]),
        np.concatenate([motion.root[:15], other.root[15:45] + 9, motion.root[45:]]),
    )
    observed = ~torch.isin(torch.arange(60), torch.arange(15, 45))[None]
    network = GenerativeNetwork(CONFIGS["paper"])
    scenes = []
    for m in (motion, mixed):
        batch = torch.tensor(m.rotations)[None], torch.tensor(m.root)[None]
        bodies = Bodies(torch.tensor(m.skeleton.offsets)[None], torch.ones((1, 22), dtype=torch.bool))
        columns = observed[..., None].expand(-1, -1, 23)
        from mmdm_engine.priors.network import Windows

        scenes.append(
            network.condition(
                Windows(*batch, columns, 0 * columns, 0 * columns, batch[1][..., :1].expand(-1, -1, 22), bodies,
                        torch.tensor([1 / 30])),
            )
        )  # fmt: skip
    a, b = scenes
    assert torch.equal(a.known, b.known)
    assert torch.equal(a.truth[a.known], b.truth[b.known])
    state, step = torch.randn(a.truth.shape, generator=generator()), torch.tensor([3])
    torch.nn.init.normal_(network.encoder.read.weight)
    assert torch.equal(network.predict(a, state, step), network.predict(b, state, step))


def test_the_root_path_is_led_to_the_far_side_or_left_where_it_ends():
    frame, q, hips, step, seen = inside([wander(60)])
    tokens = joint_level.encode(q, hips, frame, step)
    observed = seen.clone()
    observed[:, 15:45] = False
    assert joint_level.arrival(tokens, q, hips, observed, step) < 1e-9
    slower = tokens.clone()
    slower[:, 15:46, 0, :3] *= 0.5
    assert joint_level.arrival(slower, q, hips, observed, step) > 0.1
    closed = joint_level.decode(slower, q, hips, observed, frame, step, True)[1]
    left = joint_level.decode(slower, q, hips, observed, frame, step, False)[1]
    usual = (hips[:, 1:] - hips[:, :-1]).norm(dim=-1).max()
    assert (closed[:, 45] - closed[:, 44]).norm() < 2 * usual
    assert (left[:, 45] - left[:, 44]).norm() > 4 * usual
    assert torch.equal(left[observed], hips[observed])


def test_the_pelvis_is_turned_as_the_torso_stands():
    """Positions alone decide: spoiled local rotations of the limbs leave the pelvis where it is."""
    frame, q, hips, step, seen = inside([wander(40)])
    tokens = joint_level.encode(q, hips, frame, step)
    tokens[:, :, 4:6, 3:9] = tokens[:, :, 4:6, 3:9].roll(5, 1)
    only = torch.zeros_like(seen)
    only[:, 0] = True
    again, _ = joint_level.decode(tokens, q, hips, only, frame, step)
    assert rot.angle(again[:, :, 0], q[:, :, 0]).max() < 1e-5


# --- networks and training ------------------------------------------------------------------------------------------


def test_the_named_sizes_are_the_papers():
    paper = GENERATIVE["inbetween_paper"]
    assert (paper.kaa.joint_dim, paper.kaa.rounds, paper.kaa.heads, paper.kaa.head_dim, paper.kaa.ffn) == (
        512,
        8,
        8,
        64,
        1024,
    )
    assert (paper.context, paper.steps, paper.tokens, paper.kaa.variant) == (True, 1000, "joint", "kaa")
    assert [GENERATIVE[n].kaa.variant for n in ("mdm", "mdm_s_t", "mdm_kaa")] == ["t", "s_t", "kaa"]
    assert not any(GENERATIVE[n].context for n in ("mdm", "mdm_s_t", "mdm_kaa", "gmd"))
    assert GENERATIVE["gmd"].emphasis == 10


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"tokens": "limb"}, "joint or pose"),
        ({"steps": 0}, "at least one step"),
        ({"tokens": "pose"}, "variant=t"),
        ({"emphasis": 10.0}, "Emphasis"),
    ],
)
def test_configs_that_cannot_be_are_refused(values, sentence):
    with pytest.raises(MotionError, match=sentence):
        GenerativeConfig(TINY, **values)


@pytest.mark.parametrize("name", CONFIGS)
def test_state_and_tokens_are_inverses_and_training_reaches_every_weight(pack_path, name):
    pack = Pack.load(pack_path)
    network = GenerativeNetwork(CONFIGS[name], ("dance", "walk"))
    task = GenerativeTask({"kaa": network.settings() and vars(CONFIGS[name].kaa), **network.settings(), "longest": 60})
    clips = Clips(pack, label_ids=task.label_ids)
    task.prepare(clips, generator())
    batch, windows = task.draw(clips, 500, generator(1))
    scene = task.network.condition(windows)
    kind = joint_level.groups()
    spread = scene.truth.flatten(0, 1).std(dim=0)
    assert all(0.3 < spread[kind == k].mean() < 2 for k in (1, 2, 6, 7)), "standardised by kind"
    again = task.network.from_state(task.network.to_state(scene.truth))
    assert torch.allclose(again, scene.truth, atol=1e-3)
    first = task(batch, windows, generator(2))["state"]
    optimizer = torch.optim.AdamW(task.parameters(), lr=3e-3)
    for i in range(60):
        loss = task(*task.draw(clips, 500, generator(i)), generator(i))["state"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    idle = [n for n, p in task.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()]
    assert not idle
    assert task(batch, windows, generator(2))["state"] < 0.9 * first
    assert all(np.isfinite(v) for v in task.score(clips, generator()).values())


def test_the_transition_lies_inside_with_context_on_both_sides(pack_path):
    task = GenerativeTask(GenerativeTask.configure("mdm_small", ["rounds=1"], Pack.load(pack_path), None))
    clips = Clips(Pack.load(pack_path), label_ids=task.label_ids)
    lengths = set()
    for seed in range(20):
        batch, windows = task.draw(clips, 600, generator(seed))
        hidden = ~windows.observed.all(dim=-1)
        lengths.add(batch.root.shape[1])
        assert (hidden.sum(dim=1) == GAP).all()
        assert not hidden[:, :5].any()
        assert not hidden[:, -5:].any()
        assert torch.allclose(batch.frame_step, torch.full((), 1 / 30))
    assert min(lengths) >= 45
    assert max(lengths) <= 224
    assert len(lengths) > 10


def test_train_export_and_load_by_path(pack_path, tmp_path, capsys):
    out = tmp_path / "paper.safetensors"
    words = [
        "train", "generative", "--data", str(pack_path), "--run", str(tmp_path / "run"), "--minutes", "0.03",
        "--threads", "1", "--batch-frames", "300", "--size", "inbetween_paper_small", "--export", str(out), "--set",
        "rounds=1", "joint_dim=8", "head_dim=8", "pose_dim=16", "time_heads=1", "time_head_dim=16", "time_ffn=16",
    ]  # fmt: skip
    assert cli.main(words) == 0
    assert {"held_out_position", "held_out_angle"} <= set(next(csv.DictReader((tmp_path / "run/loss.csv").open())))
    card = json.loads(out.with_suffix(".json").read_text())
    assert (card["kind"], card["tokens"], card["context"]) == ("generative", "joint", True)
    network = store.load(out, "generative", "cpu")
    assert network.config.kaa.joint_dim == 8
    assert network.text.words == ("dance", "walk")
    assert not torch.equal(network.scale.deviation, torch.ones(22, 12)), "the statistics are stored"
    with pytest.raises(MotionError, match="not a prior for inbetween"):
        store.load(out, "inbetween", "cpu")
    words[words.index("--size") + 1] = "huge"
    assert cli.main(words) == 1
    assert "choose one of inbetween_paper" in capsys.readouterr().err


def test_objective_steps_and_emphasis_are_set_by_name(pack_path):
    pack = Pack.load(pack_path)
    about = GenerativeTask.configure(
        "mdm_small", ["objective=noise", "steps=100", "emphasis=3", "rounds=1"], pack, None
    )
    network = GenerativeTask(about).network
    assert (network.config.objective, network.schedule.steps, network.config.kaa.rounds) == ("noise", 100, 1)
    assert network.emphasis is not None
    for wrong, sentence in (
        ("wings=2", "no field wings"),
        ("objective=v", "objective cannot be"),
        ("variant=x", "variant cannot be"),
    ):
        with pytest.raises(MotionError, match=sentence):
            GenerativeTask.configure("inbetween_paper_small", [wrong], pack, None)
    with pytest.raises(MotionError, match="There is no variant"):
        KAAConfig(variant="x")
    card = {**about, "words": ["jump"]}  # a run that starts from a card takes its network
    assert GenerativeTask.configure("mdm_small", [], pack, card) == card


# --- filling --------------------------------------------------------------------------------------------------------


def ready(name, words=("dance", "walk"), seed=0):
    """A network with random read-out, so that it says something."""
    torch.manual_seed(seed)
    network = GenerativeNetwork(CONFIGS[name], words)
    torch.nn.init.normal_(network.encoder.read.weight, std=0.3)
    for layer in (network.encoder.kaa.joint_codes.label, network.encoder.read_pose):
        if layer is not None:
            torch.nn.init.normal_(layer.weight, std=0.3)
    return network.eval()


def gapped(motion, start=15, stop=45, kept=()):
    q, p = motion.rotations.copy(), motion.root.copy()
    gone = np.setdiff1d(np.arange(start, stop), kept)
    q[gone], p[gone] = np.nan, np.nan
    return motion.with_frames(q, p)


@pytest.mark.parametrize("name", CONFIGS)
def test_filling_keeps_every_bit_that_is_given(name):
    motions = [wander(60, seed=s) for s in range(2)]
    kept = [20, 31]
    filled = fill_many(
        ready(name), [gapped(m, kept=kept) for m in motions], 15, 45, keep=kept, steps=5,
        guidance=Guidance(impute=True, gradient=1.0 if name == "gmd" else 0.0),
    )  # fmt: skip
    given = np.r_[0:15, kept, 45:60]
    for before, after in zip(motions, filled, strict=True):
        assert after.rotations[given].tobytes() == before.rotations[given].tobytes()
        assert after.root[given].tobytes() == before.root[given].tobytes()
        assert np.isfinite(after.rotations).all()
        assert np.allclose(np.linalg.norm(after.rotations, axis=-1), 1, atol=1e-5)
        assert not np.allclose(after.rotations[16:19], before.rotations[16:19], atol=1e-3)


def test_the_same_seed_gives_the_same_take_and_another_another():
    network, motion = ready("paper"), gapped(wander(60))
    a, b, c = (fill_many(network, [motion], 15, 45, steps=5, seed=s)[0] for s in (1, 1, 2))
    assert a.rotations.tobytes() == b.rotations.tobytes()
    assert np.abs(a.rotations - c.rotations).max() > 1e-3


def test_where_it_stands_and_which_way_it_faces_changes_nothing():
    network, motion = ready("paper"), wander(60)
    turn, shift = rot.about_y(np.array(2.2)), np.array([40.0, 10.0, -7.0])
    q = motion.rotations.astype(np.float64)
    q = np.concatenate([rot.multiply(turn, q[:, :1]), q[:, 1:]], axis=1)
    moved = motion.with_frames(q, rot.rotate(turn, motion.root.astype(np.float64)) + shift)
    a, b = (fill_many(network, [gapped(m)], 15, 45, steps=5)[0] for m in (motion, moved))
    assert rot.angle(a.rotations[:, 1:].astype(float), b.rotations[:, 1:].astype(float)).max() < 2e-3
    assert np.abs(rot.rotate(turn, a.root.astype(np.float64)) + shift - b.root).max() < 5e-3


def test_a_label_is_heard_and_guidance_exaggerates_it():
    network, motion = ready("paper"), gapped(wander(60))

    def fill(label, scale=1.0):
        return fill_many(network, [motion], 15, 45, steps=4, label=label, guidance=Guidance(label=scale))[0].rotations

    plain, walk, dance = fill(""), fill("walk"), fill("dance")
    assert np.abs(walk - plain).max() > 1e-4
    assert np.abs(walk - dance).max() > 1e-4
    assert fill("walk", 0.0).tobytes() == plain.tobytes()
    assert np.abs(fill("walk", 4.0) - plain).mean() > np.abs(walk - plain).mean()
    with pytest.raises(MotionError, match="knows dance, walk"):
        fill("zzyzx")
    with pytest.raises(MotionError, match="without labels"):
        fill_many(ready("mdm", words=()), [motion], 15, 45, label="walk")


@pytest.mark.parametrize("name", ["mdm", "gmd", "kaa"])
def test_the_gradient_leads_the_root_to_the_far_side(pack_path, name):
    """The path is left open and the networks know no gap: only guidance can make it arrive."""
    torch.manual_seed(0)
    settings = GenerativeNetwork(CONFIGS[name]).settings()
    task = GenerativeTask({"kaa": vars(CONFIGS[name].kaa), **settings, "longest": 60})
    clips = Clips(Pack.load(pack_path))
    task.prepare(clips, generator())
    optimizer = torch.optim.AdamW(task.parameters(), lr=3e-3)
    for i in range(60):
        loss = task(*task.draw(clips, 500, generator(i)), generator(i))["state"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    network = task.network.eval()
    motions = [gapped(wander(60, seed=s)) for s in range(6)]
    misses = []
    for gradient in (0.0, 10.0):
        guidance = Guidance(impute=True, gradient=gradient)
        filled = fill_many(network, motions, 15, 45, steps=20, guidance=guidance, close=False)
        misses.append(np.mean([np.linalg.norm(m.root[45] - m.root[44]) for m in filled]))
    assert misses[1] < 0.7 * misses[0]


def test_bad_requests_get_a_sentence():
    network, motion = ready("mdm"), wander(60)
    for request, sentence in [
        (lambda: fill_many(network, [motion, wander(50)], 15, 45), "one length"),
        (lambda: fill_many(network, [motion], 45, 15), "does not lie inside"),
        (lambda: fill_many(network, [motion], 0, 60), "no known frame"),
        (lambda: fill_many(network, [gapped(motion, 2, 4)], 15, 45), "not a finite, unit value"),
    ]:
        with pytest.raises(MotionError, match=sentence):
            request()
    assert fill_many(network, [], 0, 1) == []


def test_positions_after_decoding_are_those_of_forward_kinematics():
    """L2-P is measured on these: rotations and root are what counts, not the layout's own positions."""
    motion = wander(60)
    out = fill_many(ready("mdm"), [gapped(motion)], 15, 45, steps=3)[0]
    bones = kinematics.positions(*(x.astype(np.float64) for x in (out.rotations, out.root, out.skeleton.offsets)))
    lengths = np.linalg.norm(bones[:, 1:] - bones[:, list(PARENTS[1:])], axis=-1)
    assert np.allclose(lengths, np.linalg.norm(out.skeleton.offsets[1:], axis=-1), atol=1e-5)


def test_the_table_of_neighbours_is_made_once_and_read_again(pack_path, tmp_path, monkeypatch, capsys):
    import importlib.util
    import sys
    from pathlib import Path

    place = Path(__file__).resolve().parents[2] / "benchmarks" / "neighbours.py"
    spec = importlib.util.spec_from_file_location("neighbours", place)
    neighbours = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "neighbours", neighbours)
    spec.loader.exec_module(neighbours)
    words = [
        "neighbours", "--data", str(pack_path), "--test", str(pack_path), "--steps", "2", "--batch-frames", "200",
        "--longest", "50", "--sampling", "2", "--windows", "6", "--seeds", "2", "--no-prior", "--device", "cpu",
        "--runs", str(tmp_path), "--csv", str(tmp_path / "rows.csv"),
    ]  # fmt: skip
    monkeypatch.setattr(sys, "argv", [*words, "--only", "mdm,inbetween_paper", "--json"])
    assert neighbours.main() == 0
    report = json.loads(capsys.readouterr().out)
    made = {p: p.stat().st_mtime_ns for p in tmp_path.glob("*.safetensors")}
    assert len(made) == 4, "two systems, two seeds"
    ratios = {(r["method"], r["seed"]): r["ratio"] for r in report["rows"] if r["figure"] == "table5.l2p"}
    assert ratios["interpolation", 0] == 1
    assert ratios["MDM", 0] != ratios["MDM", 1]
    assert len(list(csv.DictReader((tmp_path / "rows.csv").open()))) == len(report["rows"])
    monkeypatch.setattr(sys, "argv", [*words, "--only", "mdm"])
    assert neighbours.main() == 0
    out = capsys.readouterr().out
    assert "2.91 / 2.86 / 2.09" in out, "the published ratios stand beside ours"
    assert made == {p: p.stat().st_mtime_ns for p in tmp_path.glob("*.safetensors")}
    monkeypatch.setattr(sys, "argv", [*words, "--only", "nobody"])
    assert neighbours.main() == 1
    assert "choose of mdm" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", [*words, "--gmd-scales", "3", "--seeds", "1"])
    assert neighbours.main() == 0
    assert "GMD scale 3, gradient" in capsys.readouterr().out
    assert len(list(tmp_path.glob("gmd-*.safetensors"))) == 1, "the gradient needs no training of its own"
