"""START HERE: the JPEG codec inside autograd. ``encode``, ``decode`` and ``jpeg`` = decode(encode).

The one rule: the forward value is what a real encoder and decoder (libjpeg-turbo) produce; a surrogate only supplies a
slope.
"""

from typing import Any

import torch
from torch import Tensor

from jpegrad import backends
from jpegrad.coefficients import Coefficients as Coefficients
from jpegrad.coefficients import check_8_bit_tables
from jpegrad.spec import (
    FLOATS,
    FORWARDS,
    Color,
    Spec,
    check_broadcast,
    check_choice,
    check_clip_slope,
    check_image,
    check_value_range,
    resolve,
    resolve_tables,
)
from jpegrad.surrogates import Surrogate, finite, identity, straight_through


def jpeg(
    image: Tensor,
    quality: float | Tensor | None = None,
    *,
    tables: Tensor | None = None,
    like: Coefficients | None = None,
    subsampling: str | None = None,
    forward: str | None = None,
    surrogate: str | Surrogate = "gaussian",
    sigma: float = 2.0,
    table_surrogate: str | Surrogate | None = None,
    clip_slope: float | None = None,
    color: Color | tuple[Any, ...] | None = None,
    value_range: tuple[float, float] = (0.0, 1.0),
    backend: str = "auto",
) -> Tensor:
    """Encode and decode images as libjpeg-turbo does, with gradients to image, quality, tables and colour conversion.

    Args:
        image: ``[..., C, H, W]``, C = 3 (RGB) or 1 (gray), any H, W ≥ 1, any strides; floating point in
            ``value_range`` or uint8 in 0…255. The exact forward first rounds it to 8 bits. Values outside are clamped,
            NaN becomes ``low``.
        quality: 1…100, fractions allowed; a number, or a tensor that broadcasts to the leading dimensions (``[]``,
            ``[B]``) and may require grad. A tensor's values are clamped to 1…100.
        tables: ``[2, 8, 8]`` (luma, chroma), ``[3, 8, 8]`` or ``[B, 2 or 3, 8, 8]``, in place of ``quality``; natural
            order, used as they are, rounded and clamped to 1…255.
        like: coefficients, of a file for instance, whose tables, subsampling and colour conversion to use instead.
            Table entries above 255, which some files have, are an error.
        subsampling: ``"4:4:4"``, ``"4:2:2"``, ``"4:2:0"``, ``"4:4:0"`` or ``"4:1:1"``; None is 4:2:0, or that of
            ``like``; gray images ignore it.
        forward: ``"exact"`` (default) equals libjpeg-turbo sample for sample; ``"soft"`` is the smooth real-valued
            pipeline with the surrogate's soft function in place of rounding. ``surrogate="reich2024"`` alone selects
            ``"soft"``.
        surrogate: how the quantiser looks to the image's gradient; a name of ``jpegrad.surrogates.ALL`` or a record.
        sigma: width of ``"gaussian"`` in grey levels, > 0.
        table_surrogate: how it looks to tables and quality (exact forward only); None is ``"distortion"``, measured
            for distortion to the original; ``"table_gaussian"`` suits other losses.
        clip_slope: slope outside the clamps, 0…1; None is 0 (10⁻³ in the paper's presets).
        color: :class:`~jpegrad.spec.Color` or (matrix, offset), which may require grad; None is JFIF.
        value_range: (low, high) of a floating-point image.
        backend: ``"auto"`` or a name of ``jpegrad.backends.ORDER``; a name never falls back.

    Returns:
        The decoded image: shape, dtype and device of ``image``.

    Raises:
        TypeError, ValueError: an argument is not as described; the message names it, what was expected and what came.

    Source: ITU-T T.81; JFIF 1.02; libjpeg-turbo; Reich et al., WACV 2024.

    Example:
        >>> import jpegrad, torch
        >>> image = torch.rand(2, 3, 37, 53, requires_grad=True)
        >>> jpegrad.jpeg(image, quality=torch.tensor([10.0, 90.0])).square().mean().backward()
        >>> image.grad.shape
        torch.Size([2, 3, 37, 53])
    """
    entries, spec = _prepare(
        image,
        quality,
        tables,
        like,
        subsampling=subsampling,
        forward=forward,
        surrogate=surrogate,
        sigma=sigma,
        table_surrogate=table_surrogate,
        clip_slope=clip_slope,
        color=color,
        value_range=value_range,
    )
    return backends.select(backend, "jpeg", image, spec).jpeg(image, entries, spec)


