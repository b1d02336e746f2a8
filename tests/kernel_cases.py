"""What the tests of the kernels share: the kernels, pictures, tables, cases, and the comparisons with the reference.

A law holds for every kernel; :func:`law` runs it over all of them. Without a GPU the Triton kernels run in Triton's
interpreter, about two seconds a call, so a law gives them a few chosen cases there. On a GPU they run all of them.
"""

import importlib.util
import itertools
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import pytest
import torch
from torch import Tensor

import jpegrad
from jpegrad import surrogates
from jpegrad.backends import native, plain, reference, triton
from jpegrad.backends.fused.settings import CLOSED
from jpegrad.sampling import SUBSAMPLING
from jpegrad.spec import Color, Spec
from jpegrad.surrogates import Surrogate

T = TypeVar("T")
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
# With a device every test of the Triton kernels is one of its own; without one, REQUIRE_GPU=1 lets none pass in its
# place.
ON_DEVICE = torch.cuda.is_available() or os.environ.get("REQUIRE_GPU") == "1"


@dataclass(frozen=True)
class Kernel:
    """A backend made of kernels, and where its tests run."""

    backend: Any
    name: str
    device: torch.device
    marks: list[pytest.MarkDecorator] = field(repr=False)
    interpreted: bool = False

    def take(self, every: Iterable[T], few: Iterable[T]) -> list[T]:
        """All cases, or the chosen few where a call takes seconds."""
        return list(few if self.interpreted else every)

    def picture(self, *shape: int) -> Tensor:
        return picture(*shape).to(self.device)

    def tables(self, quality: float | Tensor, count: int = 2) -> Tensor:
        return tables(quality, count).to(self.device)

    def unsupported(self, image: Tensor, chosen: Spec, operation: str = "jpeg") -> list[str]:
        """Its reasons, without the one that the interpreter has no device."""
        found = self.backend.unsupported(operation, image, chosen)
        return [reason for reason in found if not (self.interpreted and "CUDA" in reason)]


NATIVE = Kernel(
    native,
    "native",
    torch.device("cpu"),
    [
        pytest.mark.skipif(
            bool(native.missing()) and os.environ.get("REQUIRE_NATIVE") != "1", reason=native.missing()
        )
    ],
)
TRITON = Kernel(
    triton,
    "triton",
    DEVICE,
    [
        pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed"),
        *([pytest.mark.gpu] if ON_DEVICE else []),
    ],
    interpreted=DEVICE.type == "cpu",
)
# Its few fast tests are in test_plain.py.
PLAIN = Kernel(plain, "plain", torch.device("cpu"), [pytest.mark.slow])
KERNELS = (NATIVE, PLAIN, TRITON)


def law(
    names: str = "", every: Iterable[Any] = ((),), few: Iterable[Any] | None = None, fast: bool = True
) -> pytest.MarkDecorator:
    """A test for every ``kernel``, over all cases; where kernels are interpreted, over few.

    Args:
        names: of the test's further arguments.
        every: their values; a tuple where there are several names.
        few: those for kernels that are interpreted; ``every`` unless given. One of them is fast enough for the fast
            tier, and stands for the rest: of 4:2:0 if there is one.
        fast: whether it is.
    """
    arguments = names.split()
    cases = list(every)
    few = cases if few is None else list(few)
    parameters = []
    for kernel in KERNELS:
        taken = [case if len(arguments) != 1 else (case,) for case in kernel.take(cases, few)]
        called = ["-".join([kernel.name, *map(_called, values)]) for values in taken]
        chosen = next((i for i, name in enumerate(called) if "4:2:0" in name), 0)
        for i, (values, name) in enumerate(zip(taken, called, strict=True)):
            slow = kernel.interpreted and not (fast and i == chosen)
            marks = [*kernel.marks, *([pytest.mark.slow] if slow else [])]
            parameters.append(pytest.param(kernel, *values, marks=marks, id=name))
    return pytest.mark.parametrize(["kernel", *arguments], parameters)


def _called(value: object) -> str:
    return "x".join(map(_called, value)) if isinstance(value, tuple) else str(value)


