"""Inside PyTorch: compilation, function transforms, autocast, export, distributed training, higher derivatives."""

import copy
import io
import pickle
import shutil
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.distributed
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx

import jpegrad
from jpegrad import backends
from oracles.libjpeg import MODES

PLAIN = jpegrad.spec.Spec()
BACKENDS = [
    name for name in backends.ORDER if not backends.reasons(name, "jpeg", torch.zeros(3, 8, 8), PLAIN)
]
every_backend = pytest.mark.parametrize("backend", BACKENDS)


@pytest.fixture(autouse=True)
def _fresh_compiler() -> Iterator[None]:
    torch._dynamo.reset()
    with warnings.catch_warnings():
        # PyTorch's own deprecations inside its compiler.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", FutureWarning)
        yield
    torch._dynamo.reset()


def value_and_gradients(function: Callable[..., Tensor], *inputs: Tensor) -> tuple[Tensor, ...]:
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    out = function(*leaves)
    cotangent = torch.linspace(-1, 1, out.numel(), dtype=out.dtype).reshape(out.shape)
    return (out.detach(), *torch.autograd.grad(out, leaves, cotangent))


def check_compiled(compiler: str, backend: str, forward: str = "exact") -> None:
    def coded(image: Tensor, quality: Tensor) -> Tensor:
        return jpegrad.jpeg(image, quality, forward=forward, backend=backend)

    compiled = torch.compile(coded, fullgraph=True, dynamic=True, backend=compiler)
    # PyTorch's compiler sums rows of more than 4096 numbers in another way, and so compiles anew for larger images.
    for size in ((2, 3, 18, 26), (5, 3, 40, 23), (4, 3, 33, 41)):
        image, quality = torch.rand(size), torch.full(size[:1], 40.0)
        with torch._dynamo.config.patch(error_on_recompile=True):
            found = value_and_gradients(compiled, image, quality)
        expected = value_and_gradients(coded, image, quality)
        assert torch.equal(found[0], expected[0]) or forward == "soft"
        for one, other in zip(found, expected, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@every_backend
@pytest.mark.whole_graph
@pytest.mark.slow
def test_compile_one_whole_graph_for_every_shape(backend: str) -> None:
    check_compiled("aot_eager" if backend == "native" else "eager", backend)


@pytest.mark.slow
@pytest.mark.parametrize("forward", ["exact", "soft"])
@pytest.mark.whole_graph
def test_compile_the_reference_forward_and_backward(forward: str) -> None:
    check_compiled("aot_eager", "reference", forward)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="PyTorch's compiler needs a C++ compiler")
@every_backend
@pytest.mark.whole_graph
def test_compile_with_inductor(backend: str) -> None:
    check_compiled("inductor", backend)


@every_backend
@pytest.mark.whole_graph
@pytest.mark.slow
def test_compile_encode_and_decode(backend: str) -> None:
    def coded(image: Tensor) -> Tensor:
        return jpegrad.decode(jpegrad.encode(image, 60, backend=backend), backend=backend)

    compiled = torch.compile(coded, fullgraph=True, backend="eager")
    image = torch.rand(2, 3, 21, 14)
    for found, expected in zip(
        value_and_gradients(compiled, image), value_and_gradients(coded, image), strict=True
    ):
        torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.whole_graph
def test_compile_modules() -> None:
    image = torch.rand(2, 3, 16, 20)
    layer = jpegrad.nn.JPEG(torch.tensor(30.0))
    assert torch.equal(torch.compile(layer, fullgraph=True, backend="aot_eager")(image), layer(image))
    augment = jpegrad.nn.RandomJPEG((20, 80), p=0.7)
    compiled = torch.compile(augment, fullgraph=True, backend="eager")
    torch.manual_seed(5)
    found = compiled(image)
    torch.manual_seed(5)
    assert torch.equal(found, augment(image))


@pytest.mark.parametrize("mode", MODES)
def test_vmap_is_the_batch(mode: str) -> None:
    images, qualities = torch.rand(4, 3, 15, 18), torch.tensor([5.0, 40.0, 75.0, 98.0])
    mapped = torch.func.vmap(lambda x, q: jpegrad.jpeg(x, q, subsampling=mode))(images, qualities)
    assert torch.equal(mapped, jpegrad.jpeg(images, qualities, subsampling=mode))
    tables = jpegrad.tables.annex_k(qualities)
    mapped = torch.func.vmap(lambda x, t: jpegrad.jpeg(x, tables=t, subsampling=mode))(images, tables)
    assert torch.equal(mapped, jpegrad.jpeg(images, tables=tables, subsampling=mode))


