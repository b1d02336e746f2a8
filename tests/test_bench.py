"""The instruments of the studies: what they measure on cases with a known answer, and that results survive."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from baselines.fsa import pillow
from bench import ablate, attack, common, forward, gradient
from bench.recover import annealed, descend
from bench.truth import Estimate, agreement, file_with_tables, quality_slope, smoothed_gradient, table_slopes
from jpegrad import tables


def test_results_go_on_where_they_stopped(tmp_path: Path) -> None:
    path = tmp_path / "study.json"
    first = common.Results(path, {"seed": 0, "sizes": (1, 2)})
    first.add("a", {"value": 1.5})
    again = common.Results(path, {"seed": 0, "sizes": (1, 2)})
    assert again.cells == {"a": {"value": 1.5}} and again.missing(["a", "b"]) == ["b"]
    assert json.loads(path.read_text())["versions"]["torch"]
    assert common.Results(path, {"seed": 1, "sizes": (1, 2)}).cells == {}
    assert [file.name for file in tmp_path.iterdir()] == ["study.json"]


def test_publish_replaces_one_section(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("a\n<!-- begin x -->old<!-- end x -->\nb\n<!-- begin y -->\n<!-- end y -->\n")
    common.publish("x", "new", page)
    common.publish("x", "newer", page)
    assert (
        page.read_text()
        == "a\n<!-- begin x -->\n\nnewer\n\n<!-- end x -->\nb\n<!-- begin y -->\n<!-- end y -->\n"
    )
    with pytest.raises(ValueError, match="begin z"):
        common.publish("z", "new", page)


def test_every_quality_has_its_bin() -> None:
    counts = {name: sum(common.bin_of(q) == name for q in range(1, 100)) for name in common.BINS}
    assert list(counts.values()) == [10, 15, 25, 25, 24]


def test_bootstrap_covers_the_mean() -> None:
    rng = np.random.default_rng(0)
    covered = [low < 0 < high for low, high in (common.bootstrap(rng.normal(size=40)) for _ in range(200))]
    assert 0.88 < np.mean(covered) < 1.0


def test_agreement_recognises_the_truth_and_its_double() -> None:
    generator = torch.Generator().manual_seed(0)
    truth = torch.randn(3, 16, 16, generator=generator)
    noisy = truth + 3 * torch.randn(10, 3, 16, 16, generator=generator)
    estimate = Estimate(noisy.double())
    exact = agreement(2 * truth, estimate)
    assert abs(exact["cosine"] - 1) < 3 * exact["cosine_error"] + 0.05
    assert abs(exact["size"] - 0.5) < 3 * exact["size_error"] + 0.02
    stranger = agreement(torch.randn(3, 16, 16, generator=generator), estimate)
    assert abs(stranger["cosine"]) < 0.2


def test_smoothed_gradient_of_a_fine_file_is_the_weights() -> None:
    """At quality 100 and 4:4:4 the codec is nearly the identity, so a linear loss has its own weights as gradient."""
    generator = torch.Generator().manual_seed(0)
    image = 128 + 10 * torch.randn(3, 16, 16, generator=generator)
    weights = torch.randn(3, 16, 16, generator=generator)
    (estimate,) = smoothed_gradient(
        image,
        100,
        "4:4:4",
        4.0,
        [lambda images: (images * weights).sum((1, 2, 3))],
        pairs=1500,
        parts=10,
        seed=0,
    )
    found = agreement(weights, estimate)
    assert abs(found["cosine"] - 1) < 0.03 + 3 * found["cosine_error"] < 0.2
    assert abs(found["size"] - 1) < 0.03 + 3 * found["size_error"] < 0.2


def test_slopes_of_files_fall_with_finer_tables(photograph) -> None:  # type: ignore[no-untyped-def]
    image = photograph("caps").float()[:, :64, :64]
    assert quality_slope(image, 30, "4:2:0") < 0
    base = tables.annex_k(30.0).float()
    same = pillow(image[None], torch.tensor([30.0]))[0]
    assert torch.equal(file_with_tables(image, base), same)
    assert table_slopes(image, base, "4:2:0").sum((1, 2)).min() > 0


@pytest.mark.parametrize("name", attack.ATTACKS)
def test_attacks_stay_in_their_ball_and_succeed(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(20, 236, (4, 3, 32, 32), generator=generator).float()
    readout = torch.randn(5, 3 * 32 * 32, generator=generator)

    def logits(x: torch.Tensor) -> torch.Tensor:
        return (x / 255 - 0.5).flatten(1) @ readout.T

    classes = logits(images).argmax(1)
    quality = torch.full((4,), 90.0)
    seen = attack.subjects()["no JPEG in the loop"]
    adversarial = attack.perturb(logits, seen, images, classes, quality, attack.ATTACKS[name], 4.0)
    offset = adversarial - images
    assert torch.equal(adversarial, adversarial.round())
    if attack.ATTACKS[name].norm == "inf":
        assert offset.abs().max() == 4
    else:
        assert (attack.lengths(offset) < 4 + 0.3).all()
    before = attack.judge(logits, images, classes, quality)[1]
    after = attack.judge(logits, adversarial, classes, quality)[1]
    assert np.mean(after) > np.mean(before) + 1


def test_judging_uses_the_file() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (2, 3, 32, 32), generator=generator).float()
    quality = torch.tensor([10.0, 80.0])
    shown = []

    def logits(x: torch.Tensor) -> torch.Tensor:
        shown.append(x)
        return x.mean((2, 3))

    attack.judge(logits, images, torch.tensor([0, 1]), quality)
    assert torch.equal(shown[0], pillow(images, quality))


@pytest.mark.parametrize("quality", (1, 10, 50, 75, 99))
def test_the_ablated_pipeline_with_nothing_missing_is_the_codec(photograph, quality: int) -> None:  # type: ignore[no-untyped-def]
    image = photograph("tulips")[:, :96, :112].float()
    real = pillow(image[None].double(), torch.tensor([float(quality)]))[0]
    assert torch.equal(ablate.code(image, quality, set()), real)
    for detail in ("8-bit YCbCr", "triangle upsampling"):
        assert not torch.equal(ablate.code(image, quality, {detail}), real)


def test_annealed_descent_finds_a_quality(photograph) -> None:  # type: ignore[no-untyped-def]
    image = photograph("facades")[:, :64, :64].float()
    target = pillow(image[None], torch.tensor([25.0]))
    q = torch.tensor([40.0], requires_grad=True)
    descend(q, lambda q, t: annealed(image[None], q, None, t), target, 30, 2.0, (1, 99))
    assert abs(round(float(q.detach())) - 25) <= 1


STUDIES = {
    "forward": forward.tables,
    "attack": attack.tables,
    "gradient": gradient.report,
    "ablate": ablate.report,
}


@pytest.mark.parametrize("study", STUDIES)
def test_the_published_tables_are_those_of_the_results(study: str) -> None:
    path = common.RESULTS / f"{study}.json"
    if not path.exists():
        pytest.skip(f"no results of {study}")
    results = common.Results(path, json.loads(path.read_text())["settings"])
    assert STUDIES[study](results) in common.COMPARISON.read_text()


def test_forward_study_prints_exact_for_the_codec(tmp_path: Path) -> None:
    results = common.Results(tmp_path / "forward.json", {"images": ["one"]})
    image = common.load_images(None, 1)
    one = next(iter(image.values()))[:, :64, :64]
    for name in ("jpegrad",):
        cell = forward.compare(forward.OURS[name], one, 40)
        assert cell == {"psnr": None, "ssim": 1.0, "differing": 0.0, "differing_opencv": 0.0}
        results.add(f"{name}/40", {"one": cell})
    assert "exact" in forward.tables(results)
