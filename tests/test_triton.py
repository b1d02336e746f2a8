"""The Triton kernels against the reference: 0 differing samples, and gradients in float32.

Without a GPU they run in Triton's interpreter, about two seconds a call, so the cases are few and chosen. What that
cannot see, whether they compile for a GPU, and into how many registers, the last test asks the compiler.
"""

import dataclasses
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

import jpegrad
from jpegrad import surrogates
from jpegrad.backends import reference, triton, triton_launch
from jpegrad.spec import Color, Spec, resolve
from jpegrad.surrogates import Surrogate

# With a device every test here is one of the device's; without one, REQUIRE_GPU=1 lets none of them pass in its place.
ON_DEVICE = torch.cuda.is_available() or os.environ.get("REQUIRE_GPU") == "1"
pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed"),
    *([pytest.mark.gpu] if ON_DEVICE else []),
]

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
MODES = ("4:4:4", "4:2:2", "4:2:0", "4:4:0", "4:1:1", "gray")
# As in the native kernel's tests: a residual is known to 2^-25 steps, the steepest slope here has 4/s at s = 0.005.
TOLERANCE = 5e-5


@pytest.fixture(autouse=True)
def _interpreted(monkeypatch: pytest.MonkeyPatch) -> None:
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
    differing = int((found != expected).sum())
    assert differing == 0, f"{differing} of {found.numel()} samples differ at {list(image.shape)}"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [(1, 1), (5, 4), (31, 17), (40, 65)])
def test_equals_the_reference(mode: str, size: tuple[int, int]) -> None:
    image = picture(1, channels(mode), *size)
    same(as_bytes(image) if sum(size) % 2 else image, tables(float(size[1] + 30)), spec(mode))


def test_tables_of_every_image_and_the_extreme_qualities() -> None:
    same(picture(4, 3, 17, 19), tables(torch.tensor([1.0, 10.0, 99.0, 100.0]), 3), spec("4:2:0"))


def test_several_programs_per_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_launch, "MOST_MCUS", 4)
    monkeypatch.setattr(triton_launch, "MOST_INTERPRETED", 4)
    compare_gradients(picture(1, 3, 30, 41), tables(80), spec("4:2:0"))


def test_noise_and_saturated_samples() -> None:
    image = torch.randint(0, 2, (1, 3, 24, 24), device=DEVICE).float() * 3 - 1
    same(image, tables(3.0), spec("4:4:4"))
    same(torch.rand(1, 3, 24, 24, device=DEVICE), tables(50.0), spec("4:2:2"))


@pytest.mark.parametrize("value_range", [(0.0, 1.0), (0.0, 255.0), (-1.0, 1.0), (-17.3, 1.9)])
def test_rounding_of_values_next_to_a_tie(value_range: tuple[float, float]) -> None:
    low, high = value_range
    around = (low + (torch.arange(255, dtype=torch.float64) + 0.5) / 255 * (high - low)).float()
    below, above = around.nextafter(torch.tensor(-10.0)), around.nextafter(torch.tensor(1e3))
    image = torch.stack([below, around, above]).reshape(1, 1, 3, 255).to(DEVICE)
    image[0, 0, 0, 0], image[0, 0, 1, 1], image[0, 0, 2, 2] = torch.nan, torch.inf, -torch.inf
    ones = torch.ones(1, 8, 8, dtype=torch.float64, device=DEVICE)
    same(image, ones, spec("gray", value_range=value_range))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(dtype: torch.dtype) -> None:
    same(picture(1, 3, 16, 24).to(dtype), tables(50), spec("4:4:4"))


@pytest.mark.parametrize("layout", ["channels last", "expanded", "transposed", "window"])
def test_any_strides(layout: str) -> None:
    image = picture(2, 3, 21, 35)
    image = {
        "channels last": image.to(memory_format=torch.channels_last),
        "expanded": image[:1, :1, :, :1].expand(2, 3, -1, 20),
        "transposed": image.transpose(-1, -2),
        "window": image[:, :, 3:-2, 5:-1:2],
    }[layout]
    same(image, tables(60), spec("4:2:0"))


def test_leading_dimensions() -> None:
    same(picture(2, 1, 3, 9, 10), tables(torch.tensor([[10.0], [90.0]])), spec("4:2:2"))
    same(picture(3, 9, 10), tables(70), spec("4:4:0"))
    assert triton.jpeg(torch.zeros(0, 3, 9, 10, device=DEVICE), tables(70), spec("4:4:0")).shape == (
        0,
        3,
        9,
        10,
    )


