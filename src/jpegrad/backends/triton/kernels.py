"""The Triton kernels as the six fills of :mod:`jpegrad.backends.fused.operators`: launches and their constants.

Flags say which clamps acted: at a pixel those of the encoder's R, G, B (1, 2, 4; 128, 256, 512 too if the value is no
number), of the decoded Y (8) and of the decoder's R, G, B (16, 32, 64); a pixel with a NaN has 1024. In 8 bits there is
128 alone, which says that.
"""

import functools
import importlib.util
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from jpegrad.backends.fused.settings import SLOPES as SLOPES
from jpegrad.backends.fused.settings import SOFT as SOFT
from jpegrad.backends.fused.settings import Settings
from jpegrad.backends.triton import halves
from jpegrad.backends.triton.calls import (
    Room,
    Tensors,
    decode_gradient,
    encode_gradient,
    soft_encoded,
    soft_imaged,
)
from jpegrad.backends.triton.launch import (
    fixed_rows,
    grid,
    launch,
    table_places,
    value_range,
    warps,
)
from jpegrad.compiling import constant_result
from jpegrad.spec import Spec

NAME = "triton"
HALF = ("jpeg", "encode", "decode", "colored_encode", "colored_decode")
soft_halves = halves
# Triton 3.3 has tuples, but in constants only under its interpreter.
OLDEST, OLDEST_INTERPRETED = (3, 4), (3, 3)
# On the CPU they run under Triton's interpreter.
KEYS = ("CUDA", "CPU")


def reasons(operation: str, image: Tensor, spec: Spec) -> list[str]:
    """Why these kernels cannot run a call."""
    found = [reason] if (reason := missing()) else []
    if image.device.type != "cuda":
        found.append(f"it runs on CUDA devices, the image is on {image.device}")
    return found


@constant_result
def missing() -> str:
    """Why there is no Triton that these kernels can be compiled with."""
    return _missing(_version(), OLDEST_INTERPRETED if os.environ.get("TRITON_INTERPRET") == "1" else OLDEST)


@functools.cache
def _missing(version: str | None, oldest: tuple[int, int]) -> str:
    if version is None:
        return "triton is not installed"
    numbers = tuple(map(int, re.findall(r"\d+", version)[:2]))
    if numbers >= oldest:
        return ""
    return f"it needs triton >= {oldest[0]}.{oldest[1]}, whose kernels take tuples, not {version}"


@functools.cache
def _version() -> str | None:
    """Of the Triton that would be imported, whatever distribution it came with."""
    found = importlib.util.find_spec("triton")
    if found is None or found.origin is None:
        return None
    said = re.search(r"__version__ = ['\"](.+?)['\"]", Path(found.origin).read_text(encoding="utf-8"))
    return said[1] if said else "of an unknown version"


def installed() -> bool:
    return not missing()


def entries(tables: Tensor) -> tuple[Tensor, Tensor]:
    """Table entries as integers, and what a coefficient (8 times the orthonormal) is multiplied by."""
    return tables.to(torch.int32).contiguous(), (0.125 / tables).float().contiguous()


def _tables(tables: Tensor, channels: int) -> tuple[Tensor | int, ...]:
    """Tables as the kernels take them: steps and reciprocals, and where those of an image and a component lie."""
    return *entries(tables), *table_places(tables, channels)


def saved(image: Tensor, s: Settings, with_tables: bool) -> list[Tensor]:
    """Flags; unless the slope is 1 every coefficient's integer, or its slope and factor in the soft forward.

    Then slopes of pixels, Y, chroma and RGB, where the soft forward smooths its clamps.
    """
    kept: list[Tensor] = []
    if with_tables or s.slope != "identity":
        dtype = torch.float32 if s.soft else torch.int16
        for _ in range(1 + (s.soft and with_tables)):
            kept += grid(image.shape, s).coefficients(image, dtype)
    if s.noise:
        kept += grid(image.shape, s).clips(image)
    return [*flags(image.shape, s, image), *kept]


