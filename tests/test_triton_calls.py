"""Which calls the Triton kernels serve: all that a CUDA device is asked for, and none of it by the reference.

Tensors of the CPU stand for the device's, and launches are noted and not run: what kernels compute is tested elsewhere.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

import jpegrad
from jpegrad import backends, surrogates
from jpegrad.backends import reference, triton
from jpegrad.backends.triton import calls, colored, halves, kernels, levels
from kernel_cases import DEVICE, SOFT_RECORDS, TRITON, picture

pytestmark = TRITON.marks
Launch = tuple[str, tuple[Any, ...], dict[str, Any]]


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch) -> list[Launch]:
    """What is launched, while tensors of the CPU are taken for those of a device and the reference is gone."""
    found: list[Launch] = []

    def noted(kernel: str, programs: Any, like: Tensor, *args: Any, **options: Any) -> None:
        found.append((kernel, args, options))

    def gone(*args: Any, **options: Any) -> None:
        raise AssertionError("the reference was called")

    monkeypatch.delenv("JPEGRAD_BACKEND", raising=False)
    monkeypatch.setattr(triton, "device_type", "cpu")
    monkeypatch.setattr(kernels, "reasons", lambda *args: [])
    for module in (calls, colored, halves, kernels, levels):
        monkeypatch.setattr(module, "launch", noted)
    monkeypatch.setattr(levels, "level_kernels", lambda tensor: levels.LEVELS)
    monkeypatch.setattr(triton, "level_kernels", lambda tensor: levels.LEVELS)
    for name in ("jpeg", "encode", "decode"):
        monkeypatch.setattr(reference, name, gone)
    return found


def one(image: Tensor, *leaves: Tensor, **options: Any) -> None:
    """A call and its gradients."""
    out = jpegrad.jpeg(image, **options)
    torch.autograd.grad(out.float().sum(), [x for x in (image, *leaves) if x.requires_grad])


def split(image: Tensor, *leaves: Tensor, **options: Any) -> None:
    """The same by way of the levels."""
    coefficients = jpegrad.encode(image, **options)
    out = jpegrad.decode(coefficients)
    out = out.float().sum() + sum(level.sum() for level in coefficients.levels)
    torch.autograd.grad(out, [x for x in (image, *leaves) if x.requires_grad])


def colour() -> Tensor:
    return torch.tensor(jpegrad.spec.JFIF.matrix, requires_grad=True)


def quality() -> Tensor:
    return torch.tensor([30.0, 75.5], requires_grad=True)


def entries() -> Tensor:
    return jpegrad.tables.annex_k(quality()).detach().requires_grad_()


def options(**given: Any) -> dict[str, Any]:
    """Arguments of a call: a quality unless something else is given in its place."""
    return given if "tables" in given else {"quality": 75, **given}


CALLS: dict[str, dict[str, Any]] = {
    **{
        f"exact, {name}": options(surrogate=record, forward="exact")
        for name, record in surrogates.ALL.items()
    },
    **{f"tables see {name}": options(table_surrogate=record) for name, record in surrogates.ALL.items()},
    **{f"soft, {name}": options(surrogate=record, forward="soft") for name, record in SOFT_RECORDS.items()},
}
LEARNED: dict[str, tuple[str, Callable[[], Tensor]]] = {
    "tables": ("tables", entries),
    "quality per image": ("quality", quality),
    "quality": ("quality", lambda: torch.tensor(60.0, requires_grad=True)),
    "matrix": ("color", colour),
}


def served(launches: list[Launch], kernel: str) -> bool:
    return any(name.startswith(kernel) for name, _, _ in launches)


@pytest.mark.parametrize("run", [one, split])
@pytest.mark.parametrize("name", CALLS)
def test_every_record(name: str, run: Callable[..., None], launches: list[Launch]) -> None:
    run(picture(2, 3, 17, 20).requires_grad_(), **CALLS[name])
    assert served(launches, "soft." if CALLS[name].get("forward") == "soft" else "forward.")
    assert served(launches, "backward.")


@pytest.mark.parametrize("run", [one, split])
@pytest.mark.parametrize("forward", ["exact", "soft"])
@pytest.mark.parametrize("name", LEARNED)
def test_what_is_learned(name: str, forward: str, run: Callable[..., None], launches: list[Launch]) -> None:
    argument, made = LEARNED[name]
    leaf = made()
    given = options(**{argument: (leaf,) if argument == "color" else leaf})
    run(picture(2, 3, 17, 20), leaf, forward=forward, **given)
    assert served(launches, "soft." if forward == "soft" else "forward.")
    assert served(launches, "conversion." if name == "matrix" else "backward.")


@pytest.mark.parametrize("forward", ["exact", "soft"])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.bfloat16])
def test_every_type(dtype: torch.dtype, forward: str, launches: list[Launch]) -> None:
    image = picture(2, 3, 17, 20)
    image = (255 * image.clamp(0, 1)).to(dtype) if dtype is torch.uint8 else image.to(dtype).requires_grad_()
    jpegrad.jpeg(image, 50, forward=forward)
    coefficients = jpegrad.encode(image, 50, forward=forward)
    assert jpegrad.decode(coefficients).dtype is dtype
    assert len(launches) == 5


def test_transforms(launches: list[Launch]) -> None:
    images = picture(2, 1, 3, 16, 16)

    def loss(image: Tensor, q: Tensor) -> Tensor:
        return jpegrad.jpeg(image, q).square().sum()

    torch.func.vmap(torch.func.grad(loss, (0, 1)))(images, quality().detach())
    assert served(launches, "forward.") and served(launches, "backward.")
    # One call for all of them.
    assert len(launches) == 3


@pytest.mark.slow
@pytest.mark.whole_graph
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_a_compiled_function(launches: list[Launch]) -> None:
    image = picture(1, 3, 16, 16).requires_grad_()
    for forward in ("exact", "soft"):

        def loss(image: Tensor, forward: str = forward) -> Tensor:
            return jpegrad.jpeg(image, 75, forward=forward).square().sum()

        launches.clear()
        torch.compile(loss, fullgraph=True, backend="aot_eager")(image).backward()
        assert served(launches, "soft." if forward == "soft" else "forward.") and served(
            launches, "backward."
        )


@pytest.mark.parametrize("forward", ["exact", "soft"])
def test_a_schedule_of_the_width_compiles_nothing_anew(forward: str, launches: list[Launch]) -> None:
    """The numbers that change are a launch's own: of its constants, and of integers, a kernel is compiled anew."""
    image, compiled = picture(1, 3, 16, 16).requires_grad_(), set()
    for sigma in (0.5, 1.7, 8.0):
        launches.clear()
        one(image, quality=60, sigma=sigma, forward=forward)
        compiled.add(str([(kernel, _fixed(args), constants) for kernel, args, constants in launches]))
    assert len(compiled) == 1


