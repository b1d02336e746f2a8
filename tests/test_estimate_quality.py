"""Estimating the quality from tables: exact for IJG's, the nearest otherwise."""

import pytest
import torch

from corpus import picture, pillow
from jpegrad.io import read
from jpegrad.tables import QualityEstimate, annex_k, estimate_quality


@pytest.mark.parametrize("count", [1, 2, 3])
def test_every_quality_is_recognised(count: int) -> None:
    for quality in range(1, 101):
        tables = annex_k(quality)[[0, 1, 1][:count]]
        assert estimate_quality(tables) == QualityEstimate(quality, True, 0.0)
        assert estimate_quality(tables.double()).quality == quality


def test_files_of_pillow_are_recognised() -> None:
    for quality in (1, 35, 75, 95, 100):
        assert estimate_quality(read(pillow(picture(16, 16), quality=quality)).tables).quality == quality
        gray = read(pillow(picture(16, 16)[..., 0].copy(), quality=quality))
        assert estimate_quality(gray.tables) == (quality, True, 0.0)


def test_other_tables_get_the_nearest_quality_and_a_distance() -> None:
    tables = annex_k(60).clone()
    tables[0, 3, 4] += 1
    found = estimate_quality(tables)
    assert (found.quality, found.exact) == (60, False)
    ratio = torch.log(tables[0, 3, 4].double() / (tables[0, 3, 4].double() - 1))
    assert found.distance == pytest.approx(float(ratio) / 128, rel=1e-12)
    # Twice the entries of quality 50 is quality 25; a uniform factor is the distance itself, up to rounding.
    assert estimate_quality(2 * annex_k(50)).quality == 25
    assert estimate_quality(annex_k(75) * 1.0001).distance == pytest.approx(1e-4, rel=1e-3)
    assert estimate_quality(torch.full((2, 8, 8), 1e4)).quality == 1


def test_of_equally_near_qualities_the_highest(monkeypatch: pytest.MonkeyPatch) -> None:
    def same_from_40_to_60() -> torch.Tensor:
        quality = torch.arange(100, 0, -1)
        return annex_k(torch.where((quality >= 40) & (quality <= 60), 50, quality), dtype=torch.float64)

    monkeypatch.setattr("jpegrad.tables._every_quality", same_from_40_to_60)
    assert estimate_quality(annex_k(50)) == (60, True, 0.0)
    assert estimate_quality(annex_k(50) + 0.25).quality == 60


def test_wrong_tables() -> None:
    with pytest.raises(TypeError, match="tables"):
        estimate_quality([[1]])  # type: ignore[arg-type]
    for shape in ((8, 8), (4, 8, 8), (2, 64), (1, 2, 8, 8), (0, 8, 8)):
        with pytest.raises(ValueError, match="shape"):
            estimate_quality(torch.ones(shape))
    for value in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="positive"):
            estimate_quality(torch.full((1, 8, 8), value))
