"""Tables and levels that are learned: files that meet their targets, objectives that fall, runs that repeat."""

import io
import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from scipy.signal import convolve2d
from torch import Tensor
from typer.testing import CliRunner

import jpegrad
from jpegrad import tune
from jpegrad.cli import app
from jpegrad.data import photograph_path, table_names
from jpegrad.tune import metrics
from jpegrad.tune.descent import just_meeting
from jpegrad.tune.joint import fit_weights
from jpegrad.tune.objective import ImageObjective, OperatingPoint, SharedObjective

torch.set_num_threads(1)


def cost(image: Tensor, outcome: tune.Tuned, quality: float, metric: str) -> float:
    """Bits of outcome relative to the default tables at equal multiplier, the change of the loss counted in bits."""
    objective = SharedObjective([ImageObjective(image, metrics.get(metric))])
    default = jpegrad.tables.annex_k(quality)
    with torch.no_grad():
        start = objective(default)
    loss = float(start.loss)
    return (outcome.size * 8 + (outcome.loss - loss) / objective.multiplier(default)) / float(start.bits)


def structure(photo: Tensor) -> Tensor:
    return photo[:, 64:256, 20:212]


@pytest.mark.parametrize(
    ("metric", "choose", "limit"),
    [("mse", True, 0.75), ("mse", False, 0.88), ("ms-ssim", True, 0.75), ("mix", True, 0.8)],
)
def test_learning_beats_the_default_tables(photo: Tensor, metric: str, choose: bool, limit: float) -> None:
    image = structure(photo)
    steps = 8
    tuned = tune.compress(
        image, metric=metric, target=tune.LikeQuality(60), choose_levels=choose, steps=steps
    )
    assert cost(image, tuned, 60, metric) < limit
    # Without a step there is only the start; the descent must gain something on top of it.
    start = tune.compress(image, metric=metric, target=tune.LikeQuality(60), choose_levels=choose, steps=0)
    assert cost(image, tuned, 60, metric) < cost(image, start, 60, metric) - 0.005


@pytest.mark.parametrize("choose", [True, False])
def test_tables_learned_from_annex_k_alone(photo: Tensor, choose: bool) -> None:
    base = torch.tensor(jpegrad.tables.ANNEX_K)
    tuned = tune.compress(
        photo, target=tune.LikeQuality(75), choose_levels=choose, base=base, steps=8, metric="mse"
    )
    assert cost(photo, tuned, 75, "mse") < 0.9
    tables = tuned.tables
    assert tables.shape == (2, 8, 8)
    assert bool(((tables == tables.round()) & (tables >= 1) & (tables <= 255)).all())


@pytest.mark.parametrize("choose", [True, False])
@pytest.mark.parametrize("target", [2500, 9000, 40000])
def test_bytes_are_met_and_nearly_used(photo: Tensor, target: int, choose: bool) -> None:
    tuned = tune.compress(photo, target=tune.Bytes(target), choose_levels=choose, steps=4, metric="mse")
    data = tuned.to_bytes()
    assert len(data) == tuned.size
    assert 0.985 * target < len(data) <= target


def test_a_larger_target_than_any_file_gives_the_finest(photo: Tensor) -> None:
    tuned = tune.compress(photo, target=tune.Bytes(10**7), metric="mse")
    assert int(tuned.tables.max()) == 1


@pytest.mark.parametrize("quality", [1, 100])
def test_the_ends_of_the_scale(photo: Tensor, quality: int) -> None:
    image = photo[:, 64:128, 64:128]
    for choose in (True, False):
        tuned = tune.compress(
            image, target=tune.LikeQuality(quality), choose_levels=choose, steps=3, metric="mse"
        )
        assert cost(image, tuned, quality, "mse") <= 1.0 + 1e-6


@pytest.mark.parametrize("metric", ["mse", "perceptual"])
@pytest.mark.parametrize("target", [tune.LikeQuality(75), tune.Bytes(900), tune.Loss(0.1)])
def test_a_picture_without_detail(target: tune.LikeQuality | tune.Bytes | tune.Loss, metric: str) -> None:
    for choose in (True, False):
        tuned = tune.compress(
            torch.full((3, 40, 40), 77, dtype=torch.uint8),
            target=target,
            choose_levels=choose,
            steps=2,
            metric=metric,
        )
        assert tuned.size < 900
        assert tuned.loss <= (target.value if isinstance(target, tune.Loss) else 1e-4)


