"""The straight-through gradient against an independent adjoint; the soft forward against finite differences."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import norm

import jpegrad
from jpegrad import surrogates
from jpegrad.stages import blocks, chroma, color, dct
from oracles import adjoint, pictures
from oracles.libjpeg import MODES

SIZES = ((37, 53), (16, 24), (9, 4), (5, 3), (1, 1), (23, 17))
BASE = np.array(jpegrad.tables.ANNEX_K)
SHAPES = [*MODES, "gray"]


def ones(u: np.ndarray, step: np.ndarray, component: int) -> np.ndarray:
    return np.ones_like(u)


def cubic(u: np.ndarray, step: np.ndarray, component: int) -> np.ndarray:
    return 3 * (u - np.rint(u)) ** 2


def distortion(u: np.ndarray, step: np.ndarray, component: int) -> np.ndarray:
    return np.where(np.abs(u) < 0.5, 4 * u**2, 1.0)


def gaussian(mode: str, sigma: float = 2.0) -> adjoint.Slope:
    """Σ φ((u − m − ½)/s)/s, where s·step is what pixel noise σ, rounded on its way, leaves in a coefficient."""

    def slope(u: np.ndarray, step: np.ndarray, component: int) -> np.ndarray:
        variance = sigma**2 + 1 / 12
        if mode != "gray":
            variance = variance * (adjoint.TO_YCBCR[component] ** 2).sum() + 1 / 12
            n = math.prod(adjoint.FACTORS[mode]) if component else 1
            variance = variance / n + (n**2 - 1) / (12 * n**2)
        s = np.sqrt(variance) / step
        m = np.rint(u)[..., None] + np.arange(-40, 40)
        return norm.pdf((u[..., None] - m - 0.5) / s[..., None]).sum(-1) / s

    return slope


def picture_of(mode: str, height: int, width: int, seed: int = 0) -> np.ndarray:
    """Grey levels off the integers, a quarter of them outside 0…255, so that every clamp is met."""
    random = np.random.default_rng(seed)
    channels = 1 if mode == "gray" else 3
    picture = pictures.patches(random, channels, height, width) * 0.7 + random.uniform(
        -30, 110, (channels, height, width)
    )
    near_half = np.abs(picture % 1 - 0.5) < 1e-6
    return np.where(near_half, picture + 0.01, picture)


def subsampling(mode: str) -> str:
    return "4:2:0" if mode == "gray" else mode


def relative_error(found: torch.Tensor | None, expected: np.ndarray) -> float:
    assert found is not None
    assert np.abs(expected).max() > 0
    return float(np.linalg.norm(found.detach().double().numpy() - expected) / np.linalg.norm(expected))


@pytest.mark.parametrize("clip_slope", [0.0, 1e-3, 1.0])
@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("mode", SHAPES)
def test_image_and_tables(mode: str, size: tuple[int, int], clip_slope: float) -> None:
    picture = picture_of(mode, *size)
    # Primes: the cubic slope is 0 where the entry divides the coefficient, and a 1×1 picture has no other.
    tables = np.random.default_rng(1).choice([7, 11, 13, 17, 23, 37, 61, 83, 113], (2, 8, 8))
    cotangent = np.random.default_rng(2).standard_normal(picture.shape)
    for name, slope in (("identity", ones), ("cubic", cubic), ("gaussian", gaussian(mode))):
        expected = adjoint.run(picture, tables, mode, cotangent, slope, distortion, clip_slope)
        for dtype, tolerance in ((torch.float64, 1e-7), (torch.float32, 1e-5)):
            image = torch.tensor(picture, dtype=dtype, requires_grad=True)
            entries = torch.tensor(tables, dtype=dtype, requires_grad=True)
            out = jpegrad.jpeg(
                image,
                tables=entries,
                subsampling=subsampling(mode),
                surrogate=name,
                clip_slope=clip_slope,
                value_range=(0, 255),
            )
            assert np.array_equal(out.detach().numpy(), expected.decoded)
            out.backward(torch.tensor(cotangent, dtype=dtype))
            assert relative_error(image.grad, expected.picture) < tolerance
            if mode == "gray":
                assert entries.grad is not None and entries.grad[1].abs().max() == 0
            assert relative_error(entries.grad, expected.tables) < tolerance


@pytest.mark.parametrize("mode", SHAPES)
@pytest.mark.parametrize("table_name", ["identity", "cubic", "distortion"])
def test_table_surrogate_has_a_path_of_its_own(mode: str, table_name: str) -> None:
    slope = {"identity": ones, "cubic": cubic, "distortion": distortion}[table_name]
    picture = picture_of(mode, 19, 21)
    tables = np.random.default_rng(3).integers(2, 200, (3, 8, 8))
    cotangent = np.random.default_rng(4).standard_normal(picture.shape)
    expected = adjoint.run(picture, tables, mode, cotangent, ones, slope)
    image = torch.tensor(picture, requires_grad=True)
    entries = torch.tensor(tables, dtype=torch.float64, requires_grad=True)
    options = {"subsampling": subsampling(mode), "surrogate": "identity", "table_surrogate": table_name}
    out = jpegrad.jpeg(image, tables=entries, value_range=(0, 255), **options)
    out.backward(torch.tensor(cotangent))
    assert relative_error(image.grad, expected.picture) < 1e-7
    assert relative_error(entries.grad, expected.tables) < 1e-7


@pytest.mark.parametrize("mode", SHAPES)
def test_quality(mode: str) -> None:
    picture = picture_of(mode, 25, 31)
    cotangent = np.random.default_rng(5).standard_normal(picture.shape)
    image = torch.tensor(picture)
    for value in (1.0, 1.7, 4.0, 9.0, 24.5, 33.0, 49.0, 50.0, 51.0, 77.7, 90.0, 97.5, 99.0, 100.0):
        expected = adjoint.run(picture, adjoint.scaled(BASE, value), mode, cotangent, ones, distortion)
        slope = (expected.tables * adjoint.entry_slope(BASE, value)).sum()
        quality = torch.tensor(value, dtype=torch.float64, requires_grad=True)
        out = jpegrad.jpeg(image, quality, subsampling=subsampling(mode), value_range=(0, 255))
        assert np.array_equal(out.detach().numpy(), expected.decoded)
        out.backward(torch.tensor(cotangent))
        assert quality.grad is not None
        assert quality.grad.item() == pytest.approx(slope, rel=1e-7)


def test_quality_and_tables_per_image() -> None:
    values = (12.0, 55.0, 93.0)
    batch = [picture_of("4:2:0", 18, 22, seed) for seed in range(3)]
    cotangent = np.random.default_rng(6).standard_normal((3, 3, 18, 22))
    quality = torch.tensor(values, dtype=torch.float64, requires_grad=True)
    out = jpegrad.jpeg(torch.tensor(np.stack(batch)), quality, value_range=(0, 255))
    out.backward(torch.tensor(cotangent))
    slopes = []
    for picture, value, g in zip(batch, values, cotangent, strict=True):
        expected = adjoint.run(picture, adjoint.scaled(BASE, value), "4:2:0", g, ones, distortion)
        slopes.append((expected.tables * adjoint.entry_slope(BASE, value)).sum())
    assert relative_error(quality.grad, np.array(slopes)) < 1e-7


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("decoder", ["JFIF", "own"])
def test_colour_conversion(mode: str, decoder: str) -> None:
    random = np.random.default_rng(7)
    picture = picture_of(mode, 21, 27)
    matrix = adjoint.TO_YCBCR + random.uniform(-0.05, 0.05, (3, 3))
    inverse = np.linalg.inv(matrix) if decoder == "own" else None
    offset = np.array([3.0, 120.0, 131.0])
    cotangent = random.standard_normal(picture.shape)
    tables = random.integers(2, 60, (2, 8, 8))
    expected = adjoint.run(picture, tables, mode, cotangent, ones, ones, 0.0, matrix, offset, inverse)
    image = torch.tensor(picture, requires_grad=True)
    parameters = torch.tensor(matrix, requires_grad=True), torch.tensor(offset, requires_grad=True)
    own = () if inverse is None else (torch.tensor(inverse),)
    out = jpegrad.jpeg(
        image,
        tables=torch.tensor(tables),
        subsampling=mode,
        surrogate="identity",
        color=(*parameters, *own),
        value_range=(0, 255),
    )
    assert np.array_equal(out.detach().numpy(), expected.decoded)
    out.backward(torch.tensor(cotangent))
    assert relative_error(image.grad, expected.picture) < 1e-7
    assert relative_error(parameters[0].grad, expected.matrix) < 1e-7
    assert relative_error(parameters[1].grad, expected.offset) < 1e-7


@pytest.mark.parametrize("value_range", [(0.0, 1.0), (-1.0, 1.0), (16.0, 235.0)])
def test_value_range_cancels_in_the_image_gradient(value_range: tuple[float, float]) -> None:
    low, high = value_range
    picture = picture_of("4:2:0", 17, 20)
    cotangent = np.random.default_rng(8).standard_normal(picture.shape)
    tables = adjoint.scaled(BASE, 40)
    expected = adjoint.run(picture, tables, "4:2:0", cotangent, gaussian("4:2:0"), distortion)
    image = torch.tensor(low + picture / 255 * (high - low), requires_grad=True)
    jpegrad.jpeg(image, 40, value_range=value_range).backward(torch.tensor(cotangent))
    assert relative_error(image.grad, expected.picture) < 1e-7


@pytest.mark.parametrize("mode", SHAPES)
def test_encode_then_decode_has_the_same_gradient(mode: str) -> None:
    picture = picture_of(mode, 20, 33)
    cotangent = torch.randn(picture.shape, dtype=torch.float64)
    gradients = []
    for split in (False, True):
        image = torch.tensor(picture, requires_grad=True)
        quality = torch.tensor(35.0, dtype=torch.float64, requires_grad=True)
        options = {"subsampling": subsampling(mode), "value_range": (0, 255), "clip_slope": 0.5}
        out = (
            jpegrad.decode(jpegrad.encode(image, quality, **options))
            if split
            else jpegrad.jpeg(image, quality, **options)
        )
        gradients.append(torch.autograd.grad(out, (image, quality), cotangent))
    for joined, apart in zip(*gradients, strict=True):
        torch.testing.assert_close(joined, apart, rtol=1e-9, atol=1e-12)


RATIOS = [(1, 1), (2, 1), (2, 2), (1, 2), (4, 1)]


def downsample(plane: torch.Tensor, h: int, v: int) -> torch.Tensor:
    """The linear part: what is left of libjpeg's rounding on average is a constant."""
    return chroma.downsample_real(plane, h, v) - chroma.downsample_real(torch.zeros_like(plane), h, v)


