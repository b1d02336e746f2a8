"""The exact forward against Pillow and OpenCV, and each integer stage against integers: no sample may differ."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch

import jpegrad
from jpegrad import backends
from jpegrad.spec import JFIF, Spec
from jpegrad.stages import color, quant
from oracles import libjpeg, pictures
from oracles.libjpeg import MODES, PILLOW_MODES

Tally = Callable[[np.ndarray, np.ndarray], None]
Codec = Callable[..., np.ndarray]

# Every rule of the scaling: both formulas, the clip at either end, the published kinks.
QUALITIES = (
    1,
    2,
    3,
    5,
    7,
    10,
    16,
    23,
    25,
    30,
    33,
    40,
    49,
    50,
    51,
    60,
    68,
    75,
    80,
    85,
    90,
    93,
    95,
    96,
    98,
    99,
    100,
)
SIZES = (
    (1, 1),
    (1, 9),
    (9, 1),
    (2, 2),
    (3, 4),
    (4, 3),
    (5, 5),
    (7, 8),
    (8, 7),
    (15, 17),
    (16, 16),
    (17, 31),
    (33, 35),
)
BACKENDS = [
    name
    for name in backends.ORDER
    if name == "reference"
    or not backends.reasons(name, "jpeg", torch.zeros(3, 8, 8, dtype=torch.uint8), Spec())
]
CODERS = [("pillow", mode) for mode in (*PILLOW_MODES, "gray")] + [
    ("opencv", mode) for mode in (*MODES, "gray")
]

every_backend = pytest.mark.parametrize(
    "backend",
    [pytest.param(name, marks=[pytest.mark.slow] if name == "plain" else []) for name in BACKENDS],
)
every_coder = pytest.mark.parametrize(("library", "mode"), CODERS)


def channels(mode: str) -> int:
    return 1 if mode == "gray" else 3


def subsampling(mode: str) -> str:
    return "4:2:0" if mode == "gray" else mode


def round_trips(library: str, mode: str, batch: Sequence[np.ndarray], qualities: Sequence[int]) -> np.ndarray:
    codec = getattr(libjpeg, library)
    return np.stack([codec(x, q, subsampling(mode)) for x, q in zip(batch, qualities, strict=True)])


def ours(
    batch: Sequence[np.ndarray], mode: str, backend: str, quality: object = None, **options: object
) -> np.ndarray:
    image = torch.from_numpy(np.stack(batch))
    return jpegrad.jpeg(image, quality, subsampling=subsampling(mode), backend=backend, **options).numpy()


@every_backend
@every_coder
def test_every_quality_on_photographs_and_extremes(
    library: str, mode: str, backend: str, tally: Tally
) -> None:
    random = np.random.default_rng(1)
    for kind in pictures.KINDS.values():
        batch = [kind(random, channels(mode), 23, 35) for _ in QUALITIES]
        tally(
            ours(batch, mode, backend, torch.tensor(QUALITIES)), round_trips(library, mode, batch, QUALITIES)
        )


@every_backend
@every_coder
def test_odd_and_tiny_sizes(library: str, mode: str, backend: str, tally: Tally) -> None:
    random = np.random.default_rng(2)
    qualities = (1, 8, 25, 50, 75, 92, 100)
    for height, width in SIZES:
        batch = [kind(random, channels(mode), height, width) for kind in pictures.KINDS.values()]
        tally(
            ours(batch, mode, backend, torch.tensor(qualities)), round_trips(library, mode, batch, qualities)
        )


@every_backend
@pytest.mark.parametrize("mode", MODES)
def test_whole_photographs(mode: str, backend: str, photographs: dict[str, np.ndarray], tally: Tally) -> None:
    for pixels, quality in zip(photographs.values(), (5, 30, 60, 75, 90, 97), strict=True):
        picture = np.ascontiguousarray(pixels.transpose(2, 0, 1))
        tally(ours([picture], mode, backend, quality)[0], libjpeg.opencv(picture, quality, mode))


@every_backend
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_floating_point_images_are_the_same_codec(dtype: torch.dtype, backend: str, tally: Tally) -> None:
    picture = pictures.photo(np.random.default_rng(3), 3, 41, 43)
    image = torch.from_numpy(picture).to(dtype) / 255
    if backend != "reference" and dtype is torch.float64:
        with pytest.raises(ValueError, match="the image is float64"):
            jpegrad.jpeg(image, 60, backend=backend)
        backend = "auto"
    coded = jpegrad.jpeg(image, 60, backend=backend)
    tally((coded * 255).round().numpy(), libjpeg.pillow(picture, 60))


@every_backend
@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("mode", [*PILLOW_MODES, "gray"])
def test_custom_tables_one_set_per_image(mode: str, count: int, backend: str, tally: Tally) -> None:
    random = np.random.default_rng(4)
    tables = random.integers(1, 256, (12, count, 8, 8))
    tables[0], tables[1] = 255, 1
    batch = [kind(random, channels(mode), 21, 37) for kind in 2 * list(pictures.KINDS.values())][
        : len(tables)
    ]
    expected = [
        libjpeg.pillow(x, None, subsampling(mode), t.reshape(count, 64).tolist())
        for x, t in zip(batch, tables, strict=True)
    ]
    found = ours(batch, mode, backend, tables=torch.from_numpy(tables).to(torch.float32))
    tally(found, np.stack(expected))


@every_backend
def test_a_quality_for_luma_and_one_for_chroma(backend: str, tally: Tally) -> None:
    # OpenCV leaves chroma unsampled when the two qualities differ, whatever mode it is asked for.
    random = np.random.default_rng(5)
    batch = [kind(random, 3, 29, 19) for kind in pictures.KINDS.values()]
    tables = torch.stack([jpegrad.tables.annex_k(35)[0], jpegrad.tables.annex_k(80)[1]])
    expected = np.stack([libjpeg.opencv(x, 35, "4:4:4", chroma_quality=80) for x in batch])
    tally(ours(batch, "4:4:4", backend, tables=tables), expected)


@every_backend
@pytest.mark.parametrize("mode", [*PILLOW_MODES, "gray"])
def test_fractional_qualities_follow_the_formula(mode: str, backend: str, tally: Tally) -> None:
    random = np.random.default_rng(6)
    qualities = (1.5, 3.25, 9.9, 12.5, 33.3, 49.5, 49.99, 50.5, 74.75, 88.125, 99.5)
    batch = [pictures.photo(random, channels(mode), 24, 40) for _ in qualities]
    expected = [
        libjpeg.pillow(x, None, subsampling(mode), scaled(q).reshape(2, 64).tolist())
        for x, q in zip(batch, qualities, strict=True)
    ]
    quality = torch.tensor(qualities, dtype=torch.float64)
    tally(ours(batch, mode, backend, quality), np.stack(expected))


def scaled(quality: float) -> np.ndarray:
    """Annex K, out of a file at quality 50, scaled by libjpeg's formula."""
    percent = np.floor(5000 / quality) if quality < 50 else 200 - 2 * quality
    return np.floor((libjpeg.pillow_tables(50) * percent + 50) / 100).clip(1, 255).astype(int)


