"""Training on a small synthetic pack: data, losses, resume, export. Minutes are cut to seconds."""

import csv
import json

import made_up
import numpy as np
import pytest
import torch

from mmdm_engine import MotionError, cli
from mmdm_engine import rotations as rot
from mmdm_engine.contract.skeleton import LIMBS
from mmdm_engine.model.config import KAAConfig, overridden, to_dict
from mmdm_engine.pack import Pack
from mmdm_engine.priors import residual, store
from mmdm_engine.priors.window import Bodies, find_frame, tokens
from mmdm_engine.training import corruption, losses, tasks
from mmdm_engine.training.clips import Clips, held_out_clips

TINY = ["--set", "joint_dim=8", "pose_dim=16", "ffn=16", "time_ffn=16", "time_heads=1", "time_head_dim=16",
        "head_dim=8", "rounds=1", "temporal_blocks=1"]  # fmt: skip


@pytest.fixture(scope="module")
def pack_path(tmp_path_factory):
    """Forty clips of smooth made-up motion at 60 fps."""
    random = np.random.default_rng(0)
    clips = [made_up.swaying(random, 260, speed=random.normal(), rates=(0.4, 1.1)) for _ in range(40)]
    return made_up.write_pack(
        tmp_path_factory.mktemp("pack") / "made_up.npz",
        clips,
        labels=["walk" if i < 4 else "dance" for i in range(40)],
        flags=np.array(["props" if i % 2 else "" for i in range(40)]),
    )


@pytest.fixture(scope="module")
def clips(pack_path):
    return Clips(Pack.load(pack_path))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_clips_hold_some_out_and_favour_locomotion(pack_path):
    pack = Pack.load(pack_path)
    train, held = Clips.split(pack, "cpu")
    assert held.rotations is train.rotations
    assert len(train) + len(held) == 40
    assert 1 <= len(held) <= 8
    walking = torch.tensor([pack.labels[i] == "walk" for i in range(40)])
    everything = Clips(pack, held_out=None)
    share = everything.weight[walking].sum() / everything.weight.sum()
    assert share == pytest.approx(0.35, abs=1e-4)


def test_windows_are_unit_continuous_and_repeatable(clips):
    fps = torch.tensor([30.0, 60.0, 24.0, 5.0])
    a, b = (clips.sample(84, fps, generator(3)) for _ in range(2))
    assert torch.equal(a.rotations, b.rotations)
    assert a.rotations.shape == (4, 84, 22, 4)
    assert torch.allclose(a.rotations.norm(dim=-1), torch.ones(()), atol=1e-5)
    assert torch.allclose(a.frame_step, 1 / fps)
    assert not torch.equal(a.rotations, clips.sample(84, fps, generator(4)).rotations)


def test_mirroring_twice_is_the_identity_and_swaps_sides(clips):
    from mmdm_engine.priors.window import mirrored

    batch = clips.sample(8, torch.full((3,), 30.0), generator(), augment=False)
    yes = torch.ones(3, dtype=torch.bool)
    once = mirrored(batch.rotations, batch.root, batch.bodies, yes)
    twice = mirrored(*once, yes)
    assert torch.equal(twice[0], batch.rotations)
    frame = find_frame(batch.rotations, batch.root, torch.ones(3, 8, dtype=torch.bool), batch.bodies)
    mirrored = find_frame(once[0], once[1], torch.ones(3, 8, dtype=torch.bool), once[2])
    p = frame.positions(*frame.enter(batch.rotations, batch.root))
    q = mirrored.positions(*mirrored.enter(once[0], once[1]))
    swap = [2 if j == 1 else 1 if j == 2 else j for j in range(22)]
    assert torch.allclose(p[:, :, [1, 2]] * torch.tensor([-1.0, 1, 1]), q[:, :, swap][:, :, [1, 2]], atol=1e-4)