def encode(
    image: Tensor,
    quality: float | Tensor | None = None,
    *,
    tables: Tensor | None = None,
    like: Coefficients | None = None,
    subsampling: str | None = None,
    forward: str | None = None,
    surrogate: str | Surrogate = "gaussian",
    sigma: float = 2.0,
    table_surrogate: str | Surrogate | None = None,
    clip_slope: float | None = None,
    color: Color | tuple[Any, ...] | None = None,
    value_range: tuple[float, float] = (0.0, 1.0),
    backend: str = "auto",
) -> Coefficients:
    """Quantized levels of images, as libjpeg-turbo computes them, with gradients.

    Args:
        image, quality, tables, like, subsampling, forward, surrogate, sigma, table_surrogate, clip_slope, color: as
            in :func:`jpeg`.
        value_range, backend: as in :func:`jpeg`.

    Returns:
        :class:`Coefficients`; ``decode`` of it is ``jpeg`` of the image. Levels are float64 for a float64 image, else
        float32.

    Raises:
        TypeError, ValueError: as in :func:`jpeg`.

    Example:
        >>> import jpegrad, torch
        >>> coefficients = jpegrad.encode(torch.rand(3, 16, 16), quality=50)
        >>> coefficients.levels[0].shape
        torch.Size([2, 2, 8, 8])
    """
    entries, spec = _prepare(
        image,
        quality,
        tables,
        like,
        subsampling=subsampling,
        forward=forward,
        surrogate=surrogate,
        sigma=sigma,
        table_surrogate=table_surrogate,
        clip_slope=clip_slope,
        color=color,
        value_range=value_range,
    )
    levels, unrounded = backends.select(backend, "encode", image, spec).encode(image, entries, spec)
    coefficients = Coefficients(
        levels=levels,
        tables=entries.to(levels[0].dtype),
        size=(image.shape[-2], image.shape[-1]),
        subsampling=spec.subsampling if image.shape[-3] == 3 else "4:4:4",
        color=spec.color,
        dtype=image.dtype,
        value_range=spec.value_range,
        forward=spec.forward,
        clip_slope=spec.clip_slope,
    )
    object.__setattr__(coefficients, "unrounded", unrounded)
    return coefficients


def _prepare(
    image: Tensor,
    quality: float | Tensor | None,
    tables: Tensor | None,
    like: Coefficients | None,
    *,
    subsampling: str | None,
    color: Color | tuple[Any, ...] | None,
    **options: Any,
) -> tuple[Tensor, Spec]:
    """Legal tables and the spec of a call."""
    check_image(image)
    if like is not None:
        if not isinstance(like, Coefficients):
            raise TypeError(f"like: expected Coefficients, got {type(like).__name__}")
        given = {"quality": quality, "tables": tables, "subsampling": subsampling, "color": color}
        both = [name for name, value in given.items() if value is not None]
        if both:
            raise ValueError(f"like: expected without {', '.join(both)}, which it decides; got both")
        if like.channels != image.shape[-3]:
            raise ValueError(
                f"like: expected {image.shape[-3]} components as the image has, got {like.channels}"
            )
        check_8_bit_tables("like", like)
        tables, subsampling, color = like.tables, like.subsampling, like.color
    spec = resolve(subsampling=subsampling, color=color, **options)
    return resolve_tables(image, quality, tables, spec), spec


def decode(
    coefficients: Coefficients,
    *,
    dtype: torch.dtype | None = None,
    value_range: tuple[float, float] | None = None,
    forward: str | None = None,
    clip_slope: float | None = None,
    backend: str = "auto",
) -> Tensor:
    """The image that every viewer shows for these levels, with gradients to levels and tables.

    Args:
        coefficients: from :func:`encode`, from a file, or your own.
        dtype: floating point, or ``torch.uint8`` for 0…255; None is the encoded image's (float32 from a file).
        value_range: (low, high) of a floating-point result; None is the encoded image's ((0, 1) from a file).
        forward: ``"exact"`` or ``"soft"``; None is the encoder's.
        clip_slope: slope outside the clamps; None is the encoder's.
        backend: as in :func:`jpeg`.

    Returns:
        ``[..., C, H, W]``.

    Raises:
        TypeError, ValueError: an argument is not as described.

    Source: ITU-T T.81; libjpeg-turbo's default decoder (accurate integer DCT, fancy upsampling).

    Example:
        >>> import jpegrad, torch
        >>> jpegrad.decode(jpegrad.encode(torch.rand(1, 9, 5), quality=50)).shape
        torch.Size([1, 9, 5])
    """
    if not isinstance(coefficients, Coefficients):
        raise TypeError(f"coefficients: expected Coefficients, got {type(coefficients).__name__}")
    c = coefficients
    dtype = c.dtype if dtype is None else dtype
    if dtype is not torch.uint8 and dtype not in FLOATS:
        raise TypeError(f"dtype: expected a floating-point type or torch.uint8, got {dtype}")
    forward = c.forward if forward is None else forward
    check_choice("forward", forward, FORWARDS)
    spec = Spec(
        subsampling=c.subsampling,
        forward=forward,
        # The decoder rounds no coefficient; torch.compile cannot read these from the defaults.
        surrogate=identity,
        table_surrogate=identity,
        clip_slope=c.clip_slope if clip_slope is None else check_clip_slope(clip_slope),
        value_range=c.value_range if value_range is None else check_value_range(value_range),
        color=c.color,
    )
    check_broadcast("tables", c.tables.shape[:-3], c.batch_shape)
    tables = c.tables.to(c.levels[0].device, torch.float64)
    tables = finite(tables, 1.0, 1.0, 65535.0)
    if forward == "exact":
        tables = straight_through(tables.round().clamp(1, 65535), tables)
    return backends.select(backend, "decode", c.levels[0], spec).decode(c.levels, tables, c.size, dtype, spec)
