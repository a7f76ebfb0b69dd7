"""The benchmarks of the model: what they count is right, what they print can be read, nothing is done twice."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import made_up
import numpy as np
import pytest
import torch

from benchmarks import ablations, encoders, pictures, sampling, takes
from mmdm_engine import MotionError
from mmdm_engine import rotations as rot
from mmdm_engine.diffusion import Schedule
from mmdm_engine.model.config import EncoderConfig, KAAConfig
from mmdm_engine.model.encoder import Encoder
from mmdm_engine.pack import Pack
from mmdm_engine.priors import store
from mmdm_engine.priors.network import InbetweenNetwork

ROOT = Path(__file__).resolve().parents[2]
SMALL = KAAConfig(
    rounds=2, joint_dim=16, pose_dim=16, heads=2, head_dim=8, time_heads=2, time_head_dim=8, ffn=32, time_ffn=32
)


@pytest.fixture(scope="module")
def pack_path(tmp_path_factory):
    """Twenty clips of smooth made-up motion at 60 fps."""
    random = np.random.default_rng(0)
    clips = [made_up.swaying(random, 400) for _ in range(20)]
    return made_up.write_pack(
        tmp_path_factory.mktemp("pack") / "made_up.npz",
        clips,
        labels=["walk"] * 20,
        names=np.array([f"{i:02d}_01" for i in range(20)]),
        flags=np.array([""] * 20),
    )


# --- encoders


def block_flops(tokens, length, dim, heads, head_dim, ffn):
    """FLOPs of one transformer block by hand: projections, attention over ``length``, feed-forward."""
    inner = heads * head_dim
    return 2 * tokens * (4 * dim * inner + 2 * length * inner + 2 * dim * ffn)


@pytest.mark.parametrize(
    ("variant", "structure", "time"), [("s", 22, 0), ("t", 0, 22), ("s_t", 22, 22), ("kaa", 23, 1)]
)
def test_flops_agree_with_a_count_by_hand(variant, structure, time):
    frames, inputs = 9, encoders.Inputs.make(1, 9, 16, "cpu")
    one, two = (encoders.KAA(replace(SMALL, variant=variant, rounds=n)).eval() for n in (1, 2))
    counted = [
        encoders.flops(lambda n=n: n(inputs.tokens, inputs.seconds, inputs.frame_step, inputs.step)) for n in (one, two)
    ]
    by_hand = block_flops(frames * structure, structure, 16, 2, 8, 32) + block_flops(
        frames * time, frames, 16, 2, 8, 32
    )
    assert counted[1] - counted[0] == by_hand


def test_all_variants_are_measured_at_equal_sizes_and_the_cost_is_where_it_belongs():
    rows = {row["variant"]: row for row in encoders.measure(SMALL, frames=12, repeats=2)}
    assert set(rows) == {"s", "t", "s_t", "kaa_t", "kaa"}
    assert all(row["frames_per_second"] > 0 for row in rows.values())
    assert rows["kaa"]["gflop_per_frame"] == rows["kaa_t"]["gflop_per_frame"]
    assert 1.5 < rows["s_t"]["gflop_per_frame"] / rows["kaa"]["gflop_per_frame"] < 1.95
    assert rows["kaa"]["parameters"] == pytest.approx(rows["s_t"]["parameters"], rel=0.2), "codes apart"
    tokens = 12 * 22 * 16 * 4 / 2**20
    assert all(3 * tokens < row["peak_activations_mib"] < 40 * tokens for row in rows.values())


def test_peak_memory_counts_what_is_alive_at_once():
    known = torch.zeros(1000)
    with encoders.PeakMemory([known]) as memory:
        for _ in range(5):
            known + 1  # made and let go
        kept = [known * 2, known * 3]
        kept[0].view(10, 100).t()  # no new memory
    assert memory.peak == 2 * 4000
    del kept
    assert memory.now == 0


def test_the_verdict_names_a_void_comparison():
    fast = {"variant": "kaa", "frames_per_second": 170.0, "gflop_per_second": 80.0}
    slow = {"variant": "s_t", "frames_per_second": 100.0, "gflop_per_second": 78.0}
    assert "is met" in encoders.verdict([fast, slow])
    assert "missed" in encoders.verdict([{**fast, "frames_per_second": 150.0}, slow])
    assert "void" in encoders.verdict([fast, {**slow, "gflop_per_second": 50.0}])


def test_encoders_prints_the_list_that_programs_read():
    words = [sys.executable, "benchmarks/encoders.py", "--size", "completion_lite", "--frames", "4", "--repeats", "1",
             "--threads", "1", "--json"]  # fmt: skip
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=300, check=True)
    rows = json.loads(done.stdout)
    assert [row["variant"] for row in rows] == ["s", "t", "s_t", "kaa_t", "kaa"]
    for row in rows:
        assert {"variant", "frames_per_second", "gflop_per_frame", "parameters"} <= set(row)


# --- pose-level, objectives, bases


def test_pose_level_reads_all_joints_and_all_frames():
    torch.manual_seed(0)
    encoder = Encoder(EncoderConfig(replace(SMALL, variant="pose", pose_dim=24), 5, 3, 3)).eval()
    assert encoder.read_pose is not None
    torch.nn.init.normal_(encoder.read_pose.weight)
    features, state = torch.randn(1, 6, 22, 5), torch.randn(1, 6, 22, 3)
    touched = features.clone()
    touched[0, 2, 5] += torch.randn(5)
    clock = torch.tensor([3]), torch.linspace(-0.1, 0.1, 6)[None], torch.tensor([1 / 30])
    with torch.no_grad():
        change = (encoder(touched, state, *clock) - encoder(features, state, *clock)).abs().amax(dim=-1)
    assert (change > 1e-6).all()
    (encoder(features, state, *clock)).square().sum().backward()
    missing = [n for n, p in encoder.named_parameters() if p.grad is None]
    assert not missing


def test_a_network_is_rebuilt_with_its_objective_and_base():
    network = store.build("inbetween", {"kaa": {"variant": "pose"}, "objective": "noise", "base": "rest"})
    assert isinstance(network, InbetweenNetwork)
    assert network.settings() == {"words": [], "objective": "noise", "base": "rest"}
    assert network.schedule == Schedule(50, "cosine", zero_terminal_snr=False)


def bench(pack_path):
    return ablations.Bench(pack_path, pack_path, ablations.Budget(2, 168, 1e-3, "cpu"))


@pytest.fixture(scope="module")
def tiny(pack_path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ablations, "PREPARE_BATCHES", 2)
        patch.setattr(ablations, "TEST_WINDOWS", 6)
        yield bench(pack_path)


def condition_of(tiny, network):
    batch = tiny.test.sample(54, torch.full((6,), 30.0), torch.Generator().manual_seed(0), augment=False)
    observed = torch.ones((6, 54, 23), dtype=torch.bool)
    observed[:, 12:42] = False
    return batch, network.condition(ablations.gap_windows(batch, observed, network.scale))


def test_plain_x0_is_written_from_the_rest_pose_and_keeps_what_is_seen(tiny):
    network = InbetweenNetwork(replace(SMALL, rounds=1), base="rest")
    batch, condition = condition_of(tiny, network)
    true = condition.frame.enter(batch.rotations, batch.root)
    seen = [*range(12), *range(42, 54)]
    assert torch.allclose(condition.base_hips[:, seen], true[1][:, seen], atol=1e-6)
    assert (condition.base_rotations[:, 12:42, :, 0] == 1).all()
    assert torch.isclose(condition.base_rotations[:, seen], true[0][:, seen], atol=1e-5).all()


def test_a_perfect_noise_prediction_gives_the_motion_back(tiny):
    network = InbetweenNetwork(replace(SMALL, rounds=1), objective="noise")
    _, condition = condition_of(tiny, network)
    wanted = torch.randn(condition.scale.shape).clamp(-3, 3) * condition.hidden

    def noise_in(condition, state, step):
        abar = network.schedule.at(step, state)
        return (state - abar.sqrt() * wanted) / (1 - abar).sqrt()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(network, "predict", noise_in)
        found = network.sample(condition, 10, torch.Generator().manual_seed(0))
    assert torch.allclose(found, wanted * condition.scale, atol=1e-2)
    with pytest.raises(MotionError, match="one-pass"):
        network.sample(condition, 1)


# --- ablations


def test_widths_are_matched_in_parameters_and_in_flops():
    like = ablations.narrow("kaa", 4, 64)
    for by, family in ((0, ablations.wide), (0, ablations.pose_level), (1, ablations.wide), (1, ablations.pose_level)):
        found = ablations.matched(family, like, by)
        assert ablations.cost(found)[by] == pytest.approx(ablations.cost(like)[by], rel=0.12)
    narrower = ablations.matched(lambda w: ablations.narrow("s_t", 4, w), like, 1)
    assert narrower.joint_dim < 64


def test_every_ablation_trains_and_is_read_out(tiny):
    groups = ablations.ablations("tiny")
    rows = {name: row for members in groups.values() for name, row in members.items()}
    for name in ("kaa", "s_t_flops", "wide", "pose_flops", "plain", "signal", "noise"):
        result = tiny.run(rows[name], seed=0)
        assert len(result["reads"]) == len(rows[name].reads)
        for score in result["reads"].values():
            assert all(np.isfinite(v) and v > 0 for v in score.values())
    assert tiny.run(rows["kaa"], 0)["reads"] == tiny.run(rows["kaa"], 0)["reads"]
    assert tiny.run(rows["kaa"], 0)["reads"] != tiny.run(rows["kaa"], 1)["reads"]


def test_an_untrained_network_scores_interpolation(tiny):
    network = InbetweenNetwork(replace(SMALL, rounds=1))
    network.scale.load_state_dict(tiny.scale)
    assert tiny.score(network, 1) == pytest.approx({"position": 1.0, "angle": 1.0}, abs=1e-5)


def ablate(pack_path, folder, *words):
    command = [sys.executable, "benchmarks/ablations.py", "--data", str(pack_path), "--test", str(pack_path),
               "--size", "tiny", "--steps", "1", "--batch-frames", "168", "--cache", str(folder / "cache.json"),
               "--threads", "1", *words]  # fmt: skip
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)


def test_ablations_go_on_where_they_stopped(pack_path, tmp_path):
    first = ablate(pack_path, tmp_path, "--only", "kaa_t", "--seeds", "1", "--json")
    assert first.returncode == 0, first.stderr
    assert first.stderr.count("seed 0") == 1
    table = tmp_path / "table.csv"
    again = ablate(pack_path, tmp_path, "--only", "kaa_t", "--seeds", "2", "--json", "--csv", str(table))
    assert again.stderr.count("seed 0") == 0
    assert again.stderr.count("seed 1") == 1
    rows = json.loads(again.stdout)["rows"]
    assert {row["group"] for row in rows} == {"flops", "parameters"}
    assert all(row["seeds"] == 2 and row["position_sd"] is not None for row in rows)
    assert table.read_text().startswith("group,name,")
    unknown = ablate(pack_path, tmp_path, "--only", "wings")
    assert unknown.returncode == 1
    assert "no ablation wings" in unknown.stderr


# --- sampling


def test_samplers_are_checked_and_ddpm_takes_all_steps():
    assert sampling.samplers([1, 4, 50], 50) == [("ddim", 1), ("ddim", 4), ("ddim", 50), ("ddpm", 50)]
    assert sampling.samplers([1, 4], 50) == [("ddim", 1), ("ddim", 4)]
    with pytest.raises(MotionError, match="choose 1 to 50"):
        sampling.samplers([1, 60], 50)


def test_sampling_draws_with_seeds_and_only_where_there_is_something_to_draw(pack_path):
    torch.manual_seed(0)
    network = InbetweenNetwork(replace(SMALL, rounds=1)).eval().requires_grad_(False)
    torch.nn.init.normal_(network.encoder.read.weight, std=0.3)
    chosen = [*sampling.samplers([1, 2], 50), ("ddpm", 2)]
    lines = sampling.measure(Pack.load(pack_path), network, chosen, windows=4, seeds=2)
    assert [(line["sampler"], line["steps"], line["seeds"]) for line in lines] == [
        ("ddim", 1, 1), ("ddim", 2, 2), ("ddpm", 2, 2),
    ]  # fmt: skip
    assert lines[0]["mpjpe_mm_ratio_sd"] is None
    assert lines[1]["mpjpe_mm_ratio_sd"] > 0
    assert lines[1]["mpjpe_mm"] != lines[2]["mpjpe_mm"], "ancestral sampling draws noise at every step"
    assert "sample" not in vars(network), "the network is left as it was"


def test_sampling_plot_is_drawn(tmp_path):
    line = {"sampler": "ddim", "steps": 1, "seconds_per_window": 0.1, **{f"{f}_ratio": 0.9 for f in sampling.FIGURES}}
    sampling.plot([line, {**line, "steps": 50}, {**line, "sampler": "ddpm", "steps": 50}], tmp_path / "s.png")
    assert (tmp_path / "s.png").stat().st_size > 5000


# --- pictures and takes


def test_pictures_are_drawn_of_different_kinds_of_movement(tmp_path, capsys, monkeypatch):
    random = np.random.default_rng(0)
    clips = [made_up.swaying(random, 200) for _ in range(4)]
    pack = made_up.write_pack(tmp_path / "p.npz", clips, ["walk", "walk", "run/jog", "sit"])
    words = ["--data", str(pack), "--out", str(tmp_path / "out"), "--gap", "10", "--count", "2", "--json"]
    monkeypatch.setattr(sys, "argv", ["pictures.py", *words])
    assert pictures.main() == 0
    lines = json.loads(capsys.readouterr().out)
    assert {line["kind"] for line in lines} == {"walk", "run"}
    for line in lines:
        assert Path(line["picture"]).read_bytes().startswith(b"\x89PNG")
        assert line["ours_mpjpe_mm"] > 0


def test_sliding_is_what_planted_feet_do():
    still = made_up.swaying(np.random.default_rng(0), 40, speed=0.0)
    still = still.with_frames(np.broadcast_to(rot.IDENTITY, (40, 22, 4)), np.tile([0, 0.9, 0], (40, 1)))
    moving = still.with_frames(still.rotations, still.root + np.arange(40)[:, None] * [0.003, 0, 0.004])
    assert pictures.slide_mm(moving, still, slice(10, 30)) == pytest.approx(5.0, rel=1e-3)
    assert np.isnan(pictures.slide_mm(still, moving.with_frames(moving.rotations, 10 * moving.root), slice(10, 30)))


def test_seams_of_the_truth_are_within_the_clip_and_a_jump_is_not():
    points = np.cumsum(np.random.default_rng(0).normal(size=(60, 22, 3)), axis=0).cumsum(axis=0)
    assert takes.seam(points, points, 20, 40, 1, 30.0) <= 2.0
    jumped = points.copy()
    jumped[20:40] += 1000.0
    assert takes.seam(jumped, points, 20, 40, 2, 30.0) > 10


def test_takes_are_measured_beside_interpolation(pack_path, capsys, monkeypatch):
    words = ["--data", str(pack_path), "--gap", "8", "--takes", "3", "--windows", "2", "--json"]
    monkeypatch.setattr(sys, "argv", ["takes.py", *words])
    assert takes.main() == 0
    figures = json.loads(capsys.readouterr().out)["figures"]
    assert figures["best_mm"]["mean"] <= figures["one_pass_mm"]["mean"] <= figures["worst_mm"]["mean"]
    assert figures["diversity_mm"]["mean"] > 0