def test_gap_bank_hides_what_it_says():
    gaps = corruption.Gaps.make(seed=1, count=400)
    hidden = ~gaps.observed
    assert hidden.flatten(1).any(dim=1).float().mean() > 0.95
    both = gaps.observed[:, 0].all(dim=-1) & gaps.observed[:, -1].all(dim=-1)
    assert 0.85 < both.float().mean() < 0.97, "about one in twelve has one side only"
    whole = hidden.all(dim=-1)
    runs = [max(len(r) for r in "".join("x" if v else " " for v in row).split()) for row in whole if row.any()]
    assert max(runs) <= 60
    assert min(runs) <= 4
    assert (hidden[:, :, 0] == hidden[:, :, 22]).all(), "the root goes with the pelvis"
    assert len(LIMBS) == 4


def test_completion_bank_loses_parts_but_never_the_whole_body():
    losses_ = corruption.Losses.make(seed=1, count=400)
    hidden = ~losses_.observed
    assert hidden.flatten(1).any(dim=1).float().mean() > 0.9
    assert losses_.observed[:, :, 22].any(dim=1).all(), "the body's place is known in some frame"
    assert (hidden[:, :, 0] == hidden[:, :, 22]).all(), "the root goes with the pelvis"
    throughout = hidden[..., :22].all(dim=1)
    assert 0.1 < throughout.any(dim=1).float().mean() < 0.5, "some parts are never seen"
    arm = list(LIMBS[2])
    assert hidden[:, :, arm].all(dim=(1, 2)).any()


def test_people_are_held_out_whole(pack_path, tmp_path):
    with np.load(pack_path) as file:
        arrays = dict(file)
    np.savez(tmp_path / "people.npz", subjects=np.array([f"{i // 2:02}" for i in range(40)]), **arrays)
    pack = Pack.load(tmp_path / "people.npz")
    apart = held_out_clips(pack)
    assert 0 < pack.length[apart].sum() / pack.length.sum() <= 0.16
    assert all(apart[2 * i] == apart[2 * i + 1] for i in range(20))


def test_noise_has_the_asked_size_and_leaves_some_clean():
    rotations = torch.zeros(300, 40, 22, 4)
    rotations[..., 0] = 1
    root = torch.zeros(300, 40, 3)
    offsets = torch.tensor(made_up.skeleton().offsets).expand(300, 22, 3)
    spoiled, moved = corruption.add_noise(rotations, root, offsets, generator())
    angle = torch.rad2deg(rot.log(spoiled).square().mean(dim=(1, 2, 3)).sqrt())
    clean = angle < 1e-3
    assert 0.04 < clean.float().mean() < 0.18
    most = torch.rad2deg(rot.log(spoiled).square().mean(dim=(1, 3)).sqrt()).amax(dim=1)
    assert most[~clean].min() > 0.2
    assert 1.5 < angle[~clean].median() < 5
    assert moved.std(dim=(1, 2)).max() < 0.08
    quiet = (rot.log(spoiled).norm(dim=-1).amax(dim=1) < 1e-4)[~clean]  # (B, 22) joints that do not shake
    some = quiet[:, 0] != quiet[:, 4]
    assert 0.02 < some.float().mean() < 0.35
    assert 0.1 < (quiet.any(dim=1) & ~quiet.all(dim=1)).float().mean() < 0.5


def test_few_joints_may_shake_and_shaken_places_turn_short_bones_most():
    rotations, root = torch.zeros(400, 30, 22, 4), torch.zeros(400, 30, 3)
    rotations[..., 0] = 1
    offsets = torch.tensor(made_up.skeleton().offsets)
    spoiled, _ = corruption.add_noise(rotations, root, offsets.expand(400, 22, 3), generator())
    turn = rot.log(spoiled).square().mean(dim=(1, 3)).sqrt()
    leaves_rest = turn[:, [10, 11, 15, 20, 21]].amax(dim=1) < 1e-6
    at_places = leaves_rest & (turn[:, [1, 4, 16, 18]].amin(dim=1) > 1e-4)
    assert 0.1 < at_places.float().mean() < 0.3
    thigh, elbow = turn[at_places][:, [1, 2]].mean(), turn[at_places][:, [18, 19]].mean()
    assert 1.5 < elbow / thigh < 2.7  # 42 cm against 20 cm


