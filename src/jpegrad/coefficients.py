"""What a JPEG file holds: quantized levels and tables."""

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from jpegrad.spec import SUBSAMPLING, Color, Range, blocks, check_choice, ratios

Segment = tuple[int, bytes]
Density = tuple[int, int, str]
UNITS = ("", "inch", "cm")
"""Of a density, by JFIF's number; without a unit the density is a ratio of a pixel's sides."""
NO_DENSITY: Density = (1, 1, "")


@dataclass(frozen=True, eq=False, repr=False)
class Coefficients:
    """Quantized DCT levels of a batch of images, with everything needed to decode them, count their bits or write them.

    Args:
        levels: per component (Y, Cb, Cr; or Y alone) ``[..., blocks_y, blocks_x, 8, 8]``, natural order, integers held
            in floating point (real numbers after ``encode(forward="soft")``).
        tables: ``[..., n, 8, 8]``, n = 1 (gray), 2 (luma, chroma) or 3; integers 1…255; natural order.
        size: (height, width) in pixels.
        subsampling: ``"4:4:4"``, ``"4:2:2"``, ``"4:2:0"``, ``"4:4:0"`` or ``"4:1:1"``; gray images have ``"4:4:4"``.
        color: colour conversion; None is JFIF.
        dtype: of the decoded image, unless ``decode`` is told another.
        value_range: (low, high) of the decoded image, likewise; each a number or one number per channel.
        forward: ``"exact"`` or ``"soft"``, likewise.
        clip_slope: slope outside the decoder's clamps, likewise.
        metadata: marker segments to carry along, (marker, payload).
        density: (horizontal, vertical, unit) of the pixels: ``(300, 300, "inch")``, or per ``"cm"``; without a unit,
            ``(1, 1, "")``, a ratio. Integers 0…65535.

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
    unrounded: tuple[Tensor, ...] | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        check_choice("subsampling", self.subsampling, tuple(SUBSAMPLING))
        if min(self.size) < 1:
            raise ValueError(f"size: expected (height, width) of at least 1, got {self.size}")
        if len(self.levels) not in (1, 3):
            raise ValueError(f"levels: expected 1 or 3 components, got {len(self.levels)}")
        for i, (level, ratio) in enumerate(
            zip(self.levels, ratios(len(self.levels), self.subsampling), strict=True)
        ):
            _check_real(f"levels[{i}]", level)
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
        _check_density(self.density)
        _check_real("tables", self.tables)
        counts = (1, 2, 3) if len(self.levels) == 1 else (2, 3)
        if self.tables.ndim < 3 or self.tables.shape[-2:] != (8, 8) or self.tables.shape[-3] not in counts:
            raise ValueError(f"tables: expected shape [..., 2 or 3, 8, 8], got {list(self.tables.shape)}")

    def __repr__(self) -> str:
        return (
            f"Coefficients(size={self.size}, subsampling={self.subsampling!r}, channels={self.channels}, "
            f"batch={list(self.batch_shape)}, tables={list(self.tables.shape)}, forward={self.forward!r})"
        )

    @property
    def channels(self) -> int:
        """1 (gray) or 3."""
        return len(self.levels)

    @property
    def batch_shape(self) -> torch.Size:
        """The leading dimensions."""
        return self.levels[0].shape[:-4]

    def to(self, device: torch.device | str) -> "Coefficients":
        """The same coefficients on another device (``unrounded`` stays behind)."""
        return replace(self, levels=tuple(x.to(device) for x in self.levels), tables=self.tables.to(device))

    def detach(self) -> "Coefficients":
        """The same coefficients without a graph."""
        return replace(self, levels=tuple(x.detach() for x in self.levels), tables=self.tables.detach())


def check_8_bit_tables(argument: str, coefficients: Coefficients) -> None:
    """Raise if a table entry does not fit into 8 bits, as those of a file that was read may.

    Tables on another device than the CPU are looked at once for each record, because the device has to be waited for.
    """
    tables = coefficients.tables.detach()
    if torch.compiler.is_compiling():
        torch._assert_async((tables < _BEYOND_8_BITS).all(), f"{argument}: {_EXPECTED_8_BITS}")
        return
    known = tables.device.type != "cpu" and vars(coefficients).get("_has_8_bit_tables", False)
    if known or torch._C._functorch.is_functorch_wrapped_tensor(tables) or not tables.numel():
        return
    largest = tables.max().item()
    if largest >= _BEYOND_8_BITS:
        raise ValueError(f"{argument}: {_EXPECTED_8_BITS}; got {largest:g}")
    object.__setattr__(coefficients, "_has_8_bit_tables", True)


_BEYOND_8_BITS = 255.5
_EXPECTED_8_BITS = (
    "expected table entries of at most 255, because no baseline file holds larger ones "
    "(jpegrad.tables.legal clamps them)"
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


def _check_real(argument: str, value: Tensor) -> None:
    if not isinstance(value, Tensor):
        raise TypeError(f"{argument}: expected a torch.Tensor, got {type(value).__name__}")
    if value.is_complex() or value.dtype == torch.bool:
        raise TypeError(f"{argument}: expected a real tensor, got dtype {value.dtype}")
