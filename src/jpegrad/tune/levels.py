"""Levels that weigh error against bits: rate-distortion optimisation over runs, sizes and the end of the block.

Costs are those over plain rounding, in float64. A state of the search is a nonzero level of a block, or a candidate of
a DC level; what comes after depends on where it stands, not on what came before, so the cheapest way to each is enough.

Sources: Ramchandran & Vetterli, Rate-distortion optimal fast thresholding with complete JPEG/MPEG decoder
compatibility, 1994; Crouse & Ramchandran, Joint thresholding and quantizer selection for transform image coding, 1997.
"""

import math
import numbers
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from jpegrad import backends
from jpegrad.coefficients import Coefficients
from jpegrad.entropy.huffman import DEFAULT, code_book
from jpegrad.entropy.scan import check_huffman, optimal_tables, scan_counts
from jpegrad.entropy.symbols import MAX_AC, huffman_slots, mcu_grid, scan_order, size_category
from jpegrad.home import at_home
from jpegrad.rate.bands import band_costs, bands, moved, put_back
from jpegrad.rate.blocks import WHOLE
from jpegrad.rate.marginal import costs_of
from jpegrad.sampling import luma_factors, ratios
from jpegrad.spec import Color, check_broadcast, conversion, resolve_color, table_index
from jpegrad.tables import ZIGZAG, check_real

MIN_DC, MAX_DC = -1024, 1023
"""DC levels of 8-bit samples; no two are too far apart for a baseline file."""
BLOCKS_AT_ONCE = 1 << 13


@at_home
def trellis(
    coefficients: Coefficients,
    multiplier: float | Tensor,
    *,
    weights: Sequence[Tensor] | None = None,
    huffman: str = "optimized",
    passes: int = 2,
    like: Coefficients | None = None,
) -> Coefficients:
    """Levels that minimise weighted squared error + ``multiplier`` · bits.

    Of an AC coefficient u, in steps, the nearest integer to |u|, the one below it and 0 are tried.
    Of a DC coefficient it is the nearest integer and its two neighbours.
    For given code lengths the AC levels of each block, and the DC levels of each component, are the best of all
    combinations of these. Code lengths and levels follow each other in turns.

    Args:
        coefficients: the error is that to ``unrounded`` if ``encode`` recorded it (outside ``torch.no_grad()``), else
            to ``levels``, so that those of a file can be thinned out. Tables have finite entries above 0.
        multiplier: Lagrange multiplier, ≥ 0: what a bit costs in squared grey levels (times weights). A number, or a
            tensor that broadcasts to the leading dimensions. 0 gives plain rounding.
        weights: of the squared errors per component, ≥ 0, each broadcastable to its levels; None is 1, the squared
            error of the component's own samples. :func:`rgb_weights` gives those of RGB.
        huffman: ``"default"`` (codes of Annex K) or ``"optimized"`` (made for the levels, at first the rounded ones).
        passes: how often lengths and levels follow each other, ≥ 1; without effect on ``"default"``.
        like: another file of the same blocks, whose levels make the first code lengths; None takes the rounded ones.

    Returns:
        The coefficients with these levels, which carry no graph: float64 if they were, else float32.

    Raises:
        TypeError, ValueError: an argument is not as described.

    Source: Ramchandran & Vetterli, 1994; Crouse & Ramchandran, 1997.

    Example:
        >>> import jpegrad, torch
        >>> coefficients = jpegrad.encode(torch.rand(3, 40, 24), quality=75)
        >>> fewer = jpegrad.tune.trellis(coefficients, 30.0)
        >>> bool(jpegrad.bits(fewer) < jpegrad.bits(coefficients))
        True
    """
    if not isinstance(coefficients, Coefficients):
        raise TypeError(f"coefficients: expected Coefficients, got {type(coefficients).__name__}")
    check_huffman(huffman)
    if isinstance(passes, bool) or not isinstance(passes, numbers.Integral) or passes < 1:
        raise ValueError(f"passes: expected a positive integer, got {passes!r}")
    c = coefficients
    exact = _unrounded(c)
    lead, device = c.batch_shape, exact[0].device
    images = lead.numel()
    each = _multipliers(multiplier, lead)
    entries = _entries(c.tables, lead)
    weighing = None if weights is None else _weights(weights, exact)
    flat = [u.reshape(images, *u.shape[-4:]).cpu() for u in exact]
    levels = [_rounded(u) for u in flat]
    if images and each.any():
        coded = (
            levels if like is None else [n.detach().reshape(images, *n.shape[-4:]).cpu() for n in like.levels]
        )
        for turn in range(passes if huffman == "optimized" else 1):
            slots = huffman_slots(c.space)[: len(flat)]
            costs = _symbol_costs(levels if turn else coded, c.size, c.subsampling, huffman, slots, each)
            levels = _cheapest(flat, entries, weighing or [], *costs, c.size, c.subsampling)
    return replace(c, levels=tuple(x.view(*lead, *x.shape[1:]).to(device) for x in levels))


