"""``block_bits``: what each block costs under one Huffman code."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from jpegrad import backends
from jpegrad.coefficients import Coefficients
from jpegrad.entropy.symbols import (
    MAX_AC,
    MAX_DC_DIFFERENCE,
    huffman_slots,
    mcu_grid,
    scan_order,
    size_category,
    whole,
)
from jpegrad.rate.marginal import Costs, symbol_costs
from jpegrad.tables import ZIGZAG


class Band(NamedTuple):
    """Places in zigzag order, both included."""

    first: int
    last: int

    @property
    def width(self) -> int:
        return self.last - self.first + 1


WHOLE = Band(1, 63)


def block_bits(coefficients: Coefficients, *, like: Coefficients | None = None) -> list[Tensor]:
    """Bits of every block of one image in a baseline scan with optimised Huffman codes.

    A symbol of frequency f among F costs log2(F / f) bits, as in :func:`marginal_costs`; the DC difference is the bits
    of the block that it leads to. Dummy blocks are left out.

    Args:
        coefficients: levels without leading dimensions.
        like: another file of the same blocks, whose code it is; None is the file's own.

    Returns:
        ``[blocks_y, blocks_x]`` of each component, float64.
    """
    coded = like or coefficients
    slots = huffman_slots(coded.space)
    costs = symbol_costs(
        [whole(x)[None] for x in coded.levels], coded.size, coded.subsampling, "optimized", slots
    )
    found = dc_bits(coefficients, costs)
    for i, (level, cost) in enumerate(zip(coefficients.levels, costs, strict=True)):
        found[i] += band_bits(level, WHOLE, cost.ac.reshape(64, 12))
    return found


def dc_bits(coefficients: Coefficients, costs: Sequence[Costs]) -> list[Tensor]:
    """Of the DC differences that lead to each block, as :func:`block_bits` has them."""
    c = coefficients
    rows, columns, factors = mcu_grid(c.channels, c.size, c.subsampling)
    found = []
    for level, cost, h_v in zip(c.levels, costs, factors, strict=True):
        shape = level.shape[:2]
        dc = whole(level)[..., 0, 0].flatten()
        index, dummy = scan_order((shape[0], shape[1]), (rows, columns), h_v, level.device)
        spent = torch.zeros(len(dc), dtype=torch.float64, device=level.device)
        spent[index[~dummy]] = _dc_bits(dc, index, cost)[~dummy.flatten()]
        found.append(spent.view(shape))
    return found


def _dc_bits(dc: Tensor, index: Tensor, cost: Costs) -> Tensor:
    """Of each place of the scan."""
    ordered = dc[index.flatten()]
    difference = ordered.diff(prepend=ordered.new_zeros(1)).abs().clamp(max=MAX_DC_DIFFERENCE)
    return cost.dc.flatten().double()[size_category(difference.int()).long()]


def magnitudes(blocks: Tensor, first: int, last: int) -> Tensor:
    """``[blocks, 64]`` of a band: a place for the DC, its own places in zigzag order, and zeros; int16."""
    magnitude = whole(blocks).abs().clamp(max=MAX_AC).to(torch.int16)
    return torch.nn.functional.pad(magnitude[:, list(ZIGZAG[first : last + 1])], (1, 63 - (last - first + 1)))


def band_bits(levels: Tensor, band: Band, prices: Tensor) -> Tensor:
    """Of a band of ``[blocks_y, blocks_x, 8, 8]``, by prices ``[64, 12]`` of run and size; float64."""
    kernel = backends.kernel("band_bits", levels)
    blocks = levels.detach().float().flatten(0, 1).flatten(1)
    bits = (kernel or _band_bits)(blocks, band.first, band.last, prices.to(levels.device))
    return bits.view(levels.shape[:2])


def _band_bits(blocks: Tensor, first: int, last: int, prices: Tensor) -> Tensor:
    """What the kernel of that name computes, in PyTorch."""
    magnitude = magnitudes(blocks, first, last)
    # The DC stands for the start of its block, and a place behind the last one for its end.
    coded = torch.nn.functional.pad(magnitude > 0, (0, 1), value=True)
    coded[:, 0] = True
    at = coded.flatten().nonzero().squeeze(1)
    block, place = at // 65, at % 65
    run = (place[1:] - place[:-1] - 1).clamp(min=0)
    size = torch.nn.functional.pad(size_category(magnitude.int()), (0, 1)).flatten()[at][1:].long()
    price = prices.double()[run.clamp(max=63), size]
    price = torch.where(place[1:] > 0, price, 0.0)
    return price.new_zeros(len(blocks)).index_add_(0, block[1:], price)
