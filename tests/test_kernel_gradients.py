"""Laws of every kernel backend: gradients to image, levels and tables are the reference's, in float32."""

import dataclasses
import itertools
from collections.abc import Iterator
from typing import NamedTuple

import pytest
import torch
import torch.utils.checkpoint
from torch import Tensor

import jpegrad
from jpegrad import surrogates
from jpegrad.backends import reference
from jpegrad.sampling import SUBSAMPLING
from jpegrad.spec import resolve
from jpegrad.surrogates import Surrogate
from kernel_cases import (
    COLORS,
    MODES,
    OWN,
    RECORDS,
    Kernel,
    channels,
    close,
    compare_gradients,
    law,
    run,
    spec,
)

SEVERAL = torch.tensor([30.0, 85.0])


class Case(NamedTuple):
    size: tuple[int, int]
    quality: float | Tensor = 60.0
    tables: int = 2
    clip_slope: float = 0.0
    surrogate: Surrogate = surrogates.gaussian()


def cases() -> Iterator[Case]:
    """Sizes from a sample to many MCUs, odd and whole ones; in turns the tables, the clamps, the records."""
    odd = [(1, 1), (1, 9), (9, 1), (2, 3), (3, 4), (15, 5), (17, 33), (31, 65), (8, 130)]
    for i, size in enumerate([*odd, (16, 64), (40, 50), (32, 32)]):
        quality, count = (SEVERAL, 2) if i % 2 else (60.0, 1 if i % 4 else 3)
        record = surrogates.identity if i % 2 else surrogates.gaussian()
        yield Case(size, quality, count, 0.25 * (i % 3), record)


FEW = {
    "jpeg": [Case((2, 3)), Case((17, 35), SEVERAL, 3, 0.25), Case((16, 64), clip_slope=0.1)],
    "levels": [Case((17, 35), SEVERAL, 3, 0.25), Case((16, 32), tables=1, clip_slope=0.25)],
}


@law("mode path", list(itertools.product(MODES, FEW)))
def test_gradients_in_every_mode(kernel: Kernel, mode: str, path: str) -> None:
    for case in kernel.take(cases(), FEW[path]):
        image, entries = (
            kernel.picture(2, channels(mode), *case.size),
            kernel.tables(case.quality, case.tables),
        )
        chosen = spec(mode, clip_slope=case.clip_slope, surrogate=case.surrogate)
        compare_gradients(kernel, image, entries, chosen, path == "levels")


@law(fast=False)
def test_no_numbers_with_a_surrogate_of_your_own(kernel: Kernel) -> None:
    image = kernel.picture(1, 3, 9, 12)
    image[0, 1, 3, 4] = torch.nan
    found = compare_gradients(kernel, image, kernel.tables(50), spec("4:4:4", surrogate=OWN))
    assert found[0].isnan().sum() == 3


@law("mode", MODES, few=["4:2:0"])
def test_plain_upsampling_in_every_mode(kernel: Kernel, mode: str) -> None:
    plain = jpegrad.Decoder(upsampling="replicate")
    for size in kernel.take([(37, 50), (16, 32), (9, 4), (1, 1), (40, 3)], [(21, 26)]):
        image, entries = kernel.picture(2, channels(mode), *size), kernel.tables(SEVERAL)
        for split in kernel.take((False, True), [False]):
            compare_gradients(kernel, image, entries, spec(mode, decoder=plain, clip_slope=0.1), split)


@law("dtype", [torch.float16, torch.bfloat16], [torch.float16])
def test_gradients_of_half_precision(kernel: Kernel, dtype: torch.dtype) -> None:
    # A type that the kernels do not decode to.
    image = kernel.picture(1, 3, 16, 32).to(dtype)
    compare_gradients(kernel, image, kernel.tables(50), spec("4:2:0", clip_slope=0.25), split=True)


@law("mode", MODES, fast=False)
def test_slope_one_is_a_stencil(kernel: Kernel, mode: str) -> None:
    """Without a gradient to tables no coefficient is needed."""
    sizes = {(17, 35): 0.25, (16, 64): 0.0, (1, 1): 0.0, (2, 5): 0.5}
    for size, slope in kernel.take({**sizes, (40, 50): 0.0}.items(), sizes.items()):
        chosen = spec(mode, surrogate=surrogates.identity, clip_slope=slope)
        image = kernel.picture(2, channels(mode), *size)
        compare_gradients(kernel, image, kernel.tables(60), chosen, to_tables=False)


