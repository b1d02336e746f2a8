"""The native kernel's operators, as PyTorch's dispatcher and compiler see them.

An operator takes what a call asks for as two flat lists, ``integers`` and ``reals``, in the order of :class:`Settings`.
"""

import functools
from ctypes import c_float, c_int32, c_int64
from typing import NamedTuple

import torch
from torch import Tensor

from jpegrad.backends import native_abi as abi
from jpegrad.spec import blocks, ceil_div

# Sizes of the fields of `integers` and `reals`.
INTEGERS = {
    "sampling": 2,
    "slope": 1,
    "table_slope": 1,
    "jfif": 1,
    "forward_matrix": 9,
    "forward_bias": 3,
    "inverse_matrix": 9,
    "inverse_bias": 3,
}
REALS = {
    "value_range": 2,
    "clip_slope": 1,
    "slope_parameter": 3,
    "table_parameter": 3,
    "forward_real": 9,
    "inverse_real": 9,
}

LIBRARY = torch.library.Library("jpegrad", "FRAGMENT")
SETTINGS = "int[] integers, float[] reals"


class Settings(NamedTuple):
    """A call's arguments but its tensors; see ``native/api.h``."""

    integers: tuple[int, ...]
    reals: tuple[float, ...]


def _unflatten(values: tuple[float, ...], sizes: dict[str, int]) -> dict[str, tuple[float, ...]]:
    fields, start = {}, 0
    for name, size in sizes.items():
        fields[name] = values[start : start + size]
        start += size
    return fields


@functools.lru_cache(256)
def codec(channels: int, height: int, width: int, tables: int, settings: Settings) -> abi.Codec:
    """The kernel's structure for images of one size."""
    integers, reals = settings
    whole, real = _unflatten(integers, INTEGERS), _unflatten(reals, REALS)
    h, v = whole["sampling"]
    low, high = real["value_range"]
    return abi.Codec(
        height=height,
        width=width,
        channels=channels,
        h=int(h),
        v=int(v),
        table_count=tables,
        jfif=int(whole["jfif"][0]),
        forward_matrix=(c_int32 * 9)(*map(int, whole["forward_matrix"])),
        forward_bias=(c_int32 * 3)(*map(int, whole["forward_bias"])),
        inverse_matrix=(c_int32 * 9)(*map(int, whole["inverse_matrix"])),
        inverse_bias=(c_int64 * 3)(*map(int, whole["inverse_bias"])),
        forward_real=(c_float * 9)(*real["forward_real"]),
        inverse_real=(c_float * 9)(*real["inverse_real"]),
        low=low,
        high=high,
        clip_slope=real["clip_slope"][0],
        slope=int(whole["slope"][0]),
        slope_parameter=(c_float * 3)(*real["slope_parameter"]),
        table_slope=int(whole["table_slope"][0]),
        table_parameter=(c_float * 3)(*real["table_parameter"]),
    )


def _codec(shape: torch.Size, tables: int, integers: list[int], reals: list[float]) -> abi.Codec:
    return codec(shape[-3], shape[-2], shape[-1], tables, Settings(tuple(integers), tuple(reals)))


def _table_fields(tables: Tensor) -> dict[str, int]:
    """``tables`` are ``[n, 8, 8]`` for all images or ``[B, n, 8, 8]``, contiguous float64."""
    return {"tables": tables.data_ptr(), "table_stride": tables[0].numel() if tables.ndim == 4 else 0}


def _flags(shape: torch.Size, sampling: list[int], keep: bool, like: Tensor) -> tuple[Tensor, Tensor]:
    """Room for a byte per pixel and per chroma sample that says which clamps acted; none if not kept."""
    batch, channels, height, width = shape if keep else (0, 1, 0, 0)
    h, v = sampling[:2]
    chroma = (batch, 2 if channels == 3 else 0, ceil_div(height, v), ceil_div(width, h))
    return like.new_empty((batch, height, width), dtype=torch.uint8), like.new_empty(
        chroma, dtype=torch.uint8
    )


