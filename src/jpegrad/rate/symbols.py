"""Quantized levels → the Huffman symbols of a baseline scan, without a sequential coder.

A symbol is a nonzero AC level with the run of zeros before it, or a DC difference. Both depend on neighbours only: the
run is the distance of two nonzero positions, the difference that of two DC levels in scan order.

Sources: ITU-T T.81 A.2, F.1.2; libjpeg-turbo ``jchuff.c``, ``jccoefct.c`` (dummy blocks).
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from jpegrad.spec import SUBSAMPLING
from jpegrad.tables import ZIGZAG

ZRL, EOB = 0xF0, 0x00
MAX_AC, MAX_DC_DIFFERENCE = 1023, 2047


def component_blocks(levels: Sequence[Tensor], size: tuple[int, int], subsampling: str) -> list[Tensor]:
    """``scan_order`` of every component: each ``[..., mcus, blocks of the component in an MCU, 64]``.

    A gray scan is not interleaved: its MCU is one block (T.81 A.2.2).
    """
    factors = [(1, 1)] if len(levels) == 1 else [SUBSAMPLING[subsampling], (1, 1), (1, 1)]
    h_max, v_max = factors[0]
    mcus = -(-size[0] // (8 * v_max)), -(-size[1] // (8 * h_max))
    return [scan_order(x, mcus, f) for x, f in zip(levels, factors, strict=True)]


def scan_order(levels: Tensor, mcus: tuple[int, int], factors: tuple[int, int]) -> Tensor:
    """Blocks of one component in the order of the interleaved scan, dummy blocks included, in zigzag.

    A dummy block repeats the DC level of the block coded before it in its row or, below the image, of the last
    block of the row above in the same MCU; its AC levels are 0.

    Args:
        levels: ``[..., blocks_y, blocks_x, 8, 8]``.
        mcus: rows and columns of MCUs.
        factors: sampling factors (h, v) of the component.

    Returns:
        ``[..., mcus_y·mcus_x, v·h, 64]``, int16.
    """
    h, v = factors
    rows, columns = mcus
    lead, (blocks_y, blocks_x) = levels.shape[:-4], levels.shape[-4:-2]
    blocks = levels.detach().to(torch.int16).flatten(-2)[..., list(ZIGZAG)]
    if blocks_x < columns * h:
        dummies = _dc_only(blocks[..., -1:, :]).expand(*lead, blocks_y, columns * h - blocks_x, 64)
        blocks = torch.cat([blocks, dummies], -2)
    if blocks_y < rows * v:
        last_of_mcu = _dc_only(blocks[..., -1:, h - 1 :: h, :]).repeat_interleave(h, -2)
        blocks = torch.cat([blocks, last_of_mcu.expand(*lead, rows * v - blocks_y, columns * h, 64)], -3)
    by_mcu = blocks.reshape(*lead, rows, v, columns, h, 64).transpose(-4, -3)
    return by_mcu.reshape(*lead, rows * columns, v * h, 64)


def _dc_only(blocks: Tensor) -> Tensor:
    return torch.cat([blocks[..., :1], torch.zeros_like(blocks[..., 1:])], -1)


def dc_differences(blocks: Tensor) -> Tensor:
    """DC levels minus the DC of the component's block before, in scan order; ``[..., n, m, 64]`` → ``[..., n, m]``."""
    dc = blocks[..., 0].flatten(-2)
    return torch.cat([dc[..., :1], dc[..., 1:] - dc[..., :-1]], -1).unflatten(-1, blocks.shape[-3:-1])


def size_category(values: Tensor) -> Tensor:
    """Bit length of integers in 0…2047 (T.81 Tables F.1 and F.2)."""
    size = torch.zeros_like(values)
    for bit in range(11):
        size += values >= 1 << bit
    return size


class Symbols(NamedTuple):
    """The DC and nonzero AC levels of a batch of scans, one entry for each, in scan order.

    ``image``, ``table`` (0 DC luma, 1 AC luma, 2 DC chroma, 3 AC chroma), ``symbol`` (run modulo 16 and size), ``size``
    and ``amplitude`` (the bits that follow the code: how many, and which), ``zrl`` (how many ZRL go before), ``eob``
    (whether an EOB comes after).
    """

    image: Tensor
    table: Tensor
    symbol: Tensor
    size: Tensor
    amplitude: Tensor
    zrl: Tensor
    eob: Tensor


def scan_symbols(levels: Sequence[Tensor], size: tuple[int, int], subsampling: str) -> Symbols:
    """Symbols of whole images in the order in which a baseline encoder writes them.

    Args:
        levels: one or three tensors ``[batch, blocks_y, blocks_x, 8, 8]`` of integers; AC beyond ±1023 and DC
            differences beyond ±2047 are clamped.
        size: height and width in pixels.
        subsampling: ``"4:4:4"``, ``"4:2:2"``, ``"4:2:0"``, ``"4:4:0"`` or ``"4:1:1"``.
    """
    components = component_blocks(levels, size, subsampling)
    ac = torch.cat(components, -2)[..., 1:].clamp(-MAX_AC, MAX_AC)
    dc = torch.cat([dc_differences(blocks) for blocks in components], -1).clamp(
        -MAX_DC_DIFFERENCE, MAX_DC_DIFFERENCE
    )
    values = torch.cat([dc.unsqueeze(-1), ac], -1)
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
    chroma = block % in_mcu >= components[0].shape[-2]
    return Symbols(
        image=block // (mcus * in_mcu),
        table=2 * chroma + (position > 0),
        symbol=(run & 15) << 4 | bits,
        size=bits,
        amplitude=torch.where(value < 0, value + (1 << bits) - 1, value),
        zrl=run >> 4,
        eob=ends_block & (position != 63),
    )
