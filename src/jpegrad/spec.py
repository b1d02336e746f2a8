"""What a call asks for, checked once: every argument of the public functions is validated and resolved here."""

import difflib
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypedDict, get_args

import torch
from torch import Tensor

from jpegrad import arguments, surrogates
from jpegrad import tables as quantization
from jpegrad.compiling import constant
from jpegrad.decoder import DEFAULT, Decoder
from jpegrad.home import constants
from jpegrad.sampling import check_subsampling, ratios
from jpegrad.surrogates import Component, Surrogate

FORWARDS = ("exact", "soft")
Subsampling = Literal["4:4:4", "4:2:2", "4:2:0", "4:4:0", "4:1:1"]
Forward = Literal["exact", "soft"]
ROUNDINGS = ("nearest", "truncate")
Rounding = Literal["nearest", "truncate"]
Channels = Literal["planes", "alpha", "CMYK"]
SPACES = ("native", "RGB", "YCbCr")
Space = Literal["native", "RGB", "YCbCr"]
Backend = Literal["auto", "triton", "native", "plain", "reference"]
SurrogateName = Literal[
    "identity",
    "cubic",
    "sin",
    "fourier",
    "soft_round",
    "gaussian",
    "noise",
    "distortion",
    "dead_zone",
    "table_gaussian",
    "table_relative",
    "reich2024",
    "reich2024_ste",
]
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

Matrix = Tensor | Sequence[Sequence[float]]
Vector = Tensor | Sequence[float]
Range = tuple[Any, Any]
"""(low, high) of an image: two numbers, or two tuples of one number per channel."""


class Color(NamedTuple):
    """Colour-conversion parameters.

    Args:
        matrix: ``[3, 3]``, RGB → YCbCr.
        offset: ``[3]``, added to YCbCr, in grey levels.
        inverse: ``[3, 3]``, YCbCr − offset → RGB. None is what every viewer has: JFIF's matrix and offset.

    Source: JFIF 1.02; the five-digit constants of libjpeg-turbo, rounded to 16-bit fixed point by the exact forward.
    """

    matrix: Matrix
    offset: Vector = (0.0, 128.0, 128.0)
    inverse: Matrix | None = None

    def __repr__(self) -> str:
        return arguments.one_line("Color", **self._asdict())


JFIF = Color(
    matrix=((0.299, 0.587, 0.114), (-0.16874, -0.33126, 0.5), (0.5, -0.41869, -0.08131)),
    offset=(0.0, 128.0, 128.0),
    inverse=((1.0, 0.0, 1.402), (1.0, -0.34414, -0.71414), (1.0, 1.772, 0.0)),
)
_UNIT = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
RGB = Color(matrix=_UNIT, offset=(0.0, 0.0, 0.0), inverse=_UNIT)
"""No conversion: the three components are R, G and B (Adobe transform 0)."""
CMYK = Color(
    matrix=((-1.0, 0.0, 0.0), (0.0, -1.0, 0.0), (0.0, 0.0, -1.0)),
    offset=(255.0, 255.0, 255.0),
    inverse=((-1.0, 0.0, 0.0), (0.0, -1.0, 0.0), (0.0, 0.0, -1.0)),
)
"""No conversion of C, M and Y, which files hold inverted, as Adobe's do."""
TABLE_COUNTS = {1: (1, 2, 3), 3: (1, 2, 3), 4: (1, 2, 3, 4)}
"""How many quantization tables serve so many components."""


def decodes_alike(a: Color, b: Color) -> bool:
    """Whether decoders compute with the same 16-bit fixed-point numbers; both conversions have an inverse."""
    return (_fixed(a.inverse), _fixed(a.offset)) == (_fixed(b.inverse), _fixed(b.offset))


def _fixed(numbers: Any) -> Any:
    # Python's numbers, because compiled functions have no tensor to look at.
    if hasattr(numbers, "tolist"):
        numbers = numbers.tolist()
    if hasattr(numbers, "__iter__"):
        return tuple(map(_fixed, numbers))
    return round(numbers * 65536) if math.isfinite(numbers) else numbers


def keeps_rgb(color: Color | None) -> bool:
    """Whether files have R, G and B by these numbers; those of tensors may change, and count as a conversion."""
    if color is None or any(isinstance(part, Tensor) for part in color):
        return False
    return space_of(3, color) == "RGB"


