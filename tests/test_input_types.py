"""What users bring: qualities and tables in any form, subclasses, layouts, counts of channels; a missing kernel."""

import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import jpegrad
from test_inputs import BACKENDS


@pytest.mark.parametrize(
    "quality",
    [[20, 70], (20.0, 70.0), np.array([20, 70]), np.array([20, 70], np.float32), torch.tensor([20, 70])],
    ids=["list", "tuple", "integers", "float32", "tensor"],
)
def test_qualities_in_any_form(quality: Any) -> None:
    image = torch.rand(2, 3, 16, 16)
    expected = torch.stack([jpegrad.jpeg(image[0], 20), jpegrad.jpeg(image[1], 70)])
    assert torch.equal(jpegrad.jpeg(image, quality), expected)


@pytest.mark.parametrize("form", ["as it multiplies", "in a row", "of one picture", "of one picture, a list"])
def test_qualities_in_any_shape(form: str) -> None:
    image, quality = torch.rand(2, 3, 3, 16, 16), torch.tensor([[20.0, 70.0, 80.0], [30.0, 40.0, 50.0]])
    expected = jpegrad.jpeg(image, quality)
    if form == "as it multiplies":
        assert torch.equal(jpegrad.jpeg(image, quality[..., None, None, None]), expected)
    elif form == "in a row":
        row = quality.flatten().requires_grad_()
        out = jpegrad.jpeg(image, row)
        assert torch.equal(out, expected)
        out.sum().backward()
        assert row.grad is not None and row.grad.shape == (6,)
    else:
        one: Any = quality[0, :1] if form == "of one picture" else [20]
        assert torch.equal(jpegrad.jpeg(image[0, 0], one), expected[0, 0])


@pytest.mark.parametrize("channels", [1, 3])
def test_tables_in_any_form(channels: int) -> None:
    image, table = torch.rand(2, channels, 16, 16), jpegrad.tables.annex_k(40)[0]
    expected = jpegrad.jpeg(image, tables=table.expand(2, 8, 8))
    for form in (
        table,
        table[None],
        table.numpy(),
        table.int().numpy(),
        table.int().tolist(),
        table.expand(2, 1, 8, 8),
    ):
        assert torch.equal(jpegrad.jpeg(image, tables=form), expected)
    coefficients = jpegrad.encode(image, tables=table.requires_grad_())
    assert torch.equal(jpegrad.decode(coefficients), expected)
    (gradient,) = torch.autograd.grad(jpegrad.decode(coefficients).sum(), table)
    assert gradient.shape == (8, 8)


class Plain(torch.Tensor):
    """A subclass as anyone writes it."""


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_subclasses_stay_what_they_are(dtype: torch.dtype, backend: str) -> None:
    image = (255 * torch.rand(3, 16, 16)).to(dtype)
    options: dict[str, Any] = {"value_range": (0, 255), "backend": backend}
    expected = jpegrad.jpeg(image, 50, **options)
    out = jpegrad.jpeg(image.as_subclass(Plain), 50, **options)
    assert type(out) is Plain and torch.equal(out.as_subclass(Tensor), expected)
    assert type(jpegrad.encode(image.as_subclass(Plain), 50, **options).levels[0]) is Tensor
    if dtype is torch.float32:
        parameter = torch.nn.Parameter(image)
        out = jpegrad.jpeg(parameter, 50, **options)
        assert type(out) is Tensor and out.requires_grad
        wrapped = image.clone().requires_grad_()
        jpegrad.jpeg(wrapped.as_subclass(Plain), 50, **options).sum().backward()
        assert wrapped.grad is not None


def test_images_and_videos_of_torchvision() -> None:
    tv_tensors = pytest.importorskip("torchvision.tv_tensors")
    image = tv_tensors.Image(torch.rand(3, 16, 16))
    out = jpegrad.jpeg(image, 50)
    assert type(out) is tv_tensors.Image
    assert torch.equal(out.as_subclass(Tensor), jpegrad.jpeg(image.as_subclass(Tensor), 50))
    assert type(jpegrad.jpeg(tv_tensors.Video(torch.rand(4, 3, 16, 16)), 50)) is tv_tensors.Video


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("channels", [1, 3])
def test_channels_last_comes_back_so(channels: int, dtype: torch.dtype, backend: str) -> None:
    image = (255 * torch.rand(2, channels, 17, 16)).to(dtype)
    options: dict[str, Any] = {"value_range": (0, 255), "backend": backend}
    out = jpegrad.jpeg(image.contiguous(memory_format=torch.channels_last), 50, **options)
    assert out.is_contiguous(memory_format=torch.channels_last)
    expected = jpegrad.jpeg(image, 50, **options)
    assert expected.is_contiguous() and torch.equal(out, expected)