def test_vmap_of_encode_and_decode() -> None:
    images = torch.rand(3, 3, 10, 12)

    def coded(image: Tensor) -> Tensor:
        return jpegrad.decode(jpegrad.encode(image, 45))

    assert torch.equal(torch.func.vmap(coded)(images), coded(images))


def test_vmap_along_another_dimension() -> None:
    images = torch.rand(3, 8, 8, 5)
    mapped = torch.func.vmap(lambda x: jpegrad.jpeg(x, 45), in_dims=-1, out_dims=-1)(images)
    assert torch.equal(mapped, jpegrad.jpeg(images.movedim(-1, 0), 45).movedim(0, -1))


@pytest.mark.parametrize("forward", ["exact", "soft"])
def test_grad_and_per_sample_grad(forward: str) -> None:
    images, quality = torch.rand(3, 3, 9, 11, dtype=torch.float64), torch.tensor(30.0, dtype=torch.float64)

    def loss(image: Tensor, quality: Tensor) -> Tensor:
        return jpegrad.jpeg(image, quality, forward=forward).square().sum()

    both = torch.func.vmap(torch.func.grad(loss, argnums=(0, 1)), in_dims=(0, None))(images, quality)
    for i, image in enumerate(images):
        leaves = [image.clone().requires_grad_(), quality.clone().requires_grad_()]
        for found, expected in zip(both, torch.autograd.grad(loss(*leaves), leaves), strict=True):
            torch.testing.assert_close(found[i], expected)


def test_jacobians_in_both_directions() -> None:
    quality = torch.tensor([20.0, 70.0], dtype=torch.float64)
    image = torch.rand(2, 1, 8, 8, dtype=torch.float64)

    def coded(quality: Tensor) -> Tensor:
        return jpegrad.jpeg(image, quality)

    backward = torch.func.jacrev(coded)(quality)
    forward = torch.func.jacfwd(coded)(quality)
    assert backward.shape == (2, 1, 8, 8, 2)
    assert (backward != 0).any()
    torch.testing.assert_close(forward, backward)


def test_forward_mode_is_the_transpose_of_backward() -> None:
    image = torch.rand(3, 13, 10, dtype=torch.float64)
    tangent, cotangent = torch.randn(2, 3, 13, 10, dtype=torch.float64)
    for forward in ("exact", "soft"):
        out, push = torch.func.jvp(lambda x, f=forward: jpegrad.jpeg(x, 50, forward=f), (image,), (tangent,))
        assert torch.equal(out, jpegrad.jpeg(image, 50, forward=forward))
        _, pull = torch.func.vjp(lambda x, f=forward: jpegrad.jpeg(x, 50, forward=f), image)
        torch.testing.assert_close((push * cotangent).sum(), (tangent * pull(cotangent)[0]).sum())


def test_second_derivatives_of_the_soft_forward() -> None:
    image = torch.rand(1, 4, 5, dtype=torch.float64) * 0.5 + 0.25
    tables = (jpegrad.tables.annex_k(41, dtype=torch.float64) + 0.3).requires_grad_()
    inputs = (image.requires_grad_(), tables)
    assert torch.autograd.gradgradcheck(
        lambda x, t: jpegrad.jpeg(x, tables=t, forward="soft"), inputs, fast_mode=True
    )


def test_hessian_of_the_soft_forward() -> None:
    image = torch.rand(1, 3, 3, dtype=torch.float64) * 0.5 + 0.25

    def loss(image: Tensor) -> Tensor:
        return jpegrad.jpeg(image, 60, forward="soft").pow(3).sum()

    hessian = torch.func.hessian(loss)(image).reshape(9, 9)
    assert (hessian != 0).any()
    torch.testing.assert_close(hessian, hessian.T)
    step = 1e-5 * torch.randn(1, 3, 3, dtype=torch.float64)
    gradient = torch.func.grad(loss)
    change = (gradient(image + step) - gradient(image - step)) / 2
    torch.testing.assert_close(hessian @ step.flatten(), change.flatten(), rtol=1e-5, atol=1e-10)


