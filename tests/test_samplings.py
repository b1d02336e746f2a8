"""Every sampling that libjpeg-turbo decodes, and nothing more."""

import io
import itertools

import cv2
import jpeglib
import numpy as np
import pytest
import torch
from PIL import Image

import jpegrad
from corpus import join, libjpeg, noise, picture, pillow_pixels, separate_scans, split, tensor
from jpegrad import JPEGError, backends
from jpegrad.jfif import segments
from jpegrad.jfif.segments import FrameComponent
from jpegrad.sampling import SUBSAMPLING, ratios, sampling_factors, sampling_name

FACTORS = list(itertools.product(range(1, 5), repeat=2))


def is_whole(factors: tuple[tuple[int, int], ...]) -> bool:
    """Whether the largest factor is a multiple of each, in both directions."""
    return all(max(row) % x == 0 for row in zip(*factors, strict=True) for x in row)


WHOLE = [factors for factors in itertools.product(FACTORS, repeat=3) if is_whole(factors)]
NAMES = sorted({sampling_name(factors) for factors in WHOLE})
INTERLEAVED = [name for name in NAMES if sum(h * v for h, v in sampling_factors(3, name)) <= 10]
SIZES = [(1, 1), (3, 2), (16, 16), (17, 33), (30, 21)]


def file_of(coefficients: jpegrad.Coefficients) -> bytes:
    """As written; in separate scans where no scan can have all components."""
    if coefficients.subsampling in INTERLEAVED:
        return jpegrad.to_bytes(coefficients)
    return separate_scans(coefficients)


def check_decoding(name: str, size: tuple[int, int]) -> None:
    coded = jpegrad.encode(tensor(noise(*size)), quality=90, subsampling=name)
    data = file_of(coded)
    found = jpegrad.read(data)
    assert found.subsampling == jpegrad.read_header(data).subsampling == name
    assert all(map(torch.equal, found.levels, coded.levels))
    decoded = jpegrad.decode(found, dtype=torch.uint8).numpy()
    assert np.array_equal(decoded, pillow_pixels(data)), (name, size)
    opencv = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert np.array_equal(decoded, opencv[..., ::-1].transpose(2, 0, 1)), (name, size)


def test_there_are_as_many_samplings_as_there_should_be() -> None:
    assert len(WHOLE) == 1156 and len(NAMES) == 625
    assert set(SUBSAMPLING) < set(NAMES)
    for name in NAMES:
        assert sampling_name(sampling_factors(3, name)) == name


@pytest.mark.parametrize("name", NAMES[::23])
def test_decoding_equals_pillow_and_opencv(name: str) -> None:
    for size in SIZES:
        check_decoding(name, size)


@pytest.mark.slow
@pytest.mark.parametrize("size", [*SIZES, (2, 5), (8, 3), (9, 4), (4, 9), (25, 48), (49, 97)], ids=str)
def test_decoding_equals_pillow_and_opencv_in_every_sampling(size: tuple[int, int]) -> None:
    for name in NAMES:
        check_decoding(name, size)


def check_encoding(name: str, size: tuple[int, int]) -> None:
    image = noise(*size)
    written = libjpeg(image, "turbo210", [(v, h) for h, v in sampling_factors(3, name)])
    ours = jpegrad.encode(tensor(image), quality=80, subsampling=name)
    assert jpegrad.to_bytes(ours) == written, (name, size)
    assert jpegrad.bits(ours) == jpegrad.rate.breakdown(ours).total == 8 * len(written)


@pytest.mark.parametrize("name", INTERLEAVED[::11])
def test_files_equal_those_of_libjpeg(name: str) -> None:
    for size in SIZES:
        check_encoding(name, size)


@pytest.mark.slow
@pytest.mark.parametrize("size", [*SIZES, (49, 97)], ids=str)
def test_files_equal_those_of_libjpeg_in_every_sampling(size: tuple[int, int]) -> None:
    for name in INTERLEAVED:
        check_encoding(name, size)


@pytest.mark.parametrize("name", ["3x1,1x1,1x1", "2x2,2x1,1x2", "1x1,2x2,1x1", "2x4,1x1,1x1"])
def test_levels_equal_those_that_libjpeg_gives_out(name: str, tmp_path: object) -> None:
    path = f"{tmp_path}/picture.jpg"
    jpegrad.write(path, jpegrad.encode(tensor(picture(50, 70)), quality=80, subsampling=name))
    theirs = jpeglib.read_dct(path)
    for component, level in zip((theirs.Y, theirs.Cb, theirs.Cr), jpegrad.read(path).levels, strict=True):
        assert np.array_equal(component, level.numpy())


