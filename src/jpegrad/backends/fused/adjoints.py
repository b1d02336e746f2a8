"""What lies between two kernels, in PyTorch: shapes, and the gradients between encoding and decoding."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from jpegrad.inputs import is_eager
from jpegrad.spec import Spec, components, table_index
from jpegrad.surrogates import Component, Surrogate, evaluate, leaky_clamp


def batch(image: Tensor) -> Tensor:
    """``[..., C, H, W]`` as ``[B, C, H, W]``."""
    return image if image.ndim == 4 else image.reshape(math.prod(image.shape[:-3]), *image.shape[-3:])


def bounded(levels: Tensor) -> Tensor:
    """Levels of 16 bits, NaN as 0, as the kernels take them; with the gradient of the clamp, which they have not."""
    # To look at numbers of a device would be to wait for it.
    if levels.device.type == "cpu" and is_eager(levels) and levels.numel():
        low, high = levels.detach().aminmax()
        # Then there is nothing to clamp, and no copy to keep.
        if low >= -32768 and high <= 32767:
            return levels
    return leaky_clamp(levels, -32768, 32767, nan=0.0)


def needs_gradient(*tensors: Tensor) -> bool:
    """Whether gradients are on and one goes to a tensor, be it in a transform of torch.func."""
    return torch.is_grad_enabled() and any(map(_requires_grad, tensors))


def _requires_grad(tensor: Tensor) -> bool:
    if torch.compiler.is_compiling():
        return tensor.requires_grad
    while torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        if tensor.requires_grad:
            return True
        tensor = torch._C._functorch.get_unwrapped(tensor)
    return tensor.requires_grad


def table_of(tables: Tensor, component: int) -> Tensor:
    """A component's table in float32, aligned with ``[B, blocks_y, blocks_x, 8, 8]``."""
    return tables[..., table_index(component, tables.shape[-3]), :, :][..., None, None, :, :].float()


def table_per_image(tables: Tensor, channels: int, images: int) -> Tensor:
    """``[1 or B, n, 8, 8]`` to every component's own table, ``[B, C, 8, 8]``."""
    each = [tables[:, table_index(i, tables.shape[1])] for i in range(channels)]
    return torch.stack(each, 1).expand(images, channels, 8, 8)


def sum_to_tables(sums: Tensor, tables: Tensor) -> Tensor:
    """Gradients per image and component, ``[B, C, 8, 8]``, to the gradient of ``[1 or B, n, 8, 8]``."""
    count = tables.shape[-3]
    total = [torch.zeros_like(sums[:, 0]) for _ in range(count)]
    for i, each in enumerate(sums.unbind(1)):
        total[table_index(i, count)] = total[table_index(i, count)] + each
    stacked = torch.stack(total, 1)
    return stacked if stacked.shape == tables.shape else stacked.sum(0).reshape(tables.shape)


def encode_adjoint(
    gradients: Sequence[Tensor | None],
    unrounded: Sequence[Tensor],
    tables: Tensor,
    spec: Spec,
    wanted: Sequence[bool],
    planes: Sequence[Component] | None = None,
) -> tuple[list[Tensor], Tensor | None]:
    """Gradients of all levels, then of all coefficients in steps, to those of coefficients and, per image, of tables.

    ``wanted`` says whether the image and the tables need theirs; a gradient that is None is zero. ``planes`` are the
    components as the surrogates see them, where ``spec`` does not say.
    """
    to_coefficients, sums = [], []
    planes = planes or components(len(unrounded), spec.subsampling, spec.color)
    for i, (u, plane) in enumerate(zip(unrounded, planes, strict=True)):
        table, level, ratio = table_of(tables, i), gradients[i], gradients[len(unrounded) + i]
        if wanted[0]:
            found = _through(spec.surrogate, level, ratio, u, table, plane)
            to_coefficients.append((found / table).contiguous())
        if wanted[1]:
            found = _through(spec.table_surrogate, level, ratio, u, table, plane)
            sums.append(-(found * u / table).sum((1, 2), dtype=torch.float64))
    return to_coefficients, torch.stack(sums, 1) if sums else None


def soft_encode_adjoint(
    gradients: Sequence[Tensor | None],
    unrounded: Sequence[Tensor],
    slopes: Sequence[Tensor],
    factors: Sequence[Tensor],
    tables: Tensor,
    wanted: Sequence[bool],
) -> tuple[list[Tensor], Tensor | None]:
    """The same in the soft forward, from every level's slope and from what its table's gradient is multiplied by."""
    count = len(unrounded)
    to_coefficients, sums = [], []
    for i, u in enumerate(unrounded):
        table, level, ratio = table_of(tables, i), gradients[i], gradients[count + i]
        if wanted[0]:
            found = _added(None if level is None else level * slopes[i], ratio, u)
            to_coefficients.append((found / table).contiguous())
        if wanted[1]:
            found = _added(
                None if level is None else level * factors[i], None if ratio is None else -ratio * u, u
            )
            sums.append((found / table).sum((1, 2), dtype=torch.float64))
    return to_coefficients, torch.stack(sums, 1) if sums else None


def _added(a: Tensor | None, b: Tensor | None, like: Tensor) -> Tensor:
    """Their sum, where None is zero."""
    if a is None:
        return torch.zeros_like(like) if b is None else b
    return a if b is None else a + b


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
    """Gradients of dequantized coefficients to those of tables, per image, and of levels."""
    sums = None
    if with_tables:
        pairs = zip(gradients, levels, strict=True)
        sums = torch.stack([(g * x).sum((1, 2), dtype=torch.float64) for g, x in pairs], 1)
    if is_eager(tables) and not torch.is_grad_enabled():
        return sums, [g.mul_(table_of(tables, i)) for i, g in enumerate(gradients)]
    return sums, [g * table_of(tables, i) for i, g in enumerate(gradients)]