def test_the_reciprocal_divides_exactly() -> None:
    # The quantiser's own arithmetic, for every coefficient and every table entry.
    c = torch.arange(32768, dtype=torch.int32)
    for step in range(1, 256):
        reciprocal = (0.125 / torch.tensor(step, dtype=torch.float64)).float()
        found = ((c.float() + (4.0 * step + 0.5)) * reciprocal).to(torch.int32)
        assert torch.equal(found, (c + 4 * step) // (8 * step)), step


COLORS = {
    "no conversion": jpegrad.spec.RGB,
    "another": Color(
        ((2.5, -1.25, 0.7), (0.3, 3.1, -2.0), (1.0, 1.0, 1.0)),
        (10.5, 0.25, -300.0),
        ((1.1, 0.2, 1.402), (0.9, -0.34414, -0.71414), (1.0, 1.772, 0.3)),
    ),
}


@pytest.mark.parametrize("name", COLORS)
def test_colour_conversions(name: str) -> None:
    compare_gradients(picture(1, 3, 18, 33), tables(70), spec("4:2:0", color=COLORS[name], clip_slope=0.2))


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
    assert torch.equal(out, expected_out)
    for a, b in zip(found, expected, strict=True):
        close(a, b)


def close(found: Tensor, expected: Tensor) -> None:
    assert found.shape == expected.shape and found.dtype == expected.dtype
    error = (found.double() - expected.double()).norm() / expected.double().norm().clamp(min=1e-6)
    assert error < TOLERANCE, f"relative error {error:.2e}"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [(2, 3), (17, 35)])
def test_gradients(mode: str, size: tuple[int, int]) -> None:
    entries = tables(torch.tensor([30.0, 85.0]), 3) if size[0] > 2 else tables(60)
    compare_gradients(picture(2, channels(mode), *size), entries, spec(mode, clip_slope=0.25 * (size[0] % 2)))


@pytest.mark.parametrize("mode", MODES)
def test_gradients_through_levels(mode: str) -> None:
    # An odd size, a size of whole MCUs; a type that the kernel does not decode to.
    chosen = spec(mode, clip_slope=0.25)
    compare_gradients(picture(2, channels(mode), 17, 35), tables(torch.tensor([30.0, 85.0]), 3), chosen, True)
    whole = picture(1, channels(mode), 16, 32).to(torch.float16 if mode == "4:2:0" else torch.float32)
    compare_gradients(whole, tables(50), chosen, True)


@pytest.mark.parametrize("mode", MODES)
def test_slope_one_is_a_stencil(mode: str) -> None:
    for size, slope in (((17, 35), 0.25), ((16, 64), 0.0), ((1, 1), 0.0), ((2, 5), 0.5)):
        chosen = spec(mode, surrogate=surrogates.identity, clip_slope=slope)
        compare_gradients(picture(2, channels(mode), *size), tables(60), chosen, to_tables=False)


@pytest.mark.parametrize("mode", MODES)
def test_whole_mcus(mode: str) -> None:
    compare_gradients(picture(1, channels(mode), 16, 64), tables(60), spec(mode, clip_slope=0.1))


@pytest.mark.parametrize("clip_slope", [0.0, 0.3])
def test_values_that_are_no_numbers(clip_slope: float) -> None:
    image = picture(1, 3, 18, 24)
    image[0, 0, 3, 3], image[0, 1, 5, 5], image[0, 2, 7, 7] = torch.nan, torch.inf, -torch.inf
    # Beside one that is beyond the range.
    image[0, 1, 3, 3], image[0, 2, 3, 3] = 1.5, -0.5
    for value_range in ((0.0, 1.0), (-1.0, 1.0)):
        chosen = spec("4:2:0", value_range=value_range, clip_slope=clip_slope)
        compare_gradients(image, tables(50), chosen)
        compare_gradients(
            image, tables(50), dataclasses.replace(chosen, surrogate=surrogates.identity), to_tables=False
        )


