"""The native entropy coders: the data of one scan of a .jpg file ↔ levels."""

from collections.abc import Sequence
from ctypes import addressof, byref, create_string_buffer, string_at

import torch
from torch import Tensor

from jpegrad.backends.native import abi

# In the order of the kernel's enums.
PROCESSES = ("sequential", "progressive")
DAMAGES = (
    "",
    "ends early",
    "no code",
    "bad run",
    "bad DC",
    "bad AC",
    "bad symbol",
    "restart order",
    "restarts missing",
)

FAULTS = (None, "bad level", "no memory")
TYPES = {torch.float32: 1, torch.float64: 2, torch.int16: 3}


def decode_scan(
    data: bytes,
    position: int,
    grids: Sequence[tuple[Tensor, int, int, int, int]],
    mcus: tuple[int, int],
    restart_interval: int,
    process: str,
    sent: tuple[int, int, int, int],
    tables: bytes,
    *,
    arithmetic: bool = False,
    lenient: bool = False,
) -> tuple[tuple[str, ...], int, int, int]:
    """Decode into the levels of ``grids``.

    Args:
        data: the file.
        position: where the entropy-coded data begins.
        grids: one to four components: levels ``[blocks_y, blocks_x, 8, 8]``, int16, contiguous, natural order, 0 before
            the first scan; blocks of an MCU, horizontally and vertically; which DC and AC tables, 0 to 3, of arithmetic
            coding 0 to 15.
        mcus: rows and columns.
        restart_interval: in MCUs, or 0.
        process: one of :data:`PROCESSES`.
        sent: first and last place of the coefficients, high and low bit.
        tables: of Huffman codes DC tables 0 to 3, AC tables 0 to 3: of each 16 counts of code lengths and 256 symbols,
            a prefix code; of arithmetic coding 16 lower and 16 upper bounds of DC, 0 to 15, 16 Kx of AC, 1 to 63.
        arithmetic: which of the two.
        lenient: whether to go on after damage, as libjpeg does.

    Returns:
        The damages, each one of :data:`DAMAGES`, or the first; where the data ends; how many restart intervals were
        found; the last row of MCUs for which there were data.
    """
    components = (abi.ScanComponent * 4)(
        *(abi.ScanComponent(levels.data_ptr(), *levels.shape[:2], *rest) for levels, *rest in grids)
    )
    scan = abi.Scan(
        data=data,
        size=len(data),
        position=position,
        restart_interval=restart_interval,
        lenient=lenient,
        components=components,
        tables=tables,
        **_sent(grids, mcus, process, sent),
    )
    library = abi.library()
    run = library.jpegrad_decode_arithmetic_scan if arithmetic else library.jpegrad_decode_scan
    first_damage = run(None, byref(scan))
    found = 1 << first_damage if first_damage else scan.damages
    damages = tuple(word for i, word in enumerate(DAMAGES) if i and found >> i & 1)
    return damages, scan.position, scan.intervals, scan.reached


def encode_scan(
    grids: Sequence[tuple[Tensor, int, int, int, int]],
    mcus: tuple[int, int],
    process: str,
    sent: tuple[int, int, int, int],
    tables: bytes | None,
    *,
    clamp: bool = False,
) -> tuple[bytes, bytes] | None:
    """Huffman tables and coded data of one scan.

    Args:
        grids: one to four components: levels ``[blocks_y, blocks_x, 8, 8]``, natural order; blocks of an MCU,
            horizontally and vertically; which DC and AC tables, 0 to 3.
        mcus: rows and columns.
        process: one of :data:`PROCESSES`.
        sent: first and last place of the coefficients, high and low bit.
        tables: as in :func:`decode_scan`, with codes of all symbols; None to make them for the scan.
        clamp: take the nearest levels that a file holds, instead of refusing others.

    Returns:
        The tables, empty where the scan needs none, and the data without a marker behind it; None if a level is no
        integer, or none that the process can code.

    Raises:
        MemoryError: there is no room for the data.
    """
    levels = [_readable(each) for each, *_ in grids]
    components = (abi.CodedComponent * 4)(
        *(
            abi.CodedComponent(each.data_ptr(), *each.shape[:2], *rest, TYPES[each.dtype])
            for each, (_, *rest) in zip(levels, grids, strict=True)
        )
    )
    room = create_string_buffer(tables or b"", 8 * 272)
    scan = abi.CodedScan(
        optimize=tables is None,
        clamp=clamp,
        components=components,
        tables=addressof(room),
        **_sent(grids, mcus, process, sent),
    )
    library = abi.library()
    try:
        fault = FAULTS[library.jpegrad_encode_scan(None, byref(scan))]
        if fault == "no memory":
            raise MemoryError("jpegrad native encode_scan: no memory for the coded data")
        return None if fault else (room.raw, string_at(scan.data, scan.size))
    finally:
        library.jpegrad_release_scan(None, byref(scan))


def _sent(
    grids: Sequence[object], mcus: tuple[int, int], process: str, sent: tuple[int, int, int, int]
) -> dict[str, int]:
    """What a scan sends, as the kernel's structures say it."""
    numbers = (len(grids), *mcus, PROCESSES.index(process), *sent)
    names = ("count", "mcu_rows", "mcu_columns", "process", "first", "last", "high", "low")
    return dict(zip(names, numbers, strict=True))


def _readable(levels: Tensor) -> Tensor:
    if levels.dtype not in TYPES:
        # Of integers float64 has all that a file can hold, and of smaller floating-point types float32 all.
        levels = levels.to(torch.float32 if levels.is_floating_point() else torch.float64)
    return levels.contiguous()
