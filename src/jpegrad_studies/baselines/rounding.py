"""Rounding surrogates of the literature, each on coefficient / step."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from jpegrad_studies.baselines.common import with_slope


def cubic(x: Tensor) -> Tensor:
    """round(x) + r^3 in the value itself (Shin & Song)."""
    nearest = x.detach().round()
    return nearest + (x - nearest) ** 3


def cubic_at_zero(x: Tensor) -> Tensor:
    """x^3 near zero, x elsewhere (Shin & Song's second form)."""
    return torch.where(x.abs() < 0.5, x**3, x)


def cubic_ste(x: Tensor) -> Tensor:
    """Hard rounding with the cubic's slope 3r^2."""
    return with_slope(x, x.round(), 3 * (x - x.round()) ** 2)


def identity_ste(x: Tensor) -> Tensor:
    """Hard rounding with slope 1."""
    return with_slope(x, x.round(), 1.0)


def sine(x: Tensor) -> Tensor:
    """x - sin(2 pi x) / 2 pi."""
    return x - torch.sin(2 * math.pi * x) / (2 * math.pi)


def sine_ste(x: Tensor) -> Tensor:
    """Hard rounding with the sine's slope 1 - cos(2 pi x)."""
    return with_slope(x, x.round(), 1 - torch.cos(2 * math.pi * x))


def fourier(x: Tensor, terms: int = 9) -> Tensor:
    """The sawtooth's Fourier series cut after `terms` terms."""
    n = range(1, terms + 1)
    return x - sum((-1) ** (k + 1) / k * torch.sin(2 * math.pi * k * x) for k in n) / math.pi


def soft_round(x: Tensor, alpha: float = 7.0) -> Tensor:
    """m + tanh(alpha (x - m)) / (2 tanh(alpha / 2)), m the middle between two integers."""
    middle = x.detach().floor() + 0.5
    return middle + torch.tanh(alpha * (x - middle)) / (2 * math.tanh(alpha / 2))


def noise(x: Tensor, width: float = 1.0) -> Tensor:
    """Uniform noise of the given width in place of rounding."""
    return x + (torch.rand_like(x) - 0.5) * width


def softmax_quantize(coefficients: Tensor, step: Tensor, sharpness: float = 20.0, reach: int = 3) -> Tensor:
    """The mean of the levels k under softmax(-alpha (z - k step)^2), alpha = sharpness / step^2.

    Levels farther than `reach` from the nearest one weigh less than exp(-sharpness * 6) and are left out.
    """
    u = coefficients / step
    levels = u.detach().round()[..., None] + torch.arange(-reach, reach + 1, device=u.device)
    weights = torch.softmax(-sharpness * (u[..., None] - levels) ** 2, -1)
    return (weights * levels).sum(-1) * step
