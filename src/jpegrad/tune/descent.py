"""Adam on the logarithm of the table entries, and the search for the file that meets a target."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from jpegrad.surrogates import straight_through
from jpegrad.tune.subject import Outcome, Rounded
from jpegrad.tune.targets import Bytes, Loss

BETAS = (0.8, 0.95)
RATE = 0.08
"""First step in the logarithm of the entries; it falls to 0 along a cosine."""
CLOSE = 0.002
"""How near a file shall come to its target, relatively."""
FIRST, FARTHEST = 0.1, 8.0
"""First and farthest step in search of a target."""
TRIALS = 16


@dataclass(frozen=True)
class Best:
    """The iterate of the lowest cost: the rounding of the entries makes the cost jitter."""

    logarithm: Tensor
    outcome: Outcome
    cost: float


@dataclass(frozen=True)
class Adam:
    """The method for tables alone, the levels rounded as any encoder does."""

    coder: Rounded
    rate: float = RATE

    def __call__(self, tables: Tensor, price: float) -> Outcome:
        return self.coder(tables)

    def descend(
        self, logarithm: Tensor, price: float, steps: int, progress: Callable[[], None] | None = None
    ) -> Best:
        """Minimise distortion + price · bits over the logarithm of the entries.

        Args:
            logarithm: where to start, ``[n, 8, 8]``.
            price: distortion per bit.
            steps: 0 or more.
            progress: called after each step.

        Raises:
            ValueError: the gradient of the loss is not finite.
        """
        parameter = logarithm.detach().clone().requires_grad_()
        optimizer = torch.optim.Adam([parameter], lr=self.rate, betas=BETAS, eps=1e-30)
        outcome, slope = self._slope(parameter, price)
        best = Best(parameter.detach().clone(), outcome, float(outcome.cost(price)))
        for step in range(steps):
            parameter.grad = slope
            optimizer.param_groups[0]["lr"] = self.rate * (1 + math.cos(math.pi * step / steps)) / 2
            optimizer.step()
            with torch.no_grad():
                parameter.clamp_(0.0, math.log(255.0))
            outcome, slope = self._slope(parameter, price)
            cost = float(outcome.cost(price))
            if cost < best.cost:
                best = Best(parameter.detach().clone(), outcome, cost)
            if progress is not None:
                progress()
        return best

    def _slope(self, logarithm: Tensor, price: float) -> tuple[Outcome, Tensor]:
        entries = logarithm.exp()
        # In float32, exp(log 255) is a little more than 255, and a table has no slope there.
        outcome = self.coder(straight_through(entries.clamp(1.0, 255.0), entries))
        # In bits, so that losses of any scale give Adam numbers that float32 can square.
        (slope,) = torch.autograd.grad(outcome.cost(price) / price, logarithm)
        if not slope.isfinite().all():
            raise ValueError("metric: expected a finite gradient of the loss, got one that is not")
        return outcome.detach(), slope


class Unreachable(ValueError):
    """No file of a family meets the target."""


@torch.no_grad()
def meet(at: Callable[[float], Outcome], target: Bytes | Loss) -> tuple[float, Outcome]:
    """Where a family of files just meets a target.

    Args:
        at: the files, coarser and smaller for larger arguments.
        target: what to meet.

    Returns:
        The argument and the outcome there: of all files tried that meet the target, the best.

    Raises:
        Unreachable: no file does; a ``ValueError`` that names the nearest.
    """
    # Coarser files meet a target of bytes, finer ones a target of loss.
    sign = 1 if isinstance(target, Bytes) else -1
    tolerance = CLOSE if isinstance(target, Bytes) else CLOSE * abs(target.value)
    met: tuple[float, float] | None = None
    missed: tuple[float, float] | None = None
    best: tuple[float, Outcome] | None = None
    trials: list[tuple[float, Outcome]] = []
    x, step = 0.0, FIRST
    for _ in range(TRIALS):
        outcome = at(sign * x)
        gap = miss(outcome, target)
        trials.append((gap, outcome))
        if gap <= 0:
            met = x, gap
            if best is None or not better(best[1], outcome, target):
                best = sign * x, outcome
            if gap >= -tolerance:
                break
        else:
            missed = x, gap
        if met is None or missed is None:
            # Outwards, until one side meets the target and the other misses it.
            if abs(x) > FARTHEST:
                break
            x += step if met is None else -step
            step *= 2
        else:
            # A line through both sides, aimed a little within the target, and away from either end.
            share = (missed[1] + tolerance / 2) / (missed[1] - met[1])
            x = missed[0] + (met[0] - missed[0]) * min(max(share, 0.1), 0.9)
    if best is not None:
        return best
    _, closest = min(trials, key=lambda trial: trial[0])
    if isinstance(target, Bytes):
        asked, came = f"{target.count} bytes", f"{closest.bytes} bytes"
    else:
        asked, came = f"a loss of {target.value:g}", f"a loss of {closest.loss.item():g}"
    raise Unreachable(f"target: expected one that some file meets, got {asked}; the nearest has {came}")


def miss(outcome: Outcome, target: Bytes | Loss) -> float:
    """How far a file is from its target; 0 or less where it meets it."""
    if isinstance(target, Bytes):
        return math.log(outcome.bytes / target.count)
    return outcome.loss.item() - target.value


def better(one: Outcome, other: Outcome, target: Bytes | Loss) -> bool:
    """Whether, of two files that meet a target, the first is the better one: of less loss, or of fewer bytes."""
    if isinstance(target, Bytes):
        return one.loss.item() < other.loss.item()
    return one.bytes < other.bytes
