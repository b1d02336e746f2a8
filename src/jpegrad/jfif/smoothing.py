"""Interblock smoothing: the first coefficients of a progressive file that no scan has sent in full, for viewers.

They are estimated from the DC levels around a block (libjpeg-turbo 3.2 ``jdcoefct.c``; after T.81 K.8).
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from jpegrad.jfif.frame import Component, Frame
from jpegrad.tables import ZIGZAG

SMOOTHED = 10
"""How many coefficients in zigzag order, DC included."""

_Kernel = list[list[int]]


def _turned(kernel: _Kernel) -> _Kernel:
    return [list(column) for column in zip(*kernel, strict=True)]


_NONE = [0] * 5
_SLOPE = [[-1, -1, 0, 1, 1], [-3, 13, 0, -13, 3], [-3, 38, 0, -38, 3], [-3, 13, 0, -13, 3], [-1, -1, 0, 1, 1]]
_BEND = [[0, 0, 1, 0, 0], [0, 2, 7, 2, 0], [0, -5, -14, -5, 0], [0, 2, 7, 2, 0], [0, 0, 1, 0, 0]]
_TWIST = [[-1, 0, 0, 0, 1], [0, 9, 0, -9, 0], _NONE, [0, -9, 0, 9, 0], [1, 0, 0, 0, -1]]
_THIRD = [_NONE, [0, 1, 0, -1, 0], [0, 2, 0, -2, 0], [0, 1, 0, -1, 0], _NONE]
_MIXED = [_NONE, [0, 1, -3, 1, 0], _NONE, [0, -1, 3, -1, 0], _NONE]
_MEAN = [
    [-2, -6, -8, -6, -2],
    [-6, 6, 42, 6, -6],
    [-8, 42, 152, 42, -8],
    [-6, 6, 42, 6, -6],
    [-2, -6, -8, -6, -2],
]
WITHOUT_AC = [
    *(_MEAN, _SLOPE, _turned(_SLOPE), _BEND, _TWIST, _turned(_BEND)),
    *(_THIRD, _MIXED, _turned(_MIXED), _turned(_THIRD)),
]
"""Weights of the 5×5 DC levels around a block in 1/256, of each smoothed coefficient; where AC was never sent."""

_SHORT_SLOPE = [_NONE, _NONE, [-7, 50, 0, -50, 7], _NONE, _NONE]
_SHORT_BEND = [_NONE, _NONE, [-1, 13, -24, 13, -1], _NONE, _NONE]
_SHORT_TWIST = [[0, -1, 0, 1, 0], [-1, 10, 0, -10, 1], _NONE, [1, -10, 0, 10, -1], [0, 1, 0, -1, 0]]
WITH_AC = [None, _SHORT_SLOPE, _turned(_SHORT_SLOPE), _turned(_SHORT_BEND), _SHORT_TWIST, _SHORT_BEND]
"""The same where some of it was."""


def smoothing(frame: Frame) -> tuple[Tensor, ...] | None:
    """What viewers add to the levels of each component, int32 ``[blocks_y, blocks_x, 8, 8]``; None if nothing."""
    components = frame.components
    if not frame.progressive or any(component.pending[0] < 0 for component in components):
        return None
    if any(0 in (component.table or (0,))[:SMOOTHED] for component in components):
        return None
    if not any(any(component.pending[1:SMOOTHED]) for component in components):
        return None
    return tuple(_correction(component, frame) for component in components)


def _correction(component: Component, frame: Frame) -> Tensor:
    rows, columns = component.blocks
    dc = component.stored[..., 0, 0].numpy().astype(np.int64)
    above_and_below = _rows(component)
    beside = np.clip(np.arange(columns) + np.arange(-2, 3)[:, None], 0, columns - 1)
    correction = np.zeros((rows, columns, 64), np.int32)
    levels = component.levels.numpy().reshape(rows, columns, 64)
    # Rows that the last scan did not reach are those of the scan before it.
    reached = min(rows, (frame.reached + 1) * component.header.v)
    before = component.before if frame.scans > 1 else [-1] * 64
    for bits, part in ((component.pending, slice(0, reached)), (before, slice(reached, rows))):
        around = (above_and_below[:, part], beside)
        _estimate(correction[part], levels[part], dc, around, bits, component.table or ())
    return torch.from_numpy(correction).view(rows, columns, 8, 8)


def _rows(component: Component) -> np.ndarray:
    """``[5, blocks_y]``: the rows of DC levels around each row of blocks, repeated at the borders.

    Rows below the picture that fill up its last MCUs count, but for the blocks of these MCUs.
    """
    rows, v = component.blocks[0], component.header.v
    mcus = component.padded[0] // v
    around = np.empty((5, rows), np.int64)
    for row in range(rows):
        high = rows - v * (mcus - 1) if row // v == mcus - 1 else v
        # As libjpeg counts rows; in the last row of MCUs it counts as if all others were as low.
        here, end = row // v * high + row % v, high * mcus
        above = row - (here > 0)
        below = row + (here < end - 1)
        around[:, row] = (
            row - 2 if here > 1 else above,
            above,
            row,
            below,
            row + 2 if here < end - 2 else below,
        )
    return around


def _estimate(
    correction: np.ndarray,
    levels: np.ndarray,
    dc: np.ndarray,
    around: tuple[np.ndarray, np.ndarray],
    bits: Sequence[int],
    table: Sequence[int],
) -> None:
    """Fill in the correction of some rows, of which ``bits`` has how many low bits of each coefficient are missing."""
    never = all(missing == -1 for missing in bits[1:SMOOTHED])
    for k, kernel in enumerate(WITHOUT_AC if never else WITH_AC):
        if kernel is None or (k > 0 and bits[k] == 0):
            continue
        total = np.zeros(levels.shape[:2], np.int64)
        for y, weights in enumerate(kernel):
            for x, weight in enumerate(weights):
                if weight:
                    total += weight * dc[around[0][y]][:, around[1][x]]
        size = (table[k] * 128 + np.abs(total) * table[0]) // (table[k] * 256)
        if k > 0 and bits[k] > 0:
            # What was sent says that it is smaller.
            size = np.minimum(size, (1 << bits[k]) - 1)
        estimate = (np.sign(total) * size).astype(np.int16)
        here = levels[..., ZIGZAG[k]]
        correction[..., ZIGZAG[k]] = np.where((here == 0) | (k == 0), estimate.astype(np.int32) - here, 0)