@pytest.mark.parametrize("ratio", RATIOS, ids=str)
def test_soft_downsampling_includes_the_mean_of_the_rounding(ratio: tuple[int, int]) -> None:
    # Every residue of the sum of a box comes equally often.
    h, v = ratio
    planes = torch.arange(h * v, dtype=torch.float64)[:, None, None] * torch.ones(8 * v, 16 * h)
    planes[:, torch.arange(8 * v)[:, None] % v + torch.arange(16 * h) % h > 0] = 0
    mean = (chroma.downsample_exact(planes, h, v) - downsample(planes, h, v)).mean(0)
    torch.testing.assert_close(
        chroma.downsample_real(torch.zeros(8 * v, 16 * h, dtype=torch.float64), h, v), mean
    )


MAPS = {
    **{f"downsample {r}": ((13, 21), lambda x, r=r: downsample(x, *r)) for r in RATIOS},
    **{f"upsample {r}": ((5, 7), lambda x, r=r: chroma.upsample_real(x, *r)) for r in RATIOS},
    **{f"upsample narrow {r}": ((3, 2), lambda x, r=r: chroma.upsample_real(x, *r)) for r in RATIOS},
    "forward DCT": ((3, 8, 8), lambda x: dct.forward_real(x) - dct.forward_real(torch.zeros_like(x))),
    "inverse DCT": ((3, 8, 8), lambda x: dct.inverse_real(x) - 128),
    "split": ((16, 24), blocks.split),
    "merge": ((2, 3, 8, 8), blocks.merge),
    "to YCbCr": ((3, 4, 5), lambda x: color.to_ycbcr_real(x, torch.tensor(adjoint.TO_YCBCR), torch.zeros(3))),
    "to RGB": ((3, 4, 5), lambda x: color.to_rgb_real(x, torch.tensor(adjoint.TO_RGB), torch.zeros(3))),
}


