"""What the tests of the Triton kernels share: pictures, tables, and the comparisons with the reference.

Without a GPU the kernels run in Triton's interpreter, about two seconds a call, so the cases are few and chosen.
"""

import importlib.util
import os

import pytest
import torch
from torch import Tensor

import jpegrad
from jpegrad import surrogates
from jpegrad.backends import reference, triton
from jpegrad.spec import Spec
from jpegrad.surrogates import Surrogate

# With a device every test of the kernels is one of its own; without one, REQUIRE_GPU=1 lets none pass in its place.
ON_DEVICE = torch.cuda.is_available() or os.environ.get("REQUIRE_GPU") == "1"
MARKS = [
    pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed"),
    *([pytest.mark.gpu] if ON_DEVICE else []),
]

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
MODES = ("4:4:4", "4:2:2", "4:2:0", "4:4:0", "4:1:1", "gray")
# As in the native kernel's tests: a residual is known to 2^-25 steps, the steepest slope here has 4/s at s = 0.005.
TOLERANCE = 5e-5


@pytest.fixture(autouse=True)
def interpreted(monkeypatch: pytest.MonkeyPatch) -> None:
    # Triton reads it when the kernels are imported, and the operators at every launch.
    if DEVICE.type == "cpu":
        monkeypatch.setenv("TRITON_INTERPRET", "1")


def channels(mode: str) -> int:
    return 1 if mode == "gray" else 3


def spec(mode: str, **settings: object) -> Spec:
    return Spec(subsampling="4:4:4" if mode == "gray" else mode, **settings)  # type: ignore[arg-type]


def tables(quality: float | Tensor, count: int = 2) -> Tensor:
    found = jpegrad.tables.annex_k(quality, dtype=torch.float64)
    more = (found[..., 1:, :, :] + 3).clamp(max=255)
    return torch.cat([found, more], -3)[..., :count, :, :].to(DEVICE)


def picture(*shape: int) -> Tensor:
    """Smooth shapes and noise, a part of them beyond 0…1."""
    *lead, height, width = shape
    coarse = torch.rand(1, torch.Size(lead).numel(), height // 8 + 2, width // 8 + 2)
    smooth = torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear").reshape(shape)
    return ((smooth + 0.3 * torch.rand(shape)) * 1.1 - 0.2).to(DEVICE)


def as_bytes(image: Tensor) -> Tensor:
    return (255 * image.clamp(0, 1)).to(torch.uint8)


def same(image: Tensor, entries: Tensor, chosen: Spec) -> None:
    found, expected = (backend.jpeg(image, entries, chosen) for backend in (triton, reference))
    assert found.dtype is expected.dtype and found.shape == expected.shape
    differing = int(((found != expected) & ~(found.isnan() & expected.isnan())).sum())
    assert differing == 0, f"{differing} of {found.numel()} samples differ at {list(image.shape)}"


def run(backend: object, x: Tensor, t: Tensor, chosen: Spec, split: bool) -> Tensor:
    if not split:
        return backend.jpeg(x, t, chosen)  # type: ignore[attr-defined]
    levels, _ = backend.encode(x, t, chosen)  # type: ignore[attr-defined]
    return backend.decode(levels, t, tuple(x.shape[-2:]), x.dtype, chosen)  # type: ignore[attr-defined]


def compare_gradients(
    image: Tensor, entries: Tensor, chosen: Spec, split: bool = False, to_tables: bool = True
) -> None:
    """The decoded image, and the gradients to image and tables of a random linear loss."""
    weight = torch.randn(image.shape, generator=torch.Generator().manual_seed(1)).to(image.device)
    results = []
    for backend in (triton, reference):
        x, t = image.clone().requires_grad_(), entries.clone().requires_grad_(to_tables)
        out = run(backend, x, t, chosen, split)
        results.append((out.detach(), *torch.autograd.grad((out * weight).sum(), (x, t)[: 1 + to_tables])))
    (out, *found), (expected_out, *expected) = results
    torch.testing.assert_close(out, expected_out, rtol=0, atol=0, equal_nan=True)
    for a, b in zip(found, expected, strict=True):
        close(a, b)


def close(found: Tensor, expected: Tensor) -> None:
    assert found.shape == expected.shape and found.dtype == expected.dtype
    assert torch.equal(found.isnan(), expected.isnan())
    found, expected = found.double().nan_to_num(0), expected.double().nan_to_num(0)
    error = (found - expected).norm() / expected.norm().clamp(min=1e-6)
    assert error < TOLERANCE, f"relative error {error:.2e}"


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