@law("clip_slope", [0.0, 0.3], fast=False)
def test_values_that_are_no_numbers(kernel: Kernel, clip_slope: float) -> None:
    image = kernel.picture(1, 3, 18, 24)
    image[0, :, 5, 5] = image[0, :, 7, 7] = 0.5
    image[0, 0, 3, 3], image[0, 1, 5, 5], image[0, 2, 7, 7] = torch.nan, torch.inf, -torch.inf
    # NaN beside numbers beyond the range.
    image[0, 1, 3, 3], image[0, 2, 3, 3] = 1.5, -0.5
    undefined = image.isnan().any(1, keepdim=True).expand_as(image)
    for value_range in ((0.0, 1.0), (-1.0, 1.0)):
        chosen = spec("4:2:0", value_range=value_range, clip_slope=clip_slope)
        straight = dataclasses.replace(chosen, surrogate=surrogates.identity)
        for one, to_tables in ((chosen, True), (straight, False)):
            found = compare_gradients(kernel, image, kernel.tables(50), one, to_tables=to_tables)
            assert torch.equal(found[1].isnan(), undefined)


@law("name", COLORS, ["no conversion", "beyond 24 bits, full inverse"])
def test_colour_conversions(kernel: Kernel, name: str) -> None:
    chosen = spec("4:2:0", color=COLORS[name], clip_slope=0.2)
    compare_gradients(kernel, kernel.picture(1, 3, 18, 33), kernel.tables(70), chosen)


@law("name quality", list(itertools.product(RECORDS, (10.0, 90.0))), [(name, 40.0) for name in RECORDS])
def test_gradients_with_every_record(kernel: Kernel, name: str, quality: float) -> None:
    record = RECORDS[name]
    for mode, shape, settings in kernel.take(
        [
            ("4:2:0", (2, 3, 21, 37), {"surrogate": record}),
            ("4:4:4", (2, 3, 21, 37), {"table_surrogate": record, "clip_slope": 0.1}),
            ("gray", (1, 1, 24, 24), {"surrogate": record, "table_surrogate": record}),
        ],
        [("gray", (1, 1, 24, 24), {"surrogate": record, "table_surrogate": record})],
    ):
        compare_gradients(kernel, kernel.picture(*shape), kernel.tables(quality), spec(mode, **settings))


@law()
def test_a_record_of_your_own_in_colour(kernel: Kernel) -> None:
    image, entries = kernel.picture(2, 3, 13, 21), kernel.tables(70, 3)
    compare_gradients(kernel, image, entries, spec("4:2:2", surrogate=OWN))


@law()
def test_gradients_of_unrounded_levels_and_of_odd_ones(kernel: Kernel) -> None:
    image, entries = kernel.picture(1, 3, 9, 20), kernel.tables(50)
    odd = [torch.randn(1, 2, 3, 8, 8), torch.randn(1, 1, 2, 8, 8), torch.randn(1, 1, 2, 8, 8)]
    odd[0][0, 0, 0, 0, :3] = torch.tensor([torch.nan, torch.inf, 1e6])
    results = []
    for backend in (kernel.backend, reference):
        x, t = image.clone().requires_grad_(), entries.clone().requires_grad_()
        unrounded = backend.encode(x, t, spec("4:2:0"))[1]
        assert unrounded is not None
        results.append(torch.autograd.grad(sum(u.cos().sum() for u in unrounded), (x, t)))
        levels = tuple(level.to(kernel.device, copy=True).requires_grad_() for level in odd)
        out = backend.decode(levels, t, (9, 20), torch.float32, spec("4:2:0", clip_slope=0.5))
        results[-1] += torch.autograd.grad(out.cos().sum(), (*levels, t))
    for a, b in zip(*results, strict=True):
        close(a, b)


