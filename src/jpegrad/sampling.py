"""How many samples each component has: names and factors of samplings, ratios, blocks."""

import math
import re
from collections.abc import Sequence

from jpegrad.compiling import constant, constant_result

SUBSAMPLING: dict[str, tuple[int, int]] = {
    "4:4:4": (1, 1),
    "4:2:2": (2, 1),
    "4:2:0": (2, 2),
    "4:4:0": (1, 2),
    "4:1:1": (4, 1),
}
"""Named modes: sampling factors (horizontal, vertical) of the first component; those of the others are (1, 1)."""
Factors = tuple[tuple[int, int], ...]
_SPELLED = re.compile(r"[1-4]x[1-4](,[1-4]x[1-4])*")


def check_subsampling(argument: str, value: object) -> None:
    """Raise unless this is a named mode, or the sampling factors of three or four components."""
    named = isinstance(value, str) and value in SUBSAMPLING
    spelled = isinstance(value, str) and _SPELLED.fullmatch(value) and value.count(",") in (2, 3)
    if not named and not spelled:
        raise ValueError(
            f"{argument}: expected one of {', '.join(SUBSAMPLING)}, or the sampling factors of each component, "
            f'1 to 4, as in "3x1,1x1,1x1"; got {value!r}'
        )


@constant_result
def sampling_factors(channels: int, subsampling: str) -> Factors:
    """Sampling factors (horizontal, vertical) of each component.

    Args:
        channels: of the image; gray has (1, 1), because of one component they have no meaning.
        subsampling: a key of :data:`SUBSAMPLING`, or factors as cjpeg's ``-sample`` has them: ``"3x1,1x1,1x1"``.

    Raises:
        ValueError: factors of another count of components, or such as libjpeg does not decode.
    """
    check_subsampling("subsampling", subsampling)
    if channels == 1:
        return ((1, 1),)
    if subsampling in SUBSAMPLING:
        return (SUBSAMPLING[subsampling], *[(1, 1)] * (channels - 1))
    found = tuple((int(each[0]), int(each[2])) for each in subsampling.split(","))
    if len(found) != channels:
        raise ValueError(f"subsampling: expected the factors of {channels} components, got {subsampling!r}")
    try:
        sampling_name(found)
    except ValueError as error:
        raise ValueError(f"subsampling: {error}; expected the largest to be a multiple of each") from None
    return found


def sampling_name(factors: Sequence[tuple[int, int]]) -> str:
    """The name of sampling factors, of which only the ratios count; what has no name is spelled out.

    Raises:
        ValueError: the largest factor is not a multiple of each, which libjpeg decodes not either.
    """
    if len(factors) == 1:
        return "4:4:4"
    widths, heights = zip(*factors, strict=True)
    if any(max(row) % x for row in (widths, heights) for x in row):
        raise ValueError(f"fractional sampling factors {', '.join(f'{h}x{v}' for h, v in factors)}")
    across, down = math.gcd(*widths), math.gcd(*heights)
    first, *others = ((h // across, v // down) for h, v in factors)
    if len(factors) == 3 and others == [(1, 1)] * 2:
        for name, mode in SUBSAMPLING.items():
            if mode == first:
                return name
    return ",".join(f"{h}x{v}" for h, v in (first, *others))


def canonical(channels: int, subsampling: str) -> str:
    """One word for each sampling: a key of :data:`SUBSAMPLING` for three components where one fits and for gray."""
    if channels == 3 and isinstance(subsampling, str) and subsampling in SUBSAMPLING:
        return subsampling
    return _canonical(constant(channels), subsampling)


@constant_result
def _canonical(channels: int, subsampling: str) -> str:
    return sampling_name(sampling_factors(channels, subsampling))


def luma_factors(channels: int, subsampling: str) -> tuple[int, int] | None:
    """The first component's factors in the named modes, the only ones of kernels; else None."""
    return (1, 1) if channels == 1 else SUBSAMPLING.get(subsampling) if channels == 3 else None


def ratios(channels: int, subsampling: str) -> Factors:
    """Per component, how many samples of the full size one of its samples covers: (horizontal, vertical)."""
    found = sampling_factors(constant(channels), subsampling)
    across, down = max(h for h, _ in found), max(v for _, v in found)
    return tuple((across // h, down // v) for h, v in found)


def blocks(size: tuple[int, int], ratio: tuple[int, int]) -> tuple[int, int]:
    """(blocks_y, blocks_x) of a component of an image of ``size`` = (height, width)."""
    (height, width), (h, v) = size, ratio
    return ceil_div(height, 8 * v), ceil_div(width, 8 * h)


def ceil_div(a: int, b: int) -> int:
    return (a + b - 1) // b