def test_a_flat_colour_that_coarser_tables_keep() -> None:
    flat = torch.tensor([153, 200, 77], dtype=torch.uint8).view(3, 1, 1).expand(3, 16, 16)
    for choose in (True, False):
        tuned = tune.compress(flat, choose_levels=choose, subsampling="4:4:4", steps=2, metric="mse")
        assert tuned.multiplier == 0
        assert tuned.loss < 2e-5


@pytest.fixture(scope="module")
def crop() -> Tensor:
    with Image.open(photograph_path("caps")) as picture:
        return torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1)[:, :96, :96].contiguous()


def test_more_bytes_are_of_use(crop: Tensor) -> None:
    few, more, most = (
        tune.compress(crop, target=tune.Bytes(n), metric="mse").loss for n in (3500, 7000, 30000)
    )
    assert more < 0.9 * few
    assert most <= 1.01 * more


@pytest.mark.parametrize(
    ("channels", "subsampling", "loss"),
    [(1, "4:2:0", 2e-6), (1, "4:2:0", 3.9e-6), (3, "4:4:4", 1.1e-5), (3, "4:4:4", 1.2e-5)],
)
def test_a_loss_that_tables_alone_reach(crop: Tensor, channels: int, subsampling: str, loss: float) -> None:
    image = crop[:channels]
    options = {"metric": "mse", "target": tune.Loss(loss), "subsampling": subsampling}
    alone, both = (tune.compress(image, choose_levels=choose, **options) for choose in (False, True))  # type: ignore[arg-type]
    assert both.loss <= loss
    assert both.size < 0.95 * alone.size


@pytest.mark.parametrize("count", [115, 300])
def test_bytes_out_of_reach(crop: Tensor, count: int) -> None:
    with pytest.raises(ValueError, match=rf"got {count} bytes; the nearest has 3[2-9]\d bytes"):
        tune.compress(crop, target=tune.Bytes(count), metric="mse")


def test_the_nearest_trial_is_named() -> None:
    def file(x: float) -> OperatingPoint:
        return OperatingPoint((), torch.tensor(1.0), torch.tensor(8 * (900 if x == 0 else 1000)))

    with pytest.raises(ValueError, match="the nearest has 900 bytes"):
        just_meeting(file, tune.Bytes(100))


def test_without_gradients_outside(photo: Tensor) -> None:
    image = photo[:, :32, :32]
    with torch.no_grad():
        assert tune.compress(image, steps=1, metric="mse").size > 0
        assert tune.learn_image_tables(image, steps=1).shape == (2, 8, 8)
        base = tune.learn_dataset_tables([image], settings=tune.DatasetSettings(steps=1, batch=1))
    assert base.shape == (2, 8, 8)


def test_images_outside_the_range_are_clipped(photo: Tensor) -> None:
    image = photo[:, :64, :64] / 128 - 0.3
    image[:, 5, 5] = torch.nan
    tuned = tune.compress(image, steps=1, metric="mse")
    assert (
        tuned.to_bytes()
        == tune.compress(image.nan_to_num(nan=0.0).clamp(0, 1), steps=1, metric="mse").to_bytes()
    )


def test_bits_per_pixel_and_loss(photo: Tensor) -> None:
    height, width = photo.shape[1:]
    tuned = tune.compress(photo, target=tune.BitsPerPixel(0.8), steps=4, metric="mse")
    assert 0.788 < 8 * len(tuned.to_bytes()) / (height * width) <= 0.8
    for choose in (True, False):
        tuned = tune.compress(photo, target=tune.Loss(5e-4), choose_levels=choose, steps=4, metric="mse")
        decoded = jpegrad.decode(tuned.coefficients, dtype=torch.uint8).double() / 255
        loss = float((decoded - photo.double() / 255).square().mean())
        assert loss == pytest.approx(tuned.loss, rel=1e-4)
        assert 4.8e-4 < loss <= 5.0001e-4


def test_every_decoder_opens_the_file(photo: Tensor) -> None:
    tuned = tune.compress(photo, target=tune.Bytes(9000), steps=2, metric="mse")
    data = tuned.to_bytes()
    expected = jpegrad.decode(tuned.coefficients, dtype=torch.uint8).permute(1, 2, 0).numpy()
    assert np.array_equal(np.array(Image.open(io.BytesIO(data))), expected)
    seen = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert np.array_equal(seen[..., ::-1], expected)
    again = jpegrad.read(data)
    assert torch.equal(again.tables, tuned.tables)
    assert b"\xff\xc2" not in data[:600]


