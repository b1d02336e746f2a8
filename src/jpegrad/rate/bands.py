"""What blocks and symbols cost where bands of frequencies have scans of their own: progressive files without refinement.

A band's places are moved to the beginning of the block, behind the DC; then all is as in a baseline block. Only the
ends differ, as the ends of successive blocks are coded as one run: a block with levels in the band costs −log2 p for its
end, and one without −log2 (1 − p), with p the share of the former, in proportion to what the runs cost in truth.

Source: ITU-T T.81 G.1.2.2; the prices of the ends are our own.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from jpegrad.coefficients import Coefficients
from jpegrad.entropy.script import LUMA_SPLIT
from jpegrad.entropy.symbols import MAX_AC, ZRL, huffman_slots, size_category, whole
from jpegrad.rate.blocks import ac_bits, dc_bits
from jpegrad.rate.marginal import symbol_costs
from jpegrad.tables import ZIGZAG


class Band(NamedTuple):
    """Places in zigzag order, both included."""

    first: int
    last: int

    @property
    def width(self) -> int:
        return self.last - self.first + 1


WHOLE = Band(1, 63)


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
    counts = torch.zeros(256, dtype=torch.float64)
    ended, empty = 0, 0
    for each in levels:
        found, with_end, without = _counts(moved(whole(each), band).flatten(0, 1).flatten(1), band)
        counts += found
        ended += with_end
        empty += without
    length = torch.log2(counts.sum().clamp(min=1.0) / counts.clamp(min=0.5))
    ends = torch.arange(15)
    spent = float((counts[ends << 4] * (length[ends << 4] + ends)).sum())
    run, size = torch.arange(64).unsqueeze(1), torch.arange(12).clamp(max=10)
    prices = length[(run & 15) << 4 | size] + size + (run >> 4) * length[ZRL]
    share = (ended + 0.5) / (ended + empty + 1)
    ideal = -(ended * math.log2(share) + empty * math.log2(1 - share))
    scale = spent / ideal if ideal > 0 else 1.0
    prices[:, 0] = -scale * math.log2(share)
    # No end follows the last place; and a block without levels in the band is one more of a run.
    prices[63 - band.width, 0] = 0.0
    prices[63, 0] = -scale * math.log2(1 - share)
    return prices


def _counts(blocks: Tensor, band: Band) -> tuple[Tensor, int, int]:
    """Symbols of moved blocks ``[blocks, 64]`` in natural order; blocks with levels and an end, and without levels."""
    magnitude = blocks.abs().clamp(max=MAX_AC).to(torch.int16)[:, list(ZIGZAG)]
    magnitude[:, 0] = 0
    block, place = magnitude.nonzero(as_tuple=True)
    first = torch.ones_like(block, dtype=torch.bool)
    first[1:] = block[1:] != block[:-1]
    before = torch.where(first, 0, place.roll(1))
    run = place - before - 1
    size = size_category(magnitude[block, place].int()).long()
    counts = torch.bincount((run & 15) << 4 | size, minlength=256).double().cpu()
    counts[ZRL] += float((run >> 4).sum())
    # Runs of ended blocks: each block with levels ends the one before it.
    with_levels = (magnitude > 0).any(1)
    complete = magnitude[:, band.width] > 0
    at = with_levels.nonzero().squeeze(1)
    gaps = torch.diff(at, prepend=at.new_full((1,), -1), append=at.new_full((1,), len(blocks))) - 1
    gaps[1:] += (~complete[at]).long()
    gaps = gaps[gaps > 0]
    category = torch.log2(gaps.double()).floor().long().clamp(max=14)
    counts += torch.bincount(category << 4, minlength=256).double().cpu()
    return counts, int((with_levels & ~complete).sum()), int((~with_levels).sum())


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
            price = band_costs([known], band).to(level.device)
            flat = moved(whole(level), band).flatten(0, 1).flatten(1)
            found[i] += ac_bits(flat, price).view(found[i].shape)
    return found
