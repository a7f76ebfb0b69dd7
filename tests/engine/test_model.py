"""The networks: shapes, what flows where, and that they learn."""

import json
from dataclasses import replace

import pytest
import torch

from mmdm_engine.model.config import (
    ENCODERS,
    MASKED,
    DecoderConfig,
    EncoderConfig,
    KAAConfig,
    MaskedConfig,
    kaa_from_dict,
    to_dict,
)
from mmdm_engine.model.decoder import MaskedModel
from mmdm_engine.model.encoder import Encoder
from mmdm_engine.model.kaa import KAA

SMALL = KAAConfig(
    rounds=2, joint_dim=16, pose_dim=16, heads=2, head_dim=8, time_heads=2, time_head_dim=8, ffn=32, time_ffn=32
)
WIDE = replace(SMALL, pose_dim=48, temporal_blocks=2, rotary=True)


def clock(batch, frames):
    return torch.linspace(-0.5, 0.5, frames).expand(batch, frames), torch.full((batch,), 1 / 30)


@pytest.mark.parametrize("variant", ["s", "t", "s_t", "kaa_t", "kaa"])
@pytest.mark.parametrize("config", [SMALL, WIDE], ids=["paper", "wide"])
def test_variants_keep_shapes_and_all_parameters_get_gradients(variant, config):
    torch.manual_seed(0)
    network = KAA(replace(config, variant=variant))
    seconds, step = clock(2, 7)
    h, e = network(torch.randn(2, 7, 22, 16), seconds, step, torch.tensor([3, 40]))
    assert h.shape == (2, 7, 22, 16)
    assert (e is not None) == (variant in ("kaa", "kaa_t"))
    (h.square().sum() + (e.square().sum() if e is not None else 0)).backward()
    missing = [n for n, p in network.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not missing


@pytest.mark.parametrize(
    ("variant", "same_frame_other_joint", "other_frame"),
    [("s", True, False), ("t", False, True), ("s_t", True, True), ("kaa", True, True), ("kaa_t", True, True)],
)
def test_information_flows_where_the_variant_says(variant, same_frame_other_joint, other_frame):
    torch.manual_seed(0)
    network = KAA(replace(SMALL, variant=variant, rounds=2)).eval()
    x = torch.randn(1, 6, 22, 16)
    touched = x.clone()
    touched[0, 2, 5] += torch.randn(16)  # not a uniform shift, which layer norm would undo
    seconds, step = clock(1, 6)
    with torch.no_grad():
        change = network(touched, seconds, step, torch.tensor([1]))[0] - network(x, seconds, step, torch.tensor([1]))[0]
    change = change.abs().amax(dim=-1)[0] > 1e-6
    assert change[2, 5]
    assert change[2, 9] == same_frame_other_joint
    assert change[4, 5] == other_frame


def test_pose_tokens_alone_attend_over_time_in_kaa():
    """After one structure-first round a change in one frame reaches other frames only as one shared shift."""
    torch.manual_seed(0)
    network = KAA(replace(SMALL, rounds=1)).eval()
    x = torch.randn(1, 6, 22, 16)
    touched = x.clone()
    touched[0, 2, 5] += torch.randn(16)  # not a uniform shift, which layer norm would undo
    seconds, step = clock(1, 6)
    with torch.no_grad():
        a, b = (network(v, seconds, step, torch.tensor([1]))[0] for v in (x, touched))
    shift = (b - a)[0, 4]
    assert shift.abs().max() > 1e-6
    assert torch.allclose(shift, shift[:1].expand_as(shift), atol=1e-6)


def test_encoder_starts_as_its_baseline_and_codes_matter():
    torch.manual_seed(0)
    encoder = Encoder(EncoderConfig(WIDE, 5, 3, 3))
    features, state = torch.randn(2, 7, 22, 5), torch.randn(2, 7, 22, 3)
    seconds, step = clock(2, 7)
    out = encoder(features, state, torch.tensor([1, 1]), seconds, step)
    assert out.shape == (2, 7, 22, 3)
    assert (out == 0).all()
    torch.nn.init.normal_(encoder.read_pose.weight)
    a = encoder(features, state, torch.tensor([1, 1]), seconds, step)
    assert not torch.allclose(a, encoder(features, state, torch.tensor([30, 30]), seconds, step))
    assert not torch.allclose(a, encoder(features, state, torch.tensor([1, 1]), 2 * seconds, 2 * step))


def test_decoder_ignores_hidden_values_and_learns_to_copy():
    torch.manual_seed(0)
    model = MaskedModel(MaskedConfig(SMALL, DecoderConfig(dim=16, depth=1, heads=2, head_dim=8, ffn=32)))
    positions, visible = torch.randn(2, 5, 22, 3), torch.rand(2, 5, 22) > 0.4
    state = torch.randn(2, 5, 22, 3)
    seconds, step = clock(2, 5)
    k = torch.tensor([2, 9])
    out = model(positions, visible, state, k, seconds, step)
    spoiled = torch.where(visible[..., None], positions, torch.nan)
    assert torch.equal(out, model(spoiled, visible, state, k, seconds, step))
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    losses = []
    for _ in range(60):
        loss = (model(positions, visible, state, k, seconds, step) - positions).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_configs_survive_json_and_paper_sizes_are_there():
    assert kaa_from_dict(json.loads(json.dumps(to_dict(ENCODERS["product"])))) == ENCODERS["product"]
    normal = MASKED["completion_normal"]
    assert (normal.kaa.rounds, normal.kaa.joint_dim, normal.kaa.heads, normal.kaa.head_dim) == (9, 512, 4, 32)
    assert (normal.decoder.depth, normal.decoder.dim) == (3, 512)
    assert set(MASKED) >= {f"completion_{s}" for s in ("lite", "small", "normal", "large")}
    paper = ENCODERS["inbetween_paper"]
    assert (paper.rounds, paper.joint_dim, paper.heads, paper.head_dim, paper.ffn) == (8, 512, 8, 64, 1024)
