"""Schedules and samplers against `diffusers`, and the properties that the priors rely on."""

import pytest
import torch

from mmdm_engine.diffusion import Schedule, ddim, ddpm

diffusers = pytest.importorskip("diffusers", reason="diffusers is a test-only dependency")


def predict_with(objective):
    """A smooth, step-dependent stand-in for a network."""

    def predict(x, step):
        return torch.tanh(1.3 * x + 0.1 * step) - 0.2 * x

    return predict


@pytest.mark.parametrize("kind", ["cosine", "linear"])
def test_schedule_agrees_with_diffusers(kind):
    name = {"cosine": "squaredcos_cap_v2", "linear": "linear"}[kind]
    theirs = diffusers.DDPMScheduler(num_train_timesteps=1000, beta_schedule=name)
    assert torch.allclose(Schedule(1000, kind).alphas_bar, theirs.alphas_cumprod.double(), atol=1e-5)


def test_zero_terminal_snr_agrees_with_diffusers():
    theirs = diffusers.DDIMScheduler(50, beta_schedule="squaredcos_cap_v2", rescale_betas_zero_snr=True)
    ours = Schedule(50, "cosine", zero_terminal_snr=True).alphas_bar
    assert ours[-1] == 0
    assert torch.allclose(ours, theirs.alphas_cumprod.double(), atol=1e-5)


@pytest.mark.parametrize("objective", ["x0", "noise"])
@pytest.mark.parametrize("kind", ["cosine", "linear"])
@pytest.mark.parametrize("count", [50, 10, 5])
def test_ddim_agrees_with_diffusers(objective, kind, count):
    torch.manual_seed(0)
    x = torch.randn(2, 5, 3, dtype=torch.float64)
    schedule, predict = Schedule(50, kind), predict_with(objective)
    theirs = diffusers.DDIMScheduler(
        50, trained_betas=(1 - schedule.alphas_bar / torch.cat([torch.ones(1), schedule.alphas_bar[:-1]])).numpy(),
        clip_sample=False, set_alpha_to_one=True, prediction_type={"x0": "sample", "noise": "epsilon"}[objective],
        timestep_spacing="trailing",
    )  # fmt: skip
    theirs.set_timesteps(count)
    assert theirs.timesteps.tolist() == schedule.spaced(count)
    expected = x.clone()
    for t in theirs.timesteps:
        expected = theirs.step(predict(expected, int(t)), t, expected).prev_sample
    ours = ddim(predict, x, schedule, schedule.spaced(count), objective=objective)
    assert torch.allclose(ours, expected, atol=1e-5)


@pytest.mark.parametrize("objective", ["x0", "noise"])
@pytest.mark.parametrize("kind", ["cosine", "linear"])
def test_ddpm_agrees_with_diffusers(objective, kind):
    x = torch.randn(2, 5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    schedule, predict = Schedule(50, kind), predict_with(objective)
    theirs = diffusers.DDPMScheduler(
        50, trained_betas=(1 - schedule.alphas_bar / torch.cat([torch.ones(1), schedule.alphas_bar[:-1]])).numpy(),
        clip_sample=False, variance_type="fixed_small",
        prediction_type={"x0": "sample", "noise": "epsilon"}[objective],
    )  # fmt: skip
    generator = torch.Generator().manual_seed(7)
    expected = x.clone()
    for t in range(49, -1, -1):
        expected = theirs.step(predict(expected, t), t, expected, generator=generator).prev_sample
    ours = ddpm(predict, x, schedule, objective=objective, generator=torch.Generator().manual_seed(7))
    assert torch.allclose(ours, expected, atol=1e-5)


@pytest.mark.parametrize("sampler", ["ddim", "ddpm"])
def test_what_is_seen_is_restored_every_step(sampler):
    schedule = Schedule(20, "cosine")
    truth, seen = torch.arange(12.0), torch.arange(12) % 3 == 0
    observed = []

    def predict(x, step):
        observed.append(x.clone())
        return torch.full_like(x, 100.0)

    def restore(x0):
        return torch.where(seen, truth, x0)

    x = torch.zeros(12)
    if sampler == "ddim":
        out = ddim(predict, x, schedule, schedule.spaced(10), restore=restore)
    else:
        out = ddpm(predict, x, schedule, restore=restore, generator=torch.Generator().manual_seed(0))
    assert torch.equal(out[seen], truth[seen])
    assert torch.allclose(out[~seen], torch.tensor(100.0))
    late = observed[-1]
    assert (late[seen] - truth[seen]).abs().max() < 3, "late states must lie near the visible values"


def test_start_from_data_uses_the_data_as_first_state():
    schedule = Schedule(50, "cosine")
    data = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    states = []

    def predict(x, step):
        states.append((step, x.clone()))
        return x

    ddim(predict, data, schedule, [10, 5, 0])
    assert states[0][0] == 10
    assert torch.equal(states[0][1], data)


def test_the_deterministic_read_out_never_sees_the_noise():
    schedule = Schedule(50, "cosine", zero_terminal_snr=True)
    outputs = []
    for seed in (0, 1):
        noise = torch.randn(6, generator=torch.Generator().manual_seed(seed))
        outputs.append(ddim(lambda x, step: x + step, noise, schedule, schedule.spaced(1), renoise_first=True))
    assert torch.equal(*outputs)


def test_too_many_steps_are_refused_in_words():
    with pytest.raises(ValueError, match="Between 1 and 50"):
        Schedule(50).spaced(51)
    with pytest.raises(ValueError, match="cosine or linear"):
        Schedule(50, "quadratic")