@every_backend
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_degrades_nothing(dtype: torch.dtype, backend: str) -> None:
    image, quality = torch.rand(2, 3, 17, 19), torch.tensor([30.0, 80.0])

    def coded(image: Tensor, quality: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype):
            return jpegrad.jpeg(image, quality, backend=backend)

    plain = value_and_gradients(lambda x, q: jpegrad.jpeg(x, q, backend=backend), image, quality)
    for found, expected in zip(value_and_gradients(coded, image, quality), plain, strict=True):
        assert found.dtype == torch.float32
        assert torch.equal(found, expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_degrades_no_soft_forward(dtype: torch.dtype) -> None:
    image = torch.rand(2, 3, 17, 19)
    with torch.autocast("cpu", dtype):
        found = jpegrad.jpeg(image, 75, forward="soft")
    torch.testing.assert_close(found, jpegrad.jpeg(image, 75, forward="soft"), rtol=0, atol=1e-6)


@pytest.mark.parametrize("forward", ["exact", "soft"])
@pytest.mark.parametrize("mode", ["fake", "symbolic"])
@pytest.mark.slow
def test_traced_with_fake_tensors(mode: str, forward: str) -> None:
    image = torch.rand(1, 3, 16, 24)
    traced = make_fx(lambda x: jpegrad.jpeg(x, 75, forward=forward, backend="reference"), tracing_mode=mode)(
        image
    )
    assert torch.equal(traced(image), jpegrad.jpeg(image, 75, forward=forward, backend="reference"))


class Coded(nn.Module):
    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.options = options

    def forward(self, image: Tensor) -> Tensor:
        return jpegrad.jpeg(image, 50, **self.options)


@pytest.mark.parametrize("backend", ["reference", "auto"])
@pytest.mark.whole_graph
def test_export_with_static_shapes(backend: str) -> None:
    image = torch.rand(2, 3, 17, 23)
    program = torch.export.export(Coded(backend=backend), (image,))
    assert torch.equal(program.module()(image), jpegrad.jpeg(image, 50))


@pytest.mark.parametrize(
    "mode", [mode if mode == "4:2:0" else pytest.param(mode, marks=pytest.mark.slow) for mode in MODES]
)
@pytest.mark.whole_graph
@pytest.mark.slow
def test_export_with_dynamic_batch_height_and_width(mode: str) -> None:
    dynamic = {0: torch.export.Dim.AUTO, 2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO}
    model = Coded(subsampling=mode, backend="reference")
    program = torch.export.export(model, (torch.rand(3, 3, 37, 43),), dynamic_shapes={"image": dynamic})
    # PyTorch specialises on sizes of 1, so that every plane keeps at least two blocks each way.
    for shape in ((3, 3, 37, 43), (2, 3, 32, 64), (5, 3, 21, 40), (2, 3, 17, 33)):
        image = torch.rand(shape)
        assert torch.equal(program.module()(image), jpegrad.jpeg(image, 50, subsampling=mode))


@pytest.mark.slow
@pytest.mark.whole_graph
def test_an_exported_program_is_saved_and_loaded() -> None:
    image = torch.rand(1, 3, 16, 16)
    file = io.BytesIO()
    torch.export.save(torch.export.export(Coded(backend="reference"), (image,)), file)
    file.seek(0)
    assert torch.equal(torch.export.load(file).module()(image), jpegrad.jpeg(image, 50))


@pytest.fixture
def one_process(tmp_path: Any) -> Iterator[None]:
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/group", rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.skipif(not torch.distributed.is_available(), reason="PyTorch without torch.distributed")
@pytest.mark.usefixtures("one_process")
def test_distributed_data_parallel_learns_tables() -> None:
    torch.manual_seed(0)
    layer = jpegrad.nn.JPEG(tables=nn.Parameter(jpegrad.tables.annex_k(30)), subsampling="4:4:4")
    model = nn.parallel.DistributedDataParallel(nn.Sequential(nn.Conv2d(3, 3, 1), nn.Sigmoid(), layer))
    optimiser = torch.optim.SGD([layer.tables], lr=1e4)
    image = torch.rand(2, 3, 16, 16)
    before = layer.tables.detach().clone()
    (model(image) - image).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    optimiser.step()
    assert not torch.equal(layer.tables, before)


def test_pickle_and_deepcopy() -> None:
    coefficients = jpegrad.encode(torch.rand(2, 3, 9, 9), torch.tensor([20.0, 60.0]))
    layer = jpegrad.nn.JPEG(jpegrad.tables.annex_k(10)[0, 0, 0], surrogate="soft_round")
    for twin in (pickle.loads(pickle.dumps(layer)), copy.deepcopy(layer)):
        image = torch.rand(3, 8, 8)
        assert torch.equal(twin(image), layer(image))
    for twin in (pickle.loads(pickle.dumps(coefficients)), copy.deepcopy(coefficients)):
        assert torch.equal(jpegrad.decode(twin), jpegrad.decode(coefficients))
        assert (twin.size, twin.subsampling) == (coefficients.size, coefficients.subsampling)


@every_backend
def test_backward_twice_with_retained_graph(backend: str) -> None:
    image = torch.rand(3, 16, 16, requires_grad=True)
    loss = jpegrad.jpeg(image, 50, backend=backend).square().sum()
    first = torch.autograd.grad(loss, image, retain_graph=True)[0]
    second = torch.autograd.grad(loss, image)[0]
    assert torch.equal(first, second)


@every_backend
def test_inputs_are_left_alone(backend: str) -> None:
    image, quality = torch.rand(3, 16, 16) * 1.2 - 0.1, torch.tensor(130.0)
    copies = image.clone(), quality.clone()
    jpegrad.jpeg(image, quality, backend=backend)
    assert torch.equal(image, copies[0]) and torch.equal(quality, copies[1])


@every_backend
def test_results_do_not_depend_on_threads(backend: str) -> None:
    image = torch.rand(5, 3, 50, 70, requires_grad=True)
    quality = torch.tensor([5.0, 30.0, 60.0, 80.0, 95.0], requires_grad=True)
    results = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        try:
            out = jpegrad.jpeg(image, quality, backend=backend)
            results.append((out, *torch.autograd.grad(out.square().sum(), (image, quality))))
        finally:
            torch.set_num_threads(1)
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])
    torch.testing.assert_close(results[0][2], results[1][2], rtol=1e-5, atol=1e-6)