OWN = Surrogate(
    "own", lambda u, step, component: u, lambda u, step, component: 0.5 + torch.cos(u) / step, "a test"
)
RECORDS = {
    **surrogates.ALL,
    **{f"gaussian {sigma}": surrogates.gaussian(sigma) for sigma in (0.25, 3.5, 5.0, 20.0)},
    "soft": surrogates.soft_round(2.0),
    "hard": surrogates.soft_round(800.0),
    "narrow tables": surrogates.table_gaussian(0.05),
    "own": OWN,
}


@pytest.mark.parametrize("name", RECORDS)
def test_gradients_with_every_record(name: str) -> None:
    # As the image sees the rounding and as the tables do.
    chosen = spec("gray", surrogate=RECORDS[name], table_surrogate=RECORDS[name])
    compare_gradients(picture(1, 1, 24, 24), tables(40), chosen)


def test_a_record_of_your_own_in_colour() -> None:
    compare_gradients(picture(2, 3, 13, 21), tables(70, 3), spec("4:2:2", surrogate=OWN))


@pytest.mark.parametrize("surrogate", ["identity", "gaussian"])
def test_memory_kept_for_the_backward_pass(surrogate: str) -> None:
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.data_ptr()] = tensor.nbytes
        return tensor

    image, entries = picture(1, 3, 32, 32).requires_grad_(), tables(50)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        triton.jpeg(image, entries, spec("4:2:0", surrogate=surrogates.get(surrogate)))
    # A byte per pixel and chroma sample for the clamps; 2 bytes per coefficient, unless the slope is 1.
    assert sum(kept.values()) == 1024 * (1.5 + (3 if surrogate == "gaussian" else 0)) + entries.nbytes
    with torch.no_grad(), torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        kept.clear()
        triton.jpeg(image, entries, spec("4:2:0"))
    assert not kept


@pytest.mark.parametrize("mode", MODES)
def test_levels_and_decoding(mode: str) -> None:
    image, entries = picture(2, channels(mode), 21, 26), tables(torch.tensor([20.0, 95.0]), 3)
    (levels, ratios), (expected, expected_ratios) = (
        backend.encode(image, entries, spec(mode)) for backend in (triton, reference)
    )
    assert ratios is not None and expected_ratios is not None
    for a, b in zip((*levels, *ratios), (*expected, *expected_ratios), strict=True):
        assert a.dtype is torch.float32 and torch.equal(a, b)
    with torch.no_grad():
        silent, nothing = triton.encode(image, entries, spec(mode))
        assert nothing is None and all(map(torch.equal, silent, levels))
        dtype = torch.uint8 if mode == "4:2:0" else torch.float64 if mode == "gray" else torch.float32
        found, wanted = (
            backend.decode(levels, entries, (21, 26), dtype, spec(mode)) for backend in (triton, reference)
        )
    assert found.dtype is dtype and torch.equal(found, wanted)


def test_gradients_of_ratios_and_of_odd_levels() -> None:
    image, entries = picture(1, 3, 9, 20), tables(50)
    odd = [torch.randn(1, 2, 3, 8, 8), torch.randn(1, 1, 2, 8, 8), torch.randn(1, 1, 2, 8, 8)]
    odd[0][0, 0, 0, 0, :3] = torch.tensor([torch.nan, torch.inf, 1e6])
    results = []
    for backend in (triton, reference):
        x, t = image.clone().requires_grad_(), entries.clone().requires_grad_()
        ratios = backend.encode(x, t, spec("4:2:0"))[1]
        assert ratios is not None
        results.append(torch.autograd.grad(sum(u.cos().sum() for u in ratios), (x, t)))
        levels = tuple(level.to(DEVICE, copy=True).requires_grad_() for level in odd)
        out = backend.decode(levels, t, (9, 20), torch.float32, spec("4:2:0", clip_slope=0.5))
        results[-1] += torch.autograd.grad(out.cos().sum(), (*levels, t))
    for a, b in zip(*results, strict=True):
        close(a, b)


def test_decoding_levels_that_no_picture_has() -> None:
    levels = tuple((torch.randn(1, 2, 3, 8, 8, device=DEVICE) * 3000).round() for _ in range(3))
    levels[0][0, 0, 0, 0, 0], levels[0][0, 0, 0, 0, 1] = torch.nan, 0.25
    entries = torch.randint(1, 65536, (2, 8, 8), device=DEVICE).double()
    found, expected = (
        backend.decode(levels, entries, (15, 22), torch.uint8, spec("4:4:4"))
        for backend in (triton, reference)
    )
    assert torch.equal(found, expected)


