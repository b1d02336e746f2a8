"""The entropy coders: native and Python alike, and files equal to those of Pillow and libjpeg."""

import dataclasses
import io
import itertools
import shutil
import subprocess
import tempfile

import jpeglib
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import jpegrad
from corpus import noise, picture, pillow, split, tensor
from jpegrad.backends.native import abi
from jpegrad.entropy.coder import coded_scans
from jpegrad.entropy.script import ProgressiveScan, simple_progression
from jpegrad.jfif import segments
from jpegrad.sampling import SUBSAMPLING, blocks, ratios
from jpegrad.tables import ZIGZAG

MODES = (*SUBSAMPLING, "gray", "3x1,1x1,1x1", "1x2,2x1,1x1", "1x1,1x1,1x1,1x1", "2x2,1x1,1x1,2x2")
CODERS = ("native", "reference")


def channels_of(mode: str) -> int:
    return 1 if mode == "gray" else 1 + mode.count(",") if "," in mode else 3


def subsampling_of(mode: str) -> str:
    return "4:4:4" if mode == "gray" else mode


def random_levels(
    size: tuple[int, int], mode: str, density: float, spread: float, seed: int = 0
) -> list[torch.Tensor]:
    """Levels of which so many are not 0, of all sizes up to the largest that a file holds."""
    generator = torch.Generator().manual_seed(seed)
    planes = []
    for ratio in ratios(channels_of(mode), subsampling_of(mode)):
        shape = (*blocks(size, ratio), 8, 8)
        plane = (torch.randn(shape, generator=generator) * spread).round().clamp(-1023, 1023)
        planes.append(plane * (torch.rand(shape, generator=generator) < density))
    return planes


@pytest.fixture
def coders(monkeypatch):
    """``coded_scans`` of both coders, which must agree: of the same arguments, their common result."""

    def both(*arguments):
        found = []
        for name in CODERS:
            monkeypatch.setenv("JPEGRAD_BACKEND", name)
            scans = coded_scans(*arguments)
            found.append(
                [
                    (scan, [(*t[:2], tuple(t[2]), tuple(t[3])) for t in tables], data)
                    for scan, tables, data in scans
                ]
            )
        assert found[0] == found[1]
        return found[0]

    if isinstance(abi.load(), str):
        pytest.skip(abi.load())
    return both


@pytest.mark.parametrize("mode", MODES)
def test_the_coders_agree_on_every_small_size(mode: str, coders) -> None:
    subsampling = subsampling_of(mode)
    for seed, size in enumerate(itertools.product((1, 8, 9, 17, 40), (1, 16, 24, 33, 41))):
        for density, spread in ((0.0, 1.0), (0.05, 2.0), (0.4, 30.0), (1.0, 2000.0)):
            levels = random_levels(size, mode, density, spread, seed)
            for huffman in ("default", "optimized"):
                coders(levels, size, subsampling, huffman)


@pytest.mark.parametrize("dtype", [torch.float64, torch.int16, torch.int32, torch.int8, torch.bfloat16])
def test_levels_of_any_type(dtype: torch.dtype, coders) -> None:
    levels = [x.clamp(-100, 100) for x in random_levels((33, 41), "4:2:0", 0.4, 30.0)]
    expected = coders(levels, (33, 41), "4:2:0", "optimized")
    assert coders([x.to(dtype) for x in levels], (33, 41), "4:2:0", "optimized") == expected
    turned = [x.to(dtype).transpose(-1, -2).contiguous().transpose(-1, -2) for x in levels]
    assert coders(turned, (33, 41), "4:2:0", "optimized") == expected


