"""Which code runs a call: the contract, the order, the choice.

A backend is a module with

- ``unsupported(operation, image, spec) -> list[str]``: reasons why it cannot run ``"jpeg"``, ``"encode"`` or
  ``"decode"`` (``image`` stands for its dtype, device, shape and layout; to decode, the first component's levels);
- ``jpeg(image, tables, spec) -> image``;
- ``encode(image, tables, spec) -> (levels, unrounded or None)``;
- ``decode(levels, tables, size, dtype, spec) -> image``;

all differentiable in every tensor. ``tables`` are legal entries in float64 on the image's device,
``[..., n, 8, 8]`` with leading dimensions that broadcast to the image's. For the exact forward a backend equals
:mod:`jpegrad.backends.reference` with 0 differing samples. An explicit choice never falls back; only ``"auto"``
chooses.
"""

import os
from collections.abc import Callable
from importlib.util import find_spec
from types import ModuleType
from typing import Any

from torch import Tensor

from jpegrad.backends import native, native_abi, native_levels, reference, triton, triton_levels
from jpegrad.spec import Spec, check_choice, check_image, check_options, resolve

MODULES: dict[str, ModuleType] = {"triton": triton, "native": native, "reference": reference}
ORDER = tuple(MODULES)
"""From fastest to slowest; ``"auto"`` takes the first that supports the call."""


def check(name: str) -> str:
    """Raise unless ``name`` is ``"auto"`` or a backend."""
    if name not in ("auto", *ORDER):
        raise ValueError(f"backend: expected one of auto, {', '.join(ORDER)}; got {name!r}")
    return name


def reasons(name: str, operation: str, image: Tensor, spec: Spec) -> list[str]:
    """Why the backend cannot run the call; empty if it can."""
    return list(MODULES[name].unsupported(operation, image, spec))


def select(backend: str, operation: str, image: Tensor, spec: Spec) -> ModuleType:
    """The module that runs a call.

    Raises:
        ValueError: ``backend`` is unknown, or was named explicitly and cannot run the call.
    """
    check(backend)
    if backend == "auto":
        backend = check(os.environ.get("JPEGRAD_BACKEND", "auto"))
    if backend != "auto":
        found = reasons(backend, operation, image, spec)
        if found:
            raise ValueError(f"backend: {backend!r} cannot run this call: {'; '.join(found)}")
        return MODULES[backend]
    for name in ORDER:
        if not reasons(name, operation, image, spec):
            return MODULES[name]
    raise AssertionError("the reference backend supports every call")


def kernel(name: str, tensor: Tensor) -> Callable[..., Any] | None:
    """A fast backend's function of that name for tensors like this one; None leaves the work to the caller's own code.

    Such functions stand beside the codec: they count and choose levels. They take part in the choice by
    ``JPEGRAD_BACKEND``, but as the caller can do without them, no choice makes them raise.
    """
    chosen = check(os.environ.get("JPEGRAD_BACKEND", "auto"))
    device = tensor.device.type
    if device == "cuda" and chosen in ("auto", "triton") and find_spec("triton"):
        return triton_levels.KERNELS.get(name)
    if device == "cpu" and chosen in ("auto", "native") and not isinstance(native_abi.load(), str):
        return native_levels.KERNELS.get(name)
    return None


def explain(image: Tensor, operation: str = "jpeg", **options: Any) -> dict[str, list[str]]:
    """Why each backend could or could not run a call, in the order in which ``"auto"`` tries them.

    Args:
        image: the image of the call, ``[..., C, H, W]``.
        operation: ``"jpeg"`` or ``"encode"``.
        options: further arguments of :func:`jpegrad.jpeg`, but for quality and tables; ``backend`` limits the answer
            to one.

    Returns:
        Per backend its reasons not to run; the first that has none is what ``"auto"`` takes.

    Raises:
        TypeError, ValueError: an argument is not as described.

    Example:
        >>> import jpegrad, torch
        >>> jpegrad.backends.explain(torch.rand(3, 16, 16, dtype=torch.float64))["reference"]
        []
    """
    check_image(image)
    check_choice("operation", operation, ("jpeg", "encode"))
    check_options("explain", options)
    asked = {name: value for name, value in options.items() if name != "backend"}
    spec, backend = resolve(**asked), options.get("backend", "auto")
    names = ORDER if backend == "auto" else (backend,)
    return {name: reasons(name, operation, image, spec) for name in names}
