"""The entropy-coded data of one scan: decoded by the native kernel where there is one, else here."""

from array import array
from dataclasses import dataclass, field
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from jpegrad import backends
from jpegrad.entropy.huffman import HuffmanTable
from jpegrad.jfif import arithmetic, progressive
from jpegrad.jfif.errors import Note
from jpegrad.jfif.frame import Component, mcu_grid
from jpegrad.jfif.intervals import find_interval, interval, marker_at, next_marker
from jpegrad.jfif.lookup import NO_CODES, lookup
from jpegrad.jfif.segments import RESTARTS, ScanHeader
from jpegrad.jfif.sequential import (
    BAD_AC,
    BAD_DC,
    BAD_RUN,
    BAD_SYMBOL,
    END_OF_DATA,
    NO_CODE,
    Done,
    Part,
    bits,
    decode_sequential,
)
from jpegrad.tables import ZIGZAG

NO_TABLE = HuffmanTable((0,) * 16, ())
WORDS = {
    "ends early": END_OF_DATA,
    "no code": NO_CODE,
    "bad run": BAD_RUN,
    "bad DC": BAD_DC,
    "bad AC": BAD_AC,
    "bad symbol": BAD_SYMBOL,
    "restart order": "corrupt: restart markers are out of order",
    "restarts missing": "truncated: restart intervals are missing",
}
"""What the kernel's damages are called."""


@dataclass
class Scan:
    """A scan whose headers are checked.

    Args:
        header: what it sends of which components.
        components: these.
        progressive: whether its frame is.
        restart_interval: in MCUs, or 0.
        strict: whether to stop at the first damage.
        note: is told of damage; a strict one raises.
        dc, ac: the Huffman tables that it needs, by slot.
        conditioning: of arithmetic coding, 16 lower and 16 upper bounds of DC, 16 Kx of AC; else None.
    """

    header: ScanHeader
    components: list[Component]
    progressive: bool
    restart_interval: int
    strict: bool
    note: Note
    dc: dict[int, HuffmanTable] = field(default_factory=dict)
    ac: dict[int, HuffmanTable] = field(default_factory=dict)
    conditioning: bytes | None = None

    def mcus(self) -> int:
        return prod(mcu_grid(self.components))

    def blocks_in_mcu(self) -> list[int]:
        """Of each component."""
        one = len(self.components) == 1
        return [1 if one else c.header.h * c.header.v for c in self.components]


def decode_scan(data: bytes, start: int, scan: Scan) -> tuple[int, int]:
    """Decode the data that begins at ``start`` into the components' levels.

    Returns:
        Where the scan ends, and the last row of its MCUs for which there were data.
    """
    kernel = backends.kernel("decode_scan", scan.components[0].stored)
    if kernel is None:
        return _decode_scan(data, start, scan)
    one = len(scan.components) == 1
    grids = [
        (c.stored, *((1, 1) if one else (c.header.h, c.header.v)), selected.dc, selected.ac)
        for c, selected in zip(scan.components, scan.header.components, strict=True)
    ]
    tables = scan.conditioning or b"".join(
        _packed(tables.get(slot, NO_TABLE)) for tables in (scan.dc, scan.ac) for slot in range(4)
    )
    damages, end, intervals, reached = kernel(
        data,
        start,
        grids,
        mcu_grid(scan.components),
        scan.restart_interval,
        "progressive" if scan.progressive else "sequential",
        scan.header[1:],
        tables,
        arithmetic=scan.conditioning is not None,
        lenient=not scan.strict,
    )
    for damage in damages:
        scan.note(_words(damage, intervals, scan))
    return end, reached


