"""Any shape, layout and type; values inside tensors are mapped as documented and never read back to the host."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

import jpegrad
from oracles import libjpeg, pictures
from oracles.libjpeg import MODES

FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
NAN, INF = float("nan"), float("inf")


def picture(channels: int = 3, height: int = 19, width: int = 26, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(pictures.photo(np.random.default_rng(seed), channels, height, width))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("lead", [(), (1,), (4,), (2, 3), (2, 1, 2)], ids=str)
def test_any_leading_dimensions(lead: tuple[int, ...], channels: int) -> None:
    image = torch.rand(*lead, channels, 9, 13)
    out = jpegrad.jpeg(image, 40)
    assert (out.shape, out.dtype) == (image.shape, image.dtype)
    for one, decoded in zip(
        image.reshape(-1, channels, 9, 13), out.reshape(-1, channels, 9, 13), strict=True
    ):
        assert torch.equal(jpegrad.jpeg(one, 40), decoded)


@pytest.mark.parametrize("shape", [(0, 3, 8, 8), (0, 1, 5, 7), (2, 0, 3, 9, 4)], ids=str)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("forward", ["exact", "soft"])
def test_no_images(shape: tuple[int, ...], dtype: torch.dtype, forward: str) -> None:
    image = torch.zeros(shape, dtype=dtype, requires_grad=dtype.is_floating_point)
    quality = torch.full(shape[:-3], 50.0, requires_grad=True)
    out = jpegrad.jpeg(image, quality, forward=forward)
    assert (out.shape, out.dtype) == (image.shape, dtype)
    if dtype.is_floating_point:
        out.sum().backward()
        assert image.grad is not None and image.grad.shape == shape
    coefficients = jpegrad.encode(image, 50)
    assert coefficients.batch_shape == shape[:-3]
    assert jpegrad.decode(coefficients).shape == shape


LAYOUTS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "channels last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "interleaved": lambda x: x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2),
    "transposed": lambda x: x.transpose(-1, -2).contiguous().transpose(-1, -2),
    "strided": lambda x: torch.stack([x, torch.zeros_like(x)], -1).flatten(-2)[..., ::2],
    "flipped twice": lambda x: x.flip(-1).contiguous().flip(-1),
    "sliced": lambda x: torch.nn.functional.pad(x, (3, 2, 1, 4))[..., 1:-4, 3:-2],
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_any_strides(layout: str, dtype: torch.dtype) -> None:
    image = torch.stack([picture(seed=1), picture(seed=2)]).to(dtype)
    other = LAYOUTS[layout](image)
    assert torch.equal(other, image)
    assert torch.equal(
        jpegrad.jpeg(other, 30, value_range=(0, 255)), jpegrad.jpeg(image, 30, value_range=(0, 255))
    )


def test_an_expanded_image_sums_the_gradients() -> None:
    image = torch.rand(3, 11, 9, dtype=torch.float64, requires_grad=True)
    quality = torch.tensor([10.0, 60.0, 95.0])
    cotangent = torch.randn(3, 3, 11, 9, dtype=torch.float64)
    jpegrad.jpeg(image.expand(3, 3, 11, 9), quality).backward(cotangent)
    total = torch.zeros_like(image)
    for q, g in zip(quality, cotangent, strict=True):
        x = image.detach().clone().requires_grad_()
        jpegrad.jpeg(x, q).backward(g)
        assert x.grad is not None
        total += x.grad
    torch.testing.assert_close(image.grad, total)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("forward", ["exact", "soft"])
def test_floating_types_come_back_and_carry_gradients(dtype: torch.dtype, forward: str) -> None:
    image = (picture() / 255).to(dtype).requires_grad_()
    out = jpegrad.jpeg(image, 55, forward=forward)
    out.float().square().sum().backward()
    assert out.dtype == dtype
    assert image.grad is not None and image.grad.dtype == dtype
    assert image.grad.isfinite().all() and (image.grad != 0).any()
    # The exact forward loses what the type of input and output loses; the soft one, in float32, some roundings more.
    reference = jpegrad.jpeg(image.detach().double(), 55, forward=forward)
    assert torch.equal(out, reference.to(dtype)) or forward == "soft"
    roundings = 8 if forward == "soft" and dtype is torch.float32 else 1
    tolerance = roundings * torch.finfo(dtype).eps
    torch.testing.assert_close(out.double(), reference, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("value_range", [(0.0, 1.0), (0, 255), (-1.0, 1.0), (16.0, 235.0)], ids=str)
@pytest.mark.parametrize("dtype", FLOATS)
def test_value_range_names_the_same_grey_levels(value_range: tuple[float, float], dtype: torch.dtype) -> None:
    low, high = value_range
    levels = picture()
    if dtype is torch.bfloat16:
        levels = levels // 2 * 2  # eight bits of mantissa hold half of the levels of (−1, 1)
    image = (low + levels.double() / 255 * (high - low)).to(dtype)
    out = (jpegrad.jpeg(image, 70, value_range=value_range).double() - low) / (high - low) * 255
    if dtype is torch.bfloat16:
        # A step of bfloat16 below 256 is 1 where the range is (0, 255) and 1.2 grey levels in (16, 235).
        assert (out - jpegrad.jpeg(levels, 70).double()).abs().mean() < 1.2
    else:
        assert torch.equal(out.round(), jpegrad.jpeg(levels, 70).double())


def test_uint8_stays_uint8_with_gradients_to_quality() -> None:
    out = jpegrad.jpeg(picture(), 70, value_range=(-1, 1))
    assert out.dtype == torch.uint8
    assert np.array_equal(out.numpy(), libjpeg.pillow(picture().numpy(), 70))
    assert jpegrad.jpeg(picture(), 70, forward="soft").dtype == torch.uint8
    quality = torch.tensor(70.0, requires_grad=True)
    decoded = jpegrad.decode(jpegrad.encode(picture(), quality), dtype=torch.float32)
    decoded.square().sum().backward()
    assert quality.grad is not None and quality.grad != 0


@pytest.mark.parametrize(
    "form",
    ["numpy float", "numpy int", "int", "float", "int tensor", "float64 tensor", "half tensor", "batch"],
)
def test_every_form_of_quality(form: str) -> None:
    image = torch.stack([picture(seed=1), picture(seed=2)])
    quality: Any = {
        "int": 35,
        "numpy float": np.float32(35),
        "numpy int": np.int64(35),
        "float": 35.0,
        "int tensor": torch.tensor(35),
        "float64 tensor": torch.tensor(35.0, dtype=torch.float64),
        "half tensor": torch.tensor(35.0, dtype=torch.float16),
        "batch": torch.tensor([35, 35], dtype=torch.uint8),
    }[form]
    assert np.array_equal(
        jpegrad.jpeg(image, quality)[1].numpy(), libjpeg.pillow(picture(seed=2).numpy(), 35)
    )


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8, torch.float16, torch.float64])
def test_every_type_of_tables(dtype: torch.dtype) -> None:
    tables = jpegrad.tables.annex_k(35).to(dtype)
    expected = jpegrad.jpeg(picture(), 35)
    assert torch.equal(jpegrad.jpeg(picture(), tables=tables), expected)
    assert torch.equal(jpegrad.decode(jpegrad.encode(picture(), tables=tables)), expected)


def test_gradients_have_the_type_and_shape_of_their_tensors() -> None:
    image = torch.rand(2, 3, 3, 8, 8, dtype=torch.float16, requires_grad=True)
    quality = torch.full((3,), 50.0, dtype=torch.float64, requires_grad=True)
    jpegrad.jpeg(image, quality).float().sum().backward()
    assert quality.grad is not None and quality.grad.shape == (3,) and quality.grad.dtype == torch.float64
    tables = jpegrad.tables.annex_k(torch.tensor([[20.0], [70.0]])).requires_grad_()
    jpegrad.jpeg(image, tables=tables).float().sum().backward()
    assert tables.shape == (2, 1, 2, 8, 8)
    assert tables.grad is not None and tables.grad.shape == tables.shape


def test_no_grad_builds_no_graph() -> None:
    image = torch.rand(3, 16, 16, requires_grad=True)
    quality = torch.tensor(50.0, requires_grad=True)
    with torch.no_grad():
        out = jpegrad.jpeg(image, quality)
        coefficients = jpegrad.encode(image, quality)
    assert out.grad_fn is None and not out.requires_grad
    assert not any(level.requires_grad for level in coefficients.levels)
    assert coefficients.unrounded is None
    assert torch.equal(out, jpegrad.jpeg(image, quality).detach())


def test_nothing_is_saved_for_backward_without_grad() -> None:
    saved: list[torch.Tensor] = []

    def pack(x: torch.Tensor) -> torch.Tensor:
        saved.append(x)
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        with torch.no_grad():
            jpegrad.jpeg(torch.rand(3, 16, 16, requires_grad=True), 50)
        assert not saved
        jpegrad.jpeg(torch.rand(3, 16, 16, requires_grad=True), 50)
        assert saved


def test_inference_mode() -> None:
    with torch.inference_mode():
        out = jpegrad.jpeg(torch.rand(3, 16, 16), 50)
    assert out.shape == (3, 16, 16)


@pytest.mark.parametrize("mode", [*MODES, "gray"])
def test_the_image_may_hold_anything(mode: str) -> None:
    channels, subsampling = (1, "4:2:0") if mode == "gray" else (3, mode)
    image = torch.rand(channels, 17, 31)
    values = (NAN, INF, -INF, 1e30, -7.0, 1.01)
    for i, value in enumerate(values):
        image[:, 2 * i, 3] = value
    image.requires_grad_()
    undefined = image.detach().isnan()
    # Behind the soft forward's smoothed clamp what is far outside is not what lies on the bound.
    for forward, becomes in (
        ("exact", (0.0, 1.0, 0.0, 1.0, 0.0, 1.0)),
        ("soft", (0.0, 9.0, -9.0, 9.0, -9.0, 1.01)),
    ):
        clean = image.detach().clone()
        for i, value in enumerate(becomes):
            clean[:, 2 * i, 3] = value
        out = jpegrad.jpeg(image, 50, subsampling=subsampling, forward=forward)
        expected = jpegrad.jpeg(clean, 50, subsampling=subsampling, forward=forward)
        assert torch.equal(out.isnan(), undefined)
        assert torch.equal(out[~undefined], expected[~undefined])
        (gradient,) = torch.autograd.grad(out[~undefined].square().sum(), image)
        assert torch.equal(gradient.isnan(), undefined)


@pytest.mark.parametrize("forward", ["exact", "soft"])
def test_quality_tensors_may_hold_anything(forward: str) -> None:
    quality = torch.tensor([INF, -INF, -3.0, 0.0, 250.0], requires_grad=True)
    legal = torch.tensor([100.0, 1.0, 1.0, 1.0, 100.0])
    image = torch.rand(5, 3, 16, 16)
    out = jpegrad.jpeg(image, quality, forward=forward)
    assert torch.equal(out, jpegrad.jpeg(image, legal, forward=forward))
    out.square().sum().backward()
    assert quality.grad is not None and quality.grad.isfinite().all()


@pytest.mark.parametrize("forward", ["exact", "soft"])
def test_tables_may_hold_anything(forward: str) -> None:
    tables = jpegrad.tables.annex_k(50)
    tables[0, 0, :5] = torch.tensor([INF, -INF, 0.0, -9.0, 1e9])
    legal = tables.clone()
    legal[0, 0, :5] = torch.tensor([255.0, 1.0, 1.0, 1.0, 255.0])
    image = torch.rand(3, 16, 16)
    tables.requires_grad_()
    out = jpegrad.jpeg(image, tables=tables, forward=forward)
    assert torch.equal(out, jpegrad.jpeg(image, tables=legal, forward=forward))
    out.square().sum().backward()
    assert tables.grad is not None and tables.grad.isfinite().all()


@pytest.mark.parametrize("backend", ["reference", "auto"])
@pytest.mark.parametrize("forward", ["exact", "soft"])
def test_edited_coefficients_may_hold_anything(forward: str, backend: str) -> None:
    coefficients = jpegrad.encode(torch.rand(3, 16, 16), tables=jpegrad.tables.annex_k(50))
    for level in coefficients.levels:
        level[0, 0, 0, :5] = torch.tensor([NAN, INF, -INF, 1e30, -1e30])
    coefficients.tables[0, 0, :3] = torch.tensor([NAN, INF, -4.0])
    out = jpegrad.decode(coefficients, forward=forward, backend=backend)
    assert out.isfinite().all()
    assert out.min() >= 0 and out.max() <= 1


class NoHost(TorchDispatchMode):
    """Fails on every operator that reads a value back, or whose shape depends on one."""

    FORBIDDEN = ("_local_scalar_dense", "item", "is_nonzero", "equal", "nonzero", "masked_select", "unique")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.__name__.split(".")[0]
        assert name not in self.FORBIDDEN, f"{name} reads from the device"
        return func(*args, **(kwargs or {}))


def calls(backend: str = "reference") -> None:
    for channels in (1, 3):
        image = torch.rand(2, channels, 17, 9, requires_grad=True)
        quality = torch.rand(2, requires_grad=True)
        for forward in ("exact", "soft"):
            out = jpegrad.jpeg(image, quality, forward=forward, backend=backend)
            out.sum().backward()
        tables = torch.rand(2, 2, 8, 8, requires_grad=True)
        coefficients = jpegrad.encode(image, tables=tables, color=None, backend=backend)
        jpegrad.decode(coefficients, backend=backend).sum().backward()
    jpegrad.nn.RandomJPEG((10, 90), p=0.5, backend=backend)(torch.rand(4, 3, 8, 8))


def test_nothing_is_read_back_to_the_host() -> None:
    with NoHost():
        calls()
    with pytest.raises(AssertionError, match="reads from the device"), NoHost():
        torch.ones(1).item()


def test_shapes_alone_are_enough() -> None:
    with FakeTensorMode():
        calls()


def test_coefficients_show_their_shape_not_their_numbers() -> None:
    coefficients = jpegrad.encode(torch.rand(2, 3, 9, 7), 50)
    assert repr(coefficients) == (
        "Coefficients(size=(9, 7), subsampling='4:2:0', channels=3, batch=[2], tables=[2, 8, 8], forward='exact')"
    )
