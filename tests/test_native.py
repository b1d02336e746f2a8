"""What is particular to the native kernel: its borders and shortcuts, and the instruction sets that it is built for."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from jpegrad import surrogates
from jpegrad.backends import native
from jpegrad.backends.fused.settings import parse, settings_of
from jpegrad.backends.native import kernels
from kernel_cases import NATIVE, close, compare_gradients, picture, spec, tables
from tests.fuzz.native import parts_of

pytestmark = NATIVE.marks


@pytest.mark.parametrize("width", range(1, 20))
def test_chroma_clamped_up_to_the_border(width: int) -> None:
    """Pure red beside pure blue: the coarse coefficients of chroma overshoot 0…255 in every column."""
    generator = torch.Generator().manual_seed(width)
    red = (torch.rand(4, 24, width, generator=generator) < 0.5).float()
    image, chosen = torch.stack([red, torch.zeros_like(red), 1 - red], 1), spec("4:4:4")
    settings = settings_of(chosen, 3, kernels)
    _, (kept,) = torch.ops.jpegrad.native_jpeg(image, tables(10)[None], settings, True, False)
    *_, clamped = parts_of(kept, kernels.parts(image.shape[1:], parse(settings), False))
    assert clamped.any(1).any(0).any(0).all()
    compare_gradients(NATIVE, image, tables(10), chosen)


@pytest.mark.parametrize("sigma", [0.3, 1.0, 2.0])
@pytest.mark.parametrize("horizontal", [True, False])
def test_few_columns_up_to_the_border_have_a_slope(sigma: float, horizontal: bool) -> None:
    """Without a gradient to tables, columns of coefficients far from every threshold are left out."""
    wave = torch.cos(torch.arange(40.0)[:, None] * torch.linspace(0.1, 3.0, 24)).mul(0.4).add(0.5)
    plane = wave.T if horizontal else wave
    chosen = spec("4:2:0", surrogate=surrogates.gaussian(sigma))
    compare_gradients(NATIVE, plane.expand(1, 3, *plane.shape), tables(10), chosen, to_tables=False)


def test_slope_one_needs_no_transform() -> None:
    image, entries = picture(1, 3, 40, 50).requires_grad_(), tables(50)
    chosen = spec("4:2:0", surrogate=surrogates.identity)
    weight = torch.randn(image.shape)
    (stencil,) = torch.autograd.grad((native.jpeg(image, entries, chosen) * weight).sum(), image)
    with_tables = native.jpeg(image, entries.requires_grad_(), chosen)
    (transformed,) = torch.autograd.grad((with_tables * weight).sum(), image)
    close(stencil, transformed)


@pytest.mark.slow
@pytest.mark.parametrize("kernel", ["avx2", "baseline"])
def test_the_instruction_sets_of_other_machines(kernel: str) -> None:
    if os.environ.get("JPEGRAD_NATIVE") in ("avx2", "baseline"):
        pytest.skip("this is one")
    laws = [Path(__file__).with_name(f"test_{name}.py") for name in ("kernels", "kernel_gradients")]
    selected = "every_size or every_mode or value_ranges or levels_and_decoding or no_picture or colour"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *map(str, laws)]
    run = subprocess.run(
        [*command, "-k", f"native and ({selected})"],
        env={**os.environ, "JPEGRAD_NATIVE": kernel},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout[-3000:]


@pytest.mark.parametrize("forward", ["exact", "soft"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_numbers_of_16_bits(dtype: torch.dtype, forward: str) -> None:
    """What float32 gives, rounded: any strides, and numbers that are small, infinite or none."""
    image = picture(2, 3, 37, 53) * 1.1
    image[0, 0, 0, :6] = torch.tensor([1e-6, 6e-8, -3e-5, torch.inf, -torch.inf, torch.nan])
    image, weight = image.to(dtype), (torch.randn(image.shape) * 1e-3).to(dtype)
    weight[0, 0, 5, :3] = torch.tensor([torch.inf, 3e-8, -7e4]).to(dtype)
    for mode, given in (("4:2:0", image), ("4:4:4", image.to(memory_format=torch.channels_last))):
        chosen = spec(mode, forward=forward)
        results = []
        for x in (given, given.float()):
            leaf = x.clone().requires_grad_()
            out = native.jpeg(leaf, tables(50), chosen)
            (gradient,) = torch.autograd.grad(out, leaf, weight.to(out.dtype))
            results.append((out.detach().to(dtype), gradient.to(dtype)))
        for found, expected in zip(*results, strict=True):
            assert found.dtype is dtype
            torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)


def test_every_number_of_16_bits() -> None:
    bits = torch.arange(1 << 16, dtype=torch.int32).to(torch.int16).reshape(1, 1, 256, 256)
    chosen = spec("gray", surrogate=surrogates.identity)
    for dtype in (torch.float16, torch.bfloat16):
        weight = bits.view(dtype)
        image = torch.where((weight >= 0) & (weight <= 1), weight, 0.25)
        leaf, wide = image.clone().requires_grad_(), image.float().requires_grad_()
        out, expected = (native.jpeg(x, tables(50), chosen) for x in (leaf, wide))
        assert torch.equal(out, expected.to(dtype))
        (found,) = torch.autograd.grad(out, leaf, weight)
        (gradient,) = torch.autograd.grad(expected, wide, weight.float())
        torch.testing.assert_close(found, gradient.to(dtype), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("forward", ["exact", "soft"])
def test_numbers_of_16_bits_are_not_copied_to_32(forward: str) -> None:
    image = torch.rand(1, 3, 256, 320).half().requires_grad_()
    chosen = spec("4:2:0", forward=forward)
    with torch.profiler.profile(profile_memory=True) as profile:
        out = native.jpeg(image, tables(50), chosen)
        torch.autograd.grad(out, image, torch.ones_like(out))
    # The result, its weights and the gradient have 6 bytes per pixel each; the rest is kept for the backward pass.
    settings = parse(settings_of(chosen, 3, kernels))
    kept = sum(x.nbytes for x in kernels.saved(image, settings, False))
    allocated = sum(max(event.self_cpu_memory_usage, 0) for event in profile.events())
    assert kept + 18 * 256 * 320 <= allocated < kept + 19 * 256 * 320
