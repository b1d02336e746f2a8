"""JPEG of random quality, tables and subsampling."""

from collections.abc import Callable, Mapping, Sequence
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from jpegrad.codec import jpeg
from jpegrad.home import home
from jpegrad.inputs import bare, dressed
from jpegrad.nn.codings import (
    COMPONENTS,
    Coding,
    Kind,
    Like,
    as_file,
    bases_of,
    codings_like,
    files_of,
    kinds_of,
    modes_of,
    stacked,
)
from jpegrad.nn.layer import describe
from jpegrad.randomness import Source, source_of
from jpegrad.spec import (
    CMYK,
    Subsampling,
    check_broadcast,
    check_choice,
    check_image,
    check_options,
    table_slots,
)
from jpegrad.tables import check_quality, known, scale

if TYPE_CHECKING:
    import os

    from typing_extensions import Unpack

    from jpegrad.spec import CommonOptions


class Drawn(NamedTuple):
    """What :class:`RandomJPEG` drew: per image, per clip or per batch, as its ``per`` says.

    Args:
        quality: 1…100; integers, or float64 of a range of real numbers; None of a layer with ``like``.
        coding: which of the layer's ``codings``, counted from 0.
        coded: whether the image is coded at all.

    Tensors on the CPU, of one shape that broadcasts to the leading dimensions of the images.
    """

    quality: Tensor | None
    coding: Tensor
    coded: Tensor


