"""The Triton kernels as the six fills of :mod:`jpegrad.backends.fused.operators`: launches and their constants.

Flags say which clamps acted: at a pixel those of the encoder's R, G, B (1, 2, 4; 128, 256, 512 too if the value is no
number), of the decoded Y (8) and of the decoder's R, G, B (16, 32, 64); a pixel with a NaN has 1024. In 8 bits there is
128 alone, which says that.
"""

import functools
import importlib.util
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from jpegrad import surrogates
from jpegrad.backends.fused.settings import Families, Settings, families
from jpegrad.backends.triton.launch import (
    fixed_rows,
    grid,
    launch,
    table_places,
    three,
    value_range,
    warps,
)
from jpegrad.spec import Spec, constant_result

NAME = "triton"
# On the CPU they run under Triton's interpreter.
KEYS = ("CUDA", "CPU")
RECORDS = (
    surrogates.identity,
    surrogates.cubic,
    surrogates.sin,
    surrogates.fourier,
    surrogates.soft_round(),
    surrogates.gaussian(),
    surrogates.table_gaussian(),
    surrogates.table_relative(),
    surrogates.distortion,
    surrogates.dead_zone,
)
"""Records whose slopes the kernels evaluate, under these names."""
SLOPES = families((record.name, record.slope) for record in RECORDS)
SOFT: Families = {}


def reasons(operation: str, image: Tensor, spec: Spec) -> list[str]:
    """Why these kernels cannot run a call."""
    found = [reason] if (reason := missing()) else []
    if image.device.type != "cuda":
        found.append(f"it runs on CUDA devices, the image is on {image.device}")
    return found


@constant_result
def missing() -> str:
    """Whether there is no Triton."""
    return "" if installed() else "triton is not installed"


@functools.cache
def installed() -> bool:
    return importlib.util.find_spec("triton") is not None


def entries(tables: Tensor) -> tuple[Tensor, Tensor]:
    """Table entries as integers, and what a coefficient (8 times the orthonormal) is multiplied by."""
    return tables.to(torch.int32).contiguous(), (0.125 / tables).float().contiguous()


def saved(image: Tensor, s: Settings, with_tables: bool) -> list[Tensor]:
    """Flags; and every coefficient's integer unless the slope is 1."""
    wanted = with_tables or s.slope != "identity"
    coefficients = grid(image.shape, s).coefficients(image, torch.int16) if wanted else []
    return [*flags(image.shape, s, image), *coefficients]


def flags(shape: Sequence[int], s: Settings, like: Tensor) -> tuple[Tensor, Tensor]:
    g = grid(shape, s)
    return g.flags(like, s.clip_slope), g.planes(like)[1]


def jpeg(image: Tensor, tables: Tensor, s: Settings, out: Tensor, saved: list[Tensor]) -> None:
    planes, seen = grid(image.shape, s).planes(image), _seen(image)
    pixels, chroma, *coefficients = saved or (None, None)
    _encoded(image, tables, s, planes, seen, (pixels, chroma), coefficients)
    _imaged(planes, out, s, pixels, image, seen)


def _seen(image: Tensor) -> Tensor | None:
    """Room for a note per image that it has a NaN, which bytes have not."""
    return None if image.dtype is torch.uint8 else image.new_zeros(image.shape[0], dtype=torch.int32)


def _encoded(
    image: Tensor,
    tables: Tensor,
    s: Settings,
    planes: tuple[Tensor, Tensor] | tuple[None, None] = (None, None),
    seen: Tensor | None = None,
    flags: tuple[Tensor | None, Tensor | None] = (None, None),
    coefficients: list[Tensor] | None = None,
    levels: list[Tensor] | None = None,
    unrounded: list[Tensor] | None = None,
) -> None:
    g = grid(image.shape, s)
    mcus = g.per_program(image.device)
    launch(
        "forward.encode_kernel", g.batch * g.programs(image.device), image,
        image, *entries(tables), *planes, seen, *flags, *three(coefficients), *three(levels), *three(unrounded),
        g.height, g.width, *g.mcus, *image.stride(), *table_places(tables, g.channels),
        CHANNELS=g.channels, H=s.h, V=s.v, COLOR=fixed_rows(s.forward_matrix, s.forward_bias),
        RANGE=value_range(image.dtype, s.low, s.high), LOW=s.low, SCALE=255 / (s.high - s.low),
        ALIGNED=g.width % (8 * s.h) == 0, N=mcus, num_warps=warps(mcus),
    )  # fmt: skip


