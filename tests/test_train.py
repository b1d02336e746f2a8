"""The study of training: its networks, its curriculum, its contestants, and what its tables say."""

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import torch

import jpegrad
from jpegrad_studies import common, figures, learners, train
from jpegrad_studies.baselines.fsa import pillow

WATERMARK = learners.TASKS["watermark"]
SETTINGS = {"side": 32, "bits": 16, "batch": 16, "held out": train.HELD_OUT, "judged": 16}
QUALITY = torch.tensor([30.0, 50.0, 70.0])


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """A verdict by fewer files."""
    monkeypatch.setattr(learners, "JUDGED", 16)
    monkeypatch.setattr(train, "JUDGED", 16)


def images(count: int = 3) -> torch.Tensor:
    return learners.crops(train.photographs()[0], count, torch.Generator().manual_seed(0))


def test_blocks_are_those_of_jpeg_and_come_back() -> None:
    x = images()
    vectors = learners.blocks(x)
    torch.testing.assert_close(vectors[1, 5].reshape(3, 8, 8) * 127.5 + 127.5, x[1, :, 8:16, 8:16])
    torch.testing.assert_close(learners.picture(vectors) * 127.5 + 127.5, x)


@pytest.mark.parametrize("embedder", [learners.Embedder, learners.ConvolvingEmbedder])
def test_a_mark_has_its_psnr(embedder: type[learners.Embedder]) -> None:
    x = torch.full((2, 3, 32, 32), 128.0)
    marked = embedder(38.0)(x, torch.ones(2, learners.BITS))
    error = (marked - x).square().mean((1, 2, 3)).detach().numpy()
    np.testing.assert_allclose(10 * np.log10(255**2 / error), 38, atol=1e-3)


def test_files_are_those_of_their_settings() -> None:
    x = images()
    settings = WATERMARK.settings
    assert set(settings) > {"4:4:4, q 90", "mozjpeg's tables, q 70"}
    assert torch.equal(settings["4:4:4, q 30"](x), pillow(x, torch.full((3,), 30.0), "4:4:4"))
    tables = jpegrad.tables.scale(jpegrad.tables.load("robidoux"), 50)
    expected = jpegrad.jpeg(x.round(), tables=tables, value_range=(0, 255))
    assert torch.equal(learners.other_tables(x, 50), expected)


def test_bits_that_are_right_are_counted() -> None:
    logits, bits = torch.tensor([[1.0, -1.0], [2.0, -2.0]]), torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    assert float(learners.right(logits, bits)) == 75


@pytest.mark.parametrize("ramp", [0.0, 0.5])
def test_the_share_of_coded_images_rises(ramp: float) -> None:
    counts: dict[float, int] = {}

    def count(image: torch.Tensor, quality: torch.Tensor, progress: float) -> torch.Tensor:
        assert len(image) == len(quality) and quality.min() >= 40 and quality.max() <= 80
        assert torch.equal(quality, quality.round())
        counts[progress] = len(image)
        return image

    train.train(WATERMARK, count, 9, ramp, 1e-3, [0])
    coded = [counts.get(step / 8, 0) for step in range(9)]
    assert coded[4:] == [train.BATCH] * 5
    if ramp:
        assert coded[0] == 0 and 0 < sum(coded[1:4]) < 3 * train.BATCH
    else:
        assert coded[:4] == [train.BATCH] * 4


