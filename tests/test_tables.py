"""Quantization tables: values are Annex K's and libjpeg's, gradients reach the quality and the base."""

import json
from pathlib import Path

import pytest
import torch

import jpegrad
from corpus import libjpeg, picture
from jpegrad import surrogates, tables
from jpegrad.data import published_table_names, table_path


def test_zigzag_walks_the_diagonals() -> None:
    # T.81 Figure A.6, written as the position of every natural index.
    positions = [
        [0, 1, 5, 6, 14, 15, 27, 28],
        [2, 4, 7, 13, 16, 26, 29, 42],
        [3, 8, 12, 17, 25, 30, 41, 43],
        [9, 11, 18, 24, 31, 40, 44, 53],
        [10, 19, 23, 32, 39, 45, 52, 54],
        [20, 22, 33, 38, 46, 51, 55, 60],
        [21, 34, 37, 47, 50, 56, 59, 61],
        [35, 36, 48, 49, 57, 58, 62, 63],
    ]
    natural = [tables.ZIGZAG.index(i) for i in range(64)]
    assert natural == [k for row in positions for k in row]


def test_quality_50_is_annex_k_and_100_is_all_ones() -> None:
    assert torch.equal(tables.annex_k(50), torch.tensor(tables.ANNEX_K, dtype=torch.float32))
    assert torch.equal(tables.annex_k(100), torch.ones(2, 8, 8))


def test_the_luma_table_is_not_transposed() -> None:
    # Row = vertical frequency: 12 below the DC entry, 11 to its right.
    luma = tables.annex_k(50)[0]
    assert (luma[1, 0], luma[0, 1]) == (12, 11)
    assert not torch.equal(luma, luma.mT)


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (0,)], ids=str)
def test_shapes_follow_the_quality(shape: tuple[int, ...]) -> None:
    quality = torch.full(shape, 30.0)
    assert tables.annex_k(quality).shape == (*shape, 2, 8, 8)
    assert tables.scale(torch.full((4, 8, 8), 9.0), quality).shape == (*shape, 4, 8, 8)


@pytest.mark.parametrize("name", [None, "reich2024"])
def test_a_quality_with_the_dimensions_of_an_image_pairs_with_tables(name: str | None) -> None:
    record = surrogates.identity if name is None else surrogates.get(name)
    bases = torch.randint(1, 256, (4, 2, 8, 8)).double().requires_grad_()
    quality = torch.tensor([1.0, 30.5, 75.0, 100.0], dtype=torch.float64, requires_grad=True)
    paired = tables.scale(bases, quality[:, None, None, None], forward="soft", surrogate=record)
    single = [
        tables.scale(base, q, forward="soft", surrogate=record)
        for base, q in zip(bases, quality, strict=True)
    ]
    assert torch.equal(paired, torch.stack(single))
    weights = torch.randn(4, 2, 8, 8, dtype=torch.float64)
    of_pairs = torch.autograd.grad((paired * weights).sum(), (bases, quality))
    of_each = torch.autograd.grad((torch.stack(single) * weights).sum(), (bases, quality))
    for a, b in zip(of_pairs, of_each, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=0)
    assert tables.scale(bases[0], quality[:, None, None, None]).shape == (4, 2, 8, 8)


def test_qualities_that_do_not_pair_are_an_error() -> None:
    with pytest.raises(ValueError, match=r"quality: expected a shape .* \[3, 2, 8, 8\], got \[4, 1, 1, 1\]"):
        tables.scale(torch.ones(3, 2, 8, 8), torch.full((4, 1, 1, 1), 50))


def test_dtypes() -> None:
    assert tables.annex_k(50).dtype == torch.float32
    assert tables.annex_k(torch.tensor(50)).dtype == torch.float32
    assert tables.annex_k(torch.tensor(50.0, dtype=torch.float64)).dtype == torch.float64
    assert tables.annex_k(50, dtype=torch.float16).dtype == torch.float16


def test_values_of_a_tensor_are_clamped_and_nan_is_quality_one() -> None:
    quality = torch.tensor([-5.0, 0.0, float("nan"), 1000.0, float("inf"), float("-inf")])
    expected = tables.annex_k(torch.tensor([1.0, 1.0, 1.0, 100.0, 100.0, 1.0]))
    assert torch.equal(tables.annex_k(quality), expected)


def test_gradient_reaches_quality_and_base() -> None:
    quality = torch.tensor([1.0, 10.0, 50.0, 75.0, 99.0], requires_grad=True)
    tables.annex_k(quality).sum().backward()
    assert quality.grad is not None
    assert (quality.grad < 0).all()
    base = torch.tensor(tables.ANNEX_K, dtype=torch.float64, requires_grad=True)
    tables.scale(base, 25).sum().backward()
    # Percent is 200: slope 2 where the entry is inside 1…255, else 0.
    assert base.grad is not None
    assert torch.equal(base.grad, torch.full_like(base, 2.0))


def test_an_integer_base_keeps_the_gradient_of_the_quality() -> None:
    quality = torch.tensor(30.0, requires_grad=True)
    tables.scale(torch.tensor(tables.ANNEX_K), quality).sum().backward()
    assert quality.grad is not None
    assert quality.grad != 0


