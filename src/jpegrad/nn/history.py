"""Whole histories of a picture: coded again and again, cut and resized in between."""

import math
from collections.abc import Callable, Sequence
from numbers import Integral, Real
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from jpegrad.inputs import bare, bounds, dressed, from_grey
from jpegrad.nn.augmentation import Drawn, RandomJPEG, check_probability, flattened, taken
from jpegrad.spec import Spec, check_broadcast, check_choice
from jpegrad.surrogates import leaky_clamp, straight_through
from jpegrad.tables import known

FILTERS = ("bilinear", "bicubic")
GRID = 8
"""Pixels between the lines of a block grid."""


class Step(NamedTuple):
    """One coding of a history, and what comes before it.

    Args:
        scale: the size in which the picture is coded, as a multiple of its own: float64, > 0.
        filter: which of the layer's ``filters`` resizes to it, counted from 0.
        shift: ``[..., 2]``, integers 0…7: how many rows and columns of the grid's first block lie outside the picture,
            which is cut out of the coded one.
        coding: how it is coded, :class:`Drawn`.

    Tensors on the CPU, of one shape (but for the last dimension of ``shift``) that broadcasts to the leading
    dimensions of the images.
    """

    scale: Tensor
    filter: Tensor
    shift: Tensor
    coding: Drawn


class History(NamedTuple):
    """What :class:`RandomHistory` drew.

    Args:
        rounds: how often an image is coded; of a smaller count than ``len(steps)`` the last steps are taken.
        steps: in the order of time.
    """

    rounds: Tensor
    steps: tuple[Step, ...]