@pytest.mark.parametrize("name", MAPS)
def test_the_backward_of_a_linear_stage_is_its_transpose(name: str) -> None:
    shape, stage = MAPS[name]
    x, y = torch.randn(2, *shape, dtype=torch.float64)
    torch.testing.assert_close(stage(2 * x - 3 * y), 2 * stage(x) - 3 * stage(y), rtol=1e-12, atol=1e-12)
    x.requires_grad_()
    out = stage(x)
    g = torch.randn_like(out)
    (back,) = torch.autograd.grad(out, x, g)
    assert (out * g).sum().item() == pytest.approx((x * back).sum().item(), rel=1e-12)
    # The gradient is the transpose column by column as well, not only along x.
    (column,) = torch.autograd.grad(stage(y.requires_grad_()), y, g)
    torch.testing.assert_close(column, back)


@pytest.mark.parametrize("ratio", RATIOS, ids=str)
@pytest.mark.parametrize("size", [(13, 21), (8, 8), (1, 1), (3, 4)], ids=str)
def test_linear_stages_are_the_direct_matrices(ratio: tuple[int, int], size: tuple[int, int]) -> None:
    (h, v), (height, width) = ratio, size
    plane = torch.rand(height, width, dtype=torch.float64)
    rows, columns = adjoint.downsampling(height, v, "row"), adjoint.downsampling(width, h, "column")
    expected = rows @ plane.numpy() @ columns.T
    np.testing.assert_allclose(downsample(plane, h, v).numpy(), expected, rtol=1e-12, atol=1e-15)
    triangle = (h, v) != (4, 1) and (h == 1 or width > 2)
    up_y = adjoint.upsampling(height, v, v * height, triangle)
    up_x = adjoint.upsampling(width, h, h * width, triangle)
    np.testing.assert_allclose(
        chroma.upsample_real(plane, h, v).numpy(), up_y @ plane.numpy() @ up_x.T, rtol=1e-12
    )


