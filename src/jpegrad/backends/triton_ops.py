"""The Triton kernels as operators that PyTorch's dispatcher and compiler know.

``settings`` is what a call asks for, as JSON: a string passes the dispatcher at once, lists do not. Tables are
``[1 or B, n, 8, 8]``, images ``[B, C, H, W]`` of any strides; levels, coefficients and their gradients
``[B, blocks_y, blocks_x, 8, 8]`` per component. Flags say which clamps acted: at a pixel those of the encoder's R, G, B
(1, 2, 4; 128, 256, 512 too if the value is no number), of the decoded Y (8) and of the decoder's R, G, B (16, 32, 64);
a pixel with a NaN has 1024. In 8 bits there is 128 alone, which says that.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from jpegrad.backends.triton_launch import (
    Settings,
    grid,
    launch,
    parse,
    table_places,
    three,
    value_range,
    warps,
)

LIBRARY = torch.library.Library("jpegrad", "FRAGMENT")


def _empty(like: Tensor) -> Tensor:
    """Room for an image of the same shape, contiguous."""
    return torch.empty(like.shape, dtype=like.dtype, device=like.device)


def _entries(tables: Tensor) -> tuple[Tensor, Tensor]:
    """Table entries as integers, and what a coefficient (8 times the orthonormal) is multiplied by."""
    return tables.to(torch.int32).contiguous(), (0.125 / tables).float().contiguous()


def _encoded(
    image: Tensor,
    tables: Tensor,
    s: Settings,
    planes: tuple[Tensor, Tensor] | tuple[None, None] = (None, None),
    seen: Tensor | None = None,
    flags: tuple[Tensor | None, Tensor | None] = (None, None),
    coefficients: list[Tensor] | None = None,
    levels: list[Tensor] | None = None,
    ratios: list[Tensor] | None = None,
) -> None:
    g = grid(image, s)
    mcus = g.per_program(image.device)
    launch(
        "forward.encode_kernel", g.batch * g.programs(image.device), image,
        image, *_entries(tables), *planes, seen, *flags, *three(coefficients), *three(levels), *three(ratios),
        g.height, g.width, *g.mcus, *image.stride(), *table_places(tables, g.channels),
        CHANNELS=g.channels, H=s.h, V=s.v, COLOR=s.forward,
        RANGE=value_range(image.dtype, s.low, s.high), LOW=s.low, SCALE=255 / (s.high - s.low),
        ALIGNED=g.width % (8 * s.h) == 0, N=mcus, num_warps=warps(mcus),
    )  # fmt: skip


def _seen(image: Tensor) -> Tensor | None:
    """Room for a note per image that it has a NaN, which bytes have not."""
    return None if image.dtype is torch.uint8 else image.new_zeros(image.shape[0], dtype=torch.int32)


def _imaged(
    planes: tuple[Tensor, Tensor],
    out: Tensor,
    s: Settings,
    flags: Tensor | None,
    image: Tensor | None = None,
    seen: Tensor | None = None,
) -> None:
    g = grid(out, s)
    programs, rows, columns = g.tile()
    launch(
        "forward.image_kernel", g.batch * programs, out, *planes, out, flags, image, seen,
        g.height, g.width, *g.mcus, *(out if image is None else image).stride(),
        CHANNELS=g.channels, H=s.h, V=s.v, FANCY=g.fancy, INVERSE=s.inverse,
        RANGE=value_range(out.dtype, s.low, s.high), LOW=s.low, SPAN=s.high - s.low, ROWS=rows, COLUMNS=columns,
    )  # fmt: skip


LIBRARY.define("triton_jpeg(Tensor image, Tensor tables, str settings) -> Tensor")


def _fake_jpeg(image: Tensor, tables: Tensor, settings: str) -> Tensor:
    return _empty(image)


def _jpeg(image: Tensor, tables: Tensor, settings: str) -> Tensor:
    s, out = parse(settings), _empty(image)
    planes, seen = grid(image, s).planes(image), _seen(image)
    _encoded(image, tables, s, planes, seen)
    _imaged(planes, out, s, None, image, seen)
    return out


LIBRARY.define(
    "triton_jpeg_saving(Tensor image, Tensor tables, str settings, bool with_coefficients)"
    " -> (Tensor, Tensor, Tensor, Tensor[])"
)


def _fake_jpeg_saving(
    image: Tensor, tables: Tensor, settings: str, with_coefficients: bool
) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    s, g = parse(settings), grid(image, parse(settings))
    coefficients = g.coefficients(image, torch.int16) if with_coefficients else []
    return _empty(image), g.flags(image, s.clip_slope), g.planes(image)[1], coefficients


def _jpeg_saving(
    image: Tensor, tables: Tensor, settings: str, with_coefficients: bool
) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    """The decoded image; flags of pixels and of chroma samples; coefficients, if wanted."""
    s = parse(settings)
    found = out, *flags, coefficients = _fake_jpeg_saving(image, tables, settings, with_coefficients)
    planes, seen = grid(image, s).planes(image), _seen(image)
    _encoded(image, tables, s, planes, seen, (flags[0], flags[1]), coefficients)
    _imaged(planes, out, s, flags[0], image, seen)
    return found


LIBRARY.define(
    "triton_jpeg_backward(Tensor gradient, Tensor tables, Tensor flags, Tensor chroma_flags, "
    "Tensor[] coefficients, str settings, bool with_tables) -> (Tensor, Tensor)"
)


def _fake_jpeg_backward(
    gradient: Tensor,
    tables: Tensor,
    flags: Tensor,
    chroma_flags: Tensor,
    coefficients: list[Tensor],
    settings: str,
    with_tables: bool,
) -> tuple[Tensor, Tensor]:
    batch, channels = gradient.shape[:2] if with_tables else (0, 0)
    sums = gradient.new_empty((batch, channels, 8, 8), dtype=torch.float64)
    return _empty(gradient), sums


def _jpeg_backward(
    gradient: Tensor,
    tables: Tensor,
    flags: Tensor,
    chroma_flags: Tensor,
    coefficients: list[Tensor],
    settings: str,
    with_tables: bool,
) -> tuple[Tensor, Tensor]:
    """Gradients of the image, and of the tables per image and component. Without coefficients the slope is 1."""
    s, g = parse(settings), grid(gradient, parse(settings))
    out = _empty(gradient)
    sizes = (g.height, g.width, *g.mcus, *gradient.stride())
    constants: dict[str, Any] = {
        "CHANNELS": g.channels, "H": s.h, "V": s.v, "FANCY": g.fancy,
        "INVERSE": s.inverse_real, "FORWARD": s.forward_real, "CLIP_SLOPE": s.clip_slope,
    }  # fmt: skip
    if not coefficients:
        programs, rows, columns = g.tile(s.h, s.v)
        launch(
            "backward.stencil_kernel", g.batch * programs, gradient,
            gradient, flags, chroma_flags, out, *sizes, **constants, ROWS=rows, COLUMNS=columns,
        )  # fmt: skip
        return out, gradient.new_empty((0, 0, 8, 8), dtype=torch.float64)
    programs, mcus = g.programs(gradient.device), g.per_program(gradient.device)
    # A sum per program, added in a fixed order: the result is the same in every run.
    size = (g.batch, programs, g.channels, 8, 8) if with_tables else (0, 1, 0, 8, 8)
    sums = gradient.new_empty(size, dtype=torch.float32)
    launch(
        "backward.gradient_kernel", g.batch * programs, gradient,
        gradient, *_entries(tables), *three(coefficients), flags, chroma_flags, out, sums,
        *sizes, *table_places(tables, g.channels), **constants,
        RECORD=s.slope, P=s.slope_parameters, TABLE_RECORD=s.table_slope, TABLE_P=s.table_parameters,
        TABLES=with_tables, ALIGNED=g.aligned, N=mcus, num_warps=warps(mcus),
    )  # fmt: skip
    return out, sums.sum(1, dtype=torch.float64)


LIBRARY.define(
    "triton_encode(Tensor image, Tensor tables, str settings, bool for_backward) -> (Tensor[], Tensor[], Tensor)"
)


def _fake_encode(
    image: Tensor, tables: Tensor, settings: str, for_backward: bool
) -> tuple[list[Tensor], list[Tensor], Tensor]:
    s, g = parse(settings), grid(image, parse(settings))
    levels = g.coefficients(image, torch.float32)
    if not for_backward:
        return levels, [], image.new_empty(0, dtype=torch.uint8)
    return levels, g.coefficients(image, torch.float32), g.flags(image, s.clip_slope)


def _encode(
    image: Tensor, tables: Tensor, settings: str, for_backward: bool
) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """Levels of every component; for the backward pass, coefficients in steps and the flags of the pixels."""
    found = levels, ratios, flags = _fake_encode(image, tables, settings, for_backward)
    kept = (flags, None) if for_backward else (None, None)
    _encoded(image, tables, parse(settings), flags=kept, levels=levels, ratios=ratios)
    return found


LIBRARY.define("triton_encode_backward(Tensor[] gradients, Tensor flags, str settings) -> Tensor")


def _fake_encode_backward(gradients: list[Tensor], flags: Tensor, settings: str) -> Tensor:
    batch, height, width = flags.shape
    return flags.new_empty((batch, len(gradients), height, width), dtype=torch.float32)


def _encode_backward(gradients: list[Tensor], flags: Tensor, settings: str) -> Tensor:
    """Gradients of coefficients to gradients of the image."""
    s, out = parse(settings), _fake_encode_backward(gradients, flags, settings)
    g = grid(out, s)
    mcus = g.per_program(out.device)
    launch(
        "backward.encode_gradient_kernel", g.batch * g.programs(out.device), out,
        *three([gradient.contiguous() for gradient in gradients]), flags, out, g.height, g.width, *g.mcus,
        CHANNELS=g.channels, H=s.h, V=s.v, FORWARD=s.forward_real, CLIP_SLOPE=s.clip_slope,
        ALIGNED=g.aligned, N=mcus, num_warps=warps(mcus),
    )  # fmt: skip
    return out


LIBRARY.define(
    "triton_decode(Tensor[] levels, Tensor tables, SymInt height, SymInt width, ScalarType dtype, str settings, "
    "bool for_backward) -> (Tensor, Tensor, Tensor)"
)


def _fake_decode(
    levels: list[Tensor],
    tables: Tensor,
    height: int,
    width: int,
    dtype: torch.dtype,
    settings: str,
    for_backward: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    s = parse(settings)
    out = levels[0].new_empty((levels[0].shape[0], len(levels), height, width), dtype=dtype)
    if not for_backward:
        return out, out.new_empty(0, dtype=torch.uint8), out.new_empty(0, dtype=torch.uint8)
    return out, grid(out, s).flags(out, s.clip_slope), grid(out, s).planes(out)[1]


def _decode(
    levels: list[Tensor],
    tables: Tensor,
    height: int,
    width: int,
    dtype: torch.dtype,
    settings: str,
    for_backward: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    """The image; for the backward pass, the flags of pixels and of chroma samples."""
    s = parse(settings)
    found = out, *flags = _fake_decode(levels, tables, height, width, dtype, settings, for_backward)
    g = grid(out, s)
    planes, mcus = g.planes(out), g.per_program(out.device)
    kept: Any = flags if for_backward else (None, None)
    launch(
        "forward.decode_kernel", g.batch * g.programs(out.device), out,
        *three(levels), _entries(tables)[0], *planes, *kept,
        g.height, g.width, *g.mcus, *table_places(tables, g.channels),
        CHANNELS=g.channels, H=s.h, V=s.v, N=mcus, num_warps=warps(mcus),
    )  # fmt: skip
    _imaged(planes, out, s, kept[0])
    return found


LIBRARY.define(
    "triton_decode_backward(Tensor gradient, Tensor flags, Tensor chroma_flags, str settings) -> Tensor[]"
)


def _fake_decode_backward(
    gradient: Tensor, flags: Tensor, chroma_flags: Tensor, settings: str
) -> list[Tensor]:
    return grid(gradient, parse(settings)).coefficients(gradient, torch.float32)


def _decode_backward(gradient: Tensor, flags: Tensor, chroma_flags: Tensor, settings: str) -> list[Tensor]:
    """Gradients of the image to gradients of dequantized coefficients."""
    s, g = parse(settings), grid(gradient, parse(settings))
    found, mcus = g.coefficients(gradient, torch.float32), g.per_program(gradient.device)
    launch(
        "backward.decode_gradient_kernel", g.batch * g.programs(gradient.device), gradient,
        gradient, flags, chroma_flags, *three(found), g.height, g.width, *g.mcus, *gradient.stride(),
        CHANNELS=g.channels, H=s.h, V=s.v, FANCY=g.fancy, INVERSE=s.inverse_real, CLIP_SLOPE=s.clip_slope,
        N=mcus, num_warps=warps(mcus),
    )  # fmt: skip
    return found


def register(name: str, run: Callable[..., Any], fake: Callable[..., Any]) -> None:
    """An operator for CUDA tensors, for the interpreter's on the CPU, and for the compiler."""
    LIBRARY.impl(name, run, "CUDA")
    LIBRARY.impl(name, run, "CPU")
    torch.library.register_fake(f"jpegrad::{name}", fake)


for _name, _run, _fake in (
    ("triton_jpeg", _jpeg, _fake_jpeg),
    ("triton_jpeg_saving", _jpeg_saving, _fake_jpeg_saving),
    ("triton_jpeg_backward", _jpeg_backward, _fake_jpeg_backward),
    ("triton_encode", _encode, _fake_encode),
    ("triton_encode_backward", _encode_backward, _fake_encode_backward),
    ("triton_decode", _decode, _fake_decode),
    ("triton_decode_backward", _decode_backward, _fake_decode_backward),
):
    register(_name, _run, _fake)
