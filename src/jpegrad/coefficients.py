"""What a JPEG file holds: quantized levels and tables."""

import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from jpegrad.sampling import blocks, canonical, ratios
from jpegrad.spec import TABLE_COUNTS, Color, Range, space_of
from jpegrad.tables import check_real

Segment = tuple[int, bytes]
Density = tuple[int, int, str]
UNITS = ("", "inch", "cm")
"""Of a density, by JFIF's number; without a unit the density is a ratio of a pixel's sides."""
NO_DENSITY: Density = (1, 1, "")


@dataclass(frozen=True, eq=False, repr=False)
class Coefficients:
    """Quantized DCT levels of a batch of images, with everything needed to decode them, count their bits or write them.

    Args:
        levels: per component (Y, Cb, Cr; Y alone; or four of CMYK) ``[..., blocks_y, blocks_x, 8, 8]``, natural order,
            integers held in floating point (real numbers after ``encode(forward="soft")``), or integers, which have no
            gradient.
        tables: ``[..., n, 8, 8]``, n = 1, 2 (luma, chroma) or 3; of four components 1 to 4. Component i has the i-th
            table, or the last. Integers 1…255, or up to 65535 in some files; natural order.
        size: (height, width) in pixels.
        subsampling: ``"4:4:4"``, ``"4:2:2"``, ``"4:2:0"``, ``"4:4:0"`` or ``"4:1:1"``; other sampling factors,
            horizontal × vertical of each component, as cjpeg's ``-sample`` spells them: ``"3x1,1x1,1x1"``. They are
            kept without common divisors. Gray images have ``"4:4:4"``.
        color: colour conversion; None is JFIF. Of four components it is that of the first three: ``spec.CMYK``, or None
            for YCCK.
        dtype: of the decoded image, unless ``decode`` is told another.
        value_range: (low, high) of the decoded image, likewise; each a number or one number per channel.
        forward: ``"exact"`` or ``"soft"``, likewise.
        clip_slope: slope outside the decoder's clamps, likewise.
        metadata: marker segments to carry along, (marker, payload).
        density: (horizontal, vertical, unit) of the pixels: ``(300, 300, "inch")``, or per ``"cm"``; without a unit,
            ``(1, 1, "")``, a ratio. Integers 0…65535.
        damage: what was wrong with the file, of which ``read(..., strict=False)`` made what there is.
        smoothing: what viewers add to the levels of a progressive file that never sent some of the bits, shaped like
            ``levels``: libjpeg's interblock smoothing; None is nothing. ``decode`` adds it; ``bits`` and ``to_bytes``
            see the levels alone.

    Of a batch, ``c[3]``, ``c[2:5]``, ``len(c)`` and iteration go along the first leading dimension; :meth:`stack` makes
    one.

    ``unrounded`` holds coefficient / table entry before rounding, with a slope-1 graph to image and tables, if
    ``encode`` ran with gradients; ``dataclasses.replace`` drops it, so that edited levels never meet stale ones.

    Raises:
        ValueError: the shapes do not belong together.

    Source: ITU-T T.81 A.1, A.2.

    Example:
        >>> import jpegrad, torch
        >>> c = jpegrad.encode(torch.rand(3, 40, 24), quality=75)
        >>> [list(level.shape) for level in c.levels]
        [[5, 3, 8, 8], [3, 2, 8, 8], [3, 2, 8, 8]]
    """

    levels: tuple[Tensor, ...]
    tables: Tensor
    size: tuple[int, int]
    subsampling: str = "4:2:0"
    color: Color | None = None
    dtype: torch.dtype = torch.float32
    value_range: Range = (0.0, 1.0)
    forward: str = "exact"
    clip_slope: float = 0.0
    metadata: tuple[Segment, ...] = ()
    density: Density = NO_DENSITY
    damage: tuple[str, ...] = ()
    smoothing: tuple[Tensor, ...] | None = None
    unrounded: tuple[Tensor, ...] | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        if min(self.size) < 1:
            raise ValueError(f"size: expected (height, width) of at least 1, got {self.size}")
        if len(self.levels) not in TABLE_COUNTS:
            raise ValueError(f"levels: expected 1, 3 or 4 components, got {len(self.levels)}")
        object.__setattr__(self, "subsampling", canonical(len(self.levels), self.subsampling))
        for i, (level, ratio) in enumerate(
            zip(self.levels, ratios(len(self.levels), self.subsampling), strict=True)
        ):
            check_real(f"levels[{i}]", level)
            expected = (*blocks(self.size, ratio), 8, 8)
            if tuple(level.shape[-4:]) != expected:
                raise ValueError(
                    f"levels[{i}]: expected shape [..., {', '.join(map(str, expected))}] for a "
                    f"{self.size[0]}×{self.size[1]} image in {self.subsampling}, got {list(level.shape)}"
                )
            if level.shape[:-4] != self.batch_shape:
                raise ValueError(
                    f"levels[{i}]: expected leading dimensions {list(self.batch_shape)} as of levels[0], "
                    f"got {list(level.shape[:-4])}"
                )
        _check_smoothing(self.smoothing, self.levels)
        _check_density(self.density)
        check_real("tables", self.tables)
        counts = TABLE_COUNTS[len(self.levels)]
        if self.tables.ndim < 3 or self.tables.shape[-2:] != (8, 8) or self.tables.shape[-3] not in counts:
            some = " or ".join(map(str, counts))
            raise ValueError(f"tables: expected shape [..., {some}, 8, 8], got {list(self.tables.shape)}")

    def __repr__(self) -> str:
        return (
            f"Coefficients(size={self.size}, subsampling={self.subsampling!r}, channels={self.channels}, "
            f"batch={list(self.batch_shape)}, tables={list(self.tables.shape)}, forward={self.forward!r})"
        )

    @property
    def channels(self) -> int:
        """1 (gray), 3 or 4 (CMYK)."""
        return len(self.levels)

    @property
    def shown(self) -> tuple[Tensor, ...]:
        """The levels that viewers decode: with ``smoothing``, where there is one."""
        if self.smoothing is None:
            return self.levels
        return tuple(x + added for x, added in zip(self.levels, self.smoothing, strict=True))

    @property
    def space(self) -> str:
        """How the components hold the picture: ``"gray"``, ``"YCbCr"``, ``"RGB"``, ``"CMYK"`` or ``"YCCK"``.

        ``"private"`` is a colour conversion whose inverse no file announces.
        """
        return space_of(self.channels, self.color)

    @property
    def batch_shape(self) -> torch.Size:
        """The leading dimensions."""
        return self.levels[0].shape[:-4]

    def __len__(self) -> int:
        """Images along the first leading dimension."""
        return self._leading()

    def __bool__(self) -> bool:
        """Always true: a record, whatever its length."""
        return True

    def __getitem__(self, index: int | slice) -> "Coefficients":
        """An image, or several, of the first leading dimension; views of the same memory."""
        count = self._leading()
        if not isinstance(index, slice):
            try:
                index = operator.index(index)
            except TypeError:
                raise TypeError(
                    f"index: expected an integer or a slice, got {type(index).__name__}"
                ) from None
            if not -count <= index < count:
                raise IndexError(
                    f"index: expected {-count} to {count - 1} for a batch of {count}, got {index}"
                )
        tables = self.tables
        if tables.ndim - 3 == len(self.batch_shape):
            tables = tables.expand(count, *tables.shape[1:])[index]
        return self._with(tuple(x[index] for x in self.levels), tables, lambda x: x[index])

    def __iter__(self) -> Iterator["Coefficients"]:
        return (self[i] for i in range(self._leading()))

    @staticmethod
    def stack(items: Sequence["Coefficients"]) -> "Coefficients":
        """One batch of several, along a new first dimension; also the ``collate_fn`` of a ``DataLoader``.

        Args:
            items: at least one; alike in size, subsampling, colour and everything else but levels, tables, metadata and
                density. Each brings its own tables.

        Returns:
            The batch. Metadata and density are kept where all have the same, else they are left out: a batch has room
            for those of one file only.

        Raises:
            TypeError, ValueError: the items are not as described.

        Example:
            >>> import jpegrad, torch
            >>> items = [jpegrad.encode(torch.rand(3, 16, 24), quality=q) for q in (50, 90)]
            >>> batch = jpegrad.Coefficients.stack(items)
            >>> len(batch), batch.tables.shape, torch.equal(batch[1].levels[0], items[1].levels[0])
            (2, torch.Size([2, 2, 8, 8]), True)
        """
        items = list(items)
        if not items:
            raise ValueError("items: expected at least one, got none")
        for i, item in enumerate(items):
            _check_alike(items[0], item, i)
        first = items[0]
        most = max(item.tables.shape[-3] for item in items)
        unrounded = None
        if all(item.unrounded is not None for item in items):
            unrounded = tuple(
                torch.stack(x) for x in zip(*(item.unrounded or () for item in items), strict=True)
            )
        stacked = replace(
            first,
            levels=tuple(torch.stack(x) for x in zip(*(item.levels for item in items), strict=True)),
            damage=tuple(dict.fromkeys(damage for item in items for damage in item.damage)),
            smoothing=_stack_smoothing(items),
            tables=torch.stack([_full_tables(item, most) for item in items]),
            metadata=first.metadata if all(item.metadata == first.metadata for item in items) else (),
            density=first.density if all(item.density == first.density for item in items) else NO_DENSITY,
        )
        object.__setattr__(stacked, "unrounded", unrounded)
        return stacked

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> "Coefficients":
        """The same coefficients on another device (``unrounded`` stays behind)."""

        def moved(x: Tensor) -> Tensor:
            return x.to(device, non_blocking=non_blocking)

        return replace(
            self,
            levels=tuple(map(moved, self.levels)),
            tables=moved(self.tables),
            smoothing=self.smoothing and tuple(map(moved, self.smoothing)),
        )

    def pin_memory(self) -> "Coefficients":
        """The same coefficients in page-locked memory, as a ``DataLoader(pin_memory=True)`` asks for them."""
        return self._with(
            tuple(x.pin_memory() for x in self.levels), self.tables.pin_memory(), lambda x: x.pin_memory()
        )

    def detach(self) -> "Coefficients":
        """The same coefficients without a graph."""
        return replace(self, levels=tuple(x.detach() for x in self.levels), tables=self.tables.detach())

    def _leading(self) -> int:
        if not self.batch_shape:
            raise TypeError(
                "Coefficients of a single image have no length and no items; those of a batch have"
            )
        return self.batch_shape[0]

    def _with(
        self, levels: tuple[Tensor, ...], tables: Tensor, function: Callable[[Tensor], Tensor]
    ) -> "Coefficients":
        """Other levels and tables, and the same done to ``smoothing`` and ``unrounded``."""
        smoothing = self.smoothing and tuple(map(function, self.smoothing))
        changed = replace(self, levels=levels, tables=tables, smoothing=smoothing)
        if self.unrounded is not None:
            object.__setattr__(changed, "unrounded", tuple(map(function, self.unrounded)))
        return changed