MODES = (*SUBSAMPLING, "gray")
# A residual is known to 2^-25 steps in float32. The steepest slope here, of a staircase smoothed by s = 0.005 steps,
# turns that into 2^-25 · 4/s = 2e-5 of its value; sums of a hundred terms add 1e-5.
TOLERANCE = 5e-5


# float32 knows a coefficient to about 6e-5 grey levels. A Gaussian of σ = 0.5 grey levels is up to 20 times as steep as
# the identity, and its slope, four deviations from a threshold, changes by 4 · 6e-5 / 0.5 of itself.
SOFT_VALUES, SOFT_GRADIENTS = 2e-3, 5e-4


def channels(mode: str) -> int:
    return 1 if mode == "gray" else 3


def spec(mode: str, **settings: object) -> Spec:
    return Spec(subsampling="4:4:4" if mode == "gray" else mode, **settings)  # type: ignore[arg-type]


def soft(mode: str, **settings: object) -> Spec:
    return spec(mode, forward="soft", **settings)


def tables(quality: float | Tensor, count: int = 2) -> Tensor:
    found = jpegrad.tables.annex_k(quality, dtype=torch.float64)
    more = (found[..., 1:, :, :] + 3).clamp(max=255)
    return torch.cat([found, more], -3)[..., :count, :, :]


