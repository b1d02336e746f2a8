"""Gradient descent through JPEG, judged by real files: recover a quality, recover tables."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
import torch
from torch import Tensor

import jpegrad
from baselines import Baseline
from baselines.fsa import pillow
from bench.common import codec, earlier, ours
from bench.truth import file_with_tables, squared_error
from jpegrad.surrogates import Surrogate, smoothed_round, smoothed_slope

SECRETS = (8, 25, 50, 80)
STARTS = (20.0, 65.0)


# (image, quality [B], base tables or None, progress 0 ... 1) -> coded image.
Coder = Callable[[Tensor, Tensor, Tensor | None, float], Tensor]


def relative(width: float) -> Surrogate:
    """The staircase smoothed by `width` times the coefficient: what a table entry known to that accuracy does to it."""
    return Surrogate(
        "relative",
        lambda u, step, component: smoothed_round(u, width * u.detach().abs()),
        lambda u, step, component: smoothed_slope(u, width * u.detach().abs()),
        "Gaussian in table space",
    )


def annealed(image: Tensor, quality: Tensor, base: Tensor | None, progress: float) -> Tensor:
    """The soft forward, its staircase smoothed by half of each coefficient at first, by 3 % at last."""
    return codec(forward="soft", surrogate=relative(0.5 * 0.06**progress))(image, quality, base)


def steady(subject: Baseline) -> Coder:
    return lambda image, quality, base, progress: subject.call(image, quality, base)


def subjects() -> dict[str, Coder]:
    """Published approaches with a gradient to quality and tables at 4:2:0, and the ways of this package."""
    published = earlier()
    return {
        **{
            name: steady(published[name]) for name in ("shin_tables", "soft_round", "reich_soft", "reich_ste")
        },
        "jpegrad": steady(ours("default", "")),
        "jpegrad identity": steady(ours("identity", "", table_surrogate="identity")),
        "jpegrad table_gaussian": steady(ours("table_gaussian", "", table_surrogate="table_gaussian")),
        "jpegrad relative 15 %": steady(ours("relative", "", table_surrogate=relative(0.15))),
        "jpegrad soft": steady(ours("soft", "", forward="soft")),
        "jpegrad soft annealed": annealed,
    }


def recover_quality(image: Tensor) -> dict[str, dict[str, float]]:
    """From a photograph and its file: Adam (40 steps of 2, cosine decay), secrets 8, 25, 50, 80, starts 20 and 65."""
    targets = {secret: pillow(image[None], torch.tensor([float(secret)])) for secret in SECRETS}
    outcomes = {}
    for name, coder in subjects().items():
        misses = []
        for secret, start in product(SECRETS, STARTS):
            q = torch.tensor([start], requires_grad=True)
            descend(q, lambda q, t, c=coder: c(image[None], q, None, t), targets[secret], 40, 2.0, (1, 99))
            misses.append(abs(round(float(q.detach())) - secret))
        outcomes[name] = {
            "mean miss": float(np.mean(misses)),
            "within 1 (%)": 100 * float(np.mean(np.array(misses) <= 1)),
        }
    return outcomes


def recover_tables(image: Tensor) -> dict[str, dict[str, float]]:
    """From a photograph and its file with secret tables: Adam (100 steps of 1, cosine decay) from Annex K."""
    generator = torch.Generator().manual_seed(0)
    annex_k = jpegrad.tables.annex_k(50.0).float()
    secret = (annex_k * (0.4 + 1.2 * torch.rand(annex_k.shape, generator=generator))).round().clamp(1, 255)
    target = file_with_tables(image, secret)

    def judge(found: Tensor) -> dict[str, float]:
        return {
            "squared error to the file": squared_error(file_with_tables(image, found), target),
            "entries within 1 (%)": 100 * float(((found.round() - secret).abs() <= 1).float().mean()),
        }

    fifty = torch.tensor([50.0])
    outcomes = {"the start, Annex K": judge(annex_k)}
    for name, coder in subjects().items():
        base = annex_k.clone().requires_grad_()
        descend(base, lambda b, t, c=coder: c(image[None], fifty, b, t), target[None], 100, 1.0, (1, 255))
        outcomes[name] = judge(base.detach())
    return outcomes


def descend(
    variable: Tensor,
    coder: Callable[[Tensor, float], Tensor],
    target: Tensor,
    steps: int,
    rate: float,
    limits: tuple[float, float],
) -> None:
    """Adam with a cosine decay on the mean squared error to the target, kept inside the limits."""
    optimizer = torch.optim.Adam([variable], lr=rate, betas=(0.8, 0.95))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        optimizer.zero_grad()
        (coder(variable, step / (steps - 1)) - target).square().mean().backward()
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            variable.clamp_(*limits)


TASKS: dict[str, Callable[[Tensor], dict[str, dict[str, float]]]] = {
    "recover quality": recover_quality,
    "recover tables": recover_tables,
}