@law(
    "subsampling surrogate",
    list(itertools.product(SUBSAMPLING, ("identity", "gaussian"))),
    [("4:2:0", "identity"), ("4:2:0", "gaussian")],
)
def test_memory_kept_for_the_backward_pass(kernel: Kernel, subsampling: str, surrogate: str) -> None:
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        # The image itself is kept too, but is no copy.
        if tensor.data_ptr() != image.data_ptr():
            kept[tensor.data_ptr()] = tensor.nbytes
        return tensor

    # Wide enough to fill the lanes of every instruction set.
    ((height, width),) = kernel.take([(64, 1024)], [(32, 32)])
    image, entries = kernel.picture(1, 3, height, width).requires_grad_(), kernel.tables(50)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        kernel.backend.jpeg(image, entries, spec(subsampling, surrogate=surrogates.get(surrogate)))
    # A byte per pixel and chroma sample for the clamps; 2 bytes per coefficient, unless the slope is 1.
    samples = 1 + 2 / (SUBSAMPLING[subsampling][0] * SUBSAMPLING[subsampling][1])
    expected = height * width * (samples + (2 * samples if surrogate == "gaussian" else 0)) + entries.nbytes
    assert sum(kept.values()) == expected
    with torch.no_grad(), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        kept.clear()
        kernel.backend.jpeg(image, entries, spec(subsampling))
    assert not kept


@law(fast=False)
def test_checkpoint(kernel: Kernel) -> None:
    (size,) = kernel.take([(33, 33)], [(9, 17)])
    image, entries = kernel.picture(1, 3, *size).requires_grad_(), kernel.tables(50)
    through = torch.utils.checkpoint.checkpoint(
        lambda x: kernel.backend.jpeg(x, entries, spec("4:2:0")), image, use_reentrant=False
    )
    (found,) = torch.autograd.grad(through.square().sum(), image)
    plain = kernel.backend.jpeg(image, entries, spec("4:2:0"))
    (expected,) = torch.autograd.grad(plain.square().sum(), image)
    assert torch.equal(found, expected)


# The compiler instantiates the function that it traces.
compiles = pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")


@compiles
@pytest.mark.whole_graph
@law(fast=False)
def test_compiles_to_one_graph_for_every_size(kernel: Kernel) -> None:
    def loss(image: Tensor, entries: Tensor) -> Tensor:
        return kernel.backend.jpeg(image, entries, resolve(subsampling="4:4:4")).square().sum()

    torch._dynamo.reset()
    compiled = torch.compile(loss, fullgraph=True, dynamic=True, backend="aot_eager")
    # Sizes that the compiler does not take for those of the tables.
    for size in ((4, 3, 9, 14), (5, 3, 14, 10)):
        image, entries = kernel.picture(*size).requires_grad_(), kernel.tables(50).requires_grad_()
        expected = torch.autograd.grad(loss(image, entries), (image, entries))
        with torch._dynamo.config.patch(error_on_recompile=True):
            found = torch.autograd.grad(compiled(image, entries), (image, entries))
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b)
    torch._dynamo.reset()


@compiles
@pytest.mark.whole_graph
@law()
def test_compiles_levels_and_decoding(kernel: Kernel) -> None:
    def loss(image: Tensor, entries: Tensor) -> Tensor:
        return run(kernel.backend, image, entries, resolve(subsampling="4:4:4"), split=True).square().sum()

    torch._dynamo.reset()
    image, entries = kernel.picture(1, 3, 9, 14).requires_grad_(), kernel.tables(50).requires_grad_()
    found, expected = (
        torch.autograd.grad(function(image, entries), (image, entries))
        for function in (torch.compile(loss, fullgraph=True, backend="eager"), loss)
    )
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)
    torch._dynamo.reset()


# By the public function no interpreted kernel is chosen.
@compiles
@pytest.mark.whole_graph
@law(few=())
def test_compiles_with_a_gradient_to_quality(kernel: Kernel) -> None:
    def loss(image: Tensor, quality: Tensor) -> Tensor:
        return jpegrad.jpeg(image, quality, backend=kernel.name).square().sum()

    image = kernel.picture(2, 3, 24, 33).requires_grad_()
    quality = torch.tensor([30.0, 70.0], device=kernel.device, requires_grad=True)
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    expected = torch.autograd.grad(loss(image, quality), (image, quality))
    for a, b in zip(torch.autograd.grad(compiled(image, quality), (image, quality)), expected, strict=True):
        torch.testing.assert_close(a, b)
