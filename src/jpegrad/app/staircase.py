"""A coefficient between two levels: the quantiser's staircase, what the surrogate makes of it, and its slope."""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor

from jpegrad.app.settings import Settings
from jpegrad.codec import encode
from jpegrad.sampling import ratios
from jpegrad.spec import components, table_index
from jpegrad.surrogates import evaluate

REACH, POINTS = 2.5, 501
"""Steps to each side of the level that are drawn, and at how many places."""
WIDTH, HEIGHT, LEFT, RIGHT, GAP = 480, 320, 40, 8, 34


class Staircase(NamedTuple):
    """A coefficient, its level, and what the surrogate says around it.

    ``u`` is in steps, ``soft`` and ``slope`` are at ``places``, ``here`` is the slope at ``u``.
    """

    component: str
    u: float
    step: int
    level: int
    here: float
    places: Tensor
    soft: Tensor
    slope: Tensor

    def words(self) -> str:
        """The same in a line."""
        return (
            f"{self.component}: coefficient {self.u * self.step:.2f} = {self.u:.3f} steps of {self.step}, "
            f"level {self.level}, slope {self.here:.3f}"
        )


def staircase(
    image: Tensor, settings: Settings, component: int, place: tuple[int, int], frequency: tuple[int, int]
) -> Staircase:
    """That of one coefficient of a uint8 picture ``[C, H, W]``.

    Args:
        image: the picture.
        settings: how it is coded.
        component: 0, 1 or 2: Y, Cb, Cr.
        place: column and row of a pixel, whose block is meant.
        frequency: vertical and horizontal, 0…7 each.

    Raises:
        ValueError: there is no such coefficient.
    """
    x = (image.float() / 255).requires_grad_()
    coefficients = encode(x, **{**settings.options(), "forward": "exact"})
    if not 0 <= component < coefficients.channels:
        raise ValueError(f"component: expected 0 to {coefficients.channels - 1}, got {component}")
    if not all(0 <= each < 8 for each in frequency):
        raise ValueError(f"frequency: expected two numbers from 0 to 7, got {frequency}")
    height, width = coefficients.size
    if not (0 <= place[0] < width and 0 <= place[1] < height):
        raise ValueError(f"place: expected a pixel of {width}×{height}, got {place}")
    assert coefficients.unrounded is not None
    values = coefficients.unrounded[component].detach()
    wide, tall = ratios(coefficients.channels, coefficients.subsampling)[component]
    row, column = place[1] // (8 * tall), place[0] // (8 * wide)
    v, h = frequency
    u = float(values[row, column, v, h])
    level = int(coefficients.levels[component][row, column, v, h])
    table = coefficients.tables[table_index(component, len(coefficients.tables))].detach().double()
    role = components(coefficients.channels, coefficients.subsampling)[component]
    places = torch.linspace(level - REACH, level + REACH, POINTS, dtype=torch.float64)

    def at(points: Tensor, which: str) -> Tensor:
        blocks = torch.zeros(len(points), 8, 8, dtype=torch.float64)
        blocks[:, v, h] = points
        return evaluate(settings.record, which, blocks, table, role)[:, v, h]

    here = at(torch.tensor([u], dtype=torch.float64), "slope").item()
    step = round(table[v, h].item())
    return Staircase(role.name, u, step, level, here, places, at(places, "soft"), at(places, "slope"))


def svg(found: Staircase) -> str:
    """A drawing of it, whose colours are the page's."""
    low, high = float(found.places[0]), float(found.places[-1])
    across = (WIDTH - LEFT - RIGHT) / (high - low)

    def x(value: float) -> float:
        return LEFT + (value - low) * across

    upper, lower = (6, 186), (186 + GAP, HEIGHT - 22)
    top = max(1.5, float(found.slope.max()) * 1.05, found.here * 1.05)
    bottom = min(0.0, float(found.slope.min()) * 1.05)

    def on_stairs(value: float) -> float:
        return upper[1] - (value - low) / (high - low) * (upper[1] - upper[0])

    def on_slope(value: float) -> float:
        return lower[1] - (value - bottom) / (top - bottom) * (lower[1] - lower[0])

    stairs, levels = "", range(found.level - 2, found.level + 3)
    for level in levels:
        start, end = max(low, level - 0.5), min(high, level + 0.5)
        stairs += f"{'L' if stairs else 'M'}{x(start):.1f} {on_stairs(level):.1f}H{x(end):.1f}"
    places = [x(place) for place in found.places.tolist()]
    soft = _line(places, (on_stairs(min(max(value, low), high)) for value in found.soft.tolist()))
    slope = _line(places, map(on_slope, found.slope.tolist()))
    here = min(max(found.u, low), high)
    parts = [f'<path class="grid" d="M{LEFT} {on_slope(0):.1f}H{WIDTH - RIGHT}"/>']
    for level in levels:
        parts.append(f'<path class="grid" d="M{LEFT} {on_stairs(level):.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{LEFT - 6}" y="{on_stairs(level) + 4:.1f}" text-anchor="end">{level}</text>')
        parts.append(f'<text x="{x(level):.1f}" y="{HEIGHT - 6}" text-anchor="middle">{level}</text>')
    for value in (0.0, 1.0 if top < 8 else float(int(top))):
        parts.append(f'<text x="{LEFT - 6}" y="{on_slope(value) + 4:.1f}" text-anchor="end">{value:g}</text>')
    parts += [
        f'<text x="{LEFT}" y="{lower[0] - 10}">slope, against the coefficient in steps</text>',
        f'<text x="{LEFT + 6}" y="{upper[0] + 12}">level, and the smooth function of the surrogate</text>',
        f'<path class="stairs" d="{stairs}"/><path class="soft" d="{soft}"/><path class="soft" d="{slope}"/>',
        f'<path class="here" d="M{x(here):.1f} {upper[0]}V{upper[1]}M{x(here):.1f} {lower[0]}V{lower[1]}"/>',
        f'<circle class="dot" cx="{x(here):.1f}" cy="{on_stairs(found.level):.1f}" r="4"/>',
        f'<circle class="dot" cx="{x(here):.1f}" cy="{on_slope(found.here):.1f}" r="4"/>',
    ]
    head = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{found.words()}">'
    return f"{head}{''.join(parts)}</svg>"


def _line(xs: Iterable[float], ys: Iterable[float]) -> str:
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in zip(xs, ys, strict=True))