@at_home
def banded_trellis(coefficients: Coefficients, weights: Sequence[Tensor], like: Coefficients) -> Coefficients:
    """As :func:`trellis` of one image at a multiplier of 1, by the prices of scans in bands of frequencies.

    Bands do not see each other, so the best levels of each are the best of the block.

    Args:
        coefficients: with ``levels`` that are no integers, 1 or 3 components.
        weights: of the squared errors of each component, shaped like its levels.
        like: the file whose levels make the prices.

    Source: the scans are those of :func:`~jpegrad.entropy.script.spectral_selection`.
    """
    c = coefficients
    exact = [u[None].cpu() for u in _unrounded(c)]
    entries = _entries(c.tables, torch.Size())
    weighing = _weights(weights, [u[0] for u in exact])
    known = [n.detach().cpu() for n in like.levels]
    slots = huffman_slots(c.space)[: len(exact)]
    one = torch.ones(1, dtype=torch.float64)
    _, dc = _symbol_costs([n[None] for n in known], c.size, c.subsampling, "optimized", slots, one)
    lower, *upper = bands(0)
    prices = [band_costs(known[:1], lower)]
    if len(exact) == 3:
        prices += [band_costs(known[1:], WHOLE)] * 2
    ac = torch.stack([price.mT for price in prices]).unsqueeze(0)
    parts = [moved(exact[0], lower), *exact[1:]]
    levels = _cheapest(parts, entries, weighing, ac, dc, c.size, c.subsampling)
    del parts
    height, width = (8 * extent for extent in exact[0].shape[1:3])
    for band in upper:
        part, error, table = moved(exact[0], band), moved(weighing[0], band), moved(entries[:1], band, 1.0)
        price = band_costs(known[:1], band).mT[None, None].contiguous()
        free = torch.zeros(1, 1, 12, dtype=torch.float64)
        (found,) = _cheapest([part], table, [error], price, free, (height, width), "4:4:4")
        levels[0] = put_back(levels[0], band, found)
    return replace(c, levels=tuple(x[0].to(c.levels[0].device) for x in levels))


def _cheapest(
    unrounded: list[Tensor],
    tables: Tensor,
    weights: list[Tensor],
    ac: Tensor,
    dc: Tensor,
    size: tuple[int, int],
    subsampling: str,
) -> list[Tensor]:
    """By the kernel, where there is one."""
    sampling = luma_factors(len(unrounded), subsampling)
    search = backends.kernel("trellis", unrounded[0]) if sampling else None
    if search is None:
        return _trellis(unrounded, tables, weights, ac, dc, *size, subsampling)
    # The kernel has one price for all of chroma.
    ac, dc = (x[:, :2].contiguous() for x in (ac, dc))
    found: list[Tensor] = search(unrounded, tables, weights, ac, dc, *size, sampling)
    return found