@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:4:0", "4:1:1"])
def test_other_subsamplings(photo: Tensor, subsampling: str) -> None:
    image = photo[:, 100:171, 60:133]
    tuned = tune.compress(image, subsampling=subsampling, steps=3, metric="mse")
    assert tuned.coefficients.subsampling == subsampling
    assert tuned.to_bytes()


def test_gray(photo: Tensor) -> None:
    gray = photo[:1]
    tuned = tune.compress(gray, target=tune.LikeQuality(60), steps=4, metric="mse")
    assert cost(gray, tuned, 60, "mse") < 0.9
    with Image.open(io.BytesIO(tuned.to_bytes())) as opened:
        assert opened.mode == "L"


def test_a_colour_picture_of_grays(photo: Tensor) -> None:
    image = photo[:1].expand(3, -1, -1)
    for metric in ("mse", "ms-ssim"):
        tuned = tune.compress(image, metric=metric, target=tune.LikeQuality(60), steps=8)
        assert cost(image, tuned, 60, metric) < 0.88


def test_a_function_as_metric(photo: Tensor) -> None:
    seen = []

    def green(reconstruction: Tensor, original: Tensor) -> Tensor:
        seen.append(reconstruction.shape)
        return (reconstruction - original)[:, 1].square().mean()

    tuned = tune.compress(photo, metric=green, target=tune.Bytes(9000), steps=4)
    plain = tune.compress(photo, target=tune.Bytes(9000), steps=4, metric="mse")
    decoded = jpegrad.decode(plain.coefficients)
    assert tuned.loss < 0.95 * float(green(decoded[None], photo[None] / 255))
    assert set(seen) == {(1, *photo.shape)}


def test_each_image_of_a_batch_gets_its_tables(photo: Tensor) -> None:
    batch = torch.stack([photo[:, :64, :64], photo[:, 128:192, 64:128]])
    tables = tune.learn_image_tables(batch, target=tune.Bytes(1500), steps=2)
    assert tables.shape == (2, 2, 8, 8)
    sizes = jpegrad.bits(jpegrad.encode(batch, tables=tables), huffman="optimized") / 8
    assert bool((sizes <= 1500).all())
    alone = tune.learn_image_tables(batch[1], target=tune.Bytes(1500), steps=2)
    assert torch.equal(alone, tables[1])


def test_a_list_shares_one_set(photo: Tensor) -> None:
    images = [photo[:, :64, :64], photo[:, 128:200, 64:128]]
    tables = tune.learn_image_tables(images, target=tune.Bytes(3500), steps=2)
    sizes = [float(jpegrad.bits(jpegrad.encode(x, tables=tables), huffman="optimized")) / 8 for x in images]
    assert 3400 < sum(sizes) <= 3500


def test_the_same_call_gives_the_same_file(photo: Tensor) -> None:
    first, second = (
        tune.compress(photo, target=tune.Bytes(6000), steps=3, metric="mse").to_bytes() for _ in range(2)
    )
    assert first == second


