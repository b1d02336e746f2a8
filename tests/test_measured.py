"""The default gradients against what real files do, measured with their encoders, never with the code's own slopes."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

import jpegrad
from jpegrad import testing
from jpegrad.spec import components
from oracles import libjpeg
from oracles.libjpeg import MODES

Photographs = dict[str, np.ndarray]
Error = Callable[[np.ndarray, int], float]


def planar(pixels: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))


def centre(pixels: np.ndarray, size: int) -> np.ndarray:
    y, x = (pixels.shape[0] - size) // 2, (pixels.shape[1] - size) // 2
    return planar(pixels[y : y + size, x : x + size])


def squared_error(picture: np.ndarray, quality: int | None = None, tables: np.ndarray | None = None) -> float:
    rows = None if tables is None else tables.reshape(-1, 64).tolist()
    return float(((libjpeg.pillow(picture, quality, tables=rows).astype(np.int32) - picture) ** 2).sum())


def soft_error(picture: np.ndarray, quality: int, **options: object) -> float:
    image = torch.tensor(picture, dtype=torch.float32)
    coded = jpegrad.jpeg(image, quality, value_range=(0, 255), **options)
    return float((coded - image).double().square().sum())


def quality_slopes(
    picture: np.ndarray, qualities: np.ndarray, error: Error = squared_error, **options: object
) -> tuple[np.ndarray, np.ndarray]:
    """d(squared error)/d(quality): by autograd at the quality, and of real files over ± 2."""
    quality = torch.tensor(qualities, dtype=torch.float32, requires_grad=True)
    image = torch.tensor(picture, dtype=torch.float32)
    for chunk in quality.split(8):
        decoded = jpegrad.jpeg(image.expand(len(chunk), -1, -1, -1), chunk, value_range=(0, 255), **options)
        (decoded - image).square().sum().backward()
    low, high = (qualities - 2).clip(1, 100), (qualities + 2).clip(1, 100)
    errors = {q: error(picture, q) for q in {*low.tolist(), *high.tolist()}}
    measured = [(errors[b] - errors[a]) / (b - a) for a, b in zip(low.tolist(), high.tolist(), strict=True)]
    assert quality.grad is not None
    return quality.grad.numpy(), np.array(measured)


def agreement(
    crops: list[np.ndarray], qualities: np.ndarray, error: Error = squared_error, **options: object
) -> tuple[float, float]:
    """Shares of the pairs of picture and quality where the slope has the right sign, and its size within ×1.5."""
    ratios = []
    for picture in crops:
        predicted, measured = quality_slopes(picture, qualities, error, **options)
        assert (predicted != 0).all()
        ratios.append(predicted / measured)
    ratio = np.concatenate(ratios)
    sign, close = (ratio > 0).mean(), (abs(np.log(np.where(ratio > 0, ratio, 1e9))) < np.log(1.5)).mean()
    print(f"d/dquality on {len(ratio)} pairs: right sign {sign:.1%}, within ×1.5 {close:.1%}, {options}")
    return sign, close


def check_quality_slopes(crops: list[np.ndarray], qualities: np.ndarray) -> None:
    sign, close = agreement(crops, qualities)
    assert sign >= 0.98
    assert close >= 0.90


def test_quality_slope_on_crops(photographs: Photographs) -> None:
    check_quality_slopes([centre(pixels, 128) for pixels in photographs.values()], np.arange(1, 100, 4))


# What the soft forward passes to the quality is the derivative of its own value, and a narrow staircase is no straight
# line over ± 2 qualities; one as wide as a share of the level is. Of the Gaussian, whose value is the mean of noisy
# files, 58.7 and 48 % were close.
SOFT = {
    "gaussian": ({"sigma": 2.0}, (0.92, 0.58), (0.92, 0.47)),
    "soft_round": ({"surrogate": "soft_round"}, (0.95, 0.7), (0.95, 0.25)),
    "table_relative": ({"surrogate": "table_relative"}, (0.98, 0.95), (0.98, 0.5)),
    "distortion": ({"surrogate": "distortion"}, (0.98, 0.95), (0.98, 0.9)),
}


@pytest.mark.parametrize("name", SOFT)
def test_quality_slope_of_the_soft_forward(name: str, photographs: Photographs) -> None:
    options, own, files = SOFT[name]
    crops = [centre(pixels, 128) for pixels in photographs.values()]
    soft = {"forward": "soft", **options}
    for error, least in ((partial(soft_error, **soft), own), (squared_error, files)):
        sign, close = agreement(crops, np.arange(1, 100, 4), error, **soft)
        assert sign >= least[0]
        assert close >= least[1]


@pytest.mark.slow
def test_quality_slope_on_whole_photographs(photographs: Photographs) -> None:
    check_quality_slopes([planar(pixels) for pixels in photographs.values()], np.arange(1, 100))


def test_quality_slope_is_zero_nowhere(photographs: Photographs) -> None:
    picture = centre(photographs["facades"], 40)
    image = torch.tensor(picture, dtype=torch.float32)
    for mode in MODES:
        quality = torch.arange(1.0, 100.0, requires_grad=True)
        decoded = jpegrad.jpeg(image.expand(99, -1, -1, -1), quality, value_range=(0, 255), subsampling=mode)
        (decoded - image).square().sum().backward()
        assert quality.grad is not None
        assert (quality.grad != 0).all()


def entry_changes(
    crops: list[np.ndarray], quality: int, deltas: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Change of the squared error of all crops together, when one table entry changes: predicted and measured."""
    entries = jpegrad.tables.annex_k(quality).numpy().astype(int)
    cases = [(i, d) for i in range(128) for d in deltas if 1 <= entries.flat[i] + d <= 255]
    predicted, measured = np.zeros(len(cases)), np.zeros(len(cases))
    for picture in crops:
        tables = jpegrad.tables.annex_k(quality).requires_grad_()
        image = torch.tensor(picture, dtype=torch.float32)
        (jpegrad.jpeg(image, tables=tables, value_range=(0, 255)) - image).square().sum().backward()
        assert tables.grad is not None
        unchanged = squared_error(picture, tables=entries)
        for j, (i, delta) in enumerate(cases):
            changed = entries.copy()
            changed.flat[i] += delta
            predicted[j] += tables.grad.flatten()[i].item() * delta
            measured[j] += squared_error(picture, tables=changed) - unchanged
    return predicted, measured


