"""What several drop-ins share: tables of quality 50 that each call scales, and qualities drawn as integers."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from jpegrad.codec import jpeg
from jpegrad.spec import check_image, resolve
from jpegrad.tables import ANNEX_K, check_real, scale

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from jpegrad.spec import Options


def code(
    image: Tensor,
    quality: Tensor,
    luma: Tensor | None = None,
    chroma: Tensor | None = None,
    **options: "Unpack[Options]",
) -> Tensor:
    """:func:`jpegrad.jpeg` with base tables, which are scaled to the quality.

    Args:
        image: ``[..., 3, H, W]``, of N pictures.
        quality: ``[1]`` or ``[N]``, 1…100; values outside are clamped.
        luma, chroma: ``[8, 8]``, ``[1, 8, 8]`` or ``[N, 8, 8]``, tables of quality 50; None is Annex K's.
        options: of :func:`jpegrad.jpeg`.
    """
    check_image(image, (3,))
    check_real("jpeg_quality", quality)
    images = image.reshape(-1, *image.shape[-3:])
    count = len(images)
    if quality.ndim != 1 or len(quality) not in (1, count):
        raise ValueError(f"jpeg_quality: expected shape [1] or [{count}], got {list(quality.shape)}")
    if luma is None and chroma is None:
        return jpeg(images, quality, **options).reshape(image.shape)
    pair = (_base("quantization_table_y", luma, 0, images), _base("quantization_table_c", chroma, 1, images))
    bases = torch.stack(torch.broadcast_tensors(*pair), -3)
    asked: dict[str, Any] = {k: v for k, v in options.items() if k not in ("backend", "channels")}
    spec = resolve(**asked)
    tables = scale(bases, quality[:, None, None, None], forward=spec.forward, surrogate=spec.surrogate)
    return jpeg(images, tables=tables, **options).reshape(image.shape)


def _base(name: str, table: Tensor | None, component: int, images: Tensor) -> Tensor:
    if table is None:
        return torch.tensor(ANNEX_K[component], dtype=torch.float32, device=images.device)
    check_real(name, table)
    count = len(images)
    if table.shape[-2:] != (8, 8) or table.shape[:-2] not in ((), (1,), (count,)):
        raise ValueError(
            f"{name}: expected shape [8, 8], [1, 8, 8] or [{count}, 8, 8], got {list(table.shape)}"
        )
    return table.to(images.device, torch.promote_types(table.dtype, torch.float32))


def draw(lowest: int, highest: int) -> int:
    """An integer quality from PyTorch's default generator, both ends included."""
    return int(torch.randint(lowest, highest + 1, ()).item())