SMOOTH = [name for name in surrogates.ALL if name not in ("noise", "dead_zone")]


@pytest.mark.parametrize("mode", ["4:2:0", "4:1:1", "gray"])
@pytest.mark.parametrize("name", SMOOTH)
def test_soft_forward_is_its_own_gradient(name: str, mode: str) -> None:
    channels = 1 if mode == "gray" else 3
    image = torch.rand(channels, 5, 6, dtype=torch.float64) * 0.5 + 0.25
    options = {"forward": "soft", "surrogate": name, "subsampling": subsampling(mode)}
    assert torch.autograd.gradcheck(
        lambda x: jpegrad.jpeg(x, 37.3, **options), image.requires_grad_(), fast_mode=True
    )
    tables = (torch.rand(2, 8, 8, dtype=torch.float64) * 60 + 20).requires_grad_()
    assert torch.autograd.gradcheck(
        lambda t: jpegrad.jpeg(image.detach(), tables=t, **options), tables, fast_mode=True
    )
    if channels == 3:
        matrix = torch.tensor(adjoint.TO_YCBCR, requires_grad=True)
        offset = torch.tensor(adjoint.CENTRE, requires_grad=True)
        assert torch.autograd.gradcheck(
            lambda m, o: jpegrad.jpeg(image.detach(), 37.3, color=(m, o), **options),
            (matrix, offset),
            fast_mode=True,
        )


def test_soft_forward_at_every_element() -> None:
    image = torch.rand(3, 3, 3, dtype=torch.float64) * 0.5 + 0.25
    assert torch.autograd.gradcheck(lambda x: jpegrad.jpeg(x, 62.5, forward="soft"), image.requires_grad_())


def test_the_papers_soft_variant_is_its_own_gradient_to_the_quality() -> None:
    image = torch.rand(3, 5, 6, dtype=torch.float64) * 0.5 + 0.25
    for start in (37.3, 62.6, 98.7):
        quality = torch.tensor(start, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(lambda q: jpegrad.jpeg(image, q, surrogate="reich2024"), quality)


@pytest.mark.parametrize("start", [0.5, 1.0, 30.0, 62.5, 100.0, 101.0])
def test_soft_forward_sees_the_quality_through_the_tables_of_the_file(start: float) -> None:
    """Its value is that of integer tables; to the quality it passes their gradient times their slope."""
    image = torch.rand(2, 3, 24, 24, dtype=torch.float64)
    weights = torch.randn_like(image)
    quality = torch.tensor(start, dtype=torch.float64, requires_grad=True)
    entries = jpegrad.tables.annex_k(quality)
    given = entries.detach().requires_grad_()
    out, same = (jpegrad.jpeg(image, forward="soft", **x) for x in ({"quality": quality}, {"tables": given}))
    assert torch.equal(out, same)
    (to_tables,) = torch.autograd.grad((same * weights).sum(), given)
    (expected,) = torch.autograd.grad((entries * to_tables).sum(), quality)
    (found,) = torch.autograd.grad((out * weights).sum(), quality)
    torch.testing.assert_close(found, expected)


def test_a_flat_picture_has_next_to_no_gradient_in_the_soft_forward() -> None:
    # 76.5 is -51.5 from the middle, a coefficient of -412: -15.26 steps of 27, far from a threshold for a noise of 2.
    image = torch.full((1, 16, 16), 76.5, requires_grad=True)
    for quality in (30, torch.tensor(30.0)):
        out = jpegrad.jpeg(image, quality, value_range=(0, 255), forward="soft")
        (slope,) = torch.autograd.grad(out.sum(), image)
        assert slope.abs().max() < 0.1
