"""The Triton kernels with colour conversions that tensors give, against the reference: values, and gradients to all."""

from typing import Any

import pytest
import torch
from torch import Tensor

import jpegrad
from jpegrad import surrogates
from jpegrad.backends import reference
from jpegrad.spec import JFIF, Color, resolve
from kernel_cases import DEVICE, SOFT_GRADIENTS, SOFT_VALUES, TOLERANCE, TRITON, as_bytes, close, same, spec

pytestmark = TRITON.marks
SLOW = [pytest.mark.slow] if TRITON.interpreted else []


def numbers(whole: bool = True) -> tuple[Tensor, ...]:
    """A matrix and offset near JFIF's, no fixed-point numbers; with the ``whole`` conversion the matrix back."""
    matrix = torch.tensor(JFIF.matrix) + 0.05 * torch.randn(3, 3)
    found = (matrix, torch.tensor([0.37, 127.1, 128.77]), torch.linalg.inv(matrix))
    return tuple(x.to(DEVICE) for x in found[: 2 + whole])


def weighted(tensors: Any) -> Tensor:
    """A random linear loss."""
    generator = torch.Generator().manual_seed(1)
    return sum((x * torch.randn(x.shape, generator=generator).to(x)).sum() for x in tensors)


def grey(image: Tensor, chosen: Any) -> Tensor:
    low, high = chosen.value_range
    return (image.double() - low) * 255 / (high - low)


def by_one(backend: Any, image: Tensor, entries: Tensor, color: Color, options: Any) -> list[Tensor]:
    """Decoded grey levels, and the gradients to the image, the tables and the numbers."""
    leaves = [x.clone().requires_grad_() for x in (image, entries, *color) if x is not None]
    chosen = spec(color=Color(*leaves[2:]), **options)
    out = backend.jpeg(leaves[0], leaves[1], chosen)
    return [grey(out.detach(), chosen), *torch.autograd.grad(weighted([out]), leaves)]


def by_halves(backend: Any, image: Tensor, entries: Tensor, color: Color, options: Any) -> list[Tensor]:
    """The same, through levels and coefficients in steps that the loss sees too."""
    leaves = [x.clone().requires_grad_() for x in (image, entries, *color) if x is not None]
    chosen = spec(color=Color(*leaves[2:]), **options)
    noise = jpegrad.backends.block_noise(leaves[0], chosen)
    levels, ratios = backend.encode(leaves[0], leaves[1], chosen)
    out = backend.decode(levels, leaves[1], tuple(image.shape[-2:]), image.dtype, chosen, noise)
    return [
        grey(out.detach(), chosen),
        *torch.autograd.grad(weighted([*levels, *ratios, out]), leaves),
    ]