def test_reasons() -> None:
    image = picture(1, 3, 8, 8)
    assert any("CUDA" in reason for reason in triton.unsupported("jpeg", image.cpu(), spec("4:2:0")))
    fewest = triton.unsupported("jpeg", image, spec("4:2:0"))
    for operation in ("jpeg", "encode", "decode"):
        assert triton.unsupported(operation, image, spec("4:2:0", surrogate=OWN)) == fewest
    for settings in ({"forward": "soft"}, {"color": Color(torch.eye(3))}):
        assert len(triton.unsupported("jpeg", image, spec("4:2:0", **settings))) > len(fewest)


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_compiles_to_one_graph_for_every_size() -> None:
    def loss(image: Tensor, entries: Tensor) -> Tensor:
        return triton.jpeg(image, entries, resolve(subsampling="4:4:4")).square().sum()

    torch._dynamo.reset()
    compiled = torch.compile(loss, fullgraph=True, dynamic=True, backend="aot_eager")
    # Sizes that the compiler does not take for those of the tables.
    for size in ((4, 3, 9, 14), (5, 3, 14, 10)):
        image, entries = picture(*size).requires_grad_(), tables(50).requires_grad_()
        expected = torch.autograd.grad(loss(image, entries), (image, entries))
        with torch._dynamo.config.patch(error_on_recompile=True):
            found = torch.autograd.grad(compiled(image, entries), (image, entries))
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b)
    torch._dynamo.reset()


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_compiles_levels_and_decoding() -> None:
    def loss(image: Tensor, entries: Tensor) -> Tensor:
        chosen = resolve(subsampling="4:4:4")
        levels, _ = triton.encode(image, entries, chosen)
        return triton.decode(levels, entries, (9, 14), torch.float32, chosen).square().sum()

    torch._dynamo.reset()
    image, entries = picture(1, 3, 9, 14).requires_grad_(), tables(50).requires_grad_()
    found, expected = (
        torch.autograd.grad(function(image, entries), (image, entries))
        for function in (torch.compile(loss, fullgraph=True, backend="eager"), loss)
    )
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)
    torch._dynamo.reset()


def test_checkpoint() -> None:
    image = picture(1, 3, 9, 17).requires_grad_()
    through = torch.utils.checkpoint.checkpoint(
        lambda x: triton.jpeg(x, tables(50), spec("4:2:0")), image, use_reentrant=False
    )
    (found,) = torch.autograd.grad(through.square().sum(), image)
    (expected,) = torch.autograd.grad(triton.jpeg(image, tables(50), spec("4:2:0")).square().sum(), image)
    assert torch.equal(found, expected)


@pytest.mark.gpu
@pytest.mark.parametrize("mode", MODES)
def test_every_size_on_the_device(mode: str) -> None:
    for width in range(1, 41):
        image = picture(2, channels(mode), (7 * width + 3) % 40 + 1, width)
        same(image, tables(float(2 * width)), spec(mode))
        if width % 4 == 1:
            compare_gradients(image, tables(50), spec(mode, clip_slope=0.1))
    same(picture(3, channels(mode), 517, 1030), tables(75), spec(mode))


@pytest.mark.gpu
@pytest.mark.parametrize("name", RECORDS)
def test_every_record_on_the_device(name: str) -> None:
    chosen = spec("4:2:0", surrogate=RECORDS[name], table_surrogate=RECORDS[name])
    compare_gradients(picture(2, 3, 130, 263), tables(50), chosen)


@pytest.mark.gpu
@pytest.mark.parametrize("mode", MODES)
def test_the_stencil_on_the_device(mode: str) -> None:
    chosen = spec(mode, surrogate=surrogates.identity)
    for size in ((130, 263), (64, 1024), (1, 1), (3, 700)):
        compare_gradients(picture(2, channels(mode), *size), tables(50), chosen, to_tables=False)


@pytest.mark.gpu
def test_the_default_on_the_device() -> None:
    image = picture(1, 3, 16, 16)
    for operation in ("jpeg", "encode"):
        assert jpegrad.backends.explain(image, operation)["triton"] == []


