"""How the Triton kernels are called: how images are divided among programs, and the launch itself."""

import contextlib
import functools
import importlib
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from jpegrad.backends.fused.settings import Numbers, Settings
from jpegrad.sampling import ceil_div
from jpegrad.spec import table_index

# Eight lanes a block: 16 MCUs fill four warps with one block each.
MOST_MCUS = 16
# The interpreter pays by the operation, whatever its size.
MOST_INTERPRETED = 64
WIDEST, PIXELS = 512, 1024
"""Columns and pixels of a program that works on pixels."""


class Grid(NamedTuple):
    """Images of one size as the kernels divide them."""

    batch: int
    channels: int
    height: int
    width: int
    h: int
    v: int
    triangle: bool

    @property
    def mcus(self) -> tuple[int, int]:
        return ceil_div(self.height, 8 * self.v), ceil_div(self.width, 8 * self.h)

    @property
    def aligned(self) -> bool:
        """Whether the image is made of whole MCUs."""
        return self.height % (8 * self.v) == 0 and self.width % (8 * self.h) == 0

    @property
    def fancy(self) -> bool:
        """libjpeg has no triangle filter for 4:1:1, nor for planes at most two samples wide in 4:2:2 and 4:2:0."""
        return self.triangle and (self.h == 1 or (self.h == 2 and ceil_div(self.width, 2) > 2))

    def is_long(self, *images: Tensor) -> bool:
        """Whether places within a plane, padded or of an image with strides of its own, need 64 bits."""
        y, x = self.mcus
        ends = [64 * self.v * y * self.h * x]
        for image in images:
            ends.append(
                sum((n - 1) * step for n, step in zip(image.shape[2:], image.stride()[2:], strict=True))
            )
        return max(ends) >= 2**31

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

    def flags(self, like: Tensor, clip_slope: float) -> Tensor:
        """Room for the clamps of every pixel: 8 bits, and 3 more that matter where a clamp has a slope."""
        dtype = torch.int16 if clip_slope else torch.uint8
        return like.new_empty((self.batch, self.height, self.width), dtype=dtype)

    def coefficients(self, like: Tensor, dtype: torch.dtype) -> list[Tensor]:
        """Room for every component's real blocks, those of the padding to MCUs left out."""
        luma = ceil_div(self.height, 8), ceil_div(self.width, 8)
        each = [luma, *[self.mcus] * (self.channels - 1)]
        return [like.new_empty((self.batch, *count, 8, 8), dtype=dtype) for count in each]

    def clips(self, like: Tensor) -> list[Tensor]:
        """Room for slopes of the clamps of pixels, of Y, of Cb and Cr in whole MCUs, and of RGB."""
        pixels, luma = (
            like.new_empty((self.batch, n, self.height, self.width), dtype=torch.float32)
            for n in (self.channels, 1)
        )
        chroma = self.planes(like, torch.float32)[1]
        rgb = pixels if self.channels == 3 else pixels[:, :0]
        return [pixels, luma, chroma, torch.empty_like(rgb)]

    def spreads(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Room for the variance of the decoded samples of each block of Y, and of Cb and Cr."""
        luma = self.batch, ceil_div(self.height, 8), ceil_div(self.width, 8)
        chroma = self.batch, self.channels - 1, *self.mcus
        return like.new_empty(luma, dtype=torch.float32), like.new_empty(chroma, dtype=torch.float32)

    def tile(self, h: int = 1, v: int = 1) -> tuple[tuple[int, int], int, int]:
        """Programs, and rows and columns of a program, for planes of samples of h × v pixels."""
        height, width = ceil_div(self.height, v), ceil_div(self.width, h)
        columns = min(WIDEST // h, 1 << (width - 1).bit_length())
        rows = max(1, PIXELS // (columns * h * v))
        return (self.batch * ceil_div(height, rows), ceil_div(width, columns)), rows, columns


def grid(shape: Sequence[int], s: Settings) -> Grid:
    batch, channels, height, width = shape
    return Grid(batch, channels, height, width, s.h, s.v, s.triangle)


def warps(mcus: int) -> int:
    return max(1, mcus * 8 // 32)


def fixed_rows(matrix: tuple[int, ...], bias: tuple[int, ...]) -> tuple[int, ...]:
    """Three rows of a conversion, each three factors and a bias."""
    return tuple(x for i in range(3) for x in (*matrix[3 * i : 3 * i + 3], bias[i]))


def real_rows(matrix: Numbers, factor: float, bias: Sequence[float]) -> Numbers:
    """The same in real numbers, of as many rows as the matrix has."""
    if len(matrix) == 1:
        return ()
    return tuple(x for i in range(3) for x in (*(factor * m for m in matrix[3 * i : 3 * i + 3]), bias[i]))


def table_places(tables: Tensor, channels: int) -> tuple[int, int, int]:
    """How far apart the tables of two images lie, and where those of Cb and of Cr start."""
    count = tables.shape[-3]
    red = 64 * table_index(min(2, channels - 1), count)
    return tables[0].numel() if tables.shape[0] > 1 else 0, 64 * table_index(1, count), red


def value_range(dtype: torch.dtype, low: float, high: float) -> str:
    """How grey levels come from and go to a type: the kernels' RANGE."""
    if dtype is torch.uint8:
        return "bytes"
    return {(0.0, 1.0): "unit", (-1.0, 1.0): "signed", (0.0, 255.0): "grey"}.get((low, high), "real")


def compiler_options(kernel: str, colored: bool = False) -> dict[str, Any]:
    """What the compiler is told of a kernel, named ``file.function``; ``colored`` if tensors give its conversion."""
    # In the exact forward multiplication and addition stay apart: fused, they would move ties.
    options: dict[str, Any] = {"enable_fp_fusion": not kernel.startswith("forward.")}
    large = kernel == "soft.soft_kernel" or (kernel == "forward.encode_kernel" and colored)
    if large and torch.version.hip is None:
        # Left to itself NVIDIA's assembler spills before it has used all registers.
        options["maxnreg"] = 255
    return options


@functools.cache
def _round_once() -> None:
    """``tl.fma`` rounds once on a device; the interpreter's rounds twice, which moves ties."""
    from triton.runtime import interpreter

    def fma(self: Any, x: Any, y: Any, z: Any) -> Any:
        exact = x.data.astype("float64") * y.data + z.data
        return interpreter.TensorHandle(exact.astype(z.data.dtype), z.dtype.scalar)

    interpreter.InterpreterBuilder.create_fma = fma


def launch(
    kernel: str,
    programs: int | tuple[int, int],
    like: Tensor,
    *args: Any,
    num_warps: int = 4,
    colored: bool = False,
    **constants: Any,
) -> None:
    """Run a kernel, named ``file.function``, on the device of ``like``."""
    grid = programs if isinstance(programs, tuple) else (programs,)
    if 0 in grid:
        return
    on_cuda = like.device.type == "cuda"
    if not on_cuda and os.environ.get("TRITON_INTERPRET") != "1":
        raise RuntimeError("the Triton kernels run on CUDA tensors, and on others under TRITON_INTERPRET=1")
    if not on_cuda:
        _round_once()
    file, _, function = kernel.partition(".")
    run = getattr(importlib.import_module(f"jpegrad.backends.triton.{file}"), function)
    with torch.cuda.device(like.device) if on_cuda else contextlib.nullcontext():
        run[grid](*args, **constants, num_warps=num_warps, **compiler_options(kernel, colored))
