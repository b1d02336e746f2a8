"""Turning, flipping, cropping and shifting a picture by its levels, without loss, as libjpeg's ``jpegtran`` does.

Levels change their places and their signs, and nothing else: the picture is not coded again. What is turned or flipped
must end where an MCU ends, because the samples beyond the edge of a picture are no mirror of those before it.

Transposed tables and swapped sampling factors belong to transposed levels; metadata stay, as ``jpegtran -copy all``
has them, and Exif's size in pixels and the density follow. All functions are plain PyTorch: they keep leading
dimensions, dtype and device, and have gradients.

Source: libjpeg-turbo ``transupp.c``; the signs are those of the cosines of T.81 A.3.3 under x → 7 − x.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from jpegrad.coefficients import Coefficients
from jpegrad.jfif.exif import EXIF, orientation_of, sized, upright, without_thumbnail
from jpegrad.sampling import blocks, ratios, sampling_factors, sampling_name

APP1 = 0xE1
TURNS = {
    0: (False, False, False),
    90: (True, True, False),
    180: (False, True, True),
    270: (True, False, True),
}
ORIENTATIONS = {
    1: (False, False, False),
    2: (False, True, False),
    3: (False, True, True),
    4: (False, False, True),
    5: (True, False, False),
    6: (True, True, False),
    7: (True, True, True),
    8: (True, False, True),
}
"""What makes a picture of this Exif orientation upright: a transposition, then mirrors left to right, top to bottom."""

Move = Callable[[int, Tensor], Tensor]


def mcu(coefficients: Coefficients) -> tuple[int, int]:
    """(height, width) of an MCU in pixels: the grid on which pictures are cropped and shifted.

    Example:
        >>> import jpegrad, torch
        >>> jpegrad.lossless.mcu(jpegrad.encode(torch.rand(3, 32, 32), 75, subsampling="4:2:2"))
        (8, 16)
    """
    _check(coefficients)
    across, down = zip(*ratios(coefficients.channels, coefficients.subsampling), strict=True)
    return 8 * max(down), 8 * max(across)


def rotate(coefficients: Coefficients, degrees: int, *, trim: bool = False) -> Coefficients:
    """Turn clockwise.

    Args:
        coefficients: any, a batch too.
        degrees: 90, 180 or 270; 0 changes nothing.
        trim: cut off the rows and columns that fill no whole MCU and would come first; else they are an error.

    Returns:
        The turned coefficients. ``jpegtran -perfect -rotate`` and ``-trim -rotate`` give the same.

    Raises:
        TypeError, ValueError: an argument is not as described, or the size is no multiple of the MCU where it must be.

    Example:
        >>> import jpegrad, torch
        >>> picture = jpegrad.encode(torch.rand(3, 32, 48), quality=75, subsampling="4:2:2")
        >>> turned = jpegrad.lossless.rotate(picture, 90)
        >>> turned.size, turned.subsampling
        ((48, 32), '4:4:0')
    """
    if degrees not in TURNS:
        raise ValueError(f"degrees: expected one of {', '.join(map(str, TURNS))}; got {degrees!r}")
    return _change(coefficients, *TURNS[degrees], trim)


def flip(coefficients: Coefficients, direction: str, *, trim: bool = False) -> Coefficients:
    """Mirror left to right, or top to bottom.

    Args:
        coefficients, trim: as in :func:`rotate`.
        direction: ``"horizontal"`` (left to right) or ``"vertical"``.

    Raises:
        TypeError, ValueError: as in :func:`rotate`.

    Example:
        >>> import jpegrad, torch
        >>> picture = jpegrad.encode(torch.rand(1, 8, 24), quality=75)
        >>> flipped = jpegrad.lossless.flip(picture, "horizontal")
        >>> bool((jpegrad.decode(flipped) - jpegrad.decode(picture).flip(-1)).abs().max() < 0.01)
        True
    """
    if direction not in ("horizontal", "vertical"):
        raise ValueError(f"direction: expected horizontal or vertical, got {direction!r}")
    return _change(coefficients, False, direction == "horizontal", direction == "vertical", trim)


def transpose(coefficients: Coefficients) -> Coefficients:
    """Mirror at the diagonal from the upper left corner: rows become columns. Every size fits.

    Args:
        coefficients: as in :func:`rotate`.

    Raises:
        TypeError: ``coefficients`` are none.

    Example:
        >>> import jpegrad, torch
        >>> jpegrad.lossless.transpose(jpegrad.encode(torch.rand(3, 13, 29), quality=75)).size
        (29, 13)
    """
    return _change(coefficients, True, False, False, False)


def transverse(coefficients: Coefficients, *, trim: bool = False) -> Coefficients:
    """Mirror at the diagonal from the upper right corner.

    Args:
        coefficients, trim: as in :func:`rotate`.

    Raises:
        TypeError, ValueError: as in :func:`rotate`.

    Example:
        >>> import jpegrad, torch
        >>> picture = jpegrad.encode(torch.rand(3, 37, 53), quality=75)
        >>> jpegrad.lossless.transverse(picture, trim=True).size
        (48, 32)
    """
    return _change(coefficients, True, True, True, trim)


def crop(
    coefficients: Coefficients, top: int, left: int, height: int, width: int, *, grow: bool = False
) -> Coefficients:
    """A part of the picture, whose corner lies on the grid of MCUs.

    Args:
        coefficients: as in :func:`rotate`.
        top, left: the first row and column, multiples of :func:`mcu`.
        height, width: of the part, any that fit.
        grow: move the corner up and left onto the grid if need be, and let the part grow by as much, as
            ``jpegtran -crop`` does; else it is an error.

    Returns:
        The part; views of the same memory.

    Raises:
        TypeError, ValueError: an argument is not as described, or the part lies not within the picture.

    Example:
        >>> import jpegrad, torch
        >>> picture = jpegrad.encode(torch.rand(3, 64, 64), quality=75)
        >>> jpegrad.lossless.crop(picture, 16, 32, 20, 9).size
        (20, 9)
        >>> jpegrad.lossless.crop(picture, 20, 32, 20, 9, grow=True).size
        (24, 9)
    """
    grid = mcu(coefficients)
    _check_integers(top=top, left=left, height=height, width=width)
    whole = coefficients.size
    fits = top >= 0 and left >= 0 and height >= 1 and width >= 1
    if not fits or top + height > whole[0] or left + width > whole[1]:
        raise ValueError(
            f"top, left, height, width: expected a part of the picture of {whole[0]}×{whole[1]}, "
            f"got {top}, {left}, {height}, {width}"
        )
    over, beside = top % grid[0], left % grid[1]
    if (over or beside) and not grow:
        raise ValueError(
            f"top, left: expected multiples of the MCU, {grid[0]} and {grid[1]}, got {top} and {left}; "
            f"grow=True begins at {top - over} and {left - beside}"
        )
    return _part(coefficients, top - over, left - beside, (height + over, width + beside))


def roll(coefficients: Coefficients, down: int, right: int, *, trim: bool = False) -> Coefficients:
    """Shift by whole MCUs; what leaves at one edge comes in at the opposite one, as in ``torch.roll``.

    Args:
        coefficients, trim: as in :func:`rotate`; only the sides along which something moves must fit.
        down, right: pixels, multiples of :func:`mcu`; negative ones move up and left.

    Raises:
        TypeError, ValueError: an argument is not as described, or the size is no multiple of the MCU.

    Example:
        >>> import jpegrad, torch
        >>> picture = jpegrad.encode(torch.rand(1, 16, 24), quality=75)
        >>> shifted = jpegrad.lossless.roll(picture, 8, -8)
        >>> torch.equal(jpegrad.decode(shifted), jpegrad.decode(picture).roll((8, -8), (-2, -1)))
        True
    """
    grid = mcu(coefficients)
    _check_integers(down=down, right=right)
    if down % grid[0] or right % grid[1]:
        raise ValueError(
            f"down, right: expected multiples of the MCU, {grid[0]} and {grid[1]}, got {down} and {right}"
        )
    fitting = _whole(coefficients, ("height", "width"), (down != 0, right != 0), trim)
    factors = ratios(fitting.channels, fitting.subsampling)

    def rolled(i: int, x: Tensor) -> Tensor:
        h, v = factors[i]
        return x.roll((down // (8 * v), right // (8 * h)), (-4, -3))

    return _moved(fitting, rolled)


def apply_orientation(coefficients: Coefficients, *, trim: bool = False) -> Coefficients:
    """Turn and flip as Exif's orientation says, and say 1 there, in Exif and XMP.

    Exif's thumbnail would stay as it was; the directory that leads to it is left out, and viewers make their own.

    Args:
        coefficients, trim: as in :func:`rotate`.

    Returns:
        The upright coefficients; the given ones where Exif says 1 or nothing.

    Raises:
        TypeError, ValueError: as in :func:`rotate`.

    Source: Exif 2.32 4.6.4 (Orientation).

    Example:
        >>> import jpegrad, torch
        >>> picture = jpegrad.encode(torch.rand(3, 16, 32), quality=75)
        >>> jpegrad.lossless.apply_orientation(picture) is picture
        True
    """
    _check(coefficients)
    found = orientation(coefficients)
    if found in (None, 1):
        return coefficients
    turned = _change(coefficients, *ORIENTATIONS[found], trim)
    metadata = tuple((marker, without_thumbnail(upright(payload))) for marker, payload in turned.metadata)
    return _with(turned, metadata=metadata)


def orientation(coefficients: Coefficients) -> int | None:
    """The orientation that Exif gives, 1 to 8; None if there is none.

    Example:
        >>> import jpegrad, torch
        >>> jpegrad.lossless.orientation(jpegrad.encode(torch.rand(3, 16, 32), quality=75)) is None
        True
    """
    _check(coefficients)
    for marker, payload in coefficients.metadata:
        if marker == APP1 and payload.startswith(EXIF):
            return orientation_of(payload)
    return None


def _change(
    coefficients: Coefficients, transposed: bool, across: bool, down: bool, trim: bool
) -> Coefficients:
    """A transposition, then mirrors."""
    _check(coefficients)
    sides = ("height", "width")
    if transposed:
        coefficients, sides = _transposed(coefficients), ("width", "height")
    if not across and not down:
        return coefficients
    coefficients = _whole(coefficients, sides, (down, across), trim)
    axes = [axis for axis, mirrored in ((-4, down), (-3, across)) if mirrored]

    def mirrored(_: int, x: Tensor) -> Tensor:
        # Odd frequencies are odd functions: mirrored, they change their sign.
        odd = torch.arange(8, device=x.device) % 2
        signs = (1 - 2 * odd if across else odd.new_ones(8)) * (1 - 2 * odd if down else odd.new_ones(8))[
            :, None
        ]
        return x.flip(axes).mul_(signs.to(x.dtype))

    return _moved(coefficients, mirrored)


def _transposed(c: Coefficients) -> Coefficients:
    factors = [(v, h) for h, v in sampling_factors(c.channels, c.subsampling)]
    x, y, unit = c.density
    return _moved(
        c,
        lambda _, levels: levels.transpose(-4, -3).transpose(-2, -1),
        tables=c.tables.transpose(-2, -1),
        size=(c.size[1], c.size[0]),
        subsampling=sampling_name(factors),
        density=(y, x, unit),
    )


def _whole(c: Coefficients, names: tuple[str, str], needed: tuple[bool, bool], trim: bool) -> Coefficients:
    """The coefficients up to the last whole MCU of the sides that need it."""
    size = list(c.size)
    for axis, grid in enumerate(mcu(c)):
        rest = size[axis] % grid
        if not needed[axis] or not rest:
            continue
        expected = f"size: expected a {names[axis]} that is a multiple of the MCU, {grid}, got {size[axis]}"
        if not trim:
            raise ValueError(f"{expected}; trim=True leaves out the last {rest}")
        if size[axis] < grid:
            raise ValueError(f"{expected}, of which trim=True would leave nothing")
        size[axis] -= rest
    return c if tuple(size) == c.size else _part(c, 0, 0, (size[0], size[1]))


def _part(c: Coefficients, top: int, left: int, size: tuple[int, int]) -> Coefficients:
    factors = ratios(c.channels, c.subsampling)

    def cut(i: int, x: Tensor) -> Tensor:
        h, v = factors[i]
        (rows, columns), y, z = blocks(size, factors[i]), top // (8 * v), left // (8 * h)
        return x[..., y : y + rows, z : z + columns, :, :]

    return _moved(c, cut, size=size)


def _moved(c: Coefficients, move: Move, **changes: Any) -> Coefficients:
    """The same done to the levels of each component, ``smoothing`` and ``unrounded``; metadata know the new size."""
    size = changes.get("size", c.size)
    if size != c.size:
        changes["metadata"] = tuple((marker, sized(payload, size)) for marker, payload in c.metadata)
    changes["smoothing"] = c.smoothing and tuple(move(i, x) for i, x in enumerate(c.smoothing))
    return _with(c, move, levels=tuple(move(i, x) for i, x in enumerate(c.levels)), **changes)


def _with(c: Coefficients, move: Move = lambda _, x: x, **changes: Any) -> Coefficients:
    changed = replace(c, **changes)
    if c.unrounded is not None:
        object.__setattr__(changed, "unrounded", tuple(move(i, x) for i, x in enumerate(c.unrounded)))
    return changed


def _check(coefficients: object) -> None:
    if not isinstance(coefficients, Coefficients):
        raise TypeError(f"coefficients: expected Coefficients, got {type(coefficients).__name__}")


def _check_integers(**arguments: object) -> None:
    for name, value in arguments.items():
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"{name}: expected an integer, got {type(value).__name__}")