def test_the_size_of_stored_rgb_compiles() -> None:
    def size(image: Tensor) -> Tensor:
        coded = jpegrad.encode(image, 60, color=jpegrad.spec.RGB, subsampling="4:4:4")
        return jpegrad.bits(coded)

    image = torch.rand(2, 3, 24, 32)
    assert torch.equal(torch.compile(size, fullgraph=True, backend="eager")(image), size(image))


@pytest.mark.slow
@pytest.mark.whole_graph
# The exporter's own.
@pytest.mark.filterwarnings("ignore::Warning")
@pytest.mark.parametrize("forward", ["exact", "soft"])
def test_exports_to_onnx(forward: str) -> None:
    pytest.importorskip("onnxscript")
    onnxruntime = pytest.importorskip("onnxruntime")
    image = torch.rand(2, 3, 17, 23)
    program = torch.onnx.export(Coded(forward=forward), (image,), dynamo=True, verbose=False)
    model = program.model_proto
    assert {node.domain for node in model.graph.node} <= {"", "ai.onnx"}
    session = onnxruntime.InferenceSession(model.SerializeToString())
    (found,) = session.run(None, {session.get_inputs()[0].name: image.numpy()})
    expected = jpegrad.jpeg(image, 50, forward=forward)
    # ONNX says the exact forward's integers; its real numbers are rounded in an order of its own.
    torch.testing.assert_close(
        torch.from_numpy(found), expected, rtol=0, atol=1e-5 if forward == "soft" else 0
    )


@pytest.mark.slow
@pytest.mark.whole_graph
def test_exports_to_onnx_have_the_size_of_their_image(monkeypatch: pytest.MonkeyPatch) -> None:
    # The exporter to ONNX makes wrong samples of sizes that are symbols, so that none may be left.
    import torch.onnx

    monkeypatch.setattr(torch.onnx, "is_in_onnx_export", lambda: True)
    height, width = torch.export.Dim("height", min=16, max=600), torch.export.Dim("width", min=16, max=600)
    with pytest.raises(Exception, match=r"height.*specialized|specialized.*height|Constraints violated"):
        torch.export.export(
            Coded(), (torch.rand(1, 3, 33, 47),), dynamic_shapes=({2: height, 3: width},), strict=False
        )
    auto = {2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO}
    program = torch.export.export(Coded(), (torch.rand(1, 3, 33, 47),), dynamic_shapes=(auto,), strict=False)
    (image,) = (node for node in program.graph.nodes if node.op == "placeholder" and node.name == "image")
    assert list(image.meta["val"].shape) == [1, 3, 33, 47]