@pytest.mark.parametrize("coder", CODERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("value", [0.5, -1e-3, 2.0**15, -(2.0**15), 1e9, -1e30, torch.nan, torch.inf])
def test_what_is_no_level_is_refused_wherever_it_stands(
    value: float, dtype: torch.dtype, coder: str, monkeypatch
) -> None:
    monkeypatch.setenv("JPEGRAD_BACKEND", coder)
    for place in range(64):
        levels = random_levels((9, 17), "4:2:0", 0.4, 30.0)
        levels[1] = levels[1].to(dtype)
        levels[1][0, 1].view(-1)[place] = value
        where = rf"levels\[1\]: expected integers of at most 15 bits, got .* at \[0, 1, {place // 8}, {place % 8}\]"
        with pytest.raises(ValueError, match=where):
            coded_scans(levels, (9, 17), "4:2:0")


@pytest.mark.parametrize("mode", MODES)
def test_the_coders_agree_on_progressive_scans(mode: str, coders) -> None:
    subsampling, channels = subsampling_of(mode), channels_of(mode)
    scripts = [simple_progression(channels, luma_chroma=luma_chroma) for luma_chroma in (True, False)]
    for seed, size in enumerate(itertools.product((1, 9, 17, 40), (1, 24, 33))):
        density, spread = ((0.0, 1.0), (0.05, 2.0), (0.4, 30.0), (1.0, 2000.0))[seed % 4]
        coders(
            random_levels(size, mode, density, spread, seed),
            size,
            subsampling,
            "optimized",
            scripts[seed % 2],
        )


PILLOW_MODES = ("4:4:4", "4:2:2", "4:2:0", "gray")


@pytest.mark.parametrize("kind", ["picture", "noise", "flat", "extreme"])
@pytest.mark.parametrize("mode", PILLOW_MODES)
def test_files_are_those_of_pillow(mode: str, kind: str) -> None:
    make = {
        "picture": picture,
        "noise": noise,
        "flat": lambda h, w: np.full((h, w, 3), 77, np.uint8),
        "extreme": lambda h, w: 255 * (noise(h, w) > 127).astype(np.uint8),
    }[kind]
    options = {} if mode == "gray" else {"subsampling": mode}
    for h, w in itertools.product((1, 7, 8, 16, 23, 40), (1, 8, 9, 17, 33, 48)):
        pixels = make(h, w)
        if mode == "gray":
            pixels = pixels[..., 1].copy()
        for quality in (1, 30, 75, 95, 100):
            coefficients = jpegrad.encode(tensor(pixels), quality, **options)
            for ours, theirs in (
                ({}, {}),
                ({"huffman": "optimized"}, {"optimize": True}),
                ({"progressive": True}, {"progressive": True}),
            ):
                assert jpegrad.to_bytes(coefficients, **ours) == pillow(
                    pixels, quality=quality, **theirs, **options
                )


def test_progressive_files_of_photographs(photograph) -> None:
    for name in ("tulips", "portrait"):
        pixels = photograph(name).permute(1, 2, 0).numpy()
        for quality in (40, 90):
            coefficients = jpegrad.encode(photograph(name), quality)
            data = jpegrad.to_bytes(coefficients, progressive=True)
            assert data == pillow(pixels, quality=quality, progressive=True)
            assert data == jpegrad.to_bytes(coefficients, progressive=True, huffman="optimized")
            again = jpegrad.read(data)
            assert all(map(torch.equal, again.levels, coefficients.levels))


def test_progressive_files_of_inks(tmp_path) -> None:
    inks = np.concatenate([picture(23, 41), noise(23, 41)[..., :1]], -1)
    for quality in (30, 95):
        coefficients = jpegrad.encode(torch.from_numpy(inks).permute(2, 0, 1), quality, channels="CMYK")
        buffer = io.BytesIO()
        Image.fromarray(inks, "CMYK").save(buffer, "JPEG", quality=quality, progressive=True)
        assert jpegrad.to_bytes(coefficients, progressive=True) == buffer.getvalue()
        assert jpegrad.bits(coefficients, progressive=True) == 8 * len(buffer.getvalue())


@pytest.mark.parametrize("mode", ["3x1,1x1,1x1", "1x2,2x1,1x1", "4x2,1x1,1x1"])
def test_progressive_files_of_other_samplings(mode: str) -> None:
    for seed, size in enumerate([(1, 1), (17, 33), (50, 70)]):
        levels = tuple(random_levels(size, mode, 0.4, 30.0, seed))
        coefficients = jpegrad.Coefficients(levels, torch.full((2, 8, 8), 3.0), size, mode)
        data = jpegrad.to_bytes(coefficients, progressive=True)
        assert data == jpegtran(jpegrad.to_bytes(coefficients), "-progressive")


def test_progressive_files_of_other_color_spaces_have_the_general_script() -> None:
    # Of R, G and B no component is sent more coarsely than another.
    pixels = picture(40, 33)
    rgb = jpegrad.encode(tensor(pixels), 75, color=jpegrad.spec.RGB, subsampling="4:4:4")
    data = jpegrad.to_bytes(rgb, progressive=True)
    scans = [part for marker, part in split(data) if marker == segments.SOS]
    assert len(scans) == 14
    assert all(map(torch.equal, jpegrad.read(data).levels, rgb.levels))
    with Image.open(io.BytesIO(data)) as opened:
        decoded = jpegrad.decode(rgb, dtype=torch.uint8).permute(1, 2, 0).numpy()
        assert opened.mode == "RGB" and np.array_equal(np.asarray(opened), decoded)


def jpegtran(data: bytes, *options: str) -> bytes:
    program = shutil.which("jpegtran")
    if program is None:
        pytest.skip("jpegtran is not installed")
    return subprocess.run([program, *options], input=data, capture_output=True, check=True).stdout


EACH = (0, 1, 2)
SCRIPTS = {
    "spectral": [(EACH, 0, 0), ((0,), 1, 9), ((2,), 1, 63), ((1,), 1, 63), ((0,), 10, 63)],
    "apart": [
        ((2,), 0, 0),
        ((0,), 0, 0, 0, 3),
        ((1,), 0, 0, 0, 0),
        *[((0,), 0, 0, high, high - 1) for high in (3, 2, 1)],
        ((0,), 1, 63),
        ((1,), 1, 1),
        ((1,), 2, 63),
        ((2,), 1, 63),
    ],
    "two and one": [
        ((0, 2), 0, 0, 0, 1),
        ((1,), 0, 0),
        ((0, 2), 0, 0, 1, 0),
        *[((i,), 1, 63) for i in EACH],
    ],
    "many bits": [
        (EACH, 0, 0),
        *[((i,), 1, 63, 0, 5) for i in EACH],
        *[((i,), 1, 63, high, high - 1) for high in (5, 4, 3, 2, 1) for i in (2, 0, 1)],
    ],
}


@pytest.mark.parametrize("name", SCRIPTS)
@pytest.mark.parametrize("mode", SUBSAMPLING)
def test_own_scripts_are_coded_as_jpegtran_does(name: str, mode: str, tmp_path, coders) -> None:
    script = [jpegrad.ProgressiveScan(*scan) for scan in SCRIPTS[name]]
    lines = [
        f"{' '.join(map(str, scan.components))}: {scan.first} {scan.last} {scan.high} {scan.low};"
        for scan in script
    ]
    (tmp_path / "script").write_text("\n".join(lines))
    for seed, (size, density) in enumerate(itertools.product(((17, 33), (40, 24)), (0.02, 0.5, 1.0))):
        levels = tuple(random_levels(size, mode, density, 60.0, seed))
        tables = torch.full((2, 8, 8), 3.0)
        coefficients = jpegrad.Coefficients(levels, tables, size, mode)
        coders(levels, size, mode, "optimized", tuple(script))
        data = jpegrad.to_bytes(coefficients, progressive=script)
        expected = jpegtran(jpegrad.to_bytes(coefficients), "-scans", str(tmp_path / "script"))
        assert data == expected
        assert jpegrad.to_bytes(coefficients, progressive=SCRIPTS[name]) == data  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["run of ends", "corrections"])
