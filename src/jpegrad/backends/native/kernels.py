"""The native kernel as the six fills of :mod:`jpegrad.backends.fused.operators`: pointers and sizes for C++."""

import functools
import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

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
    """One tensor of bytes with all of :func:`parts`: a row per image, filled up to a multiple of 64."""
    batch, *shape = image.shape
    # The symbols of PyTorch's compiler are no keys.
    count = _bytes if all(type(n) is int for n in shape) else _bytes.__wrapped__
    used = count(tuple(shape), s, with_tables)
    return [image.new_empty((batch, 64 * ceil_div(used, 64)), dtype=torch.uint8)]


@functools.lru_cache(256)
def _bytes(shape: tuple[int, ...], s: Settings, with_tables: bool) -> int:
    return sum(_sizes(parts(shape, s, with_tables)))


class Part(NamedTuple):
    """Of what is kept for the backward pass: a field of the kernel's structure, with one pointer or several."""

    field: str
    dtype: torch.dtype
    shapes: tuple[tuple[int, ...], ...]
    """Of one image."""


def parts(shape: Sequence[int], s: Settings, with_tables: bool) -> tuple[Part, ...]:
    """What is kept of an image ``[C, H, W]``.

    For every coefficient its integer, or its slopes in the soft forward, unless the slope is 1. Where the soft forward
    smooths its clamps, their slopes too: of pixels, of Y, of chroma and of RGB. Last, which clamps acted.
    """
    channels, height, width = shape
    chroma = (channels - 1, ceil_div(height, s.v), ceil_div(width, s.h))
    found = []
    if s.soft:
        found.append(Part("slopes", torch.float32, (_saved(shape, s),)))
        if with_tables:
            found.append(Part("factors", torch.float32, (_saved(shape, s),)))
        if s.noise:
            rgb = (channels if channels == 3 else 0, height, width)
            found.append(
                Part("clips", torch.float32, ((channels, height, width), (height, width), chroma, rgb))
            )
    elif with_tables or s.slope != "identity":
        found.append(Part("coefficients", torch.int16, (_saved(shape, s),)))
    flags = Part("flags", torch.uint8, ((height, width),)), Part("chroma_flags", torch.uint8, (chroma,))
    return (*found, *flags)


def _sizes(found: tuple[Part, ...]) -> list[int]:
    """In bytes, of every pointer."""
    return [math.prod(shape) * part.dtype.itemsize for part in found for shape in part.shapes]


def _saved(shape: Sequence[int], s: Settings) -> tuple[int]:
    """How many coefficients the kernel's layout holds: of a strip, groups of as many blocks as lanes."""
    channels, height, width = shape
    lanes = int(abi.library().jpegrad_lanes())
    groups = ceil_div(s.v * ceil_div(width, 8), lanes)
    groups += (channels - 1) * ceil_div(ceil_div(width, 8 * s.h), lanes)
    return (ceil_div(height, 8 * s.v) * groups * 64 * lanes,)


def flags(shape: Sequence[int], s: Settings, like: Tensor) -> tuple[Tensor, Tensor]:
    """A byte per pixel, and one per chroma sample, that says which clamps acted."""
    batch, channels, height, width = shape
    chroma = (batch, channels - 1, ceil_div(height, s.v), ceil_div(width, s.h))
    return like.new_empty((batch, height, width), dtype=torch.uint8), like.new_empty(
        chroma, dtype=torch.uint8
    )


def saved_fields(kept: Tensor, shape: Sequence[int], s: Settings) -> tuple[dict[str, Any], int]:
    """Where the parts of what :func:`saved` gave room for lie, for images of a shape, and how many bytes they are."""
    at, stride = kept.data_ptr(), kept.shape[1]
    fields: dict[str, Any] = {"kept_stride": stride}
    offsets, used = _offsets(tuple(shape[1:]), s, stride)
    for name, places in offsets:
        fields[name] = at + places[0] if len(places) == 1 else tuple(at + place for place in places)
    return fields, used


@functools.lru_cache(256)
def _offsets(shape: tuple[int, ...], s: Settings, stride: int) -> tuple[list[tuple[str, list[int]]], int]:
    """The bytes before each part, by its field, and all that are used; ``stride`` tells with tables from without."""
    found = parts(shape, s, stride >= _bytes(shape, s, True))
    places = itertools.accumulate(_sizes(found), initial=0)
    return [(x.field, list(itertools.islice(places, len(x.shapes)))) for x in found], next(places)


def flag_fields(flags: Sequence[Tensor]) -> dict[str, Any]:
    """Where :func:`flags` gave room."""
    return {"flags": flags[0].data_ptr(), "chroma_flags": flags[1].data_ptr()}


def jpeg(image: Tensor, tables: Tensor, s: Settings, out: Tensor, saved: list[Tensor]) -> None:
    fields: dict[str, Any] = {}
    if saved:
        (kept,) = saved
        fields, used = saved_fields(kept, image.shape, s)
        if used < kept.shape[1]:
            # Nothing is left as memory happens to be.
            kept[:, used:].zero_()
    _read("soft" if s.soft else "jpeg", image, tables, s, output=abi.describe(out), **fields)


def jpeg_backward(
    gradient: Tensor, tables: Tensor, saved: list[Tensor], s: Settings, out: Tensor, sums: Tensor | None
) -> None:
    fields, _ = saved_fields(saved[0], gradient.shape, s)
    fields |= {"input": abi.describe(gradient), "output": abi.describe(out)}
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
        fields |= flag_fields(flags)
    _invoke("decode", out.shape, tables, s, **fields)


def decode_backward(gradient: Tensor, flags: list[Tensor], s: Settings, out: list[Tensor]) -> None:
    fields = flag_fields(flags) | {"planes": abi.pointers(out), "input": abi.describe(gradient)}
    _invoke("decode_backward", gradient.shape, None, s, **fields)
