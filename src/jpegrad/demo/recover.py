"""A use: recover the quality, or the tables, at which a picture was coded, by descent through the real JPEG.

The loss compares with another coded picture, so the tables' gradient is that of ``table_gaussian``. Several starts run
as one batch, each image with a quality or tables of its own.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import jpegrad

Track = Callable[[str, list[Any]], Iterator[Any]]


@dataclass(frozen=True)
class Recovery:
    """How a search went: the losses of its starts, the path, and what was found."""

    losses: list[list[float]]
    paths: list[list[float]]
    secret: Tensor
    found: Tensor
    determined: Tensor
    different: int
    samples: int
    sentence: str


def _batch(image: Tensor, count: int) -> Tensor:
    return (image.float() / 255).expand(count, -1, -1, -1)


def _squared_error(coded: Tensor, target: Tensor) -> Tensor:
    return (coded - target).square().mean((-3, -2, -1)) * 255**2


def recover_quality(image: Tensor, seed: int, track: Track, steps: int = 60) -> Recovery:
    """Find the quality of a coded picture, given the original: Adam on the logit of the quality, four starts."""
    image = image[:, 32:160, 32:160]
    secret = torch.randint(2, 99, (), generator=torch.Generator().manual_seed(seed)).float()
    target = jpegrad.jpeg(_batch(image, 1), secret)
    starts = torch.tensor([10.0, 30.0, 55.0, 85.0])
    position = torch.logit(starts / 101).requires_grad_()
    optimizer = torch.optim.Adam([position], lr=0.25, betas=(0.8, 0.95))
    best, found = torch.tensor(torch.inf), starts[0]
    losses, paths = [], []
    for step in track("recovering a secret quality", list(range(steps))):
        optimizer.param_groups[0]["lr"] = 0.25 * (1 - step / steps) + 0.0075
        quality = torch.sigmoid(position) * 101
        coded = jpegrad.jpeg(_batch(image, len(starts)), quality, table_surrogate="table_gaussian")
        loss = _squared_error(coded, target)
        losses.append(loss.tolist())
        paths.append(quality.tolist())
        if loss.min() < best:
            best, found = loss.min().detach(), quality[loss.argmin()].detach()
        optimizer.zero_grad()
        loss.sum().backward()
        optimizer.step()
    found = found.round()
    different = int((jpegrad.jpeg(_batch(image, 1), found) != target).sum())
    return Recovery(
        losses,
        paths,
        secret,
        found,
        torch.tensor(True),
        different,
        target.numel(),
        f"secret quality {secret:g}: found {found:g}; coded at it, {different} of {target.numel():,} samples differ",
    )


def secret_tables(seed: int) -> Tensor:
    """Annex K at quality 60 with every entry changed by about a third: ``[2, 8, 8]``."""
    base = jpegrad.tables.annex_k(60)
    factors = torch.exp(0.35 * torch.randn(2, 8, 8, generator=torch.Generator().manual_seed(seed)))
    return (base * factors).round().clamp(1, 255)


def recover_tables(image: Tensor, seed: int, track: Track, steps: int = 120) -> Recovery:
    """Find both tables of a coded picture, given the original: Adam on the logarithm of the entries, three starts.

    The DCT separates the entries, so the best value of each is kept by the error at its own frequency.
    """
    image = image[:, :160, :192]
    secret = secret_tables(seed)
    with torch.no_grad():
        coefficients = jpegrad.encode(_batch(image, 1), tables=secret)
        target = jpegrad.decode(coefficients)
        goal = _spectrum(target)
    # An entry under which every level is 0 leaves no trace of itself.
    counts = [(level != 0).sum((0, 1, 2)) for level in coefficients.levels]
    determined = torch.stack([counts[0], counts[1] + counts[2]]) > 0
    base = jpegrad.tables.annex_k(60)
    position = torch.stack([base / 2, base, base * 1.5]).clamp(1, 255).log().requires_grad_()
    optimizer = torch.optim.Adam([position], lr=0.15, betas=(0.8, 0.95))
    best, found = torch.full((2, 8, 8), torch.inf), base.clone()
    losses, paths = [], []
    for step in track("recovering secret tables", list(range(steps))):
        optimizer.param_groups[0]["lr"] = 0.15 * (1 - step / steps) + 0.015
        tables = position.exp()
        coded = jpegrad.jpeg(_batch(image, 3), tables=tables, table_surrogate="table_gaussian")
        loss = _squared_error(coded, target)
        with torch.no_grad():
            misses, winner = _spectral_error(coded, goal).min(0)
            candidate = tables.round().clamp(1, 255).gather(0, winner[None])[0]
            found = torch.where(misses < best, candidate, found)
            best = torch.minimum(misses, best)
        losses.append(loss.tolist())
        paths.append([float((found == secret)[determined].sum())])
        optimizer.zero_grad()
        loss.sum().backward()
        optimizer.step()
        if step % 20 == 19 and step > steps // 2:
            with torch.no_grad():
                position.copy_(found.log())
    different = int((jpegrad.jpeg(_batch(image, 1), tables=found) != target).sum())
    right = int((found == secret)[determined].sum())
    return Recovery(
        losses,
        paths,
        secret,
        found,
        determined,
        different,
        target.numel(),
        f"secret tables: {right} of the {int(determined.sum())} entries that leave a trace found exactly; "
        f"coded with them, {different} of {target.numel():,} samples differ",
    )


def _spectrum(coded: Tensor) -> tuple[Tensor, ...]:
    return jpegrad.encode(coded, tables=torch.ones(2, 8, 8)).levels


def _spectral_error(coded: Tensor, goal: tuple[Tensor, ...]) -> Tensor:
    """Mean squared difference per table entry: ``[B, 2, 8, 8]``."""
    y, cb, cr = (
        (ours - theirs).square().mean((-4, -3)) for ours, theirs in zip(_spectrum(coded), goal, strict=True)
    )
    return torch.stack([y, cb + cr], -3)
