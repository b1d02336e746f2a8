"""The descent of tables and levels: its cost never rises, and what it begins with and aims at is what was asked for."""

import base64
import io
import itertools
import math
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import jpegrad
from jpegrad import metrics, tune
from jpegrad.backends import native
from jpegrad.backends.native import levels as native_levels
from jpegrad.codec import Coefficients
from jpegrad.entropy.script import spectral_selection
from jpegrad.rate.bands import _count_band, banded_bits, bands, moved, put_back
from jpegrad.rate.blocks import WHOLE, Band, _band_bits, block_bits
from jpegrad.spec import Subsampling
from jpegrad.tune.joint import Descent
from jpegrad.tune.levels import banded_trellis
from jpegrad.tune.metrics import Structure, get
from jpegrad.tune.objective import ImageObjective, SharedObjective

torch.set_num_threads(1)
UPPER = bands(0)[1]
needs_kernel = pytest.mark.skipif(bool(native.missing()), reason="the native kernel is not built")
BOUNDS = {"mse": 78.0, "perceptual": 104.0}
"""Bytes per pixel of a descent."""


@pytest.fixture
def crop(photo: Tensor) -> Tensor:
    return photo[:, 64:160, 20:148].contiguous()


def size_of(tuned: tune.Tuned) -> int:
    data = tuned.to_bytes()
    assert len(data) == tuned.size
    with Image.open(io.BytesIO(data)) as opened:
        shown = torch.from_numpy(np.array(opened)).permute(2, 0, 1)
    assert torch.equal(shown, jpegrad.decode(tuned.coefficients, dtype=torch.uint8))
    return len(data)


@pytest.mark.parametrize(
    ("metric", "progressive"),
    [("mse", True), ("ssimulacra2", False), ("butteraugli", False), ("perceptual", True)],
)
def test_the_cost_never_rises(crop: Tensor, metric: str, progressive: bool) -> None:
    objective = ImageObjective(crop, get(metric), progressive=progressive)
    tables = jpegrad.tables.annex_k(60)
    multiplier = SharedObjective([objective]).multiplier(tables)
    descent = Descent(objective, objective.rounded(tables))
    costs = [descent.file.cost(multiplier)]
    for _ in range(7):
        descent.step(multiplier)
        costs.append(descent.file.cost(multiplier))
    assert all(after <= before for before, after in itertools.pairwise(costs))
    # In bits of the start: how much of the file's size that is worth.
    gain = (costs[0] - costs[-1]) / multiplier / float(objective.bits(objective.rounded(tables)))
    assert gain > 0.05
    # What the descent says of its file is what is measured of it afresh.
    found = descent.file
    assert float(objective.loss(found.coefficients)) == pytest.approx(found.loss, rel=1e-6)
    scans = objective.progressive or False
    assert 8 * len(jpegrad.to_bytes(found.coefficients, huffman="optimized", progressive=scans)) == found.bits


@pytest.mark.parametrize("subsampling", ["4:2:0", "4:4:4"])
def test_bits_of_blocks_are_those_of_the_scan(crop: Tensor, subsampling: str) -> None:
    c = jpegrad.encode(crop[:, :88, :120], 70, subsampling=subsampling)
    parts = jpegrad.rate.breakdown(c, huffman="optimized")
    total = float(parts.coefficients.sum() + parts.end_of_block.sum())
    # Entropies in place of whole code lengths: a little less.
    found = sum(float(x.sum()) for x in block_bits(c))
    assert 0.97 * total < found < total
    # A level more costs what the exact marginal costs say, block by block, under the same code.
    levels = [x.clone() for x in c.levels]
    up, _ = jpegrad.rate.marginal_costs(c, huffman="optimized")[0]
    levels[0][2, 3, 1, 2] += levels[0][2, 3, 1, 2].sign() + (levels[0][2, 3, 1, 2] == 0)
    change = block_bits(replace(c, levels=tuple(levels)), like=c)[0] - block_bits(c)[0]
    assert float(change[2, 3]) == pytest.approx(float(up[2, 3, 1, 2]), abs=1e-4)
    change[2, 3] = 0
    assert not change.any()


