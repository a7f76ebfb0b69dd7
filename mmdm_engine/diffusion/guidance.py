"""How a network that was trained on whole motions is made to meet given parts while sampling. All off by default.

The tricks of the neighbours that the paper compares with: imputation (MDM, Tevet et al. 2023), emphasis projection and
dense gradient propagation (GMD, Karunratanakul et al. 2023), and classifier-free guidance for labels (Ho & Salimans
2022). Each is a wrapper around ``predict`` or a ``restore`` of `samplers`, so they combine with DDPM and DDIM alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ..contract.errors import MotionError
from .samplers import Predict, Restore
from .schedule import Objective, Schedule

Goal = Callable[[Tensor, int], Tensor]
"""(x0 estimate, step) → (B,) costs, zero where the estimate is as wanted."""


def impute(truth: Tensor, known: Tensor) -> Restore:
    """Overwrite the known entries of every clean estimate with the truth.

    truth: like the state; known: bool, broadcast against it. Correlations with the rest are left to later steps, which
    see the noised truth: this is replacement, not conditioning.
    """
    return lambda x0: torch.where(known, truth, x0)


def classifier_free(conditional: Predict, unconditional: Predict, scale: float) -> Predict:
    """unconditional + scale × (conditional − unconditional); 0 ignores the label, 1 is the plain conditional network.

    Holds for both objectives, since x0 and noise are affine in each other at a given state and step.
    """
    if scale == 1:
        return conditional
    if scale == 0:
        return unconditional

    def predict(x: Tensor, step: int) -> Tensor:
        without = unconditional(x, step)
        return without + scale * (conditional(x, step) - without)

    return predict


def dense_gradient(
    predict: Predict,
    goal: Goal,
    schedule: Schedule,
    *,
    scale: float = 1.0,
    objective: Objective = "x0",
    limit: float = 10.0,
) -> Predict:
    """Move predictions down the gradient of a goal on the clean estimate, taken through the network to its input.

    Passing through the network spreads a goal on few frames over all frames that it knows to go with them. The
    correction is that of classifier guidance (Dhariwal & Nichol 2021) written for x0:
    x0 − scale · (1 − abar) / sqrt(abar) · ∂goal(x0(x)) / ∂x, exact where the goal is −log p(wanted | x).

    limit: largest (1 − abar) / sqrt(abar) that is used, because at the first steps, where no signal is left, it grows
        without bound and multiplies a gradient that is the network's noise.
    """

    def guided(x: Tensor, step: int) -> Tensor:
        with torch.enable_grad():
            x = x.detach().requires_grad_(True)
            prediction = predict(x, step)
            cost = goal(schedule.x0_from(prediction, x, step, objective), step)
            (gradient,) = torch.autograd.grad(cost.sum(), x)
        abar = float(schedule.alphas_bar[step])
        factor = min((1 - abar) / math.sqrt(abar), limit) if abar > 0 else limit
        if objective == "noise":  # the same shift of x0, expressed in the noise
            factor *= -math.sqrt(abar / (1 - abar))
        return prediction.detach() - scale * factor * gradient

    return guided


class Emphasis:
    """A random projection of a pose vector in which some coordinates weigh more (GMD's emphasis projection).

    A pose x of N channels becomes Q · diag(w) · x · sqrt(N) / norm, with Q a fixed random rotation of the channels and
    w = ``scale`` on the emphasised ones, one elsewhere. norm keeps the mean variance at one for standardised x. Every
    projected channel then carries the emphasised ones, so a known root path is not a small part of the state that the
    network can overrule. GMD mixes with independent normal entries; an orthogonal matrix mixes as well, and its
    inverse does not blow up the network's errors. 1 mixes without emphasis; GMD uses 10.
    """

    def __init__(self, emphasised: Tensor, scale: float, seed: int = 0):
        """emphasised: (N,) bool."""
        if not scale > 0:
            raise MotionError(f"The emphasis scale must be above zero, not {scale}; 10 is GMD's choice.")
        size = len(emphasised)
        random = torch.randn((size, size), generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
        mixing = torch.linalg.qr(random).Q
        weight = torch.where(emphasised.cpu(), scale, 1.0).double()
        weight = weight / weight.square().mean().sqrt()
        self.matrix = (mixing * weight).float().to(emphasised.device)
        self.inverse = (mixing.T / weight[:, None]).float().to(emphasised.device)

    def into(self, x: Tensor) -> Tensor:
        """(..., N) poses → (..., N) projected."""
        return x @ self.matrix.to(x).T

    def back(self, z: Tensor) -> Tensor:
        """(..., N) projected → (..., N) poses."""
        return z @ self.inverse.to(z).T

    def restore(self, inner: Restore) -> Restore:
        """A ``restore`` of poses as one of projected states: imputation happens in the pose's own channels."""
        return lambda z0: self.into(inner(self.back(z0)))

    def goal(self, inner: Goal) -> Goal:
        """A goal on poses as one on projected states."""
        return lambda z0, step: inner(self.back(z0), step)
