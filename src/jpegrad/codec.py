"""START HERE: the JPEG codec inside autograd. ``encode``, ``decode`` and ``jpeg`` = decode(encode).

The one rule: the forward value is what a real encoder and decoder (libjpeg-turbo) produce; a surrogate only supplies a
slope.
"""

from dataclasses import replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from jpegrad import arguments, backends, inputs
from jpegrad.coefficients import Coefficients as Coefficients
from jpegrad.coefficients import has_wide_tables
from jpegrad.decoder import Decoder
from jpegrad.home import at_home
from jpegrad.sampling import canonical
from jpegrad.spec import (
    CMYK,
    FLOATS,
    FORWARDS,
    RGB,
    SPACES,
    Backend,
    Channels,
    Color,
    Forward,
    Rounding,
    Space,
    Spec,
    Subsampling,
    SurrogateName,
    check_broadcast,
    check_channels,
    check_choice,
    check_clip_slope,
    check_decoded,
    check_image,
    check_value_range,
    resolve,
    resolve_decoder,
    resolve_tables,
)
from jpegrad.surrogates import Surrogate, finite, identity, straight_through


@at_home
def jpeg(
    image: Tensor,
    quality: float | Tensor | None = None,
    *,
    tables: Tensor | None = None,
    like: Coefficients | None = None,
    subsampling: Subsampling | str | None = None,
    forward: Forward | None = None,
    surrogate: SurrogateName | Surrogate = "gaussian",
    sigma: float | None = None,
    table_surrogate: SurrogateName | Surrogate | None = None,
    clip_slope: float | None = None,
    color: Color | tuple[Any, ...] | None = None,
    value_range: tuple[Any, Any] = (0.0, 1.0),
    rounding: Rounding = "nearest",
    channels: Channels | None = None,
    decoder: Decoder | None = None,
    backend: Backend = "auto",
) -> Tensor:
    """Encode and decode images as libjpeg-turbo does, with gradients to image, quality, tables and colour conversion.

    Args:
        image: ``[..., C, H, W]``, C = 3 (RGB) or 1 (gray), any H, W ≥ 1, any strides; floating point in
            ``value_range`` or uint8 in 0…255. The exact forward first rounds it to 8 bits. Values outside are clamped,
            and if much of the image lies far outside, a warning says so. A pixel with a NaN is NaN in a floating-point
            result and in its gradient; its neighbours see it as ``low``.
        quality: 1…100, fractions allowed; a number, or a tensor, array or list that broadcasts to the leading
            dimensions (``[]``, ``[B]``); a tensor may require grad, and its values are clamped to 1…100, with slope 1
            outside. NaN makes its image NaN.
        tables: ``[2, 8, 8]`` (luma, chroma), ``[3, 8, 8]`` or ``[B, 2 or 3, 8, 8]``, in place of ``quality``; one table
            ``[8, 8]`` or ``[1, 8, 8]`` serves all components. Natural order, used as they are, rounded and clamped to
            1…255, with slope 1; the soft forward does not round them. NaN makes its image NaN.
        like: coefficients, of a file for instance, whose tables, subsampling and colour conversion to use instead.
            Table entries above 255, which some files have, are kept.
        subsampling: ``"4:4:4"``, ``"4:2:2"``, ``"4:2:0"``, ``"4:4:0"`` or ``"4:1:1"``, or sampling factors as
            :class:`Coefficients` has them; None is 4:2:0, or that of ``like``; gray images ignore it.
        forward: ``"exact"`` (default) equals libjpeg-turbo sample for sample; ``"soft"`` is the smooth real-valued
            pipeline with the surrogate's soft function in place of rounding, and the file's tables for a quality.
            ``surrogate="reich2024"`` alone selects ``"soft"``.
        surrogate: how the quantiser looks to the image's gradient; a name of ``jpegrad.surrogates.ALL`` or a record.
        sigma: width of ``surrogate="gaussian"`` in grey levels of 0…255, > 0; None is 2. Not for other surrogates.
        table_surrogate: how it looks to tables and quality; None is ``"distortion"`` (the cubic in the paper's
            presets), measured for distortion to the original; ``"table_gaussian"`` suits other losses. Not with
            ``forward="soft"``, whose one soft function serves both.
        clip_slope: slope outside the clamps of samples, 0…1; None is 0 (10⁻³ in the paper's presets).
        color: :class:`~jpegrad.spec.Color` or (matrix, offset), which may require grad; None is JFIF. Not for gray
            images. Under ``spec.RGB``, Pillow's ``keep_rgb=True``, a quality scales the table of luma for all three.
        value_range: (low, high) of a floating-point image; each a number, or a sequence of one number per channel, as
            :func:`jpegrad.inputs.normalized` gives them for an image normalised by mean and deviation.
        rounding: how the exact forward makes 8 bits of a floating-point image: ``"nearest"``, or ``"truncate"`` as
            ``ToPILImage`` does.
        channels: for other counts of channels: ``"planes"`` codes each channel as a gray image, ``"alpha"`` leaves the
            last channel as it is, ``"CMYK"`` codes four inks as Pillow does: inverted, with the luma table, in 4:4:4.
        decoder: :class:`~jpegrad.decoder.Decoder`, another than every viewer's: plain upsampling, the fast DCT, a
            reduced size (not with ``channels="alpha"``), or samples that are not clipped (not for uint8).
        backend: ``"auto"`` or a name of ``jpegrad.backends.ORDER``; a name never falls back.

    Returns:
        The decoded image: shape (but for ``decoder.scale``), dtype, device, memory format and tensor subclass of
        ``image``.

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
    if channels is not None:
        check_choice("channels", channels, get_args(Channels))
    counts = {"alpha": (2, 4), "planes": None}
    check_image(image, counts[channels] if channels in counts else _counts(channels, like))
    plain, alpha = inputs.bare(image), None
    if channels == "alpha":
        plain, alpha = plain[..., :-1, :, :], plain[..., -1:, :, :]
    quality, tables, entries, spec = _prepare(
        plain,
        quality,
        tables,
        planes=channels == "planes",
        like=like,
        subsampling=subsampling,
        forward=forward,
        surrogate=surrogate,
        sigma=sigma,
        table_surrogate=table_surrogate,
        clip_slope=clip_slope,
        color=color,
        value_range=value_range,
        rounding=rounding,
        decoder=decoder,
    )
    check_decoded(image.dtype, spec.decoder, "image")
    if alpha is not None and spec.decoder.scale != 1:
        raise ValueError(
            f'decoder: expected scale=1 with channels="alpha", which keeps the last channel as it is; '
            f"got {spec.decoder.scale}"
        )
    x, inner = _shown(inputs.poisoned(plain, quality, tables), spec)
    x = x.unsqueeze(-3) if channels == "planes" else x
    if spec.decoder.whole:
        out = _backend(backend, "jpeg", x, inner).jpeg(x, entries, inner)
    else:
        out = _by_halves(x, entries, inner, backend)
    out = out.squeeze(-3) if channels == "planes" else out
    if inner is not spec and image.dtype is not torch.uint8:
        out = inputs.from_grey(out, spec.value_range, image.dtype)
    if alpha is not None:
        out = torch.cat([out, alpha], -3)
    return inputs.dressed(out, image)


def _by_halves(image: Tensor, entries: Tensor, spec: Spec, backend: str) -> Tensor:
    """Each half by the fastest backend for it: most decoders leave only the second to the reference."""
    reader = backends.select(backend, "decode", image, spec)
    levels, _ = _backend(backend, "encode", image, spec).encode(image, entries, spec)
    size, noise = (image.shape[-2], image.shape[-1]), backends.block_noise(image, spec)
    return inputs.marked(
        reader.decode(levels, entries, size, image.dtype, spec, noise), image, spec.decoder.scale
    )


@at_home
def encode(
    image: Tensor,
    quality: float | Tensor | None = None,
    *,
    tables: Tensor | None = None,
    like: Coefficients | None = None,
    subsampling: Subsampling | str | None = None,
    forward: Forward | None = None,
    surrogate: SurrogateName | Surrogate = "gaussian",
    sigma: float | None = None,
    table_surrogate: SurrogateName | Surrogate | None = None,
    clip_slope: float | None = None,
    color: Color | tuple[Any, ...] | None = None,
    value_range: tuple[Any, Any] = (0.0, 1.0),
    rounding: Rounding = "nearest",
    channels: Literal["CMYK"] | None = None,
    backend: Backend = "auto",
) -> Coefficients:
    """Quantized levels of images, as libjpeg-turbo computes them, with gradients.

    Args:
        image, quality, tables, like, subsampling, forward, surrogate, sigma, table_surrogate, clip_slope, color: as
            in :func:`jpeg`.
        value_range, rounding, backend: as in :func:`jpeg`.
        channels: ``"CMYK"`` for an image of four inks, as in :func:`jpeg`; ``like`` of four components says so too.

    Returns:
        :class:`Coefficients`; ``decode`` of it is ``jpeg`` of the image. Levels are float64 for a float64 image, else
        float32. They have no NaN: a NaN pixel counts as ``low``, a NaN quality or table entry as 1; the gradient of a
        NaN pixel is NaN all the same.

    Raises:
        TypeError, ValueError: as in :func:`jpeg`.

    Example:
        >>> import jpegrad, torch
        >>> coefficients = jpegrad.encode(torch.rand(3, 16, 16), quality=50)
        >>> coefficients.levels[0].shape
        torch.Size([2, 2, 8, 8])
    """
    if channels is not None:
        check_choice("channels", channels, ("CMYK",))
    check_image(image, _counts(channels, like))
    image = inputs.bare(image)
    _, _, entries, spec = _prepare(
        image,
        quality,
        tables,
        like=like,
        subsampling=subsampling,
        forward=forward,
        surrogate=surrogate,
        sigma=sigma,
        table_surrogate=table_surrogate,
        clip_slope=clip_slope,
        color=color,
        value_range=value_range,
        rounding=rounding,
    )
    x, inner = _shown(image, spec)
    levels, unrounded = _backend(backend, "encode", x, inner).encode(x, entries, inner)
    coefficients = Coefficients(
        levels=levels,
        tables=entries.to(levels[0].dtype),
        size=(image.shape[-2], image.shape[-1]),
        subsampling=spec.subsampling if image.shape[-3] > 1 else "4:4:4",
        color=spec.color,
        dtype=image.dtype,
        value_range=spec.value_range,
        forward=spec.forward,
        clip_slope=spec.clip_slope,
    )
    object.__setattr__(coefficients, "unrounded", unrounded)
    object.__setattr__(coefficients, "noise", backends.block_noise(x, inner))
    return coefficients


def _counts(channels: str | None, like: object) -> tuple[int, ...]:
    """How many channels an image may have. Four are mostly RGBA: that they are inks must be said."""
    if channels == "CMYK":
        return (4,)
    return (1, 3, 4) if isinstance(like, Coefficients) and like.channels == 4 else (1, 3)


def _prepare(
    image: Tensor,
    quality: float | Tensor | None,
    tables: Tensor | None,
    *,
    planes: bool = False,
    like: Coefficients | None,
    subsampling: str | None,
    color: Color | tuple[Any, ...] | None,
    **options: Any,
) -> tuple[Any, Tensor | None, Tensor, Spec]:
    """Quality and tables as given, but tensors that fit the image; legal tables and the spec of a call."""
    count = 1 if planes else image.shape[-3]
    if like is not None:
        if not isinstance(like, Coefficients):
            raise TypeError(f"like: expected Coefficients, got {type(like).__name__}")
        given = {"quality": quality, "tables": tables, "subsampling": subsampling, "color": color}
        both = [name for name, value in given.items() if value is not None]
        if both:
            raise ValueError(f"like: expected without {', '.join(both)}, which it decides; got both")
        if like.channels != count:
            raise ValueError(f"like: expected {count} components as the image has, got {like.channels}")
        tables, subsampling, color = like.tables, like.subsampling, like.color
    elif count == 4:
        color = CMYK if color is None else color
        subsampling = "4:4:4" if subsampling is None else subsampling
    if subsampling is not None:
        subsampling = canonical(count, subsampling)
    spec = resolve(subsampling=subsampling, color=color, **options)
    if like is not None and has_wide_tables("like", like):
        spec = replace(spec, largest_entry=65535)
    if spec.color is not None and count == 1:
        raise ValueError("color: expected None for a gray image, which is not converted; got a conversion")
    check_channels(spec.value_range, image.shape[-3])
    quality = arguments.quality_for(quality, image.shape[:-3])
    tables = None if tables is None else arguments.tables_for(tables)
    # On a CUDA device each operation of a chain costs a launch.
    chained = isinstance(quality, Tensor) and image.device.type == "cuda"
    scaled = backends.kernel("annex_k", image) if chained else None
    if not planes:
        return quality, tables, resolve_tables(image, quality, tables, spec, scaled), spec
    # Each plane is an image, coded as all planes of its picture.
    each = quality[..., None] if isinstance(quality, Tensor) and quality.ndim else quality
    sets = tables[..., None, :, :, :] if tables is not None and tables.ndim > 3 else tables
    return quality, tables, resolve_tables(image.unsqueeze(-3), each, sets, spec, scaled), spec


def _shown(image: Tensor, spec: Spec) -> tuple[Tensor, Spec]:
    """The image and the spec that a backend sees: grey levels where the range or the rounding is not its own work."""
    inner = inputs.for_backends(spec)
    if inner is spec or image.dtype is torch.uint8:
        return image, inner
    inputs.watch_range(image, spec.value_range)
    return inputs.to_grey(image, spec.value_range, spec.rounding, spec.forward), inner


def _backend(name: str, operation: str, image: Tensor, spec: Spec) -> backends.Backend:
    """The backend of a call on an image; where no kernel counts the numbers outside the range, look at them here."""
    found = backends.select(name, operation, image, spec)
    if not found.watches_range:
        inputs.watch_range(image, spec.value_range)
    return found


@at_home
def decode(
    coefficients: Coefficients,
    *,
    space: Space = "native",
    dtype: torch.dtype | None = None,
    value_range: tuple[Any, Any] | None = None,
    forward: Forward | None = None,
    clip_slope: float | None = None,
    decoder: Decoder | None = None,
    backend: Backend = "auto",
) -> Tensor:
    """The image that every viewer shows for these levels, with gradients to levels and tables.

    Args:
        coefficients: from :func:`encode`, from a file, or your own.
        space: ``"native"``, the mode in which Pillow opens the file: gray, RGB or CMYK; ``"RGB"``, what Pillow's
            ``convert("RGB")`` makes of that; ``"YCbCr"``, the planes of three components before the conversion to RGB.
        dtype: floating point, or ``torch.uint8`` for 0…255; None is the encoded image's (float32 from a file).
        value_range: (low, high) of a floating-point result, as in :func:`jpeg`; None is the encoded image's ((0, 1)
            from a file).
        forward: ``"exact"`` or ``"soft"``; None is the encoder's.
        clip_slope: slope outside the clamps; None is the encoder's. Not with ``decoder.clip=False``.
        decoder: :class:`~jpegrad.decoder.Decoder`, another than every viewer's, as in :func:`jpeg`.
        backend: as in :func:`jpeg`.

    Returns:
        ``[..., C, H, W]``, with ``decoder.scale`` ``[..., C, ⌈H / scale⌉, ⌈W / scale⌉]``. CMYK are amounts of ink: 0 is
        none.

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
    chosen = c.forward if forward is None else forward
    check_choice("forward", chosen, FORWARDS)
    check_choice("space", space, SPACES)
    if space == "YCbCr" and c.space not in ("YCbCr", "private"):
        raise ValueError(f"space: expected native or RGB for components of {c.space}, got 'YCbCr'")
    reader = resolve_decoder(decoder, chosen)
    check_decoded(dtype, reader, "dtype")
    if clip_slope is not None and not reader.clip:
        raise ValueError(
            f"clip_slope: expected None with decoder.clip=False, which clips nothing; got {clip_slope}"
        )
    spec = Spec(
        subsampling=c.subsampling,
        forward=chosen,
        # The decoder rounds no coefficient; torch.compile cannot read these from the defaults.
        surrogate=identity,
        table_surrogate=identity,
        clip_slope=c.clip_slope if clip_slope is None else check_clip_slope(clip_slope),
        value_range=c.value_range if value_range is None else check_value_range(value_range),
        # Without a conversion the planes are the image.
        color=RGB if space == "YCbCr" else c.color,
        space=space,
        decoder=reader,
    )
    check_broadcast("tables", c.tables.shape[:-3], c.batch_shape)
    check_channels(spec.value_range, 3 if space == "RGB" else c.channels)
    inner = inputs.for_backends(spec)
    tables = c.tables.to(c.levels[0].device, torch.float64)
    tables = finite(tables, 1.0, 1.0, 65535.0)
    if chosen == "exact":
        tables = straight_through(tables.round().clamp(1, 65535), tables)
    run = backends.select(backend, "decode", c.levels[0], inner).decode
    ready = inner is spec or dtype is torch.uint8
    working = dtype if ready else torch.float64 if dtype is torch.float64 else torch.float32
    noise = c.noise if chosen == "soft" else None
    image = run(c.shown, tables, c.size, working, inner, noise)
    if space == "RGB" and c.channels == 1:
        image = torch.cat([image] * 3, -3)
    return image if ready else inputs.from_grey(image, spec.value_range, dtype)