def progressive_size(coefficients: Coefficients) -> float:
    return float(jpegrad.bits(coefficients, progressive=spectral_selection(coefficients.channels)))


@pytest.mark.parametrize("channels", [1, 3])
def test_bits_of_bands_are_those_of_the_scans(photo: Tensor, channels: int) -> None:
    c = jpegrad.encode(photo[:channels, :160, :200], 70)
    # Entropies in place of whole code lengths, and neither headers nor tables.
    headers = progressive_size(jpegrad.encode(torch.zeros(channels, 160, 200), 70))
    found = sum(float(x.sum()) for x in banded_bits(c))
    assert 0.9 * (progressive_size(c) - headers) < found < progressive_size(c) - headers
    # Without the upper band of the busiest blocks the file gets smaller, by about what they cost.
    count = moved(c.levels[0], UPPER).count_nonzero((-2, -1))
    busy = count >= count.flatten().topk(12).values[-1]
    levels = [x.clone() for x in c.levels]
    levels[0][busy] = put_back(levels[0][busy], UPPER, torch.zeros_like(levels[0][busy]))
    thinned = replace(c, levels=tuple(levels))
    spent, left = banded_bits(c)[0], banded_bits(thinned, like=c)[0]
    assert torch.equal(left[~busy], spent[~busy])
    saved = float((spent - left)[busy].sum())
    assert saved == pytest.approx(progressive_size(c) - progressive_size(thinned), rel=0.15)


def test_bands_move_and_return() -> None:
    blocks = torch.randint(-9, 9, (2, 3, 8, 8)).float()
    whole = blocks.clone()
    for band in bands(0):
        there = moved(blocks, band)
        assert torch.equal(there[..., 0, 0], blocks[..., 0, 0])
        whole = put_back(whole, band, there)
    assert torch.equal(whole, blocks)
    assert [band.width for band in bands(0)] == [8, 55]


def test_levels_by_the_prices_of_bands_are_the_cheaper_ones(photo: Tensor) -> None:
    exact = jpegrad.encode(photo[:, :160, :240].float() / 255, 60)
    assert exact.unrounded is not None
    unrounded = replace(exact, levels=tuple(exact.unrounded))
    price = 1 / 40
    weights = [torch.full_like(x, price) for x in exact.levels]
    found = banded_trellis(unrounded, weights, exact)
    other = tune.trellis(unrounded, 1.0, weights=weights, passes=1, like=exact)

    def cost(c: Coefficients) -> float:
        error = sum(
            float((price * ((n - u) * c.tables[min(i, 1)]).square()).sum())
            for i, (n, u) in enumerate(zip(c.levels, unrounded.levels, strict=True))
        )
        return error + progressive_size(c)

    assert cost(found) < cost(other) < cost(exact)
    # By its own prices, no block is dearer than with plain rounding.
    spent = [
        (price * ((n - u) * q).square()).sum((-2, -1)) + size
        for c in (found, exact)
        for n, u, q, size in [(c.levels[0], unrounded.levels[0], c.tables[0], banded_bits(c, like=exact)[0])]
    ]
    assert float(spent[0].sum()) < float(spent[1].sum())


def test_scores_are_met(crop: Tensor) -> None:
    judges = {"ssimulacra2": (metrics.SSIMULACRA2, 70.0), "butteraugli": (metrics.Butteraugli, 1.2)}
    for judge, (comparison, value) in judges.items():
        tuned = tune.compress(crop, metric="ssimulacra2", target=tune.Score(judge, value), steps=4)
        shown = jpegrad.decode(tuned.coefficients)
        found = float(comparison(crop / 255).score(shown))
        if judge == "ssimulacra2":
            assert value <= found < value + 1
        else:
            assert 0.97 * value < found <= value
        size_of(tuned)


