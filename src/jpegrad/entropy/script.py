"""The scans of a progressive file: which levels, and which of their bits, come when.

Sources: ITU-T T.81 G.1.1; libjpeg-turbo ``jcparam.c`` (``jpeg_simple_progression``), ``jcmaster.c``
(``validate_script``).
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

MAX_COMPONENTS, MAX_BLOCKS_IN_MCU, MAX_LOW = 4, 10, 10


class ProgressiveScan(NamedTuple):
    """One scan of a progressive file.

    Args:
        components: indices of the components that it sends, ascending: 0 Y, 1 Cb, 2 Cr. Scans of AC levels have one.
        first: Ss, the first place that it sends, in zigzag order: 0 is the DC level, and then the only one.
        last: Se, the last place.
        high: Ah, the bit that was sent before, or 0 for the first scan of these levels.
        low: Al, the lowest bit that it sends: ``high - 1``, or in a first scan any.

    Example:
        >>> import jpegrad, torch
        >>> luma, coarse, fine = (0,), (1, 63, 0, 1), (1, 63, 1, 0)
        >>> scans = [
        ...     jpegrad.ProgressiveScan(luma, 0, 0),
        ...     jpegrad.ProgressiveScan(luma, *coarse),
        ...     jpegrad.ProgressiveScan(luma, *fine),
        ... ]
        >>> coefficients = jpegrad.encode(torch.rand(1, 8, 8), quality=75)
        >>> data = jpegrad.to_bytes(coefficients, progressive=scans)
        >>> torch.equal(jpegrad.read(data).levels[0], coefficients.levels[0])
        True
    """

    components: tuple[int, ...]
    first: int
    last: int
    high: int = 0
    low: int = 0


Script = tuple[ProgressiveScan, ...]


def simple_progression(components: int, *, luma_chroma: bool) -> Script:
    """libjpeg's standard script; ``luma_chroma`` says whether three components are Y, Cb and Cr."""
    together = tuple(range(components))

    def each(*sent: int) -> Script:
        return tuple(ProgressiveScan((i,), *sent) for i in together)

    def one(component: int, *sent: int) -> Script:
        return (ProgressiveScan((component,), *sent),)

    first, refined = ProgressiveScan(together, 0, 0, 0, 1), ProgressiveScan(together, 0, 0, 1, 0)
    if components == 3 and luma_chroma:
        return (
            first,
            *one(0, 1, 5, 0, 2),
            *one(2, 1, 63, 0, 1),
            *one(1, 1, 63, 0, 1),
            *one(0, 6, 63, 0, 2),
            *one(0, 1, 63, 2, 1),
            refined,
            *one(2, 1, 63, 1, 0),
            *one(1, 1, 63, 1, 0),
            *one(0, 1, 63, 1, 0),
        )
    return (
        first,
        *each(1, 5, 0, 2),
        *each(6, 63, 0, 2),
        *each(1, 63, 2, 1),
        refined,
        *each(1, 63, 1, 0),
    )


LUMA_SPLIT = 8
"""The last place of the lower band of Y in :func:`spectral_selection`."""


def spectral_selection(components: int) -> Script:
    """Scans of whole levels: all DCs, Y in two bands, each other component in one.

    Of photographs whose levels were chosen by rate these are smaller files than those of libjpeg's script.
    """
    together = tuple(range(components))
    luma = (ProgressiveScan((0,), 1, LUMA_SPLIT), ProgressiveScan((0,), LUMA_SPLIT + 1, 63))
    return (ProgressiveScan(together, 0, 0), *luma, *(ProgressiveScan((i,), 1, 63) for i in together[1:]))


def check_script(scans: Iterable[Any], blocks_in_mcu: Sequence[int]) -> Script:
    """The scans, if a decoder can follow them and they send every bit of every level.

    Args:
        scans: of :class:`ProgressiveScan` or as many numbers.
        blocks_in_mcu: of each component.

    Raises:
        TypeError, ValueError: they are not as described.
    """
    try:
        script = tuple(_scan(i, scan) for i, scan in enumerate(scans))
    except TypeError as error:
        if str(error).startswith("progressive"):
            raise
        raise TypeError(
            f"progressive: expected a bool or a sequence of ProgressiveScan, got {type(scans).__name__}"
        ) from None
    # The lowest bit of each level that was sent; None before its first.
    sent: list[list[int | None]] = [[None] * 64 for _ in blocks_in_mcu]
    for i, scan in enumerate(script):
        if fault := _fault(scan, blocks_in_mcu) or _fault_of_order(scan, sent):
            raise ValueError(f"progressive[{i}]: {fault}; got {tuple(scan)}")
    for component, bits in enumerate(sent):
        if any(bits):
            place = next(k for k, bit in enumerate(bits) if bit)
            raise ValueError(
                f"progressive: expected scans of every bit of every level; of component {component}, "
                f"place {place}, the last are missing"
            )
        if None in bits:
            raise ValueError(
                f"progressive: expected scans of every level; component {component}, "
                f"place {bits.index(None)} has none"
            )
    return script


def _scan(i: int, scan: Any) -> ProgressiveScan:
    try:
        components, *sent = scan
        found = ProgressiveScan(tuple(components), *sent)
    except TypeError:
        raise TypeError(f"progressive[{i}]: expected a ProgressiveScan, got {scan!r}") from None
    for number in (*found.components, *found[1:]):
        if isinstance(number, bool) or not isinstance(number, int):
            raise TypeError(f"progressive[{i}]: expected integers, got {number!r} in {tuple(found)}")
    return found


def _fault(scan: ProgressiveScan, blocks_in_mcu: Sequence[int]) -> str | None:
    """What is wrong with a scan by itself."""
    known = range(len(blocks_in_mcu))
    if not 1 <= len(scan.components) <= MAX_COMPONENTS or any(i not in known for i in scan.components):
        return f"expected 1 to {min(MAX_COMPONENTS, len(known))} components of {list(known)}"
    if any(a >= b for a, b in zip(scan.components, scan.components[1:], strict=False)):
        return "expected ascending components"
    if len(scan.components) > 1 and sum(blocks_in_mcu[i] for i in scan.components) > MAX_BLOCKS_IN_MCU:
        return f"expected at most {MAX_BLOCKS_IN_MCU} blocks in an MCU"
    if not 0 <= scan.first <= scan.last <= 63:
        return "expected 0 <= first <= last <= 63"
    if scan.first == 0 and scan.last != 0:
        return "expected the DC level by itself: last 0 with first 0"
    if scan.first > 0 and len(scan.components) > 1:
        return "expected one component in a scan of AC levels"
    if not (0 <= scan.high <= MAX_LOW and 0 <= scan.low <= MAX_LOW):
        return f"expected high and low in 0 to {MAX_LOW}"
    return None


def _fault_of_order(scan: ProgressiveScan, sent: list[list[int | None]]) -> str | None:
    """What is wrong with a scan after those before it, whose bits are noted."""
    for component in scan.components:
        bits = sent[component]
        if scan.first > 0 and bits[0] is None:
            return f"expected the DC level of component {component} before its AC levels"
        for place in range(scan.first, scan.last + 1):
            before = bits[place]
            if before is None and scan.high:
                return f"expected high 0 in the first scan of place {place}"
            if before == 0:
                return f"expected no level again: place {place} of component {component} is complete"
            if before is not None and (scan.high != before or scan.low != before - 1):
                return f"expected high {before} and low {before - 1} after the scan of place {place} before"
            bits[place] = scan.low
    return None
