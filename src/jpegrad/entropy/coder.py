"""The scans of one image as bytes, with the Huffman tables that code them: by the native kernel, else here.

Sources: ITU-T T.81 B.1.1.5, F.1.2, G.1.2; libjpeg-turbo ``jchuff.c``, ``jcphuff.c``, ``jcmarker.c``.
"""

import itertools
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from jpegrad import backends
from jpegrad.entropy.huffman import DEFAULT, HuffmanTable, code_book, optimal_table
from jpegrad.entropy.progressive import Symbol, dc_in_scan_order, progressive_symbols
from jpegrad.entropy.scan import (
    LIBRARY,
    check_huffman,
    fake_bytes,
    huffman_tables,
    mapped,
    packed,
)
from jpegrad.entropy.script import ProgressiveScan, Script, check_script, simple_progression
from jpegrad.entropy.symbols import (
    LUMA_CHROMA,
    MAX_AC,
    MAX_DC_DIFFERENCE,
    MAX_LEVEL,
    mcu_grid,
    scan_symbols,
    table_count,
    whole,
)
from jpegrad.tables import ZIGZAG

Item = TypeVar("Item")
Result = TypeVar("Result")
NO_TABLE = HuffmanTable((0,) * 16, ())


class Table(NamedTuple):
    """A DHT segment: class (0 DC, 1 AC), slot, 16 counts of code lengths, symbols."""

    kind: int
    slot: int
    counts: Sequence[int]
    symbols: Sequence[int]


class CodedScan(NamedTuple):
    """A scan, its DHT segments in the order in which they are written, and its data without a marker at the end."""

    scan: ProgressiveScan
    tables: list[Table]
    data: bytes


def coded_scans(
    levels: Sequence[Tensor],
    size: tuple[int, int],
    subsampling: str,
    huffman: str = "default",
    script: Script = (),
    slots: Sequence[int] = LUMA_CHROMA,
) -> list[CodedScan]:
    """The scans of one image.

    Args:
        levels: of each component ``[blocks_y, blocks_x, 8, 8]``, integers of any type.
        size: height and width in pixels.
        subsampling: as :class:`~jpegrad.Coefficients` has it.
        huffman: ``"default"`` (Annex K) or ``"optimized"``; tables of a progressive file are made for each scan.
        script: the scans of a progressive file; a baseline file, with one interleaved scan, has none.
        slots: of the components' Huffman tables, as :func:`~jpegrad.entropy.symbols.huffman_slots` gives them.

    Raises:
        ValueError: ``huffman`` is none of the two, or a level is beyond what a scan can code.

    Example:
        >>> (scan,) = coded_scans([torch.zeros(1, 1, 8, 8)], (8, 8), "4:4:4")
        >>> scan.data.hex()
        '2b'
    """
    check_huffman(huffman)
    if not script:
        scan = interleaved(len(levels))
        return [_coded(levels, size, subsampling, slots, scan, "sequential", huffman == "optimized")]
    return [_coded(levels, size, subsampling, slots, scan, "progressive", True) for scan in script]


def progressive_bytes(
    levels: Sequence[Tensor],
    height: int,
    width: int,
    subsampling: str,
    script: Script,
    slots: Sequence[int] = LUMA_CHROMA,
) -> Tensor:
    """Bytes of all scans of progressive files, and how many symbols their Huffman tables list: ``[..., 2]``, int64.

    Levels count as in :func:`~jpegrad.entropy.scan.scan_bytes`.
    """
    numbers = [number for scan in script for number in (len(scan.components), *scan.components, *scan[1:])]
    return torch.ops.jpegrad.progressive_bytes(levels, height, width, subsampling, numbers, slots)


def _progressive_bytes(
    levels: Sequence[Tensor],
    height: int,
    width: int,
    subsampling: str,
    numbers: Sequence[int],
    slots: Sequence[int],
) -> Tensor:
    if levels[0].numel() == 0:
        return fake_bytes(levels)
    script, rest = [], list(numbers)
    while rest:
        components, rest = rest[1 : 1 + rest[0]], rest[1 + rest[0] :]
        script.append(ProgressiveScan(tuple(components), *rest[:4]))
        rest = rest[4:]
    flat = [x.detach().reshape(-1, *x.shape[-4:]).cpu() for x in levels]

    def measure(image: int, scan: ProgressiveScan) -> tuple[int, int]:
        coded = _coded(
            [x[image] for x in flat],
            (height, width),
            subsampling,
            slots,
            scan,
            "progressive",
            True,
            clamp=True,
        )
        return len(coded.data), sum(len(table.symbols) for table in coded.tables)

    tasks = list(itertools.product(range(len(flat[0])), script))
    found = torch.tensor(in_threads(lambda task: measure(*task), tasks))
    sums = found.view(-1, len(script), 2).sum(1)
    return sums.to(levels[0].device).view(*levels[0].shape[:-4], 2)


