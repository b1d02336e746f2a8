"""What is particular to the native kernel: its borders and shortcuts, and the instruction sets that it is built for."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from jpegrad import surrogates
from jpegrad.backends import native
from jpegrad.backends.fused.settings import settings_of
from jpegrad.backends.native import kernels
from kernel_cases import NATIVE, close, compare_gradients, picture, spec, tables

pytestmark = NATIVE.marks


@pytest.mark.parametrize("width", range(1, 20))
def test_chroma_clamped_up_to_the_border(width: int) -> None:
    """Pure red beside pure blue: the coarse coefficients of chroma overshoot 0…255 in every column."""
    generator = torch.Generator().manual_seed(width)
    red = (torch.rand(4, 24, width, generator=generator) < 0.5).float()
    image, chosen = torch.stack([red, torch.zeros_like(red), 1 - red], 1), spec("4:4:4")
    settings = settings_of(chosen, 3, kernels)
    _, (_, clamped, _) = torch.ops.jpegrad.native_jpeg(image, tables(10)[None], settings, True, False)
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
def test_the_instruction_set_of_every_machine() -> None:
    if os.environ.get("JPEGRAD_NATIVE") == "baseline":
        pytest.skip("this is it")
    laws = [Path(__file__).with_name(f"test_{name}.py") for name in ("kernels", "kernel_gradients")]
    selected = "every_size or every_mode or value_ranges or levels_and_decoding or no_picture or colour"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *map(str, laws)]
    run = subprocess.run(
        [*command, "-k", f"native and ({selected})"],
        env={**os.environ, "JPEGRAD_NATIVE": "baseline"},
        capture_output=True,
        text=True,
    )
    assert run.returncode == 0, run.stdout[-3000:]