def wang(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """SSIM and its contrast · structure part of one channel, as in the paper: windows inside the image."""
    row = np.exp(-(np.arange(-5, 6) ** 2) / (2 * 1.5**2))
    window = np.outer(row, row) / row.sum() ** 2

    def mean(z: np.ndarray) -> np.ndarray:
        return convolve2d(z, window, "valid")

    mx, my = mean(x), mean(y)
    cov, vx, vy = mean(x * y) - mx * my, mean(x * x) - mx**2, mean(y * y) - my**2
    part = (2 * cov + 0.03**2) / (vx + vy + 0.03**2)
    whole = part * (2 * mx * my + 0.01**2) / (mx**2 + my**2 + 0.01**2)
    return float(whole.mean()), float(part.mean())


def test_similarities_are_those_of_the_papers(photo: Tensor) -> None:
    original = structure(photo)[None].double() / 255
    noise = torch.randn(original.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    image = (original + 0.05 * noise).clamp(0, 1)
    expected, x, y = 1.0, image[0].numpy(), original[0].numpy()
    for scale, exponent in enumerate((0.0448, 0.2856, 0.3001, 0.2363, 0.1333)):
        found = np.mean([wang(a, b) for a, b in zip(x, y, strict=True)], 0)
        expected *= found[0 if scale == 4 else 1] ** exponent
        x, y = (z.reshape(3, z.shape[1] // 2, 2, -1, 2).mean((2, 4)) for z in (x, y))
    assert 1 - float(metrics.get("ms-ssim").against(original)(image)) == pytest.approx(expected, abs=1e-12)
    found = tune.report(image, original)
    ssim, _ = wang(*(metrics.luma(z)[0, 0].numpy() for z in (image, original)))
    assert found["ms_ssim"] == pytest.approx(expected, abs=1e-5)
    assert found["ssim"] == pytest.approx(ssim, abs=1e-5)
    assert found["psnr"] == pytest.approx(-10 * float((image - original).square().mean().log10()), abs=1e-3)


def test_fitted_weights_are_those_of_a_quadratic() -> None:
    random = torch.Generator().manual_seed(1)
    error = torch.randn(40, 30, 8, 8, generator=random)
    frequency = torch.rand(8, 8, generator=random) + 0.5
    block = torch.rand(40, 30, 1, 1, generator=random) + 0.5
    weights = frequency * block
    fitted = fit_weights(error, 2 * weights * error).each
    assert float((fitted / weights).log().abs().mean()) < 0.2
    # Weights of frequencies come out to the noise of 1200 blocks.
    ratio = fitted.mean((0, 1)) / weights.mean((0, 1))
    assert float(ratio.log().abs().max()) < 0.1


@pytest.mark.parametrize("name", ["mse", "ms-ssim", "mix", "perceptual"])
def test_shipped_tables_serve_their_metric(name: str) -> None:
    assert name in table_names()
    base = jpegrad.tables.load(name)
    assert base.shape == (2, 8, 8)
    with Image.open(photograph_path("facades")) as picture:
        image = torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1).contiguous()
    for quality in (40, 80):
        start = tune.compress(
            image, metric=name, target=tune.LikeQuality(quality), choose_levels=False, steps=0
        )
        assert cost(image, start, quality, name) < 0.98


def test_command_line(tmp_path: Path, photo: Tensor, folder: Path) -> None:
    source, output = tmp_path / "photo.png", tmp_path / "photo.jpg"
    Image.fromarray(photo.permute(1, 2, 0).numpy()).save(source)
    runner = CliRunner()
    saved = tmp_path / "tables.json"
    command = [
        "tune",
        str(source),
        "-o",
        str(output),
        "--metric",
        "mse",
        "--target-bytes",
        "9000",
        "--steps",
        "3",
    ]
    done = runner.invoke(app, [*command, "--save-tables", str(saved)])
    assert done.exit_code == 0, done.output
    assert f"{output.stat().st_size:,}" in done.output
    assert 8850 < output.stat().st_size <= 9000
    assert "MS-SSIM" in done.output and "PSNR no less" in done.output
    assert torch.equal(jpegrad.tables.load(saved), jpegrad.read(output).tables)
    similar = ["tune", str(source), "-o", str(output), "--like-quality", "50", "--round-levels", "--force"]
    done = runner.invoke(app, similar)
    assert done.exit_code == 0 and "default, quality 50" in done.output
    done = runner.invoke(app, [*command, "--json", "--force"])
    assert done.exit_code == 0, done.output
    facts = json.loads(done.output)
    assert facts["file"] == str(output) and facts["bytes"] == output.stat().st_size
    default, tuned, equal = facts["compared"]
    assert (tuned["name"], tuned["bytes"]) == ("tuned for mse", facts["bytes"])
    assert default["bytes"] <= tuned["bytes"] and equal["psnr"] >= tuned["psnr"] > default["psnr"]
    assert jpegrad.encode(photo, default["quality"]).tables[0, 0, 0] > 1
    both = runner.invoke(app, [*command, "--bpp", "1"])
    assert isinstance(both.exception, ValueError) and "one target" in str(both.exception)
    command = ["jpeg", str(source), "-o", str(output), "--tables", "mse", "--quality", "75"]
    command.append("--force")
    assert runner.invoke(app, command).exit_code == 0
    scaled = jpegrad.tables.scale(jpegrad.tables.load("mse"), 75)
    assert torch.equal(jpegrad.read(output).tables, scaled)
    learned = tmp_path / "learned.json"
    command = ["tune-dataset", str(folder), "-o", str(learned), "--steps", "2", "--batch", "2"]
    done = runner.invoke(app, command)
    assert done.exit_code == 0, done.output
    assert jpegrad.tables.load(learned).shape == (2, 8, 8)


def in_range(photo: Tensor, low: float, high: float) -> Tensor:
    """As floating point whose samples have the same 8 bits."""
    return (photo.double() / 255 * (high - low) + low).float()


@pytest.mark.parametrize("choose", [True, False])
def test_the_range_of_the_image_changes_nothing(photo: Tensor, choose: bool) -> None:
    image = photo[:, 64:128, 64:144]
    options = {"metric": "mse", "target": tune.Bytes(2500), "steps": 2, "choose_levels": choose}
    expected = tune.compress(image, **options)  # type: ignore[arg-type]
    for low, high in ((0.0, 1.0), (0.0, 255.0), (-1.0, 1.0)):
        given = in_range(image, low, high)
        tuned = tune.compress(given, value_range=(low, high), **options)  # type: ignore[arg-type]
        if low == 0:
            assert tuned.to_bytes() == expected.to_bytes()
            again = tune.compress(given.double(), value_range=(low, high), **options)  # type: ignore[arg-type]
            assert again.to_bytes() == tuned.to_bytes()
        # In float32 the metric's original differs in the last digit, and may tip a level.
        assert tuned.loss == pytest.approx(expected.loss, rel=0.02)
        decoded = jpegrad.decode(tuned.coefficients)
        assert decoded.dtype is torch.float32
        loss = ((decoded.double() - given) / (high - low)).square().mean()
        assert float(loss) == pytest.approx(tuned.loss, rel=1e-4)


def test_tables_do_not_depend_on_the_range(photo: Tensor) -> None:
    images = [photo[:, :64, :64], photo[:, 100:172, 30:94]]
    signed = [in_range(image, -1, 1) for image in images]
    shared = [
        tune.learn_image_tables(each, target=tune.Bytes(3500), steps=2, value_range=bounds)
        for each, bounds in ((images, (0.0, 1.0)), (signed, (-1.0, 1.0)))
    ]
    assert torch.equal(*shared)
    settings = tune.DatasetSettings(steps=2, batch=2, crop=48)
    base = [
        tune.learn_dataset_tables(each, settings=settings, value_range=bounds)
        for each, bounds in ((images, (0.0, 1.0)), (signed, (-1.0, 1.0)))
    ]
    assert torch.equal(*base)


def test_the_codec_sees_the_image_as_it_was_given(photo: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    # So that its own checks of the range speak, whoever calls it.
    image = photo[:, :32, :32].float()
    seen = []

    def encode(given: Tensor, **options: object) -> jpegrad.Coefficients:
        seen.append((given, options["value_range"]))
        return jpegrad.encode(given, **options)  # type: ignore[arg-type]

    monkeypatch.setattr("jpegrad.tune.objective.encode", encode)
    tune.compress(image, steps=1, value_range=(0, 256), metric="mse")
    assert all(torch.equal(given, image) and bounds == (0.0, 256.0) for given, bounds in seen)
    assert seen


def test_report_takes_every_range(photo: Tensor) -> None:
    image = (photo.int() + 3).clamp(max=255).to(torch.uint8)
    expected = tune.report(image / 255, photo / 255)
    assert expected["psnr"] == pytest.approx(-20 * math.log10(3 / 255), abs=0.1)
    assert tune.report(image, photo) == expected
    assert tune.report(image / 255, photo) == expected
    signed = tune.report(in_range(image, -1, 1), in_range(photo, -1, 1), value_range=(-1, 1))
    for name, value in expected.items():
        assert signed[name] == pytest.approx(value, rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("copies", [1, 4])
def test_similarity_with_and_without_a_gradient(photo: Tensor, dtype: torch.dtype, copies: int) -> None:
    original = photo[None, :, :180, :190].to(dtype) / 255
    image = (original + 0.05 * torch.rand(original.shape)).clamp(0, 1).float().repeat(copies, 1, 1, 1)
    structure = metrics.Structure(original, 5)
    for found, expected in zip(
        structure.similarities(image), structure.similarities(image.clone().requires_grad_()), strict=True
    ):
        assert found.shape == expected.shape == (5, copies)
        assert torch.allclose(found.double(), expected.detach().double(), rtol=1e-4)
