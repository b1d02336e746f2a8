"""``block_bits``: what each block costs under one Huffman code."""

from collections.abc import Sequence

import torch
from torch import Tensor

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
        spent = ac_bits(whole(level).flatten(0, 1).flatten(1), cost.ac.reshape(64, 12))
        found[i] += spent.view(found[i].shape)
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


def ac_bits(levels: Tensor, prices: Tensor) -> Tensor:
    """Of blocks ``[blocks, 64]``, natural order, by prices ``[64, 12]`` of run and size."""
    magnitude = levels.abs().clamp(max=MAX_AC).to(torch.int16)[:, list(ZIGZAG)]
    # The DC stands for the start of its block, and a place behind the last one for its end.
    coded = torch.nn.functional.pad(magnitude > 0, (0, 1), value=True)
    coded[:, 0] = True
    at = coded.flatten().nonzero().squeeze(1)
    block, place = at // 65, at % 65
    run = (place[1:] - place[:-1] - 1).clamp(min=0)
    size = torch.nn.functional.pad(size_category(magnitude.int()), (0, 1)).flatten()[at][1:].long()
    price = prices.double()[run.clamp(max=63), size]
    price = torch.where(place[1:] > 0, price, 0.0)
    return price.new_zeros(len(levels)).index_add_(0, block[1:], price)