def test_long_runs_of_ended_bands(kind: str, coders, tmp_path) -> None:
    """More than 32767 blocks without a level; more correction bits than libjpeg's buffer holds."""
    rows, columns = (190, 180) if kind == "run of ends" else (30, 40)
    levels = torch.zeros(rows, columns, 64)
    if kind == "run of ends":
        levels[0, 0, 1] = 4
    else:
        # Seven in each block, of which the 134th makes more than 937.
        levels[..., [1, 8, 16, 9, 2, 3, 10]] = 6.0
        levels[20, 3, 40], levels[25, 7, 63] = 1, -1
    levels, size = levels.view(rows, columns, 8, 8), (8 * rows, 8 * columns)
    script = [
        ProgressiveScan((0,), 0, 0),
        ProgressiveScan((0,), 1, 63, 0, 1),
        ProgressiveScan((0,), 1, 63, 1, 0),
    ]
    coders([levels], size, "4:4:4", "optimized", tuple(script))
    coefficients = jpegrad.Coefficients((levels,), torch.ones(1, 8, 8), size, "4:4:4")
    data = jpegrad.to_bytes(coefficients, progressive=script)
    assert torch.equal(jpegrad.read(data).levels[0], levels)
    (tmp_path / "script").write_text("0: 0 0 0 0; 0: 1 63 0 1; 0: 1 63 1 0;")
    assert data == jpegtran(jpegrad.to_bytes(coefficients), "-scans", str(tmp_path / "script"))


def test_growing_data(coders) -> None:
    # More than the first room for it, and bytes of ones at every place.
    levels = random_levels((200, 400), "4:4:4", 1.0, 500.0)
    ((_, _, data),) = coders(levels, (200, 400), "4:4:4", "optimized")
    assert len(data) > 300_000
    assert data.count(b"\xff\x00") > 500


