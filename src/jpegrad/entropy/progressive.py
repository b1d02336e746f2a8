"""Progressive scans → Huffman symbols, one block after the other; the reference of the native coder.

Sources: ITU-T T.81 G.1.2; libjpeg-turbo ``jcphuff.c``.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from jpegrad.entropy.script import ProgressiveScan
from jpegrad.entropy.symbols import MAX_AC, MAX_DC_DIFFERENCE, ZRL, mcu_grid, scan_order
from jpegrad.tables import ZIGZAG

LONGEST_RUN = 0x7FFF
"""Blocks in one run of ended bands."""
MAX_OWED = 937
"""Correction bits that wait for the end of a run; with more of them libjpeg ends it, as its buffer has 1000."""


class Symbol(NamedTuple):
    """A Huffman symbol and the bits behind it."""

    component: int
    symbol: int | None
    """None for bits without a code."""
    bits: str


def progressive_symbols(
    levels: Sequence[Tensor], size: tuple[int, int], subsampling: str, scan: ProgressiveScan
) -> list[Symbol]:
    """What a scan of one image sends, in order.

    Args:
        levels: of all components, ``[blocks_y, blocks_x, 8, 8]``, integers within ±32767; those for which there is no
            symbol count as the nearest that have one.
        size: height and width in pixels.
        subsampling: as :class:`~jpegrad.Coefficients` has it.
        scan: a scan.
    """
    if scan.first == 0:
        return _dc(levels, size, subsampling, scan)
    (component,) = scan.components
    blocks = levels[component].long().flatten(-2).flatten(0, -2)[:, list(ZIGZAG[scan.first : scan.last + 1])]
    magnitudes = (blocks.abs() >> scan.low).tolist()
    coder = _refine_ac if scan.high else _first_ac
    return coder(component, magnitudes, (blocks < 0).tolist())


def dc_in_scan_order(
    levels: Sequence[Tensor], size: tuple[int, int], subsampling: str, components: Sequence[int]
) -> list[Tensor]:
    """DC levels of a scan's components ``[mcus, blocks in an MCU]``, dummies included, which one component has none."""
    if len(components) == 1:
        return [levels[components[0]][..., 0, 0].reshape(-1, 1)]
    rows, columns, factors = mcu_grid(len(levels), size, subsampling)
    found = []
    for i in components:
        index, _ = scan_order((levels[i].shape[0], levels[i].shape[1]), (rows, columns), factors[i])
        found.append(levels[i][..., 0, 0].flatten()[index])
    return found


def _dc(
    levels: Sequence[Tensor], size: tuple[int, int], subsampling: str, scan: ProgressiveScan
) -> list[Symbol]:
    ordered = [dc.long() >> scan.low for dc in dc_in_scan_order(levels, size, subsampling, scan.components)]
    component = np.repeat(scan.components, [dc.shape[1] for dc in ordered]).tolist()
    if scan.high:
        bits = torch.cat(ordered, 1) & 1
        return [
            Symbol(i, None, str(bit)) for row in bits.tolist() for i, bit in zip(component, row, strict=True)
        ]
    differences = []
    for dc in ordered:
        row = dc.flatten()
        difference = torch.cat([row[:1], row.diff()]).clamp(-MAX_DC_DIFFERENCE, MAX_DC_DIFFERENCE)
        differences.append(difference.view_as(dc))
    found = []
    for mcu in torch.cat(differences, 1).tolist():
        for i, difference in zip(component, mcu, strict=True):
            found.append(Symbol(i, *_number(abs(difference), difference < 0)))
    return found


def _number(magnitude: int, negative: bool) -> tuple[int, str]:
    """Size category and amplitude bits (T.81 F.1.2.1)."""
    size = magnitude.bit_length()
    return size, f"{magnitude ^ (1 << size) - 1 if negative else magnitude:0{size}b}" if size else ""


def _ends(component: int, run: int, owed: str) -> list[Symbol]:
    """The end of the bands of ``run`` blocks (EOBn), and the correction bits of these blocks."""
    if not run:
        return []
    size = run.bit_length() - 1
    return [Symbol(component, size << 4, f"{run:b}"[1:]), *([Symbol(component, None, owed)] if owed else [])]


def _first_ac(component: int, magnitudes: list[list[int]], negative: list[list[bool]]) -> list[Symbol]:
    found, ended = [], 0
    for block, signs in zip(magnitudes, negative, strict=True):
        run = 0
        for magnitude, sign in zip(block, signs, strict=True):
            if not magnitude:
                run += 1
                continue
            found += _ends(component, ended, "")
            ended = 0
            found += [Symbol(component, ZRL, "")] * (run >> 4)
            size, bits = _number(min(magnitude, MAX_AC), sign)
            found.append(Symbol(component, (run & 15) << 4 | size, bits))
            run = 0
        if run:
            ended += 1
            if ended == LONGEST_RUN:
                found += _ends(component, ended, "")
                ended = 0
    return found + _ends(component, ended, "")


def _refine_ac(component: int, magnitudes: list[list[int]], negative: list[list[bool]]) -> list[Symbol]:
    found: list[Symbol] = []
    ended, owed = 0, ""
    for block, signs in zip(magnitudes, negative, strict=True):
        # Zeros of a run that no fresh level follows belong to the end of the band.
        last = max((k for k, magnitude in enumerate(block) if magnitude == 1), default=-1)
        run, corrections = 0, ""
        for k, (magnitude, sign) in enumerate(zip(block, signs, strict=True)):
            if not magnitude:
                run += 1
                continue
            while run > 15 and k <= last:
                found += _ends(component, ended, owed)
                ended, owed = 0, ""
                found.append(Symbol(component, ZRL, corrections))
                run, corrections = run - 16, ""
            if magnitude > 1:
                corrections += str(magnitude & 1)
                continue
            found += _ends(component, ended, owed)
            ended, owed = 0, ""
            found.append(Symbol(component, run << 4 | 1, f"{1 - sign}{corrections}"))
            run, corrections = 0, ""
        if run or corrections:
            ended += 1
            owed += corrections
            if ended == LONGEST_RUN or len(owed) > MAX_OWED:
                found += _ends(component, ended, owed)
                ended, owed = 0, ""
    return found + _ends(component, ended, owed)
