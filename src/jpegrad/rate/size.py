"""``bits``: the exact size of the .jpg file of some coefficients, with a gradient."""

from collections.abc import Sequence

import torch
from torch import Tensor

from jpegrad.coefficients import BEYOND_8_BITS, NO_DENSITY, Coefficients, shares_tables
from jpegrad.entropy.coder import coding, interleaved, progressive_bytes, used_tables
from jpegrad.entropy.scan import scan_bytes
from jpegrad.entropy.script import ProgressiveScan, Script
from jpegrad.entropy.symbols import huffman_slots
from jpegrad.rate.models import ALL, RateModel, Scan
from jpegrad.sampling import sampling_factors


def bits(
    coefficients: Coefficients,
    *,
    huffman: str | None = None,
    progressive: bool | Sequence[ProgressiveScan] = False,
    rate: str | RateModel = "marginal",
    metadata: bool = True,
) -> Tensor:
    """Exact size in bits of the .jpg file that ``to_bytes`` would write, with a gradient to image, quality and tables.

    The value is 8 · bytes of the whole file: headers, tables, coded data with its stuffed zeros and padding. The slope
    comes from a rate model, by way of ``coefficients.unrounded`` if ``encode`` recorded it, else of
    ``coefficients.levels``.

    Args:
        coefficients: from ``encode``, from a file, or your own; levels that are no integers count as rounded, levels
            that baseline cannot hold (AC beyond ±1023, DC differences beyond ±2047) as clamped, NaN as 0.
        huffman: ``"default"`` (tables of Annex K; None too) or ``"optimized"`` (made for the image, Pillow's
            ``optimize=True``). Those of progressive files are always optimized.
        progressive: whether to count a progressive file, or one of your own scans, as in :func:`~jpegrad.to_bytes`.
        rate: where the slope comes from: a name of ``jpegrad.rate.ALL`` or a record of your own. For a progressive
            file it models the optimized baseline one, whose size changes alike.
        metadata: count the carried marker segments too.

    Returns:
        ``[...]``, the leading dimensions of the levels; float64, in which every size is exact.

    Raises:
        TypeError, ValueError: an argument is not as described, or an MCU has more than 10 blocks.

    Source: ITU-T T.81 Annexes B, F and K; libjpeg-turbo ``jchuff.c``, ``jcmarker.c``.

    Example:
        >>> import jpegrad, torch
        >>> image = torch.rand(2, 3, 40, 24, requires_grad=True)
        >>> size = bits(jpegrad.encode(image, quality=75))
        >>> size.shape, size[0].item() == 8 * len(jpegrad.to_bytes(jpegrad.encode(image, quality=75), 0))
        (torch.Size([2]), True)
        >>> size.sum().backward()
    """
    if not isinstance(coefficients, Coefficients):
        raise TypeError(f"coefficients: expected Coefficients, got {type(coefficients).__name__}")
    model = _model(rate)
    c = coefficients
    kind, script = coding_of(c, huffman, progressive)
    values = c.levels if c.unrounded is None else c.unrounded
    levels = tuple(level.detach() for level in c.levels)
    scan, listed = _data_bytes(levels, c, kind, script)
    size = 8 * (scan + listed + header_bytes(c, metadata, script))
    if not (torch.is_grad_enabled() and any(value.requires_grad for value in values)):
        return size
    levels = tuple(level.round() for level in levels)
    slots = huffman_slots(c.space)
    soft = model.soft(Scan(values, levels, c.size, c.subsampling, kind, 8 * scan, c.unrounded is None, slots))
    return size + (soft - soft.detach())


def coding_of(
    coefficients: Coefficients,
    huffman: str | None = None,
    progressive: bool | Sequence[ProgressiveScan] = False,
) -> tuple[str, Script]:
    """The kind of Huffman tables and the scans of the file of these coefficients."""
    c = coefficients
    factors = sampling_factors(c.channels, c.subsampling)
    return coding(huffman, progressive, factors, luma_chroma=c.space == "YCbCr")


def _data_bytes(
    levels: Sequence[Tensor], coefficients: Coefficients, huffman: str, script: Script
) -> tuple[Tensor, Tensor]:
    """Bytes of all coded data, and symbols that the DHT segments list: ``[...]`` each, float64."""
    c, slots = coefficients, huffman_slots(coefficients.space)
    if script:
        found = progressive_bytes(levels, *c.size, c.subsampling, script, slots)
    else:
        found = scan_bytes(levels, *c.size, c.subsampling, huffman, slots)
    data, listed = found.double().unbind(-1)
    return data, listed


def header_bytes(coefficients: Coefficients, metadata: bool = True, script: Script = ()) -> Tensor:
    """Bytes of the files that are not coded data: all marker segments, but not the symbols that DHT segments list."""
    c, components = coefficients, coefficients.channels
    tables = c.tables.detach()[..., :components, :, :]
    wide = (tables >= BEYOND_8_BITS).flatten(-2).any(-1).sum(-1)
    # Half of the tables are written where the other half equals them.
    dqt = (69 * tables.shape[-3] + 64 * wide) >> shares_tables(c).long()
    dqt = dqt.to(c.levels[0].device).expand(c.batch_shape)
    # JFIF's APP0; Adobe's APP14 if the components are R, G and B, and of four; then APP0 has the density alone.
    application = 18 if c.space in ("gray", "YCbCr") else 16
    application += 18 if components == 4 and c.density != NO_DENSITY else 0
    scans = script or (interleaved(components),)
    sos = sum(8 + 2 * len(scan.components) for scan in scans)
    dht = sum(21 * len(used_tables(scan, huffman_slots(c.space))) for scan in scans)
    carried = sum(4 + len(payload) for _, payload in c.metadata) if metadata else 0
    return dqt + (2 + application + carried + (10 + 3 * components) + dht + sos + 2)


def _model(rate: str | RateModel) -> RateModel:
    if isinstance(rate, RateModel):
        return rate
    if not isinstance(rate, str):
        raise TypeError(f"rate: expected a name or a RateModel, got {type(rate).__name__}")
    if rate not in ALL:
        raise ValueError(f"rate: expected one of {tuple(ALL)}, got {rate!r}")
    return ALL[rate]
