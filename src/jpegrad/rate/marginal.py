"""What one step of one level costs: exact changes of the coded length, everything else held fixed.

Source: our own; the coding rules are those of ITU-T T.81 F.1.2.2.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from jpegrad import backends
from jpegrad.coefficients import Coefficients
from jpegrad.entropy.huffman import DEFAULT, code_book
from jpegrad.entropy.scan import LIBRARY, check_huffman, scan_counts
from jpegrad.entropy.symbols import EOB, LUMA_CHROMA, MAX_AC, ZRL, huffman_slots, size_category, whole
from jpegrad.home import at_home
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
    levels: Sequence[Tensor],
    size: tuple[int, int],
    subsampling: str,
    huffman: str,
    slots: Sequence[int] = LUMA_CHROMA,
) -> list[Costs]:
    """What the symbols of each component cost.

    Under ``"optimized"`` a symbol of frequency f among F costs log2(F / f) bits, an unseen one as if it had been seen
    half a time: what the tables tend to, without the jumps of integer lengths.
    """
    if huffman == "optimized":
        frequencies = scan_counts([x.detach() for x in levels], *size, subsampling, slots)
        length = torch.log2(frequencies.sum(-1, keepdim=True) / frequencies.clamp(min=0.5)).float()
    else:
        length = code_book(DEFAULT)[..., 1].float().to(levels[0].device)
    return costs_of(length, slots[: len(levels)])


def costs_of(length: Tensor, slots: Sequence[int]) -> list[Costs]:
    """What the symbols of each component cost under codes of given lengths, ``[..., 2 or 4, 256]``."""
    each = {slot: _costs(length[..., 2 * slot : 2 * slot + 2, :]) for slot in set(slots)}
    return [each[slot] for slot in slots]


def _costs(length: Tensor) -> Costs:
    run = torch.arange(64, device=length.device).unsqueeze(1)
    size = torch.arange(12, device=length.device)
    dc, ac = length.unbind(-2)
    end = torch.where(run > 0, ac[..., EOB, None, None], 0.0)
    return Costs(dc[..., :12] + size, torch.where(size > 0, level_costs(ac), end))


def level_costs(length: Tensor) -> Tensor:
    """Bits ``[..., 64, 12]`` by run and size, of levels that are not 0, under AC codes of lengths ``[..., 256]``."""
    run = torch.arange(64, device=length.device).unsqueeze(1)
    # Size 11 does not occur in a baseline AC; a step into it costs nothing more.
    size = torch.arange(12, device=length.device).clamp(max=10)
    return length[..., (run & 15) << 4 | size] + size + (run >> 4) * length[..., ZRL, None, None]


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


def step_costs(levels: Tensor, lower: Tensor, where: Tensor, cost: Costs) -> Tensor:
    """Bits of |level| = m + 1 less bits of |level| = m at AC places, with all other levels of the block as they are.

    Args:
        levels: one component, ``[..., blocks_y, blocks_x, 8, 8]``.
        lower: m, same shape, integers ≥ 0.
        where: same shape, boolean: the places to compute; the time is in proportion to their number.
        cost: of the component.

    Returns:
        same shape, float32; 0 elsewhere, and at the DC, which has no such cost.
    """
    found: Tensor = torch.ops.jpegrad.step_costs(levels.detach(), lower, where, cost.ac)
    return found


def _step_costs(levels: Tensor, lower: Tensor, where: Tensor, ac: Tensor) -> Tensor:
    if kernel := backends.kernel("step_costs", levels):
        return kernel(levels, lower, where, ac)
    result = torch.zeros(levels.shape, device=levels.device)
    wanted = where.flatten(-2).clone()
    wanted[..., 0] = False
    index = wanted.flatten().nonzero().squeeze(1)
    zigzag = torch.tensor(ZIGZAG, device=levels.device)
    block, place = index >> 6, zigzag.argsort()[index & 63]
    at = (block << 6) + place
    magnitudes = levels.abs().clamp(max=MAX_AC).to(torch.int16).flatten(-2)[..., zigzag]
    before, after = nearest_nonzero(magnitudes)
    before, after = (
        before.flatten()[at - 1].long(),
        after.flatten()[(at + 1).clamp(max=after.numel() - 1)].long(),
    )
    after = torch.where(place < 63, after, 64)
    magnitude = magnitudes.flatten()[((block << 6) + after).clamp(max=magnitudes.numel() - 1)].int()
    next_size = torch.where(after < 64, size_category(magnitude), 0)
    m = lower.flatten()[index].clamp(max=MAX_AC).int()
    # Each table serves as many blocks in succession.
    tables = ac.shape[:-2].numel()
    table = block * tables // (levels.numel() // 64) * 768
    bits = ac.flatten()

    def coded(run: Tensor, size: Tensor) -> Tensor:
        return bits[table + run * 12 + size]

    run = place - before - 1
    # A new nonzero splits the run up to the next one (or to the end of the block).
    split = coded(after - place - 1, next_size) - coded(after - before - 1, next_size)
    low = torch.where(m > 0, coded(run, size_category(m).clamp(min=1)), -split)
    result.view(-1)[index] = coded(run, size_category(m + 1)) - low
    return result


def nearest_nonzero(magnitudes: Tensor) -> tuple[Tensor, Tensor]:
    """Of 64 places in zigzag order: the last nonzero up to each (0 if none), and the first from it on (64 if none)."""
    place = torch.arange(64, dtype=torch.int8, device=magnitudes.device)
    nonzero = magnitudes > 0
    before, after = torch.where(nonzero, place, 0), torch.where(nonzero, place, 64)
    # Six doubling steps each.
    for shift in (1, 2, 4, 8, 16, 32):
        before = torch.cat(
            [before[..., :shift], torch.maximum(before[..., shift:], before[..., :-shift])], -1
        )
        after = torch.cat([torch.minimum(after[..., :-shift], after[..., shift:]), after[..., -shift:]], -1)
    return before, after


def _fake_step_costs(levels: Tensor, lower: Tensor, where: Tensor, ac: Tensor) -> Tensor:
    return levels.new_empty(levels.shape, dtype=torch.float32)


def _mapped_step_costs(info: Any, in_dims: tuple[int | None, ...], *arguments: Tensor) -> tuple[Tensor, int]:
    leading = [
        x.expand(info.batch_size, *x.shape) if dim is None else x.movedim(dim, 0)
        for x, dim in zip(arguments, in_dims, strict=True)
    ]
    return torch.ops.jpegrad.step_costs(*leading), 0


# An operator, because its inner shapes depend on the levels.
LIBRARY.define("step_costs(Tensor levels, Tensor lower, Tensor where, Tensor ac) -> Tensor")
LIBRARY.impl("step_costs", _step_costs, "CompositeExplicitAutograd")
torch.library.register_fake("jpegrad::step_costs", _fake_step_costs, lib=LIBRARY)
torch.library.register_vmap("jpegrad::step_costs", _mapped_step_costs, lib=LIBRARY)


@at_home
def marginal_costs(coefficients: Coefficients, *, huffman: str = "default") -> list[tuple[Tensor, Tensor]]:
    """Exact changes of the scan's length in bits when one AC level moves by one, all others fixed.

    ZRL, the run of the next symbol and EOB are counted; stuffed zeros and padding are not. Under ``"optimized"`` the
    code lengths stay those of the present frequencies, log2(F / f) bits.

    Args:
        coefficients: as in :func:`~jpegrad.bits`.
        huffman: ``"default"`` or ``"optimized"``.

    Returns:
        (up, down) for each component, shaped like its levels, float32: the change for |level| + 1, and for
        |level| − 1 where the level is not 0. Both are 0 at the DC.

    Raises:
        TypeError, ValueError: an argument is not as described.

    Source: ITU-T T.81 F.1.2.2.

    Example:
        >>> import jpegrad, torch
        >>> coefficients = jpegrad.encode(torch.full((1, 8, 8), 0.5), quality=75)
        >>> up, down = marginal_costs(coefficients)[0]
        >>> up[0, 0, 0, 1]
        tensor(3.)
    """
    if not isinstance(coefficients, Coefficients):
        raise TypeError(f"coefficients: expected Coefficients, got {type(coefficients).__name__}")
    check_huffman(huffman)
    c = coefficients
    levels = [whole(level) for level in c.levels]
    costs = symbol_costs(levels, c.size, c.subsampling, huffman, huffman_slots(c.space))
    found = []
    for level, cost in zip(levels, costs, strict=True):
        magnitude = level.abs()
        up = step_costs(level, magnitude, torch.ones_like(magnitude, dtype=torch.bool), cost)
        down = -step_costs(level, magnitude - 1, magnitude > 0, cost)
        found.append((up, down))
    return found
