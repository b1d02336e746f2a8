"""The codec as modules."""

from collections.abc import Sequence
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from jpegrad.codec import jpeg
from jpegrad.inputs import bare, dressed
from jpegrad.randomness import Source, source
from jpegrad.sampling import SUBSAMPLING
from jpegrad.spec import (
    CommonOptions,
    Options,
    Subsampling,
    check_broadcast,
    check_choice,
    check_image,
    check_options,
    check_tables,
)
from jpegrad.surrogates import Surrogate
from jpegrad.tables import check_quality, known

if TYPE_CHECKING:
    from typing_extensions import Unpack


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
        return _describe(quality=self.quality, tables=self.tables, **self.options)


class Drawn(NamedTuple):
    """What :class:`RandomJPEG` drew: per image, per clip or per batch, as its ``per`` says.

    Args:
        quality: 1…100; integers, or float64 of a range of real numbers.
        subsampling: which of the layer's modes, counted from 0.
        coded: whether the image is coded at all.

    Three tensors on the CPU, of one shape that broadcasts to the leading dimensions of the images.
    """

    quality: Tensor
    subsampling: Tensor
    coded: Tensor


class RandomJPEG(nn.Module):
    """JPEG at a random quality and subsampling: a differentiable augmentation.

    In training mode, as modules are at first. In ``eval()`` images pass unchanged, as through ``nn.Dropout``, unless
    ``drawn`` is given: ``layer(image, layer.draw(image.shape))`` codes in both modes.

    Everything is drawn on the CPU, so that no call waits for a device and only what is drawn is coded. An image or
    batch that is not coded at all is returned itself.

    Args:
        quality: (lowest, highest), 1…100: of two integers every integer is equally likely, otherwise every real number
            between. One number is the quality of all.
        per: ``"image"``: every image draws for itself. ``"clip"``: all images along the dimension before C, H, W share
            one draw (the frames T of ``[..., T, C, H, W]``). ``"batch"``: one draw for the whole call.
        subsampling: one mode, or several to choose from uniformly.
        p: probability of being coded at all, 0…1.
        generator: source of all randomness, on the CPU; None is PyTorch's default generator. One of your own decides
            alone what is drawn, but in a worker of a ``DataLoader``, where it is first seeded anew from its own next
            number and the worker's seed, which differs per worker and epoch. Each call also takes a number from the
            default generator, by which a recomputation under ``torch.utils.checkpoint`` finds what was drawn.
        options: every other argument of :func:`jpegrad.jpeg`; a ``decoder`` has ``scale=1``, because all images keep
            their size.

    Raises:
        TypeError, ValueError: an argument is not as described.
        RuntimeError: a recomputation in a backward pass with a generator of your own finds no such call, as under
            ``checkpoint(preserve_rng_state=False)``.

    Example:
        >>> import jpegrad, torch
        >>> augment = jpegrad.nn.RandomJPEG(quality=(30, 95), generator=torch.Generator().manual_seed(0))
        >>> images = torch.rand(4, 3, 32, 32)
        >>> augment(images).shape
        torch.Size([4, 3, 32, 32])
        >>> drawn = augment.draw(images.shape)
        >>> drawn.quality.shape, bool((augment(images, drawn) == augment(images, drawn)).all())
        (torch.Size([4]), True)
    """

    quality: tuple[float, float]
    per: str
    subsampling: tuple[Subsampling, ...]
    p: float
    options: dict[str, Any]
    _source: Source | None

    def __init__(
        self,
        quality: float | Sequence[float] = (30, 95),
        *,
        per: str = "image",
        subsampling: Subsampling | Sequence[Subsampling] = "4:2:0",
        p: float = 1.0,
        generator: torch.Generator | None = None,
        **options: "Unpack[CommonOptions]",
    ) -> None:
        super().__init__()
        self.quality = _bounds(quality)
        check_choice("per", per, PER)
        modes: tuple[Subsampling, ...] = (
            (subsampling,) if isinstance(subsampling, str) else tuple(subsampling)
        )
        if not modes:
            raise ValueError("subsampling: expected at least one mode, got none")
        for mode in modes:
            check_choice("subsampling", mode, tuple(SUBSAMPLING))
        if isinstance(p, bool) or not isinstance(p, Real):
            raise TypeError(f"p: expected a number, got {type(p).__name__}")
        if not 0 <= p <= 1:
            raise ValueError(f"p: expected a probability 0 to 1, got {p}")
        check_options("nn.RandomJPEG", options)
        decoder = options.get("decoder")
        if decoder is not None and decoder.scale != 1:
            raise ValueError(
                "decoder: expected scale=1 in nn.RandomJPEG, which returns what is not coded in its own size; "
                f"got {decoder.scale}"
            )
        self.per = per
        self.subsampling = modes
        self.p = float(p)
        self.options = options
        self._source = None if generator is None else source(generator)

    @property
    def generator(self) -> torch.Generator | None:
        """The source of all randomness, or None for PyTorch's default generator."""
        return None if self._source is None else self._source.generator

    def draw(self, shape: Sequence[int]) -> Drawn:
        """Draw for images of a shape: to read, to keep, to use for several images.

        Args:
            shape: ``[..., C, H, W]``.

        Returns:
            :class:`Drawn`, the next of the generator; ``layer(image, drawn)`` codes with it.

        Raises:
            ValueError: ``shape`` has no C, H, W, or with ``per="clip"`` no dimension before them.
        """
        lead = self._lead(shape)
        generator = None if self._source is None else self._source.ready()
        low, high = self.quality
        if low == high:
            quality = torch.tensor(low, device="cpu").expand(lead)
        elif isinstance(low, int):
            quality = torch.randint(low, int(high) + 1, lead, generator=generator, device="cpu")
        else:
            quality = torch.rand(lead, generator=generator, dtype=torch.float64, device="cpu")
            quality = low + (high - low) * quality
        modes = len(self.subsampling)
        if modes == 1:
            mode = torch.tensor(0, device="cpu").expand(lead)
        else:
            mode = torch.randint(modes, lead, generator=generator, device="cpu")
        if self.p in (0, 1):
            coded = torch.tensor(self.p == 1, device="cpu").expand(lead)
        else:
            coded = torch.rand(lead, generator=generator, device="cpu") < self.p
        return Drawn(quality, mode, coded)

    def forward(self, image: Tensor, drawn: Drawn | None = None) -> Tensor:
        """Code images ``[..., C, H, W]``, as drawn anew or as ``drawn`` says."""
        check_image(image, None if "channels" in self.options else (1, 3))
        if drawn is not None:
            _check_drawn(drawn, image.shape[:-3], len(self.subsampling))
        elif not self.training:
            return image
        elif self._source is None or torch.compiler.is_compiling():
            drawn = self.draw(image.shape)
        else:
            drawn = self._source.once(lambda: self.draw(image.shape))
        if known(drawn.subsampling) and known(drawn.coded):
            return self._chosen(image, drawn)
        return self._everything(image, drawn)

    def _lead(self, shape: Sequence[int]) -> tuple[int, ...]:
        lead = tuple(shape)[:-3]
        if len(shape) < 3 or (self.per == "clip" and not lead):
            expected = "[..., T, C, H, W]" if self.per == "clip" else "[..., C, H, W]"
            raise ValueError(f"image: expected shape {expected} with per={self.per!r}, got {list(shape)}")
        shared = {"image": 0, "clip": 1, "batch": len(lead)}[self.per]
        return (*lead[: len(lead) - shared], *(1 for _ in range(shared)))

    def _chosen(self, image: Tensor, drawn: Drawn) -> Tensor:
        """Code what is drawn, mode by mode, and nothing else."""
        lead = image.shape[:-3]
        kinds = torch.where(drawn.coded, drawn.subsampling, -1).expand(lead).reshape(-1).tolist()
        modes = sorted({*kinds} - {-1})
        if not modes:
            return image
        if all(kind == modes[0] for kind in kinds):
            return self._code(image, drawn.quality, modes[0])
        # Pieces and not indices: PyTorch copies them as blocks of memory, and keeps channels_last.
        pieces = list(bare(image).reshape(-1, *image.shape[-3:]).split(1))
        qualities = drawn.quality.expand(lead).reshape(-1)
        for mode in modes:
            places = [i for i, kind in enumerate(kinds) if kind == mode]
            out = self._code(torch.cat([pieces[i] for i in places]), qualities[places], mode)
            for i, piece in zip(places, out.split(1), strict=True):
                pieces[i] = piece
        return dressed(torch.cat(pieces).reshape(image.shape), image)

    def _everything(self, image: Tensor, drawn: Drawn) -> Tensor:
        """Code all images in all modes and choose among them: for draws that cannot be read yet, as in a trace."""
        quality, mode, coded = (x.to(image.device, non_blocking=True) for x in drawn)
        out = image
        for i in range(len(self.subsampling)):
            chosen = coded & (mode == i)
            out = torch.where(chosen[..., None, None, None], self._code(image, quality, i), out)
        return out

    def _code(self, image: Tensor, quality: Tensor, mode: int) -> Tensor:
        number: float | Tensor = quality
        if quality.numel() == 1 and known(quality):
            (number,) = quality.reshape(-1).tolist()
        elif quality.is_floating_point():
            # Integers stay: their tables are looked up.
            number = quality.to(image.device, non_blocking=True)
        return jpeg(image, number, subsampling=self.subsampling[mode], **self.options)

    def extra_repr(self) -> str:
        return _describe(
            quality=self.quality, per=self.per, subsampling=self.subsampling, p=self.p, **self.options
        )