@every_backend
@every_coder
def test_encode_then_decode_is_the_same(library: str, mode: str, backend: str, tally: Tally) -> None:
    random = np.random.default_rng(7)
    qualities = (4, 20, 45, 70, 85, 94, 100)
    batch = [kind(random, channels(mode), 23, 18) for kind in pictures.KINDS.values()]
    image = torch.from_numpy(np.stack(batch))
    coefficients = jpegrad.encode(
        image, torch.tensor(qualities), subsampling=subsampling(mode), backend=backend
    )
    decoded = jpegrad.decode(coefficients, backend=backend)
    tally(decoded.numpy(), round_trips(library, mode, batch, qualities))


def test_tables_of_every_quality() -> None:
    expected = np.stack([libjpeg.pillow_tables(q) for q in range(1, 101)])
    assert np.array_equal(jpegrad.tables.annex_k(torch.arange(1, 101)).numpy(), expected)
    assert np.array_equal(jpegrad.tables.annex_k(torch.arange(1.0, 101)).numpy(), expected)
    for quality in range(1, 101):
        assert np.array_equal(jpegrad.tables.annex_k(quality).numpy(), expected[quality - 1])


@pytest.mark.parametrize("first", range(1, 256, 51))
def test_quantiser_for_every_table_entry(first: int) -> None:
    # Coefficients are multiples of 1/8; 8-bit samples reach at most ±1024 · 8, tested to twice that.
    eighths = torch.arange(-16384, 16385)
    for entry in range(first, first + 51):
        divisor = 8 * entry
        expected = eighths.sign() * ((eighths.abs() + divisor // 2) // divisor)
        found = quant.quantize_exact(eighths.double() / 8, torch.tensor(float(entry), dtype=torch.float64))
        assert torch.equal(found.long(), expected), entry


def ycbcr(rgb: torch.Tensor) -> torch.Tensor:
    """jccolor.c in int64, [3, N]."""
    r, g, b = rgb.long()
    y = (19595 * r + 38470 * g + 7471 * b + 32768) >> 16
    cb = (-11059 * r - 21709 * g + 32768 * b + 8388608 + 32767) >> 16
    cr = (32768 * r - 27439 * g - 5329 * b + 8388608 + 32767) >> 16
    return torch.stack([y, cb, cr])


def rgb(ycc: torch.Tensor) -> torch.Tensor:
    """jdcolor.c in int64, [3, N]."""
    y, cb, cr = ycc.long() - torch.tensor([[0], [128], [128]])
    red = y + ((91881 * cr + 32768) >> 16)
    green = y + ((-22554 * cb - 46802 * cr + 32768) >> 16)
    blue = y + ((116130 * cb + 32768) >> 16)
    return torch.stack([red, green, blue]).clamp(0, 255)


def check_colors(colors: torch.Tensor) -> None:
    def tensor(x: object) -> torch.Tensor:
        return torch.as_tensor(x, dtype=torch.float64)

    planes = colors.double().reshape(3, 1, -1)
    found = color.to_ycbcr_exact(planes, tensor(JFIF.matrix), tensor(JFIF.offset))
    assert torch.equal(found.long().reshape(3, -1), ycbcr(colors))
    found = color.to_rgb_exact(planes, tensor(JFIF.inverse), tensor(JFIF.offset)).clamp(0, 255)
    assert torch.equal(found.long().reshape(3, -1), rgb(colors))


def test_colour_conversion_on_a_grid() -> None:
    levels = torch.tensor([*range(0, 256, 5), 127, 128, 1, 254])
    check_colors(torch.cartesian_prod(levels, levels, levels).T)


@pytest.mark.slow
@pytest.mark.parametrize("red", range(0, 256, 16))
def test_colour_conversion_of_every_colour(red: int) -> None:
    every = torch.arange(256)
    check_colors(torch.cartesian_prod(torch.arange(red, red + 16), every, every).T)


@pytest.mark.slow
@every_backend
@every_coder
def test_every_size(library: str, mode: str, backend: str, tally: Tally) -> None:
    random = np.random.default_rng(8)
    for height in range(1, 41):
        for width in range(1, 41):
            batch = [kind(random, channels(mode), height, width) for kind in pictures.KINDS.values()]
            qualities = random.integers(1, 101, len(batch)).tolist()
            tally(
                ours(batch, mode, backend, torch.tensor(qualities)),
                round_trips(library, mode, batch, qualities),
            )


@pytest.mark.slow
@every_backend
@every_coder
def test_all_hundred_qualities(library: str, mode: str, backend: str, tally: Tally) -> None:
    random = np.random.default_rng(9)
    qualities = range(1, 101)
    for kind in pictures.KINDS.values():
        for height, width in ((40, 56), (19, 37), (64, 64)):
            batch = [kind(random, channels(mode), height, width) for _ in qualities]
            tally(
                ours(batch, mode, backend, torch.tensor(qualities)),
                round_trips(library, mode, batch, qualities),
            )
