"""Four components, and which space of colours ``decode`` gives."""

import io
import itertools

import numpy as np
import pytest
import torch
from PIL import Image

import jpegrad
from corpus import corpus, inks, noise, picture, pillow, pillow_pixels, tensor, ycck
from jpegrad import backends
from jpegrad.spec import CMYK, JFIF, RGB, Color

SIZES = [(1, 1), (3, 2), (17, 33), (40, 57)]


def converted(data: bytes, mode: str) -> np.ndarray:
    """[C, H, W] as Pillow converts what it decodes."""
    with Image.open(io.BytesIO(data)) as opened:
        return np.array(opened.convert(mode)).transpose(2, 0, 1)


def drafted(data: bytes) -> np.ndarray:
    """[3, H, W]: Y, Cb and Cr as libjpeg upsamples them."""
    with Image.open(io.BytesIO(data)) as opened:
        opened.draft("YCbCr", None)
        assert opened.mode == "YCbCr"
        return np.array(opened).transpose(2, 0, 1)


def rough(height: int, width: int) -> torch.Tensor:
    """Inks of noise, uint8 [4, H, W]."""
    return tensor(np.concatenate([noise(height, width), noise(height, width, 1)[..., :1]], -1))


@pytest.mark.parametrize("name", corpus())
def test_every_file_as_rgb(name: str) -> None:
    data = corpus()[name]
    decoded = jpegrad.decode(jpegrad.read(data), space="RGB", dtype=torch.uint8)
    assert np.array_equal(decoded.numpy(), converted(data, "RGB"))


@pytest.mark.parametrize("name", corpus())
def test_every_file_as_ycbcr(name: str) -> None:
    data = corpus()[name]
    coefficients = jpegrad.read(data)
    if coefficients.space == "YCbCr":
        decoded = jpegrad.decode(coefficients, space="YCbCr", dtype=torch.uint8)
        assert np.array_equal(decoded.numpy(), drafted(data))
        return
    with pytest.raises(
        ValueError, match=f"space: expected native or RGB for components of {coefficients.space}"
    ):
        jpegrad.decode(coefficients, space="YCbCr")