def _split(
    kept: Sequence[Tensor], s: Settings, channels: int
) -> tuple[Tensors, Tensors | None, Tensors | None]:
    """What :func:`saved` keeps beside the flags: of each component; its factors; slopes of the clamps."""
    clips = tuple(kept[-4:]) if s.noise and kept else None
    rest = tuple(kept[:-4] if clips else kept)
    return rest[:channels], rest[channels:] or None, clips


def flags(shape: Sequence[int], s: Settings, like: Tensor) -> tuple[Tensor, Tensor]:
    g = grid(shape, s)
    return g.flags(like, s.clip_slope), g.planes(like, torch.uint8)[1]


def jpeg(image: Tensor, tables: Tensor, s: Settings, out: Tensor, saved: list[Tensor]) -> None:
    flags, kept = tuple(saved[:2]) or None, tuple(saved[2:])
    if s.soft:
        return _soft(image, tables, s, out, flags, kept)
    planes, seen = grid(image.shape, s).planes(image, torch.uint8), _seen(image)
    coefficients = kept or None
    encoded(image, tables, s, planes, seen, flags, coefficients)
    imaged(planes, out, s, flags, image, seen)


def _soft(
    image: Tensor, tables: Tensor, s: Settings, out: Tensor, flags: Tensors | None, kept: Tensors
) -> None:
    g = grid(image.shape, s)
    planes, seen = g.planes(image, torch.float32), image.new_zeros(image.shape[0], dtype=torch.int32)
    spreads = g.spreads(image) if s.noise else None
    slopes, factors, clips = _split(kept, s, g.channels)
    room = Room(planes, spreads, seen, flags, clips, slopes or None, factors)
    soft_encoded(image, tables, s, room)
    soft_imaged(planes, out, s, spreads, flags, clips, image, seen)


def encoder_range(image: Tensor, s: Settings) -> tuple[str, float, float]:
    """The RANGE of kernels that read grey levels of the exact forward."""
    return value_range(image.dtype, s.low, s.high), s.low, 255 / (s.high - s.low)


def _seen(image: Tensor) -> Tensor | None:
    """Room for a note per image that it has a NaN, which bytes have not."""
    return None if image.dtype is torch.uint8 else image.new_zeros(image.shape[0], dtype=torch.int32)


def encoded(
    image: Tensor,
    tables: Tensor,
    s: Settings,
    planes: Tensors | None = None,
    seen: Tensor | None = None,
    flags: Tensors | None = None,
    coefficients: Tensors | None = None,
    levels: Tensors | None = None,
    unrounded: Tensors | None = None,
    colors: Tensor | None = None,
) -> None:
    """The exact encoder, for whatever there is room; ``colors`` stand for its conversion."""
    g = grid(image.shape, s)
    mcus = g.per_program(image.device)
    launch(
        "forward.encode_kernel", g.batch * g.programs(image.device), image,
        image, image.stride(), _tables(tables, g.channels), colors, planes, seen, flags, coefficients, levels,
        unrounded, g.height, g.width, CHANNELS=g.channels, H=s.h, V=s.v,
        COLOR=fixed_rows(s.forward_matrix, s.forward_bias),
        RANGE=encoder_range(image, s),
        ALIGNED=g.width % (8 * s.h) == 0, N=mcus, LONG=g.is_long(image), num_warps=warps(mcus),
        colored=colors is not None,
    )  # fmt: skip


def imaged(
    planes: Tensors,
    out: Tensor,
    s: Settings,
    flags: Tensors | None,
    image: Tensor | None = None,
    seen: Tensor | None = None,
    colors: Tensor | None = None,
) -> None:
    """Decoded planes to an image; ``colors`` stand for the decoder's conversion."""
    g = grid(out.shape, s)
    programs, rows, columns = g.tile()
    launch(
        "forward.image_kernel", programs, out, planes, colors, out, flags and flags[0],
        image, (out if image is None else image).stride(), seen, g.height, g.width,
        CHANNELS=g.channels, H=s.h, V=s.v, FANCY=g.fancy, INVERSE=fixed_rows(s.inverse_matrix, s.inverse_bias),
        RANGE=(value_range(out.dtype, s.low, s.high), s.low, s.high - s.low), ROWS=rows, COLUMNS=columns,
        LONG=g.is_long(out if image is None else image),
    )  # fmt: skip


