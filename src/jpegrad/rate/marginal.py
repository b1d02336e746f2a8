"""What one step of one level costs: exact changes of the coded length, everything else held fixed.

Source: our own; the coding rules are those of ITU-T T.81 F.1.2.2.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from jpegrad.rate import codes
from jpegrad.rate.huffman import scan_counts
from jpegrad.rate.symbols import EOB, MAX_AC, ZRL, size_category
from jpegrad.tables import ZIGZAG

CENTERS = (0.0, *(0.75 * 2**size - 0.5 for size in range(1, 12)))
"""Middle of the magnitudes of each size category, 2^(size − 1) … 2^size − 1."""


class Costs(NamedTuple):
    """Bits of the symbols of one component, their amplitude bits included; float32.

    ``dc`` ``[..., 12]`` by size category; ``ac`` ``[..., 64, 12]`` by run and size, ZRL included, where size 0 stands
    for the end of the block: an EOB after one zero or more, nothing after none. The leading dimensions are those of the
    images under ``"optimized"`` and none under ``"default"``.
    """

    dc: Tensor
    ac: Tensor


def symbol_costs(
    levels: Sequence[Tensor], size: tuple[int, int], subsampling: str, huffman: str
) -> tuple[Costs, ...]:
    """What the symbols of each component cost.

    Under ``"optimized"`` a symbol of frequency f among F costs log2(F / f) bits, an unseen one as if it had been seen
    half a time: what the tables tend to, without the jumps of integer lengths.
    """
    if huffman == "optimized":
        frequencies = scan_counts([x.detach() for x in levels], *size, subsampling)
        length = torch.log2(frequencies.sum(-1, keepdim=True) / frequencies.clamp(min=0.5)).float()
    else:
        length = codes.code_book(codes.DEFAULT)[..., 1].float().to(levels[0].device)
    luma, chroma = _costs(length[..., :2, :]), _costs(length[..., -2:, :])
    return (luma, chroma, chroma)[: len(levels)]


def _costs(length: Tensor) -> Costs:
    run = torch.arange(64, device=length.device).unsqueeze(1)
    size = torch.arange(12, device=length.device)
    dc, ac = length.unbind(-2)
    # Size 11 does not occur in a baseline AC; a step into it costs nothing more.
    coded = (
        ac[..., (run & 15) << 4 | size.clamp(max=10)]
        + size.clamp(max=10)
        + (run >> 4) * ac[..., ZRL, None, None]
    )
    end = torch.where(run > 0, ac[..., EOB, None, None], 0.0)
    return Costs(dc[..., :12] + size, torch.where(size > 0, coded, end))


def _lookup(table: Tensor, index: Tensor) -> Tensor:
    """``table[..., index]``: one table for all (1-D), or one for each image."""
    if table.ndim == 1:
        return table[index]
    return table.gather(-1, index.flatten(table.ndim - 1)).view_as(index)


def dc_slopes(difference: Tensor, cost: Costs) -> Tensor:
    """Derivative of a DC difference's bits, drawn as a straight line between the middles of two size categories.

    Args:
        difference: real-valued DC differences, any shape after the images' leading dimensions.
        cost: of the component.
    """
    centers = torch.tensor(CENTERS, device=difference.device, dtype=difference.dtype)
    category = (torch.bucketize(difference.detach().abs(), centers, right=True) - 1).clamp(max=10)
    steepness = (cost.dc[..., 1:] - cost.dc[..., :-1]) / (centers[1:] - centers[:-1])
    return difference.detach().sign() * _lookup(steepness, category)


class Surroundings(NamedTuple):
    """Of AC places: zeros since the nonzero before, places to the next nonzero, its size (0: none, block ends)."""

    run: Tensor
    ahead: Tensor
    size: Tensor


def surroundings(magnitudes: Tensor) -> Surroundings:
    """The neighbours in zigzag order of places 1…63, whatever stands there; the DC is at 0, the end at 64."""
    nonzero = magnitudes > 0
    place = torch.arange(64, dtype=torch.int16, device=magnitudes.device)
    before = running_maximum(torch.where(nonzero, place, 0))[..., :-1]
    # Distance from the end and size in one number: the running maximum from the right finds the nearest.
    tagged = torch.where(nonzero, (64 - place) << 4 | size_category(magnitudes), 0)
    after = torch.nn.functional.pad(running_maximum(tagged.flip(-1)).flip(-1)[..., 2:], (0, 1))
    return Surroundings(place[1:] - before - 1, 64 - (after >> 4) - place[1:], after & 15)


def running_maximum(x: Tensor) -> Tensor:
    """Running maximum over the last dimension, of 64, in six doubling steps."""
    for shift in (1, 2, 4, 8, 16, 32):
        x = torch.cat([x[..., :shift], torch.maximum(x[..., shift:], x[..., :-shift])], -1)
    return x


def crossing_costs(levels: Tensor, lower: Tensor, cost: Costs) -> Tensor:
    """Bits of |level| = m + 1 less bits of |level| = m at each place, with all other levels of the block as they are.

    Args:
        levels: one component, ``[..., blocks_y, blocks_x, 8, 8]``.
        lower: m, same shape, integers ≥ 0.
        cost: of the component.

    Returns:
        same shape, float32; 0 at the DC, which has no such cost.
    """
    zigzag = torch.tensor(ZIGZAG, device=levels.device)
    magnitudes = levels.detach().abs().clamp(max=MAX_AC).to(torch.int16).flatten(-2)[..., zigzag]
    m = lower.clamp(max=MAX_AC).to(torch.int16).flatten(-2)[..., zigzag[1:]]
    run, ahead, next_size = surroundings(magnitudes)

    def bits(run: Tensor, size: Tensor) -> Tensor:
        return _lookup(cost.ac.flatten(-2), run.long() * 12 + size)

    # A new nonzero splits the run up to the next one (or to the end of the block).
    split = bits(ahead - 1, next_size) - bits(run + ahead, next_size)
    low = torch.where(m > 0, bits(run, size_category(m).clamp(min=1)), -split)
    change = bits(run, size_category(m + 1)) - low
    change = torch.nn.functional.pad(change, (1, 0))
    return change[..., torch.argsort(zigzag)].unflatten(-1, (8, 8))


def marginal_costs(
    levels: Sequence[Tensor], size: tuple[int, int], subsampling: str, huffman: str = "default"
) -> list[tuple[Tensor, Tensor]]:
    """Exact changes of the scan's length in bits when one AC level moves by one, all others fixed.

    ZRL, the run of the next symbol and EOB are counted; stuffed zeros and padding are not. Under ``"optimized"`` the
    code lengths stay those of the present frequencies, log2(F / f) bits.

    Args:
        levels: one or three tensors ``[..., blocks_y, blocks_x, 8, 8]`` of integers.
        size: height and width in pixels.
        subsampling: ``"4:4:4"``, ``"4:2:2"``, ``"4:2:0"``, ``"4:4:0"`` or ``"4:1:1"``.
        huffman: ``"default"`` or ``"optimized"``.

    Returns:
        (up, down) for each component, shaped like its levels, float32: the change for |level| + 1, and for |level| − 1
        where the level is not 0. Both are 0 at the DC.

    Example:
        >>> up, down = marginal_costs([torch.zeros(1, 1, 8, 8)], (8, 8), "4:4:4")[0]
        >>> up[0, 0, 0, 1]
        tensor(3.)
    """
    costs = []
    for component, cost in zip(levels, symbol_costs(levels, size, subsampling, huffman), strict=True):
        magnitudes = component.detach().abs()
        up = crossing_costs(component, magnitudes, cost)
        down = -crossing_costs(component, (magnitudes - 1).clamp(min=0), cost)
        costs.append((up, torch.where(magnitudes > 0, down, 0.0)))
    return costs