def test_every_amount_of_ink_as_rgb() -> None:
    ink = torch.arange(256, dtype=torch.uint8)
    c, k = (x.reshape(1, 256, 256) for x in torch.meshgrid(ink, ink, indexing="ij"))
    image = torch.cat([c, 255 - c, c // 2, k])
    coefficients = jpegrad.encode(image, tables=torch.ones(8, 8), channels="CMYK")
    data = jpegrad.to_bytes(coefficients)
    assert np.array_equal(jpegrad.decode(coefficients).numpy(), pillow_pixels(data))
    assert np.array_equal(jpegrad.decode(coefficients, space="RGB").numpy(), converted(data, "RGB"))


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_files_equal_those_of_pillow(size: tuple[int, int]) -> None:
    image = rough(*size)
    pixels = image.permute(1, 2, 0).numpy()
    for quality, mode in itertools.product((1, 30, 75, 100), ("4:4:4", "4:2:2", "4:2:0")):
        coded = jpegrad.encode(image, quality, subsampling=mode, channels="CMYK")
        data = pillow(pixels, quality=quality, subsampling=mode)
        assert jpegrad.to_bytes(coded) == data
        assert jpegrad.to_bytes(jpegrad.read(data)) == data
        assert jpegrad.bits(coded) == jpegrad.rate.breakdown(coded).total == 8 * len(data)
        optimized = pillow(pixels, quality=quality, subsampling=mode, optimize=True)
        assert jpegrad.to_bytes(coded, huffman="optimized") == optimized
        assert jpegrad.bits(coded, huffman="optimized") == 8 * len(optimized)
        assert np.array_equal(jpegrad.decode(coded).numpy(), pillow_pixels(data))
        shown = jpegrad.jpeg(image, quality, subsampling=mode, channels="CMYK")
        assert np.array_equal(shown.numpy(), pillow_pixels(data))


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_own_tables_as_pillow_has_them(count: int) -> None:
    tables = [list(range(i + 1, i + 65)) for i in range(count)]
    image = rough(20, 30)
    data = pillow(image.permute(1, 2, 0).numpy(), qtables=tables)
    coded = jpegrad.encode(image, tables=torch.tensor(tables).view(-1, 8, 8), channels="CMYK")
    assert jpegrad.to_bytes(coded) == data
    assert torch.equal(jpegrad.read(data).tables, coded.tables)
    assert jpegrad.bits(coded) == 8 * len(data)


def test_density_has_a_header_of_its_own() -> None:
    data = pillow(inks(17, 33), dpi=(300, 200))
    coefficients = jpegrad.read(data)
    assert coefficients.density == (300, 200, "inch")
    assert jpegrad.to_bytes(coefficients) == data
    assert jpegrad.bits(coefficients) == jpegrad.rate.breakdown(coefficients).total == 8 * len(data)


def test_ycck_by_its_conversion() -> None:
    image = rough(24, 40)
    coded = jpegrad.encode(image, 85, color=JFIF, channels="CMYK", subsampling="2x2,1x1,1x1,2x2")
    assert (coded.space, coded.subsampling) == ("YCCK", "2x2,1x1,1x1,2x2")
    # The inks are coded as R, G and B are, and K as a gray picture of 255 - K.
    rgb = jpegrad.encode(image[:3], 85, subsampling="4:2:0")
    gray = jpegrad.encode(255 - image[3:], 85)
    assert all(map(torch.equal, coded.levels, (*rgb.levels, *gray.levels)))
    assert torch.equal(coded.tables, rgb.tables[[0, 1, 1, 0]])
    data = jpegrad.to_bytes(coded)
    assert np.array_equal(jpegrad.decode(coded).numpy(), pillow_pixels(data))
    again = jpegrad.read(data)
    assert again.space == "YCCK" and torch.equal(again.tables, coded.tables)
    assert all(map(torch.equal, again.levels, coded.levels))
    assert jpegrad.bits(coded) == 8 * len(data)
    assert jpegrad.read(ycck(pillow(inks(17, 33)))).space == "YCCK"


def test_what_no_file_announces_is_refused() -> None:
    image = rough(8, 8)
    for color in (RGB, Color(JFIF.matrix, JFIF.offset, RGB.inverse)):
        coded = jpegrad.encode(image, 50, color=color, channels="CMYK")
        assert coded.space == "private"
        with pytest.raises(ValueError, match="color: expected JFIF's"):
            jpegrad.to_bytes(coded)
    assert jpegrad.encode(image[:3], 50, color=CMYK).space == "private"


def test_like_a_file_of_four_components() -> None:
    image = rough(24, 40)
    for data in (pillow(inks(17, 33), quality=31), ycck(pillow(inks(17, 33), subsampling="4:2:2"))):
        like = jpegrad.read(data)
        coded = jpegrad.encode(image, like=like)
        assert (coded.space, coded.subsampling) == (like.space, like.subsampling)
        assert torch.equal(coded.tables, like.tables)
        assert torch.equal(jpegrad.jpeg(image, like=like), jpegrad.decode(coded))
        with pytest.raises(ValueError, match="like: expected 3 components as the image has, got 4"):
            jpegrad.encode(image[:3], like=like)
    with pytest.raises(ValueError, match="like: expected 4 components"):
        jpegrad.encode(image, like=jpegrad.read(pillow(picture(8, 8))), channels="CMYK")


def test_four_channels_are_no_inks_unless_that_is_said() -> None:
    image = torch.rand(4, 8, 8)
    for function in (jpegrad.jpeg, jpegrad.encode):
        with pytest.raises(ValueError, match=r'expected shape \[..., 1 or 3, H, W\].*channels="CMYK"'):
            function(image, 50)
        with pytest.raises(ValueError, match=r"expected shape \[..., 4, H, W\]"):
            function(image[:3], 50, channels="CMYK")
    with pytest.raises(ValueError, match="channels: expected one of CMYK; got 'alpha'"):
        jpegrad.encode(image, 50, channels="alpha")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="space: expected one of native, RGB, YCbCr; got 'rgb'"):
        jpegrad.decode(jpegrad.encode(image[:3], 50), space="rgb")  # type: ignore[arg-type]


def test_layers() -> None:
    image = torch.rand(2, 4, 16, 16)
    expected = jpegrad.jpeg(image, 50, channels="CMYK")
    assert torch.equal(jpegrad.nn.JPEG(50, channels="CMYK")(image), expected)
    random = jpegrad.nn.RandomJPEG((50, 50), channels="CMYK", subsampling="4:4:4")
    assert torch.equal(random(image), expected)
    tables = torch.stack([torch.full((8, 8), float(9 * i + 1)) for i in range(4)])
    layer = jpegrad.nn.JPEG(tables=tables, channels="CMYK")
    assert torch.equal(layer(image), jpegrad.jpeg(image, tables=tables, channels="CMYK"))


def test_ranges_and_types() -> None:
    inks_ = rough(9, 14)
    data = pillow(inks_.permute(1, 2, 0).numpy(), quality=60)
    coefficients = jpegrad.read(data)
    grey = jpegrad.decode(coefficients, space="RGB", dtype=torch.uint8).double()
    for dtype in (torch.float64, torch.float32, torch.float16):
        decoded = jpegrad.decode(coefficients, space="RGB", dtype=dtype)
        assert torch.equal(decoded, (grey / 255).to(dtype))
    low, high = (-1.0, -2.0, 0.0), (1.0, 3.0, 5.0)
    decoded = jpegrad.decode(coefficients, space="RGB", value_range=(low, high), dtype=torch.float64)
    a, b = (torch.tensor(x, dtype=torch.float64)[:, None, None] for x in (low, high))
    assert torch.allclose(decoded, a + grey / 255 * (b - a), rtol=0, atol=1e-12)
    gray = jpegrad.encode(inks_[:1], 60)
    decoded = jpegrad.decode(gray, space="RGB", value_range=(low, high), dtype=torch.float64)
    assert torch.allclose(decoded, a + jpegrad.decode(gray).double() / 255 * (b - a), rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match="one bound for each of the image's 4 channels"):
        jpegrad.decode(coefficients, value_range=(low, high))
    image = inks_.double() / 255
    coded = jpegrad.encode(image, 60, channels="CMYK")
    assert all(map(torch.equal, coded.levels, (x.double() for x in coefficients.levels)))


@pytest.mark.parametrize("color", [None, JFIF])
@pytest.mark.parametrize("space", ["native", "RGB"])
def test_gradients(space: str, color: Color | None) -> None:
    generator = torch.Generator().manual_seed(0)
    image = 0.3 + 0.4 * torch.rand(4, 9, 10, dtype=torch.float64, generator=generator)
    coded = jpegrad.encode(image, 90, channels="CMYK", color=color, subsampling="2x2,1x1,1x1,2x1")

    def decoded(*parts: torch.Tensor, forward: str = "soft") -> torch.Tensor:
        changed = jpegrad.Coefficients(
            parts[:4], parts[4], (9, 10), coded.subsampling, coded.color, dtype=torch.float64
        )
        return jpegrad.decode(changed, forward=forward, space=space)  # type: ignore[arg-type]

    parts = [x.clone().requires_grad_() for x in (*coded.levels, coded.tables)]
    assert torch.autograd.gradcheck(decoded, parts, fast_mode=True)
    weights = torch.rand(4 if space == "native" else 3, 9, 10, dtype=torch.float64, generator=generator)
    exact, soft = (
        torch.autograd.grad((decoded(*parts, forward=forward) * weights).sum(), parts)
        for forward in ("exact", "soft")
    )
    for one, other in zip(exact, soft, strict=True):
        # The colours' product is taken of rounded samples.
        assert torch.allclose(one, other, rtol=0.02, atol=0.02 * float(other.abs().max()))

    def soft_jpeg(x: torch.Tensor, quality: torch.Tensor) -> torch.Tensor:
        coded = jpegrad.encode(x, quality, channels="CMYK", color=color, forward="soft", surrogate="identity")
        return jpegrad.decode(coded, space=space)  # type: ignore[arg-type]

    assert torch.autograd.gradcheck(
        lambda x: soft_jpeg(x, torch.tensor(80.0)), image.clone().requires_grad_(), fast_mode=True
    )
    for forward in ("exact", "soft"):
        x, quality = image.clone().requires_grad_(), torch.tensor(80.0, requires_grad=True)
        coded = jpegrad.encode(x, quality, channels="CMYK", color=color, forward=forward)  # type: ignore[arg-type]
        loss = (jpegrad.decode(coded, space=space) - 0.5).square().mean()  # type: ignore[arg-type]
        (loss + 1e-6 * jpegrad.bits(coded)).backward()
        assert x.grad is not None and quality.grad is not None
        assert all(plane.abs().sum() > 0 for plane in x.grad) and quality.grad.abs() > 0


def test_kernels_serve_gray_as_rgb_and_the_planes_of_three() -> None:
    for image, space in ((torch.rand(2, 1, 20, 30), "RGB"), (torch.rand(2, 3, 20, 30), "YCbCr")):
        coded = jpegrad.encode(image, 50)
        expected = jpegrad.decode(coded, space=space, backend="reference")  # type: ignore[arg-type]
        assert torch.equal(jpegrad.decode(coded, space=space), expected)  # type: ignore[arg-type]
    found = backends.explain(torch.rand(4, 20, 30), channels="CMYK")
    assert found["reference"] == []
    assert any("not 1x1,1x1,1x1,1x1" in reason for reason in found["native"])


def test_batches() -> None:
    image = torch.stack([rough(20, 30), tensor(inks(20, 30))])
    coded = jpegrad.encode(image, torch.tensor([20.0, 80.0]), channels="CMYK")
    stacked = jpegrad.Coefficients.stack(
        [jpegrad.encode(x, q, channels="CMYK") for x, q in zip(image, (20, 80), strict=True)]
    )
    assert all(map(torch.equal, coded.levels, stacked.levels)) and torch.equal(coded.tables, stacked.tables)
    for i, q in enumerate((20, 80)):
        data = pillow(image[i].permute(1, 2, 0).numpy(), quality=q)
        assert jpegrad.to_bytes(coded, i) == jpegrad.to_bytes(stacked[i]) == data
    thinned = jpegrad.tune.trellis(coded, 20.0)
    assert (jpegrad.bits(thinned, huffman="optimized") < jpegrad.bits(coded, huffman="optimized")).all()
    up, down = jpegrad.rate.marginal.marginal_costs(coded)[3]
    assert up.shape == down.shape == coded.levels[3].shape
