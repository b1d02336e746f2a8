"""Arguments as users have them: numbers, lists, NumPy's arrays and scalars; and advice for those that do not fit."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def numbers(argument: str, value: Any) -> Tensor:
    """A tensor of a list, tuple or array of real numbers; a tensor as it is.

    Raises:
        TypeError: it is something else; the message names ``argument``.
    """
    if isinstance(value, Tensor):
        return value
    listed = isinstance(value, (list, tuple)) or hasattr(value, "__array__")
    try:
        found = torch.as_tensor(value) if listed else None
    except (TypeError, ValueError, RuntimeError):
        found = None
    if found is None or (isinstance(value, (list, tuple)) and _has_bool(value)):
        raise TypeError(
            f"{argument}: expected a torch.Tensor, an array or a list of numbers, got {type(value).__name__}"
        )
    return found.double() if found.dtype is torch.int64 else found


def one_line(name: str, **fields: Any) -> str:
    """A record on one line: small tensors with their values, others with type and shape.

    Example:
        >>> one_line("Record", small=torch.eye(2), large=torch.zeros(40, 40), word="x")
        "Record(small=[[1.0, 0.0], [0.0, 1.0]], large=float32 [40, 40], word='x')"
    """

    def shown(value: Any) -> str:
        if not isinstance(value, Tensor):
            return repr(value)
        whole = value.numel() <= 9 and not value.is_meta
        return str(value.tolist()) if whole else f"{str(value.dtype)[6:]} {list(value.shape)}"

    return f"{name}({', '.join(f'{key}={shown(value)}' for key, value in fields.items())})"


def _has_bool(value: Any) -> bool:
    return isinstance(value, bool) or (isinstance(value, (list, tuple)) and any(map(_has_bool, value)))


def quality_for(value: Any, lead: Sequence[int]) -> Any:
    """A quality in a form that broadcasts to an image's leading dimensions; a number as it is.

    Besides that form: ``[1]`` for one picture, ``[..., 1, 1, 1]`` as it multiplies an image, and one quality for each
    picture of all leading dimensions in a row.
    """
    if isinstance(value, (int, float)):
        return value
    if not isinstance(value, Tensor) and (isinstance(value, (list, tuple)) or getattr(value, "ndim", None)):
        # These lie with the host: as a number, they are right or an error.
        value = numbers("quality", value)
        real = not value.is_complex() and value.dtype != torch.bool
        legal = (value >= 1) & (value <= 100) if real else torch.ones_like(value, dtype=torch.bool)
        if not legal.all():
            raise ValueError(f"quality: expected 1 to 100, got {value[~legal][0].item():g}")
    if not isinstance(value, Tensor) or value.ndim == 0:
        return value
    shape = tuple(value.shape)
    if len(shape) == len(lead) + 3 and shape[-3:] == (1, 1, 1):
        value = value[..., 0, 0, 0]
    elif shape == (1,) and not lead:
        value = value[0]
    elif len(shape) == 1 and len(lead) > 1 and shape[0] not in (1, lead[-1]) and shape[0] == math.prod(lead):
        value = value.reshape(tuple(lead))
    return value


def tables_for(value: Any) -> Any:
    """Tables as a tensor; ``[8, 8]`` is one table for all components."""
    value = numbers("tables", value)
    return value[None] if value.shape == (8, 8) else value


def bound(value: Any) -> tuple[float, ...]:
    """One bound of a value range: a number, or one number per channel, also as ``[C, 1, 1]``.

    Raises:
        TypeError, ValueError: it is something else.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return (float(value),)
    if hasattr(value, "tolist"):
        if len(value.shape) > 1 and tuple(value.shape[1:]) != (1, 1):
            raise ValueError("a bound is one number per channel")
        value = value.reshape(-1).tolist()
    if isinstance(value, (str, bytes, bool)):
        raise TypeError("a bound is a number")
    return tuple(float(x) for x in value) if isinstance(value, (list, tuple)) else (float(value),)


def conversion(image: object) -> str:
    """How to make a tensor of pictures as other libraries hold them."""
    if type(image).__module__.startswith("PIL"):
        return "; torch.from_numpy(numpy.array(image)).movedim(-1, 0) makes one of an RGB picture"
    shape = getattr(image, "shape", None)
    if not hasattr(image, "__array__") or not isinstance(shape, tuple):
        return ""
    moved = ".movedim(-1, -3)" if len(shape) >= 3 and shape[-1] in (1, 3) and shape[-3] not in (1, 3) else ""
    return f"; torch.from_numpy(image){moved} makes one of this array"


def advice(shape: Sequence[int]) -> str:
    """What may be meant by an image of this shape, which is neither gray nor RGB."""
    if len(shape) == 2:
        return "; a gray picture [H, W] is image[None]"
    if len(shape) < 3 or not min(shape[-3:]):
        return ""
    if shape[-1] in (1, 3):
        return "; channels come first: image.movedim(-1, -3)"
    return (
        '; jpeg(channels="alpha") codes all but the last channel (gray + alpha, RGBA), '
        'jpeg(channels="planes") each channel as a gray picture, channels="CMYK" four inks'
    )