def _stack_smoothing(items: Sequence[Coefficients]) -> tuple[Tensor, ...] | None:
    if all(item.smoothing is None for item in items):
        return None
    each = [item.smoothing or tuple(map(torch.zeros_like, item.levels)) for item in items]
    return tuple(torch.stack(x) for x in zip(*each, strict=True))


def _check_alike(first: Coefficients, item: Coefficients, i: int) -> None:
    if not isinstance(item, Coefficients):
        raise TypeError(f"items[{i}]: expected Coefficients, got {type(item).__name__}")
    names = (
        "size",
        "channels",
        "subsampling",
        "batch_shape",
        "dtype",
        "value_range",
        "forward",
        "clip_slope",
    )
    for name in names:
        one, other = getattr(first, name), getattr(item, name)
        if one != other:
            raise ValueError(f"items[{i}]: expected {name} {one} as of items[0], got {other}")
    if not _same_color(first.color, item.color):
        raise ValueError(f"items[{i}]: expected the colour conversion of items[0], got another")


def _same_color(a: Color | None, b: Color | None) -> bool:
    if a is b or a is None or b is None:
        return a is b
    return all(
        x is y
        or (
            x is not None and y is not None and torch.as_tensor(x).double().equal(torch.as_tensor(y).double())
        )
        for x, y in zip(a, b, strict=True)
    )


