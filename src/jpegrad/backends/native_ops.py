"""The native kernel's operators, as PyTorch's dispatcher and compiler see them.

``settings`` is what a call asks for, as JSON: fields of ``struct Codec`` in ``native/api.h``, each a list of numbers. A
string passes the dispatcher at once, lists do not.
"""

import functools
import json
from collections.abc import Callable
from ctypes import c_float, c_int32, c_int64
from typing import Any, NamedTuple

import torch
from torch import Tensor

from jpegrad.backends import native_abi as abi
from jpegrad.inputs import report_range
from jpegrad.spec import blocks, ceil_div

LIBRARY = torch.library.Library("jpegrad", "FRAGMENT")


class Settings(NamedTuple):
    """``settings`` as the operators need it."""

    h: int
    v: int
    codec: dict[str, Any]


@functools.lru_cache(256)
def parse(settings: str) -> Settings:
    found = json.loads(settings)
    h, v = found["sampling"]
    codec = {name: value[0] for name, value in found.items() if len(value) == 1}
    for name, value in found.items():
        if len(value) in (3, 9):
            kind = c_float if name.endswith(("real", "offset", "parameter")) else c_int32
            codec[name] = ((c_int64 if name == "inverse_bias" else kind) * len(value))(*value)
    return Settings(h, v, codec)


@functools.lru_cache(256)
def codec(channels: int, height: int, width: int, tables: int, settings: str) -> abi.Codec:
    """The kernel's structure for images of one size."""
    h, v, fields = parse(settings)
    return abi.Codec(channels=channels, height=height, width=width, table_count=tables, h=h, v=v, **fields)


def _codec(shape: torch.Size, tables: int, settings: str) -> abi.Codec:
    return codec(shape[-3], shape[-2], shape[-1], tables, settings)


def table_fields(tables: Tensor) -> dict[str, Any]:
    """``tables`` are ``[n, 8, 8]`` for all images or ``[B, n, 8, 8]``, contiguous float64."""
    return {"tables": tables.data_ptr(), "table_stride": tables[0].numel() if tables.ndim == 4 else 0}


def _bytes(like: Tensor, *shape: int) -> Tensor:
    return like.new_empty(shape, dtype=torch.uint8)


def _flags(shape: torch.Size, settings: str, like: Tensor) -> tuple[Tensor, Tensor]:
    """Room for a byte per pixel, and one per chroma sample, that says which clamps acted."""
    batch, channels, height, width = shape
    h, v, _ = parse(settings)
    chroma = (batch, channels - 1, ceil_div(height, v), ceil_div(width, h))
    return _bytes(like, batch, height, width), _bytes(like, *chroma)


def _flag_fields(flags: Tensor, chroma_flags: Tensor) -> dict[str, Any]:
    return {"flags": flags.data_ptr(), "chroma_flags": chroma_flags.data_ptr()}


def _planes(shape: torch.Size, settings: str, like: Tensor) -> list[Tensor]:
    """Room for a number per coefficient of every component."""
    batch, channels, height, width = shape
    h, v, _ = parse(settings)
    ratios = ((1, 1), (h, v), (h, v))[:channels]
    return [
        like.new_empty((batch, *blocks((height, width), ratio), 8, 8), dtype=torch.float32)
        for ratio in ratios
    ]


def _saved(shape: torch.Size, settings: str) -> int:
    """How many coefficients the kernel's layout holds: of every strip, groups of as many blocks as it has lanes."""
    batch, channels, height, width = shape
    h, v, _ = parse(settings)
    lanes = abi.library().jpegrad_lanes()
    groups = ceil_div(v * ceil_div(width, 8), lanes)
    groups += (channels - 1) * ceil_div(ceil_div(width, 8 * h), lanes)
    return batch * ceil_div(height, 8 * v) * groups * 64 * lanes


def _read(name: str, k: abi.Codec, image: Tensor, fields: dict[str, Any]) -> None:
    """Run a function that reads an image, and tell the user if it lies far outside its range."""
    if far := abi.invoke(name, k, image.shape[0], **fields):
        report_range(image, far, (k.low, k.high))


def _decoded(image: Tensor) -> Tensor:
    return torch.empty_like(image, memory_format=torch.contiguous_format)


LIBRARY.define("native_jpeg(Tensor image, Tensor tables, str settings) -> Tensor")


def _fake_jpeg(image: Tensor, tables: Tensor, settings: str) -> Tensor:
    return _decoded(image)


def _jpeg(image: Tensor, tables: Tensor, settings: str) -> Tensor:
    out = _decoded(image)
    if out.numel():
        k = _codec(image.shape, tables.shape[-3], settings)
        fields = table_fields(tables)
        fields |= {"input": abi.describe(image), "output": abi.describe(out)}
        _read("jpeg", k, image, fields)
    return out