class RandomJPEG(nn.Module):
    """JPEG of random quality, tables and subsampling: a differentiable augmentation.

    In training mode, as modules are at first. In ``eval()`` images pass unchanged, as through ``nn.Dropout``, unless
    ``drawn`` is given: ``layer(image, layer.draw(image.shape))`` codes in both modes.

    Everything is drawn on the CPU, so that no call waits for a device and only what is drawn is coded. An image or
    batch that is not coded at all is returned itself.

    Args:
        quality: (lowest, highest), 1…100: of two integers every integer is equally likely, otherwise every real number
            between. One number is the quality of all; None is (30, 95).
        per: ``"image"``: every image draws for itself. ``"clip"``: all images along the dimension before C, H, W share
            one draw (the frames T of ``[..., T, C, H, W]``). ``"batch"``: one draw for the whole call.
        subsampling: one mode, or several to choose from uniformly; or modes that follow the quality, each with the
            lowest quality that has it: ``{1: "4:2:0", 90: "4:4:4"}``. None is 4:2:0.
        tables: tables of quality 50, or several to choose from uniformly: names of :func:`jpegrad.tables.load` or
            ``[1 to 3, 8, 8]``. None is Annex K's, which every libjpeg has.
        like: what to code like instead, with the tables, subsampling and colour space of a file, and no quality: one
            or several of paths of .jpg files, of folders with such files, :func:`jpegrad.read_header`'s and
            :func:`jpegrad.read`'s results, and names of Pillow's presets (``"web_high"``, …). Every file is equally
            likely; only headers are read, now and once. Gray images are coded like files of any kind, others like
            those of as many components.
        p: probability of being coded at all, 0…1.
        generator: source of all randomness, on the CPU; None is PyTorch's default generator. One of your own decides
            alone what is drawn, but in a worker of a ``DataLoader``, where it is first seeded anew from its own next
            number and the worker's seed, which differs per worker and epoch. Each call also takes a number from the
            default generator, by which a recomputation under ``torch.utils.checkpoint`` finds what was drawn.
        options: every other argument of :func:`jpegrad.jpeg`; a ``decoder`` has ``scale=1``, because all images keep
            their size.

    ``codings`` has all that the layer chooses from, each a :class:`Coding`.

    Raises:
        TypeError, ValueError: an argument is not as described.
        JPEGError: a file of ``like`` is none that an image can be coded like. Of a folder such files are left out, with
            a warning.
        OSError: a file cannot be read.
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
        >>> photoshop = jpegrad.nn.RandomJPEG(like=["web_low", "web_high"])
        >>> [coding.subsampling for coding in photoshop.codings]
        ['4:2:0', '4:4:4']
    """

    quality: tuple[float, float] | None
    per: str
    subsampling: tuple[str, ...] | dict[float, str] | None
    codings: tuple[Coding, ...]
    p: float
    _source: Source | None

    def __init__(
        self,
        quality: float | Sequence[float] | None = None,
        *,
        per: str = "image",
        subsampling: Subsampling | Sequence[Subsampling] | Mapping[float, Subsampling] | None = None,
        tables: "str | os.PathLike[str] | Tensor | Sequence[Any] | None" = None,
        like: Like | Sequence[Like] | None = None,
        p: float = 1.0,
        generator: torch.Generator | None = None,
        **options: "Unpack[CommonOptions]",
    ) -> None:
        super().__init__()
        check_choice("per", per, PER)
        self._spec = check_options("nn.RandomJPEG", options)
        decoder = options.get("decoder")
        if decoder is not None and decoder.scale != 1:
            raise ValueError(
                "decoder: expected scale=1 in nn.RandomJPEG, which returns what is not coded in its own size; "
                f"got {decoder.scale}"
            )
        self.per = per
        self.p = check_probability("p", p)
        self.options = options
        self._source = None if generator is None else source_of(generator)
        if like is None:
            self.quality = _bounds((30, 95) if quality is None else quality)
            lowest, modes = modes_of("4:2:0" if subsampling is None else subsampling)
            self.subsampling = dict(zip(lowest, modes, strict=True)) if lowest else modes
            self.codings = tuple(Coding(base, mode) for base in bases_of(tables) for mode in modes)
            self._modes = len(modes)
            self._lowest = torch.tensor(lowest, dtype=torch.float64, device="cpu") if lowest else None
        else:
            decided = {"quality": quality, "subsampling": subsampling, "tables": tables}
            decided["color"] = options.get("color")
            both = [name for name, value in decided.items() if value is not None]
            if both:
                raise ValueError(f"like: expected without {', '.join(both)}, which it decides; got both")
            self.quality, self.subsampling = None, None
            self.codings = codings_like(like)
        self._tables = stacked(self.codings)
        self._kinds = {components: kinds_of(self.codings, components) for components in COMPONENTS}
        self._files = {components: files_of(self.codings, components) for components in COMPONENTS}

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
            ValueError: ``shape`` has no C, H, W, or with ``per="clip"`` no dimension before them; no file of ``like``
                has so many components.
        """
        lead = self._lead(shape)
        generator = None if self._source is None else self._source.ready()
        if self.quality is None:
            quality, coding = None, self._draw_file(self._components(shape[-3]), lead, generator)
        else:
            quality = self._draw_quality(lead, generator)
            coding = self._draw_coding(quality, lead, generator)
        if self.p in (0, 1):
            coded = _constant(self.p == 1, lead)
        else:
            coded = torch.rand(lead, generator=generator, device="cpu") < self.p
        return Drawn(quality, coding, coded)

    def _draw_quality(self, lead: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
        assert self.quality is not None
        low, high = self.quality
        if low == high:
            return _constant(low, lead)
        if isinstance(low, int):
            return torch.randint(low, int(high) + 1, lead, generator=generator, device="cpu")
        drawn = torch.rand(lead, generator=generator, dtype=torch.float64, device="cpu")
        return drawn.mul_(high - low).add_(low)

    def _draw_coding(
        self, quality: Tensor, lead: tuple[int, ...], generator: torch.Generator | None
    ) -> Tensor:
        """Uniformly; or only the tables, where the mode follows the quality."""
        choices = len(self.codings) if self._lowest is None else len(self.codings) // self._modes
        drawn = (
            _constant(0, lead)
            if choices == 1
            else torch.randint(choices, lead, generator=generator, device="cpu")
        )
        if self._lowest is None:
            return drawn
        return drawn * self._modes + torch.bucketize(quality.double(), self._lowest, right=True) - 1

    def _draw_file(self, components: int, lead: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
        count, ends = self._files[components]
        if not count:
            raise ValueError(
                f"like: expected a file of {components} components, as the image has, among {len(self.codings)} codings"
            )
        ticket = torch.randint(count, lead, generator=generator, device="cpu")
        return torch.bucketize(ticket, ends, right=True)

    def forward(self, image: Tensor, drawn: Drawn | None = None) -> Tensor:
        """Code images ``[..., C, H, W]``, as drawn anew or as ``drawn`` says."""
        self._check(image)
        if drawn is not None:
            self._check_drawn(drawn, image.shape)
        elif not self.training:
            return image
        elif self._source is None or torch.compiler.is_compiling():
            drawn = self.draw(image.shape)
        else:
            drawn = self._source.once(lambda: self.draw(image.shape))
        if known(drawn.coding) and known(drawn.coded):
            return self._chosen(image, drawn)
        return self._everything(image, drawn)

    def _lead(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The shape of what is drawn for images of a shape."""
        lead = tuple(shape)[:-3]
        if len(shape) < 3 or (self.per == "clip" and not lead):
            expected = "[..., T, C, H, W]" if self.per == "clip" else "[..., C, H, W]"
            raise ValueError(f"image: expected shape {expected} with per={self.per!r}, got {list(shape)}")
        shared = {"image": 0, "clip": 1, "batch": len(lead)}[self.per]
        return (*lead[: len(lead) - shared], *(1 for _ in range(shared)))

    def _check(self, image: Tensor) -> None:
        """Raise unless this is an image that the layer may code."""
        check_image(image, _COUNTS[self.options.get("channels")])

    def _components(self, channels: int) -> int:
        """Of the file of an image with so many channels."""
        kind = self.options.get("channels")
        counts = _COUNTS[kind]
        if counts is not None and channels not in counts:
            expected = " or ".join(map(str, counts))
            raise ValueError(f"image: expected {expected} channels, got {channels}")
        return 1 if kind == "planes" else channels - 1 if kind == "alpha" else channels

    def _chosen(self, image: Tensor, drawn: Drawn) -> Tensor:
        """Code what is drawn, kind by kind, and nothing else."""
        lead = image.shape[:-3]
        kinds, kind_of = self._kinds[self._components(image.shape[-3])]
        if drawn.coded.numel() == drawn.coding.numel() == 1:
            found = [kind_of[int(drawn.coding)]] if drawn.coded else [-1]
        else:
            chosen = torch.where(drawn.coded, drawn.coding, -1).expand(lead).reshape(-1).tolist()
            found = [-1 if i < 0 else kind_of[i] for i in chosen]
        present = sorted({*found} - {-1})
        if not present:
            return image
        if len(present) == 1 and -1 not in found:
            return self._code(image, drawn, kinds[present[0]])
        # Pieces and not indices: PyTorch copies them as blocks of memory, and keeps channels_last.
        pieces = list(bare(image).reshape(-1, *image.shape[-3:]).split(1))
        flat = flattened(drawn, lead)
        for kind in present:
            places = [i for i, x in enumerate(found) if x == kind]
            out = self._code(torch.cat([pieces[i] for i in places]), taken(flat, places), kinds[kind])
            for i, piece in zip(places, out.split(1), strict=True):
                pieces[i] = piece
        return dressed(torch.cat(pieces).reshape(image.shape), image)

    def _everything(self, image: Tensor, drawn: Drawn) -> Tensor:
        """Code all images in all kinds and choose among them: for draws that cannot be read yet, as in a trace."""
        there = _each(drawn, lambda x: x.to(image.device, non_blocking=True))
        if drawn.quality is not None:
            there = there._replace(quality=drawn.quality.to(home(image.device), non_blocking=True))
        kinds, kind_of = self._kinds[self._components(image.shape[-3])]
        chosen = torch.tensor(kind_of, device=image.device)[there.coding]
        out = image
        for i, kind in enumerate(kinds):
            here = there.coded & (chosen == i)
            out = torch.where(here[..., None, None, None], self._code(image, there, kind), out)
        return out

    def _code(self, image: Tensor, drawn: Drawn, kind: Kind) -> Tensor:
        """Code all images of a tensor, alike but for quality and tables."""
        (subsampling, color), quality = kind, drawn.quality
        # The name is one of those that were checked.
        options: Any = {**self.options, "subsampling": subsampling}
        if self._tables is None:
            assert quality is not None
            return jpeg(image, _fastest(quality, image), **options)
        components = self._components(image.shape[-3])
        # Of the CPU, where entries may be looked at: the codec moves them.
        tables = self._tables.to(drawn.coding.device)[drawn.coding][..., :components, :, :]
        if quality is None:
            return jpeg(image, like=as_file(tables, subsampling, color), **self.options)
        used = table_slots(components, self._spec.color or (CMYK if components == 4 else None))
        bases = tables.to(quality.device) if used is None else tables.to(quality.device)[..., used, :, :]
        quality = quality[..., None, None, None]
        entries = scale(bases, quality, forward=self._spec.forward, surrogate=self._spec.surrogate)
        return jpeg(image, tables=entries, **options)

    def _check_drawn(self, drawn: Drawn, shape: Sequence[int]) -> None:
        """Raise unless this may have been drawn for images of a shape."""
        if not isinstance(drawn, Drawn):
            raise TypeError(f"drawn: expected a Drawn, got {type(drawn).__name__}")
        if (drawn.quality is None) != (self.quality is None):
            expected = "None of a layer with like" if self.quality is None else "a torch.Tensor"
            raise TypeError(f"drawn.quality: expected {expected}, got {type(drawn.quality).__name__}")
        for name, value in drawn._asdict().items():
            if value is None:
                continue
            if not isinstance(value, Tensor):
                raise TypeError(f"drawn.{name}: expected a torch.Tensor, got {type(value).__name__}")
            check_broadcast(f"drawn.{name}", value.shape, shape[:-3])
        if drawn.quality is not None:
            check_quality(drawn.quality)
        if drawn.coded.dtype != torch.bool:
            raise TypeError(f"drawn.coded: expected a tensor of bool, got dtype {drawn.coded.dtype}")
        if drawn.coding.dtype not in (torch.int64, torch.int32):
            raise TypeError(f"drawn.coding: expected integers, got dtype {drawn.coding.dtype}")
        if known(drawn.coding):
            components = self._components(shape[-3])
            for i in drawn.coding.reshape(-1).tolist():
                if not 0 <= i < len(self.codings):
                    raise ValueError(f"drawn.coding: expected 0 to {len(self.codings) - 1}, got {i}")
                if not self.codings[i].suits(components):
                    raise ValueError(
                        f"drawn.coding: expected files of {components} components, as the image has, got {i} of "
                        f"{self.codings[i].components}"
                    )

    def extra_repr(self) -> str:
        codings = None if self.quality is not None and self._tables is None else f"[{len(self.codings)}]"
        return describe(
            quality=self.quality,
            per=self.per,
            subsampling=self.subsampling,
            codings=codings,
            p=self.p,
            **self.options,
        )