def check_entries(crops: list[np.ndarray], quality: int, deltas: tuple[int, ...]) -> None:
    predicted, measured = entry_changes(crops, quality, deltas)
    correlation = np.corrcoef(predicted, measured)[0, 1]
    size = predicted @ measured / (predicted @ predicted)
    print(
        f"{len(predicted)} single table entries at quality {quality}: correlation {correlation:.3f}, size {size:.2f}"
    )
    assert correlation > 0.9
    assert 0.8 < size < 1.25


def test_single_table_entries(photographs: Photographs) -> None:
    check_entries([planar(pixels)[:, :192, :192] for pixels in photographs.values()], 90, (-2, 2))


@pytest.mark.slow
@pytest.mark.parametrize("quality", [10, 25, 50, 75, 90])
def test_single_table_entries_on_whole_photographs(quality: int, photographs: Photographs) -> None:
    # At low quality few levels are not zero: other alignments to the blocks give four times as many.
    shifts = ((0, 0), (4, 4), (0, 4), (4, 0))
    crops = [planar(pixels)[:, y:, x:].copy() for pixels in photographs.values() for y, x in shifts]
    check_entries(crops, quality, (-2, -1, 1, 2))


def check_gaussian(
    crops: list[np.ndarray],
    quality: int,
    mode: str,
    sigma: float,
    pairs: int,
    least: float = 0.95,
    forward: str = "exact",
) -> None:
    losses = np.random.default_rng(12).standard_normal((64, *crops[0].shape))
    weights = torch.tensor(losses, dtype=torch.float32).flatten(1)
    subsampling = "4:2:0" if mode == "gray" else mode
    agreement = measured_norm = predicted_norm = 0.0
    for picture in crops:
        # The files themselves would say the same twenty times slower: test_exact.py.
        sampled = testing.real_gradient(
            torch.tensor(picture, dtype=torch.float32),
            quality,
            sigma,
            lambda decoded: decoded.flatten(1) @ weights.T,
            subsampling=subsampling,
            value_range=(0, 255),
            pairs=pairs,
            seed=11,
        )
        estimates = sampled.parts.flatten(2).numpy()
        image = torch.tensor(picture, dtype=torch.float32).expand(losses.shape).clone().requires_grad_()
        options = {"subsampling": subsampling, "value_range": (0, 255), "forward": forward}
        out = jpegrad.jpeg(image, quality, surrogate="gaussian", sigma=sigma, **options)
        out.backward(torch.tensor(losses, dtype=torch.float32))
        assert image.grad is not None
        gradient = image.grad.reshape(len(losses), -1).double().numpy()
        agreement += (estimates.mean(0) * gradient).sum()
        # The product of two independent estimates has no sampling noise in its mean.
        count = len(estimates)
        measured_norm += ((estimates.sum(0) ** 2).sum() - (estimates**2).sum()) / (count * (count - 1))
        predicted_norm += (gradient**2).sum()
    cosine = agreement / np.sqrt(measured_norm * predicted_norm)
    size = agreement / predicted_norm
    print(
        f"quality {quality}, {mode}, σ {sigma}, {forward}:"
        f" corrected cosine {cosine:.3f}, measured / predicted {size:.3f}"
    )
    assert cosine >= least
    assert 0.9 <= size <= 1.1