def _full_tables(item: Coefficients, count: int) -> Tensor:
    """``[..., count, 8, 8]`` with the batch's leading dimensions; the last table serves the components that remain."""
    tables = item.tables
    last = tables[..., -1:, :, :].expand(*tables.shape[:-3], count - tables.shape[-3], 8, 8)
    tables = torch.cat([tables, last], -3)
    return tables.expand(*item.batch_shape, count, 8, 8)


def shares_tables(coefficients: Coefficients) -> Tensor:
    """Whether two tables of YCCK serve four components, as in libjpeg: one Y and K, one Cb and Cr; ``[...]``."""
    tables = coefficients.tables.detach()
    if coefficients.space != "YCCK" or tables.shape[-3] != 4:
        return torch.zeros(tables.shape[:-3], dtype=torch.bool, device=tables.device)
    return (tables == tables[..., [3, 2, 1, 0], :, :]).flatten(-3).all(-1)


def has_wide_tables(argument: str, coefficients: Coefficients) -> bool:
    """Whether a table entry needs 16 bits, as some of a file that was read may.

    Tables on another device than the CPU are looked at once for each record, because the device has to be waited for. A
    compiled function does not look: there such an entry raises.
    """
    tables = coefficients.tables.detach()
    if torch.compiler.is_compiling():
        torch._assert_async(
            (tables < BEYOND_8_BITS).all(),
            f"{argument}: expected table entries of at most 255 in a compiled function",
        )
        return False
    found = vars(coefficients).get("_has_wide_tables") if tables.device.type != "cpu" else None
    if found is None:
        while torch._C._functorch.is_functorch_wrapped_tensor(tables):
            tables = torch._C._functorch.get_unwrapped(tables)
        found = bool((tables >= BEYOND_8_BITS).any())
        object.__setattr__(coefficients, "_has_wide_tables", found)
    return found


BEYOND_8_BITS = 255.5
"""What rounds to more than 255."""


def _check_smoothing(smoothing: tuple[Tensor, ...] | None, levels: tuple[Tensor, ...]) -> None:
    if smoothing is None:
        return
    if len(smoothing) != len(levels):
        raise ValueError(f"smoothing: expected {len(levels)} components as levels, got {len(smoothing)}")
    for i, (added, level) in enumerate(zip(smoothing, levels, strict=True)):
        check_real(f"smoothing[{i}]", added)
        if added.shape != level.shape:
            raise ValueError(
                f"smoothing[{i}]: expected shape {list(level.shape)} as levels[{i}], got {list(added.shape)}"
            )


def _check_density(density: Density) -> None:
    fits = isinstance(density, tuple) and len(density) == 3 and density[2] in UNITS
    if not fits or any(
        isinstance(x, bool) or not isinstance(x, int) or not 0 <= x <= 65535 for x in density[:2]
    ):
        raise ValueError(
            "density: expected (horizontal, vertical, unit), integers 0 to 65535 and one of "
            f"{', '.join(map(repr, UNITS))}; got {density!r}"
        )
