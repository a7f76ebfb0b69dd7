"""Guidance on a Gaussian prior, where the ideal network and every conditional are known in closed form."""

import pytest
import torch

from mmdm_engine import MotionError
from mmdm_engine.diffusion import Schedule, ddim, ddpm
from mmdm_engine.diffusion.guidance import Emphasis, classifier_free, dense_gradient, impute

STEPS = 100
SCHEDULE = Schedule(STEPS, "cosine")
MEAN = torch.tensor([0.3, -0.2, 0.1], dtype=torch.float64)
SPREAD = torch.tensor([[1.0, 0.8, 0.3], [0.8, 1.2, 0.1], [0.3, 0.1, 0.7]], dtype=torch.float64)
KNOWN = torch.tensor([True, False, False])
WANTED = 1.5
"""Value of the known coordinate."""
CONDITIONAL_MEAN = MEAN[1:] + SPREAD[1:, 0] / SPREAD[0, 0] * (WANTED - MEAN[0])
CONDITIONAL_SPREAD = SPREAD[1:, 1:] - torch.outer(SPREAD[1:, 0], SPREAD[1:, 0]) / SPREAD[0, 0]


def posterior(step, mean, spread):
    """x0 given x_k: (gain (N, N), covariance (N, N)); the mean is m + gain (x − sqrt(abar) m)."""
    abar = SCHEDULE.alphas_bar[step]
    eye = torch.eye(len(mean), dtype=torch.float64)
    gain = abar.sqrt() * spread @ torch.linalg.inv(abar * spread + (1 - abar) * eye)
    return gain, spread - abar.sqrt() * gain @ spread


def ideal(mean=MEAN, spread=SPREAD, objective="x0"):
    """The network that a perfect training on N(mean, spread) would give."""

    def predict(x, step):
        abar = SCHEDULE.alphas_bar[step]
        gain, _ = posterior(step, mean, spread)
        x0 = mean + (x - abar.sqrt() * mean) @ gain.T
        return x0 if objective == "x0" else (x - abar.sqrt() * x0) / (1 - abar).sqrt()

    return predict


def likelihood(x0, step):
    """−log p(first coordinate = WANTED | x_k) for the Gaussian prior, up to a constant."""
    _, covariance = posterior(step, MEAN, SPREAD)
    return 0.5 * (x0[:, 0] - WANTED) ** 2 / covariance[0, 0]