PER = ("image", "clip", "batch")


def _bounds(quality: float | Sequence[float]) -> tuple[float, float]:
    """(lowest, highest): both integers, or both real."""
    expected = f"quality: expected a number or two (lowest, highest), got {quality!r}"
    # Real and Integral for the scalars of NumPy.
    pair: Any = (quality, quality) if isinstance(quality, Real) else quality
    try:
        low, high = pair
    except (TypeError, ValueError):
        raise TypeError(expected) from None
    if any(isinstance(x, bool) or not isinstance(x, Real) for x in (low, high)):
        raise TypeError(expected)
    if not 1 <= low <= high <= 100:
        raise ValueError(f"quality: expected 1 <= lowest <= highest <= 100, got {quality!r}")
    if isinstance(low, Integral) and isinstance(high, Integral):
        return int(low), int(high)
    return float(low), float(high)


def _check_drawn(drawn: Drawn, lead: Sequence[int], modes: int) -> None:
    if not isinstance(drawn, Drawn):
        raise TypeError(f"drawn: expected a Drawn, got {type(drawn).__name__}")
    for name, value in drawn._asdict().items():
        if not isinstance(value, Tensor):
            raise TypeError(f"drawn.{name}: expected a torch.Tensor, got {type(value).__name__}")
        check_broadcast(f"drawn.{name}", value.shape, lead)
    check_quality(drawn.quality)
    if drawn.coded.dtype != torch.bool:
        raise TypeError(f"drawn.coded: expected a tensor of bool, got dtype {drawn.coded.dtype}")
    if drawn.subsampling.dtype not in (torch.int64, torch.int32):
        raise TypeError(f"drawn.subsampling: expected integers, got dtype {drawn.subsampling.dtype}")
    if known(drawn.subsampling):
        wrong = [i for i in drawn.subsampling.reshape(-1).tolist() if not 0 <= i < modes]
        if wrong:
            raise ValueError(f"drawn.subsampling: expected 0 to {modes - 1}, got {wrong[0]}")


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


def _describe(**fields: Any) -> str:
    def show(value: Any) -> str:
        if isinstance(value, Tensor) and value.ndim:
            return f"tensor{list(value.shape)}"
        return value.name if isinstance(value, Surrogate) else str(value)

    return ", ".join(f"{k}={show(v)}" for k, v in fields.items() if v is not None)