class RandomHistory(nn.Module):
    """Whole histories as an augmentation: pictures coded again and again, shifted on the grid and resized in between.

    Every step is what programs do to a picture, sample for sample, and passes gradients: resizing (in real numbers,
    then rounded to 8 bits as all that is coded or saved), coding, cutting. Images keep their size: before a step they
    are resized to the drawn multiple of it, and at the end back.

    A grid shift is a crop after the coding. The picture is taken for the part of one that is 7 rows and columns larger:
    its edges are repeated, it is coded, and it is cut out again, so that it begins at row and column 0…7 of a block.

    Args:
        coding: the :class:`RandomJPEG` of every round, or one for each round in the order of time (a camera, then a
            messenger). Their ``p`` is 1, their ``per``, ``generator``, ``channels`` and ``value_range`` are the same.
        rounds: how often an image is coded, 0 or more: a number or (lowest, highest), every integer equally likely. Of
            several layers the last ones are taken. None is (1, 3), of several layers all.
        shifted: probability that a step has a shift of the grid, 0…1; every shift but none is equally likely.
        scaled: probability that a step has a size of its own.
        scale: (lowest, highest) or a number: that size, as a multiple of the image's; every real number between is
            equally likely.
        filters: antialiased filters of ``torch.nn.functional.interpolate``, ``"bilinear"`` or ``"bicubic"``, one or
            several to choose from uniformly.
        aligned: whether the last coding is that of the picture as it is, in its own size and grid, as in a file. False
            shifts and resizes that step too, as of a screenshot.

    Raises:
        TypeError, ValueError: an argument is not as described.
        RuntimeError: draws cannot be read, as under ``vmap`` and in one graph of ``torch.compile``; as
            :class:`RandomJPEG` too.

    Example:
        >>> import jpegrad, torch
        >>> camera = jpegrad.nn.RandomJPEG((90, 98), subsampling=("4:2:2", "4:4:4"))
        >>> messenger = jpegrad.nn.RandomJPEG((60, 80))
        >>> augment = jpegrad.nn.RandomHistory([camera, messenger], rounds=(1, 2), scale=(0.5, 2.0))
        >>> images = torch.rand(4, 3, 32, 32)
        >>> history = augment.draw(images.shape)
        >>> [step.scale.shape for step in history.steps]
        [torch.Size([4]), torch.Size([4])]
        >>> augment(images, history).shape
        torch.Size([4, 3, 32, 32])
    """

    def __init__(
        self,
        coding: RandomJPEG | Sequence[RandomJPEG],
        rounds: int | Sequence[int] | None = None,
        *,
        shifted: float = 0.5,
        scaled: float = 0.5,
        scale: float | Sequence[float] = (0.5, 2.0),
        filters: str | Sequence[str] = FILTERS,
        aligned: bool = True,
    ) -> None:
        super().__init__()
        single = isinstance(coding, RandomJPEG)
        layers = [coding] if isinstance(coding, RandomJPEG) else list(coding)
        _check_layers(layers)
        if rounds is None:
            rounds = (1, 3) if single else len(layers)
        self.rounds = _pair(
            "rounds", rounds, Integral, lambda low, high: 0 <= low <= high, "0 <= lowest <= highest"
        )
        most = int(self.rounds[1])
        if not single and most > len(layers):
            raise ValueError(f"rounds: expected at most {len(layers)}, one for each layer, got {rounds!r}")
        self.coding = nn.ModuleList(layers)
        self._layers = [0] * most if single else list(range(len(layers) - most, len(layers)))
        self.shifted = check_probability("shifted", shifted)
        self.scaled = check_probability("scaled", scaled)
        self.scale = _pair(
            "scale",
            scale,
            Real,
            lambda low, high: 0 < low <= high < math.inf,
            "0 < lowest <= highest",
        )
        self.filters = (filters,) if isinstance(filters, str) else tuple(filters)
        if not self.filters:
            raise ValueError("filters: expected at least one, got none")
        for each in self.filters:
            check_choice("filters", each, FILTERS)
        if not isinstance(aligned, bool):
            raise TypeError(f"aligned: expected True or False, got {type(aligned).__name__}")
        self.aligned = aligned

    @property
    def generator(self) -> torch.Generator | None:
        """The source of all randomness, or None for PyTorch's default generator."""
        return self._first.generator

    @property
    def _first(self) -> RandomJPEG:
        first = self.coding[0]
        assert isinstance(first, RandomJPEG)
        return first

    def _in_time(self) -> list[RandomJPEG]:
        """The layer of each step."""
        return [self.coding[i] for i in self._layers]  # type: ignore[misc]

    def draw(self, shape: Sequence[int]) -> History:
        """Draw for images of a shape: to read, to keep, to use for several images.

        Args:
            shape: ``[..., C, H, W]``.

        Returns:
            :class:`History`, the next of the generator; ``layer(image, history)`` codes with it.

        Raises:
            ValueError: as of :meth:`RandomJPEG.draw`.
        """
        lead = self._first._lead(shape)
        source = self._first._source
        generator = None if source is None else source.ready()
        low, high = self.rounds
        rounds = torch.randint(int(low), int(high) + 1, lead, generator=generator, device="cpu")
        steps = []
        for i, layer in enumerate(self._in_time()):
            own = self.aligned and i == high - 1
            steps.append(Step(*self._draw_change(lead, own, generator), layer.draw(shape)))
        return History(rounds, tuple(steps))

    def _draw_change(
        self, lead: tuple[int, ...], own: bool, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Scale, filter and shift; of a step in the picture's own size and on its own grid there are none."""
        if own:
            none = torch.zeros(lead, dtype=torch.int64, device="cpu")
            return none.double() + 1, none, torch.stack([none, none], -1)

        def chance(p: float) -> Tensor:
            return torch.rand(lead, generator=generator, device="cpu") < p

        low, high = self.scale
        real = torch.rand(lead, generator=generator, dtype=torch.float64, device="cpu")
        scale = torch.where(chance(self.scaled), low + (high - low) * real, 1.0)
        filters = torch.randint(len(self.filters), lead, generator=generator, device="cpu")
        place = torch.randint(1, GRID * GRID, lead, generator=generator, device="cpu")
        place = torch.where(chance(self.shifted), place, 0)
        return scale, filters, torch.stack([place // GRID, place % GRID], -1)

    def forward(self, image: Tensor, history: History | None = None) -> Tensor:
        """Code images ``[..., C, H, W]``, as drawn anew or as ``history`` says."""
        if torch.compiler.is_compiling():
            # What is drawn decides sizes, so that it must be read: the graph breaks here.
            return torch.compiler.disable(self._forward)(image, history)
        return self._forward(image, history)

    def _forward(self, image: Tensor, history: History | None) -> Tensor:
        self._first._check(image)
        source = self._first._source
        if history is not None:
            self._check(history, image.shape)
        elif not self.training:
            return image
        elif source is None:
            history = self.draw(image.shape)
        else:
            history = source.once(lambda: self.draw(image.shape))
        if not all(map(known, _numbers(history))):
            raise RuntimeError(
                "nn.RandomHistory: expected draws that can be read, because they decide sizes; got those of "
                "torch.compile(fullgraph=True), torch.export, torch.func.vmap or another device"
            )
        return self._run(image, history)

    def _run(self, image: Tensor, history: History) -> Tensor:
        lead, own = image.shape[:-3], (image.shape[-2], image.shape[-1])
        rounds = history.rounds.expand(lead).reshape(-1).tolist()
        if not any(rounds):
            return image
        # Half precision has 8 bits, but not what is resized before it is rounded to them.
        half = image.dtype in (torch.float16, torch.bfloat16)
        working = bare(image).float() if half else bare(image)
        pieces = list(working.reshape(-1, *image.shape[-3:]).split(1))
        filters = [0] * len(pieces)
        for i, (layer, step) in enumerate(zip(self._in_time(), history.steps, strict=True)):
            due = [at for at, count in enumerate(rounds) if count >= len(history.steps) - i]
            if due:
                self._take(pieces, filters, due, own, layer, step, lead)
        for at, piece in enumerate(pieces):
            if piece.shape[-2:] != own:
                back = resized(piece, own, self.filters[filters[at]])
                pieces[at] = saved(back, self._in_time()[-1]._spec)
        out = torch.cat(pieces).reshape(image.shape)
        if self._first.options.get("channels") == "alpha":
            out = torch.cat([out[..., :-1, :, :], bare(image)[..., -1:, :, :].to(out.dtype)], -3)
        return dressed(out.to(image.dtype), image)

    def _take(
        self,
        pieces: list[Tensor],
        filters: list[int],
        due: list[int],
        own: tuple[int, int],
        layer: RandomJPEG,
        step: Step,
        lead: Sequence[int],
    ) -> None:
        """Take a step with the images that are due, those of one size together."""
        scales = step.scale.expand(lead).reshape(-1).tolist()
        chosen = step.filter.expand(lead).reshape(-1).tolist()
        shifts = step.shift.expand(*lead, 2).reshape(-1, 2).tolist()
        coding = flattened(step.coding, lead)
        groups: dict[tuple[int, int], list[int]] = {}
        for at in due:
            size = _scaled(own, scales[at])
            if pieces[at].shape[-2:] != size:
                pieces[at] = resized(pieces[at], size, self.filters[chosen[at]])
            # The filter of the way back, should this be the last step.
            filters[at] = chosen[at]
            pieces[at] = extended(pieces[at], *shifts[at])
            groups.setdefault((pieces[at].shape[-2], pieces[at].shape[-1]), []).append(at)
        for places in groups.values():
            out = layer(torch.cat([pieces[at] for at in places]), taken(coding, places))
            for at, piece in zip(places, out.split(1), strict=True):
                (top, left), (height, width) = shifts[at], _scaled(own, scales[at])
                pieces[at] = piece[..., top : top + height, left : left + width]

    def _check(self, history: History, shape: Sequence[int]) -> None:
        """Raise unless this may have been drawn for images of a shape."""
        if not isinstance(history, History):
            raise TypeError(f"history: expected a History, got {type(history).__name__}")
        layers, lead = self._in_time(), shape[:-3]
        if len(history.steps) != len(layers):
            raise ValueError(f"history.steps: expected {len(layers)}, got {len(history.steps)}")
        named: dict[str, tuple[Any, Sequence[int], float, float]] = {
            "rounds": (history.rounds, lead, 0, len(layers))
        }
        for i, (layer, step) in enumerate(zip(layers, history.steps, strict=True)):
            layer._check_drawn(step.coding, shape)
            named[f"steps[{i}].scale"] = (step.scale, lead, 0, math.inf)
            named[f"steps[{i}].filter"] = (step.filter, lead, 0, len(self.filters) - 1)
            named[f"steps[{i}].shift"] = (step.shift, (*lead, 2), 0, GRID - 1)
        for name, (value, broad, low, high) in named.items():
            if not isinstance(value, Tensor):
                raise TypeError(f"history.{name}: expected a torch.Tensor, got {type(value).__name__}")
            check_broadcast(f"history.{name}", value.shape, broad)
            real = name.endswith("scale")
            if value.is_floating_point() != real or value.dtype is torch.bool or value.is_complex():
                expected = "floating-point numbers" if real else "integers"
                raise TypeError(f"history.{name}: expected {expected}, got dtype {value.dtype}")
            for x in value.reshape(-1).tolist() if known(value) else []:
                if not (low < x < high if real else low <= x <= high):
                    raise ValueError(
                        f"history.{name}: expected {'more than ' * real}{low} to {high}, got {x}"
                    )

    def extra_repr(self) -> str:
        return (
            f"rounds={self.rounds}, shifted={self.shifted}, scaled={self.scaled}, scale={self.scale}, "
            f"filters={self.filters}, aligned={self.aligned}"
        )


def extended(image: Tensor, top: int, left: int) -> Tensor:
    """With 7 more rows and columns that repeat the edges, some of them in front; without a shift as it is."""
    if not top and not left:
        return image
    above, below = image[..., :1, :], image[..., -1:, :]
    tall = torch.cat([*[above] * top, image, *[below] * (GRID - 1 - top)], -2)
    before, after = tall[..., :1], tall[..., -1:]
    return torch.cat([*[before] * left, tall, *[after] * (GRID - 1 - left)], -1)


def resized(image: Tensor, size: tuple[int, int], mode: str) -> Tensor:
    """Resized in real numbers, of bytes rounded to them; floating point is rounded when it is coded or saved."""
    if image.is_floating_point():
        return interpolate(image, size, mode=mode, antialias=True)
    real = interpolate(image.float(), size, mode=mode, antialias=True)
    return real.round().clamp(0.0, 255.0).to(image.dtype)


def saved(image: Tensor, spec: Spec) -> Tensor:
    """As a file without loss gives it back: floating point rounded to 8 bits, with the slope of the clamps.

    The soft forward, which rounds no pixel, only clamps.
    """
    if not image.is_floating_point():
        return image
    low, high = bounds(spec.value_range, image)
    real = (image.double() - low) * (255 / (high - low))
    grey = leaky_clamp(real, 0.0, 255.0, spec.clip_slope)
    if spec.forward != "soft":
        levels = real.floor() if spec.rounding == "truncate" else real.round()
        grey = straight_through(levels.clamp(0.0, 255.0), grey)
    return from_grey(grey, spec.value_range, image.dtype)


def _scaled(size: tuple[int, int], scale: float) -> tuple[int, int]:
    height, width = (max(1, round(side * scale)) for side in size)
    return height, width


def _numbers(history: History) -> list[Tensor]:
    """All that decides sizes and groups."""
    found = [history.rounds]
    for step in history.steps:
        found += [step.scale, step.filter, step.shift, step.coding.coding, step.coding.coded]
    return found


def _check_layers(layers: Sequence[object]) -> None:
    if not layers:
        raise ValueError("coding: expected at least one layer, got none")
    first = layers[0]
    for layer in layers:
        if not isinstance(layer, RandomJPEG):
            raise TypeError(f"coding: expected layers nn.RandomJPEG, got {type(layer).__name__}")
        if layer.p != 1:
            raise ValueError(f"coding: expected p=1, because rounds say how often is coded; got {layer.p}")
        assert isinstance(first, RandomJPEG)
        for name, ours, theirs in (
            ("per", first.per, layer.per),
            ("generator", first.generator, layer.generator),
            ("channels", first.options.get("channels"), layer.options.get("channels")),
            ("value_range", first._spec.value_range, layer._spec.value_range),
        ):
            if ours != theirs:
                raise ValueError(f"coding: expected layers of one {name}, got {ours} and {theirs}")


def _pair(
    name: str, value: Any, kind: type, fits: Callable[[Any, Any], bool], expected: str
) -> tuple[float, float]:
    """(lowest, highest) of a number or two."""
    pair = (value, value) if isinstance(value, Real) else value
    try:
        low, high = pair
    except (TypeError, ValueError):
        low = high = None
    if any(isinstance(x, bool) or not isinstance(x, kind) for x in (low, high)):
        what = "integer" if kind is Integral else "number"
        raise TypeError(f"{name}: expected one {what} or two (lowest, highest), got {value!r}")
    if not fits(low, high):
        raise ValueError(f"{name}: expected {expected}, got {value!r}")
    number = int if kind is Integral else float
    return number(low), number(high)  # type: ignore[arg-type]