def space_of(channels: int, color: Color | None) -> str:
    """How files hold the components: ``"gray"``, ``"YCbCr"``, ``"RGB"``, ``"YCCK"`` or ``"CMYK"``.

    It is ``"private"`` where the way back from the components is none that a file can announce.
    """
    if channels == 1:
        return "gray"
    if color is None or color.inverse is None or decodes_alike(color, JFIF):
        return "YCbCr" if channels == 3 else "YCCK"
    if decodes_alike(color, RGB if channels == 3 else CMYK):
        return "RGB" if channels == 3 else "CMYK"
    return "private"


def conversion(color: Color | None) -> tuple[Any, Any, Any, Any]:
    """Encoder's matrix and offset, decoder's matrix and offset: every viewer's unless an inverse is given."""
    chosen = JFIF if color is None else color
    decoder = JFIF if chosen.inverse is None else chosen
    return chosen.matrix, chosen.offset, decoder.inverse, decoder.offset


@dataclass(frozen=True)
class Spec:
    """How to code: everything about a call that is not a tensor.

    Args:
        subsampling: as :func:`canonical` gives it.
        forward: ``"exact"`` or ``"soft"``.
        surrogate: the quantiser's rounding as the image sees it.
        table_surrogate: the same rounding as tables and quality see it (exact forward only).
        clip_slope: slope outside the clamps.
        value_range: (low, high) of a floating-point image; ``inputs.for_backends`` makes numbers of bounds per channel.
        rounding: of a floating-point image to 8 bits: ``"nearest"`` or ``"truncate"`` (exact forward only).
        color: colour conversion, or None for JFIF; of four components it is that of the first three.
        largest_entry: of the quantization tables: 255, or 65535 like a file of 16-bit tables.
        space: what to decode four components to: ``"native"``, CMYK, or ``"RGB"``.
        decoder: how levels become samples.
    """

    subsampling: str = "4:2:0"
    forward: str = "exact"
    surrogate: Surrogate = surrogates.gaussian()
    table_surrogate: Surrogate = surrogates.distortion
    clip_slope: float = 0.0
    value_range: Range = (0.0, 1.0)
    color: Color | None = None
    rounding: str = "nearest"
    largest_entry: int = 255
    space: str = "native"
    decoder: Decoder = DEFAULT


def components(channels: int, subsampling: str, color: Color | None = None) -> tuple[Component, ...]:
    """The planes of an image as the surrogates see them: noise gain and number of averaged samples."""
    if channels == 1:
        return (Component("Y", converted=False),)
    rows: Any = (JFIF if color is None else color).matrix
    gains = [(row**2).sum() if isinstance(row, Tensor) else sum(x * x for x in row) for row in rows]
    averaged = [h * v for h, v in ratios(channels, subsampling)]
    planes = tuple(Component(*fields) for fields in zip(("Y", "Cb", "Cr"), gains, averaged, strict=False))
    return planes if channels == 3 else (*planes, Component("K", averaged=averaged[3], converted=False))


def table_index(component: int, count: int) -> int:
    """Which of ``count`` tables a component uses: two tables are luma and chroma."""
    return min(component, count - 1)


