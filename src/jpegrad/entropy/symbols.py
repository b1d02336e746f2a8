"""Quantized levels → the Huffman symbols of a baseline scan, without a sequential coder.

A symbol is a nonzero AC level with the run of zeros before it, or a DC difference. Both depend on neighbours only: the
run is the distance of two nonzero positions, the difference that of two DC levels in scan order.

Sources: ITU-T T.81 A.2, F.1.2; libjpeg-turbo ``jchuff.c``, ``jccoefct.c`` (dummy blocks).
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from jpegrad.sampling import Factors, ceil_div, sampling_factors
from jpegrad.tables import ZIGZAG

ZRL, EOB = 0xF0, 0x00
MAX_AC, MAX_DC_DIFFERENCE, MAX_LEVEL = 1023, 2047, 32767
MAX_BLOCKS_IN_MCU = 10
LUMA_CHROMA = (0, 1, 1, 0)
"""Slots of Huffman tables, a DC and an AC one in each, of Y, Cb, Cr and K; of gray the first."""
ONE_SLOT = (0, 0, 0, 0)


def huffman_slots(space: str) -> tuple[int, ...]:
    """Which slot the components of a colour space use (``jcparam.c``, ``jpeg_set_colorspace``)."""
    return ONE_SLOT if space in ("RGB", "CMYK") else LUMA_CHROMA


def table_count(components: int, slots: Sequence[int]) -> int:
    """How many Huffman tables code so many components."""
    return 2 * (max(slots[:components]) + 1)


def mcu_grid(components: int, size: tuple[int, int], subsampling: str) -> tuple[int, int, Factors]:
    """Rows and columns of MCUs, and the sampling factors (h, v) of each component.

    A gray scan is not interleaved: its MCU is one block (T.81 A.2.2).

    Raises:
        ValueError: sampling factors for which no scan can have all components (T.81 B.2.3).
    """
    factors = sampling_factors(components, subsampling)
    if (blocks := sum(h * v for h, v in factors)) > MAX_BLOCKS_IN_MCU:
        raise ValueError(
            f"subsampling: expected at most {MAX_BLOCKS_IN_MCU} blocks in an MCU of one interleaved scan, "
            f"got {blocks} of {subsampling}"
        )
    across, down = max(h for h, _ in factors), max(v for _, v in factors)
    return ceil_div(size[0], 8 * down), ceil_div(size[1], 8 * across), factors


def scan_order(
    blocks: tuple[int, int],
    mcus: tuple[int, int],
    factors: tuple[int, int],
    device: torch.device | None = None,
) -> tuple[Tensor, Tensor]:
    """Which block of a component each place of the interleaved scan holds, row-major within the MCU.

    A dummy block, past the right or the lower border of the component, has AC levels 0 and repeats the DC level coded
    before it: the last of its row or, in a row below the image, of the row above in the same MCU.

    Args:
        blocks: (blocks_y, blocks_x) of the component.
        mcus: rows and columns of MCUs.
        factors: sampling factors (h, v).

    Returns:
        index ``[mcus_y·mcus_x, v·h]`` of the block whose DC stands there, row-major; whether it is a dummy.
    """
    h, v = factors
    last_y, last_x = blocks[0] - 1, blocks[1] - 1
    y = torch.arange(mcus[0] * v, device=device).view(-1, 1, v, 1)
    x = torch.arange(mcus[1] * h, device=device).view(1, -1, 1, h)
    x = torch.where(y > last_y, x // h * h + h - 1, x)
    index = y.clamp(max=last_y) * blocks[1] + x.clamp(max=last_x)
    dummy = (y > last_y) | (x > last_x)
    return index.flatten(2).flatten(0, 1), dummy.flatten(2).flatten(0, 1)


def whole(levels: Tensor) -> Tensor:
    """What levels count as: rounded, beyond ±32767 clamped, 0 for NaN; without a gradient."""
    real = levels.detach() if levels.dtype is torch.float64 else levels.detach().float()
    return real.nan_to_num(0.0).clamp(-MAX_LEVEL, MAX_LEVEL).round()


def in_scan_order(levels: Sequence[Tensor], size: tuple[int, int], subsampling: str) -> list[Tensor]:
    """Zigzag blocks of each component, with dummies, clamped to ±2047: ``[..., mcus, blocks in an MCU, 64]``, int16."""
    rows, columns, factors = mcu_grid(len(levels), size, subsampling)
    ordered = []
    for component, h_v in zip(levels, factors, strict=True):
        index, dummy = scan_order(
            (component.shape[-4], component.shape[-3]), (rows, columns), h_v, component.device
        )
        clamped = component.detach().clamp(-MAX_DC_DIFFERENCE, MAX_DC_DIFFERENCE).to(torch.int16)
        blocks = clamped.flatten(-2)[..., list(ZIGZAG)].flatten(-3, -2)[..., index, :]
        blocks[..., 1:].masked_fill_(dummy.unsqueeze(-1), 0)
        ordered.append(blocks)
    return ordered


def dc_differences(levels: Sequence[Tensor], size: tuple[int, int], subsampling: str) -> list[Tensor]:
    """DC of each block minus the DC coded before it in its component: ``[..., mcus, blocks in an MCU]``, any dtype."""
    rows, columns, factors = mcu_grid(len(levels), size, subsampling)
    differences = []
    for component, h_v in zip(levels, factors, strict=True):
        index, _ = scan_order(
            (component.shape[-4], component.shape[-3]), (rows, columns), h_v, component.device
        )
        dc = component[..., 0, 0].flatten(-2)[..., index.flatten()]
        differences.append(
            torch.cat([dc[..., :1], dc[..., 1:] - dc[..., :-1]], -1).unflatten(-1, index.shape)
        )
    return differences


def size_category(values: Tensor) -> Tensor:
    """Bit length of integers in 0…2047 (T.81 Tables F.1 and F.2)."""
    size = torch.zeros_like(values)
    for bit in range(11):
        size += values >= 1 << bit
    return size


class Symbols(NamedTuple):
    """The DC and nonzero AC levels of a batch of scans, one entry for each, in scan order.

    ``image``, ``table`` (0 DC and 1 AC of slot 0, 2 DC and 3 AC of slot 1), ``symbol`` (run modulo 16 and size),
    ``size`` and ``amplitude`` (the bits that follow the code: how many, and which), ``zrl`` (how many ZRL go before),
    ``eob`` (whether an EOB comes after).
    """

    image: Tensor
    table: Tensor
    symbol: Tensor
    size: Tensor
    amplitude: Tensor
    zrl: Tensor
    eob: Tensor


def scan_symbols(
    levels: Sequence[Tensor],
    size: tuple[int, int],
    subsampling: str,
    slots: Sequence[int] = LUMA_CHROMA,
) -> Symbols:
    """Symbols of whole images in the order in which a baseline encoder writes them.

    Args:
        levels: of each component ``[batch, blocks_y, blocks_x, 8, 8]`` of integers; AC beyond ±1023 and DC
            differences beyond ±2047 are clamped.
        size: height and width in pixels.
        subsampling: as :class:`~jpegrad.Coefficients` has it.
        slots: as :func:`huffman_slots` gives them.
    """
    components = in_scan_order(levels, size, subsampling)
    values = torch.cat(components, -2).clamp_(-MAX_AC, MAX_AC)
    dc = torch.cat(dc_differences([x.detach() for x in levels], size, subsampling), -1)
    values[..., 0] = dc.clamp(-MAX_DC_DIFFERENCE, MAX_DC_DIFFERENCE)
    mcus, in_mcu = values.shape[1:3]

    coded = values != 0
    coded[..., 0] = True
    index = coded.flatten().nonzero().squeeze(1)
    value = values.flatten()[index].int()
    block, position = index >> 6, index & 63
    # An entry's predecessor lies in the same block, as every block has its DC; the DC itself has no run.
    run = torch.where(position > 0, index.diff(prepend=index[:1]) - 1, 0).int()
    bits = size_category(value.abs())
    ends_block = torch.cat([block[1:] != block[:-1], coded.new_ones(1)])
    each = [slots[i] for i, blocks in enumerate(components) for _ in range(blocks.shape[-2])]
    slot = torch.tensor(each, device=block.device)[block % in_mcu]
    return Symbols(
        image=block // (mcus * in_mcu),
        table=2 * slot + (position > 0),
        symbol=(run & 15) << 4 | bits,
        size=bits,
        amplitude=torch.where(value < 0, value + (1 << bits) - 1, value),
        zrl=run >> 4,
        eob=ends_block & (position != 63),
    )