def _plane_shapes(shape: torch.Size, sampling: list[int]) -> list[tuple[int, ...]]:
    batch, channels, height, width = shape
    chroma = (sampling[0], sampling[1])
    ratios = ((1, 1), chroma, chroma) if channels == 3 else ((1, 1),)
    return [(batch, *blocks((height, width), ratio), 8, 8) for ratio in ratios]


def _empty_jpeg(
    image: Tensor, integers: list[int], keep: bool, saved: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    out = torch.empty(image.shape, dtype=image.dtype, device=image.device)
    coefficients = image.new_empty((saved,), dtype=torch.int16)
    return out, coefficients, *_flags(image.shape, integers, keep, image)


def _saved_blocks(image: Tensor, integers: list[int], lanes: int) -> int:
    """Elements of the saved coefficients: every strip's groups of ``lanes`` blocks."""
    h, v = integers[:2]
    batch, channels, height, width = image.shape
    groups = ceil_div(v * ceil_div(width, 8), lanes)
    if channels == 3:
        groups += 2 * ceil_div(ceil_div(width, 8 * h), lanes)
    return batch * ceil_div(height, 8 * v) * groups * 64 * lanes


LIBRARY.define(
    f"native_jpeg(Tensor image, Tensor tables, {SETTINGS}, bool keep_clamps, bool keep_coefficients)"
    " -> (Tensor, Tensor, Tensor, Tensor)"
)


def _jpeg(
    image: Tensor,
    tables: Tensor,
    integers: list[int],
    reals: list[float],
    keep_clamps: bool,
    keep_coefficients: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    saved = _saved_blocks(image, integers, abi.library().jpegrad_lanes()) if keep_coefficients else 0
    kept = out, coefficients, flags, chroma_flags = _empty_jpeg(image, integers, keep_clamps, saved)
    if out.numel():
        fields = _table_fields(tables)
        if keep_clamps:
            fields |= {"flags": flags.data_ptr(), "chroma_flags": chroma_flags.data_ptr()}
        if keep_coefficients:
            fields["coefficients"] = coefficients.data_ptr()
        k = _codec(image.shape, tables.shape[-3], integers, reals)
        abi.invoke("jpeg", k, image.shape[0], input=abi.describe(image), output=abi.describe(out), **fields)
    return kept


def _fake_jpeg(
    image: Tensor,
    tables: Tensor,
    integers: list[int],
    reals: list[float],
    keep_clamps: bool,
    keep_coefficients: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    saved = _saved_blocks(image, integers, abi.library().jpegrad_lanes()) if keep_coefficients else 0
    return _empty_jpeg(image, integers, keep_clamps, saved)


LIBRARY.define(
    "native_jpeg_backward(Tensor gradient, Tensor tables, Tensor coefficients, Tensor flags, Tensor chroma_flags, "
    f"{SETTINGS}, bool with_tables) -> (Tensor, Tensor)"
)


def _table_sums(shape: torch.Size, integers: list[int], wanted: bool, like: Tensor) -> Tensor:
    """One sum per strip, added in a fixed order later: the result does not depend on the threads."""
    strips = ceil_div(shape[-2], 8 * integers[1])
    return like.new_empty((shape[0], strips if wanted else 0, shape[1], 8, 8), dtype=torch.float64)


def _jpeg_backward(
    gradient: Tensor,
    tables: Tensor,
    coefficients: Tensor,
    flags: Tensor,
    chroma_flags: Tensor,
    integers: list[int],
    reals: list[float],
    with_tables: bool,
) -> tuple[Tensor, Tensor]:
    out = torch.empty(gradient.shape, dtype=torch.float32)
    sums = _table_sums(gradient.shape, integers, with_tables, gradient)
    if out.numel():
        fields: dict[str, object] = {"flags": flags.data_ptr(), "chroma_flags": chroma_flags.data_ptr()}
        fields |= _table_fields(tables)
        if coefficients.numel():
            fields["coefficients"] = coefficients.data_ptr()
        if with_tables:
            fields["table_gradient"] = sums.data_ptr()
        k = _codec(gradient.shape, tables.shape[-3], integers, reals)
        fields |= {"input": abi.describe(gradient), "output": abi.describe(out)}
        abi.invoke("jpeg_backward", k, gradient.shape[0], **fields)
    return out, sums.sum(1)


def _fake_jpeg_backward(
    gradient: Tensor,
    tables: Tensor,
    coefficients: Tensor,
    flags: Tensor,
    chroma_flags: Tensor,
    integers: list[int],
    reals: list[float],
    with_tables: bool,
) -> tuple[Tensor, Tensor]:
    out = torch.empty(gradient.shape, dtype=torch.float32, device=gradient.device)
    return out, _table_sums(gradient.shape, integers, with_tables, gradient).sum(1)


LIBRARY.define(
    f"native_encode(Tensor image, Tensor tables, {SETTINGS}, bool with_ratios, bool keep_clamps)"
    " -> (Tensor[], Tensor[], Tensor)"
)


def _empty_encode(
    image: Tensor,
    tables: Tensor,
    integers: list[int],
    reals: list[float],
    with_ratios: bool,
    keep_clamps: bool,
) -> tuple[list[Tensor], list[Tensor], Tensor]:
    shapes = _plane_shapes(image.shape, integers)
    levels = [image.new_empty(shape, dtype=torch.float32) for shape in shapes]
    ratios = [image.new_empty(shape, dtype=torch.float32) for shape in shapes] if with_ratios else []
    return levels, ratios, _flags(image.shape, integers, keep_clamps, image)[0]


def _encode(
    image: Tensor,
    tables: Tensor,
    integers: list[int],
    reals: list[float],
    with_ratios: bool,
    keep_clamps: bool,
) -> tuple[list[Tensor], list[Tensor], Tensor]:
    kept = levels, ratios, flags = _empty_encode(image, tables, integers, reals, with_ratios, keep_clamps)
    if image.numel():
        fields: dict[str, object] = {**_table_fields(tables), "planes": abi.pointers(levels)}
        if with_ratios:
            fields["ratios"] = abi.pointers(ratios)
        if keep_clamps:
            fields["flags"] = flags.data_ptr()
        k = _codec(image.shape, tables.shape[-3], integers, reals)
        abi.invoke("encode", k, image.shape[0], input=abi.describe(image), **fields)
    return kept


LIBRARY.define(f"native_encode_backward(Tensor[] gradients, Tensor flags, {SETTINGS}) -> Tensor")


def _empty_gradient(
    gradients: list[Tensor], flags: Tensor, integers: list[int], reals: list[float]
) -> Tensor:
    batch, height, width = flags.shape
    return flags.new_empty((batch, len(gradients), height, width), dtype=torch.float32)


def _encode_backward(
    gradients: list[Tensor], flags: Tensor, integers: list[int], reals: list[float]
) -> Tensor:
    out = _empty_gradient(gradients, flags, integers, reals)
    if out.numel():
        k = _codec(out.shape, 1, integers, reals)
        planes = abi.pointers(gradients)
        abi.invoke(
            "encode_backward",
            k,
            out.shape[0],
            output=abi.describe(out),
            planes=planes,
            flags=flags.data_ptr(),
        )
    return out


LIBRARY.define(
    "native_decode(Tensor[] levels, Tensor tables, SymInt height, SymInt width, bool as_bytes, "
    f"{SETTINGS}, bool keep_clamps) -> (Tensor, Tensor, Tensor)"
)


def _empty_decode(
    levels: list[Tensor],
    tables: Tensor,
    height: int,
    width: int,
    as_bytes: bool,
    integers: list[int],
    reals: list[float],
    keep_clamps: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    dtype = torch.uint8 if as_bytes else torch.float32
    out = levels[0].new_empty((levels[0].shape[0], len(levels), height, width), dtype=dtype)
    return out, *_flags(out.shape, integers, keep_clamps, out)


def _decode(
    levels: list[Tensor],
    tables: Tensor,
    height: int,
    width: int,
    as_bytes: bool,
    integers: list[int],
    reals: list[float],
    keep_clamps: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    kept = out, flags, chroma_flags = _empty_decode(
        levels, tables, height, width, as_bytes, integers, reals, keep_clamps
    )
    if out.numel():
        fields: dict[str, object] = {**_table_fields(tables), "planes": abi.pointers(levels)}
        if keep_clamps:
            fields |= {"flags": flags.zero_().data_ptr(), "chroma_flags": chroma_flags.data_ptr()}
        k = _codec(out.shape, tables.shape[-3], integers, reals)
        abi.invoke("decode", k, out.shape[0], output=abi.describe(out), **fields)
    return kept


LIBRARY.define(
    f"native_decode_backward(Tensor gradient, Tensor flags, Tensor chroma_flags, {SETTINGS}) -> Tensor[]"
)


def _empty_planes(
    gradient: Tensor, flags: Tensor, chroma_flags: Tensor, integers: list[int], reals: list[float]
) -> list[Tensor]:
    return [
        gradient.new_empty(shape, dtype=torch.float32) for shape in _plane_shapes(gradient.shape, integers)
    ]


def _decode_backward(
    gradient: Tensor, flags: Tensor, chroma_flags: Tensor, integers: list[int], reals: list[float]
) -> list[Tensor]:
    planes = _empty_planes(gradient, flags, chroma_flags, integers, reals)
    if gradient.numel():
        k = _codec(gradient.shape, 1, integers, reals)
        fields = {"flags": flags.data_ptr(), "chroma_flags": chroma_flags.data_ptr()}
        abi.invoke(
            "decode_backward",
            k,
            gradient.shape[0],
            input=abi.describe(gradient),
            planes=abi.pointers(planes),
            **fields,
        )
    return planes


LIBRARY.define("native_scan_counts(Tensor[] levels, SymInt height, SymInt width, int[] sampling) -> Tensor")


def _empty_counts(levels: list[Tensor], height: int, width: int, sampling: list[int]) -> Tensor:
    return levels[0].new_empty((levels[0].shape[0], 2 if len(levels) == 1 else 4, 256), dtype=torch.int64)


def _scan_counts(levels: list[Tensor], height: int, width: int, sampling: list[int]) -> Tensor:
    """How often each image uses each Huffman symbol (DC, AC of luma; of chroma): ``[B, 2 or 4, 256]``."""
    counts = _empty_counts(levels, height, width, sampling)
    _scan("scan_counts", levels, height, width, sampling, counts=counts.data_ptr())
    return counts


LIBRARY.define(
    "native_scan_bytes(Tensor[] levels, Tensor book, SymInt height, SymInt width, int[] sampling) -> Tensor"
)


def _empty_bytes(levels: list[Tensor], book: Tensor, height: int, width: int, sampling: list[int]) -> Tensor:
    return levels[0].new_empty((levels[0].shape[0],), dtype=torch.int64)


def _scan_bytes(levels: list[Tensor], book: Tensor, height: int, width: int, sampling: list[int]) -> Tensor:
    """Bytes of each image's scan ``[B]``, stuffed zeros included.

    ``book`` ``[B or 1, 2 or 4, 256, 2]`` holds code and length of every symbol (DC, AC of luma; of chroma).
    """
    found = _empty_bytes(levels, book, height, width, sampling)
    book = book.to(torch.int32).contiguous()
    each = int(book.shape[0] != 1)
    fields = {"counts": found.data_ptr(), "book": book.data_ptr(), "book_stride": each}
    _scan("scan_bytes", levels, height, width, sampling, **fields)
    return found


def _scan(
    name: str, levels: list[Tensor], height: int, width: int, sampling: list[int], **fields: int
) -> None:
    levels = [level.float().contiguous() for level in levels]
    h, v = sampling
    k = abi.Codec(height=height, width=width, channels=len(levels), h=h, v=v)
    abi.invoke(name, k, levels[0].shape[0], planes=abi.pointers(levels), **fields)


for _name, _run, _fake in (
    ("native_jpeg", _jpeg, _fake_jpeg),
    ("native_jpeg_backward", _jpeg_backward, _fake_jpeg_backward),
    ("native_encode", _encode, _empty_encode),
    ("native_encode_backward", _encode_backward, _empty_gradient),
    ("native_decode", _decode, _empty_decode),
    ("native_decode_backward", _decode_backward, _empty_planes),
    ("native_scan_counts", _scan_counts, _empty_counts),
    ("native_scan_bytes", _scan_bytes, _empty_bytes),
):
    LIBRARY.impl(_name, _run, "CPU")
    torch.library.register_fake(f"jpegrad::{_name}", _fake)
