"""Real .jpg files ↔ ``Coefficients``."""

import io
import mmap
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from torch import Tensor

from jpegrad.coefficients import NO_DENSITY, Coefficients, Density, shares_tables
from jpegrad.entropy.coder import CodedScan, coded_scans, coding, in_threads
from jpegrad.entropy.script import ProgressiveScan
from jpegrad.entropy.symbols import huffman_slots, mcu_grid
from jpegrad.files import SUFFIXES, write_atomically
from jpegrad.home import at_home
from jpegrad.jfif import segments
from jpegrad.jfif.decode import decode
from jpegrad.jfif.errors import JPEGError
from jpegrad.jfif.frame import natural_tables, repair_tables
from jpegrad.jfif.header import Header, is_seekable, parse
from jpegrad.jfif.segments import FrameComponent, ScanComponent
from jpegrad.jfif.smoothing import smoothing
from jpegrad.jfif.structure import Structure, walk
from jpegrad.spec import CMYK, RGB, table_index

MAX_PIXELS = 178_956_970
"""Pixels of the largest picture that Pillow opens by default."""
MAX_SIDE = 65500
"""libjpeg reads and writes no more rows or columns."""

COLORS = {"RGB": RGB, "CMYK": CMYK}
"""Files without a conversion."""

LEVEL_TYPES = (torch.float32, torch.float64, torch.int16)

Source = (
    str
    | os.PathLike[str]
    | bytes
    | bytearray
    | memoryview
    | mmap.mmap
    | BinaryIO
    | np.ndarray[Any, Any]
    | Tensor
)


def read(
    source: Source,
    *,
    strict: bool = True,
    max_pixels: int | None = MAX_PIXELS,
    level_dtype: torch.dtype = torch.float32,
) -> Coefficients:
    """Read a .jpg file: quantized levels, tables, subsampling, colour space and metadata, without loss.

    Baseline, extended sequential and progressive files of 8 bits, Huffman's or arithmetic coding, of one component
    (gray), three (YCbCr or RGB) or four (CMYK or YCCK) as libjpeg recognises them, in every sampling that it decodes.
    Progressive files need not send every bit: ``smoothing`` has what viewers make of that.

    Reading is strict: where a viewer would show a damaged picture, and where the EOI marker is missing, this raises.
    Time and memory are bounded in proportion to the length of the file: each block must cost at least one bit, no bit
    of a coefficient may be sent twice, and all scans together may visit 128 blocks per byte of the file. Arithmetic
    coding has no such bounds: there only ``max_pixels`` limits memory, and damage inside of a scan is seldom noticed.

    ``strict=False`` makes of a damaged file what libjpeg makes of it. Data that end early are zeros, lost restart
    markers cost the intervals beside them, codes that are none mean 0, and what is wrong between scans is passed over;
    ``damage`` says what was wrong. What libjpeg itself gives up is still an error. Memory is then bounded by
    ``max_pixels`` alone, and each block is visited 64 times more at most.

    ``decode`` of the result equals Pillow's decoding. (Forged levels can be so large that the inverse DCT leaves the
    16 bits in which libjpeg-turbo computes it; its builds then disagree with each other, while ``decode`` computes on
    without overflow. With tables up to 255, no picture of 8 bits comes near.)

    Args:
        source: path; bytes-like object (bytes, bytearray, memoryview, mmap, …); binary file object (read from its
            position to its end); array or tensor of uint8 with one dimension.
        strict: whether damage is an error; else it is recovered from, and said in ``damage``.
        max_pixels: largest height · width accepted; None for no limit.
        level_dtype: of the levels: ``torch.float32``, which can require a gradient; ``torch.float64``; or
            ``torch.int16``, in which they take half the memory.

    Returns:
        :class:`~jpegrad.Coefficients` without leading dimensions, on the CPU. ``metadata`` has the
        application and comment segments (EXIF, XMP, ICC profile, …) in their order, but not JFIF's and Adobe's
        headers, which are written anew, nor a multi-picture index, whose offsets hold in the original file only.
        ``density`` is that of JFIF's header.

    Raises:
        JPEGError: not a JPEG file; truncated or corrupt; more than ``max_pixels``; or not supported: 12 bits,
            lossless, hierarchical, fractional sampling factors, other counts of components.
        TypeError: ``source`` or ``level_dtype`` is none of the above.
        OSError: the file cannot be opened.

    Source: ITU-T T.81 Annexes B, E, F and G; JFIF 1.02; libjpeg-turbo ``jdapimin.c`` (colour space).

    Example:
        >>> import jpegrad, torch
        >>> coefficients = jpegrad.encode(torch.rand(3, 40, 24), quality=75)
        >>> again = jpegrad.read(jpegrad.to_bytes(coefficients))
        >>> torch.equal(again.levels[0], coefficients.levels[0])
        True
    """
    if max_pixels is not None and (
        isinstance(max_pixels, bool) or not isinstance(max_pixels, int) or max_pixels < 1
    ):
        raise ValueError(f"max_pixels: expected a positive integer or None, got {max_pixels!r}")
    if level_dtype not in LEVEL_TYPES:
        raise TypeError(
            f"level_dtype: expected one of {', '.join(map(str, LEVEL_TYPES))}; got {level_dtype!r}"
        )
    if not isinstance(strict, bool):
        raise TypeError(f"strict: expected True or False, got {strict!r}")
    with naming(source):
        decoder = decode(_bytes_of(source), max_pixels, strict)
        frame = decoder.frame
        if frame is None:
            raise JPEGError("corrupt: no frame header")
    added = smoothing(frame)
    repair_tables(frame)
    return Coefficients(
        levels=tuple(component.levels.to(level_dtype) for component in frame.components),
        tables=natural_tables([(c.header.table, c.table or ()) for c in frame.components]),
        size=frame.size,
        subsampling=frame.subsampling,
        color=COLORS.get(decoder.space()),
        metadata=tuple(decoder.metadata),
        density=decoder.density,
        damage=tuple(decoder.damage),
        smoothing=added and tuple(x.to(level_dtype) for x in added),
    )