PER = ("image", "clip", "batch")
_COUNTS: dict[str | None, tuple[int, ...] | None] = {
    None: (1, 3),
    "alpha": (2, 4),
    "planes": None,
    "CMYK": (4,),
}
"""Channels of an image, by the option of that name."""


def flattened(drawn: Drawn, lead: Sequence[int]) -> Drawn:
    """What was drawn, for each image of all leading dimensions in a row."""
    return _each(drawn, lambda x: x.expand(lead).reshape(-1))


def taken(flat: Drawn, places: list[int]) -> Drawn:
    """What was drawn for some of the images in a row."""
    return _each(flat, lambda x: x[places])


def _each(drawn: Drawn, change: Callable[[Tensor], Tensor]) -> Drawn:
    quality, coding, coded = drawn
    return Drawn(None if quality is None else change(quality), change(coding), change(coded))


def _constant(value: float, lead: tuple[int, ...]) -> Tensor:
    kind = {bool: torch.bool, int: torch.int64}.get(type(value), torch.float64)
    return torch.full(lead, value, dtype=kind, device="cpu")


def _fastest(quality: Tensor, image: Tensor) -> Any:
    """The quality as the codec is fastest: a number, or integers, whose tables are looked up."""
    if quality.numel() == 1 and known(quality):
        return quality.item()
    return quality.to(home(image.device), non_blocking=True) if quality.is_floating_point() else quality


def check_probability(argument: str, value: Any) -> float:
    """A probability as a float."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{argument}: expected a number, got {type(value).__name__}")
    chance = float(value)
    if not 0 <= chance <= 1:
        raise ValueError(f"{argument}: expected a probability 0 to 1, got {value}")
    return chance


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
