"""Border tangents: which way a gap's borders are heading, by frames beyond them or by the keys around."""

import numpy as np
import pytest
import torch

from mmdm_engine import rotations as rot
from mmdm_engine.baselines import interpolate
from mmdm_engine.evaluate import FILLERS
from mmdm_engine.evaluate.inbetween import inbetween, prior_filler
from mmdm_engine.masking import nearest_trusted
from mmdm_engine.pack import Pack
from mmdm_engine.priors import border

FPS = 30.0
FRAMES = 41
TIME = torch.arange(FRAMES, dtype=torch.float64) / FPS
TURN = torch.tensor([0.3, -0.8, 0.5], dtype=torch.float64)
SHIFT = torch.tensor([0.4, 0.1, -0.7], dtype=torch.float64)


def accelerating():
    """Every joint turns about one axis and the hips move along one line, both as t²/2: velocities at t are t."""
    half = (TIME**2 / 2)[:, None]
    rotations = rot.exp(half[:, None] * TURN).expand(1, FRAMES, 22, 4)
    return rotations.contiguous(), (half * SHIFT)[None]


def excess(keys):
    """What the tangents say at each frame beside its border, per second: (T, 2, 6) of one joint, the pelvis."""
    observed = torch.zeros((1, FRAMES, 23), dtype=torch.bool)
    observed[:, keys] = True
    rotations, hips = interpolate(*accelerating(), observed)
    step = torch.tensor([1 / FPS], dtype=torch.float64)
    before, after = (x.double() / FPS for x in nearest_trusted(observed))
    tangents = border.tangents(rotations, hips, observed, before, after, step)[0, :, 0]
    out = torch.zeros_like(tangents)
    for side, (mine, other) in enumerate(((before, after), (after, before))):
        mine, other = mine[0, :, :1], other[0, :, :1]
        reach = mine * torch.exp(-mine / border.DECAY) * torch.where(other.isinf(), 1.0, other / (mine + other))
        out[:, side] = torch.where(reach > 0, tangents[:, side] / reach, 0)
    return out


def test_frames_beyond_a_border_tell_its_velocity():
    said = excess([*range(11), *range(31, 41)])
    mean = (TIME[10] + TIME[30 + 1]) / 2  # of the velocity across the gap: the base's own
    for frame, side, velocity, sign in ((11, 0, TIME[9], 1), (30, 1, TIME[32], -1)):  # at the middle of two frames
        expected = sign * (velocity - mean)
        torch.testing.assert_close(said[frame, side], expected * torch.cat([TURN, SHIFT]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("keys", [[0, 10, 20, 30, 40], [0, 4, 20, 25, 40]])
def test_the_keys_around_a_lonely_key_tell_its_velocity(keys):
    """A parabola goes through three keys, so that of an accelerating motion is exact whatever their distances are."""
    said = excess(keys)
    for key, following in ((keys[1], keys[2]), (keys[2], keys[3])):
        mean = (TIME[key] + TIME[following]) / 2
        torch.testing.assert_close(
            said[key + 1, 0], (TIME[key] - mean) * torch.cat([TURN, SHIFT]), rtol=1e-5, atol=1e-6
        )
        torch.testing.assert_close(
            said[following - 1, 1], (mean - TIME[following]) * torch.cat([TURN, SHIFT]), rtol=1e-5, atol=1e-6
        )


def test_the_outermost_key_has_no_velocity():
    said = excess([0, 10, 40])
    assert not said[1:10, 0].any()
    assert not said[11:40, 1].any()
    assert said[1:10, 1].any()
    assert not excess([20]).any()


@pytest.mark.parametrize("every", [5, 10])
def test_blocked_poses_are_joined_better_than_by_blenders_curves(data, every):
    pack = Pack.load(data("cmu/val.npz"))
    methods = {name: FILLERS[name] for name in ("interpolation", "bezier")} | {"ours": prior_filler(None, "cpu")}
    figures = inbetween(pack, 60, count=32, keys=every, methods=methods)["figures"]
    for name in ("mpjpe_mm", "angle_deg"):
        values = figures[name]["values"]
        assert values["ours"] < values["bezier"] < values["interpolation"], (name, values)
    assert np.isfinite(figures["lafan1.npss"]["values"]["ours"])