# An operator, because what it does depends on the levels.
LIBRARY.define(
    "progressive_bytes(Tensor[] levels, SymInt height, SymInt width, str subsampling, int[] script, int[] slots) "
    "-> Tensor"
)
LIBRARY.impl("progressive_bytes", _progressive_bytes, "CompositeExplicitAutograd")
torch.library.register_fake("jpegrad::progressive_bytes", fake_bytes, lib=LIBRARY)
torch.library.register_vmap(
    "jpegrad::progressive_bytes", mapped(torch.ops.jpegrad.progressive_bytes), lib=LIBRARY
)


def in_threads(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """``function`` of each item, on as many threads as PyTorch uses; the kernels leave Python's lock to others."""
    workers = min(torch.get_num_threads(), len(items))
    if workers <= 1:
        return list(map(function, items))
    with ThreadPoolExecutor(workers) as pool:
        return list(pool.map(function, items))


def coding(
    huffman: str | None,
    progressive: bool | Iterable[Any],
    factors: Sequence[tuple[int, int]],
    *,
    luma_chroma: bool,
) -> tuple[str, Script]:
    """What ``huffman=`` and ``progressive=`` ask for, as :func:`coded_scans` takes it.

    Args:
        huffman: None is ``"default"``, or for a progressive file ``"optimized"``.
        progressive: whether to take the standard script, or one's own.
        factors: sampling factors (h, v) of each component.
        luma_chroma: whether three components are Y, Cb and Cr.

    Raises:
        TypeError, ValueError: they are not as described, or do not go together.
    """
    if huffman is not None:
        check_huffman(huffman)
    if progressive is False:
        return huffman or "default", ()
    if huffman == "default":
        raise ValueError(
            'huffman: expected "optimized" or None with progressive, whose tables are made for each scan; '
            'got "default"'
        )
    if progressive is True:
        return "optimized", simple_progression(len(factors), luma_chroma=luma_chroma)
    return "optimized", check_script(progressive, [h * v for h, v in factors])


def interleaved(components: int) -> ProgressiveScan:
    """The only scan of a baseline file: all levels of all components."""
    return ProgressiveScan(tuple(range(components)), 0, 63)


def used_tables(scan: ProgressiveScan, slots: Sequence[int]) -> list[tuple[int, int]]:
    """(class, slot) of each table that a scan of a file needs, in the order in which libjpeg writes them."""
    found: dict[tuple[int, int], None] = {}
    for i in scan.components:
        slot = slots[i]
        if scan.first == 0 and scan.high == 0:
            found[0, slot] = None
        if scan.last > 0:
            found[1, slot] = None
    return list(found)


def _coded(
    levels: Sequence[Tensor],
    size: tuple[int, int],
    subsampling: str,
    slots: Sequence[int],
    scan: ProgressiveScan,
    process: str,
    optimize: bool,
    clamp: bool = False,
) -> CodedScan:
    """One scan; ``clamp`` codes levels that none can hold as the nearest that one can."""
    chosen = [levels[i] for i in scan.components]
    kernel = backends.kernel("encode_scan", chosen[0])
    if kernel is None:
        levels = [whole(x) if clamp else _real(x) for x in levels]
        if not clamp:
            _check(levels, size, subsampling, scan)
        if process == "sequential":
            huffman = "optimized" if optimize else "default"
            return _sequential(levels, size, subsampling, slots, scan, huffman)
        return _progressive(levels, size, subsampling, slots, scan)
    if len(chosen) == 1:
        factors, mcus = [(1, 1)], (chosen[0].shape[0], chosen[0].shape[1])
    else:
        rows, columns, all_factors = mcu_grid(len(levels), size, subsampling)
        factors, mcus = [all_factors[i] for i in scan.components], (rows, columns)
    grids = [
        (level, *h_v, slots[i], slots[i])
        for level, h_v, i in zip(chosen, factors, scan.components, strict=True)
    ]
    found = kernel(grids, mcus, process, scan[1:], None if optimize else default_tables(), clamp=clamp)
    if found is None:
        _check([_real(x) for x in levels], size, subsampling, scan)
        raise AssertionError("the kernel refused levels in which nothing is wrong")
    tables, data = found
    listed = []
    for kind, i in used_tables(scan, slots):
        counts, symbols = tables[272 * (4 * kind + i) :][:16], tables[272 * (4 * kind + i) + 16 :]
        listed.append(Table(kind, i, counts, symbols[: sum(counts)]))
    return CodedScan(scan, listed, data)


@lru_cache(maxsize=1)
def default_tables() -> bytes:
    """Those of Annex K, as the kernels take them: 16 counts and 256 symbols of four DC and of four AC tables."""
    dc_luma, ac_luma, dc_chroma, ac_chroma = DEFAULT
    tables = (dc_luma, dc_chroma, NO_TABLE, NO_TABLE, ac_luma, ac_chroma, NO_TABLE, NO_TABLE)
    return b"".join(bytes(table.counts) + bytes(table.symbols).ljust(256, b"\0") for table in tables)


def _real(levels: Tensor) -> Tensor:
    """In float32 or float64, whichever has all numbers that the type has and a file can hold."""
    return (
        levels
        if levels.dtype is torch.float64
        else levels.to(torch.float32 if levels.is_floating_point() else torch.float64)
    )


def _sequential(
    levels: Sequence[Tensor],
    size: tuple[int, int],
    subsampling: str,
    slots: Sequence[int],
    scan: ProgressiveScan,
    huffman: str,
) -> CodedScan:
    symbols = scan_symbols([x.unsqueeze(0) for x in levels], size, subsampling, slots)
    (tables,) = huffman_tables(symbols, 1, table_count(len(levels), slots), huffman)
    words, _, count = packed(symbols, code_book(tables)[None].to(levels[0].device))
    data = words.cpu().numpy().astype(">u4").tobytes()[: int(count)].replace(b"\xff", b"\xff\x00")
    return CodedScan(scan, [Table(i % 2, i // 2, *table) for i, table in enumerate(tables)], data)


def _progressive(
    levels: Sequence[Tensor],
    size: tuple[int, int],
    subsampling: str,
    slots: Sequence[int],
    scan: ProgressiveScan,
) -> CodedScan:
    symbols = progressive_symbols(levels, size, subsampling, scan)
    tables = {
        (kind, slot): _made_for([each for each in symbols if slots[each.component] == slot])
        for kind, slot in used_tables(scan, slots)
    }
    codes = {
        i: {symbol: f"{code:0{length}b}" for symbol, (code, length) in table.codes().items()}
        for (_, i), table in tables.items()
    }
    bits = "".join(
        bits if symbol is None else codes[slots[component]][symbol] + bits
        for component, symbol, bits in symbols
    )
    bits += "1" * (-len(bits) % 8)
    data = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\x00")
    return CodedScan(scan, [Table(*where, *table) for where, table in tables.items()], data)


def _made_for(symbols: list[Symbol]) -> HuffmanTable:
    frequencies = [0] * 256
    for each in symbols:
        if each.symbol is not None:
            frequencies[each.symbol] += 1
    return optimal_table(frequencies)


def _check(levels: Sequence[Tensor], size: tuple[int, int], subsampling: str, scan: ProgressiveScan) -> None:
    """Raise if a scan cannot code the levels."""
    for component in scan.components:
        _check_whole(component, levels[component])
    if scan.high:
        return
    # Limits apply to what is left of the levels without their lower bits.
    if scan.last > 0:
        band = list(ZIGZAG[max(scan.first, 1) : scan.last + 1])
        for component in scan.components:
            largest = int(levels[component].flatten(-2)[..., band].abs().amax())
            if largest > (limit := (MAX_AC + 1 << scan.low) - 1):
                raise ValueError(
                    f"levels[{component}]: expected AC levels in ±{limit} (T.81 F.1.2.2), got ±{largest}"
                )
    if scan.first == 0:
        ordered = dc_in_scan_order(levels, size, subsampling, scan.components)
        for component, dc in zip(scan.components, ordered, strict=True):
            row = dc.flatten().long() >> scan.low
            apart = int(torch.cat([row[:1], row.diff()]).abs().amax())
            if apart > MAX_DC_DIFFERENCE:
                raise ValueError(
                    f"levels[{component}]: expected DC levels at most {MAX_DC_DIFFERENCE << scan.low} apart from one "
                    f"block to the next (T.81 F.1.2.1), got {apart << scan.low}"
                )


def _check_whole(component: int, levels: Tensor) -> None:
    legal = (levels == levels.round()) & (levels >= -MAX_LEVEL) & (levels <= MAX_LEVEL)
    if not legal.all():
        first = (~legal).nonzero()[0]
        raise ValueError(
            f"levels[{component}]: expected integers of at most 15 bits, got {levels[tuple(first)].item()} "
            f"at [{', '.join(map(str, first.tolist()))}]"
        )