@pytest.mark.parametrize("count", [16, 17, 18, 19])
def test_codes_that_would_be_too_long_agree(count: int, coders) -> None:
    # One symbol in each block, and each as frequent as two rarer ones together: the deepest tree.
    parts = []
    for i in range(count):
        block = torch.zeros(64)
        block[ZIGZAG[1 + i % 15]] = 2.0 ** (i // 15)
        parts.append(block.expand(int(1.7**i), 64))
    level = torch.cat(parts).view(1, -1, 8, 8)
    size = (8, 8 * level.shape[1])
    scans = coders([level], size, "4:4:4", "optimized")
    assert scans[0][1][1][2][15] > 0


@settings(max_examples=60)
@given(
    st.integers(0, 2**32),
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.sampled_from(MODES),
    st.sampled_from([0.01, 0.1, 0.7, 1.0]),
    st.sampled_from([0.7, 3.0, 40.0, 3000.0]),
    st.booleans(),
)
def test_any_levels_are_read_back(
    seed: int, size: tuple[int, int], mode: str, density: float, spread: float, progressive: bool
) -> None:
    levels = tuple(random_levels(size, mode, density, spread, seed))
    tables = torch.ones(1 if mode == "gray" else 2, 8, 8)
    coefficients = jpegrad.Coefficients(levels, tables, size, subsampling_of(mode))
    data = jpegrad.to_bytes(coefficients, progressive=progressive, huffman="optimized")
    with tempfile.NamedTemporaryFile(suffix=".jpg") as file:
        file.write(data)
        file.flush()
        found = jpeglib.read_dct(file.name)
    planes = [found.Y, found.Cb, found.Cr, found.K][: channels_of(mode)]
    for ours, theirs, again in zip(levels, planes, jpegrad.read(data).levels, strict=True):
        assert np.array_equal(ours.numpy(), theirs.transpose(0, 1, 3, 2)) or np.array_equal(
            ours.numpy(), theirs
        )
        assert torch.equal(again, ours)


@pytest.mark.parametrize("coder", CODERS)
def test_levels_that_no_progressive_file_can_hold(coder: str, monkeypatch) -> None:
    monkeypatch.setenv("JPEGRAD_BACKEND", coder)
    tables = torch.ones(1, 8, 8)
    for value, legal in ((4095, True), (-4095, True), (4096, False), (-4096, False)):
        # Of the levels of the standard script the first scan sends all but the two lowest bits.
        level = torch.zeros(1, 2, 8, 8)
        level[0, 1, 4, 4] = value
        coefficients = jpegrad.Coefficients((level,), tables, (8, 16), "4:4:4")
        if legal:
            assert torch.equal(
                jpegrad.read(jpegrad.to_bytes(coefficients, progressive=True)).levels[0], level
            )
        else:
            with pytest.raises(ValueError, match=r"levels\[0\]: expected AC levels in ±4095 .* got ±4096"):
                jpegrad.to_bytes(coefficients, progressive=True)
    # Without five bits all of 15 bits fit; no larger number may become one of them.
    script = [((0,), 0, 0), ((0,), 1, 63, 0, 5), *[((0,), 1, 63, low + 1, low) for low in (4, 3, 2, 1, 0)]]
    for value, legal in ((32767, True), (-32767, True), (32768, False), (-32768, False), (40000, False)):
        for dtype in (torch.float32, torch.float64, torch.int16):
            level = torch.zeros(1, 2, 8, 8)
            level[0, 1, 4, 4] = value
            if dtype is torch.int16 and not -32769 < value < 32768:
                continue
            level = level.to(dtype)
            coefficients = jpegrad.Coefficients((level,), tables, (8, 16), "4:4:4")
            if legal:
                found = jpegrad.read(jpegrad.to_bytes(coefficients, progressive=script)).levels[0]
                assert torch.equal(found, level.float())
            else:
                with pytest.raises(ValueError, match=r"levels\[0\]: expected integers of at most 15 bits"):
                    jpegrad.to_bytes(coefficients, progressive=script)
    for apart, legal in ((4095, True), (4096, False)):
        level = torch.zeros(1, 2, 8, 8)
        level[0, :, 0, 0] = torch.tensor([-2048, -2048 + apart])
        coefficients = jpegrad.Coefficients((level,), tables, (8, 16), "4:4:4")
        if legal:
            assert torch.equal(
                jpegrad.read(jpegrad.to_bytes(coefficients, progressive=True)).levels[0], level
            )
        else:
            with pytest.raises(ValueError, match=r"levels\[0\]: expected DC levels at most 4094 apart"):
                jpegrad.to_bytes(coefficients, progressive=True)


BAD_SCRIPTS = {
    "no scans": ([], "expected scans of every level; component 0, place 0 has none"),
    "no AC": ([((0, 1, 2), 0, 0)], "expected scans of every level; component 0, place 1 has none"),
    "no last bit": (
        [((0, 1, 2), 0, 0), ((0,), 1, 63), ((1,), 1, 63), ((2,), 1, 63, 0, 1)],
        "expected scans of every bit of every level; of component 2, place 1",
    ),
    "AC before DC": (
        [((0,), 1, 63)],
        r"progressive\[0\]: expected the DC level of component 0 before its AC levels",
    ),
    "twice": ([((0, 1, 2), 0, 0), ((0,), 0, 0)], r"progressive\[1\]: expected no level again: place 0"),
    "a bit left out": (
        [((0,), 0, 0, 0, 2), ((0,), 0, 0, 1, 0)],
        r"progressive\[1\]: expected high 2 and low 1",
    ),
    "refined first": (
        [((0,), 0, 0, 1, 0)],
        r"progressive\[0\]: expected high 0 in the first scan of place 0",
    ),
    "DC with AC": ([((0,), 0, 5)], "expected the DC level by itself"),
    "AC of two": ([((0, 1, 2), 0, 0), ((0, 1), 1, 63)], "expected one component in a scan of AC levels"),
    "backwards": ([((0,), 5, 3)], "expected 0 <= first <= last <= 63"),
    "beyond 63": ([((0,), 5, 64)], "expected 0 <= first <= last <= 63"),
    "component 3": ([((3,), 0, 0)], r"expected 1 to 3 components of \[0, 1, 2\]"),
    "no component": ([((), 0, 0)], r"expected 1 to 3 components of \[0, 1, 2\]"),
    "descending": ([((1, 0), 0, 0)], "expected ascending components"),
    "bit 11": ([((0,), 0, 0, 0, 11)], "expected high and low in 0 to 10"),
}


@pytest.mark.parametrize("name", BAD_SCRIPTS)
def test_scans_that_no_decoder_can_follow(name: str) -> None:
    coefficients = jpegrad.encode(torch.rand(3, 16, 16), 75)
    script, message = BAD_SCRIPTS[name]
    with pytest.raises(ValueError, match=message):
        jpegrad.to_bytes(coefficients, progressive=script)


def test_a_batch_in_threads() -> None:
    images = torch.stack([tensor(noise(20, 24, seed)) for seed in range(6)]).view(2, 3, 3, 20, 24)
    c = jpegrad.encode(images, torch.tensor([[20.0], [90.0]]))
    threads = torch.get_num_threads()
    try:
        for count in (1, 4):
            torch.set_num_threads(count)
            assert jpegrad.to_bytes_batch(c) == [jpegrad.to_bytes(c, i) for i in range(6)]
            ways = {"progressive": True, "metadata": False}
            assert jpegrad.to_bytes_batch(c, **ways) == [jpegrad.to_bytes(c, i, **ways) for i in range(6)]
            with pytest.raises(ValueError, match=r"levels\[1\]: expected integers .* of image 4"):
                bad = c.levels[1].clone()
                bad[1, 1, 0, 0, 0, 0] = 0.5
                jpegrad.to_bytes_batch(dataclasses.replace(c, levels=(c.levels[0], bad, c.levels[2])))
    finally:
        torch.set_num_threads(threads)
    single = jpegrad.encode(images[0, 0], 50)
    assert jpegrad.to_bytes_batch(single) == [jpegrad.to_bytes(single)]
    assert jpegrad.to_bytes_batch(jpegrad.encode(images[:0], 50)) == []
    with pytest.raises(TypeError, match="coefficients: expected Coefficients, got list"):
        jpegrad.to_bytes_batch([single])  # type: ignore[arg-type]


def test_wrong_arguments() -> None:
    coefficients = jpegrad.encode(torch.rand(3, 16, 16), 75)
    with pytest.raises(ValueError, match='huffman: expected "optimized" or None with progressive'):
        jpegrad.to_bytes(coefficients, progressive=True, huffman="default")
    for script in (1, None, 0.5):
        with pytest.raises(TypeError, match="progressive: expected a bool or a sequence of ProgressiveScan"):
            jpegrad.to_bytes(coefficients, progressive=script)
    for script in ([1], [(0, 0, 0)], ["abc"], [((0,), 0)], [((0,), 0.0, 0)], [((True,), 0, 0)]):
        with pytest.raises(TypeError, match=r"progressive\[0\]: expected"):
            jpegrad.to_bytes(coefficients, progressive=script)