@contextmanager
def naming(source: Source) -> Iterator[None]:
    """Errors of a file on disk say which."""
    try:
        yield
    except JPEGError as error:
        if not isinstance(source, (str, os.PathLike)):
            raise
        raise JPEGError(f"{os.fspath(source)}: {error}") from None


def read_header(source: Source) -> Header:
    """What a .jpg file says of itself before its first scan: size, sampling, tables, metadata; nothing is decoded.

    It takes files that :func:`read` refuses as well: 12 bits, lossless, fractional sampling factors, damaged scans.
    Of a file on disk only the headers are read, so that large files take no longer.

    Args:
        source: as in :func:`read`. A file object that can seek is left where it was.

    Returns:
        :class:`~jpegrad.jfif.header.Header`.

    Raises:
        JPEGError: not a JPEG file, or its headers are truncated or corrupt.
        TypeError: ``source`` is none of the above.
        OSError: the file cannot be opened.

    Example:
        >>> import jpegrad, torch
        >>> data = jpegrad.to_bytes(jpegrad.encode(torch.rand(3, 40, 24), quality=83))
        >>> header = jpegrad.read_header(data)
        >>> header.size, header.process, header.subsampling, header.quality.quality
        ((40, 24), 'baseline', '4:2:0', 83)
    """
    if isinstance(source, (str, os.PathLike)):
        with open(source, "rb", buffering=0) as file, naming(source):
            return parse(file) if file.seekable() else parse(memoryview(file.readall()))
    if is_seekable(source):
        position = source.tell()
        try:
            return parse(source)
        finally:
            source.seek(position)
    view = _view_of(source)
    return parse(memoryview(_bytes_of(source)) if view is None else view)