def textured(pixels: np.ndarray, size: int, channels: int = 3) -> np.ndarray:
    """The middle of a photograph in grey levels 32…223, where noise meets no clamp.

    Sizes are whole MCUs: the width of ``gaussian`` assumes white noise, which padding by replication is not.
    """
    return np.rint(32 + centre(pixels, size)[:channels] * 0.75)


@pytest.mark.parametrize("quality", [10, 50, 90])
def test_gaussian_is_the_derivative_of_the_noise_smoothed_file(
    quality: int, photographs: Photographs
) -> None:
    check_gaussian(
        [textured(pixels, 32) for pixels in photographs.values()], quality, "4:2:0", sigma=2.0, pairs=5000
    )


@pytest.mark.slow
def test_soft_forward_is_right_where_the_noise_is_narrow(photographs: Photographs) -> None:
    crops = [textured(pixels, 32) for pixels in photographs.values()]
    check_gaussian(crops, 10, "4:2:0", sigma=1.0, pairs=10_000, least=0.97, forward="soft")


# The exact forward's slope is taken at the encoder's integer coefficient, which noise of σ = 1, or a downsampling that
# leans to one side (4:4:0), moves visibly. At σ = 1 and steps of 3 the decoder's rounding to 8 bits is not averaged
# out either, and no slope at the quantiser sees that.
WIDTHS = [(mode, 2.0) for mode in (*MODES, "gray")] + [("4:2:0", 1.0), ("4:2:0", 4.0)]
LEAST = {("exact", "4:2:0", 1.0, 10): 0.85, ("exact", "4:4:0", 2.0, 10): 0.9, ("soft", "4:2:0", 1.0, 90): 0.9}
LEAST |= {("exact", "4:2:0", 1.0, quality): 0.9 for quality in (50, 90)}


@pytest.mark.slow
@pytest.mark.parametrize("forward", ["exact", "soft"])
@pytest.mark.parametrize("quality", [10, 50, 90])
@pytest.mark.parametrize(("mode", "sigma"), WIDTHS)
def test_gaussian_in_every_mode(
    mode: str, sigma: float, quality: int, forward: str, photographs: Photographs
) -> None:
    crops = [textured(pixels, 32, 1 if mode == "gray" else 3) for pixels in photographs.values()]
    least = LEAST.get((forward, mode, sigma, quality), {"exact": 0.95, "soft": 0.97}[forward])
    check_gaussian(crops, quality, mode, sigma, pairs=20_000, least=least, forward=forward)


