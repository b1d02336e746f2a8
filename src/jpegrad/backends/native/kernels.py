"""The native kernel as the six fills of :mod:`jpegrad.backends.fused.operators`: pointers and sizes for C++."""

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from jpegrad.backends.fused.settings import CLOSED, ONE, Settings, families
from jpegrad.backends.fused.settings import SOFT as SOFT
from jpegrad.backends.native import abi
from jpegrad.compiling import constant_result
from jpegrad.inputs import report_range
from jpegrad.sampling import ceil_div
from jpegrad.spec import JFIF, Spec

NAME = "native"
KEYS = ("CPU",)
HALF = ("jpeg",)
soft_halves = None
SLOPES = families((record.name, record.slope) for record in CLOSED)
_NAMES = tuple(record.name for record in CLOSED)
_JFIF_INVERSE = tuple(round(x * ONE) for row in JFIF.inverse or () for x in row)


def reasons(operation: str, image: Tensor, spec: Spec) -> list[str]:
    """Why this kernel cannot run a call."""
    found = [reason] if (reason := missing()) else []
    if image.device.type != "cpu":
        found.append(f"it runs on the CPU, the image is on {image.device}")
    return found


@constant_result
def missing() -> str:
    """Why there is no library, if there is none."""
    library = abi.load()
    return library if isinstance(library, str) else ""


@functools.lru_cache(256)
def codec(channels: int, height: int, width: int, tables: int, s: Settings) -> abi.Codec:
    """The kernel's structure for images of one size."""
    fields = vars(s) | {
        "slope": _NAMES.index(s.slope),
        "table_slope": _NAMES.index(s.table_slope),
        "jfif": s.inverse_matrix == _JFIF_INVERSE and s.inverse_offset == JFIF.offset,
    }
    del fields["soft"]
    return abi.fill(abi.Codec, channels=channels, height=height, width=width, table_count=tables, **fields)


def _invoke(name: str, shape: torch.Size, tables: Tensor | None, s: Settings, **fields: Any) -> int:
    """Run one function of the kernel over images of a shape; how many samples it read far outside the value range."""
    batch, channels, height, width = shape
    count = 1
    if tables is not None:
        count = tables.shape[-3]
        fields |= table_fields(tables)
    return abi.invoke(name, codec(channels, height, width, count, s), batch, **fields)


def _read(name: str, image: Tensor, tables: Tensor, s: Settings, **fields: Any) -> None:
    """Run a function that reads an image, and tell the user if it lies far outside its range."""
    if far := _invoke(name, image.shape, tables, s, input=abi.describe(image), **fields):
        report_range(image, far, (s.low, s.high))


def table_fields(tables: Tensor) -> dict[str, Any]:
    """``tables`` are ``[1 or B, n, 8, 8]``, contiguous float64."""
    return {"tables": tables.data_ptr(), "table_stride": tables[0].numel() if tables.shape[0] > 1 else 0}


def saved(image: Tensor, s: Settings, with_tables: bool) -> list[Tensor]:
    """Flags; and for every coefficient its integer, or its slopes in the soft forward, unless the slope is 1.

    Where the soft forward smooths its clamps, their slopes too: of pixels, of Y, of chroma and of RGB.
    """
    if s.soft:
        kept = [image.new_empty(_saved(image.shape, s), dtype=torch.float32) for _ in range(1 + with_tables)]
        if s.noise:
            kept += _clips(image, s)
    elif with_tables or s.slope != "identity":
        kept = [image.new_empty(_saved(image.shape, s), dtype=torch.int16)]
    else:
        kept = []
    return [*flags(image.shape, s, image), *kept]


def _clips(image: Tensor, s: Settings) -> list[Tensor]:
    batch, channels, height, width = image.shape
    chroma = (batch, channels - 1, ceil_div(height, s.v), ceil_div(width, s.h))
    shapes = ((batch, channels, height, width), (batch, 1, height, width), chroma)
    rgb = (batch, channels if channels == 3 else 0, height, width)
    return [image.new_empty(shape, dtype=torch.float32) for shape in (*shapes, rgb)]