def check_choice(argument: str, value: object, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ValueError(f"{argument}: expected one of {', '.join(choices)}; got {value!r}")


def check_image(image: Tensor, counts: tuple[int, ...] | None = (1, 3)) -> None:
    """Raise unless this is an image with one of these counts of channels (None: any)."""
    if not isinstance(image, Tensor):
        raise TypeError(
            f"image: expected a torch.Tensor, got {type(image).__name__}{arguments.conversion(image)}"
        )
    if image.dtype is not torch.uint8 and image.dtype not in FLOATS:
        raise TypeError(f"image: expected a floating-point or uint8 tensor, got dtype {image.dtype}")
    shape = image.shape
    fits = len(shape) >= 3 and shape[-1] >= 1 and shape[-2] >= 1
    if not fits or (shape[-3] not in counts if counts else shape[-3] < 1):
        expected = " or ".join(map(str, counts)) if counts else "C"
        hint = arguments.advice(shape) if counts == (1, 3) else ""
        raise ValueError(
            f"image: expected shape [..., {expected}, H, W] with H, W >= 1, got {list(shape)}{hint}"
        )


def check_value_range(value_range: Any) -> Range:
    """(low, high), each a number or a tuple of one per channel; what is the same for all channels is a number."""
    if type(value_range) is tuple and [*map(type, value_range)] == [float, float]:
        first, last = map(constant, value_range)
        if -math.inf < first < last < math.inf:
            return first, last
    try:
        low, high = (tuple(map(constant, arguments.bound(x))) for x in value_range)
        count = max(len(low), len(high))
        if {len(low), len(high)} - {1, count} or not (low and high):
            raise ValueError("bounds of different lengths")
    except (TypeError, ValueError):
        raise TypeError(
            "value_range: expected two numbers (low, high), each may be a sequence with one per channel, "
            f"got {value_range!r}"
        ) from None
    lows, highs = (bound * (count // len(bound)) for bound in (low, high))
    if not all(-math.inf < a < b < math.inf for a, b in zip(lows, highs, strict=True)):
        raise ValueError(f"value_range: expected finite low < high, got {value_range!r}")
    same = len(set(zip(lows, highs, strict=True))) == 1
    return (lows[0], highs[0]) if same else (lows, highs)


def check_channels(value_range: Range, channels: int) -> None:
    """Raise unless bounds per channel are as many as the image's channels."""
    low, _ = value_range
    if isinstance(low, tuple) and len(low) != channels:
        raise ValueError(
            f"value_range: expected one bound for each of the image's {channels} channels, got {len(low)}"
        )


def check_clip_slope(clip_slope: float) -> float:
    if isinstance(clip_slope, bool) or not isinstance(clip_slope, (int, float)):
        raise TypeError(f"clip_slope: expected a number, got {type(clip_slope).__name__}")
    if not 0 <= clip_slope <= 1:
        raise ValueError(f"clip_slope: expected 0 to 1, got {clip_slope}")
    return constant(float(clip_slope))


def check_broadcast(argument: str, shape: Sequence[int], lead: Sequence[int]) -> None:
    """``shape`` must broadcast against the image's leading dimensions without adding to them."""
    fits = len(shape) <= len(lead) and all(
        a in (1, b) for a, b in zip(reversed(shape), reversed(lead), strict=False)
    )
    if not fits:
        raise ValueError(
            f"{argument}: expected leading dimensions that broadcast to the image's {list(lead)}, got {list(shape)}"
        )


def check_tables(tables: Tensor, channels: int, lead: Sequence[int]) -> None:
    quantization.check_real("tables", tables)
    counts = TABLE_COUNTS[channels]
    if tables.ndim < 3 or tables.shape[-2:] != (8, 8) or tables.shape[-3] not in counts:
        expected = " or ".join(str(n) for n in counts)
        raise ValueError(f"tables: expected shape [..., {expected}, 8, 8], got {list(tables.shape)}")
    check_broadcast("tables", tables.shape[:-3], lead)


def resolve_color(color: Color | tuple[Any, ...] | None) -> Color | None:
    """Check a colour conversion; a plain tuple (matrix, offset[, inverse]) is taken as a :class:`Color`."""
    if color is None:
        return None
    if not isinstance(color, tuple) or not 1 <= len(color) <= 3:
        raise TypeError(
            f"color: expected None, a Color or a tuple (matrix, offset), got {type(color).__name__}"
        )
    color = Color(*color)
    shapes = {"matrix": [3, 3], "offset": [3], "inverse": [3, 3]}
    for name, value in color._asdict().items():
        if value is None and name == "inverse":
            continue
        try:
            found = list(value.shape) if isinstance(value, Tensor) else list(torch.tensor(value).shape)
            finite = isinstance(value, Tensor) or _finite(value)
            if isinstance(value, Tensor) and value.is_complex():
                raise TypeError("complex numbers")
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"color.{name}: expected numbers of shape {shapes[name]}, got {value!r}"
            ) from error
        if found != shapes[name]:
            raise ValueError(f"color.{name}: expected shape {shapes[name]}, got {found}")
        if not finite:
            raise ValueError(f"color.{name}: expected finite numbers, got {value!r}")
    return color


def _finite(value: Any) -> bool:
    return all(_finite(x) for x in value) if hasattr(value, "__iter__") else math.isfinite(value)


def resolve_surrogate(argument: str, value: str | Surrogate, gaussian: Surrogate) -> Surrogate:
    """A record as it is, or by its name; ``gaussian`` is the one of that name."""
    if isinstance(value, Surrogate):
        return value
    if not isinstance(value, str):
        raise TypeError(f"{argument}: expected a name or a Surrogate, got {type(value).__name__}")
    return gaussian if value == "gaussian" else surrogates.get(value, argument=argument)


def resolve_sigma(
    sigma: float | None, surrogate: str | Surrogate, table_surrogate: str | Surrogate | None
) -> Surrogate:
    """What ``"gaussian"`` is in a call."""
    if sigma is None:
        return surrogates.ALL["gaussian"]
    surrogates.check_positive("sigma", sigma)
    seen = {"surrogate": surrogate, "table_surrogate": table_surrogate}
    if not any(isinstance(value, str) and value == "gaussian" for value in seen.values()):
        names = ", ".join(f"{name}={_named(value)}" for name, value in seen.items() if value is not None)
        raise ValueError(
            f'sigma: expected with surrogate="gaussian" by that name, whose width it is; got {sigma} with {names}'
        )
    return surrogates.gaussian(constant(sigma))


def _named(value: object) -> str:
    return f"the record {value.name!r}" if isinstance(value, Surrogate) else repr(value)


def resolve_decoder(decoder: Decoder | None, forward: str) -> Decoder:
    """A decoder that goes with the forward; None is that of every viewer."""
    if decoder is None:
        return DEFAULT
    if not isinstance(decoder, Decoder):
        raise TypeError(f"decoder: expected None or a jpegrad.Decoder, got {type(decoder).__name__}")
    if decoder.dct == "fast" and forward == "soft":
        raise ValueError(
            'decoder: expected dct="accurate" with forward="soft", which computes in real numbers; got "fast"'
        )
    return decoder


def check_decoded(dtype: torch.dtype, decoder: Decoder, argument: str) -> None:
    """Raise unless a decoded image of this type holds what the decoder computes."""
    if dtype is torch.uint8 and not decoder.clip:
        raise ValueError(
            f"{argument}: expected floating point with decoder.clip=False, whose samples are real numbers outside of "
            f"0 to 255 too; got {dtype}"
        )


def resolve(**options: Any) -> Spec:
    """Check every argument that is not a tensor and put them into a :class:`Spec`.

    The surrogate fills in what the caller left at None: its forward, its clip slope, what tables see.
    """
    sigma = options.get("sigma")
    # Of a width so small every call gives its warning.
    warns = type(sigma) is float and sigma < surrogates.FINEST
    if torch.compiler.is_compiling() or warns or not all(map(_is_plain, options.values())):
        return _resolve(**options)
    return _resolve_once(**options)


def _is_plain(option: Any) -> bool:
    """Whether equal options are the same."""
    kind = type(option)
    return option is None or kind in (str, float) or (kind is tuple and all(type(x) is float for x in option))


def _resolve(
    *,
    subsampling: str | None = None,
    forward: str | None = None,
    surrogate: str | Surrogate = "gaussian",
    sigma: float | None = None,
    table_surrogate: str | Surrogate | None = None,
    clip_slope: float | None = None,
    color: Color | tuple[Any, ...] | None = None,
    value_range: Any = (0.0, 1.0),
    rounding: str = "nearest",
    decoder: Decoder | None = None,
) -> Spec:
    if subsampling is None:
        subsampling = "4:2:0"
    check_subsampling("subsampling", subsampling)
    gaussian = resolve_sigma(sigma, surrogate, table_surrogate)
    record = resolve_surrogate("surrogate", surrogate, gaussian)
    if forward is None:
        forward = record.forward or "exact"
    check_choice("forward", forward, FORWARDS)
    check_choice("rounding", rounding, ROUNDINGS)
    if rounding != "nearest" and forward == "soft":
        raise ValueError(
            f'rounding: expected "nearest" with forward="soft", which rounds no pixel; got {rounding!r}'
        )
    if clip_slope is None:
        clip_slope = record.clip_slope or 0.0
    if table_surrogate is None:
        tables = record.table or surrogates.distortion
    else:
        tables = resolve_surrogate("table_surrogate", table_surrogate, gaussian)
        if forward == "soft":
            raise ValueError(
                'table_surrogate: expected None with forward="soft", which is differentiated as it is, '
                f"tables included; got {_named(table_surrogate)}"
            )
    return Spec(
        subsampling=subsampling,
        forward=forward,
        surrogate=record,
        table_surrogate=tables,
        clip_slope=check_clip_slope(clip_slope),
        value_range=check_value_range(value_range),
        color=resolve_color(color),
        rounding=rounding,
        decoder=resolve_decoder(decoder, forward),
    )


_resolve_once = functools.lru_cache(256)(_resolve)


class CommonOptions(TypedDict, total=False):
    """:class:`Options` without the subsampling, of which ``nn.RandomJPEG`` has one of its own."""

    forward: Forward | None
    surrogate: SurrogateName | Surrogate
    sigma: float | None
    table_surrogate: SurrogateName | Surrogate | None
    clip_slope: float | None
    color: Color | tuple[Any, ...] | None
    value_range: tuple[Any, Any]
    rounding: Rounding
    channels: Channels | None
    decoder: Decoder | None
    backend: Backend


class Options(CommonOptions, total=False):
    """What ``nn.JPEG`` and ``backends.explain`` hand on to :func:`jpegrad.jpeg`."""

    subsampling: Subsampling | str | None


def check_names(caller: str, options: Mapping[str, object]) -> None:
    """Raise a TypeError unless every name is one of :class:`Options`; the message has the nearest one that is."""
    known = tuple(Options.__annotations__)
    for name in options:
        if name not in known:
            # The tables and the quality are the caller's own.
            near = difflib.get_close_matches(name, {*known, "quality", "tables"} - {name}, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"expected some of {', '.join(known)}"
            raise TypeError(f"{caller}: unexpected keyword argument {name!r}; {hint}")


def check_options(caller: str, options: Mapping[str, object]) -> Spec:
    """Check what ``caller`` takes as ``**options``: the names of :class:`Options`, and values as :func:`resolve` does.

    Raises:
        TypeError: a name that is none of them; the message has the nearest one that is.
        TypeError, ValueError: a value is not as described.
    """
    check_names(caller, options)
    values: dict[str, Any] = dict(options)
    check_choice("backend", values.pop("backend", "auto"), get_args(Backend))
    if (channels := values.pop("channels", None)) is not None:
        check_choice("channels", channels, get_args(Channels))
    return resolve(**values)


def resolve_tables(
    image: Tensor,
    quality: float | Tensor | None,
    tables: Tensor | None,
    spec: Spec,
    scaled: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """The tables of a call: legal, float64, on the image's device, ``[..., n, 8, 8]``, with their graph.

    ``scaled`` is a faster :func:`jpegrad.tables.annex_k` for qualities that have to be computed.

    Raises:
        ValueError: neither or both of ``quality`` and ``tables`` given, or of the wrong shape.
    """
    lead = image.shape[:-3]
    if tables is not None:
        if quality is not None:
            raise ValueError(
                "tables and quality: expected one of them, got both; "
                "tables are used as they are: scale them with jpegrad.tables.scale(tables, quality)"
            )
        check_tables(tables, image.shape[-3], lead)
        tables = tables.to(image.device, torch.float64)
        return quantization.legal(
            tables, forward=spec.forward, surrogate=spec.surrogate, largest=spec.largest_entry
        )
    if quality is None:
        raise ValueError("quality: expected a number or a tensor (or tables instead), got None")
    quantization.check_quality(quality)
    entries = _by_quality(image, quality, spec, scaled)
    used = table_slots(image.shape[-3], spec.color)
    return entries if used is None else entries[..., used, :, :]


def table_slots(channels: int, color: Color | None) -> list[int] | None:
    """Which tables of a quality the components have, luma's or chroma's, as in libjpeg; None is one after the other.

    Without a conversion all have the table of luma.
    """
    if channels == 4:
        return [0] if space_of(4, color) == "CMYK" else [0, 1, 1, 0]
    return [0] if keeps_rgb(color) else None


def _by_quality(
    image: Tensor, quality: float | Tensor, spec: Spec, scaled: Callable[[Tensor], Tensor] | None
) -> Tensor:
    lead = image.shape[:-3]
    # The paper's soft forward alone codes with tables that no file has.
    soft = spec.forward == "soft" and spec.surrogate.floor is not None
    if isinstance(quality, Tensor):
        check_broadcast("quality", quality.shape, lead)
        if not soft and quantization.is_whole(quality):
            return quantization.annex_k(quality, dtype=torch.float64, device=image.device)
        quality = quality.to(image.device)
        if scaled is not None and spec.surrogate.floor is None:
            return scaled(quality)
    elif not soft:
        return quantization.annex_k(quality, dtype=torch.float64, device=image.device)
    base = constants(quantization.ANNEX_K, torch.float64, image.device)
    entries = quantization.scale(base, quality, forward=spec.forward, surrogate=spec.surrogate)
    return quantization.legal(entries, forward=spec.forward, surrogate=spec.surrogate) if soft else entries
