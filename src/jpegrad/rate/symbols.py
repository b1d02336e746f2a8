"""Quantized levels → the Huffman symbols of a baseline scan, in scan order, without a sequential coder.

Every coefficient position of a block holds at most one symbol: position 0 the DC size; a nonzero AC its (run, size);
every 16th zero of a run that goes on to another nonzero a ZRL; position 63, if it is zero, the EOB. So the symbols of
an image are a dense array with 64 places per block, many of them empty.

Sources: ITU-T T.81 F.1.2; libjpeg-turbo ``jchuff.c``, ``jccoefct.c`` (dummy blocks).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from jpegrad.spec import SUBSAMPLING
from jpegrad.tables import ZIGZAG

ZRL = 0xF0
EOB = 0x00
NO_SYMBOL = 1024
"""One flat alphabet: DC luma 0…, AC luma 256…, DC chroma 512…, AC chroma 768…, then the empty place."""
MAX_AC, MAX_DC_DIFFERENCE = 1023, 2047


def sampling_factors(components: int, subsampling: str) -> list[tuple[int, int]]:
    """(h, v) of every component; a gray scan is not interleaved, so its factors do not matter (T.81 A.2.2)."""
    return [(1, 1)] if components == 1 else [SUBSAMPLING[subsampling], (1, 1), (1, 1)]


def scan_order(levels: Tensor, mcus: tuple[int, int], factors: tuple[int, int]) -> Tensor:
    """Blocks of one component in the order of the interleaved scan, dummy blocks included, coefficients in zigzag.

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
    return blocks.unflatten(-2, (columns, h)).unflatten(-4, (rows, v)).transpose(-4, -3).flatten(-3, -2).flatten(-4, -3)


def _dc_only(blocks: Tensor) -> Tensor:
    return torch.cat([blocks[..., :1], torch.zeros_like(blocks[..., 1:])], -1)


def running_maximum(x: Tensor) -> Tensor:
    """Running maximum over the last dimension of a non-negative tensor of 64 (six doubling steps)."""
    for shift in (1, 2, 4, 8, 16, 32):
        x = torch.cat([x[..., :shift], torch.maximum(x[..., shift:], x[..., :-shift])], -1)
    return x


def size_category(values: Tensor) -> Tensor:
    """Bit length of non-negative integers below 2048, int16 (T.81 Tables F.1 and F.2)."""
    size = torch.zeros_like(values, dtype=torch.int16)
    for bit in range(11):
        size += values >= 1 << bit
    return size


def block_symbols(blocks: Tensor, table: int) -> tuple[Tensor, Tensor]:
    """Symbols and amplitudes of one component's blocks in scan order.

    Args:
        blocks: ``[..., n, m, 64]``, zigzag, DC levels not yet differences.
        table: 0 for luma, 1 for chroma: which pair of Huffman tables codes it.

    Returns:
        symbols ``[..., n, m, 64]`` in the flat alphabet, int16; the amplitude bits that follow each (symbol & 15 of
        them), int16.
    """
    dc = blocks[..., 0].flatten(-2)
    difference = torch.cat([dc[..., :1], dc[..., 1:] - dc[..., :-1]], -1).view_as(blocks[..., 0])
    difference = difference.clamp(-MAX_DC_DIFFERENCE, MAX_DC_DIFFERENCE)
    values = torch.cat([difference.unsqueeze(-1), blocks[..., 1:].clamp(-MAX_AC, MAX_AC)], -1)
    size = size_category(values.abs())
    amplitude = torch.where(values < 0, values + (1 << size) - 1, values)

    nonzero = blocks[..., 1:] != 0
    position = torch.arange(64, dtype=torch.int8, device=blocks.device)
    # The DC sits at position 0, where a run may begin.
    seen = running_maximum(torch.cat([torch.zeros_like(blocks[..., :1], dtype=torch.int8), nonzero * position[1:]], -1))
    run = (position[1:] - 1 - seen[..., :-1]) & 15
    # At a zero the size is 0, so that the 16th zero of a run reads as ZRL by itself.
    ac = run.to(torch.int16) << 4 | size[..., 1:]
    kept = nonzero | ((ac == ZRL) & (position[1:] < seen[..., -1:]))
    ac = torch.where(kept, ac + (512 * table + 256), NO_SYMBOL)
    end = torch.where(nonzero[..., -1:], ac[..., -1:], EOB + 512 * table + 256)
    return torch.cat([size[..., :1] + 512 * table, ac[..., :-1], end], -1), amplitude


def component_blocks(levels: Sequence[Tensor], size: tuple[int, int], subsampling: str) -> list[Tensor]:
    """``scan_order`` of every component: each ``[..., mcus, blocks of the component in an MCU, 64]``."""
    factors = sampling_factors(len(levels), subsampling)
    h_max, v_max = factors[0]
    mcus = -(-size[0] // (8 * v_max)), -(-size[1] // (8 * h_max))
    return [scan_order(x, mcus, f) for x, f in zip(levels, factors)]


def image_symbols(levels: Sequence[Tensor], size: tuple[int, int], subsampling: str) -> tuple[Tensor, Tensor]:
    """Symbols and amplitudes of whole images in the order a baseline encoder writes them.

    Args:
        levels: one or three tensors ``[..., blocks_y, blocks_x, 8, 8]`` of integers, the same leading dimensions.
        size: height and width in pixels.
        subsampling: ``"4:4:4"``, ``"4:2:2"``, ``"4:2:0"``, ``"4:4:0"`` or ``"4:1:1"``.

    Returns:
        symbols and amplitudes, ``[..., places]``, int16.
    """
    components = component_blocks(levels, size, subsampling)
    coded = [block_symbols(blocks, min(c, 1)) for c, blocks in enumerate(components)]
    symbols, amplitudes = (torch.cat(part, -2).flatten(-3) for part in zip(*coded))
    return symbols, amplitudes