def read_structure(source: Source) -> Structure:
    """What a .jpg file is made of: every segment, every scan, what follows its end; nothing is decoded.

    It takes files that :func:`read` refuses as well, and says where their markers are damaged.

    Args:
        source: as in :func:`read`.

    Returns:
        :class:`~jpegrad.jfif.structure.Structure`.

    Raises:
        JPEGError: not a JPEG file.
        TypeError: ``source`` is none of the above.
        OSError: the file cannot be opened.

    Example:
        >>> import jpegrad, torch
        >>> data = jpegrad.to_bytes(jpegrad.encode(torch.rand(3, 40, 24), quality=83))
        >>> structure = jpegrad.read_structure(data + b"more")
        >>> [segment.kind for segment in structure.segments]
        ['JFIF', 'DQT', 'DQT', 'SOF0', 'DHT', 'DHT', 'DHT', 'DHT', 'SOS']
        >>> structure.script, structure.huffman, structure.trailing
        ('0,1,2;\\n', 'default', 4)
    """
    with naming(source):
        return walk(_bytes_of(source))


@at_home
def to_bytes(
    coefficients: Coefficients,
    index: int | None = None,
    *,
    huffman: str | None = None,
    progressive: bool | Sequence[ProgressiveScan] = False,
    metadata: bool = True,
) -> bytes:
    """The .jpg file of one image, baseline or progressive, with a JFIF header; what Pillow writes, byte for byte.

    Coefficients of ``encode`` give the bytes of Pillow's ``save`` with the same ``quality`` or ``qtables`` and
    ``subsampling`` (for gray images, without ``subsampling``: it would only change an idle header field). Any viewer
    decodes the file to exactly ``decode(coefficients)``; :func:`read` says with which reservation.

    Args:
        coefficients: integer levels, integer tables 1…65535 (above 255 the file is extended sequential, not baseline),
            at most 10 blocks in an MCU, and a colour conversion that a viewer has: JFIF's, or RGB and CMYK stored as
            files have them (then Adobe's header says so).
        index: which image of a batch, counted through the flattened leading dimensions; a single image needs none.
        huffman: ``"default"`` tables of Annex K.3, which None is too, or ``"optimized"`` ones (Pillow's
            ``optimize=True``). Those of progressive files are always optimized, for each scan.
        progressive: whether to write a progressive file, with the scans of libjpeg's standard script (Pillow's
            ``progressive=True``); or a script of your own, of :class:`~jpegrad.ProgressiveScan`, which must send
            every bit of every level.
        metadata: write the carried segments too, after the JFIF header.

    Returns:
        The bytes of the file.

    Raises:
        TypeError: an argument is not as described.
        ValueError: a level or table entry that no such file can hold, another colour conversion, no such index, a batch
            without an index, or scans that no decoder can follow.

    Source: ITU-T T.81 Annexes B, F and G; JFIF 1.02; libjpeg-turbo ``jcmarker.c``, ``jcparam.c``.

    Example:
        >>> import jpegrad, torch
        >>> jpegrad.to_bytes(jpegrad.encode(torch.rand(1, 8, 8), quality=75))[:2].hex()
        'ffd8'
    """
    if not isinstance(coefficients, Coefficients):
        raise TypeError(f"coefficients: expected Coefficients, got {type(coefficients).__name__}")
    _check_color(coefficients)
    space = coefficients.space
    height, width = coefficients.size
    if max(height, width) > MAX_SIDE:
        raise ValueError(f"size: expected at most {MAX_SIDE} rows and columns, got {height} × {width}")
    if space == "RGB" and coefficients.density != NO_DENSITY:
        raise ValueError(
            f"density: expected {NO_DENSITY}, because files of R, G and B have no JFIF header; "
            f"got {coefficients.density}"
        )
    at = _flat_index(coefficients, index)
    levels = [x.detach().reshape(-1, *x.shape[-4:])[at].cpu() for x in coefficients.levels]
    tables, places = _tables_at(coefficients, at)
    _, _, factors = mcu_grid(coefficients.channels, coefficients.size, coefficients.subsampling)
    identifiers = space.encode() if space in COLORS else range(1, len(levels) + 1)
    frame = [
        FrameComponent(identifier, *h_v, place)
        for identifier, h_v, place in zip(identifiers, factors, places, strict=True)
    ]
    slots = huffman_slots(space)
    kind, script = coding(huffman, progressive, factors, luma_chroma=space == "YCbCr")
    try:
        scans = coded_scans(levels, coefficients.size, coefficients.subsampling, kind, script, slots)
    except ValueError as error:
        raise ValueError(f"{error} of image {at}") from None
    # Baseline has tables of 8 bits.
    sequential = segments.SOF1 if any(map(segments.is_wide, tables)) else segments.SOF0
    process = segments.SOF2 if script else sequential
    carried = coefficients.metadata if metadata else ()
    return b"".join(
        [
            segments.marker(segments.SOI),
            _application(space, coefficients.density),
            *(segments.emit_metadata(marker, payload) for marker, payload in carried),
            *(segments.emit_dqt(slot, entries) for slot, entries in enumerate(tables)),
            segments.emit_sof(coefficients.size, frame, process),
            *(part for scan in scans for part in _scan_parts(frame, slots, scan)),
            segments.marker(segments.EOI),
        ]
    )