CASES: dict[str, tuple[Any, bool, dict[str, Any]]] = {
    "exact": (by_one, True, {"mode": "4:2:0"}),
    "soft": (by_one, True, {"mode": "4:4:4", "forward": "soft"}),
    "exact, viewed as JFIF": (by_one, False, {"mode": "4:2:0", "clip_slope": 0.2, "value_range": (-1.0, 1.0)}),
    "exact, 4:2:2, slope 1": (by_one, True, {"mode": "4:2:2", "surrogate": surrogates.identity}),
    "exact, 4:1:1": (by_one, True, {"mode": "4:1:1"}),
    "exact, replicated": (by_one, True, {"mode": "4:2:0", "decoder": jpegrad.Decoder(upsampling="replicate")}),
    "soft, 4:2:0": (by_one, False, {"mode": "4:2:0", "forward": "soft", "clip_slope": 0.2}),
    "soft, sharp": (by_one, True, {"mode": "4:4:0", "forward": "soft", "surrogate": surrogates.cubic}),
    "soft, wide": (by_one, True, {"mode": "4:2:0", "forward": "soft", "surrogate": surrogates.gaussian(30.0)}),
    "halves": (by_halves, True, {"mode": "4:2:0"}),
    "soft halves": (by_halves, True, {"mode": "4:2:0", "forward": "soft"}),
}  # fmt: skip


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=SLOW if i > 1 else []) for i, name in enumerate(CASES)]
)
def test_gradients_to_colours(name: str) -> None:
    run, whole, options = CASES[name]
    image = TRITON.picture(2, 3, 17, 27)
    low, high = options.get("value_range", (0.0, 1.0))
    image, entries = low + image * (high - low), TRITON.tables(torch.tensor([40.0, 80.0]))
    color, soft = Color(*numbers(whole)), options.get("forward") == "soft"
    found = run(TRITON.backend, image, entries, color, options)
    expected = run(reference, image.double() if soft else image, entries, color, options)
    if soft:
        assert (found[0] - expected[0]).abs().max() < SOFT_VALUES
    else:
        # Rounding to the type of the image is all that may differ.
        assert (found[0] - expected[0]).abs().max() < 1e-4
    assert len(found) == 5 + whole
    for a, b in zip(found[1:], expected[1:], strict=True):
        close(a.double(), b.double(), SOFT_GRADIENTS if soft else TOLERANCE, least=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("matrix", [500.0, 3e4])
def test_any_numbers_are_exact(matrix: float) -> None:
    """Also those whose sums no 32-bit integer holds."""
    image, entries = TRITON.picture(1, 3, 17, 20), TRITON.tables(50.0)
    forth, offset, back = numbers()
    chosen = spec("4:2:0", color=Color(forth * matrix, offset * -matrix / 3, back * matrix))
    same(TRITON.backend.jpeg(image, entries, chosen), reference.jpeg(image, entries, chosen))


@pytest.mark.parametrize("dtype", [torch.uint8, pytest.param(torch.float16, marks=SLOW)])
def test_other_types(dtype: torch.dtype) -> None:
    image, entries = TRITON.picture(1, 3, 9, 20), TRITON.tables(50.0)
    image = as_bytes(image) if dtype is torch.uint8 else image.to(dtype)
    color = Color(*(x.requires_grad_() for x in numbers()))
    chosen = spec("4:2:0", color=color)
    same(TRITON.backend.jpeg(image, entries, chosen), reference.jpeg(image, entries, chosen))
    found, expected = (
        torch.autograd.grad(weighted(backend.encode(image, entries, chosen)[0]), color[:2])
        for backend in (TRITON.backend, reference)
    )
    for a, b in zip(found, expected, strict=True):
        close(a, b)


@pytest.mark.slow
def test_values_that_are_no_numbers() -> None:
    image, entries = TRITON.picture(2, 3, 8, 8), TRITON.tables(50.0)
    image[0, 1, 3, 4] = torch.nan
    forth, offset, back = numbers()
    chosen = spec("4:4:4", color=Color(forth, offset, back))
    same(TRITON.backend.jpeg(image, entries, chosen), reference.jpeg(image, entries, chosen))
    forth[1, 2] = torch.nan
    for forward in ("exact", "soft"):
        chosen = spec("4:4:4", color=Color(forth, offset, back), forward=forward)
        assert TRITON.backend.jpeg(image, entries, chosen).isnan().all()


def loss(image: Tensor, entries: Tensor, *color: Tensor, backend: Any, forward: str) -> Tensor:
    chosen = resolve(subsampling="4:4:4", color=Color(*color), forward=forward)
    out = backend.jpeg(image, entries, chosen)
    return (out * torch.linspace(-1, 1, out.shape[-1]).to(out)).square().sum()


@pytest.mark.slow
@pytest.mark.parametrize("forward", ["exact", "soft"])
def test_colours_per_image(forward: str) -> None:
    """By ``vmap``, in one call of the kernels for all images."""
    images, entries = TRITON.picture(2, 1, 3, 9, 12), TRITON.tables(torch.tensor([30.0, 80.0]))
    each = [torch.stack(pair) for pair in zip(numbers(), numbers(), strict=True)]

    def gradients(*leaves: Tensor) -> tuple[Tensor, ...]:
        def summed(*given: Tensor) -> Tensor:
            return loss(*given, backend=TRITON.backend, forward=forward)

        return torch.func.grad(summed, tuple(range(5)))(*leaves)

    mapped = torch.func.vmap(gradients)(images, entries, *each)
    for i in range(2):
        for a, b in zip(mapped, gradients(images[i], entries[i], *(x[i] for x in each)), strict=True):
            close(a[i], b)


@pytest.mark.slow
@pytest.mark.whole_graph
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("forward", ["exact", "soft"])
def test_compiles_to_one_graph(forward: str) -> None:
    leaves = [x.requires_grad_() for x in (TRITON.picture(1, 3, 8, 8), TRITON.tables(50.0), *numbers())]

    def call(*leaves: Tensor) -> Tensor:
        return loss(*leaves, backend=TRITON.backend, forward=forward)

    compiled = torch.compile(call, fullgraph=True, backend="aot_eager")
    for a, b in zip(
        torch.autograd.grad(compiled(*leaves), leaves),
        torch.autograd.grad(call(*leaves), leaves),
        strict=True,
    ):
        close(a, b)


@pytest.mark.slow
@pytest.mark.parametrize("forward", ["exact", "soft"])
def test_second_derivatives(forward: str) -> None:
    image, entries, color = TRITON.picture(1, 3, 8, 8), TRITON.tables(50.0), numbers()
    found = []
    for backend in (TRITON.backend, reference):
        wide = forward == "soft" and backend is reference
        leaves = [x.double() if wide else x.clone() for x in (image, entries, *color)]
        leaves = [x.requires_grad_() for x in leaves]
        first = torch.autograd.grad(
            loss(*leaves, backend=backend, forward=forward), leaves, create_graph=True
        )
        found.append(torch.autograd.grad(weighted(first), leaves))
    for a, b in zip(*found, strict=True):
        close(a.double(), b.double(), 2e-3, least=1e-3)
