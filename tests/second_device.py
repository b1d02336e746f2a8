"""A device for tests, made of PyTorch's own means: the CPU under another name, which has no float64.

An operation on it is the CPU's on the numbers of its tensors. One that would make float64 raises, as on Apple's MPS. A
process has at most one such device, for good: what uses it runs in a process of its own.
"""

from typing import Any

import torch
import torch.utils._pytree as pytree
from torch import Tensor
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

NAME = "second"
WIDE = (torch.float64, torch.complex128)
_kept: list[torch.library.Library] = []


def install() -> None:
    """Make the device ``"second"``."""
    _setup_privateuseone_for_python_backend(NAME)
    every, aten = torch.library.Library("_", "IMPL"), torch.library.Library("aten", "IMPL")
    every.fallback(_run, "PrivateUse1")
    # These would copy the tensor and leave its numbers behind.
    for name in ("detach", "alias"):
        aten.impl(name, lambda x: _wrapped(x.numbers), "PrivateUse1")
    aten.impl("_copy_from", _copy, "PrivateUse1")
    aten.impl("as_strided", _as_strided, "PrivateUse1")
    _kept.extend((every, aten))


def _wrapped(numbers: Tensor) -> Tensor:
    if numbers.dtype in WIDE:
        raise TypeError(f"Cannot convert a tensor to {numbers.dtype}, which {NAME} does not support")
    made = torch._C._acc.create_empty_tensor(numbers.shape, numbers.dtype)
    made.numbers = numbers
    return made


def _run(operation: Any, *args: Any, **kwargs: Any) -> Any:
    # A number in the place of a tensor lost its wrapping on the way here.
    expected = operation._schema.arguments
    args = tuple(
        torch.tensor(value) if isinstance(value, (int, float)) and str(place.type) == "Tensor" else value
        for value, place in zip(args, expected, strict=False)
    )
    leaves, tree = pytree.tree_flatten((args, kwargs))
    given = {id(x.numbers): x for x in leaves if _is_here(x)}
    args, kwargs = pytree.tree_unflatten([_on_cpu(x) for x in leaves], tree)
    if operation is torch.ops.aten.view.default:
        # Tensors of this device say that they are contiguous.
        operation = torch.ops.aten.reshape.default
    found = operation(*args, **kwargs)
    for x in given.values():
        if x.shape != x.numbers.shape:
            x.data = _wrapped(x.numbers)
    return pytree.tree_map_only(Tensor, lambda x: given[id(x)] if id(x) in given else _wrapped(x), found)


def _is_here(x: object) -> bool:
    return isinstance(x, Tensor) and x.device.type == NAME


def _on_cpu(x: Any) -> Any:
    if _is_here(x):
        return x.numbers
    return torch.device("cpu") if isinstance(x, torch.device) else x


def _copy(source: Tensor, target: Tensor, non_blocking: bool = False) -> Tensor:
    _on_cpu(target).copy_(_on_cpu(source))
    return target


def _as_strided(x: Tensor, size: list[int], stride: list[int], offset: int | None = None) -> Tensor:
    # Tensors of this device say that they are contiguous and start their memory.
    numbers = x.numbers.contiguous()
    return _wrapped(numbers.as_strided(size, stride, numbers.storage_offset() + (offset or 0)))
