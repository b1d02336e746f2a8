"""What users bring: numbers in other ranges, NaN, other types and layouts; and what they are told about it."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from jpegrad.arguments import bound
from jpegrad.notice import call_site, warn_once
from jpegrad.spec import Range, Spec, check_value_range
from jpegrad.surrogates import straight_through

SHARE = 0.01
"""A warning is due when more than this part of the samples lies outside the range by a quarter of its width."""
FIRST_CALLS = 3
"""How many calls from one place are looked at on devices that must not be waited for."""

_LIKELY = ((0.0, 1.0), (-0.5, 0.5), (-1.0, 1.0), (0.0, 255.0), (-128.0, 127.0), (0.0, 65535.0))
_calls: dict[tuple[str, int], int] = {}


def bounds(value_range: Range, like: Tensor, dtype: torch.dtype = torch.float64) -> tuple[Any, Any]:
    """The bounds as numbers, or as ``[C, 1, 1]``."""
    low, high = value_range
    if not isinstance(low, tuple):
        return low, high
    low, high = (torch.tensor(x, dtype=dtype, device=like.device)[:, None, None] for x in value_range)
    return low, high


def normalized(mean: Sequence[float], std: Sequence[float]) -> Range:
    """The ``value_range`` of an image in 0…1 that was normalised: (image − mean) / std per channel.

    Args:
        mean, std: one number per channel.

    Returns:
        (low, high), a number per channel each.

    Raises:
        TypeError, ValueError: not as described, or a deviation that is not positive.

    Example:
        >>> normalized((0.5, 0.5), (0.25, 0.5))
        ((-2.0, -1.0), (2.0, 1.0))
    """
    means, stds = bound(mean), bound(std)
    if len(means) != len(stds):
        raise ValueError(f"mean, std: expected as many numbers, got {len(means)} and {len(stds)}")
    pairs = list(zip(means, stds, strict=True))
    return check_value_range((tuple(-m / s for m, s in pairs), tuple((1 - m) / s for m, s in pairs)))


GREY = (0.0, 255.0)


def for_backends(spec: Spec) -> Spec:
    """What backends hear of a call: a range per channel and truncation are work in front of them, on grey levels."""
    if isinstance(spec.value_range[0], tuple) or spec.rounding != "nearest":
        return replace(spec, value_range=GREY, rounding="nearest")
    return spec


def report_range(image: Tensor, far: int, value_range: Range) -> None:
    """Warn if too many samples lie far outside; ``far`` may count those twice that a kernel reads twice."""
    if far <= SHARE * image.numel() or (share := _far(image, value_range).double().mean().item()) <= SHARE:
        return
    numbers = image.detach().double()
    numbers = numbers[numbers.isfinite()]
    if not numbers.numel():
        return
    lowest, highest = numbers.min().item(), numbers.max().item()
    span = 8 * (highest - lowest)
    likely = [
        (a, b) for a, b in _LIKELY if a <= lowest and highest <= b and b - a < span and (a, b) != value_range
    ]
    hint = (
        f"for an image in {likely[0]} say value_range={likely[0]}"
        if likely
        else "say value_range=(low, high); jpegrad.inputs.normalized(mean, std) gives that of a normalised image"
    )
    warn_once(
        ("value_range", call_site()[0]),
        f"value_range: the image has numbers from {lowest:.4g} to {highest:.4g}, {share:.0%} of them "
        f"far outside the range {shown(value_range)}, to which they are clamped; {hint}",
    )


def shown(value_range: Range) -> str:
    """A range as messages name it."""
    low, high = value_range
    return f"({_brief(low)}, {_brief(high)})"


def _brief(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else f"({', '.join(f'{x:.4g}' for x in value)})"


def watch_range(image: Tensor, value_range: Range) -> None:
    """Look for numbers far outside where no kernel does: on the CPU always, elsewhere in the first calls of a place."""
    if image.dtype is torch.uint8 or not is_eager(image) or image.device.type == "meta":
        return
    if not _waits_for_nothing(image):
        if image.device.type == "cuda" and torch.cuda.is_current_stream_capturing():
            return
        place = call_site()[0]
        _calls[place] = _calls.get(place, 0) + 1
        if _calls[place] > FIRST_CALLS:
            return
    far: Any = 0 if _is_inside(image, value_range) else _far(image, value_range).sum().tolist()
    report_range(image, far, value_range)


def _is_inside(image: Tensor, value_range: Range) -> bool:
    """Whether surely no sample is far outside: one pass instead of four; a NaN, or a range per channel, may deny it."""
    low, high = value_range
    pairs = list(zip(low, high, strict=True)) if isinstance(low, tuple) else [(low, high)]
    if not image.numel():
        return True
    lowest, highest = torch.stack(image.detach().aminmax()).tolist()
    return all(a - (b - a) / 4 <= lowest and highest <= b + (b - a) / 4 for a, b in pairs)


def _far(image: Tensor, value_range: Range) -> Tensor:
    """Which samples lie outside by more than a quarter of the range."""
    low, high = bounds(value_range, image)
    x, margin = image.detach(), (high - low) / 4
    return (x < low - margin) | (x > high + margin)


def _waits_for_nothing(image: Tensor) -> bool:
    return image.device.type == "cpu"


def is_eager(tensor: Tensor) -> bool:
    """Whether a tensor has numbers that may be looked at: not while compiling, tracing or transforming."""
    return (
        not torch.compiler.is_compiling()
        and type(tensor).__torch_dispatch__ is Tensor.__torch_dispatch__
        and not torch._C._functorch.is_functorch_wrapped_tensor(tensor)
    )


def unwrapped(tensor: Tensor) -> Tensor:
    """The tensor that the transforms of torch.func have wrapped, with the numbers of all their calls."""
    while torch._C._functorch.is_functorch_wrapped_tensor(tensor):
        tensor = torch._C._functorch.get_unwrapped(tensor)
    return tensor


def poisoned(image: Tensor, quality: object, tables: object) -> Tensor:
    """The image, NaN where its quality or a table entry is NaN: then its result and its gradients are NaN too.

    Numbers on the CPU are looked at first, which waits for nothing; elsewhere the image is multiplied by 1 or NaN.
    """
    for value, inner in ((quality, 0), (tables, 3)):
        if not isinstance(value, Tensor) or not value.is_floating_point() or image.dtype is torch.uint8:
            continue
        # An infinite sum costs time only.
        if value.device.type == "cpu" and not torch.compiler.is_compiling():
            numbers = unwrapped(value)
            if is_eager(numbers) and numbers.detach().sum().isfinite().tolist():
                continue
        undefined = torch.where(value.isnan(), value, torch.zeros_like(value))
        if inner:
            undefined = undefined.sum((-3, -2, -1))
        image = image * (1 + undefined).to(image.device, image.dtype)[..., None, None, None]
    return image


def undefined(image: Tensor) -> Tensor:
    """Pixels with a NaN, ``[..., 1, H, W]``."""
    return image.detach().isnan().any(-3, keepdim=True)


def marked(out: Tensor, image: Tensor, scale: int = 1) -> Tensor:
    """A floating-point result, with NaN where one of the image's pixels that it stands for has one."""
    if not out.is_floating_point():
        return out
    wrong = undefined(image)
    if scale != 1:
        height, width = out.shape[-2:]
        lacking = (0, scale * width - image.shape[-1], 0, scale * height - image.shape[-2])
        wrong = nn.functional.pad(wrong, lacking).unflatten(-1, (width, scale)).unflatten(-3, (height, scale))
        wrong = wrong.any(-1).any(-2)
    # Added and not chosen: the gradient of all pixels goes on.
    return out + torch.zeros_like(out).masked_fill(wrong, torch.nan)


