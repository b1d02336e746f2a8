"""Where the codec computes: on the CPU and on CUDA devices. Tensors of another device are coded on the CPU.

Other devices, such as Apple's MPS, have no kernels here, and many have no float64. The CPU's kernel is faster than any
row of single operations there, by far more than the two copies cost.
"""

import copy
import dataclasses
import functools
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

HOMES = ("cpu", "cuda", "meta")
"""Types of devices on which the codec computes."""

P = ParamSpec("P")
R = TypeVar("R")


def home(device: torch.device) -> torch.device:
    """Where tensors of a device are coded: there, or on the CPU."""
    return device if device.type in HOMES else torch.device("cpu")


def constants(numbers: Any, dtype: torch.dtype, device: torch.device | None = None) -> Tensor:
    """Numbers, in tuples, as a tensor that nobody writes to.

    A copy from the host waits for a CUDA device, and no graph can capture it: there they are kept once they have come.
    """
    if device is None or not _far(device) or torch.compiler.is_compiling() or is_in_torch_dispatch_mode():
        return torch.tensor(numbers, dtype=dtype, device=device)
    if torch._C._are_functorch_transforms_active():
        return torch.tensor(numbers, dtype=dtype, device=device)
    return _kept(numbers, dtype, device)


def _far(device: torch.device) -> bool:
    return device.type == "cuda"


@functools.lru_cache(1024)
def _kept(numbers: Any, dtype: torch.dtype, device: torch.device) -> Tensor:
    # Tensors of the inference mode would be of no use to a later call with gradients.
    with torch.inference_mode(False):
        return torch.tensor(numbers, dtype=dtype, device=device)


def at_home(function: Callable[P, R]) -> Callable[P, R]:
    """A function that computes at home: what comes from elsewhere is copied there, and the result is copied back.

    It comes back to the device of the first argument, in float32 where it is float64, which such devices may not have.
    Gradients take the same way.
    """

    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        for argument in (*args, *kwargs.values()):
            found = _device(argument)
            if found is not None and found.type not in HOMES:
                break
        else:
            return function(*args, **kwargs)
        devices = (_device(argument) for argument in (*args, *kwargs.values()))
        device = next(each for each in devices if each is not None)
        args, kwargs = moved((args, kwargs), _brought)
        result = function(*args, **kwargs)
        return result if device.type in HOMES else moved(result, functools.partial(_returned, device=device))

    return wrapper


def _device(argument: object) -> torch.device | None:
    # To ask whether something is a tensor takes longer.
    if argument is None or isinstance(argument, (str, int, float)):
        return None
    if isinstance(argument, Tensor):
        return argument.device
    levels = getattr(argument, "levels", None)
    return levels[0].device if isinstance(levels, tuple) and levels else None


def _brought(x: Tensor) -> Tensor:
    return x.to(home(x.device))


def _returned(x: Tensor, device: torch.device) -> Tensor:
    # Its type first: what the device does not have must not come to it.
    return x.to(torch.float32 if x.dtype is torch.float64 else x.dtype).to(device)


def moved(x: Any, move: Callable[[Tensor], Tensor]) -> Any:
    """The same with every tensor of it moved: of tuples, lists, dictionaries and dataclasses."""
    if isinstance(x, Tensor):
        return move(x)
    if isinstance(x, dict):
        return {key: moved(value, move) for key, value in x.items()}
    if isinstance(x, (tuple, list)):
        each = [moved(value, move) for value in x]
        if all(a is b for a, b in zip(each, x, strict=True)):
            return x
        return type(x)(*each) if hasattr(x, "_fields") else type(x)(each)
    if dataclasses.is_dataclass(x) and not isinstance(x, type):
        before = {field.name: getattr(x, field.name) for field in dataclasses.fields(x)}
        after = moved(before, move)
        if all(after[name] is value for name, value in before.items()):
            return x
        x = copy.copy(x)
        for name, value in after.items():
            object.__setattr__(x, name, value)
    return x