def test_tuning_takes_a_range_per_channel(photo: Tensor) -> None:
    image = photo[:, 64:128, 64:144]
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
    a, b = (torch.tensor(x)[:, None, None] for x in (mean, std))
    normal, value_range = (image / 255 - a) / b, jpegrad.inputs.normalized(mean, std)
    options: dict[str, Any] = {"target": jpegrad.tune.Bytes(2500), "steps": 2}
    found = jpegrad.tune.compress(normal, value_range=value_range, **options)
    expected = jpegrad.tune.compress(image, **options)
    assert found.loss == pytest.approx(expected.loss, rel=0.02)
    reports = [
        jpegrad.tune.report(jpegrad.decode(found.coefficients), normal, value_range=value_range),
        jpegrad.tune.report(jpegrad.decode(found.coefficients, dtype=torch.uint8), image),
    ]
    assert reports[0]["psnr"] == pytest.approx(reports[1]["psnr"], rel=1e-4)
    with pytest.raises(ValueError, match="3 channels, got 2"):
        jpegrad.tune.compress(normal, value_range=((0, 1), (2, 3)), **options)


# Counts of channels.


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
@pytest.mark.parametrize("lead", [(), (2,)], ids=str)
@pytest.mark.parametrize("count", [1, 2, 3, 10])
def test_planes(count: int, lead: tuple[int, ...], dtype: torch.dtype) -> None:
    image = (255 * torch.rand(*lead, count, 17, 23)).to(dtype)
    quality = torch.full(lead, 40.0)
    out = jpegrad.jpeg(image, quality, channels="planes", value_range=(0, 255))
    assert out.shape == image.shape and out.dtype == dtype
    for i in range(count):
        plane = image[..., i : i + 1, :, :]
        assert torch.equal(out[..., i : i + 1, :, :], jpegrad.jpeg(plane, 40, value_range=(0, 255)))
    tables = jpegrad.tables.annex_k(quality)
    assert torch.equal(jpegrad.jpeg(image, tables=tables, channels="planes", value_range=(0, 255)), out)


def test_planes_with_a_range_each() -> None:
    image = torch.rand(2, 4, 16, 16)
    low, high = torch.tensor([0.0, -1.0, 3.0, 0.0]), torch.tensor([1.0, 1.0, 4.0, 9.0])
    span = (high - low)[:, None, None]
    out = jpegrad.jpeg(low[:, None, None] + image * span, 60, channels="planes", value_range=(low, high))
    expected = jpegrad.jpeg(image, 60, channels="planes")
    torch.testing.assert_close((out - low[:, None, None]) / span, expected, atol=0.2 / 255, rtol=0)


@pytest.mark.parametrize("count", [2, 4])
def test_alpha_stays(count: int) -> None:
    image = torch.rand(2, count, 16, 16, requires_grad=True)
    out = jpegrad.jpeg(image, [20, 80], channels="alpha")
    assert torch.equal(out[:, -1], image[:, -1])
    assert torch.equal(out[:, :-1], jpegrad.jpeg(image[:, :-1], [20, 80]))
    (gradient,) = torch.autograd.grad(out.sum(), image)
    assert (gradient[:, -1] == 1).all()


# A missing kernel.

QUIET = """
import warnings, torch
warnings.simplefilter("error")
import jpegrad
image = torch.rand(3, 16, 16)
jpegrad.jpeg(image, 50, backend="reference")
jpegrad.jpeg(image.double(), 50)
"""
LOUD = """
for _ in range(2):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        {call}
    print(len(caught), *(warning.message for warning in caught))
"""


@pytest.mark.parametrize("call", ["jpegrad.jpeg(image, 50)", "jpegrad.bits(jpegrad.encode(image, 50))"])
def test_without_the_kernel_it_says_so_once(call: str, tmp_path: Any) -> None:
    def output(**environment: str) -> list[str]:
        found = subprocess.run(
            [sys.executable, "-c", QUIET + LOUD.format(call=call)],
            env={**_environment(), **environment},
            capture_output=True,
            text=True,
            check=True,
        )
        return found.stdout.splitlines()

    missing = str(tmp_path / "none.so")
    first, second = output(JPEGRAD_NATIVE_LIBRARY=missing)
    assert first.startswith("1 jpegrad runs without its compiled kernel") and second == "0"
    assert output(JPEGRAD_NATIVE_LIBRARY=missing, JPEGRAD_BACKEND="reference") == ["0", "0"]


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("JPEGRAD")}