def picture(*shape: int) -> Tensor:
    """Smooth shapes and noise, a part of them beyond 0…1."""
    *lead, height, width = shape
    coarse = torch.rand(1, torch.Size(lead).numel(), height // 8 + 2, width // 8 + 2)
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear").reshape(shape)
    return (smooth + 0.3 * torch.rand(shape)) * 1.1 - 0.2


def as_bytes(image: Tensor) -> Tensor:
    return (255 * image.clamp(0, 1)).to(torch.uint8)


def sizes() -> Iterator[tuple[int, int]]:
    """Every width and every height up to 40, in pairs that mix small with large."""
    for width in range(1, 41):
        yield (7 * width + 3) % 40 + 1, width
    yield from itertools.product((1, 2, 17), (1, 2, 3, 4, 5))
    yield from ((17, 130), (33, 263), (130, 9))


# From a picture [2, 3, 21, 35] to one of other strides.
LAYOUTS = {
    "channels last": lambda x: x.to(memory_format=torch.channels_last),
    "one image, expanded": lambda x: x[:1].expand(4, -1, -1, -1),
    "one channel, expanded": lambda x: x[:, :1].expand(-1, 3, -1, -1),
    "one column, expanded": lambda x: x[..., :1].expand(-1, -1, -1, 30),
    "one column of all, expanded": lambda x: x[:1, :1, :, :1].expand(2, 3, -1, 20),
    "transposed": lambda x: x.transpose(-1, -2),
    "every second column": lambda x: x[..., ::2],
    "inner window": lambda x: x[:, :, 3:-2, 5:-1],
    "inner window, every second column": lambda x: x[:, :, 3:-2, 5:-1:2],
    "rows apart": lambda x: torch.cat([x, x], 2)[:, :, ::2],
    "channels first": lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
}

FULL_INVERSE = ((1.1, 0.2, 1.402), (0.9, -0.34414, -0.71414), (1.0, 1.772, 0.3))
BEYOND_24_BITS = ((2.5, -1.25, 0.7), (0.3, 3.1, -2.0), (1.0, 1.0, 1.0))
COLORS = {
    "no conversion": jpegrad.spec.RGB,
    "swapped, viewed as JFIF": Color(jpegrad.spec.JFIF.matrix[::-1], (128.0, 128.0, 0.0)),
    "beyond 24 bits": Color(BEYOND_24_BITS, (10.5, 0.25, -300.0)),
    "full inverse": Color(jpegrad.spec.JFIF.matrix, (1.0, 128.0, 127.5), FULL_INVERSE),
    "beyond 24 bits, full inverse": Color(BEYOND_24_BITS, (10.5, 0.25, -300.0), FULL_INVERSE),
}

OWN = Surrogate(
    "own", lambda u, step, component: u, lambda u, step, component: 0.5 + torch.cos(u) / step, "a test"
)
RECORDS = {
    **surrogates.ALL,
    **{f"gaussian {sigma}": surrogates.gaussian(sigma) for sigma in (0.3, 3.5, 5.0, 20.0)},
    "soft": surrogates.soft_round(2.0),
    "hard": surrogates.soft_round(800.0),
    "narrow tables": surrogates.table_gaussian(0.05),
    "own": OWN,
}
SOFT_RECORDS = {
    **{record.name: record for record in CLOSED},
    "narrow": surrogates.gaussian(0.5),
    "wide": surrogates.gaussian(20.0),
    "widest": surrogates.gaussian(400.0),
    "gentle": surrogates.soft_round(2.0),
}


def run(backend: Any, image: Tensor, entries: Tensor, chosen: Spec, split: bool = False) -> Tensor:
    """The decoded image, by one call or by way of the levels."""
    if not split:
        return backend.jpeg(image, entries, chosen)
    levels, _ = backend.encode(image, entries, chosen)
    return backend.decode(levels, entries, tuple(image.shape[-2:]), image.dtype, chosen)


def results(
    backend: Any, image: Tensor, entries: Tensor, chosen: Spec, split: bool = False, to_tables: bool = True
) -> list[Tensor]:
    """The decoded image, and the gradients to image and tables of a random linear loss."""
    image, entries = image.clone().requires_grad_(), entries.clone().requires_grad_(to_tables)
    weight = torch.randn(image.shape, generator=torch.Generator().manual_seed(1)).to(image.device)
    out = run(backend, image, entries, chosen, split)
    return [out.detach(), *torch.autograd.grad((out * weight).sum(), (image, entries)[: 1 + to_tables])]


def same(found: Tensor, expected: Tensor) -> None:
    """Equal in every number, NaN for NaN."""
    assert found.dtype is expected.dtype and found.shape == expected.shape
    differing = int(((found != expected) & ~(found.isnan() & expected.isnan())).sum())
    assert differing == 0, f"{differing} of {found.numel()} differ at {list(found.shape)}"


def close(found: Tensor, expected: Tensor, tolerance: float = TOLERANCE, least: float = 1e-6) -> None:
    """Equal but for a relative error, of a norm that is at least ``least``; NaN for NaN."""
    assert found.shape == expected.shape and found.dtype == expected.dtype
    assert torch.equal(found.isnan(), expected.isnan())
    found, expected = found.double().nan_to_num(0), expected.double().nan_to_num(0)
    error = (found - expected).norm() / expected.norm().clamp(min=least)
    assert error < tolerance, f"relative error {error:.2e}"


def compare(kernel: Kernel, image: Tensor, entries: Tensor, chosen: Spec) -> None:
    """Its decoded image, to the last sample."""
    same(kernel.backend.jpeg(image, entries, chosen), reference.jpeg(image, entries, chosen))


def compare_gradients(
    kernel: Kernel,
    image: Tensor,
    entries: Tensor,
    chosen: Spec,
    split: bool = False,
    to_tables: bool = True,
) -> list[Tensor]:
    """Its decoded image to the last sample, and its gradients; what it found."""
    found, expected = (
        results(backend, image, entries, chosen, split, to_tables) for backend in (kernel.backend, reference)
    )
    same(found[0], expected[0])
    for a, b in zip(found[1:], expected[1:], strict=True):
        close(a, b)
    return found


def soft_results(backend: Any, image: Tensor, entries: Tensor, chosen: Spec) -> list[Tensor]:
    """Decoded grey levels, and the gradients to image and tables of a random linear loss, in float64."""
    out, *gradients = results(backend, image, entries, chosen)
    low, high = chosen.value_range
    return [(out.double() - low) * 255 / (high - low), *(g.double() for g in gradients)]


def compare_soft(kernel: Kernel, image: Tensor, entries: Tensor, chosen: Spec) -> None:
    """Its soft forward and the gradients of that, with the reference in float64."""
    found = soft_results(kernel.backend, image, entries, chosen)
    expected = soft_results(reference, image.double(), entries, chosen)
    assert torch.equal(found[0].isnan(), expected[0].isnan())
    assert (found[0] - expected[0]).nan_to_num(0).abs().max() < SOFT_VALUES
    for a, b in zip(found[1:], expected[1:], strict=True):
        close(a, b, SOFT_GRADIENTS, least=1e-3)
