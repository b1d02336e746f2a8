"""Adam on the logarithm of the table entries, and the search for the file that meets a target."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from jpegrad.tune.objective import OperatingPoint, SharedObjective
from jpegrad.tune.targets import Bytes, Loss

BETAS = (0.8, 0.95)
LEARNING_RATE = 0.08
"""First step in the logarithm of the entries; it falls to 0 along a cosine."""
CLOSE = 0.002
"""How near a file shall come to its target, relatively."""
FIRST, FARTHEST = 0.1, 8.0
"""First and farthest step in search of a target."""
TRIALS = 16


@dataclass(frozen=True)
class Iterate:
    """Tables of a descent, as the logarithm of their entries ``[n, 8, 8]``, and the cost there."""

    logarithm: Tensor
    point: OperatingPoint
    cost: float


@dataclass(frozen=True)
class TablesAlone:
    """Tables by Adam, the levels rounded as any encoder does."""

    objective: SharedObjective

    def descend(
        self, logarithm: Tensor, multiplier: float, steps: int, progress: Callable[[], None] | None = None
    ) -> Iterate:
        """The best iterate of a descent: the rounding of the entries makes the cost jitter.

        Args:
            logarithm: where to start, ``[n, 8, 8]``.
            multiplier: loss per bit.
            steps: 0 or more.
            progress: called after each step.

        Raises:
            ValueError: the gradient of the loss is not finite.
        """
        parameter = logarithm.detach().clone().requires_grad_()
        optimizer = torch.optim.Adam([parameter], lr=LEARNING_RATE, betas=BETAS, eps=1e-30)
        point, slope = self._slope(parameter, multiplier)
        best = Iterate(parameter.detach().clone(), point, float(point.cost(multiplier)))
        for step in range(steps):
            parameter.grad = slope
            optimizer.param_groups[0]["lr"] = LEARNING_RATE * (1 + math.cos(math.pi * step / steps)) / 2
            optimizer.step()
            with torch.no_grad():
                parameter.clamp_(0.0, math.log(255.0))
            point, slope = self._slope(parameter, multiplier)
            cost = float(point.cost(multiplier))
            if cost < best.cost:
                best = Iterate(parameter.detach().clone(), point, cost)
            if progress is not None:
                progress()
        return best

    def _slope(self, logarithm: Tensor, multiplier: float) -> tuple[OperatingPoint, Tensor]:
        point = self.objective(logarithm.exp())
        # In bits, so that losses of any scale give Adam numbers that float32 can square.
        (slope,) = torch.autograd.grad(point.cost(multiplier) / multiplier, logarithm)
        if not slope.isfinite().all():
            raise ValueError("metric: expected a finite gradient of the loss, got one that is not")
        return point.detach(), slope


@dataclass(frozen=True)
class Judged:
    """A score to reach, with its judge: a number that is lower for better files."""

    judge: Callable[[OperatingPoint], float]
    value: float


Bound = Bytes | Loss | Judged
"""What a file meets or misses."""


class Unreachable(ValueError):
    """No file of a family meets the target."""


@torch.no_grad()
def just_meeting(file: Callable[[float], OperatingPoint], target: Bound) -> tuple[float, OperatingPoint]:
    """Where a family of files just meets a target: false position between a file that does and one that does not.

    Args:
        file: coarser and smaller for larger arguments.
        target: what to meet.

    Returns:
        The argument and the file there: of all files tried that meet the target, the best.

    Raises:
        Unreachable: no file does; a ``ValueError`` that names the nearest.
    """
    # Coarser files meet a target of bytes, finer ones a target of loss.
    sign = 1 if isinstance(target, Bytes) else -1
    tolerance = CLOSE if isinstance(target, Bytes) else CLOSE * abs(target.value)
    met: tuple[float, float] | None = None
    missed: tuple[float, float] | None = None
    best: tuple[float, OperatingPoint] | None = None
    trials: list[tuple[float, OperatingPoint]] = []
    x, step = 0.0, FIRST
    for _ in range(TRIALS):
        point = file(sign * x)
        gap = excess(point, target)
        trials.append((gap, point))
        if gap <= 0:
            met = x, gap
            if best is None or not is_better(best[1], point, target):
                best = sign * x, point
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
    raise unreachable(closest, target)


def unreachable(closest: OperatingPoint, target: Bound) -> Unreachable:
    """The error that names the file that comes nearest."""
    if isinstance(target, Bytes):
        asked, came = f"{target.count} bytes", f"{closest.bytes} bytes"
    elif isinstance(target, Judged):
        asked, came = f"a score of {abs(target.value):g}", f"{abs(target.judge(closest)):g}"
    else:
        asked, came = f"a loss of {target.value:g}", f"a loss of {closest.loss.item():g}"
    return Unreachable(f"target: expected one that some file meets, got {asked}; the nearest has {came}")


def excess(point: OperatingPoint, target: Bound) -> float:
    """How far a file is above its target; 0 or less where it meets it."""
    if isinstance(target, Bytes):
        return math.log(point.bytes / target.count)
    if isinstance(target, Judged):
        return target.judge(point) - target.value
    return point.loss.item() - target.value


def is_better(one: OperatingPoint, other: OperatingPoint, target: Bound) -> bool:
    """Whether, of two files that meet a target, the first is the better one: of less loss, or of fewer bytes."""
    if isinstance(target, Bytes):
        return one.loss.item() < other.loss.item()
    return one.bytes < other.bytes
