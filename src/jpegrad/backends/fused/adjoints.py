"""What lies between two kernels, in PyTorch: shapes, and the gradients between encoding and decoding."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from jpegrad.spec import Spec, components, table_index
from jpegrad.surrogates import Component, Surrogate, evaluate, leaky_clamp


def batch(image: Tensor) -> Tensor:
    """``[..., C, H, W]`` as ``[B, C, H, W]``."""
    return image if image.ndim == 4 else image.reshape(math.prod(image.shape[:-3]), *image.shape[-3:])


def bounded(levels: Tensor) -> Tensor:
    """Levels of 16 bits, NaN as 0, as the kernels take them; with the gradient of the clamp, which they have not."""
    return leaky_clamp(levels, -32768, 32767, nan=0.0)


def needs_gradient(*tensors: Tensor) -> bool:
    return torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)


def table_of(tables: Tensor, component: int) -> Tensor:
    """A component's table in float32, aligned with ``[B, blocks_y, blocks_x, 8, 8]``."""
    return tables[..., table_index(component, tables.shape[-3]), :, :][..., None, None, :, :].float()


def sum_to_tables(sums: Sequence[Tensor], tables: Tensor) -> Tensor:
    """Gradients per component, ``[B, 8, 8]`` each, to the gradient of ``[n, 8, 8]``, ``[1 or B, n, 8, 8]``."""
    count = tables.shape[-3]
    total = [torch.zeros_like(sums[0]) for _ in range(count)]
    for i, each in enumerate(sums):
        total[table_index(i, count)] = total[table_index(i, count)] + each
    stacked = torch.stack(total, 1)
    return stacked if stacked.shape == tables.shape else stacked.sum(0).reshape(tables.shape)


def encode_adjoint(
    gradients: Sequence[Tensor | None],
    unrounded: Sequence[Tensor],
    tables: Tensor,
    spec: Spec,
    wanted: Sequence[bool],
) -> tuple[list[Tensor], Tensor | None]:
    """Gradients of all levels, then of all coefficients in steps, to those of coefficients and of ``tables``.

    ``wanted`` says whether the image and the tables need theirs; a gradient that is None is zero.
    """
    to_coefficients, sums = [], []
    planes = components(len(unrounded), spec.subsampling, spec.color)
    for i, (u, plane) in enumerate(zip(unrounded, planes, strict=True)):
        table, level, ratio = table_of(tables, i), gradients[i], gradients[len(unrounded) + i]
        if wanted[0]:
            found = _through(spec.surrogate, level, ratio, u, table, plane)
            to_coefficients.append((found / table).contiguous())
        if wanted[1]:
            found = _through(spec.table_surrogate, level, ratio, u, table, plane)
            sums.append(-(found * u / table).sum((1, 2), dtype=torch.float64))
    return to_coefficients, sum_to_tables(sums, tables) if sums else None


def _through(
    record: Surrogate, level: Tensor | None, ratio: Tensor | None, u: Tensor, table: Tensor, plane: Component
) -> Tensor:
    if level is None:
        return torch.zeros_like(u) if ratio is None else ratio
    found = evaluate(record, "slope", u, table, plane) * level
    return found if ratio is None else found + ratio


def decode_adjoint(
    gradients: Sequence[Tensor], levels: Sequence[Tensor], tables: Tensor, with_tables: bool
) -> tuple[Tensor | None, list[Tensor]]:
    """Gradients of dequantized coefficients to those of ``tables`` and of levels."""
    to_tables = None
    if with_tables:
        pairs = zip(gradients, levels, strict=True)
        to_tables = sum_to_tables([(g * x).sum((1, 2), dtype=torch.float64) for g, x in pairs], tables)
    return to_tables, [g * table_of(tables, i) for i, g in enumerate(gradients)]