def to_grey(image: Tensor, value_range: Range, rounding: str, forward: str) -> Tensor:
    """Grey levels 0…255 of a floating-point image, in float32 or float64, for a codec of ``value_range=(0, 255)``.

    The exact forward gets integers, and numbers outside 0…255 exactly where the image lies outside its range.
    """
    dtype = torch.float64 if image.dtype is torch.float64 else torch.float32
    working = dtype if rounding == "truncate" else torch.float64
    low, high = bounds(value_range, image, working)
    if _is_constant(image):
        real = image.to(working, copy=True).sub_(low).mul_(255 / (high - low))
        if forward != "soft":
            real = (real.floor_() if rounding == "truncate" else real.round_()).clamp_(-1, 256)
        return real.to(dtype)
    real = (image.to(working) - low) * (255 / (high - low))
    if forward == "soft":
        return real.to(dtype)
    levels = real.detach().floor() if rounding == "truncate" else real.detach().round()
    levels = torch.where(real < 0, -1.0, torch.where(real > 255, 256.0, levels))
    # Of an infinite number or NaN only the value goes on.
    return straight_through(levels, torch.nan_to_num(real, nan=0.0, posinf=0.0, neginf=0.0)).to(dtype)


def from_grey(grey: Tensor, value_range: Range, dtype: torch.dtype) -> Tensor:
    """Numbers of the value range from grey levels 0…255, rounded once."""
    if value_range == (0.0, 1.0):
        # Right without float64: of 256 levels each is rounded once, and again to half precision without harm.
        return (grey / 255).to(dtype)
    low, high = bounds(value_range, grey)
    if _is_constant(grey):
        return grey.to(torch.float64, copy=True).div_(255).mul_(high - low).add_(low).to(dtype)
    return (low + grey.double() / 255 * (high - low)).to(dtype)


def _is_constant(tensor: Tensor) -> bool:
    """Whether nothing is differentiated by a tensor, so that its copy may be computed in place."""
    return (
        is_eager(tensor)
        and not (torch.is_grad_enabled() and tensor.requires_grad)
        and torch.autograd.forward_ad._current_level < 0
    )


def bare(image: Tensor) -> Tensor:
    """An image of a tensor subclass without wishes of its own for the dispatcher, such as a TVTensor, as a tensor."""
    return image.as_subclass(Tensor) if _has_type(image) else image


def _has_type(image: Tensor) -> bool:
    kind = type(image)
    if kind is Tensor or kind is nn.Parameter:
        return False
    return (
        kind.__torch_dispatch__ is Tensor.__torch_dispatch__
        and kind.__torch_function__ is not torch._C._disabled_torch_function_impl
    )


def dressed(out: Tensor, image: Tensor) -> Tensor:
    """A result in the memory format and the type of the image."""
    if out.ndim == 4 and not image.is_contiguous() and _is_channels_last(image):
        out = out.contiguous(memory_format=torch.channels_last)
    return out.as_subclass(type(image)) if _has_type(image) else out


def _is_channels_last(image: Tensor) -> bool:
    # vmap knows no other format than the contiguous one.
    if not torch.compiler.is_compiling() and torch._C._functorch.is_functorch_wrapped_tensor(image):
        return False
    return image.is_contiguous(memory_format=torch.channels_last)