def with_factors(data: bytes, factors: tuple[tuple[int, int], ...]) -> bytes:
    """The same file, whose frame header says other factors."""
    parts = []
    for marker, part in split(data):
        if marker == segments.SOF0:
            header = segments.parse_sof(part[4:])
            components = [
                FrameComponent(c.identifier, h, v, c.table)
                for c, (h, v) in zip(header.components, factors, strict=True)
            ]
            part = segments.emit_sof((header.height, header.width), components)
        parts.append((marker, part))
    return join(parts)


def test_fractional_factors_are_refused_as_pillow_refuses_them() -> None:
    plain = jpegrad.to_bytes(jpegrad.encode(tensor(noise(8, 8)), quality=90, subsampling="4:4:4"))
    for factors in [((3, 1), (2, 1), (1, 1)), ((1, 3), (1, 2), (1, 2)), ((4, 1), (1, 1), (3, 1))]:
        data = with_factors(plain, factors)
        with pytest.raises(OSError), Image.open(io.BytesIO(data)) as image:
            image.load()
        with pytest.raises(JPEGError, match=f"fractional sampling factors {factors[0][0]}x{factors[0][1]}"):
            jpegrad.read(data)
        assert jpegrad.read_header(data).subsampling is None
        assert jpegrad.read_header(data).sampling == factors


@pytest.mark.slow
def test_pillow_and_we_refuse_the_same_factors() -> None:
    plain = jpegrad.to_bytes(jpegrad.encode(torch.full((3, 8, 8), 0.3), quality=90, subsampling="4:4:4"))
    for factors in itertools.product(FACTORS, repeat=3):
        if sum(h * v for h, v in factors) > 10:
            continue
        data = with_factors(plain, factors)
        # Of smaller factors one MCU has more blocks than the file; only whether the frame is accepted counts.
        try:
            jpegrad.read(data)
            refused = False
        except JPEGError as error:
            refused = "fractional" in str(error)
        assert refused == (not is_whole(factors))
        if refused:
            with pytest.raises(OSError), Image.open(io.BytesIO(data)) as image:
                image.load()


def test_one_component_has_no_use_for_its_factors() -> None:
    gray = jpegrad.encode(tensor(picture(33, 50)[..., :1]), quality=75)
    data = jpegrad.to_bytes(gray)
    for factors in FACTORS:
        changed = with_factors(data, (factors,))
        found = jpegrad.read(changed)
        assert found.subsampling == "4:4:4" and torch.equal(found.levels[0], gray.levels[0])
        assert np.array_equal(jpegrad.decode(found, dtype=torch.uint8).numpy(), pillow_pixels(changed))