def _words(damage: str, intervals: int, scan: Scan) -> str:
    """What damage is called, where so many restart intervals were found."""
    if scan.strict and damage == "restart order":
        return f"corrupt: restart marker {intervals - 1} is out of order"
    if scan.strict and damage == "restarts missing":
        expected = -(-scan.mcus() // scan.restart_interval)
        return f"truncated: {intervals} restart intervals, expected {expected}"
    return WORDS[damage]


@lru_cache(maxsize=32)
def _packed(table: HuffmanTable) -> bytes:
    return bytes(table.counts) + bytes(table.symbols).ljust(256, b"\0")


def _decode_scan(data: bytes, start: int, scan: Scan) -> tuple[int, int]:
    """The same in Python, on levels in zigzag order of blocks that fill whole MCUs."""
    offsets, columns = _block_offsets(scan), mcu_grid(scan.components)[1]
    mcu = _parts(scan) if scan.conditioning is None else _arithmetic_parts(scan)
    step = scan.restart_interval or len(offsets)
    at, intervals, reached, stopped = start, 1, 0, False
    for first in range(0, len(offsets), step):
        # libjpeg notes the row before it looks for the restart.
        noted = 0 if stopped else 1
        if first:
            due, marker = (intervals - 1) % 8, marker_at(data, at)
            if marker != RESTARTS[due]:
                damage = "restart order" if marker in RESTARTS else "restarts missing"
                scan.note(_words(damage, intervals, scan))
            at, found = find_interval(data, at, due)
            stopped = stopped and not found
            intervals += 1
        coded, at = interval(data, at)
        if not stopped:
            done, stopped = _decode_interval(coded, offsets[first : first + step].ravel().tolist(), mcu, scan)
            if done + noted > 1:
                reached = (first + done - 1) // columns
    while (marker := marker_at(data, at)) in RESTARTS:
        if marker != RESTARTS[(intervals - 1) % 8]:
            scan.note(_words("restart order", intervals, scan))
        intervals += 1
        at = next_marker(data, at + 2)
    for component in scan.components:
        _show(component)
    return at, reached


def _decode_interval(coded: bytes, offsets: list[int], mcu: list[Any], scan: Scan) -> Done:
    _, first, last, high, low = scan.header
    if scan.conditioning is not None:
        coder = arithmetic.Decoder(coded, mcu, scan.conditioning, scan.note)
        coder.decode(offsets, first, last, high, low, scan.progressive)
        return len(offsets) // len(mcu), False
    data = bits(coded)
    if not scan.progressive:
        return decode_sequential(data, offsets, mcu, scan.note)
    if first == 0:
        decode_dc = progressive.decode_dc_refine if high else progressive.decode_dc_first
        return decode_dc(data, offsets, mcu, low, scan.note)
    decode_ac = progressive.decode_ac_refine if high else progressive.decode_ac_first
    return decode_ac(data, offsets, mcu[0], first, last, low, scan.note)


def _parts(scan: Scan) -> list[Part]:
    """The blocks of one MCU, each with the Huffman tables that its scan needs."""
    mcu = []
    for index, (component, selected, blocks) in enumerate(
        zip(scan.components, scan.header.components, scan.blocks_in_mcu(), strict=True)
    ):
        dc, ac = scan.dc.get(selected.dc), scan.ac.get(selected.ac)
        tables = [NO_CODES if table is None else lookup(table) for table in (dc, ac)]
        mcu += [Part(index, _zigzag(component), *tables)] * blocks
    return mcu


def _arithmetic_parts(scan: Scan) -> list[arithmetic.Part]:
    mcu = []
    for index, (component, selected, blocks) in enumerate(
        zip(scan.components, scan.header.components, scan.blocks_in_mcu(), strict=True)
    ):
        mcu += [arithmetic.Part(index, _zigzag(component), selected.dc, selected.ac)] * blocks
    return mcu


def _zigzag(component: Component) -> "array[int]":
    if component.zigzag is None:
        # A corrupt run may step up to 15 coefficients past the last block before it is noticed.
        component.zigzag = array("h", bytes(2 * (prod(component.padded) * 64 + 16)))
    return component.zigzag


def _show(component: Component) -> None:
    """Bring the decoded levels into the result."""
    columns = component.blocks[1]
    zigzag = np.frombuffer(_zigzag(component), np.int16, prod(component.padded) * 64)
    levels = component.stored.numpy().reshape(-1, columns, 64)
    levels[..., list(ZIGZAG)] = zigzag.reshape(*component.padded, 64)[:, :columns]


def _block_offsets(scan: Scan) -> np.ndarray:
    """Where each block begins in its component's coefficients, in scan order, ``[MCUs, blocks per MCU]``."""
    if len(scan.components) == 1:
        (component,) = scan.components
        rows, columns = component.blocks
        grid = np.arange(rows)[:, None] * component.padded[1] + np.arange(columns)
        return 64 * grid.reshape(-1, 1)
    parts = []
    for component in scan.components:
        rows, columns = component.padded
        h, v = component.header.h, component.header.v
        grid = np.arange(rows * columns).reshape(rows // v, v, columns // h, h)
        parts.append(grid.transpose(0, 2, 1, 3).reshape(-1, v * h))
    return 64 * np.concatenate(parts, axis=1)