def test_the_share_may_rise_with_the_bits_that_are_right(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = []

    def count(image: torch.Tensor, quality: torch.Tensor, progress: float) -> torch.Tensor:
        counts.append(len(image))
        return image

    monkeypatch.setattr(train, "right", lambda logits, bits: torch.full((1,), 50.0))
    train.train(WATERMARK, count, 40, math.inf, 1e-3, [0])
    assert not counts
    monkeypatch.setattr(train, "right", lambda logits, bits: torch.full((1,), 100.0))
    train.train(WATERMARK, count, 90, math.inf, 1e-3, [0])
    # The running mean reaches 90 % after 80 steps: 1 − 0.98^80 = 0.8.
    assert counts[-8:] == [train.BATCH] * 8
    assert 0.3 < sum(counts) / (90 * train.BATCH) < 0.7


@pytest.mark.parametrize(
    "task",
    [pytest.param(task, marks=[] if task == "watermark" else pytest.mark.slow) for task in learners.TASKS],
)
def test_a_training_repeats_and_its_seed_counts(task: str) -> None:
    coder, found = train.contestants()["soft, σ 2"], []
    for seeds in ([0, 1], [0, 1]):
        found.append([one["errors"] for one in train.train(learners.TASKS[task], coder, 3, 0.5, 1e-3, seeds)])
    first, again = found
    assert first == again and first[0] != first[1]
    assert set(first[0]) == set(learners.TASKS[task].settings)


@pytest.mark.parametrize("build", [learners.Embedder, learners.ConvolvingEmbedder, learners.Filter])
def test_networks_together_are_each_of_them(build: type[torch.nn.Module]) -> None:
    together = train.initial(build, [3, 4])
    x = torch.stack([images(2), images(2)])
    bits = torch.ones(2, 2, learners.BITS)
    out = together(x, bits)
    out.square().mean((1, 2, 3, 4)).sum().backward()
    for i, seed in enumerate((3, 4)):
        torch.manual_seed(seed)
        alone = build()
        expected = alone(x[i], bits[i])
        torch.testing.assert_close(out[i], expected, rtol=1e-5, atol=1e-3)
        expected.square().mean().backward()
        for name, value in alone.named_parameters():
            found = together.parameters[name].grad[i]
            torch.testing.assert_close(
                found, value.grad, rtol=1e-3, atol=1e-5 * float(value.grad.abs().max())
            )


@pytest.mark.slow
def test_a_network_learns() -> None:
    (record,) = train.train(WATERMARK, lambda image, quality, progress: image, 250, 0.0, 3e-3, [0])
    assert record["left the plateau"] < 150
    assert record["right in training"][-1] > 90


def test_no_filters_change_nothing() -> None:
    none = learners.Filter()
    found = learners.TASKS["sandwich"].errors(none, none, train.photographs()[1], 0, ["4:2:0, q 10"])
    assert found == {"4:2:0, q 10": 100.0}


def test_every_contestant_reaches_the_image() -> None:
    x = images()
    without = {"no JPEG in training", "mbrs"}
    for name, coder in train.contestants().items():
        torch.manual_seed(0)
        seen = x.clone().requires_grad_()
        coded = coder(seen, QUALITY, 0.5)
        assert coded.shape == x.shape
        if name not in without:
            (gradient,) = torch.autograd.grad(coded.sum(), seen)
            assert gradient.isfinite().all() and gradient.any()


def test_the_exact_value_may_carry_another_gradient() -> None:
    x, everyone = images(), train.contestants()
    gradients = []
    for name in ("exact value, gradient of soft σ 6", "soft, σ 6"):
        seen = x.clone().requires_grad_()
        coded = everyone[name](seen, QUALITY, 0.0)
        gradients.append(torch.autograd.grad((coded * x).sum(), seen)[0])
        if name.startswith("exact"):
            assert torch.equal(coded, pillow(x, QUALITY))
    assert torch.equal(*gradients)


def test_a_width_may_follow_the_quality() -> None:
    x, q = images(), torch.tensor([30.0, 50.0, 50.0])
    one = train.by_quality("soft", 0.1)(x, q, 0.0)
    entries = jpegrad.tables.annex_k(q)[:, 0].double().mean((1, 2))
    for i in range(3):
        width = float(2 ** ((2 * (0.1 * entries[i]).log2()).round() / 2))
        assert 0.08 * float(entries[i]) < width < 0.12 * float(entries[i])
        expected = train.fixed(forward="soft", sigma=width)(x[i : i + 1], q[i : i + 1], 0.0)
        assert torch.equal(one[i : i + 1], expected)


def test_a_gradient_may_be_that_of_two_qualities_or_none() -> None:
    x = torch.ones(3, 1, 1, 1, requires_grad=True)
    both = train.at_other_qualities(lambda image, quality, progress: image * quality[:, None, None, None])
    assert both(x, QUALITY, 0.0).flatten().tolist() == [50, 40, 60]
    assert not train.unseen(both)(x, QUALITY, 0.0).requires_grad


def test_turns_are_taken_image_by_image() -> None:
    mixed = train.mixed(lambda x, q, p: x + q[:, None, None, None], lambda x, q, p: -x)
    x = torch.ones(3, 1, 1, 1)
    assert mixed(x, QUALITY, 0.0).flatten().tolist() == [31, -1, 71]
    assert mixed(x[:1], QUALITY[:1], 0.0).flatten().tolist() == [31]


def test_intervals_are_those_of_student() -> None:
    for count in range(2, 9):
        values = np.random.default_rng(count).normal(size=count)
        low, high = scipy.stats.t.interval(0.95, count - 1, values.mean(), scipy.stats.sem(values))
        mean, half = train.interval(values)
        np.testing.assert_allclose((mean - half, mean + half), (low, high), atol=0.01)
    assert math.isnan(train.interval([1.0])[1])


def test_tables_rank_the_better_rate_of_each(tmp_path: Path) -> None:
    results = common.Results(tmp_path / "train.json", {})
    settings = list(WATERMARK.settings)

    def record(error: float, left: int | None) -> train.Record:
        return {"errors": dict.fromkeys(settings, error), "on other crops": error, "left the plateau": left}

    worlds = {"reich_ste": (8.0, 4.0), "exact, σ 2": (1.0, 2.0)}
    for (name, errors), (rate, error) in itertools.product(
        worlds.items(), zip((3e-3, 1e-3), (0, 1), strict=True)
    ):
        for seed in range(2):
            made = record(errors[error] * (seed + 1), None if name == "reich_ste" else 7 + seed)
            results.add(train.key_of("watermark", 600, 0.5, name, rate, seed), made)
    text = train.tables(results)
    best, reference = text.split("\n\n")[1].splitlines()[-2:]
    assert best.split(" | ")[0] == "| exact, σ 2" and best.endswith("| 1.50 | 0.25 [0.25, 0.25] | 2 | 8 |")
    assert reference.endswith("| 6.00 | 1.00 [1.00, 1.00] | 2 | no |")
    assert text.splitlines()[-2:] == ["| reich_ste | 6.00 (!) | 12.00 |", "| exact, σ 2 | 3.00 | 1.50 (!) |"]
    figures.train(results, tmp_path / "train.png")
    assert (tmp_path / "train.png").stat().st_size > 1000


def test_curricula_with_a_rising_share_are_compared_seed_by_seed(tmp_path: Path) -> None:
    results = common.Results(tmp_path / "train.json", {})
    settings = list(WATERMARK.settings)
    worlds = {("exact, σ 2", 0.5): (1, 4), ("exact, σ 2", math.inf): (1, 1), ("soft, σ 2", 0.5): (9, 9)}
    worlds |= {("reich_ste", ramp): (2, 2) for ramp in (0, 0.5, math.inf)} | {("exact, σ 2", 0): (99, 99)}
    for (name, ramp), errors in worlds.items():
        for seed, error in enumerate(errors):
            made = {"errors": dict.fromkeys(settings, error), "on other crops": 1, "left the plateau": 7}
            results.add(train.key_of("watermark", 600, ramp, name, 3e-3, seed), made)
    text = train.over_curricula(results, "watermark")
    assert "| all, % | over 50 %, 600 steps | with the bits that are right, 600 steps |" in text
    # Seed 0: √(½ · ½); seed 1: √(2 · ½).
    row, reference = text.splitlines()[-2:]
    assert row.startswith("| exact, σ 2 | 2.50 | 1.00 | 0.71 [") and row.endswith("] | 3 of 4 |")
    assert reference == "| reich_ste | 2.00 | 2.00 | 1.00 | – |"
    assert train.over_curricula(results, "sandwich") == ""


def test_a_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    path = tmp_path / "train.json"
    options = ["--contestants", "soft, σ 2", "--steps", "2", "--rates", "0.001", "--out", str(path)]
    train.main([*options, "--seeds", "1"])
    (first,) = common.Results(path, SETTINGS).cells.values()
    train.main([*options, "--seeds", "2"])
    assert next(iter(common.Results(path, SETTINGS).cells.values())) == first
    whole = path.read_text()
    train.main([*options, "--seeds", "2"])
    assert path.read_text() == whole