def _saved(shape: torch.Size, s: Settings) -> tuple[int, int]:
    """How many coefficients the kernel's layout holds per image: of a strip, groups of as many blocks as lanes."""
    batch, channels, height, width = shape
    lanes = int(abi.library().jpegrad_lanes())
    groups = ceil_div(s.v * ceil_div(width, 8), lanes)
    groups += (channels - 1) * ceil_div(ceil_div(width, 8 * s.h), lanes)
    return batch, ceil_div(height, 8 * s.v) * groups * 64 * lanes


def flags(shape: Sequence[int], s: Settings, like: Tensor) -> tuple[Tensor, Tensor]:
    """A byte per pixel, and one per chroma sample, that says which clamps acted."""
    batch, channels, height, width = shape
    chroma = (batch, channels - 1, ceil_div(height, s.v), ceil_div(width, s.h))
    return like.new_empty((batch, height, width), dtype=torch.uint8), like.new_empty(
        chroma, dtype=torch.uint8
    )


def saved_fields(saved: list[Tensor]) -> dict[str, Any]:
    """What :func:`saved` gave room for."""
    pixels, chroma, *coefficients = saved
    fields: dict[str, Any] = {"flags": pixels.data_ptr(), "chroma_flags": chroma.data_ptr()}
    if coefficients and coefficients[0].dtype is torch.int16:
        return fields | {"coefficients": coefficients[0].data_ptr()}
    if len(coefficients) > 2:
        fields["clips"] = abi.pointers(coefficients[-4:], 4)
        coefficients = coefficients[:-4]
    pairs = zip(("slopes", "factors"), coefficients, strict=False)
    return fields | {name: each.data_ptr() for name, each in pairs}


def jpeg(image: Tensor, tables: Tensor, s: Settings, out: Tensor, saved: list[Tensor]) -> None:
    fields = saved_fields(saved) if saved else {}
    _read("soft" if s.soft else "jpeg", image, tables, s, output=abi.describe(out), **fields)


def jpeg_backward(
    gradient: Tensor, tables: Tensor, saved: list[Tensor], s: Settings, out: Tensor, sums: Tensor | None
) -> None:
    fields = saved_fields(saved) | {"input": abi.describe(gradient), "output": abi.describe(out)}
    strips = None
    if sums is not None:
        strips = table_sums(gradient.shape, s, gradient)
        fields["table_gradient"] = strips.data_ptr()
    _invoke("jpeg_backward", gradient.shape, tables, s, **fields)
    if sums is not None and strips is not None:
        torch.sum(strips, 1, out=sums)


def table_sums(shape: torch.Size, s: Settings, like: Tensor) -> Tensor:
    """Room for one sum per strip, to be added in a fixed order: the result does not depend on the threads."""
    strips = ceil_div(shape[-2], 8 * s.v)
    return like.new_empty((shape[0], strips, shape[1], 8, 8), dtype=torch.float64)


def encode(
    image: Tensor,
    tables: Tensor,
    s: Settings,
    levels: list[Tensor],
    unrounded: list[Tensor],
    flags: Tensor | None,
) -> None:
    fields: dict[str, Any] = {"planes": abi.pointers(levels)}
    if flags is not None:
        fields |= {"unrounded": abi.pointers(unrounded), "flags": flags.data_ptr()}
    _read("encode", image, tables, s, **fields)


def encode_backward(gradients: list[Tensor], flags: Tensor, s: Settings, out: Tensor) -> None:
    fields = {"planes": abi.pointers(gradients), "flags": flags.data_ptr()}
    _invoke("encode_backward", out.shape, None, s, output=abi.describe(out), **fields)


def decode(levels: list[Tensor], tables: Tensor, s: Settings, out: Tensor, flags: list[Tensor]) -> None:
    fields: dict[str, Any] = {"planes": abi.pointers(levels), "output": abi.describe(out)}
    if flags:
        flags[0].zero_()
        fields |= saved_fields(flags)
    _invoke("decode", out.shape, tables, s, **fields)


def decode_backward(gradient: Tensor, flags: list[Tensor], s: Settings, out: list[Tensor]) -> None:
    fields = saved_fields(flags) | {"planes": abi.pointers(out), "input": abi.describe(gradient)}
    _invoke("decode_backward", gradient.shape, None, s, **fields)