@at_home
def to_bytes_batch(
    coefficients: Coefficients,
    *,
    huffman: str | None = None,
    progressive: bool | Sequence[ProgressiveScan] = False,
    metadata: bool = True,
) -> list[bytes]:
    """The .jpg files of all images of a batch, on as many threads as PyTorch uses.

    Args:
        coefficients, huffman, progressive, metadata: as in :func:`to_bytes`.

    Returns:
        The bytes of each file, in the order of the flattened leading dimensions; of a single image, one.

    Raises:
        TypeError, ValueError: as in :func:`to_bytes`.

    Example:
        >>> import jpegrad, torch
        >>> batch = jpegrad.encode(torch.rand(8, 3, 16, 24), quality=75)
        >>> files = jpegrad.to_bytes_batch(batch)
        >>> len(files), files[5] == jpegrad.to_bytes(batch, 5)
        (8, True)
    """
    if not isinstance(coefficients, Coefficients):
        raise TypeError(f"coefficients: expected Coefficients, got {type(coefficients).__name__}")
    here = coefficients.detach().to("cpu")

    def one(index: int) -> bytes:
        return to_bytes(here, index, huffman=huffman, progressive=progressive, metadata=metadata)

    return in_threads(one, range(here.batch_shape.numel()))


def _scan_parts(frame: list[FrameComponent], slots: Sequence[int], coded: CodedScan) -> Iterator[bytes]:
    """Huffman tables, header and data of a scan."""
    yield from (segments.emit_dht(*table) for table in coded.tables)
    components, *sent = coded.scan
    # Of tables that a progressive scan does not use, libjpeg says 0.
    sends_dc, sends_ac = coded.scan.first == 0 and coded.scan.high == 0, coded.scan.last > 0
    yield segments.emit_sos(
        [ScanComponent(frame[i].identifier, slots[i] * sends_dc, slots[i] * sends_ac) for i in components],
        *sent,
    )
    yield coded.data


@at_home
def write(
    target: str | os.PathLike[str] | BinaryIO,
    coefficients: Coefficients,
    index: int | None = None,
    *,
    huffman: str | None = None,
    progressive: bool | Sequence[ProgressiveScan] = False,
    metadata: bool = True,
) -> None:
    """Write the .jpg file of one image. A file appears complete or not at all.

    Args:
        target: a path that ends in .jpg, .jpeg, .jpe or .jfif, where an existing file is replaced; or a binary file
            object, such as ``io.BytesIO``.
        coefficients, index, huffman, progressive, metadata: as in :func:`to_bytes`.

    Raises:
        TypeError: ``target`` is neither.
        ValueError: as in :func:`to_bytes`, or the path ends in another way.
        OSError: the file cannot be written; an existing one is untouched.

    Example:
        >>> import io, jpegrad, tempfile, torch
        >>> coefficients = jpegrad.encode(torch.rand(1, 8, 8), quality=75)
        >>> folder = tempfile.TemporaryDirectory()
        >>> jpegrad.write(f"{folder.name}/gray.jpg", coefficients)
        >>> jpegrad.read(f"{folder.name}/gray.jpg").size
        (8, 8)
        >>> buffer = io.BytesIO()
        >>> jpegrad.write(buffer, coefficients)
    """
    if isinstance(target, (str, os.PathLike)):
        path = Path(target)
        if path.suffix.lower() not in SUFFIXES:
            raise ValueError(f"target: expected a name that ends in {', '.join(SUFFIXES)}, got {path}")
    elif not hasattr(target, "write") or isinstance(target, io.TextIOBase):
        raise TypeError(f"target: expected a path or a binary file object, got {type(target).__name__}")
    data = to_bytes(coefficients, index, huffman=huffman, progressive=progressive, metadata=metadata)
    if isinstance(target, (str, os.PathLike)):
        write_atomically(target, data)
    else:
        target.write(data)


