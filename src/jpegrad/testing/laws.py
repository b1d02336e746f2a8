"""The laws that every surrogate obeys, for a record of your own."""

import pickle
from dataclasses import dataclass

import torch
from torch import Tensor

from jpegrad.surrogates import Component, Surrogate, evaluate

STEPS = (1.0, 2.0, 16.0, 99.0, 255.0)
"""Table entries at which the laws are tested."""
PLANES = (Component("Y", 0.447, 1), Component("Cb", 0.388, 4))
"""Of a 4:2:0 image."""
# A central difference over 2e-6 of a value near 4 knows a slope to 1e-9; what it leaves out of the steepest slope of
# the library, 1/25 step wide, is 1e-6 of it.
REACH = 1e-6
BY_DIFFERENCES, BY_AUTOGRAD = (1e-5, 1e-6), (1e-9, 1e-12)
"""(relative, absolute) errors of a slope."""


@dataclass(frozen=True)
class SurrogateReport:
    """What is no law, and good to know.

    Args:
        mean_slope: (smallest, largest) mean of the slope over the steps 3…4, over planes and table entries; 1 where a
            level follows its coefficient in the mean.
        pickles: whether the record can be saved and sent to other processes; functions of modules can, lambdas cannot.
    """

    mean_slope: tuple[float, float]
    pickles: bool


def check_surrogate(record: Surrogate) -> SurrogateReport:
    """Hold a record to the laws of the library's own, in float64 and at table entries from 1 to 255.

    The laws: ``soft`` and ``slope`` return a tensor of the shape and type of ``u``, for any broadcastable ``step``, and
    leave their arguments alone; they are finite from −8192 to 8192; ``slope`` is the derivative of ``soft``, by
    differences and by autograd. Points near integers and halves are left out, where a staircase has its kinks. Random
    functions see the same numbers every time.

    Args:
        record: to be checked.

    Raises:
        AssertionError: a law is broken; the message names it, with a counterexample.
        TypeError: ``record`` is no record.

    Example:
        >>> import jpegrad
        >>> half = jpegrad.Surrogate("half", lambda u, *_: u / 2, lambda u, *_: torch.full_like(u, 0.5), "an example")
        >>> check_surrogate(half)
        SurrogateReport(mean_slope=(0.5, 0.5), pickles=False)
        >>> wrong = jpegrad.Surrogate("wrong", lambda u, *_: u / 2, lambda u, *_: torch.ones_like(u), "an example")
        >>> check_surrogate(wrong)
        Traceback (most recent call last):
        AssertionError: surrogate 'wrong': slope is the derivative of soft; at u = -3.99983, step 1, Y it is 1, the ...
    """
    if not isinstance(record, Surrogate):
        raise TypeError(f"record: expected a Surrogate, got {type(record).__name__}")
    means = []
    for plane in PLANES:
        _check_form(record, plane)
        for entry in STEPS:
            _check_values(record, entry, plane)
            _check_slope(record, entry, plane)
            means.append(_mean_slope(record, entry, plane))
    return SurrogateReport((min(means), max(means)), _pickles(record))


def _call(record: Surrogate, which: str, u: Tensor, step: Tensor, plane: Component) -> Tensor:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return evaluate(record, which, u, step, plane)


def _broken(record: Surrogate, law: str, found: str) -> AssertionError:
    return AssertionError(f"surrogate {record.name!r}: {law}; {found}")


def _check_form(record: Surrogate, plane: Component) -> None:
    law = "soft and slope return a tensor of the shape and type of u, and change no argument"
    for dtype in (torch.float32, torch.float64):
        u = torch.linspace(-3.1, 3.2, 2 * 3 * 64, dtype=dtype).reshape(2, 3, 8, 8)
        for shape in ((), (8, 8), (2, 1, 8, 8)):
            step = torch.full(shape, 17.0, dtype=dtype)
            for which in ("soft", "slope"):
                seen, entries = u.clone(), step.clone()
                try:
                    found = _call(record, which, seen, entries, plane)
                except (TypeError, ValueError, RuntimeError) as error:
                    raise _broken(
                        record, law, f"{which} of a step of shape {list(shape)}: {error}"
                    ) from error
                if found.dtype != dtype:
                    raise _broken(record, law, f"{which} of {dtype} is {found.dtype}")
                if not (torch.equal(seen, u) and torch.equal(entries, step)):
                    raise _broken(record, law, f"{which} writes into u or step")


def _grid() -> Tensor:
    """Coefficients in steps, off the kinks at integers and halves."""
    return torch.linspace(-4.0, 4.0, 1601, dtype=torch.float64)[:-1] + 1.7e-4


def _step(entry: float) -> Tensor:
    return torch.tensor(entry, dtype=torch.float64)


def _check_values(record: Surrogate, entry: float, plane: Component) -> None:
    far = torch.tensor([0.0, 0.5, -0.5, 1.0, 1024.0, -1023.5, 8191.875, -8192.0], dtype=torch.float64)
    u = torch.cat([far, _grid()])
    for which in ("soft", "slope"):
        found = _call(record, which, u, _step(entry), plane)
        wrong = ~found.isfinite()
        if wrong.any():
            i = int(wrong.nonzero()[0])
            at = f"u = {u[i].item():.6g}, step {entry:g}, {plane.name}"
            raise _broken(record, f"{which} is finite", f"at {at} it is {found[i].item()}")


def _check_slope(record: Surrogate, entry: float, plane: Component) -> None:
    u, step = _grid(), _step(entry)
    slope = _call(record, "slope", u, step, plane)
    above, below = (_call(record, "soft", u + way * REACH, step, plane) for way in (1, -1))
    seen = u.clone().requires_grad_()
    soft = _call(record, "soft", seen, step, plane)
    passed = torch.zeros_like(u)
    if soft.requires_grad:
        (passed,) = torch.autograd.grad(soft.sum(), seen)
    measured = (
        ("difference quotient", (above - below) / (2 * REACH), BY_DIFFERENCES),
        ("derivative by autograd", passed, BY_AUTOGRAD),
    )
    for name, expected, (relative, absolute) in measured:
        wrong = ~((slope - expected).abs() <= absolute + relative * expected.abs())
        if wrong.any():
            i = int(wrong.nonzero()[0])
            raise _broken(
                record,
                "slope is the derivative of soft",
                f"at u = {u[i].item():.6g}, step {entry:g}, {plane.name} it is {slope[i].item():.6g}, "
                f"the {name} {expected[i].item():.6g}",
            )


def _mean_slope(record: Surrogate, entry: float, plane: Component) -> float:
    count = 200_000
    u = 3 + (torch.arange(count, dtype=torch.float64) + 0.5) / count
    return round(_call(record, "slope", u, _step(entry), plane).mean().item(), 6)


def _pickles(record: Surrogate) -> bool:
    try:
        return bool(pickle.loads(pickle.dumps(record)) == record)
    except (pickle.PicklingError, AttributeError, TypeError):
        return False