def noise(count=4000, seed=0, size=3):
    return torch.randn((count, size), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("objective", ["x0", "noise"])
@pytest.mark.parametrize("step", [5, 50, 90])
def test_the_dense_gradient_gives_the_exact_conditional_mean(objective, step):
    x = noise(7)
    guided = dense_gradient(ideal(objective=objective), likelihood, SCHEDULE, objective=objective, limit=float("inf"))
    ours = SCHEDULE.x0_from(guided(x, step), x, step, objective)
    mean, covariance = ideal()(x, step), posterior(step, MEAN, SPREAD)[1]
    exact = mean + (WANTED - mean[:, :1]) * covariance[:, 0] / covariance[0, 0]
    assert torch.allclose(ours, exact, atol=1e-9)
    assert not torch.allclose(ours, mean, atol=0.1), "guidance must do something here"


def test_sampling_with_the_dense_gradient_draws_from_the_conditional():
    guided = dense_gradient(ideal(), likelihood, SCHEDULE, limit=float("inf"))
    out = ddpm(guided, noise(), SCHEDULE, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(out[:, 0], torch.full((4000,), WANTED, dtype=torch.float64), atol=0.01)
    assert torch.allclose(out[:, 1:].mean(dim=0), CONDITIONAL_MEAN, atol=0.05)
    assert torch.allclose(torch.cov(out[:, 1:].T), CONDITIONAL_SPREAD, atol=0.08)


def test_the_limit_bounds_the_step_where_no_signal_is_left():
    x, last = noise(5), STEPS - 1
    free, bound = (
        dense_gradient(ideal(), likelihood, SCHEDULE, limit=limit)(x, last) - ideal()(x, last)
        for limit in (float("inf"), 2.0)
    )
    abar = SCHEDULE.alphas_bar[last]
    assert torch.allclose(bound, free * 2.0 / ((1 - abar) / abar.sqrt()), atol=1e-9)
    silent = Schedule(STEPS, "cosine", zero_terminal_snr=True)
    assert torch.isfinite(dense_gradient(lambda x, step: 0.1 * x, likelihood, silent)(x, last)).all()


def test_imputation_hits_the_known_and_leaves_the_independent_alone():
    truth = torch.tensor([WANTED, 0.0, 0.0], dtype=torch.float64)
    alone = torch.diag(torch.diag(SPREAD))
    for spread in (SPREAD, alone):
        out = ddpm(
            ideal(spread=spread), noise(), SCHEDULE, restore=impute(truth, KNOWN),
            generator=torch.Generator().manual_seed(1),
        )  # fmt: skip
        assert (out[:, 0] == WANTED).all()
        if spread is alone:
            assert torch.allclose(out[:, 1:].mean(dim=0), MEAN[1:], atol=0.05)
        else:  # replacement pulls the rest along, though not all the way
            shift = (out[:, 1] - MEAN[1]).mean() / (CONDITIONAL_MEAN[0] - MEAN[1])
            assert 0.3 < shift < 1.05


def test_classifier_free_guidance_extrapolates_between_two_networks():
    a, b = ideal(), ideal(mean=MEAN + 1)
    x = noise(5)
    assert torch.equal(classifier_free(a, b, 1.0)(x, 40), a(x, 40))
    assert torch.equal(classifier_free(a, b, 0.0)(x, 40), b(x, 40))
    assert torch.allclose(classifier_free(a, b, 2.5)(x, 40), b(x, 40) + 2.5 * (a(x, 40) - b(x, 40)))


@pytest.mark.parametrize("scale", [0.5, 2.0, 3.0])
def test_classifier_free_guidance_of_equal_spreads_moves_the_mean_by_the_scale(scale):
    """With Gaussians of one spread for both densities, the guided one is that Gaussian at an extrapolated mean."""
    label, none = MEAN + torch.tensor([1.0, -0.5, 0.2]), MEAN
    guided = classifier_free(ideal(mean=label), ideal(mean=none), scale)
    out = ddim(guided, noise(), SCHEDULE, SCHEDULE.spaced(STEPS))
    assert torch.allclose(out.mean(dim=0), none + scale * (label - none), atol=0.06)


def test_emphasis_is_invertible_and_keeps_the_variance():
    emphasised = torch.arange(40) < 3
    for scale in (1.0, 10.0):
        projection = Emphasis(emphasised, scale)
        x = torch.randn((20000, 40), generator=torch.Generator().manual_seed(0))
        z = projection.into(x)
        assert torch.allclose(projection.back(z), x, atol=1e-4)
        assert z.var(dim=0).mean() == pytest.approx(1.0, rel=0.05)
        share = projection.matrix[:, :3].square().sum() / projection.matrix.square().sum()
        assert share == pytest.approx(3 * scale**2 / (3 * scale**2 + 37), rel=1e-4)
        per_row = projection.matrix[:, :3].norm(dim=1)
        assert (per_row > 0.1 * per_row.mean()).all(), "every projected channel carries the emphasised ones"


def test_emphasis_of_nothing_is_refused():
    with pytest.raises(MotionError, match="above zero"):
        Emphasis(torch.ones(3, dtype=torch.bool), 0.0)


def test_imputation_inside_the_projection_is_heard_more_the_larger_the_scale():
    """The emphasised coordinate sinks into noise later, so what goes with it is drawn nearer its conditional mean."""
    truth = torch.tensor([WANTED, 0.0, 0.0], dtype=torch.float64)
    misses = []
    for scale in (0.3, 1.0, 10.0):
        projection = Emphasis(KNOWN, scale, seed=3)
        matrix = projection.matrix.double()
        predict = ideal(mean=matrix @ MEAN, spread=matrix @ SPREAD @ matrix.T)
        out = ddpm(
            predict, noise(), SCHEDULE, restore=projection.restore(impute(truth, KNOWN)),
            generator=torch.Generator().manual_seed(1),
        )  # fmt: skip
        x = projection.back(out)
        assert torch.allclose(x[:, 0], torch.full((4000,), WANTED, dtype=torch.float64), atol=1e-3)
        misses.append((x[:, 1:].mean(dim=0) - CONDITIONAL_MEAN).norm())
    assert misses[0] > misses[1] > misses[2]
    assert misses[2] < 0.1
