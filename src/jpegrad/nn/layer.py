"""JPEG as a layer."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from jpegrad.codec import jpeg
from jpegrad.spec import check_options, check_tables
from jpegrad.surrogates import Surrogate
from jpegrad.tables import check_quality

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from jpegrad.spec import Options


class JPEG(nn.Module):
    """JPEG as a layer, at a quality or with tables of its own, or at a quality given in every call.

    A tensor, list or array given as ``quality`` or ``tables`` becomes a buffer; give an ``nn.Parameter`` to learn it.

    Args:
        quality: 1…100, a number or a tensor, list or array ``[]`` or ``[B]``. ``layer(image, quality)`` replaces it
            for one call, and is needed where neither ``quality`` nor ``tables`` was given.
        tables: ``[2 or 3, 8, 8]`` or ``[B, 2 or 3, 8, 8]``, in place of ``quality``.
        options: every other argument of :func:`jpegrad.jpeg`.

    Raises:
        TypeError, ValueError: as :func:`jpegrad.jpeg`, at construction where possible.

    Example:
        >>> import jpegrad, torch
        >>> layer = jpegrad.nn.JPEG(quality=50, subsampling="4:4:4")
        >>> layer(torch.rand(2, 3, 20, 20)).shape
        torch.Size([2, 3, 20, 20])
        >>> jpegrad.nn.JPEG()(torch.rand(2, 3, 20, 20), torch.tensor([10.0, 90.0])).shape
        torch.Size([2, 3, 20, 20])
    """

    quality: float | Tensor | None
    tables: Tensor | None

    def __init__(
        self,
        quality: float | Sequence[float] | Tensor | None = None,
        *,
        tables: Tensor | None = None,
        **options: "Unpack[Options]",
    ) -> None:
        super().__init__()
        if quality is not None and tables is not None:
            raise ValueError("quality, tables: expected one of them, got both")
        if quality is not None:
            quality = _tensor_of(quality)
            check_quality(quality)
        if tables is not None:
            check_tables(
                tables,
                4 if options.get("channels") == "CMYK" else 1,
                tables.shape[:-3] if isinstance(tables, Tensor) else (),
            )
        check_options("nn.JPEG", options)
        _hold(self, "quality", quality)
        _hold(self, "tables", tables)
        self.options = options

    def forward(self, image: Tensor, quality: float | Tensor | None = None) -> Tensor:
        """Code ``image`` ``[..., C, H, W]``; ``quality`` replaces the layer's own quality or tables for this call."""
        if quality is not None:
            return jpeg(image, quality, **self.options)
        if self.quality is None and self.tables is None:
            raise ValueError(
                "quality: expected a number or a tensor, in nn.JPEG(quality) or in this call; got neither"
            )
        return jpeg(image, self.quality, tables=self.tables, **self.options)

    def extra_repr(self) -> str:
        return describe(quality=self.quality, tables=self.tables, **self.options)


def _tensor_of(quality: float | Sequence[float] | Tensor) -> float | Tensor:
    """Lists and arrays as a tensor; the rest as it is."""
    if isinstance(quality, Tensor) or not hasattr(quality, "__len__") or isinstance(quality, str):
        return quality
    try:
        return torch.as_tensor(quality, dtype=torch.float32)
    except (TypeError, ValueError):
        raise TypeError(f"quality: expected numbers, got {quality!r}") from None


def _hold(module: nn.Module, name: str, value: float | Tensor | None) -> None:
    if isinstance(value, Tensor) and not isinstance(value, nn.Parameter):
        module.register_buffer(name, value)
    else:
        setattr(module, name, value)


def describe(**fields: Any) -> str:
    """What stands in the brackets of a module's representation."""

    def show(value: Any) -> str:
        if isinstance(value, Tensor) and value.ndim:
            return f"tensor{list(value.shape)}"
        return value.name if isinstance(value, Surrogate) else str(value)

    return ", ".join(f"{k}={show(v)}" for k, v in fields.items() if v is not None)