@pytest.mark.gpu
def test_the_same_gradients_in_every_run() -> None:
    image, entries = picture(4, 3, 130, 263).requires_grad_(), tables(50).requires_grad_()
    first, second = (
        torch.autograd.grad(triton.jpeg(image, entries, spec("4:2:0")).cos().sum(), (image, entries))
        for _ in range(2)
    )
    assert all(map(torch.equal, first, second))


@pytest.mark.gpu
def test_planes_of_more_than_2_31_samples() -> None:
    # Two thin images at the far ends of a buffer whose strides exceed 32 bits.
    room = torch.zeros(2**31 + 4096, dtype=torch.uint8, device=DEVICE)
    image = room.as_strided((2, 1, 16, 24), (2**31 + 1024, 0, 24, 1))
    image.copy_(as_bytes(picture(2, 1, 16, 24)))
    same(image, tables(50), spec("gray"))


def through_everything(image: Tensor, entries: Tensor, chosen: Spec) -> tuple[Tensor, ...]:
    out = triton.jpeg(image, entries, chosen)
    levels, _ = triton.encode(image, entries, chosen)
    again = triton.decode(levels, entries, (64, 96), torch.float32, chosen)
    return out, again, *torch.autograd.grad((out * again).square().sum(), (image, entries))


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["gaussian", "identity", "own"])
def test_graph_capture(name: str) -> None:
    image, entries = picture(2, 3, 64, 96).requires_grad_(), tables(50).requires_grad_()
    chosen = spec("4:2:0", surrogate=RECORDS[name])
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        # Triton compiles at the first launch, which a capture does not allow.
        through_everything(image, entries, chosen)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = through_everything(image, entries, chosen)
    with torch.no_grad():
        image.copy_(picture(2, 3, 64, 96))
    graph.replay()
    for a, b in zip(captured, through_everything(image, entries, chosen), strict=True):
        assert torch.equal(a, b)


@pytest.mark.gpu
def test_no_call_waits_for_the_device() -> None:
    image, entries = picture(2, 3, 64, 96).requires_grad_(), tables(50).requires_grad_()
    for record in (surrogates.gaussian(), OWN):
        chosen = spec("4:2:0", surrogate=record)
        through_everything(image, entries, chosen)
        torch.cuda.set_sync_debug_mode("error")
        try:
            through_everything(image, entries, chosen)
            jpegrad.jpeg(image, tables=entries, backend="triton").sum().backward()
        finally:
            torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
def test_compiles_on_the_device() -> None:
    def loss(image: Tensor, entries: Tensor) -> Tensor:
        return (triton.jpeg(image, entries, resolve()) + 1).square().sum()

    image, entries = picture(2, 3, 64, 96).requires_grad_(), tables(50).requires_grad_()
    found, expected = (
        torch.autograd.grad(function(image, entries), (image, entries))
        for function in (torch.compile(loss, fullgraph=True), loss)
    )
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_the_second_device() -> None:
    image, entries = (x.to("cuda:1") for x in (picture(2, 3, 17, 35), tables(50)))
    compare_gradients(image, entries, spec("4:2:0"))


# Four warps a program: 128 registers leave four programs on a multiprocessor, 168 leave three, 255 are all there are.
REGISTERS = {
    "jpeg": 80,
    "jpeg, saving": 104,
    "encode": 104,
    "encode, saving": 104,
    "decode": 80,
    "image": 96,
    "image, saving": 80,
    "gradient": 104,
    "gradient, tables": 128,
    "gradient, odd": 200,
    "encode gradient": 168,
    "decode gradient": 80,
    "stencil": 56,
}


def compiled_offline(*arguments: str) -> dict[str, dict[str, int]]:
    script = Path(__file__).parent / "triton_offline.py"
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, str(script), *arguments]
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-3000:]
    found: dict[str, dict[str, int]] = json.loads(run.stdout)
    return found


# The compiler takes a minute.
@pytest.mark.slow
def test_compiles_for_a_gpu_into_few_registers() -> None:
    found = compiled_offline()
    assert found.keys() == REGISTERS.keys()
    for name, kernel in found.items():
        assert kernel["spilled"] == 0, (name, kernel)
        assert kernel["registers"] <= REGISTERS[name], (name, kernel)


@pytest.mark.slow
def test_every_variant_compiles_for_a_gpu_without_spills() -> None:
    for name, kernel in compiled_offline("--all").items():
        assert kernel["spilled"] == 0, (name, kernel)
