"""The transforms of torch.func, forward mode and second derivatives, by kernels and by what is chosen of itself."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.func import grad, jacfwd, jacrev, jvp, vjp, vmap

import jpegrad
from jpegrad import backends
from jpegrad.backends import reference
from kernel_cases import OWN, TOLERANCE, Kernel, close, law, same, spec

# A path of operators each: one, and two with the surrogate between them.
PATHS: dict[str, dict[str, Any]] = {
    "exact": {},
    "levels": {"surrogate": OWN},
    "soft": {"forward": "soft"},
}
# In float32 the soft forward knows a coefficient, and with it a slope, to 1e-6 of their size.
SOFT = 2e-4
paths = law("path", PATHS, [])
# Interpreted kernels, which take seconds a call, run what has every operator in it.
native_only = law("", few=[])


def tolerance(path: str) -> float:
    return SOFT if path == "soft" else TOLERANCE


def coder(backend: Any, path: str) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda image, tables: backend.jpeg(image, tables, spec("4:2:0", **PATHS[path]))


def loss(backend: Any, path: str) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda image, tables: coder(backend, path)(image, tables).pow(3).sum()


def several(kernel: Kernel) -> tuple[Tensor, Tensor]:
    """Pictures, and tables for each."""
    if kernel.interpreted:
        return kernel.picture(2, 1, 8, 8), kernel.tables(torch.tensor([10.0, 90.0]), 1)
    return kernel.picture(3, 3, 9, 20), kernel.tables(torch.tensor([10.0, 50.0, 90.0]))


def inside(kernel: Kernel) -> tuple[Tensor, Tensor]:
    """A picture whose values are not clamped, and tables."""
    return kernel.picture(1, 3, 9, 20).clamp(0, 1) * 0.5 + 0.25, kernel.tables(50)


@law("path", PATHS, ["exact"])
def test_vmap_is_the_batch(kernel: Kernel, path: str) -> None:
    images, tables = several(kernel)
    code = coder(kernel.backend, path)
    same(vmap(code)(images, tables), code(images, tables))
    same(vmap(code, (None, 0))(images[0], tables), code(images[:1].expand_as(images), tables))


@native_only
def test_vmap_of_batches(kernel: Kernel) -> None:
    images, tables = kernel.picture(2, 3, 3, 9, 20), kernel.tables(torch.tensor([10.0, 50.0, 90.0]))
    code = coder(kernel.backend, "exact")
    expected = torch.stack([code(image, tables) for image in images])
    same(vmap(lambda x: code(x, tables))(images), expected)
    same(vmap(code, (1, 0), 1)(images, tables), expected)
    same(vmap(vmap(code), (0, None))(images, tables), expected)


@native_only
def test_vmap_of_bytes_and_of_half_precision(kernel: Kernel) -> None:
    images, tables = several(kernel)
    for dtype in (torch.uint8, torch.float16):
        x = (images * 255).clamp(0, 255).to(dtype) if dtype is torch.uint8 else images.to(dtype)
        same(vmap(coder(kernel.backend, "exact"))(x, tables), coder(kernel.backend, "exact")(x, tables))


@native_only
def test_vmap_of_levels(kernel: Kernel) -> None:
    images, tables = several(kernel)

    def levels(image: Tensor, tables: Tensor) -> tuple[Tensor, ...]:
        found, unrounded = kernel.backend.encode(image, tables, spec("4:2:0"))
        return *found, *unrounded

    def decoded(tables: Tensor, *levels: Tensor) -> Tensor:
        return kernel.backend.decode(levels, tables, (9, 20), torch.float32, spec("4:2:0"))

    found, expected = vmap(levels)(images, tables), levels(images, tables)
    for a, b in zip(found, expected, strict=True):
        same(a, b)
    same(vmap(decoded)(tables, *found[:3]), decoded(tables, *expected[:3]))


@law("path", PATHS, ["exact", "levels"])
def test_gradients_per_picture(kernel: Kernel, path: str) -> None:
    images, tables = several(kernel)
    found = vmap(grad(loss(kernel.backend, path), (0, 1)))(images, tables)
    for i, (image, table) in enumerate(zip(images, tables, strict=True)):
        leaves = image.clone().requires_grad_(), table.clone().requires_grad_()
        expected = torch.autograd.grad(loss(kernel.backend, path)(*leaves), leaves)
        for a, b in zip(found, expected, strict=True):
            close(a[i], b, 1e-6)


@paths
def test_gradients_per_picture_of_shared_tables(kernel: Kernel, path: str) -> None:
    images, tables = several(kernel)[0], kernel.tables(50)
    found, expected = (
        vmap(grad(loss(backend, path), (0, 1)), (0, None))(images, tables)
        for backend in (kernel.backend, reference)
    )
    assert found[1].shape == (3, 2, 8, 8)
    for a, b in zip(found, expected, strict=True):
        close(a, b, tolerance(path))


@native_only
def test_gradients_of_mapped_calls(kernel: Kernel) -> None:
    images, tables = several(kernel)
    code = vmap(loss(kernel.backend, "exact"))
    expected = grad(lambda x, t: loss(kernel.backend, "exact")(x, t), (0, 1))(images, tables)
    leaves = images.clone().requires_grad_(), tables.clone().requires_grad_()
    for found in (
        torch.autograd.grad(code(*leaves).sum(), leaves),
        grad(lambda x, t: code(x, t).sum(), (0, 1))(images, tables),
    ):
        for a, b in zip(found, expected, strict=True):
            close(a, b, 1e-6)


@native_only
def test_a_jacobian_row_by_row(kernel: Kernel) -> None:
    image, tables = inside(kernel)

    def means(backend: Any) -> Callable[[Tensor], Tensor]:
        return lambda t: backend.jpeg(image, t, spec("4:2:0")).mean((-1, -2))[0]

    found = jacrev(means(kernel.backend))(tables)
    rows = vjp(means(kernel.backend), tables)[1]
    for i, row in enumerate(torch.eye(3, device=kernel.device)):
        close(found[i], rows(row)[0], 1e-6)
    close(found, jacrev(means(reference))(tables))


@native_only
def test_gradients_through_levels_per_picture(kernel: Kernel) -> None:
    images, tables = several(kernel)

    def through(backend: Any) -> Callable[[Tensor, Tensor], Tensor]:
        def found(image: Tensor, tables: Tensor) -> Tensor:
            levels, unrounded = backend.encode(image, tables, spec("4:2:0"))
            out = backend.decode(levels, tables, (9, 20), torch.float32, spec("4:2:0"))
            # The coefficients of one component alone, so that the others have no gradient.
            return out.square().sum() + unrounded[0].cos().sum()

        return found

    found, expected = (
        vmap(grad(through(each), (0, 1)))(images, tables) for each in (kernel.backend, reference)
    )
    for a, b in zip(found, expected, strict=True):
        close(a, b)


def second_derivatives(backend: Any, path: str, image: Tensor, tables: Tensor) -> tuple[Tensor, ...]:
    leaves = image.clone().requires_grad_(), tables.clone().requires_grad_()
    first = torch.autograd.grad(loss(backend, path)(*leaves), leaves, create_graph=True)
    return torch.autograd.grad(sum(each.square().sum() for each in first), leaves)


@paths
def test_second_derivatives_are_the_references(kernel: Kernel, path: str) -> None:
    case = inside(kernel)
    found, expected = (second_derivatives(each, path, *case) for each in (kernel.backend, reference))
    for a, b in zip(found, expected, strict=True):
        close(a, b, 5 * tolerance(path))


@native_only
def test_second_derivatives_of_coded_bytes(kernel: Kernel) -> None:
    image, tables = inside(kernel)
    as_bytes = (255 * image).round().to(torch.uint8)

    def second(backend: Any) -> Tensor:
        entries = tables.clone().requires_grad_()
        levels, unrounded = backend.encode(as_bytes, entries, spec("4:2:0"))
        total = sum(x.square().sum() for x in levels) + unrounded[0].cos().sum()
        (first,) = torch.autograd.grad(total, entries, create_graph=True)
        return torch.autograd.grad(first.square().sum(), entries)[0]

    close(second(kernel.backend), second(reference), 5 * tolerance("exact"))


@law("path", ["exact", "soft"], [])
def test_second_derivatives_within_transforms(kernel: Kernel, path: str) -> None:
    image, tables = inside(kernel)

    def penalty(backend: Any) -> Callable[[Tensor], Tensor]:
        return lambda x: grad(loss(backend, path))(x, tables).square().sum()

    images = torch.cat([image, image.flip(-1)])
    found, expected = (vmap(grad(penalty(each)))(images) for each in (kernel.backend, reference))
    close(found, expected, 5 * tolerance(path))


@native_only
def test_third_derivatives(kernel: Kernel) -> None:
    image, tables = inside(kernel)

    def third(backend: Any) -> Tensor:
        x = image.clone().requires_grad_()
        found = loss(backend, "soft")(x, tables)
        for _ in range(2):
            (first,) = torch.autograd.grad(found, x, create_graph=True)
            found = first.square().mean()
        return torch.autograd.grad(found, x)[0]

    close(third(kernel.backend), third(reference), 20 * SOFT)


@native_only
def test_second_derivatives_of_levels(kernel: Kernel) -> None:
    image, tables = inside(kernel)

    def second(backend: Any) -> tuple[Tensor, ...]:
        leaves = image.clone().requires_grad_(), tables.clone().requires_grad_()
        levels, unrounded = backend.encode(*leaves, spec("4:2:0"))
        total = levels[0].pow(3).sum() + sum(each.cos().sum() for each in unrounded[1:])
        first = torch.autograd.grad(total, leaves, create_graph=True)
        return torch.autograd.grad(sum(each.square().sum() for each in first), leaves)

    for a, b in zip(second(kernel.backend), second(reference), strict=True):
        close(a, b, 2e-4)


@native_only
def test_an_image_changed_before_the_backward_pass_is_refused(kernel: Kernel) -> None:
    image = kernel.picture(1, 3, 9, 20).requires_grad_()
    changed = image * 1
    out = kernel.backend.jpeg(changed, kernel.tables(50), spec("4:2:0"))
    changed.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.sum().backward()


def exact(backend: str) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda x, q: jpegrad.jpeg(x, q, backend=backend).square().sum()


# PyTorch itself compiles its formulas for forward mode in a way that it deprecates.
deprecated = pytest.mark.filterwarnings("ignore:`torch.jit.*:DeprecationWarning")


@deprecated
def test_forward_mode_takes_the_reference_by_itself() -> None:
    image, quality = torch.rand(3, 16, 24) * 0.8 + 0.1, torch.tensor(60.0)
    tangents = torch.randn(3, 16, 24), torch.tensor(1.5)

    def coded(backend: str) -> Callable[[Tensor, Tensor], Tensor]:
        return lambda x, q: jpegrad.jpeg(x, q, backend=backend)

    out, push = jvp(coded("auto"), (image, quality), tangents)
    assert torch.equal(out, jpegrad.jpeg(image, quality))
    cotangent = torch.randn_like(out)
    back = vjp(coded("auto"), image, quality)[1](cotangent)
    expected = sum((a * b).sum() for a, b in zip(tangents, back, strict=True))
    torch.testing.assert_close((push * cotangent).sum(), expected, rtol=1e-3, atol=1e-3)
    # One argument alone, the other a plain tensor.
    close(jacfwd(coded("auto"), 1)(image, quality), jacrev(coded("auto"), 1)(image, quality))
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(quality, tangents[1])
        found = torch.autograd.forward_ad.unpack_dual(jpegrad.jpeg(image, dual)).tangent
    close(found, tangents[1] * jacrev(coded("auto"), 1)(image, quality))


@deprecated
def test_hessian_products() -> None:
    image, quality = torch.rand(1, 8, 8) * 0.6 + 0.2, torch.tensor(60.0)
    direction = torch.randn_like(image)
    results = []
    for backend in ("auto", "reference"):

        def total(x: Tensor, backend: str = backend) -> Tensor:
            return jpegrad.jpeg(x, quality, backend=backend).pow(3).sum()

        # Two backward passes, two that are transformed, and forward over backward.
        found = [torch.autograd.functional.hvp(total, image, direction)[1]]
        found.append(vjp(grad(total), image)[1](direction)[0])
        found.append(jvp(grad(total), (image,), (direction,))[1])
        results.append(found)
    for each in (*results[0], *results[1][1:]):
        close(each, results[1][0])


def test_what_is_chosen_within_transforms_is_what_is_chosen_without() -> None:
    image, quality = torch.rand(2, 3, 16, 16), torch.tensor([20.0, 80.0])
    name = next(name for name, why in backends.explain(image).items() if not why)
    inner = vmap(grad(exact(name), (0, 1)))(image, quality)
    for a, b in zip(vmap(grad(exact("auto"), (0, 1)))(image, quality), inner, strict=True):
        assert torch.equal(a, b)
    # A quality that is mapped over, of an image that is not.
    mapped = vmap(lambda q: jpegrad.jpeg(image[0], q))(quality)
    assert torch.equal(mapped, jpegrad.jpeg(image[:1].expand(2, -1, -1, -1), quality))


@pytest.mark.slow
@pytest.mark.whole_graph
def test_a_compiled_transform() -> None:
    image, quality = torch.rand(3, 3, 17, 20), torch.tensor([10.0, 50.0, 90.0])
    torch._dynamo.reset()
    compiled = torch.compile(vmap(grad(exact("auto"), (0, 1))), fullgraph=True, backend="eager")
    for a, b in zip(compiled(image, quality), vmap(grad(exact("auto"), (0, 1)))(image, quality), strict=True):
        close(a, b)
    torch._dynamo.reset()