def test_no_quality_is_dead_for_any_entry_that_moves_nearby() -> None:
    quality = torch.arange(1.0, 101.0, dtype=torch.float64, requires_grad=True)
    entries = tables.annex_k(quality)
    entries.flatten(1).sum(1).sum().backward()
    assert quality.grad is not None
    assert (quality.grad < 0).all()


@pytest.mark.parametrize("name", sorted(set(surrogates.ALL) - {"reich2024", "reich2024_ste"}))
def test_the_soft_forward_has_the_tables_of_the_file(name: str) -> None:
    base = torch.tensor(tables.ANNEX_K, dtype=torch.float64)
    quality = torch.tensor([1.0, 12.3, 30.0, 50.0, 61.7, 100.0], dtype=torch.float64, requires_grad=True)
    slopes = []
    for options in ({"forward": "soft", "surrogate": surrogates.ALL[name]}, {}):
        entries = tables.scale(base, quality, **options)
        assert torch.equal(entries, tables.annex_k(quality))
        slopes.append(torch.autograd.grad(entries.sum(), quality)[0])
    assert torch.equal(*slopes)


@pytest.mark.parametrize("quality", [1.0, 100.0])
def test_a_quality_at_or_beyond_its_bound_has_the_slope_of_the_bound(quality: float) -> None:
    base = torch.tensor(tables.ANNEX_K, dtype=torch.float64, requires_grad=True)
    # By hand: the chord to two qualities inside of the clipped, unfloored entry.
    inside = 3.0 if quality == 1 else 98.0
    at, near = ((base * s / 100).clamp(1, 255).sum() for s in ((5000, 5000 / 3) if quality == 1 else (0, 4)))
    expected = (near - at) / (inside - quality)
    assert expected < 0
    for distance in (0.0, 0.5, 7.0, 1e6):
        given = quality + distance * (1 if quality == 100 else -1)
        q = torch.tensor(given, dtype=torch.float64, requires_grad=True)
        (found,) = torch.autograd.grad(tables.scale(base, q).sum(), q)
        torch.testing.assert_close(found, expected.detach())


def test_a_base_outside_its_range_is_not_dead() -> None:
    wild = torch.tensor([-3.0, 0.2, 16.0, 300.0], dtype=torch.float64).view(4, 1, 1).expand(4, 8, 8)
    for quality, percent in ((10, 500.0), (50, 100.0), (90, 20.0)):
        base = wild.clone().requires_grad_()
        entries = tables.scale(base, quality)
        assert entries.min() >= 1 and entries.max() <= 255
        (slope,) = torch.autograd.grad(entries.sum(), base)
        torch.testing.assert_close(slope, torch.full_like(slope, percent / 100))


def test_legal_tables_are_integers_from_1_to_255() -> None:
    wild = torch.tensor(
        [0.0, -3.0, 0.4, 1.5, 16.4, 254.6, 300.0, 1e30, float("nan"), float("inf"), float("-inf")]
    )
    expected = torch.tensor([1.0, 1.0, 1.0, 2.0, 16.0, 255.0, 255.0, 255.0, 1.0, 255.0, 1.0])
    for dtype in (torch.float32, torch.float64):
        assert torch.equal(tables.legal(wild.to(dtype)), expected.to(dtype))
    assert torch.equal(tables.legal(torch.tensor([0, 16, 999])), torch.tensor([1, 16, 255]))


@pytest.mark.parametrize("forward", ["exact", "soft"])
def test_legal_has_slope_one_everywhere(forward: str) -> None:
    wild = torch.tensor([-3.0, 0.2, 1.0, 16.4, 255.0, 300.0], dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(tables.legal(wild, forward=forward).sum(), wild)
    assert torch.equal(slope, torch.ones_like(wild))


def test_soft_tables_stay_real() -> None:
    given = torch.tensor([0.2, 16.4, 300.0])
    assert torch.equal(tables.legal(given, forward="soft"), torch.tensor([1.0, 16.4, 255.0]))


DEEP = "[" * 100_000 + "]" * 100_000


@pytest.mark.parametrize("text", [DEEP, f'{{"tables": {DEEP}}}', f"[[[1{'0' * 400}]]]"], ids=len)
def test_json_that_python_cannot_hold(tmp_path: Path, text: str) -> None:
    path = tmp_path / "tables.json"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"tables\.json: expected JSON with tables \[n, 8, 8\]: "):
        tables.load(path)


def test_a_name_without_a_file_is_told_the_names_that_ship() -> None:
    with pytest.raises(
        FileNotFoundError,
        match="mse2: expected a file of tables or one of mix, ms-ssim, mse, perceptual, ahumada, flat",
    ):
        tables.load("mse2")


@pytest.mark.parametrize("name", published_table_names())
def test_published_tables_have_a_source_and_scale(name: str) -> None:
    base = tables.load(name)
    assert base.shape == (2, 8, 8)
    assert json.loads(table_path(name).read_text())["source"]
    for quality in (30, 75, 90):
        scaled = tables.scale(base, quality)
        found = tables.estimate_quality(scaled, base)
        # The flat tables are the same at some neighbouring qualities.
        assert found.exact and found.quality >= quality
        assert torch.equal(tables.scale(base, found.quality), scaled)
        assert tables.legal(scaled).equal(scaled)


