"""The Triton kernels' values against the reference's: 0 differing samples."""

import pytest
import torch

from jpegrad.backends import reference, triton
from jpegrad.backends.triton import kernels
from jpegrad.spec import Color
from triton_cases import (
    DEVICE,
    MARKS,
    MODES,
    OWN,
    as_bytes,
    channels,
    interpreted,
    picture,
    same,
    spec,
    tables,
)

pytestmark = MARKS
__all__ = ["interpreted"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [(1, 1), (5, 4), (31, 17), (40, 65)])
def test_equals_the_reference(mode: str, size: tuple[int, int]) -> None:
    image = picture(1, channels(mode), *size)
    same(as_bytes(image) if sum(size) % 2 else image, tables(float(size[1] + 30)), spec(mode))


def test_tables_of_every_image_and_the_extreme_qualities() -> None:
    same(picture(4, 3, 17, 19), tables(torch.tensor([1.0, 10.0, 99.0, 100.0]), 3), spec("4:2:0"))


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


def test_the_quantizer_divides_exactly() -> None:
    # Every coefficient by every table entry.
    from triton_probe import level_kernel

    entries = torch.arange(1, 256, dtype=torch.float64, device=DEVICE)
    steps, reciprocals = kernels.entries(entries)
    found = torch.empty(255, 65536, dtype=torch.int32, device=DEVICE)
    level_kernel[(255, 8)](steps, reciprocals, found, COUNT=8192, enable_fp_fusion=False)
    c = torch.arange(-32768, 32768, device=DEVICE)
    for step, row in enumerate(found, 1):
        assert torch.equal(row, c.sign() * ((c.abs() + 4 * step) // (8 * step))), step


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