def jpeg_backward(
    gradient: Tensor, tables: Tensor, saved: list[Tensor], s: Settings, out: Tensor, sums: Tensor | None
) -> None:
    g = grid(gradient.shape, s)
    flags = tuple(saved[:2])
    kept, factors, clips = _split(saved[2:], s, g.channels)
    constants: dict[str, Any] = {
        "CHANNELS": g.channels, "H": s.h, "V": s.v, "FANCY": g.fancy,
        "INVERSE": s.inverse_real, "FORWARD": s.forward_real, "CLIP_SLOPE": s.clip_slope,
    }  # fmt: skip
    if not kept:
        tiles, rows, columns = g.tile(s.h, s.v)
        launch(
            "backward.stencil_kernel", tiles, gradient,
            gradient, gradient.stride(), flags, clips, out, g.height, g.width, **constants,
            ROWS=rows, COLUMNS=columns, LONG=g.is_long(gradient),
        )  # fmt: skip
        return
    programs, mcus = g.programs(gradient.device), g.per_program(gradient.device)
    # A sum per program, added in a fixed order: the result is the same in every run.
    size = (g.batch, programs, g.channels, 8, 8)
    parts = None if sums is None else gradient.new_empty(size, dtype=torch.float32)
    launch(
        "backward.gradient_kernel", g.batch * programs, gradient,
        gradient, gradient.stride(), None if s.soft else _tables(tables, g.channels),
        (s.slope_parameter, s.table_parameter), kept, factors, flags, clips, out, parts,
        g.height, g.width, **constants, RECORDS=None if s.soft else (s.slope, s.table_slope),
        ALIGNED=g.aligned, N=mcus, LONG=g.is_long(gradient), num_warps=warps(mcus),
    )  # fmt: skip
    if parts is not None:
        torch.sum(parts, 1, dtype=torch.float64, out=sums)


def encode(
    image: Tensor,
    tables: Tensor,
    s: Settings,
    levels: list[Tensor],
    unrounded: list[Tensor],
    flags: Tensor | None,
) -> None:
    pixels = None if flags is None else (flags,)
    encoded(image, tables, s, flags=pixels, levels=tuple(levels), unrounded=tuple(unrounded) or None)


def encode_backward(gradients: list[Tensor], flags: Tensor, s: Settings, out: Tensor) -> None:
    encode_gradient(gradients, flags, None, s, out)


def decode(
    levels: list[Tensor],
    tables: Tensor,
    s: Settings,
    out: Tensor,
    flags: list[Tensor],
    planes: Tensors | None = None,
    colors: Tensor | None = None,
) -> None:
    """An image; in ``planes``, if given, those that it is made of. ``colors`` stand for the conversion."""
    g = grid(out.shape, s)
    mcus, kept = g.per_program(out.device), tuple(flags) or None
    planes = g.planes(out, torch.uint8) if planes is None else planes
    launch(
        "forward.decode_kernel", g.batch * g.programs(out.device), out,
        tuple(levels), _tables(tables, g.channels), planes, kept, g.height, g.width,
        CHANNELS=g.channels, H=s.h, V=s.v, N=mcus, LONG=g.is_long(), num_warps=warps(mcus),
    )  # fmt: skip
    imaged(planes, out, s, kept, colors=colors)


def decode_backward(gradient: Tensor, flags: list[Tensor], s: Settings, out: list[Tensor]) -> None:
    decode_gradient(gradient, tuple(flags), None, s, out)
