"""The Triton kernels as operators that PyTorch's dispatcher and compiler know.

``settings`` is what a call asks for, as JSON: a string passes the dispatcher at once, lists do not. Tables are
``[1 or B, n, 8, 8]``, images ``[B, C, H, W]`` of any strides.
"""

import contextlib
import functools
import importlib
import json
import os
from typing import Any, NamedTuple

import torch
from torch import Tensor

from jpegrad.spec import ceil_div, table_index

LIBRARY = torch.library.Library("jpegrad", "FRAGMENT")
# Eight lanes a block: 16 MCUs fill four warps with one block each.
MOST_MCUS = 16
# The interpreter pays by the operation, whatever its size.
MOST_INTERPRETED = 64


class Settings(NamedTuple):
    """What a call asks for: sampling factors, fixed-point colours, range of the image, slopes for the backward pass."""

    h: int
    v: int
    forward: tuple[int, ...]
    inverse: tuple[int, ...]
    forward_real: tuple[float, ...]
    inverse_real: tuple[float, ...]
    low: float
    high: float
    clip_slope: float
    slope: str
    slope_parameters: tuple[float, ...]
    table_slope: str
    table_parameters: tuple[float, ...]


@functools.lru_cache(256)
def parse(settings: str) -> Settings:
    fields = json.loads(settings)
    return Settings._make(tuple(value) if isinstance(value, list) else value for value in fields)


