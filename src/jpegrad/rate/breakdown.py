"""``breakdown``: which part of a .jpg file takes how many bits."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from jpegrad.arguments import one_line
from jpegrad.coefficients import Coefficients
from jpegrad.entropy.huffman import DEFAULT, code_book
from jpegrad.entropy.scan import (
    COEFFICIENTS_AT_ONCE,
    check_huffman,
    optimal_tables,
    scan_bytes,
    scan_counts,
)
from jpegrad.entropy.symbols import (
    EOB,
    ZRL,
    Symbols,
    huffman_slots,
    mcu_grid,
    scan_order,
    scan_symbols,
    table_count,
    whole,
)
from jpegrad.home import at_home
from jpegrad.rate.size import header_bytes
from jpegrad.tables import ZIGZAG


@dataclass(frozen=True, eq=False)
class Breakdown:
    """The bits of .jpg files by what they are spent on; integers (int64) that add up to ``bits``.

    Args:
        coefficients: ``[..., components, 8, 8]``, natural order: code and amplitude of the levels at each place of the
            blocks, with the ZRL symbols of the zeros before them; the DC differences at [0, 0].
        end_of_block: ``[..., components]``, the EOB symbols.
        padding: ``[...]``, the ones that fill up the last byte of the scan.
        stuffing: ``[...]``, the zero bytes after each byte 0xFF of the scan.
        headers: ``[...]``, marker segments from SOI to EOI, Huffman tables included.
        metadata: ``[...]``, the carried marker segments.

    Example:
        >>> import jpegrad, torch
        >>> parts = jpegrad.rate.breakdown(jpegrad.encode(torch.zeros(1, 8, 8), quality=75))
        >>> int(parts.coefficients.sum()), int(parts.end_of_block.sum()), int(parts.padding)
        (14, 4, 6)
    """

    coefficients: Tensor
    end_of_block: Tensor
    padding: Tensor
    stuffing: Tensor
    headers: Tensor
    metadata: Tensor

    def __repr__(self) -> str:
        return one_line("Breakdown", **vars(self))

    @property
    def total(self) -> Tensor:
        """The size of the file in bits, ``[...]``."""
        scan = self.coefficients.sum((-3, -2, -1)) + self.end_of_block.sum(-1)
        return scan + self.padding + self.stuffing + self.headers + self.metadata


@at_home
def breakdown(coefficients: Coefficients, *, huffman: str = "default") -> Breakdown:
    """Where the bits of the baseline file that ``to_bytes`` would write go.

    Args:
        coefficients: as in :func:`~jpegrad.bits`.
        huffman: ``"default"`` (tables of Annex K) or ``"optimized"`` (made for the image).

    Returns:
        :class:`Breakdown`, whose ``total`` equals ``bits``; without a gradient.

    Raises:
        TypeError, ValueError: an argument is not as described.

    Source: ITU-T T.81 B.1.1.5, F.1.2.

    Example:
        >>> import jpegrad, torch
        >>> coefficients = jpegrad.encode(torch.rand(3, 40, 24), quality=75)
        >>> parts = breakdown(coefficients)
        >>> parts.coefficients.shape, bool(parts.total == jpegrad.bits(coefficients))
        (torch.Size([3, 8, 8]), True)
    """
    if not isinstance(coefficients, Coefficients):
        raise TypeError(f"coefficients: expected Coefficients, got {type(coefficients).__name__}")
    check_huffman(huffman)
    c, slots = coefficients, huffman_slots(coefficients.space)
    levels = [level.detach().reshape(-1, *level.shape[-4:]) for level in c.levels]
    tables = [list(DEFAULT[: table_count(c.channels, slots)])]
    if huffman == "optimized":
        tables = optimal_tables(scan_counts(levels, *c.size, c.subsampling, slots))
    length = torch.stack([code_book(image)[..., 1].long() for image in tables]).to(levels[0].device)
    length = length.expand(len(levels[0]), *length.shape[1:])
    strips = [_spent(scan_symbols(*strip, c.subsampling, slots), length, c) for strip in _strips(levels, c)]
    spent, ends = (sum(parts[1:], parts[0]) for parts in zip(*strips, strict=True))
    scan, listed = scan_bytes(levels, *c.size, c.subsampling, huffman, slots).unbind(-1)
    used = spent.sum((1, 2, 3)) + ends.sum(1)
    padding = -used % 8
    fixed, carried = header_bytes(c, metadata=False), header_bytes(c)

    def shaped(x: Tensor) -> Tensor:
        return x.view((*c.batch_shape, *x.shape[1:]))

    return Breakdown(
        coefficients=shaped(spent),
        end_of_block=shaped(ends),
        padding=shaped(padding),
        stuffing=shaped(8 * scan - used - padding),
        headers=8 * (shaped(listed) + fixed),
        metadata=8 * (carried - fixed),
    )


def _strips(
    levels: Sequence[Tensor], coefficients: Coefficients
) -> Iterator[tuple[list[Tensor], tuple[int, int]]]:
    """The levels of some rows of MCUs at once, and the size of that part of the image.

    What is subtracted from all DC levels of a component changes the first difference alone: it is the DC coded before.
    """
    height, width = coefficients.size
    rows, columns, factors = mcu_grid(coefficients.channels, coefficients.size, coefficients.subsampling)
    tall = 8 * max(v for _, v in factors)
    at_once = max(1, COEFFICIENTS_AT_ONCE * rows // max(1, sum(level.numel() for level in levels)))
    before = [level.new_zeros(len(level), dtype=torch.float64) for level in levels]
    for top in range(0, rows, at_once):
        count = min(at_once, rows - top)
        strip = []
        for i, (level, (h, v)) in enumerate(zip(levels, factors, strict=True)):
            part = whole(level[:, top * v : (top + count) * v]).double()
            order, _ = scan_order((part.shape[1], part.shape[2]), (count, columns), (h, v), part.device)
            last = part[..., 0, 0].flatten(1)[:, order[-1, -1]].clone()
            part[..., 0, 0] -= before[i][:, None, None]
            before[i] = last
            strip.append(part)
        yield strip, (min(tall * count, height - tall * top), width)


def _spent(symbols: Symbols, length: Tensor, coefficients: Coefficients) -> tuple[Tensor, Tensor]:
    """Bits per place ``[images, components, 8, 8]`` and of EOB ``[images, components]``.

    ``length`` is that of the codes, ``[images, tables, 256]``.
    """
    images, components, device = len(length), coefficients.channels, length.device
    _, _, factors = mcu_grid(components, coefficients.size, coefficients.subsampling)
    is_dc = symbols.table % 2 == 0
    block = is_dc.cumsum(0) - 1
    in_mcu = torch.arange(components).repeat_interleave(torch.tensor([h * v for h, v in factors]))
    plane = components * symbols.image + in_mcu.to(device)[block % len(in_mcu)]

    # Each AC symbol is its run and one place ahead of the symbol before it in the block.
    ahead = torch.where(is_dc, 0, 16 * symbols.zrl + (symbols.symbol >> 4) + 1).cumsum(0)
    zigzag = ahead - torch.where(is_dc, ahead, 0).cummax(0).values
    place = torch.tensor(ZIGZAG, device=device)[zigzag]

    own = length[symbols.image, symbols.table, symbols.symbol] + symbols.size
    before = symbols.zrl * length[symbols.image, symbols.table, ZRL]
    # An EOB may follow a DC, but is of the AC table.
    after = symbols.eob * length[symbols.image, symbols.table | 1, EOB]
    spent = length.new_zeros(images * components * 64).index_add_(0, 64 * plane + place, own + before)
    ends = length.new_zeros(images * components).index_add_(0, plane, after)
    return spent.view(images, components, 8, 8), ends.view(images, components)