def _bytes_of(source: Source) -> bytes:
    if isinstance(source, bytes):
        return source
    if isinstance(source, (str, os.PathLike)):
        return Path(source).read_bytes()
    if (view := _view_of(source)) is not None:
        return view.tobytes()
    data = source.read() if hasattr(source, "read") else None
    if isinstance(data, str):
        raise TypeError("source: expected a file object opened in binary mode, got one of text")
    if not isinstance(data, bytes):
        raise TypeError(
            "source: expected a path, a bytes-like object, a binary file object, or uint8 with one dimension; "
            f"got {type(source).__name__}"
        )
    return data


def _view_of(source: Any) -> memoryview | None:
    """The bytes of an object in memory; None of one that is not."""
    array: Any = source.detach().cpu().numpy() if isinstance(source, Tensor) else source
    try:
        view = memoryview(array)
    except TypeError:
        return None
    if view.ndim != 1 or view.format not in ("B", "c"):
        kind = (
            f"{source.dtype} {list(view.shape or ())}"
            if hasattr(source, "dtype")
            else f"items {view.format!r}"
        )
        raise TypeError(
            f"source: expected bytes, or uint8 with one dimension, got {type(source).__name__} of {kind}"
        )
    return view


def _application(space: str, density: Density) -> bytes:
    """JFIF's header, and Adobe's where the components are not gray or YCbCr."""
    adobe = b"" if space in ("gray", "YCbCr") else segments.emit_adobe(2 if space == "YCCK" else 0)
    # Of four components a viewer reads Adobe's alone; libjpeg writes JFIF's for the density.
    jfif = not adobe or (space != "RGB" and density != NO_DENSITY)
    return (segments.emit_jfif(density) if jfif else b"") + adobe


def _check_color(coefficients: Coefficients) -> None:
    """Raise unless viewers have the inverse of the colour conversion."""
    if coefficients.space == "private":
        raise ValueError(
            "color: expected JFIF's conversion back to RGB (inverse=None) or none at all (RGB stored as it is, CMYK "
            "inverted), the two that a .jpg file can announce; got another inverse or offset"
        )


def _flat_index(coefficients: Coefficients, index: int | None) -> int:
    count = coefficients.batch_shape.numel()
    if index is None:
        if count == 1:
            return 0
        raise ValueError(
            f"index: expected which image of the batch of {count} to write, got None (to_bytes_batch writes all)"
        )
    if isinstance(index, bool) or not isinstance(index, int):
        raise TypeError(f"index: expected an integer, got {type(index).__name__}")
    if not -count <= index < count:
        raise ValueError(f"index: expected {-count} to {count - 1} for a batch of {count}, got {index}")
    return index % count


def _tables_at(coefficients: Coefficients, index: int) -> tuple[list[list[int]], list[int]]:
    """The tables that a file of this image holds, in natural order, and which of them each component has."""
    channels = coefficients.channels
    tables = coefficients.tables.detach()
    tables = tables.expand(*coefficients.batch_shape, *tables.shape[-3:])
    tables = tables.reshape(-1, *tables.shape[-3:])[index]
    tables = tables[:channels]
    places = [table_index(i, len(tables)) for i in range(channels)]
    if shares_tables(coefficients).expand(coefficients.batch_shape).flatten()[index]:
        tables, places = tables[:2], [0, 1, 1, 0]
    legal = (tables == tables.round()) & (tables >= 1) & (tables <= 65535)
    if not legal.all():
        first = (~legal).nonzero()[0]
        raise ValueError(
            f"tables: expected integers 1 to 65535, got {tables[tuple(first)].item()} at "
            f"tables[{', '.join(map(str, first.tolist()))}] of image {index}; jpegrad.tables.legal rounds and clamps"
        )
    return [table.flatten().int().tolist() for table in tables], places
