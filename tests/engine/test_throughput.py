"""What `train` says of its use of the machine."""

import made_up
import numpy as np
import pytest
import torch

from mmdm_engine import cli
from mmdm_engine.pack import Pack
from mmdm_engine.training import throughput
from mmdm_engine.training.clips import Clips
from mmdm_engine.training.passage import PassageTask


@pytest.fixture(scope="module")
def pack_path(tmp_path_factory):
    random = np.random.default_rng(0)
    clips = [made_up.swaying(random, 260, rates=(0.4, 1.1)) for _ in range(24)]
    return made_up.write_pack(tmp_path_factory.mktemp("pack") / "made_up.npz", clips)


def passages(width):
    return PassageTask({"passage": {"width": width, "blocks": 2}})


def test_operations_are_counted_and_the_task_stays_as_it_was(pack_path):
    clips = Clips(Pack.load(pack_path), held_out=None)
    task = passages(64)
    before = {name: value.clone() for name, value in task.state_dict().items()}
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    counted = throughput.flops_per_window(task, clips)
    assert torch.equal(torch.rand(1), expected), "random numbers go on as they would"
    assert all(torch.equal(value, before[name]) for name, value in task.state_dict().items())
    assert all(p.grad is None for p in task.parameters())
    weights = sum(p.numel() for p in task.network.parameters() if p.ndim == 2)
    assert 4 * weights < counted < 9 * weights  # two a weight, forwards and once or twice backwards; kinematics
    assert throughput.flops_per_window(passages(256), clips) > counted


def test_a_share_is_of_what_matrix_products_reach():
    rate = throughput.matrix_rate(torch.device("cpu"), torch.float32, repeats=2)
    assert rate > 1e8
    assert throughput.Throughput(flops=rate / 100, reach=rate).share(25.0) == pytest.approx(0.25)


def test_train_says_how_much_of_the_machine_it_uses(pack_path, tmp_path, capsys):
    words = ["train", "passage", "--data", str(pack_path), "--run", str(tmp_path / "run"), "--minutes", "0.02"]
    assert cli.main([*words, "--batch-frames", "600", "--set", "width=64", "blocks=1"]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "GFLOP/s" in said
    assert "% of plain matrix products" in said