def test_a_file_gets_better_at_its_own_size(crop: Tensor) -> None:
    given = jpegrad.read(jpegrad.to_bytes(jpegrad.encode(crop, 60), huffman="optimized"))
    size = len(jpegrad.to_bytes(given, huffman="optimized"))
    before = float((jpegrad.decode(given) - crop / 255).square().mean())
    tuned = tune.compress(crop, start=given, target=tune.Bytes(size), steps=6, metric="mse")
    assert size_of(tuned) <= size
    assert tuned.loss < 0.9 * before


def test_a_file_gets_smaller_without_its_original(crop: Tensor) -> None:
    given = jpegrad.encode(crop, 92, subsampling="4:4:4")
    tuned = tune.compress(None, start=given, target=tune.LikeQuality(75), steps=4, metric="mse")
    assert tuned.coefficients.subsampling == "4:4:4"
    assert size_of(tuned) < 0.6 * len(jpegrad.to_bytes(given, huffman="optimized"))


def test_progressive_and_three_tables(crop: Tensor) -> None:
    tuned = tune.compress(
        crop, target=tune.Bytes(3000), progressive=True, table_count=3, steps=4, metric="mse"
    )
    assert size_of(tuned) <= 3000
    assert tuned.tables.shape == (3, 8, 8)
    assert b"\xff\xc2" in tuned.to_bytes()


PAGE = """<body><script>
const image = new Image();
image.onload = () => {
  const canvas = document.createElement("canvas");
  canvas.width = image.naturalWidth; canvas.height = image.naturalHeight;
  const context = canvas.getContext("2d", {willReadFrequently: true});
  context.drawImage(image, 0, 0);
  const pixels = context.getImageData(0, 0, canvas.width, canvas.height).data;
  document.body.textContent = "pixels " + Array.from(pixels).join(" ") + " end";
};
image.src = "data:image/jpeg;base64,DATA";
</script>"""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Chromium")
@pytest.mark.parametrize("subsampling", ["4:2:0", "4:4:4"])
@pytest.mark.parametrize("progressive", [False, True])
def test_every_viewer_shows_the_same(
    crop: Tensor, tmp_path: Path, subsampling: Subsampling, progressive: bool
) -> None:
    how = {"subsampling": subsampling, "progressive": progressive, "table_count": 3}
    tuned = tune.compress(crop, metric="perceptual", target=tune.LikeQuality(70), steps=3, **how)  # type: ignore[arg-type]
    expected = jpegrad.decode(tuned.coefficients, dtype=torch.uint8).permute(1, 2, 0).numpy()
    data = tuned.to_bytes()
    with Image.open(io.BytesIO(data)) as opened:
        np.testing.assert_array_equal(np.array(opened), expected)
    shown = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal(shown[..., ::-1], expected)
    page = tmp_path / "page.html"
    page.write_text(PAGE.replace("DATA", base64.b64encode(data).decode()))
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=5000", "--dump-dom"]
    command = ["chromium", *options, f"--user-data-dir={tmp_path}/profile", page.as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    found = re.search(r"pixels ([0-9 ]+) end", dom)
    assert found is not None, dom[:300]
    pixels = np.array(found[1].split(), dtype=np.uint8).reshape(*expected.shape[:2], 4)[..., :3]
    np.testing.assert_array_equal(pixels, expected)


def test_the_subsampling_follows_the_rate(crop: Tensor) -> None:
    chosen = [
        tune.compress(crop, target=tune.LikeQuality(q), subsampling="auto", steps=1, metric="mse")
        for q in (20, 100)
    ]
    assert [tuned.coefficients.subsampling for tuned in chosen] == ["4:2:0", "4:4:4"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start": 3}, "start: expected Coefficients"),
        ({"image": None}, "image: expected a torch.Tensor, or a file as start, got None"),
        ({"table_count": 4}, "table_count: expected 2 or 3, got 4"),
        ({"progressive": 1}, "progressive: expected True or False, got 1"),
        ({"subsampling": "4:4:4", "start": "file"}, "subsampling: expected that of start, 4:2:0"),
        ({"base": torch.ones(2, 8, 8), "start": "file"}, "base: expected without start"),
        ({"choose_levels": False, "start": "file"}, "choose_levels=False: expected without start"),
        ({"image": torch.zeros(3, 8, 8), "start": "file"}, r"image: expected \[3, 96, 128\] as of start"),
    ],
)
def test_wrong_calls(crop: Tensor, options: dict[str, object], message: str) -> None:
    if options.get("start") == "file":
        options = {**options, "start": jpegrad.encode(crop, 50)}
    with pytest.raises((TypeError, ValueError), match=message):
        tune.compress(**{"image": crop, **options})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("judge", "value", "message"),
    [
        ("psnr", 30, "a judge of ssimulacra2, butteraugli"),
        ("ssimulacra2", 101, "a score"),
        ("butteraugli", -1, "a score"),
    ],
)
def test_wrong_scores(judge: str, value: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tune.Score(judge, value)


MEMORY = """
import sys, torch, jpegrad
torch.set_num_threads(1)
side, metric = int(sys.argv[1]), sys.argv[2]
coarse = torch.rand(1, 3, side // 16, side // 16, generator=torch.Generator().manual_seed(0))
image = torch.nn.functional.interpolate(coarse, scale_factor=16, mode="bicubic").clamp(0, 1)[0]
noise = torch.rand(3, side, side, generator=torch.Generator().manual_seed(1))
image = (230 * image + 25 * noise).to(torch.uint8)
del noise

def memory(name):
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) << 10 for line in lines if line.startswith(name))

# What a first call loads is no picture's.
jpegrad.tune.compress(image[:, :64, :64], metric=metric, steps=1, progressive=True)
with open("/proc/self/clear_refs", "w") as peak:
    peak.write("5")
before = memory("VmRSS")
jpegrad.tune.compress(image, metric=metric, steps=2, progressive=True)
print((memory("VmHWM") - before) / side**2)
"""


@needs_kernel
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux")
@pytest.mark.parametrize(("metric", "most"), BOUNDS.items())
def test_memory(metric: str, most: float) -> None:
    """Bytes per pixel that a call takes beyond what was there, at its height."""
    # Every large block is given back as soon as it is free, so that the figure is that of the blocks in use.
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "OMP_NUM_THREADS": "1"}
    call = [sys.executable, "-c", MEMORY, "800", metric]
    found = subprocess.run(call, env=environment, capture_output=True, text=True, check=True)
    assert float(found.stdout) < most