def _imaged(
    planes: tuple[Tensor, Tensor],
    out: Tensor,
    s: Settings,
    flags: Tensor | None,
    image: Tensor | None = None,
    seen: Tensor | None = None,
) -> None:
    g = grid(out.shape, s)
    programs, rows, columns = g.tile()
    launch(
        "forward.image_kernel", g.batch * programs, out, *planes, out, flags, image, seen,
        g.height, g.width, *g.mcus, *(out if image is None else image).stride(),
        CHANNELS=g.channels, H=s.h, V=s.v, FANCY=g.fancy, INVERSE=fixed_rows(s.inverse_matrix, s.inverse_bias),
        RANGE=value_range(out.dtype, s.low, s.high), LOW=s.low, SPAN=s.high - s.low, ROWS=rows, COLUMNS=columns,
    )  # fmt: skip


def jpeg_backward(
    gradient: Tensor, tables: Tensor, saved: list[Tensor], s: Settings, out: Tensor, sums: Tensor | None
) -> None:
    g = grid(gradient.shape, s)
    flags, chroma_flags, *coefficients = saved
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
        return
    programs, mcus = g.programs(gradient.device), g.per_program(gradient.device)
    # A sum per program, added in a fixed order: the result is the same in every run.
    size = (0, 1, 0, 8, 8) if sums is None else (g.batch, programs, g.channels, 8, 8)
    parts = gradient.new_empty(size, dtype=torch.float32)
    launch(
        "backward.gradient_kernel", g.batch * programs, gradient,
        gradient, *entries(tables), *three(coefficients), flags, chroma_flags, out, parts,
        *sizes, *table_places(tables, g.channels), **constants,
        RECORD=s.slope, P=s.slope_parameter, TABLE_RECORD=s.table_slope, TABLE_P=s.table_parameter,
        TABLES=sums is not None, ALIGNED=g.aligned, N=mcus, num_warps=warps(mcus),
    )  # fmt: skip
    if sums is not None:
        torch.sum(parts, 1, dtype=torch.float64, out=sums)


def encode(
    image: Tensor,
    tables: Tensor,
    s: Settings,
    levels: list[Tensor],
    unrounded: list[Tensor],
    flags: Tensor | None,
) -> None:
    _encoded(image, tables, s, flags=(flags, None), levels=levels, unrounded=unrounded)


def encode_backward(gradients: list[Tensor], flags: Tensor, s: Settings, out: Tensor) -> None:
    g = grid(out.shape, s)
    mcus = g.per_program(out.device)
    launch(
        "backward.encode_gradient_kernel", g.batch * g.programs(out.device), out,
        *three([gradient.contiguous() for gradient in gradients]), flags, out, g.height, g.width, *g.mcus,
        CHANNELS=g.channels, H=s.h, V=s.v, FORWARD=s.forward_real, CLIP_SLOPE=s.clip_slope,
        ALIGNED=g.aligned, N=mcus, num_warps=warps(mcus),
    )  # fmt: skip


def decode(levels: list[Tensor], tables: Tensor, s: Settings, out: Tensor, flags: list[Tensor]) -> None:
    g = grid(out.shape, s)
    planes, mcus = g.planes(out), g.per_program(out.device)
    pixels, chroma = flags or (None, None)
    launch(
        "forward.decode_kernel", g.batch * g.programs(out.device), out,
        *three(levels), entries(tables)[0], *planes, pixels, chroma,
        g.height, g.width, *g.mcus, *table_places(tables, g.channels),
        CHANNELS=g.channels, H=s.h, V=s.v, N=mcus, num_warps=warps(mcus),
    )  # fmt: skip
    _imaged(planes, out, s, pixels)


def decode_backward(gradient: Tensor, flags: list[Tensor], s: Settings, out: list[Tensor]) -> None:
    g = grid(gradient.shape, s)
    mcus = g.per_program(gradient.device)
    launch(
        "backward.decode_gradient_kernel", g.batch * g.programs(gradient.device), gradient,
        gradient, *flags, *three(out), g.height, g.width, *g.mcus, *gradient.stride(),
        CHANNELS=g.channels, H=s.h, V=s.v, FANCY=g.fancy, INVERSE=s.inverse_real, CLIP_SLOPE=s.clip_slope,
        N=mcus, num_warps=warps(mcus),
    )  # fmt: skip
