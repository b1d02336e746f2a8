"""The plain backend: its own arithmetic, exhaustively where that is finite, and the choice of it.

The laws of all kernels hold for it too, in the slow tier: ``test_kernels.py``, ``test_kernel_gradients.py``.
"""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

import jpegrad
from jpegrad import backends, notice, surrogates
from jpegrad.backends.native import abi
from jpegrad.backends.plain import blocks, forward, slopes
from kernel_cases import (
    COLORS,
    MODES,
    PLAIN,
    SOFT_RECORDS,
    as_bytes,
    channels,
    compare,
    compare_gradients,
    compare_soft,
    picture,
    sizes,
    soft,
    spec,
    tables,
)


@pytest.mark.parametrize("mode", MODES)
def test_equals_the_reference_with_its_gradients(mode: str) -> None:
    for i, size in enumerate([(1, 1), (3, 4), (17, 35), (40, 65)]):
        image = picture(2, channels(mode), *size)
        qualities = torch.tensor([30.0, 85.0]) if i % 2 else 20.0 * i + 5
        compare(PLAIN, as_bytes(image), tables(qualities), spec(mode))
        chosen = spec(mode, clip_slope=0.25 * (i % 3))
        compare_gradients(PLAIN, image, tables(qualities), chosen, split=i == 3)


@pytest.mark.parametrize("name", SOFT_RECORDS)
def test_the_soft_forward_with_every_record(name: str) -> None:
    for mode, quality, leak in (("4:2:0", 12.0, 0.0), ("4:4:0", 50.0, 0.1), ("gray", 92.0, 0.0)):
        image, chosen = picture(2, channels(mode), 21, 34), soft(mode, clip_slope=leak)
        # Entries that are no integers: the soft forward takes any.
        compare_soft(PLAIN, image, tables(quality) * 1.003, replace(chosen, surrogate=SOFT_RECORDS[name]))


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
def test_the_soft_forward_at_every_size(mode: str) -> None:
    replicate = jpegrad.Decoder(upsampling="replicate")
    for i, size in enumerate(sizes()):
        chosen = soft(mode, clip_slope=1e-3, **({"decoder": replicate} if i % 4 == 3 else {}))
        compare_soft(PLAIN, picture(1, channels(mode), *size), tables(30.0), chosen)


def test_the_soft_forward_of_other_ranges_and_numbers() -> None:
    image = picture(1, 3, 16, 19)
    image[0, :, 3, 3:6] = torch.tensor([torch.nan, torch.inf, -torch.inf])
    for low, high in ((0.0, 1.0), (0.0, 255.0), (-17.3, 1.9)):
        chosen = soft("4:2:0", value_range=(low, high), clip_slope=0.1 * (low < 0))
        compare_soft(PLAIN, low + image * (high - low), tables(50.0), chosen)


@pytest.mark.parametrize("sigma", [0.5, 3.5, 400.0])
@pytest.mark.parametrize("mode", ["4:2:0", "4:1:1", "gray"])
def test_noise_at_the_bounds(mode: str, sigma: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pixels far outside, all of them outside, and at both bounds; in groups, with tables for each picture."""
    monkeypatch.setattr(blocks, "GROUP", 21 * 37 * 2)
    x, chosen = picture(3, channels(mode), 21, 37), soft(mode, surrogate=surrogates.gaussian(sigma))
    compare_soft(
        PLAIN,
        (2 * x - 0.5).clamp(-0.2, 1.2),
        tables(torch.tensor([10.0, 60.0, 95.0])),
        replace(chosen, clip_slope=0.1),
    )
    for image in (0.02 * x + 1.2, -0.1 * x.abs() - 0.1, (x > 0.5) + 0.02 * (x - 0.5)):
        compare_soft(PLAIN, image, tables(40.0), chosen)


@pytest.mark.parametrize("name", COLORS)
def test_the_soft_forward_of_colour_conversions(name: str) -> None:
    compare_soft(PLAIN, picture(1, 3, 33, 20), tables(50.0), soft("4:2:0", color=COLORS[name]))


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
    # Another test may have been told already.
    monkeypatch.setattr(notice, "_told", set())
    image = picture(1, 3, 24, 24)
    assert backends.explain(image)["plain"] == [] != backends.explain(image)["native"]
    expected = jpegrad.jpeg(image, 50, backend="reference")
    with pytest.warns(UserWarning, match="without its compiled kernel"):
        assert torch.equal(jpegrad.jpeg(image, 50), expected)
    monkeypatch.setenv("JPEGRAD_BACKEND", "plain")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(jpegrad.jpeg(image, 50), expected)