class Grid(NamedTuple):
    """Images of one size as the kernels divide them."""

    batch: int
    channels: int
    height: int
    width: int
    h: int
    v: int

    @property
    def mcus(self) -> tuple[int, int]:
        return ceil_div(self.height, 8 * self.v), ceil_div(self.width, 8 * self.h)

    def per_program(self, device: torch.device) -> int:
        y, x = self.mcus
        enough = 1 << (y * x - 1).bit_length()
        return min(enough, MOST_MCUS if device.type == "cuda" else MOST_INTERPRETED)

    def programs(self, device: torch.device) -> int:
        y, x = self.mcus
        return ceil_div(y * x, self.per_program(device))

    def planes(self, like: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Room for the samples of Y, and of Cb and Cr, padded to whole MCUs."""
        y, x = self.mcus
        luma = like.new_empty((self.batch, 8 * self.v * y, 8 * self.h * x), dtype=dtype)
        return luma, like.new_empty((self.batch, self.channels - 1, 8 * y, 8 * x), dtype=dtype)

    def coefficients(self, like: Tensor) -> Tensor:
        y, x = self.mcus
        blocks = y * x * (self.h * self.v + self.channels - 1)
        return like.new_empty((self.batch, blocks, 8, 8), dtype=torch.int16)

    def real_blocks(self) -> list[tuple[int, int]]:
        """(blocks_y, blocks_x) of every component, those of the padding to MCUs left out."""
        return [(ceil_div(self.height, 8), ceil_div(self.width, 8)), *[self.mcus] * (self.channels - 1)]

    def levels(self, like: Tensor) -> Tensor:
        blocks = sum(y * x for y, x in self.real_blocks())
        return like.new_empty((self.batch, blocks, 8, 8), dtype=torch.float32)


def grid(image: Tensor, s: Settings) -> Grid:
    batch, channels, height, width = image.shape
    return Grid(batch, channels, height, width, s.h, s.v)


def value_range(dtype: torch.dtype, low: float, high: float) -> str:
    """How grey levels come from and go to a type: the kernels' RANGE."""
    if dtype is torch.uint8:
        return "bytes"
    return {(0.0, 1.0): "unit", (0.0, 255.0): "grey"}.get((low, high), "real")


def _launch(name: str, programs: int, like: Tensor, *args: Any, warps: int = 4, **constants: Any) -> None:
    if programs == 0:
        return
    on_cuda = like.device.type == "cuda"
    if not on_cuda and os.environ.get("TRITON_INTERPRET") != "1":
        raise RuntimeError("the Triton kernels run on CUDA tensors, and on others under TRITON_INTERPRET=1")
    kernels = importlib.import_module("jpegrad.backends.triton_kernels")
    with torch.cuda.device(like.device) if on_cuda else contextlib.nullcontext():
        # Multiplication and addition stay apart, as everywhere else: fused, they would move ties.
        getattr(kernels, name)[(programs,)](*args, **constants, num_warps=warps, enable_fp_fusion=False)


def _table_places(tables: Tensor, channels: int) -> tuple[int, int, int]:
    """Where the tables of an image, of Cb and of Cr start."""
    count = tables.shape[-3]
    red = 64 * table_index(min(2, channels - 1), count)
    return tables[0].numel() if tables.shape[0] > 1 else 0, 64 * table_index(1, count), red


def _warps(mcus: int) -> int:
    return max(1, mcus * 8 // 32)


def _encoded(
    image: Tensor, tables: Tensor, s: Settings, planes: Any, kept: Any, levels: Tensor | None
) -> None:
    g = grid(image, s)
    mcus = g.per_program(image.device)
    steps = tables.to(torch.int32).contiguous()
    scale = 255 / (s.high - s.low)
    _launch(
        "encode_kernel", g.batch * g.programs(image.device), image,
        image, steps, (0.125 / tables).float().contiguous(), *planes, *kept, levels,
        g.height, g.width, *g.mcus, *image.stride(), *_table_places(tables, g.channels),
        CHANNELS=g.channels, H=s.h, V=s.v, COLOR=s.forward,
        RANGE=value_range(image.dtype, s.low, s.high), LOW=s.low, SCALE=scale,
        KEEP=kept[0] is not None, LEVELS=levels is not None,
        ALIGNED=g.width % (8 * s.h) == 0, N=mcus, warps=_warps(mcus),
    )  # fmt: skip


def _tile(g: Grid) -> tuple[int, int]:
    """Rows and columns of pixels in a program."""
    columns = min(512, 1 << (g.width - 1).bit_length())
    return max(1, 1024 // columns), columns


def _fancy(g: Grid) -> bool:
    """libjpeg has no triangle filter for 4:1:1, nor for planes at most two samples wide in 4:2:2 and 4:2:0."""
    return g.h == 1 or (g.h == 2 and ceil_div(g.width, 2) > 2)


def _imaged(planes: Any, out: Tensor, s: Settings, flags: Tensor | None) -> None:
    g = grid(out, s)
    rows, columns = _tile(g)
    _launch(
        "image_kernel", g.batch * ceil_div(g.height, rows) * ceil_div(g.width, columns), out,
        *planes, out, flags, g.height, g.width, *g.mcus,
        CHANNELS=g.channels, H=s.h, V=s.v, FANCY=_fancy(g), INVERSE=s.inverse,
        RANGE=value_range(out.dtype, s.low, s.high), LOW=s.low, SPAN=s.high - s.low,
        KEEP=flags is not None, ROWS=rows, COLUMNS=columns,
    )  # fmt: skip


def _empty(like: Tensor) -> Tensor:
    """Room for an image of the same shape, contiguous."""
    return torch.empty(like.shape, dtype=like.dtype, device=like.device)


LIBRARY.define("triton_jpeg(Tensor image, Tensor tables, str settings) -> Tensor")


def _fake_jpeg(image: Tensor, tables: Tensor, settings: str) -> Tensor:
    return _empty(image)


def _jpeg(image: Tensor, tables: Tensor, settings: str) -> Tensor:
    s, out = parse(settings), _empty(image)
    planes = grid(image, s).planes(image, torch.uint8)
    _encoded(image, tables, s, planes, (None, None, None), None)
    _imaged(planes, out, s, None)
    return out


LIBRARY.define(
    "triton_jpeg_saving(Tensor image, Tensor tables, str settings) -> (Tensor, Tensor, Tensor, Tensor)"
)


def _fake_jpeg_saving(image: Tensor, tables: Tensor, settings: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    g = grid(image, parse(settings))
    flags = image.new_empty((g.batch, g.height, g.width), dtype=torch.uint8)
    return _empty(image), g.coefficients(image), flags, g.planes(image, torch.uint8)[1]


def _jpeg_saving(image: Tensor, tables: Tensor, settings: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The decoded image; coefficients; which clamps acted at every pixel and at every chroma sample."""
    s = parse(settings)
    found = out, coefficients, flags, chroma_flags = _fake_jpeg_saving(image, tables, settings)
    planes = grid(image, s).planes(image, torch.uint8)
    _encoded(image, tables, s, planes, (coefficients, flags, chroma_flags), None)
    _imaged(planes, out, s, flags)
    return found


LIBRARY.define(
    "triton_jpeg_backward(Tensor gradient, Tensor tables, Tensor coefficients, Tensor flags, "
    "Tensor chroma_flags, str settings, bool with_tables) -> (Tensor, Tensor)"
)


def _fake_jpeg_backward(
    gradient: Tensor,
    tables: Tensor,
    coefficients: Tensor,
    flags: Tensor,
    chroma_flags: Tensor,
    settings: str,
    with_tables: bool,
) -> tuple[Tensor, Tensor]:
    batch, channels = gradient.shape[:2] if with_tables else (0, 0)
    sums = gradient.new_empty((batch, channels, 8, 8), dtype=torch.float64)
    return _empty(gradient), sums


def _jpeg_backward(
    gradient: Tensor,
    tables: Tensor,
    coefficients: Tensor,
    flags: Tensor,
    chroma_flags: Tensor,
    settings: str,
    with_tables: bool,
) -> tuple[Tensor, Tensor]:
    """Gradients of the image, and of the tables per image and component."""
    s, g = parse(settings), grid(gradient, parse(settings))
    planes = g.planes(gradient, torch.float32)
    programs, mcus = g.programs(gradient.device), g.per_program(gradient.device)
    # A sum per program, added in a fixed order: the result is the same in every run.
    size = (g.batch, programs, g.channels, 8, 8) if with_tables else (0, 1, 0, 8, 8)
    sums = gradient.new_empty(size, dtype=torch.float32)
    _launch(
        "gradient_kernel", g.batch * programs, gradient,
        gradient, tables.to(torch.int32).contiguous(), coefficients, flags, chroma_flags, *planes, sums,
        g.height, g.width, *g.mcus, *gradient.stride(), *_table_places(tables, g.channels),
        CHANNELS=g.channels, H=s.h, V=s.v, FANCY=_fancy(g), INVERSE=s.inverse_real, CLIP_SLOPE=s.clip_slope,
        RECORD=s.slope, P=s.slope_parameters, TABLE_RECORD=s.table_slope, TABLE_P=s.table_parameters,
        TABLES=with_tables, N=mcus, warps=_warps(mcus),
    )  # fmt: skip
    out = _empty(gradient)
    rows, columns = _tile(g)
    _launch(
        "spread_kernel", g.batch * ceil_div(g.height, rows) * ceil_div(g.width, columns), gradient,
        *planes, flags, out, g.height, g.width, *g.mcus,
        CHANNELS=g.channels, H=s.h, V=s.v, FORWARD=s.forward_real, CLIP_SLOPE=s.clip_slope,
        ROWS=rows, COLUMNS=columns,
    )  # fmt: skip
    return out, sums.sum(1, dtype=torch.float64)


LIBRARY.define("triton_encode(Tensor image, Tensor tables, str settings) -> Tensor")


def _fake_encode(image: Tensor, tables: Tensor, settings: str) -> Tensor:
    return grid(image, parse(settings)).levels(image)


def _encode(image: Tensor, tables: Tensor, settings: str) -> Tensor:
    """Levels of all components, one after another: ``[B, blocks, 8, 8]``."""
    s, levels = parse(settings), _fake_encode(image, tables, settings)
    _encoded(image, tables, s, (None, None), (None, None, None), levels)
    return levels


LIBRARY.define(
    "triton_decode(Tensor levels, Tensor tables, SymInt height, SymInt width, ScalarType dtype, str settings)"
    " -> Tensor"
)


def _fake_decode(
    levels: Tensor, tables: Tensor, height: int, width: int, dtype: torch.dtype, settings: str
) -> Tensor:
    channels = len(parse(settings).slope_parameters)
    return levels.new_empty((levels.shape[0], channels, height, width), dtype=dtype)


def _decode(
    levels: Tensor, tables: Tensor, height: int, width: int, dtype: torch.dtype, settings: str
) -> Tensor:
    """An image from levels as :func:`_encode` gives them."""
    s, out = parse(settings), _fake_decode(levels, tables, height, width, dtype, settings)
    g = grid(out, s)
    planes = g.planes(levels, torch.uint8)
    mcus = g.per_program(levels.device)
    _launch(
        "decode_kernel", g.batch * g.programs(levels.device), levels,
        levels, tables.to(torch.int32).contiguous(), *planes,
        g.height, g.width, *g.mcus, *_table_places(tables, g.channels),
        CHANNELS=g.channels, H=s.h, V=s.v, N=mcus, warps=_warps(mcus),
    )  # fmt: skip
    _imaged(planes, out, s, None)
    return out


for _name, _run, _fake in (
    ("triton_jpeg", _jpeg, _fake_jpeg),
    ("triton_jpeg_saving", _jpeg_saving, _fake_jpeg_saving),
    ("triton_jpeg_backward", _jpeg_backward, _fake_jpeg_backward),
    ("triton_encode", _encode, _fake_encode),
    ("triton_decode", _decode, _fake_decode),
):
    LIBRARY.impl(_name, _run, "CUDA")
    LIBRARY.impl(_name, _run, "CPU")
    torch.library.register_fake(f"jpegrad::{_name}", _fake)
