"""Which code runs a call: the contract, the order, the choice.

A backend is a folder or file of this package whose module is a :class:`Backend`, and a word in :data:`ORDER`. For the
exact forward it equals :mod:`jpegrad.backends.reference` with 0 differing samples. An explicit choice never falls back;
only ``"auto"`` chooses.
"""

import os
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

import torch
from torch import Tensor

from jpegrad.backends import reference
from jpegrad.compiling import constant, exports_onnx
from jpegrad.home import home
from jpegrad.inputs import for_backends
from jpegrad.notice import warn_once
from jpegrad.sampling import canonical
from jpegrad.spec import Options, Spec, check_choice, check_image, check_names, resolve

if TYPE_CHECKING:
    from typing_extensions import Unpack

ORDER = ("triton", "native", "plain", "reference")
"""From fastest to slowest; ``"auto"`` takes the first that supports the call."""


class Backend(Protocol):
    """One way to compute the codec; all of it is differentiable in every tensor.

    Images are on the CPU, on a CUDA device or on ``meta``: see :mod:`jpegrad.home`. ``tables`` are legal entries in
    float64 on the image's device, ``[..., n, 8, 8]`` with leading dimensions that broadcast to the image's.
    """

    @property
    def watches_range(self) -> bool:
        """Whether it tells the user itself that an image lies far outside its range."""

    @property
    def device_type(self) -> str | None:
        """The only type of device on which it runs; None if there are several."""

    def missing(self) -> str:
        """What is not installed or built, so that it runs nowhere; empty if all is there."""

    def unsupported(self, operation: str, image: Tensor, spec: Spec) -> list[str]:
        """Reasons why it cannot run ``"jpeg"``, ``"encode"`` or ``"decode"``; none if it can.

        ``image`` stands for its dtype, device, shape and layout; to decode, the first component's levels.
        """

    def jpeg(self, image: Tensor, tables: Tensor, spec: Spec) -> Tensor:
        """The decoded image."""

    def encode(
        self, image: Tensor, tables: Tensor, spec: Spec
    ) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...] | None]:
        """Levels, and coefficients in steps before rounding (None if gradients are off), per component."""

    def decode(
        self,
        levels: tuple[Tensor, ...],
        tables: Tensor,
        size: tuple[int, int],
        dtype: torch.dtype,
        spec: Spec,
        noise: tuple[Tensor, ...] | None = None,
    ) -> Tensor:
        """An image of ``dtype``; ``noise`` as :func:`block_noise` gives it, which only the soft forward has."""

    def level_kernels(self, tensor: Tensor) -> Mapping[str, Callable[..., Any]]:
        """Functions for levels, or for pictures, like this tensor, by name; the caller can do without any."""


BACKENDS: dict[str, Backend] = {name: cast(Backend, import_module(f"{__name__}.{name}")) for name in ORDER}


def check(name: str) -> str:
    """Raise unless ``name`` is ``"auto"`` or a backend."""
    if name not in ("auto", *BACKENDS):
        raise ValueError(f"backend: expected one of auto, {', '.join(BACKENDS)}; got {name!r}")
    return name


def reasons(name: str, operation: str, image: Tensor, spec: Spec) -> list[str]:
    """Why the backend cannot run the call; empty if it can."""
    return list(BACKENDS[name].unsupported(operation, image, spec))


def select(backend: str, operation: str, image: Tensor, spec: Spec) -> Backend:
    """The backend that runs a call.

    Raises:
        ValueError: ``backend`` is unknown, or was named explicitly and cannot run the call.
    """
    if torch.compiler.is_compiling() and exports_onnx():
        # Of symbols the exporter makes wrong samples; of sizes that have to be numbers it makes an error.
        for side in image.shape[-2:]:
            constant(side)
    name = _chosen(backend)
    if name != "auto":
        found = reasons(name, operation, image, spec)
        if found:
            raise ValueError(f"backend: {name!r} cannot run this call: {'; '.join(found)}")
        return BACKENDS[name]
    lost = ""
    for each in BACKENDS:
        if BACKENDS[each].device_type not in (None, image.device.type):
            continue
        found = reasons(each, operation, image, spec)
        if not found:
            if lost:
                _say_missing(lost)
            return BACKENDS[each]
        if len(found) == 1 and found[0] == BACKENDS[each].missing():
            lost = found[0]
    raise AssertionError("the reference backend supports every call")


def _say_missing(missing: str) -> None:
    """Once, where a kernel would have run were it there."""
    warn_once(
        "slow",
        f"jpegrad runs without its compiled kernel, on the CPU about 20 times slower, files more: {missing}. "
        "Reinstall it where that can be had, or say backend='plain' (JPEGRAD_BACKEND=plain) to choose this",
    )


def block_noise(image: Tensor, spec: Spec) -> tuple[Tensor, ...] | None:
    """Variance of the noise in the coefficients of each block, where the soft forward is the mean over noise."""
    return reference.block_noise(image, spec)


def kernel(name: str, tensor: Tensor) -> Callable[..., Any] | None:
    """A backend's function of that name for tensors like this; None leaves the work to the caller's own code.

    It is chosen as a call's backend is, but as the caller can do without it, no choice raises.
    """
    chosen = _chosen("auto")
    for each in BACKENDS if chosen == "auto" else (chosen,):
        if found := BACKENDS[each].level_kernels(tensor).get(name):
            return found
    if chosen == "auto" and tensor.device.type == "cpu" and (missing := BACKENDS["native"].missing()):
        _say_missing(missing)
    return None


def _chosen(backend: str) -> str:
    """What the caller named, or else the environment."""
    check(backend)
    return check(os.environ.get("JPEGRAD_BACKEND", "auto")) if backend == "auto" else backend


def explain(
    image: Tensor, operation: Literal["jpeg", "encode"] = "jpeg", **options: "Unpack[Options]"
) -> dict[str, list[str]]:
    """Why each backend could or could not run a call, in the order in which ``"auto"`` tries them.

    Args:
        image: the image of the call, ``[..., C, H, W]``.
        operation: ``"jpeg"`` or ``"encode"``.
        options: further arguments of :func:`jpegrad.jpeg`, but for quality and tables; ``backend`` limits the answer
            to one.

    Returns:
        Per backend its reasons not to run; the first that has none is what ``"auto"`` takes. An image of another device
        than CUDA's is coded on the CPU.

    Raises:
        TypeError, ValueError: an argument is not as described.

    Example:
        >>> import jpegrad, torch
        >>> jpegrad.backends.explain(torch.rand(3, 16, 16, dtype=torch.float64))["reference"]
        []
    """
    check_image(image, (4,) if options.get("channels") == "CMYK" else (1, 3))
    check_choice("operation", operation, ("jpeg", "encode"))
    check_names("explain", options)
    asked: dict[str, Any] = {**options}
    backend = check(asked.pop("backend", "auto"))
    asked.pop("channels", None)
    if image.shape[-3] == 4 and asked.get("subsampling") is None:
        asked["subsampling"] = "4:4:4"
    if asked.get("subsampling") is not None:
        asked["subsampling"] = canonical(image.shape[-3], asked["subsampling"])
    spec = for_backends(resolve(**asked))
    place = home(image.device)
    image = image if place == image.device else torch.empty_like(image, device=place)
    names = BACKENDS if backend == "auto" else (backend,)
    return {name: reasons(name, operation, image, spec) for name in names}