def drawn(name: str, photographs: Photographs) -> np.ndarray:
    """A synthetic or saturated picture of 32 × 32, ``[3, 32, 32]`` in 0…255: flat areas, and black and white."""
    y, x = np.mgrid[:32, :32]
    if name == "contrast":
        return np.clip((centre(photographs["hibiscus"], 32) - 128.0) * 3 + 128, 0, 255).round()
    picture = np.full((3, 32, 32), 255.0)
    if name == "text":
        strokes = (y % 11 < 9) & ((x % 7 < 2) | ((y % 11 + x // 7) % 4 == 0)) & (x % 7 < 5)
        picture[:, strokes] = 0
    elif name == "cartoon":
        picture[:] = np.array([255, 230, 0])[:, None, None]
        picture[:, (x - 12) ** 2 + (y - 13) ** 2 < 90] = np.array([[255], [0], [0]])
        picture[:, (x > 15) & (y > 14)] = np.array([[0], [0], [255]])
        picture[:, abs(y - 5 - x // 4) < 2] = 255
    else:
        picture[:, 10:14, 4:28] = 200
        picture[:, 22:, 13:] = 0
    return picture


DRAWN = ("contrast", "text", "cartoon", "white")


def test_soft_forward_is_right_where_clamps_act(photographs: Photographs) -> None:
    crops = [drawn(name, photographs) for name in DRAWN]
    check_gaussian(crops, 50, "4:2:0", sigma=2.0, pairs=2000, least=0.97, forward="soft")


@pytest.mark.slow
@pytest.mark.parametrize("sigma", [2.0, 8.0])
@pytest.mark.parametrize("quality", [25, 50, 90])
@pytest.mark.parametrize("mode", [*MODES, "gray"])
@pytest.mark.parametrize("name", DRAWN)
def test_soft_forward_on_saturated_pictures(
    name: str, mode: str, quality: int, sigma: float, photographs: Photographs
) -> None:
    picture = drawn(name, photographs)[: 1 if mode == "gray" else 3]
    check_gaussian([picture], quality, mode, sigma, pairs=8000, least=0.96, forward="soft")


def test_soft_forward_is_the_mean_of_files_at_black_and_white() -> None:
    """The noise of white pixels has one side only: their mean is darker, by 0.4 deviations of the noise."""
    picture = torch.zeros(3, 32, 32)
    picture[..., 16:] = 255
    noise = torch.randn(400, 3, 32, 32, generator=torch.Generator().manual_seed(5))
    for sigma, quality in ((2.0, 90), (8.0, 50)):
        noisy = (picture + sigma * noise).round().clamp(0, 255).to(torch.uint8)
        files = jpegrad.jpeg(noisy, quality).double().mean(0)
        soft = jpegrad.jpeg(picture, quality, value_range=(0, 255), forward="soft", sigma=sigma).double()
        plain = jpegrad.jpeg(
            picture, quality, value_range=(0, 255), forward="soft", surrogate="cubic"
        ).double()
        for half in (files[..., :16] - soft[..., :16], files[..., 16:] - soft[..., 16:]):
            assert half.mean().abs() < 0.03 * sigma
        assert (files - soft).square().mean() < 0.03 * (files - plain).square().mean()


@pytest.mark.parametrize("sigma", [1.0, 3.0])
@pytest.mark.parametrize("mode", [*MODES, "gray"])
def test_noise_variance_of_every_plane(mode: str, sigma: float, photographs: Photographs) -> None:
    channels, count = (1, 80) if mode == "gray" else (3, 80)
    subsampling = "4:2:0" if mode == "gray" else mode
    picture = torch.from_numpy(textured(photographs["hibiscus"], 128, channels)) + torch.rand(
        channels, 128, 128
    )
    noisy = picture + sigma * torch.randn(count, channels, 128, 128)
    ones = torch.ones(2, 8, 8)
    coefficients = jpegrad.encode(noisy, tables=ones, subsampling=subsampling, value_range=(0, 255))
    assert coefficients.unrounded is not None
    for u, component in zip(coefficients.unrounded, components(channels, subsampling), strict=True):
        measured = u.double().var(0).mean().item()
        print(
            f"{mode} {component.name}: variance {measured:.3f}, formula {float(component.noise_variance(sigma)):.3f}"
        )
        assert measured == pytest.approx(float(component.noise_variance(sigma)), rel=0.03)


def test_noise_variance_sees_the_averaging() -> None:
    luma, chroma, _ = components(3, "4:2:0")
    assert chroma.noise_variance(2.0) < luma.noise_variance(2.0)
    assert replace(chroma, averaged=1).noise_variance(2.0) > chroma.noise_variance(2.0)
