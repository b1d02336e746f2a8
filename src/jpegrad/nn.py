"""The codec as modules."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from jpegrad import backends
from jpegrad.codec import jpeg
from jpegrad.spec import SUBSAMPLING, Subsampling, check_choice, check_image, check_tables, resolve
from jpegrad.surrogates import Surrogate
from jpegrad.tables import check_quality


class JPEG(nn.Module):
    """JPEG at a fixed quality or with fixed tables, as a layer.

    A tensor given as ``quality`` or ``tables`` becomes a buffer; give an ``nn.Parameter`` to learn it.

    Args:
        quality: 1…100, a number or a tensor ``[]`` or ``[B]``; may be overridden per call.
        tables: ``[2 or 3, 8, 8]`` or ``[B, 2 or 3, 8, 8]``, in place of ``quality``.
        options: every other argument of :func:`jpegrad.jpeg`.

    Raises:
        TypeError, ValueError: as :func:`jpegrad.jpeg`, at construction where possible.

    Example:
        >>> import jpegrad, torch
        >>> layer = jpegrad.nn.JPEG(quality=50, subsampling="4:4:4")
        >>> layer(torch.rand(2, 3, 20, 20)).shape
        torch.Size([2, 3, 20, 20])
    """

    quality: float | Tensor | None
    tables: Tensor | None

    def __init__(
        self, quality: float | Tensor | None = None, *, tables: Tensor | None = None, **options: Any
    ) -> None:
        super().__init__()
        if (quality is None) == (tables is None):
            raise ValueError("quality, tables: expected exactly one of them")
        if quality is not None:
            check_quality(quality)
        if tables is not None:
            check_tables(tables, 1, tables.shape[:-3] if isinstance(tables, Tensor) else ())
        _check_options(options)
        _hold(self, "quality", quality)
        _hold(self, "tables", tables)
        self.options = options

    def forward(self, image: Tensor, quality: float | Tensor | None = None) -> Tensor:
        """Code ``image`` ``[..., C, H, W]``; ``quality`` replaces the layer's own quality or tables for this call."""
        if quality is not None:
            return jpeg(image, quality, **self.options)
        return jpeg(image, self.quality, tables=self.tables, **self.options)

    def extra_repr(self) -> str:
        return _describe(quality=self.quality, tables=self.tables, **self.options)


