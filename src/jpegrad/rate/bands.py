"""What blocks and symbols cost in scans of bands of frequencies: progressive files without refinement.

A band's places are moved to the beginning of the block, behind the DC; then all is as in a baseline block. Only the
ends differ, as those of successive blocks are coded as one run: a block with levels ends the run before it, and
begins one. With f(l) bits for a run of l blocks, it costs f(a) + f(b) − f(a + b) more than a block without levels in
its place, and f(b) − f(b − 1) less where its last level leaves no end to code.

Source: ITU-T T.81 G.1.2.2; the prices of the ends are our own.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from jpegrad import backends
from jpegrad.coefficients import Coefficients
from jpegrad.entropy.script import LUMA_SPLIT
from jpegrad.entropy.symbols import ZRL, huffman_slots, size_category, whole
from jpegrad.rate.blocks import WHOLE, Band, band_bits, dc_bits, magnitudes
from jpegrad.rate.marginal import level_costs, symbol_costs
from jpegrad.tables import ZIGZAG


def bands(component: int) -> tuple[Band, ...]:
    """Those of a component in :func:`~jpegrad.entropy.script.spectral_selection`."""
    return (Band(1, LUMA_SPLIT), Band(LUMA_SPLIT + 1, 63)) if component == 0 else (WHOLE,)


def moved(blocks: Tensor, band: Band, filling: float = 0.0) -> Tensor:
    """``[..., 8, 8]``: the DC, directly behind it the band's places, and ``filling`` in all others."""
    flat = blocks.flatten(-2)
    found = torch.full_like(flat, filling)
    found[..., 0] = flat[..., 0]
    found[..., list(ZIGZAG[1 : 1 + band.width])] = flat[..., list(ZIGZAG[band.first : band.last + 1])]
    return found.view(blocks.shape)


def put_back(blocks: Tensor, band: Band, moved_blocks: Tensor) -> Tensor:
    """``blocks`` with a band of what :func:`moved` moved."""
    found = blocks.flatten(-2).clone()
    places = list(ZIGZAG[band.first : band.last + 1])
    found[..., places] = moved_blocks.flatten(-2)[..., list(ZIGZAG[1 : 1 + band.width])].to(found)
    return found.view(blocks.shape)


def band_costs(levels: Sequence[Tensor], band: Band) -> Tensor:
    """Bits ``[64, 12]`` by run and size, as :class:`~jpegrad.rate.marginal.Costs` has them, of a band's symbols.

    Args:
        levels: of the components, ``[blocks_y, blocks_x, 8, 8]`` each, which share one code.
        band: whose symbols.
    """
    parts = [_counted(each, band) for each in levels]
    counts = torch.stack([part.symbols for part in parts]).sum(0)
    length = torch.log2(counts.sum().clamp(min=1.0) / counts.clamp(min=0.5))
    prices = level_costs(length)

    def spent(blocks: Tensor) -> Tensor:
        """f of so many blocks."""
        category = _category(blocks)
        return torch.where(blocks > 0, (length[category << 4] + category), 0.0)

    total, begun, end, several = 0.0, 0.0, 0.0, 0
    for part in parts:
        # Both what a block with levels costs, and what one more would.
        before, after, runs = part.before, part.after, part.runs
        long = (runs - 1).clamp(min=0)
        half = runs // 2
        more = (spent(half) + spent(runs - half) - spent(runs)) * long
        begun += float((spent(before) + spent(after) - spent(before + after)).sum() + more.sum())
        end += float((spent(after) - spent(after - 1)).sum())
        several += len(after) + int(long.sum())
        total += float(spent(runs).sum())
    ended = sum(len(part.after) for part in parts)
    begun, end = begun / max(several, 1), end / max(ended, 1)
    empty, complete = (sum(getattr(part, name) for part in parts) for name in ("empty", "complete"))
    rest = total - ended * begun - complete * (begun - end)
    least = max(rest / max(ended + empty + complete, 1), 0.0, end - begun)
    prices[:, 0] = least + begun
    prices[63 - band.width, 0] = least + begun - end
    prices[63, 0] = least
    return prices


class _Counted(NamedTuple):
    """Symbols ``[256]``; lengths of the runs before and after blocks with an end, of all runs; numbers of blocks."""

    symbols: Tensor
    before: Tensor
    after: Tensor
    runs: Tensor
    empty: int
    complete: int


def _category(blocks: Tensor) -> Tensor:
    return torch.log2(blocks.clamp(min=1).double()).floor().long().clamp(max=14)


def _counted(levels: Tensor, band: Band) -> _Counted:
    """Of a band of ``[blocks_y, blocks_x, 8, 8]``."""
    count = backends.kernel("count_band", levels)
    blocks = levels.detach().float().flatten(0, 1).flatten(1)
    symbols, ends = (count or _count_band)(blocks, band.first, band.last)
    symbols = symbols.double()
    at = ends.cpu().nonzero().squeeze(1)
    ending = ends.cpu()[at] == ENDS
    runs = torch.diff(at, prepend=at.new_full((1,), -1), append=at.new_full((1,), len(blocks))) - 1
    runs[1:] += ending.long()
    symbols += torch.bincount(_category(runs[runs > 0]) << 4, minlength=256).double()
    complete = len(at) - int(ending.sum())
    return _Counted(symbols, runs[:-1][ending], runs[1:][ending], runs, len(blocks) - len(at), complete)


EMPTY, ENDS, COMPLETE = range(3)
"""How a block's band ends: it has no levels, zeros after the last, or none."""


def _count_band(blocks: Tensor, first: int, last: int) -> tuple[Tensor, Tensor]:
    """What the kernel of that name computes, in PyTorch."""
    magnitude = magnitudes(blocks, first, last).cpu()
    block, place = (magnitude[:, 1:]).nonzero(as_tuple=True)
    place = place + 1
    fresh = torch.ones_like(block, dtype=torch.bool)
    fresh[1:] = block[1:] != block[:-1]
    run = place - torch.where(fresh, 0, place.roll(1)) - 1
    size = size_category(magnitude[block, place].int()).long()
    symbols = torch.bincount((run & 15) << 4 | size, minlength=256)
    symbols[ZRL] += (run >> 4).sum()
    ends = torch.full((len(blocks),), EMPTY, dtype=torch.uint8)
    at = block[fresh]
    ends[at] = torch.where(magnitude[at, last - first + 1] == 0, ENDS, COMPLETE).to(torch.uint8)
    return symbols, ends


def banded_bits(coefficients: Coefficients, *, like: Coefficients | None = None) -> list[Tensor]:
    """As :func:`~jpegrad.rate.blocks.block_bits`, of the scans of ``spectral_selection``."""
    coded = like or coefficients
    slots = huffman_slots(coded.space)
    costs = symbol_costs(
        [whole(x)[None] for x in coded.levels], coded.size, coded.subsampling, "optimized", slots
    )
    found = dc_bits(coefficients, costs)
    for i, (level, known) in enumerate(zip(coefficients.levels, coded.levels, strict=True)):
        for band in bands(i):
            found[i] += band_bits(level, band, band_costs([known], band))
    return found