@pytest.mark.parametrize("name", ["3x1,1x1,1x1", "1x2,2x1,1x1", "2x3,1x1,2x1", "1x4,1x2,1x1"])
def test_gradients(name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    image = 0.3 + 0.4 * torch.rand(3, 9, 14, dtype=torch.float64, generator=generator)
    levels = jpegrad.encode(image, quality=80, subsampling=name)

    def decoded(*parts: torch.Tensor, forward: str = "soft") -> torch.Tensor:
        changed = jpegrad.Coefficients(parts[:3], parts[3], (9, 14), name, dtype=torch.float64)
        return jpegrad.decode(changed, forward=forward)  # type: ignore[arg-type]

    parts = [x.clone().requires_grad_() for x in (*levels.levels, levels.tables)]
    assert torch.autograd.gradcheck(decoded, parts, fast_mode=True)
    weights = torch.rand(3, 9, 14, dtype=torch.float64, generator=generator)
    exact, soft = (
        torch.autograd.grad((decoded(*parts, forward=forward) * weights).sum(), parts)
        for forward in ("exact", "soft")
    )
    for one, other in zip(exact, soft, strict=True):
        assert torch.allclose(one, other)

    # Of the encoder: the mean of what a sample covers, by coefficients before the quantiser.
    x = image.clone().requires_grad_()
    coded = jpegrad.encode(x, quality=80, subsampling=name)
    assert coded.unrounded is not None
    dc = [
        (u * t)[..., 0, 0].sum()
        for u, t in zip(coded.unrounded, coded.tables[[0, 1, 1]][:, 0, 0], strict=True)
    ]
    gains = [torch.autograd.grad(each, x, retain_graph=True)[0] for each in dc]
    rows = torch.tensor([[0.299, 0.587, 0.114], [-0.16874, -0.33126, 0.5], [0.5, -0.41869, -0.08131]])
    for gain, row, (h, v) in zip(gains, rows.double(), ratios(3, name), strict=True):
        # An inner pixel: 1/8 of a sample of the orthonormal DC each, 255 grey levels.
        assert torch.allclose(gain[:, 0, 0], 255 * 8 * row / (64 * h * v), rtol=1e-4)


def test_subsampling_is_one_word_for_one_sampling() -> None:
    image = tensor(noise(20, 30))
    for spelled, name in {
        "2x2,1x1,1x1": "4:2:0",
        "4x4,2x2,2x2": "4:2:0",
        "2x2,1x2,1x2": "4:2:2",
        "3x2,3x2,3x2": "4:4:4",
        "4x2,2x2,2x1": "2x2,1x2,1x1",
        "2x1,2x1,1x1": "2x1,2x1,1x1",
    }.items():
        assert jpegrad.encode(image, quality=50, subsampling=spelled).subsampling == name
    assert jpegrad.encode(image[:1], quality=50, subsampling="3x1,1x1,1x1").subsampling == "4:4:4"
    for wrong in ("2x2", "2x2,1x1", "5x1,1x1,1x1", "2x2,1x1,1x1,", "0x1,1x1,1x1", 3, ["4:4:4"]):
        with pytest.raises(ValueError, match="subsampling: expected one of 4:4:4"):
            jpegrad.encode(image, quality=50, subsampling=wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="subsampling: expected the factors of 3 components"):
        jpegrad.encode(image, quality=50, subsampling="1x1,1x1,1x1,1x1")
    with pytest.raises(ValueError, match="fractional sampling factors 3x1, 2x1, 1x1"):
        jpegrad.encode(image, quality=50, subsampling="3x1,2x1,1x1")


def test_what_does_not_fit_into_one_scan_is_said() -> None:
    coded = jpegrad.encode(tensor(noise(20, 30)), quality=50, subsampling="4x4,1x1,1x1")
    for function in (jpegrad.to_bytes, jpegrad.bits, jpegrad.rate.breakdown):
        with pytest.raises(ValueError, match="subsampling: expected at most 10 blocks in an MCU"):
            function(coded)


def test_kernels_say_why_they_do_not_run() -> None:
    image = torch.rand(3, 20, 30)
    found = backends.explain(image, subsampling="3x1,1x1,1x1")
    assert found["reference"] == []
    assert "it samples by 4:4:4, 4:2:2, 4:2:0, 4:4:0, 4:1:1, not 3x1,1x1,1x1" in found["native"]
    with pytest.raises(ValueError, match="not 3x1,1x1,1x1"):
        jpegrad.jpeg(image, quality=50, subsampling="3x1,1x1,1x1", backend="native")
    with pytest.raises(ValueError, match="not 3x1,1x1,1x1"):
        jpegrad.decode(jpegrad.encode(image, quality=50, subsampling="3x1,1x1,1x1"), backend="native")
    # A named mode by its factors runs as fast as by its name.
    assert backends.explain(image, subsampling="2x2,1x1,1x1") == backends.explain(image, subsampling="4:2:0")


@pytest.mark.whole_graph
@pytest.mark.slow
def test_compiled_calls_take_them_too() -> None:
    image = torch.rand(2, 3, 20, 30)

    def round_trip(x: torch.Tensor) -> torch.Tensor:
        return jpegrad.jpeg(x, quality=50, subsampling="3x1,1x1,1x1")

    compiled = torch.compile(round_trip, backend="eager", fullgraph=True, dynamic=True)
    assert torch.equal(compiled(image), round_trip(image))


def test_levels_of_least_cost() -> None:
    coded = jpegrad.encode(tensor(picture(33, 50)), quality=80, subsampling="2x2,2x1,1x1")
    thinned = jpegrad.tune.trellis(coded, 50.0)
    assert jpegrad.bits(thinned) < jpegrad.bits(coded)
    assert np.array_equal(
        jpegrad.decode(thinned, dtype=torch.uint8).numpy(), pillow_pixels(jpegrad.to_bytes(thinned))
    )


@pytest.mark.parametrize("huffman", ["default", "optimized"])
def test_every_rate_model_has_a_slope(huffman: str) -> None:
    inks = torch.from_numpy(noise(18, 26)).permute(2, 0, 1).float()[[0, 1, 2, 1]] / 255
    for image, options in (
        (inks[:3], {"subsampling": "3x1,1x1,1x1"}),
        (inks, {"channels": "CMYK", "subsampling": "2x2,1x2,1x1,2x1"}),
    ):
        coded = jpegrad.encode(image.clone().requires_grad_(), 60, **options)  # type: ignore[arg-type]
        assert coded.unrounded is not None
        for name in jpegrad.rate.ALL:
            size = jpegrad.bits(coded, huffman=huffman, rate=name)
            assert size == 8 * len(jpegrad.to_bytes(coded, huffman=huffman))
            slopes = torch.autograd.grad(size, coded.unrounded, retain_graph=True)
            assert all(slope.isfinite().all() and slope.any() for slope in slopes), name