@pytest.mark.parametrize("name", ["inbetween", "completion", "refinement"])
def test_an_untrained_task_scores_its_base_and_all_terms_are_finite(clips, name):
    torch.manual_seed(0)
    kaa = KAAConfig(
        rounds=1, joint_dim=8, pose_dim=16, heads=1, head_dim=8, time_heads=1, time_head_dim=16, ffn=16, time_ffn=16
    )
    task = tasks.TASKS[name]({"kaa": to_dict(kaa), "words": ["walk", "dance"]})
    task.prepare(clips, generator(), *([8] if name != "refinement" else []))
    if name != "refinement":
        assert task.score(clips, generator()) == pytest.approx({"position": 1.0, "angle": 1.0}, abs=1e-5)
    terms = task(*task.draw(clips, 800, generator()), generator())
    total = losses.total(terms, task.weights)
    total.backward()
    assert all(torch.isfinite(v) for v in terms.values())
    assert all(p.grad is None or torch.isfinite(p.grad).all() for p in task.parameters())


def test_a_perfect_answer_costs_nothing(clips):
    batch = clips.sample(20, torch.full((4,), 30.0), generator())
    frame = find_frame(batch.rotations, batch.root, torch.ones(4, 20, dtype=torch.bool), batch.bodies)
    inside = frame.enter(batch.rotations, batch.root)
    everything = torch.ones(4, 20, 22, dtype=torch.bool)
    terms = losses.motion_losses(frame, *inside, *inside, everything, batch)
    assert all(terms[k] == 0 for k in ("position", "velocity", "acceleration"))
    moved = losses.motion_losses(frame, inside[0], inside[1] + 0.1, *inside, everything, batch)
    assert moved["position"] == pytest.approx(0.1, rel=1e-4)


def test_a_lost_hand_counts_like_a_lost_body():
    error = torch.ones(2, 6, 22, 3)
    error[0] = 3
    mask = torch.zeros(2, 6, 22, 1, dtype=torch.bool)
    mask[0, 2, 20] = True
    mask[1] = True
    assert losses.window_mean(error, mask) == 2
    assert losses.window_mean(error, mask[:, :, :, :] & False) == 0


def test_what_a_lost_rotation_moves():
    hidden = torch.zeros(1, 1, 22, dtype=torch.bool)
    hidden[0, 0, 18] = True  # the elbow moves the wrist
    assert losses.moved_by(hidden)[0, 0].nonzero().flatten().tolist() == [20]
    hidden[0, 0, 0] = True
    assert losses.moved_by(hidden).all()


def test_residual_and_frame_are_inverses(clips):
    batch = clips.sample(20, torch.full((4,), 30.0), generator())
    bodies = Bodies(batch.bodies.offsets, batch.bodies.exists)
    frame = find_frame(batch.rotations, batch.root, torch.ones(4, 20, dtype=torch.bool), bodies)
    inside = frame.enter(batch.rotations, batch.root)
    back = frame.leave(*inside)
    assert torch.allclose(rot.angle(back[0], batch.rotations), torch.zeros(()), atol=1e-3)
    assert torch.allclose(back[1], batch.root, atol=1e-5)
    other = (inside[0].roll(3, dims=1), inside[1].roll(3, dims=1))
    state = residual.difference(*other, *inside)
    again = residual.add(*other, state)
    assert torch.allclose(rot.angle(again[0], inside[0]), torch.zeros(()), atol=2e-3)
    assert torch.allclose(again[1], inside[1], atol=1e-5)
    assert tokens(*inside, frame, batch.frame_step).shape == (4, 20, 22, 12)