@needs_kernel
@pytest.mark.parametrize("band", [*bands(0), WHOLE])
def test_the_kernel_counts_and_prices_bands(band: Band) -> None:
    random = torch.Generator().manual_seed(2)
    levels = torch.randn(7, 9, 8, 8, generator=random)
    levels = (levels * torch.rand(7, 9, 1, 1, generator=random) ** 8 * 2000).round()
    levels[0, 0] = 0.0
    levels[0, 1], levels[0, 2, 7, 7], levels[0, 3, 3, 3] = 5.0, 1.0, math.nan
    blocks = levels.flatten(0, 1).flatten(1)
    for found, expected in zip(
        native_levels.count_band(blocks, *band), _count_band(blocks, *band), strict=True
    ):
        assert torch.equal(found, expected)
    prices = torch.rand(64, 12, generator=random, dtype=torch.float64)
    assert torch.allclose(
        native_levels.band_bits(blocks, *band, prices), _band_bits(blocks, *band, prices), rtol=1e-12
    )


@needs_kernel
@pytest.mark.parametrize("size", [(11, 11), (12, 40), (67, 35), (130, 21)])
def test_the_kernel_has_the_similarity_of_the_formula(size: tuple[int, int]) -> None:
    random = torch.Generator().manual_seed(3)
    original = torch.rand(2, 3, *size, generator=random)
    image = (original + 0.1 * torch.rand(original.shape, generator=random)).clamp(max=1)
    structure = Structure(original, 1)
    found = structure.similarities(image)
    exact = Structure(original.double(), 1).similarities(image.double())
    for one, other in zip(found, exact, strict=True):
        assert torch.allclose(one.double(), other, atol=2e-6)
