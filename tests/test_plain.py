"""The plain backend: its own arithmetic, exhaustively where that is finite, and the choice of it.

The laws of all kernels hold for it too, in the slow tier: ``test_kernels.py``, ``test_kernel_gradients.py``.
"""

import warnings

import numpy as np
import pytest
import torch

import jpegrad
from jpegrad import backends
from jpegrad.backends import plain, reference
from jpegrad.backends.native import abi
from jpegrad.backends.plain import blocks, forward, slopes
from kernel_cases import (
    MODES,
    PLAIN,
    as_bytes,
    channels,
    close,
    compare,
    compare_gradients,
    picture,
    spec,
    tables,
)
from test_native_soft import GRADIENTS, VALUES, outcome, soft
from test_native_soft import RECORDS as SOFT_RECORDS


@pytest.mark.parametrize("mode", MODES)
def test_equals_the_reference_with_its_gradients(mode: str) -> None:
    for i, size in enumerate([(1, 1), (3, 4), (17, 35), (40, 65)]):
        image = picture(2, channels(mode), *size)
        qualities = torch.tensor([30.0, 85.0]) if i % 2 else 20.0 * i + 5
        compare(PLAIN, as_bytes(image), tables(qualities), spec(mode))
        chosen = spec(mode, clip_slope=0.25 * (i % 3))
        compare_gradients(PLAIN, image, tables(qualities), chosen, split=i == 3)


@pytest.mark.parametrize("name", SOFT_RECORDS)
def test_the_soft_forward(name: str) -> None:
    for mode, quality, leak in (("4:2:0", 12.0, 0.0), ("4:4:0", 50.0, 0.1), ("gray", 92.0, 0.0)):
        image, entries = picture(2, channels(mode), 21, 34), tables(quality) * 1.003
        chosen = soft(mode, surrogate=SOFT_RECORDS[name], clip_slope=leak)
        found = outcome(plain, image, entries, chosen)
        expected = outcome(reference, image.double(), entries, chosen)
        assert (found[0] - expected[0]).abs().max() < VALUES
        for a, b in zip(found[1:], expected[1:], strict=True):
            close(a, b, GRADIENTS, least=1e-3)


def test_several_groups_of_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "GROUP", 1000)
    compare_gradients(PLAIN, picture(5, 3, 20, 24), tables(torch.linspace(10, 90, 5)), spec("4:2:0"))


def test_every_coefficient_and_table_entry() -> None:
    coefficients = torch.arange(-(2**15), 2**15, dtype=torch.int32)
    whole = coefficients.numpy()
    for entry in range(1, 256):
        found = forward.levels(coefficients, torch.tensor(float(entry)))
        expected = np.sign(whole) * ((np.abs(whole) + 4 * entry) // (8 * entry))
        assert np.array_equal(found.numpy(), expected)


def _check_rounding(first: int, last: int) -> None:
    """Of 255·x, for all x in float32 between two of their bit patterns."""
    x = torch.arange(first, last, dtype=torch.int32).view(torch.float32)
    assert torch.equal(forward._rounded_unit(x), (255 * x.double()).round().float())


@pytest.mark.parametrize("aligned", [True, False])
def test_rounding_next_to_every_tie(aligned: bool) -> None:
    """In whole vectors and in single numbers, which PyTorch computes by other code."""
    for grey in range(255):
        tie = int(torch.tensor((grey + 0.5) / 255).view(torch.int32))
        for start in (tie - 32,) if aligned else range(tie - 3, tie + 4):
            _check_rounding(start, start + (64 if aligned else 1))


@pytest.mark.slow
def test_rounding_of_every_number_from_0_to_1() -> None:
    end, step = int(torch.tensor(1.0).view(torch.int32)) + 1, 2**24
    for first in range(0, end, step):
        _check_rounding(first, min(first + step, end))


@pytest.mark.parametrize("width", [0.005, 0.05, 0.16, 0.17, 0.25, 0.3, 0.35, 0.6, 1.0, 3.0])
def test_the_density_of_thresholds_is_the_published_one(width: float) -> None:
    r = torch.linspace(-0.5, 0.5, 2001)
    found = slopes._spikes(r, torch.tensor(1 / width))
    expected = jpegrad.formulas.smoothed_slope(r.double(), torch.tensor(width).double())
    torch.testing.assert_close(found.double(), expected, rtol=3e-5, atol=1e-6 * float(expected.max()))


def test_it_serves_where_no_kernel_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(abi, "load", lambda: "the native kernel is not built")
    image = picture(1, 3, 24, 24)
    assert backends.explain(image)["plain"] == [] != backends.explain(image)["native"]
    expected = jpegrad.jpeg(image, 50, backend="reference")
    with pytest.warns(UserWarning, match="without its compiled kernel"):
        assert torch.equal(jpegrad.jpeg(image, 50), expected)
    monkeypatch.setenv("JPEGRAD_BACKEND", "plain")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(jpegrad.jpeg(image, 50), expected)