LIBRARY.define(
    "native_jpeg_saving(Tensor image, Tensor tables, str settings, bool with_coefficients)"
    " -> (Tensor, Tensor, Tensor, Tensor)"
)


def _fake_jpeg_saving(
    image: Tensor, tables: Tensor, settings: str, with_coefficients: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    count = _saved(image.shape, settings) if with_coefficients else 0
    saved = image.new_empty(count, dtype=torch.int16)
    return _decoded(image), saved, *_flags(image.shape, settings, image)


def _jpeg_saving(
    image: Tensor, tables: Tensor, settings: str, with_coefficients: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The decoded image; the coefficients (none if not wanted); flags of pixels and of chroma samples."""
    found = out, saved, *flags = _fake_jpeg_saving(image, tables, settings, with_coefficients)
    if out.numel():
        k = _codec(image.shape, tables.shape[-3], settings)
        fields = table_fields(tables) | _flag_fields(*flags)
        fields |= {"input": abi.describe(image), "output": abi.describe(out)}
        if with_coefficients:
            fields["coefficients"] = saved.data_ptr()
        _read("jpeg", k, image, fields)
    return found


LIBRARY.define(
    "native_soft(Tensor image, Tensor tables, str settings, bool save, bool with_tables)"
    " -> (Tensor, Tensor, Tensor, Tensor)"
)


def _fake_soft(
    image: Tensor, tables: Tensor, settings: str, save: bool, with_tables: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    saved = image.new_empty(1 + with_tables, _saved(image.shape, settings) if save else 0)
    flags = _flags(image.shape, settings, image) if save else (_bytes(image, 0), _bytes(image, 0))
    return _decoded(image), saved, *flags


def _soft(
    image: Tensor, tables: Tensor, settings: str, save: bool, with_tables: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The soft forward's image; slopes to coefficients and, in a second row, to table entries; flags."""
    found = out, saved, *flags = _fake_soft(image, tables, settings, save, with_tables)
    if out.numel():
        k = _codec(image.shape, tables.shape[-3], settings)
        fields = table_fields(tables) | {"input": abi.describe(image), "output": abi.describe(out)}
        if save:
            fields |= _flag_fields(*flags) | _slope_fields(saved, with_tables)
        _read("soft", k, image, fields)
    return found


def _slope_fields(saved: Tensor, with_tables: bool) -> dict[str, Any]:
    return {"slopes": saved[0].data_ptr()} | ({"factors": saved[1].data_ptr()} if with_tables else {})


LIBRARY.define(
    "native_jpeg_backward(Tensor gradient, Tensor tables, Tensor coefficients, Tensor flags, Tensor chroma_flags, "
    "str settings, bool with_tables) -> (Tensor, Tensor)"
)


def _table_sums(shape: torch.Size, settings: str, wanted: bool, like: Tensor) -> Tensor:
    """One sum per strip, added in a fixed order later: the result does not depend on the threads."""
    strips = ceil_div(shape[-2], 8 * parse(settings).v) if wanted else 0
    return like.new_empty((shape[0], strips, shape[1], 8, 8), dtype=torch.float64)


def _fake_jpeg_backward(
    gradient: Tensor,
    tables: Tensor,
    coefficients: Tensor,
    flags: Tensor,
    chroma_flags: Tensor,
    settings: str,
    with_tables: bool,
) -> tuple[Tensor, Tensor]:
    sums = _table_sums(gradient.shape, settings, with_tables, gradient)
    return _decoded(gradient), sums.sum(1) if with_tables else sums


def _jpeg_backward(
    gradient: Tensor,
    tables: Tensor,
    coefficients: Tensor,
    flags: Tensor,
    chroma_flags: Tensor,
    settings: str,
    with_tables: bool,
) -> tuple[Tensor, Tensor]:
    """Gradients of the image, and of the tables per image and component; from coefficients or from saved slopes."""
    out, sums = _decoded(gradient), _table_sums(gradient.shape, settings, with_tables, gradient)
    if out.numel():
        k = _codec(gradient.shape, tables.shape[-3], settings)
        fields = table_fields(tables) | _flag_fields(flags, chroma_flags)
        fields |= {"input": abi.describe(gradient), "output": abi.describe(out)}
        if coefficients.dtype is torch.float32:
            fields |= _slope_fields(coefficients, with_tables)
        elif coefficients.numel():
            fields["coefficients"] = coefficients.data_ptr()
        if with_tables:
            fields["table_gradient"] = sums.data_ptr()
        abi.invoke("jpeg_backward", k, gradient.shape[0], **fields)
    return out, sums.sum(1) if with_tables else sums


LIBRARY.define(
    "native_encode(Tensor image, Tensor tables, str settings, bool for_backward) -> (Tensor[], Tensor[], Tensor)"
)


def _fake_encode(
    image: Tensor, tables: Tensor, settings: str, for_backward: bool
) -> tuple[list[Tensor], list[Tensor], Tensor]:
    levels = _planes(image.shape, settings, image)
    if not for_backward:
        return levels, [], _bytes(image, 0)
    return levels, _planes(image.shape, settings, image), _flags(image.shape, settings, image)[0]


def _encode(
    image: Tensor, tables: Tensor, settings: str, for_backward: bool
) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """Levels of every component; for the backward pass, coefficients in steps and the flags of the pixels."""
    found = levels, ratios, flags = _fake_encode(image, tables, settings, for_backward)
    if image.numel():
        k = _codec(image.shape, tables.shape[-3], settings)
        fields = table_fields(tables) | {"input": abi.describe(image), "planes": abi.pointers(levels)}
        if for_backward:
            fields |= {"ratios": abi.pointers(ratios), "flags": flags.data_ptr()}
        _read("encode", k, image, fields)
    return found


LIBRARY.define("native_encode_backward(Tensor[] gradients, Tensor flags, str settings) -> Tensor")


def _fake_encode_backward(gradients: list[Tensor], flags: Tensor, settings: str) -> Tensor:
    batch, height, width = flags.shape
    return flags.new_empty((batch, len(gradients), height, width), dtype=torch.float32)


def _encode_backward(gradients: list[Tensor], flags: Tensor, settings: str) -> Tensor:
    """Gradients of coefficients to gradients of the image."""
    out = _fake_encode_backward(gradients, flags, settings)
    if out.numel():
        fields = {"planes": abi.pointers(gradients), "flags": flags.data_ptr()}
        k = _codec(out.shape, 1, settings)
        abi.invoke("encode_backward", k, out.shape[0], output=abi.describe(out), **fields)
    return out


LIBRARY.define(
    "native_decode(Tensor[] levels, Tensor tables, SymInt height, SymInt width, bool as_bytes, "
    "str settings, bool for_backward) -> (Tensor, Tensor, Tensor)"
)


def _fake_decode(
    levels: list[Tensor],
    tables: Tensor,
    height: int,
    width: int,
    as_bytes: bool,
    settings: str,
    for_backward: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    shape = (levels[0].shape[0], len(levels), height, width)
    out = levels[0].new_empty(shape, dtype=torch.uint8 if as_bytes else torch.float32)
    return out, *(_flags(out.shape, settings, out) if for_backward else (_bytes(out, 0), _bytes(out, 0)))


def _decode(
    levels: list[Tensor],
    tables: Tensor,
    height: int,
    width: int,
    as_bytes: bool,
    settings: str,
    for_backward: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """The image; for the backward pass, the flags of pixels and of chroma samples."""
    found = out, *flags = _fake_decode(levels, tables, height, width, as_bytes, settings, for_backward)
    if out.numel():
        fields = table_fields(tables) | {"planes": abi.pointers(levels), "output": abi.describe(out)}
        if for_backward:
            flags[0].zero_()
            fields |= _flag_fields(*flags)
        abi.invoke("decode", _codec(out.shape, tables.shape[-3], settings), out.shape[0], **fields)
    return found


LIBRARY.define(
    "native_decode_backward(Tensor gradient, Tensor flags, Tensor chroma_flags, str settings) -> Tensor[]"
)


def _fake_decode_backward(
    gradient: Tensor, flags: Tensor, chroma_flags: Tensor, settings: str
) -> list[Tensor]:
    return _planes(gradient.shape, settings, gradient)


def _decode_backward(gradient: Tensor, flags: Tensor, chroma_flags: Tensor, settings: str) -> list[Tensor]:
    """Gradients of the image to gradients of dequantized coefficients."""
    planes = _planes(gradient.shape, settings, gradient)
    if gradient.numel():
        fields = _flag_fields(flags, chroma_flags) | {"planes": abi.pointers(planes)}
        k = _codec(gradient.shape, 1, settings)
        abi.invoke("decode_backward", k, gradient.shape[0], input=abi.describe(gradient), **fields)
    return planes


def register(name: str, run: Callable[..., Any], fake: Callable[..., Any]) -> None:
    """Complete an operator that ``LIBRARY`` defines."""
    LIBRARY.impl(name, run, "CPU")
    torch.library.register_fake(f"jpegrad::{name}", fake)


for _operator in (
    ("native_jpeg", _jpeg, _fake_jpeg),
    ("native_jpeg_saving", _jpeg_saving, _fake_jpeg_saving),
    ("native_soft", _soft, _fake_soft),
    ("native_jpeg_backward", _jpeg_backward, _fake_jpeg_backward),
    ("native_encode", _encode, _fake_encode),
    ("native_encode_backward", _encode_backward, _fake_encode_backward),
    ("native_decode", _decode, _fake_decode),
    ("native_decode_backward", _decode_backward, _fake_decode_backward),
):
    register(*_operator)