def test_published_tables_are_those_of_encoders() -> None:
    # mozjpeg's default since 3.0 is Robidoux's, at every quality.
    for quality in (40, 50, 75, 90):
        data = libjpeg(picture(16, 16), "mozjpeg403", [(1, 1)] * 3, quality=quality)
        found = jpegrad.read_header(data).tables
        assert found is not None
        expected = (
            tables.load("robidoux") * (5000 // quality if quality < 50 else 200 - 2 * quality) + 50
        ) // 100
        assert torch.equal(found, expected)
        assert torch.equal(found.clamp(max=255), tables.scale(tables.load("robidoux"), quality))


def test_published_tables_are_as_their_authors_describe_them() -> None:
    # Checks that a wrong digit or a transposed table fails.
    robidoux, klein = tables.load("robidoux")[0], tables.load("klein")[0]
    differing = (klein - robidoux) != 1
    # Klein's entries are Robidoux's and 1 but for the lowest frequencies, which the latter flattened.
    assert differing.nonzero().tolist() == [[0, 0], [0, 1], [0, 2], [1, 0], [2, 0]]
    for name in ("flat", "robidoux", "klein", "watson", "ahumada", "peterson"):
        luma, chroma = tables.load(name)
        # Models of vision know no direction; these were made for luma and serve chroma as well.
        assert torch.equal(luma, luma.T), name
        assert torch.equal(luma, chroma), name
    for name in ("mozjpeg-ms-ssim", "mozjpeg-psnr-hvs"):
        luma, chroma = tables.load(name)
        annex = torch.tensor(tables.ANNEX_K, dtype=torch.float32)
        # These were tuned from Annex K, whose luma table is not symmetric.
        distance, transposed = ((luma / x).log().abs().mean() for x in (annex[0], annex[0].T))
        assert distance < 0.25 and distance < transposed, name
        assert (chroma / annex[1]).log().abs().mean() < 0.35, name


def test_a_wrong_base_of_an_estimate_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"base: expected shape \[2, 8, 8\], got \[8, 8\]"):
        tables.estimate_quality(tables.annex_k(50), torch.ones(8, 8))


def test_tables_that_are_no_real_tensors(tmp_path: Path) -> None:
    for wrong in ([[1.0]], torch.ones(2, 8, 8, dtype=torch.complex64), torch.ones(2, 8, 8) > 0):
        for call in (
            tables.legal,
            tables.estimate_quality,
            lambda given: tables.save(tmp_path / "x.json", given),
        ):
            with pytest.raises(TypeError, match="tables: expected a "):
                call(wrong)  # type: ignore[arg-type]


def test_whole_qualities_are_looked_up_and_equal_what_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    image = torch.rand(100, 3, 8, 8)
    base = torch.tensor(tables.ANNEX_K, dtype=torch.float64)
    whole = torch.arange(1, 101)
    computed = tables.scale(base, whole)
    coded = jpegrad.jpeg(image, whole.float().requires_grad_()).detach()
    monkeypatch.setattr(tables, "scale", None)
    for dtype in (torch.uint8, torch.int64, torch.float16, torch.float32, torch.float64):
        assert torch.equal(tables.annex_k(whole.to(dtype), dtype=torch.float64), computed)
        assert torch.equal(jpegrad.jpeg(image, whole.to(dtype)), coded)
    assert torch.equal(tables.annex_k(whole.view(5, 20)).double(), computed.view(5, 20, 2, 8, 8))
    assert tables.annex_k(whole[:7].to(torch.bfloat16)).dtype == torch.bfloat16
    assert tables.annex_k(whole[6]).shape == (2, 8, 8)


def test_only_known_whole_qualities_are_looked_up() -> None:
    assert tables.is_whole(torch.tensor([1.0, 100.0])) and tables.is_whole(
        torch.nn.Parameter(torch.tensor(5.0), False)
    )
    for quality in (0.0, 101.0, 30.5, float("nan"), float("inf"), -float("inf")):
        assert not tables.is_whole(torch.tensor([30.0, quality]))
        expected = tables.scale(torch.tensor(tables.ANNEX_K), quality_in_range(quality))
        assert torch.equal(tables.annex_k(torch.tensor(quality)), expected)
    assert not tables.is_whole(torch.tensor(30.0, requires_grad=True))
    seen = []

    def note(quality: torch.Tensor) -> torch.Tensor:
        seen.append(tables.is_whole(quality))
        return tables.annex_k(quality).sum()

    quality = torch.tensor([30.0, 40.0])
    torch.func.vmap(note)(quality)
    torch.func.grad(lambda q: note(q).sum())(quality)
    with torch.autograd.forward_ad.dual_level():
        note(torch.autograd.forward_ad.make_dual(quality, torch.ones(2)))
    assert seen == [False] * 3


def quality_in_range(quality: float) -> float:
    return 1.0 if quality != quality else min(max(quality, 1.0), 100.0)
