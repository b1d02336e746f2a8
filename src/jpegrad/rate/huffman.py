"""The exact size of a baseline .jpg, and its entropy-coded bytes, as array arithmetic.

Every symbol becomes an item of at most 27 bits; a cumulative sum of the lengths says where each begins, and a
scatter-add lays it over two 32-bit words. Nothing overlaps, so adding is the same as writing.

Sources: ITU-T T.81 B.1.1.5, F.1.2; libjpeg-turbo ``jchuff.c``, ``jcmarker.c``.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from jpegrad.rate import codes
from jpegrad.rate.codes import HuffmanTable
from jpegrad.rate.symbols import MAX_AC, MAX_DC_DIFFERENCE, NO_SYMBOL, component_blocks, image_symbols

HUFFMAN = ("default", "optimized")
# 16 + 11 bits for a DC, 16 + 10 for each AC, in words of 32.
WORDS_PER_BLOCK = 53
PLACES_AT_ONCE = 1 << 23


def check_huffman(huffman: str) -> None:
    """Raise unless ``huffman`` names a kind of Huffman tables."""
    if huffman not in HUFFMAN:
        raise ValueError(f"huffman: expected one of {HUFFMAN}, got {huffman!r}")


def symbol_counts(symbols: Tensor, components: int) -> Tensor:
    """How often each symbol occurs: ``[..., places]`` → ``[..., 2 or 4, 256]`` (DC, AC of luma; of chroma), int64."""
    counts = symbols.new_zeros(*symbols.shape[:-1], NO_SYMBOL + 1, dtype=torch.int64)
    counts = counts.scatter_add(-1, symbols.long(), torch.ones_like(symbols, dtype=torch.int64))
    return counts[..., : 512 if components == 1 else 1024].unflatten(-1, (-1, 256))


def book_of(symbols: Tensor, components: int, huffman: str) -> Tensor:
    """Code and length of every symbol: ``[..., 2 or 4, 256, 2]``; leading dimensions only if they differ by image."""
    if huffman == "optimized":
        return codes.optimal_code_book(symbol_counts(symbols, components))
    return codes.code_book(codes.DEFAULT[: 2 if components == 1 else 4]).to(symbols.device)


def item_lengths(symbols: Tensor, book: Tensor) -> tuple[Tensor, Tensor]:
    """Code and length in bits, amplitude included, of every place: two tensors ``[..., places]``, int32."""
    flat = torch.nn.functional.pad(book.flatten(-3, -2), (0, 0, 0, NO_SYMBOL + 1 - 256 * book.shape[-3]))
    index = symbols.long()
    if flat.ndim == 2:
        both = (flat[:, 0] << 5 | flat[:, 1])[index]
    else:
        both = (flat[..., 0] << 5 | flat[..., 1]).gather(-1, index)
    return both >> 5, (both & 31) + (symbols & 15)


def packed(symbols: Tensor, amplitude: Tensor, book: Tensor) -> tuple[Tensor, Tensor]:
    """The coded scan in words, before zero bytes are stuffed, its last byte filled with ones.

    Returns:
        words ``[..., words]``, int64 in 0…2³²−1, most significant bit first; zero after the end;
        the number of bytes ``[...]``.
    """
    code, length = item_lengths(symbols, book)
    value = (code << (symbols & 15) | amplitude).long()
    end = length.cumsum(-1)
    bits = end[..., -1:]
    padding = -bits & 7
    start = torch.cat([end - length, bits], -1)
    length = torch.cat([length, padding], -1)
    value = torch.cat([value, (1 << padding) - 1], -1)

    window = value << (64 - (start & 31) - length)
    words = value.new_zeros(*value.shape[:-1], symbols.shape[-1] // 64 * WORDS_PER_BLOCK + 2)
    words = words.scatter_add(-1, start >> 5, window >> 32 & 0xFFFFFFFF)
    words = words.scatter_add(-1, (start >> 5) + 1, window & 0xFFFFFFFF)
    return words, (bits + padding)[..., 0] >> 3


def stuffed_zeros(words: Tensor) -> Tensor:
    """How many bytes are 0xFF: each is followed by a zero byte in the file (T.81 B.1.1.5)."""
    ones = words & words >> 1
    ones = ones & ones >> 2
    ones = ones & ones >> 4 & 0x01010101
    return (ones * 0x01010101 >> 24 & 0xFF).sum(-1)


def header_bytes(components: int, tables: int, symbols: Tensor, metadata: Sequence[tuple[int, bytes]] = ()) -> Tensor:
    """Bytes of everything but the scan: SOI, APP0, metadata, DQT, SOF0, DHT, SOS, EOI.

    Args:
        components: 1 or 3.
        tables: quantization tables written.
        symbols: how many symbols the Huffman tables list together, ``[...]``.
        metadata: carried marker segments (marker, payload).
    """
    huffman_tables = 2 if components == 1 else 4
    fixed = 2 + 18 + 69 * tables + (10 + 3 * components) + 21 * huffman_tables + (8 + 2 * components) + 2
    return symbols + fixed + sum(4 + len(payload) for _, payload in metadata)


def scan_and_table_bytes(
    levels: Sequence[Tensor], size: tuple[int, int], subsampling: str, huffman: str
) -> tuple[Tensor, Tensor]:
    """Bytes of the scan, stuffed zeros included, and symbols listed in the Huffman tables: ``[...]`` each, int64."""
    symbols, amplitude = image_symbols(levels, size, subsampling)
    book = book_of(symbols, len(levels), huffman)
    words, count = packed(symbols, amplitude, book)
    listed = (book[..., 1] > 0).sum((-2, -1))
    return count + stuffed_zeros(words), listed.expand(count.shape)


def file_bytes(
    levels: Sequence[Tensor],
    size: tuple[int, int],
    subsampling: str,
    *,
    huffman: str = "default",
    tables: int | None = None,
    metadata: Sequence[tuple[int, bytes]] = (),
) -> Tensor:
    """Exact size of the baseline .jpg that holds these levels.

    Levels beyond what baseline can code (AC beyond ±1023, DC difference beyond ±2047) count as if clamped.

    Args:
        levels: one or three tensors ``[..., blocks_y, blocks_x, 8, 8]`` of integers, the same leading dimensions.
        size: height and width in pixels.
        subsampling: ``"4:4:4"``, ``"4:2:2"``, ``"4:2:0"``, ``"4:4:0"`` or ``"4:1:1"``.
        huffman: ``"default"`` (Annex K) or ``"optimized"`` (two-pass, as ``optimize=True`` in Pillow).
        tables: quantization tables written, 1…3; by default 1 for gray and 2 for colour.
        metadata: carried marker segments (marker, payload).

    Returns:
        Bytes, ``[...]``, int64.

    Raises:
        ValueError: ``huffman`` is none of the two.

    Source: T.81 Annex B and F; libjpeg-turbo ``jcmarker.c``, ``jchuff.c``.

    Example:
        >>> gray = torch.zeros(1, 1, 8, 8)
        >>> file_bytes([gray], (8, 8), "4:4:4")
        tensor(331)
    """
    check_huffman(huffman)
    lead = levels[0].shape[:-4]
    flat = [x.reshape(-1, *x.shape[-4:]) for x in levels]
    places = max(1, sum(x[0].numel() for x in flat))
    # A few images at a time: the working set is some 100 bytes a place.
    chunks = zip(*(x.split(max(1, PLACES_AT_ONCE // places)) for x in flat))
    parts = [scan_and_table_bytes(chunk, size, subsampling, huffman) for chunk in chunks]
    scan, listed = (torch.cat(part).reshape(lead) for part in zip(*parts))
    components = len(levels)
    return scan + header_bytes(components, tables or (1 if components == 1 else 2), listed, metadata)


def entropy_coded(
    levels: Sequence[Tensor], size: tuple[int, int], subsampling: str, huffman: str = "default"
) -> tuple[list[tuple[int, int, tuple[int, ...], tuple[int, ...]]], bytes]:
    """The scan of one image as bytes, and the Huffman tables that code it.

    Args:
        levels: one or three tensors ``[blocks_y, blocks_x, 8, 8]`` of integers.
        size: height and width in pixels.
        subsampling: ``"4:4:4"``, ``"4:2:2"``, ``"4:2:0"``, ``"4:4:0"`` or ``"4:1:1"``.
        huffman: ``"default"`` (Annex K) or ``"optimized"``.

    Returns:
        One (class, id, 16 counts, symbols) for each DHT segment, in the order in which they are written; and the
        entropy-coded bytes, zeros stuffed, without a marker at the end.

    Raises:
        ValueError: ``huffman`` is none of the two, or a level is beyond what a baseline scan can code.

    Example:
        >>> tables, data = entropy_coded([torch.zeros(1, 1, 8, 8)], (8, 8), "4:4:4")
        >>> data.hex()
        '2b'
    """
    check_huffman(huffman)
    _check_range(levels, size, subsampling)
    symbols, amplitude = image_symbols(levels, size, subsampling)
    if huffman == "optimized":
        tables = [codes.optimal_table(row) for row in symbol_counts(symbols, len(levels)).tolist()]
    else:
        tables = list(codes.DEFAULT[: 2 if len(levels) == 1 else 4])
    words, count = packed(symbols, amplitude, codes.code_book(tables).to(symbols.device))
    data = words.cpu().numpy().astype(">u4").tobytes()[: int(count)].replace(b"\xff", b"\xff\x00")
    return [(i % 2, i // 2, table.counts, table.symbols) for i, table in enumerate(tables)], data


def _check_range(levels: Sequence[Tensor], size: tuple[int, int], subsampling: str) -> None:
    for component, blocks in enumerate(component_blocks(levels, size, subsampling)):
        ac = blocks[..., 1:].abs().amax()
        if ac > MAX_AC:
            raise ValueError(f"levels[{component}]: expected AC levels within ±{MAX_AC} (T.81 F.1.2.2), got ±{int(ac)}")
        dc = blocks[..., 0].flatten().diff(prepend=blocks.new_zeros(1)).abs().amax()
        if dc > MAX_DC_DIFFERENCE:
            raise ValueError(
                f"levels[{component}]: expected DC levels that differ by at most {MAX_DC_DIFFERENCE} from one block "
                f"to the next (T.81 F.1.2.1), got {int(dc)}"
            )