def rgb_weights(subsampling: str, color: Color | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Weights for :func:`trellis` under which the error is that of the red, green and blue samples.

    A unit error of Y, Cb or Cr is as long as its column in the conversion to RGB, in each pixel under the sample.

    Args:
        subsampling: as in :func:`trellis`.
        color: :class:`~jpegrad.Color` or (matrix, offset); None is JFIF.

    Returns:
        One number for each component, float64.

    Raises:
        TypeError, ValueError: an argument is not as described.

    Example:
        >>> [round(float(weight), 3) for weight in rgb_weights("4:2:0")]
        [3.0, 13.034, 9.902]
    """
    inverse = torch.as_tensor(conversion(resolve_color(color))[2], dtype=torch.float64)
    area = torch.tensor([h * v for h, v in ratios(3, subsampling)], dtype=torch.float64)
    y, cb, cr = (inverse.square().sum(0) * area).unbind()
    return y, cb, cr


def _unrounded(coefficients: Coefficients) -> list[Tensor]:
    """Coefficient / table entry of each component, all float64 or all float32."""
    name = "levels" if coefficients.unrounded is None else "unrounded"
    values: tuple[Tensor, ...] = getattr(coefficients, name)
    dtype = torch.float64 if any(u.dtype is torch.float64 for u in values) else torch.float32
    for i, u in enumerate(values):
        if not u.isfinite().all():
            raise ValueError(f"coefficients.{name}[{i}]: expected finite numbers")
    return [u.detach().to(dtype) for u in values]


def _check_parts(argument: str, parts: Sequence[Tensor], counts: tuple[int, ...]) -> None:
    """Raise unless there is one of each component."""
    expected = (
        f"{argument}: expected a sequence of {' or '.join(map(str, counts))} tensors, one for each component"
    )
    if not isinstance(parts, Sequence):
        raise TypeError(f"{expected}, got {type(parts).__name__}")
    if len(parts) not in counts:
        raise ValueError(f"{expected}, got {len(parts)}")


def _multipliers(multiplier: float | Tensor, lead: torch.Size) -> Tensor:
    """That of each image, ``[images]``."""
    if isinstance(multiplier, bool) or not isinstance(multiplier, (int, float, Tensor)):
        raise TypeError(f"multiplier: expected a number or a tensor, got {type(multiplier).__name__}")
    if isinstance(multiplier, Tensor):
        check_real("multiplier", multiplier)
    each = torch.as_tensor(multiplier, dtype=torch.float64, device="cpu").detach()
    check_broadcast("multiplier", each.shape, lead)
    if not ((each >= 0) & each.isfinite()).all():
        raise ValueError(f"multiplier: expected finite numbers ≥ 0, got {multiplier}")
    return each.expand(lead).reshape(lead.numel())


def _entries(tables: Tensor, lead: torch.Size) -> Tensor:
    """``[n, 8, 8]`` for all images, or ``[images, n, 8, 8]``; contiguous float64."""
    check_broadcast("coefficients.tables", tables.shape[:-3], lead)
    entries = tables.detach().double().cpu()
    if not ((entries > 0) & entries.isfinite()).all():
        raise ValueError("coefficients.tables: expected finite entries > 0")
    if tables.ndim > 3:
        shape = entries.shape[-3:]
        entries = entries.expand(*lead, *shape).reshape(lead.numel(), *shape)
    return entries.contiguous()


def _weights(weights: Sequence[Tensor], unrounded: list[Tensor]) -> list[Tensor]:
    """``[images, blocks_y, blocks_x, 8, 8]`` of each component, views where they can be."""
    _check_parts("weights", weights, (len(unrounded),))
    spread = []
    for i, (w, u) in enumerate(zip(weights, unrounded, strict=True)):
        check_real(f"weights[{i}]", w)
        if w.ndim > u.ndim or any(
            a not in (1, b) for a, b in zip(w.shape[::-1], u.shape[::-1], strict=False)
        ):
            raise ValueError(
                f"weights[{i}]: expected a shape that broadcasts to {list(u.shape)}, got {list(w.shape)}"
            )
        each = w.detach().to("cpu", u.dtype)
        if not ((each >= 0) & each.isfinite()).all():
            raise ValueError(f"weights[{i}]: expected finite numbers ≥ 0")
        # A plain expand keeps the zero strides of what all images share.
        spread.append(each.expand(u.shape).flatten(0, -5) if u.ndim > 5 else each.expand(u.shape))
    return [w if w.ndim == 5 else w.unsqueeze(0) for w in spread]


def _magnitude(unrounded: Tensor, limit: int) -> Tensor:
    """The nearest integer to |unrounded|, of a half the larger one, as the encoder rounds."""
    below = unrounded.abs().floor()
    return (below + (unrounded.abs() - below >= 0.5)).clamp(max=limit)


def _growth(unrounded: Tensor, nearest: Tensor, other: Tensor) -> Tensor:
    """(unrounded − other)² − (unrounded − nearest)², never negative and without cancellation."""
    return (nearest - other) * (2 * unrounded - (nearest + other))


def _rounded(unrounded: Tensor) -> Tensor:
    """Plain rounding to levels that a file can hold."""
    levels = _magnitude(unrounded, MAX_AC).copysign(unrounded)
    levels[..., 0, 0] = _dc_candidates(unrounded[..., 0, 0])[..., 0]
    return levels + 0.0


def _dc_candidates(unrounded: Tensor) -> Tensor:
    """``[..., 3]``: the nearest level, the one below, the one above."""
    nearest = _magnitude(unrounded, -MIN_DC).copysign(unrounded)
    return torch.stack([nearest, nearest - 1, nearest + 1], -1).clamp(MIN_DC, MAX_DC) + 0.0


def _symbol_costs(
    levels: list[Tensor],
    size: tuple[int, int],
    subsampling: str,
    huffman: str,
    slots: Sequence[int],
    multiplier: Tensor,
) -> tuple[Tensor, Tensor]:
    """multiplier · bits of each component's symbols.

    AC ``[images, components, 12, 64]`` by size and run, DC ``[images, components, 12]`` by size.
    """
    if huffman == "default":
        length = code_book(DEFAULT)[..., 1].double()
    else:
        counts = scan_counts(levels, *size, subsampling, slots)
        length = torch.stack([code_book(each)[..., 1] for each in optimal_tables(counts)]).double()
        # A symbol without a code costs what one would that was seen half a time.
        length = torch.where(counts > 0, length, torch.log2(2 * counts.sum(-1, keepdim=True)))
    costs = costs_of(length, slots)
    ac = torch.stack([cost.ac.mT.expand(len(multiplier), 12, 64) for cost in costs], 1)
    dc = torch.stack([cost.dc.expand(len(multiplier), 12) for cost in costs], 1)
    return ac * multiplier[:, None, None, None], dc * multiplier[:, None, None]


class _Component(NamedTuple):
    """One component of all images, in float64: coefficients in steps, costs of a squared error and of symbols."""

    unrounded: Tensor
    scale: Tensor
    ac: Tensor
    dc: Tensor


def _trellis(
    unrounded: list[Tensor],
    tables: Tensor,
    weights: list[Tensor],
    ac_costs: Tensor,
    dc_costs: Tensor,
    height: int,
    width: int,
    subsampling: str,
) -> list[Tensor]:
    """What the native operator of that name computes, in PyTorch, with prices of each component."""
    rows, columns, factors = mcu_grid(len(unrounded), (height, width), subsampling)
    chosen = []
    for i, u in enumerate(unrounded):
        table = tables[..., table_index(i, tables.shape[-3]), :, :][..., None, None, :, :]
        scale = (table * table).expand(u.shape)
        if weights:
            scale = scale * weights[i].double()
        component = _Component(u.double(), scale, ac_costs[:, i], dc_costs[:, i])
        levels = _ac_levels(component)
        index, dummy = scan_order((u.shape[1], u.shape[2]), (rows, columns), factors[i])
        levels[..., 0, 0] = _dc_levels(component, index[~dummy])
        chosen.append(levels.to(u.dtype))
    return chosen


def _ac_levels(component: _Component) -> Tensor:
    unrounded = component.unrounded
    image = torch.arange(len(unrounded)).repeat_interleave(unrounded.shape[1] * unrounded.shape[2])
    zigzag = list(ZIGZAG)
    values, scale = (x.reshape(-1, 64)[:, zigzag] for x in (unrounded, component.scale))
    parts = zip(
        values.split(BLOCKS_AT_ONCE), scale.split(BLOCKS_AT_ONCE), image.split(BLOCKS_AT_ONCE), strict=True
    )
    levels = torch.empty_like(values)
    levels[:, zigzag] = torch.cat([_paths(*part, component.ac) for part in parts])
    return levels.view(unrounded.shape)


def _paths(unrounded: Tensor, scale: Tensor, image: Tensor, symbol_costs: Tensor) -> Tensor:
    """The cheapest AC levels of blocks ``[blocks, 64]`` in zigzag order; 0 at the DC.

    What the states before a place cost, less the cost of leaving out all levels up to theirs, stays the same from one
    place to the next. Of equally cheap ways the one from the nearest state is taken, of levels the larger.
    """
    magnitude = unrounded.abs()
    level = _magnitude(unrounded, MAX_AC)
    count = len(unrounded)
    cost = torch.full((count, 64), math.inf, dtype=torch.float64)
    cost[:, 0] = 0
    before = torch.zeros(count, 65, dtype=torch.long)
    chosen = torch.zeros(count, 65, dtype=torch.float64)
    skipped = torch.zeros(count, dtype=torch.float64)

    def reach(place: int, size: Tensor) -> tuple[Tensor, Tensor]:
        """Least cost of a symbol at a place, and the state before it."""
        ways = cost[:, :place].flip(1) + symbol_costs[image, size, :place]
        found = ways.argmin(1)
        return ways.gather(1, found[:, None]).squeeze(1), place - 1 - found

    for k in range(1, 64):
        n, x, factor = level[:, k], magnitude[:, k], scale[:, k]
        total, before[:, k] = reach(k, size_category(n.long()))
        total, chosen[:, k] = total + skipped, n
        lower, lower_before = reach(k, size_category((n - 1).clamp(min=0).long()))
        lower = lower + (skipped + factor * _growth(x, n, n - 1))
        better = (n > 1) & (lower < total)
        total = torch.where(better, lower, total)
        before[better, k] = lower_before[better]
        chosen[better, k] -= 1
        skipped = skipped + factor * _growth(x, n, 0 * n)
        cost[:, k] = torch.where(n > 0, total - skipped, math.inf)
    _, at = reach(64, torch.zeros(count, dtype=torch.long))

    levels = torch.zeros_like(unrounded)
    block = torch.arange(count)
    while at.any():
        levels[block, at] = torch.where(unrounded[block, at] < 0, -chosen[block, at], chosen[block, at])
        at = before[block, at]
        levels[:, 0] = 0
    return levels


def _dc_levels(component: _Component, order: Tensor) -> Tensor:
    """The cheapest DC levels, ``[images, blocks_y, blocks_x]``; ``order`` is that of the scan, dummy blocks left out.

    A dummy block repeats the DC level before it, and costs the same whatever that is.
    """
    unrounded = component.unrounded[..., 0, 0]
    candidates = _dc_candidates(unrounded)
    extra = component.scale[..., 0, 0, None] * _growth(unrounded[..., None], candidates[..., :1], candidates)
    found = torch.empty(len(unrounded), len(order), dtype=torch.float64)
    for image, (some, errors, symbol_costs) in enumerate(
        zip(candidates.flatten(1, 2)[:, order], extra.flatten(1, 2)[:, order], component.dc, strict=True)
    ):
        found[image, order] = _chain(some.long().tolist(), errors.tolist(), symbol_costs.tolist())
    return found.view(unrounded.shape)


def _chain(candidates: list[list[int]], extra: list[list[float]], symbol_costs: list[float]) -> Tensor:
    """The cheapest path through three candidates of each block; of equal ones the first."""
    level, cost = [0], [0.0]
    before = []
    for options, errors in zip(candidates, extra, strict=True):
        ways = [
            [c + symbol_costs[abs(option - n).bit_length()] for n, c in zip(level, cost, strict=True)]
            for option in options
        ]
        least = [min(way) for way in ways]
        before.append([way.index(low) for way, low in zip(ways, least, strict=True)])
        level, cost = options, [low + error for low, error in zip(least, errors, strict=True)]
    path = []
    last = cost.index(min(cost))
    for options, back in zip(reversed(candidates), reversed(before), strict=True):
        path.append(options[last])
        last = back[last]
    return torch.tensor(path[::-1], dtype=torch.float64)