def _fixed(argument: Any) -> Any:
    """What a kernel is compiled for."""
    if isinstance(argument, tuple):
        return tuple(map(_fixed, argument))
    return type(argument).__name__ if isinstance(argument, (float, Tensor)) else argument


def test_sizes_are_counted_on_the_device(launches: list[Launch]) -> None:
    coefficients = jpegrad.encode(picture(2, 3, 16, 16), 75)
    launches.clear()
    assert backends.kernel("scan_counts", coefficients.levels[0]) is levels.scan_counts
    levels.scan_counts(list(coefficients.levels), 16, 16, [2, 2])
    assert [name for name, _, _ in launches] == ["scan.count_kernel"] * 3


def test_tables_of_a_tensor_of_qualities() -> None:
    """In one kernel, to the last number, for every quality that matters and for what is none."""
    steps = torch.arange(-100, 10_300, 61, dtype=torch.float64) / 100
    others = torch.tensor([50.0, 49.999999, 75.0, 1.0, 3.0, 98.0, 99.99, torch.nan, torch.inf, -torch.inf])
    whole = torch.arange(1, 101)
    given = torch.cat([steps, others, whole]).to(DEVICE)
    found, expected = [], []
    for function, results in ((levels.scaled, found), (exact_tables, expected)):
        leaf = given.clone().requires_grad_()
        out = function(leaf)
        weight = torch.linspace(-1, 2, out.numel(), dtype=torch.float64, device=DEVICE).reshape(out.shape)
        results += [out.detach(), *torch.autograd.grad((out * weight).sum(), leaf)]
    assert torch.equal(found[0], expected[0])
    torch.testing.assert_close(found[1], expected[1], rtol=1e-12, atol=1e-12)


def exact_tables(quality: Tensor) -> Tensor:
    return jpegrad.tables.scale(
        torch.tensor(jpegrad.tables.ANNEX_K, dtype=torch.float64).to(quality.device), quality
    )


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (0,)])
def test_tables_of_any_shape_and_type(shape: tuple[int, ...]) -> None:
    given = (60 + 10 * torch.rand(shape)).half().to(DEVICE).requires_grad_()
    out = levels.scaled(given)
    assert out.shape == (*shape, 2, 8, 8) and torch.equal(out, exact_tables(given).detach())
    (gradient,) = torch.autograd.grad(out.sum(), given)
    assert gradient.dtype is torch.float16 and gradient.shape == shape
    mapped = torch.func.vmap(levels.scaled)(given) if shape else out
    assert torch.equal(mapped.detach(), out.detach())