class RandomJPEG(nn.Module):
    """JPEG at a random quality and subsampling per image: a differentiable augmentation.

    Qualities are integers drawn uniformly, on the generator's device, and never read back to the host. With several
    subsampling modes the images of a batch are grouped by mode; the modes are drawn on the CPU.

    Args:
        quality: (lowest, highest), integers 1…100.
        subsampling: one mode, or several to choose from uniformly.
        p: probability that an image is coded at all, 0…1.
        generator: source of all randomness; None is PyTorch's default CPU generator.
        options: every other argument of :func:`jpegrad.jpeg`.

    Raises:
        TypeError, ValueError: an argument is not as described.

    Example:
        >>> import jpegrad, torch
        >>> augment = jpegrad.nn.RandomJPEG(quality=(30, 95), generator=torch.Generator().manual_seed(0))
        >>> augment(torch.rand(4, 3, 32, 32)).shape
        torch.Size([4, 3, 32, 32])
    """

    def __init__(
        self,
        quality: tuple[int, int] = (30, 95),
        *,
        subsampling: Subsampling | Sequence[Subsampling] = "4:2:0",
        p: float = 1.0,
        generator: torch.Generator | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        low, high = _bounds(quality)
        modes: tuple[Subsampling, ...] = (
            (subsampling,) if isinstance(subsampling, str) else tuple(subsampling)
        )
        if not modes:
            raise ValueError("subsampling: expected at least one mode, got none")
        for mode in modes:
            check_choice("subsampling", mode, tuple(SUBSAMPLING))
        if isinstance(p, bool) or not isinstance(p, (int, float)):
            raise TypeError(f"p: expected a number, got {type(p).__name__}")
        if generator is not None and not isinstance(generator, torch.Generator):
            raise TypeError(f"generator: expected a torch.Generator, got {type(generator).__name__}")
        if not 0 <= p <= 1:
            raise ValueError(f"p: expected a probability 0 to 1, got {p}")
        _check_options(options)
        self.quality = (low, high)
        self.subsampling = modes
        self.p = p
        self.generator = generator
        self.options = options

    def forward(self, image: Tensor) -> Tensor:
        """Code every image of ``[..., C, H, W]`` at a quality of its own."""
        check_image(image)
        lead = image.shape[:-3]
        quality = self._draw(lead).to(image.device, non_blocking=True)
        if len(self.subsampling) == 1:
            out = jpeg(image, quality, subsampling=self.subsampling[0], **self.options)
        else:
            out = self._by_mode(image, quality)
        if self.p == 1:
            return out
        coded = self._uniform(lead) < self.p
        return torch.where(coded.to(image.device, non_blocking=True)[..., None, None, None], out, image)

    def _device(self) -> torch.device:
        return torch.device("cpu") if self.generator is None else self.generator.device

    def _uniform(self, shape: Sequence[int]) -> Tensor:
        return torch.rand(shape, generator=self.generator, device=self._device())

    def _draw(self, shape: Sequence[int]) -> Tensor:
        low, high = self.quality
        drawn = torch.randint(low, high + 1, tuple(shape), generator=self.generator, device=self._device())
        return drawn.to(torch.float32)

    def _by_mode(self, image: Tensor, quality: Tensor) -> Tensor:
        lead = image.shape[:-3]
        images, qualities = image.reshape(-1, *image.shape[-3:]), quality.reshape(-1)
        count = len(images)
        drawn = torch.randint(
            len(self.subsampling), (count,), generator=self.generator, device=self._device()
        ).cpu()
        parts, order = [], []
        for i, mode in enumerate(self.subsampling):
            chosen = (drawn == i).nonzero().squeeze(-1).to(image.device)
            parts.append(jpeg(images[chosen], qualities[chosen], subsampling=mode, **self.options))
            order.append(chosen)
        back = torch.cat(order).argsort()
        return torch.cat(parts)[back].reshape(*lead, *image.shape[-3:])

    def __getstate__(self) -> dict[str, Any]:
        # A torch.Generator cannot be pickled or copied: its state can.
        state = self.__dict__.copy()
        if self.generator is not None:
            state["generator"] = (str(self.generator.device), self.generator.get_state())
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        if isinstance(state.get("generator"), tuple):
            device, position = state["generator"]
            generator = torch.Generator(device)
            generator.set_state(position)
            state = {**state, "generator": generator}
        super().__setstate__(state)  # type: ignore[no-untyped-call]

    def extra_repr(self) -> str:
        return _describe(quality=self.quality, subsampling=self.subsampling, p=self.p, **self.options)


def _bounds(quality: tuple[int, int]) -> tuple[int, int]:
    try:
        low, high = quality
    except (TypeError, ValueError):
        raise TypeError(f"quality: expected two integers (lowest, highest), got {quality!r}") from None
    if not (isinstance(low, int) and isinstance(high, int)):
        raise TypeError(f"quality: expected two integers (lowest, highest), got {quality!r}")
    if not 1 <= low <= high <= 100:
        raise ValueError(f"quality: expected 1 <= lowest <= highest <= 100, got {quality!r}")
    return low, high


def _check_options(options: dict[str, Any]) -> None:
    """Fail when the layer is built, not when it first runs."""
    options = dict(options)
    backends.check(options.pop("backend", "auto"))
    resolve(**options)


def _hold(module: nn.Module, name: str, value: float | Tensor | None) -> None:
    if isinstance(value, Tensor) and not isinstance(value, nn.Parameter):
        module.register_buffer(name, value)
    else:
        setattr(module, name, value)


def _describe(**fields: Any) -> str:
    def show(value: Any) -> str:
        if isinstance(value, Tensor) and value.ndim:
            return f"tensor{list(value.shape)}"
        return value.name if isinstance(value, Surrogate) else str(value)

    return ", ".join(f"{k}={show(v)}" for k, v in fields.items() if v is not None)
