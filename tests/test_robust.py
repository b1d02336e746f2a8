"""The study of robust classifiers: its gratings, what no gradient is needed for, and what its tables say."""

from pathlib import Path

import pytest
import torch

from jpegrad_studies import common, robust, train


@pytest.fixture(autouse=True)
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """A verdict by fewer files."""
    monkeypatch.setattr(robust, "JUDGED", 16)
    monkeypatch.setattr(robust, "JUDGED_ATTACKED", 4)


def test_every_class_has_a_grating_of_its_own() -> None:
    classes = torch.arange(robust.CLASSES)
    waves = robust.gratings(torch.full((robust.CLASSES, 3, 32, 32), 128.0), classes, torch.zeros(8)) - 128
    assert float(waves.abs().max()) == pytest.approx(robust.AMPLITUDE, rel=1e-2)
    peaks = torch.fft.fft2(waves[:, 0]).abs().flatten(1).argmax(1)
    places = {
        tuple(sorted((int(peak), (-(int(peak) // 32) % 32) * 32 + -(int(peak) % 32) % 32))) for peak in peaks
    }
    assert len(places) == robust.CLASSES


def test_as_an_augmentation_all_that_have_the_files_value_are_one() -> None:
    everyone = train.contestants()
    exact = ("exact, slope 1", "exact, σ 2", "exact, cubic", "exact value, gradient of soft σ 6")
    images, _ = robust.draw(train.photographs()[0], 4, torch.Generator().manual_seed(0))
    quality = torch.tensor([20.0, 41.0, 77.0, 90.0])
    for name in exact:
        assert torch.equal(everyone[name](images, quality, 0.5), everyone["fsa"](images, quality, 0.5))
    records = [robust.train(everyone[name], 2, 0)["errors"] for name in ("fsa", "exact, σ 2")]
    assert records[0] == records[1]


def test_a_training_repeats_and_its_seed_counts() -> None:
    coder = train.contestants()["soft, σ 6"]
    first, again, other = (robust.train(coder, 2, seed)["errors"] for seed in (0, 0, 1))
    assert first == again != other


@pytest.mark.slow
def test_a_classifier_learns() -> None:
    record = robust.train(train.contestants()["no JPEG in training"], 300, 0)
    assert record["errors"]["as they are"] < 10


def test_a_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    path = tmp_path / "robust.json"
    options = ["--steps", "1", "--seeds", "1", "--out", str(path)]
    robust.main([*options, "--contestants", "fsa"])
    whole = path.read_text()
    robust.main([*options, "--contestants", "fsa"])
    assert path.read_text() == whole
    robust.main([*options, "--contestants", "fsa", "soft, σ 6"])
    settings = {
        "side": 32, "amplitude": 8.0, "budget": 2.0, "steps": 1, "batch": 32, "rate": 3e-3,
        "qualities": (20, 90), "held out": train.HELD_OUT, "judged": (16, 4),
    }  # fmt: skip
    results = common.Results(path, settings)
    assert set(results.cells) == {"fsa/0", "soft, σ 6/0"}
    text = robust.tables(results)
    assert text.count("\n") == 3 and "| fsa | 87.5 |" in text