def test_gap_scale_vanishes_at_keys_and_grows_with_the_gap(clips):
    scale = residual.GapScale()
    states, before, after = torch.ones(1, 400, 22, 6), torch.zeros(1, 400, 23), torch.zeros(1, 400, 23)
    random = torch.rand(400, generator=generator()) * 0.8 + 0.1
    length = torch.rand(400, generator=generator(1)) * 1.9 + 0.1
    before[0], after[0] = (random * length)[:, None], ((1 - random) * length)[:, None]
    states = states * length[None, :, None, None]
    scale.measure([(states, before, after)] * 20)
    phases = torch.linspace(0, 1, 21)
    rows = [scale((phases * g)[None, :, None].expand(1, 21, 23), ((1 - phases) * g)[None, :, None].expand(1, 21, 23))
            for g in (0.3, 1.5)]  # fmt: skip
    for row in rows:
        assert row[0, [0, -1], :, :3].abs().max() == 0
        assert (row[0, 1:-1, :, :3] > 0).all()
        assert (row[0, :, 1:, 3:] == 0).all(), "only the root token has a shift"
    assert rows[1][0, 10, 3, 0] > 2 * rows[0][0, 10, 3, 0]


def run(pack_path, folder, task, *extra, minutes="0.05"):
    return cli.main([
        "train", task, "--data", str(pack_path), "--run", str(folder), "--minutes", minutes, "--threads", "1",
        "--batch-frames", "400", *TINY, *extra,
    ])  # fmt: skip


def test_train_resume_export_and_init(pack_path, tmp_path):
    folder, out = tmp_path / "run", tmp_path / "mine.safetensors"
    assert run(pack_path, folder, "refinement", "--max-minutes", "0.02") == 0
    first = list(csv.DictReader((folder / "loss.csv").open()))
    assert run(pack_path, folder, "refinement", "--resume", "--export", str(out)) == 0
    rows = list(csv.DictReader((folder / "loss.csv").open()))
    assert len(rows) > len(first), "the log is continued"
    assert int(rows[-1]["step"]) > int(first[-1]["step"])
    assert (folder / "loss.png").stat().st_size > 5000
    card = json.loads(out.with_suffix(".json").read_text())
    assert [e["steps"] for e in card["ledger"]] == [int(rows[-1]["step"])]
    network = store.load(out, "refinement", "cpu")
    assert network.config.kaa.joint_dim == 8
    more = tmp_path / "more.safetensors"
    assert (
        run(pack_path, tmp_path / "again", "refinement", "--init", str(out), "--export", str(more), minutes="0.03") == 0
    )
    ledger = json.loads(more.with_suffix(".json").read_text())["ledger"]
    assert len(ledger) == 2
    assert ledger[1]["init"] == str(out)


def test_a_run_is_neither_overwritten_nor_continued_as_another(pack_path, tmp_path, capsys):
    assert run(pack_path, tmp_path, "refinement", minutes="0.01") == 0
    capsys.readouterr()
    assert run(pack_path, tmp_path, "refinement", minutes="0.01") == 1
    assert "--resume" in capsys.readouterr().err
    assert run(pack_path, tmp_path, "inbetween", "--resume", minutes="0.02") == 1
    assert "holds a run of refinement" in capsys.readouterr().err
    (tmp_path / "checkpoint.pt").write_bytes(b"half")
    assert run(pack_path, tmp_path, "refinement", "--resume", minutes="0.02") == 1
    assert "start a new run" in capsys.readouterr().err


def test_bad_training_requests_get_a_sentence(pack_path, tmp_path, capsys):
    assert run(pack_path, tmp_path, "inbetween", "--size", "huge") == 1
    assert "choose one of" in capsys.readouterr().err
    assert run(tmp_path / "none.npz", tmp_path, "inbetween") == 1
    assert "no pack" in capsys.readouterr().err
    with pytest.raises(MotionError, match="no field"):
        overridden(KAAConfig(), ["wings=2"])
    with pytest.raises(MotionError, match="cannot be"):
        overridden(KAAConfig(), ["rounds=many"])
