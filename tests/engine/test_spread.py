"""The noise of the product priors: as correlated as it was measured to be, and what it makes of a lazy network."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mmdm_engine.model.config import KAAConfig
from mmdm_engine.priors.network import InbetweenNetwork
from mmdm_engine.priors.spread import CHANNELS, MotionNoise
from mmdm_engine.priors.window import Bodies
from mmdm_engine.training.tasks import gap_windows

TINY = KAAConfig(
    rounds=1, joint_dim=8, pose_dim=16, heads=1, head_dim=8, time_heads=1, time_head_dim=16, ffn=16, time_ffn=16
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def mixed() -> MotionNoise:
    """Channels 0 and 7 go together, 1 and 8 against one another."""
    noise = MotionNoise()
    covariance = torch.eye(CHANNELS)
    covariance[0, 7] = covariance[7, 0] = 0.8
    covariance[1, 8] = covariance[8, 1] = -0.6
    noise.mix.copy_(torch.linalg.cholesky(covariance))
    noise.memory.fill_(0.2)
    return noise


def test_draws_have_unit_variance_and_the_correlations_of_the_tables():
    seconds = torch.arange(60)[None].expand(300, 60) / 30
    draw = mixed()(seconds, generator()).flatten(2)
    assert draw.std().item() == pytest.approx(1, abs=0.01)
    pooled = torch.corrcoef(draw[:, ::15].flatten(0, 1).T)
    assert pooled[0, 7].item() == pytest.approx(0.8, abs=0.04)
    assert pooled[1, 8].item() == pytest.approx(-0.6, abs=0.06)
    assert pooled[2, 3].abs().item() < 0.08
    lagged = (draw[:, 6:] * draw[:, :-6]).mean().item()  # a fifth of a second
    assert lagged == pytest.approx(np.exp(-0.5), abs=0.03)


def test_the_same_seed_draws_the_same_and_the_frame_rate_does_not_matter():
    noise = mixed()
    fast = torch.arange(120)[None] / 60
    assert torch.equal(noise(fast, generator(3)), noise(fast, generator(3)))
    assert not torch.equal(noise(fast, generator(3)), noise(fast, generator(4)))
    steps = noise(fast, generator(5)).diff(dim=1)
    assert steps.std().item() < 0.12  # a sixtieth of a second: nearly still


def test_measured_correlations_are_those_of_the_data():
    truth = mixed()
    seconds = torch.arange(80)[None].expand(60, 80) / 30
    hidden = torch.ones(60, 80, 22, 6)
    hidden[:30, :, 2] = 0  # half of the windows do not tell of joint 2
    hidden[:, :, 5, 3:] = 0  # nobody tells of this
    state = 3.0 * truth(seconds, generator(1))
    found = MotionNoise()
    found.measure([(state, hidden, torch.full((60,), 1 / 30))])
    covariance = found.mix @ found.mix.T
    assert found.memory.item() == pytest.approx(0.2, rel=0.1)
    assert covariance[0, 7].item() == pytest.approx(0.8, abs=0.1)
    assert covariance[1, 8].item() == pytest.approx(-0.6, abs=0.12)
    torch.testing.assert_close(covariance.diagonal(), torch.ones(CHANNELS), atol=1e-4, rtol=0)
    assert covariance[33, :33].abs().max() < 0.01  # channel 3 of joint 5


@pytest.fixture(scope="module")
def lazy():
    """A network that says zero whatever it sees, on standing people of whom 20 frames are hidden."""
    torch.manual_seed(0)
    network = InbetweenNetwork(TINY).eval()
    for table in network.scale.buffers():
        table.fill_(0.2)
    network.spread.load_state_dict(mixed().state_dict())
    q = torch.zeros(40, 44, 22, 4)
    q[..., 0] = 1
    offsets = torch.zeros(40, 22, 3)
    offsets[:, 1:, 1] = 0.2
    offsets[:, [4, 5, 7, 8], 1] = -0.42

    class Batch:
        rotations, root = q, torch.zeros(40, 44, 3)
        bodies = Bodies(offsets, torch.ones(40, 22, dtype=torch.bool))
        frame_step = torch.full((40,), 1 / 30)

    observed = torch.ones(40, 44, 23, dtype=torch.bool)
    observed[:, 12:32] = False
    return network, network.condition(gap_windows(Batch, observed, network.scale))


def test_the_state_counts_for_what_it_holds(lazy):
    network, condition = lazy
    state = network.noise(condition, generator())
    count = len(state)
    with torch.inference_mode():
        first = network.predict(condition, state, torch.zeros(count, dtype=torch.long))
        last = network.predict(condition, state, torch.full((count,), network.schedule.steps - 1))
    torch.testing.assert_close(first, state, atol=0.02, rtol=0.02)
    assert last.abs().max() == 0


def test_takes_of_a_lazy_network_part_as_far_as_it_departs_from_the_base_and_are_smooth(lazy):
    network, condition = lazy
    said = {1: 1.0, 4: 0.5}  # a network that turns two joints about one axis and leaves the others alone
    with torch.no_grad():
        bias = network.encoder.read_pose.bias.view(22, -1)
        bias.zero_()
        for joint, angle in said.items():
            bias[joint, 0] = angle
        plain = network.sample(condition, 1) / condition.scale.clamp(min=1e-6)
        takes = [network.sample(condition, network.schedule.steps, generator(n)) for n in (1, 2)]
        bias.zero_()
    take = takes[0] / condition.scale.clamp(min=1e-6)
    inside = (take - plain)[:, 16:28, :, :3]
    for joint, angle in said.items():
        expected = network.VARIETY * angle / np.sqrt(3)  # its RMS over three axes
        assert inside[:, :, joint].std().item() == pytest.approx(expected, rel=0.15)
    others = [j for j in range(22) if j not in said]
    assert inside[:, :, others].abs().max() < 1e-5
    assert not torch.equal(*takes)
    assert inside[:, :, 1].diff(dim=1).std() < 0.4 * inside[:, :, 1].std()
    assert take[:, :12].abs().max() == 0 == take[:, 32:].abs().max()
