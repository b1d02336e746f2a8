"""Other decoders than every viewer's: libjpeg-turbo with its flags for values, matrices for gradients."""

import dataclasses
import io
import itertools
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import jpeglib
import numpy as np
import pytest
import scipy.fft
import simplejpeg
import torch
from PIL import Image
from torch import Tensor

import jpegrad
from corpus import inks, noise, opencv, pillow, tensor, ycck
from jpegrad import Decoder
from oracles import adjoint, pictures
from oracles.libjpeg import MODES
from test_samplings import NAMES, file_of

Tally = Callable[[np.ndarray, np.ndarray], None]

KINDS = ("gray", "rgb", *MODES)
"""Of files: one component, R, G and B as they are, and YCbCr in every subsampling."""
SIZES = ((1, 1), (2, 3), (3, 5), (8, 8), (9, 17), (5, 40), (31, 4), (33, 18), (37, 53))
PLAIN: tuple[dict[str, Any], ...] = (
    {"upsampling": "replicate"},
    {"dct": "fast"},
    {"upsampling": "replicate", "dct": "fast"},
)
SCALES = (2, 4, 8)


def file(kind: str, pixels: np.ndarray, quality: int) -> bytes:
    """A file of one of KINDS of a picture [C, H, W]."""
    channels_last = np.ascontiguousarray(pixels.transpose(1, 2, 0))
    if kind == "gray":
        return opencv(channels_last[..., 0], quality=quality)
    if kind == "rgb":
        return pillow(channels_last, quality=quality, keep_rgb=True)
    return opencv(channels_last, kind, quality=quality)


def decoded(data: bytes, **decoder: Any) -> np.ndarray:
    return jpegrad.decode(jpegrad.read(data), dtype=torch.uint8, decoder=Decoder(**decoder)).numpy()


def turbojpeg(data: bytes, **decoder: Any) -> np.ndarray:
    space = "GRAY" if jpegrad.read_header(data).color == "gray" else "RGB"
    flags = {
        "fastdct": decoder.get("dct") == "fast",
        "fastupsample": decoder.get("upsampling") == "replicate",
    }
    return simplejpeg.decode_jpeg(data, space, **flags).transpose(2, 0, 1)


def opencv_reduced(data: bytes, scale: int) -> np.ndarray:
    color = jpegrad.read_header(data).color != "gray"
    flag = getattr(cv2, f"IMREAD_REDUCED_{'COLOR' if color else 'GRAYSCALE'}_{scale}")
    found = cv2.imdecode(np.frombuffer(data, np.uint8), flag)
    return found[..., ::-1].transpose(2, 0, 1) if color else found[None]


def pillow_reduced(data: bytes, scale: int, mode: str | None = None) -> np.ndarray:
    """What ``draft`` gives, in a mode; it does not reduce pictures that are smaller than one pixel then."""
    with Image.open(io.BytesIO(data)) as image:
        image.draft(image.mode, (image.width // scale, image.height // scale))
        return np.atleast_3d(np.array(image.convert(mode or image.mode))).transpose(2, 0, 1)


def check(data: bytes, tally: Tally) -> None:
    """Every decoder that another program has, on one file."""
    for decoder in PLAIN:
        tally(decoded(data, **decoder), turbojpeg(data, **decoder))
    height, width = jpegrad.read_header(data).size
    for scale in SCALES:
        found = decoded(data, scale=scale)
        tally(found, opencv_reduced(data, scale))
        if min(height, width) >= scale:
            tally(found, pillow_reduced(data, scale))


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_plain_fast_and_reduced_decoding_are_libjpegs(kind: str, size: tuple[int, int], tally: Tally) -> None:
    random = np.random.default_rng([*size, KINDS.index(kind)])
    for make, quality in ((pictures.photo, 75), (pictures.patches, 20), (pictures.noise, 96)):
        check(file(kind, make(random, 3, *size), quality), tally)


@pytest.mark.parametrize("quality", [1, 5, 10, 25, 50, 75, 90, 95, 100])
@pytest.mark.parametrize("kind", KINDS)
def test_other_decoders_at_qualities(kind: str, quality: int, tally: Tally) -> None:
    random = np.random.default_rng([quality, KINDS.index(kind)])
    for make in (pictures.photo, pictures.saturated):
        check(file(kind, make(random, 3, 41, 55), quality), tally)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_other_decoders_at_every_size(kind: str, tally: Tally) -> None:
    random = np.random.default_rng(KINDS.index(kind))
    for size in itertools.product(range(1, 41), repeat=2):
        make = (pictures.photo, pictures.noise, pictures.patches)[sum(size) % 3]
        check(file(kind, make(random, 3, *size), int(random.integers(1, 101))), tally)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_other_decoders_at_every_quality(kind: str, tally: Tally) -> None:
    random = np.random.default_rng(KINDS.index(kind))
    for quality in range(1, 101):
        for make in (pictures.photo, pictures.noise, pictures.patches, pictures.saturated):
            check(file(kind, make(random, 3, 67, 53), quality), tally)


def test_a_reduced_size_goes_with_the_other_options(tally: Tally) -> None:
    random = np.random.default_rng(0)
    for kind, scale in itertools.product(KINDS, SCALES):
        data = file(kind, pictures.photo(random, 3, 80, 104), 60)
        for options in ({}, *PLAIN):
            space = "GRAY" if kind == "gray" else "RGB"
            expected = simplejpeg.decode_jpeg(
                data,
                space,
                fastdct=options.get("dct") == "fast",
                fastupsample=options.get("upsampling") == "replicate",
                min_height=80 // scale,
                min_width=104 // scale,
                min_factor=scale,
            )
            tally(decoded(data, scale=scale, **options), expected.transpose(2, 0, 1))


def jpeglib_pixels(data: bytes, path: Path, decoder: Decoder) -> np.ndarray:
    """Of full size; TurboJPEG does not take samplings without a name."""
    path.write_bytes(data)
    flags = ["-DO_FANCY_UPSAMPLING"] if decoder.upsampling == "replicate" else []
    with jpeglib.version("turbo210"):
        found = jpeglib.read_spatial(str(path), dct_method=int(decoder.dct == "fast"), flags=flags)
    return found.spatial.transpose(2, 0, 1)


def check_sampling(name: str, size: tuple[int, int], path: Path, tally: Tally) -> None:
    data = file_of(jpegrad.encode(tensor(noise(*size)), quality=60, subsampling=name))
    for options in PLAIN:
        tally(decoded(data, **options), jpeglib_pixels(data, path / "picture.jpg", Decoder(**options)))
    for scale in SCALES:
        tally(decoded(data, scale=scale), opencv_reduced(data, scale))


@pytest.mark.parametrize("name", NAMES[::23])
def test_other_decoders_in_samplings_without_a_name(name: str, tmp_path: Path, tally: Tally) -> None:
    for size in ((17, 33), (9, 4), (1, 1)):
        check_sampling(name, size, tmp_path, tally)


@pytest.mark.slow
@pytest.mark.parametrize("size", [(17, 33), (30, 21), (2, 5), (9, 4), (49, 97)], ids=str)
def test_other_decoders_in_every_sampling(size: tuple[int, int], tmp_path: Path, tally: Tally) -> None:
    for name in NAMES:
        check_sampling(name, size, tmp_path, tally)


@pytest.mark.parametrize("mode", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("space", ["CMYK", "YCCK"])
def test_other_decoders_of_four_components(space: str, mode: str, tmp_path: Path, tally: Tally) -> None:
    for size in ((33, 47), (24, 16), (9, 4)):
        data = pillow(inks(*size), quality=70, subsampling=mode)
        data = ycck(data) if space == "YCCK" else data
        for options in PLAIN:
            stored = jpeglib_pixels(data, tmp_path / "picture.jpg", Decoder(**options))
            # Adobe's files have light, not ink.
            tally(decoded(data, **options), 255 - stored)
        for scale in SCALES:
            if min(size) >= scale:
                tally(decoded(data, scale=scale), pillow_reduced(data, scale))
                rgb = jpegrad.decode(
                    jpegrad.read(data), space="RGB", dtype=torch.uint8, decoder=Decoder(scale=scale)
                )
                tally(rgb.numpy(), pillow_reduced(data, scale, "RGB"))


@pytest.mark.parametrize("mode", MODES)
def test_reduced_planes_are_those_of_pillow(mode: str, tally: Tally) -> None:
    data = file(mode, pictures.photo(np.random.default_rng(0), 3, 37, 53), 60)
    for scale in SCALES:
        with Image.open(io.BytesIO(data)) as image:
            image.draft("YCbCr", (image.width // scale, image.height // scale))
            expected = np.array(image).transpose(2, 0, 1)
        reduced = Decoder(scale=scale)
        planes = jpegrad.decode(jpegrad.read(data), space="YCbCr", dtype=torch.uint8, decoder=reduced)
        tally(planes.numpy(), expected)


def blocks(levels: Tensor, entry: int) -> bytes:
    """A gray file of 64 × 64 pixels with these levels and one table entry."""
    tables = torch.full((1, 8, 8), float(entry))
    return jpegrad.to_bytes(jpegrad.Coefficients((levels,), tables, (64, 64), subsampling="4:4:4"))


@pytest.mark.skipif(
    platform.machine() != "x86_64", reason="vector code for other machines overflows elsewhere"
)
@pytest.mark.parametrize("entry", [1, 16, 128, 255])
def test_the_fast_dct_wraps_around_where_no_picture_reaches(entry: int, tally: Tally) -> None:
    for share in (1.0, 0.05):
        levels = (2046 * torch.rand(8, 8, 8, 8) - 1023).round() * (torch.rand(8, 8, 8, 8) < share)
        data = blocks(levels, entry)
        tally(decoded(data, dct="fast"), turbojpeg(data, dct="fast"))


def test_an_eighth_wraps_around_where_no_picture_reaches(tally: Tally) -> None:
    for entry in (1, 16, 64, 128, 255):
        levels = torch.zeros(8, 8, 8, 8)
        levels[..., 0, 0] = torch.linspace(-1023, 1023, 64).reshape(8, 8).round()
        data = blocks(levels, entry)
        tally(decoded(data, scale=8), pillow_reduced(data, 8))


# The decoder in real numbers, from its definition: linear, but for the clamps.

DECODERS = [
    Decoder(upsampling=upsampling, scale=scale)
    for upsampling in ("triangle", "replicate")
    for scale in (1, 2, 4, 8)
]
every_decoder = pytest.mark.parametrize("decoder", DECODERS, ids=str)


def in_reals(coefficients: jpegrad.Coefficients, decoder: Decoder) -> np.ndarray:
    """[C, h, w] in grey levels: a real inverse DCT, means of squares, matrices for upsampling and colours; no clamp."""
    scale, (height, width) = decoder.scale, coefficients.size
    h_max, v_max = adjoint.FACTORS[coefficients.subsampling]
    planes = []
    for i, level in enumerate(coefficients.levels):
        h, v = (h_max, v_max) if i else (1, 1)
        table = coefficients.tables[min(i, len(coefficients.tables) - 1)]
        dequantized = (level.double() * table.double()).detach().numpy()
        plane = adjoint.to_plane(scipy.fft.idctn(dequantized, axes=(-2, -1), norm="ortho")) + 128
        # What is halved in both directions is reduced by half as much.
        by = scale // 2 if (h, v) == (2, 2) and scale > 1 else scale
        plane = plane.reshape(plane.shape[0] // by, by, plane.shape[1] // by, by).mean((1, 3))
        rows, columns = -(-height // (v * by)), -(-width // (h * by))
        factors = h * by // scale, v * by // scale
        triangle = decoder.upsampling == "triangle" and scale < 8 and (factors[0] == 1 or columns > 2)
        up_y = adjoint.upsampling(rows, factors[1], -(-height // scale), triangle)
        up_x = adjoint.upsampling(columns, factors[0], -(-width // scale), triangle)
        planes.append(up_y @ plane[:rows, :columns] @ up_x.T)
    image = np.stack(planes)
    if len(planes) == 3 and coefficients.color is None:
        image = np.einsum("ij,jyx->iyx", adjoint.TO_RGB, image - adjoint.CENTRE[:, None, None])
    return image


def read(kind: str, size: tuple[int, int] = (37, 53), quality: int = 75, contrast: float = 1.0) -> Any:
    """The coefficients of a file; a picture of small contrast is never clamped."""
    random = np.random.default_rng([*size, KINDS.index(kind)])
    pixels = pictures.photo(random, 3, *size)
    return jpegrad.read(file(kind, (128 + contrast * (pixels.astype(float) - 128)).astype(np.uint8), quality))


@every_decoder
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(37, 53), (9, 4)], ids=str)
def test_unclipped_samples_are_the_real_numbers_of_the_levels(
    kind: str, size: tuple[int, int], decoder: Decoder
) -> None:
    coefficients = read(kind, size, quality=20, contrast=3.0)
    unclipped = dataclasses.replace(decoder, clip=False)
    expected = in_reals(coefficients, decoder)
    for forward in ("exact", "soft"):
        found = jpegrad.decode(
            coefficients, decoder=unclipped, forward=forward, dtype=torch.float64, value_range=(0, 255)
        )
        np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-10)
    # In another range, and in single precision.
    single = jpegrad.decode(coefficients, decoder=unclipped, value_range=(-1, 1))
    assert single.dtype == torch.float32
    np.testing.assert_allclose(single.numpy(), expected / 127.5 - 1, rtol=0, atol=1e-6)


def test_unclipped_samples_leave_the_range() -> None:
    """Noise on white and black: what the quantiser does to it goes beyond both."""
    pixels = np.full((3, 64, 64), 128)
    pixels[:, :24], pixels[:, 24:40] = 255, 0
    pixels += np.random.default_rng(1).integers(-30, 31, pixels.shape)
    data = pillow(pixels.clip(0, 255).astype(np.uint8).transpose(1, 2, 0), quality=40, subsampling=0)
    found = jpegrad.read(data)
    luma = dataclasses.replace(found, levels=found.levels[:1], tables=found.tables[:1], subsampling="4:4:4")
    got = jpegrad.decode(luma, decoder=Decoder(clip=False), value_range=(0, 255), dtype=torch.float64)[0]
    dequantized = (found.levels[0].double() * found.tables[0].double()).numpy()
    expected = adjoint.to_plane(scipy.fft.idctn(dequantized, axes=(-2, -1), norm="ortho")) + 128
    np.testing.assert_allclose(got.numpy(), expected, rtol=0, atol=1e-10)
    assert got.min() < -5 and got.max() > 260


def test_unclipped_inks_are_the_real_numbers_of_the_levels() -> None:
    """255 less what the file has, and as RGB the product with the light that black leaves."""
    found = jpegrad.read(pillow(inks(37, 53), quality=20))
    options: dict[str, Any] = {
        "decoder": Decoder(clip=False),
        "value_range": (0, 255),
        "dtype": torch.float64,
    }
    native = jpegrad.decode(found, **options).numpy()
    for level, ink in zip(found.levels, native, strict=True):
        dequantized = (level * found.tables[0]).double().numpy()
        light = adjoint.to_plane(scipy.fft.idctn(dequantized, axes=(-2, -1), norm="ortho")) + 128
        np.testing.assert_allclose(ink, 255 - light[:37, :53], rtol=0, atol=1e-10)
    rgb = jpegrad.decode(found, space="RGB", **options).numpy()
    np.testing.assert_allclose(rgb, (255 - native[:3]) * (255 - native[3]) / 255, rtol=0, atol=1e-10)


def moved(coefficients: jpegrad.Coefficients, random: np.random.Generator) -> jpegrad.Coefficients:
    """Coefficients with other levels, any numbers."""
    levels = tuple(torch.from_numpy(random.normal(size=level.shape)) for level in coefficients.levels)
    return dataclasses.replace(coefficients, levels=levels)


METHODS = (
    ("accurate", True, "exact"),
    ("fast", True, "exact"),
    ("accurate", False, "exact"),
    ("accurate", True, "soft"),
)
"""The inverse DCT, whether it clips, and the forward: all have the same gradient where nothing is clipped."""


@every_decoder
@pytest.mark.parametrize("kind", KINDS)
def test_the_gradient_is_the_adjoint_of_the_real_decoder(kind: str, decoder: Decoder) -> None:
    """⟨g, J v⟩ = ⟨Jᵀ g, v⟩ for directions v in the levels, where J is the linear map from its definition."""
    found = read(kind, (19, 29), contrast=0.3)
    random = np.random.default_rng(0)
    nothing = dataclasses.replace(found, levels=tuple(torch.zeros_like(level) for level in found.levels))
    directions = [moved(found, random) for _ in range(2)]
    changes = [in_reals(each, decoder) - in_reals(nothing, decoder) for each in directions]
    cotangent = torch.from_numpy(random.normal(size=changes[0].shape))
    for dct, clip, forward in METHODS:
        levels = [level.double().requires_grad_() for level in found.levels]
        watched = dataclasses.replace(found, levels=tuple(levels), value_range=(0, 255), dtype=torch.float64)
        method = dataclasses.replace(decoder, dct=dct, clip=clip)
        out = jpegrad.decode(watched, decoder=method, forward=forward)
        assert out.min() > 0 and out.max() < 255
        gradients = torch.autograd.grad(out, levels, cotangent)
        for direction, change in zip(directions, changes, strict=True):
            expected = (cotangent.numpy() * change).sum()
            got = sum((g * v).sum().item() for g, v in zip(gradients, direction.levels, strict=True))
            assert abs(got - expected) < 1e-12 * np.abs(cotangent.numpy() * change).sum()


@every_decoder
@pytest.mark.parametrize("dct", ["accurate", "fast"])
def test_clamps_stop_the_gradient(decoder: Decoder, dct: str) -> None:
    """Of gray levels, whose samples are what the unclipped decoder says: where it is beyond, nothing passes."""
    decoder = dataclasses.replace(decoder, dct=dct)
    level = (10 * torch.rand(9, 9, 8, 8) - 5).round()
    level[..., 0, 0] = torch.linspace(-160, 160, 81).reshape(9, 9).round()
    found = jpegrad.Coefficients((level,), torch.full((1, 8, 8), 8.0), (70, 69), subsampling="4:4:4")
    real = torch.from_numpy(in_reals(found, decoder))
    levels = found.levels[0].double().requires_grad_()
    watched = dataclasses.replace(found, levels=(levels,), value_range=(0, 255), dtype=torch.float64)
    cotangent = torch.randn(real.shape, dtype=torch.float64)
    # Where integers may fall on either side of the bounds, nothing is asked.
    cotangent[((real - 127.5).abs() - 127.5).abs() < 6] = 0
    inside = (real > 0) & (real < 255)
    assert not inside.all() and inside.any()
    (clipped,) = torch.autograd.grad(jpegrad.decode(watched, decoder=decoder), levels, cotangent)
    plain = Decoder(scale=decoder.scale, upsampling=decoder.upsampling, clip=False)
    (expected,) = torch.autograd.grad(jpegrad.decode(watched, decoder=plain), levels, cotangent * inside)
    torch.testing.assert_close(clipped, expected, rtol=1e-12, atol=1e-9)
    leaky = jpegrad.decode(watched, decoder=decoder, clip_slope=0.25)
    (clipped,) = torch.autograd.grad(leaky, levels, cotangent)
    slopes = torch.where(inside, 1.0, 0.25)
    (expected,) = torch.autograd.grad(jpegrad.decode(watched, decoder=plain), levels, cotangent * slopes)
    torch.testing.assert_close(clipped, expected, rtol=1e-12, atol=1e-9)


@pytest.mark.parametrize(
    "decoder", [Decoder(scale=2), Decoder(scale=4, upsampling="replicate"), Decoder(clip=False)], ids=str
)
def test_tables_have_the_gradient_of_the_value(decoder: Decoder) -> None:
    """Decoding is linear in the table too: finite differences are exact, but for float64."""
    found = read("4:2:0", (19, 29), contrast=0.3)

    def total(tables: Tensor) -> Tensor:
        other = dataclasses.replace(found, tables=tables)
        out = jpegrad.decode(other, decoder=decoder, forward="soft", dtype=torch.float64)
        return (out * torch.linspace(-1, 1, out.numel(), dtype=torch.float64).reshape(out.shape)).sum()

    assert torch.autograd.gradcheck(total, found.tables.double().requires_grad_(), fast_mode=True)


@pytest.mark.parametrize("forward", ["exact", "soft"])
@pytest.mark.parametrize("decoder", [*DECODERS, Decoder(dct="fast"), Decoder(clip=False)], ids=str)
def test_jpeg_is_decode_of_encode(decoder: Decoder, forward: str) -> None:
    if decoder.dct == "fast" and forward == "soft":
        return
    image = torch.rand(2, 3, 21, 34, dtype=torch.float64)
    tables = 3 * torch.ones(2, 2, 8, 8, dtype=torch.float64)

    def both(function: Callable[[Tensor, Tensor], Tensor]) -> tuple[Tensor, ...]:
        inputs = image.clone().requires_grad_(), tables.clone().requires_grad_()
        out = function(*inputs)
        return (out.detach(), *torch.autograd.grad(out.square().sum(), inputs))

    options: dict[str, Any] = {"subsampling": "4:2:0", "forward": forward, "backend": "reference"}
    coded = both(lambda x, t: jpegrad.jpeg(x, tables=t, decoder=decoder, **options))
    apart = both(lambda x, t: jpegrad.decode(jpegrad.encode(x, tables=t, **options), decoder=decoder))
    for one, other in zip(coded, apart, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-12)
    small = [2, 3, -(-21 // decoder.scale), -(-34 // decoder.scale)]
    assert list(coded[0].shape) == small


@pytest.mark.parametrize("backend", jpegrad.backends.ORDER)
def test_kernels_leave_other_decoders_to_the_reference(backend: str) -> None:
    image = torch.rand(3, 16, 16)
    for decoder in (Decoder(scale=2), Decoder(dct="fast"), Decoder(clip=False)):
        reasons = jpegrad.backends.explain(image, decoder=decoder)[backend]
        if backend == "reference":
            assert reasons == []
            continue
        assert "this decoder has others" in "; ".join(reasons)
        with pytest.raises(ValueError, match="this decoder has others"):
            jpegrad.jpeg(image, 50, decoder=decoder, backend=backend)
    plain = Decoder(upsampling="replicate")
    for operation, decoder in (("jpeg", Decoder()), ("jpeg", plain), ("encode", Decoder(scale=2))):
        found = jpegrad.backends.explain(image, operation, decoder=decoder)
        assert found == jpegrad.backends.explain(image, operation)


@pytest.mark.parametrize("decoder", [Decoder(scale=2), Decoder(dct="fast"), Decoder(clip=False)], ids=str)
def test_kernels_encode_for_other_decoders(decoder: Decoder) -> None:
    """Kernels have the levels; gradients are the reference's in float32."""
    image = torch.rand(2, 3, 21, 34)
    found = []
    for backend in ("auto", "reference"):
        leaf, quality = image.clone().requires_grad_(), torch.tensor([50.0, 80.0], requires_grad=True)
        out = jpegrad.jpeg(leaf, quality, decoder=decoder, backend=backend)
        gradients = torch.autograd.grad(out.square().sum(), (leaf, quality))
        found.append((out.detach(), *gradients))
    assert torch.equal(found[0][0], found[1][0])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("scale", [1, 2, 4, 8])
def test_a_reduced_pixel_is_undefined_where_one_of_its_pixels_is(scale: int) -> None:
    image = torch.rand(3, 21, 34)
    image[1, 9, 33] = torch.nan
    decoder = Decoder(scale=scale, upsampling="replicate")
    out = jpegrad.jpeg(image, 50, decoder=decoder)
    assert torch.equal(out.isnan(), jpegrad.jpeg(image, 50, decoder=decoder, backend="reference").isnan())
    expected = torch.zeros(-(-21 // scale), -(-34 // scale), dtype=torch.bool)
    expected[9 // scale, 33 // scale] = True
    assert torch.equal(out.isnan(), expected.expand_as(out))


def test_a_range_per_channel_is_the_range_of_an_unclipped_result() -> None:
    found = read("4:2:0", quality=20, contrast=3.0)
    value_range = ((-2.0, -1.0, 0.0), (2.0, 1.0, 4.0))
    per_channel = jpegrad.decode(
        found, decoder=Decoder(clip=False), value_range=value_range, dtype=torch.float64
    )
    unit = jpegrad.decode(found, decoder=Decoder(clip=False), dtype=torch.float64)
    low, high = (torch.tensor(x, dtype=torch.float64)[:, None, None] for x in value_range)
    torch.testing.assert_close(per_channel, low + unit * (high - low), rtol=0, atol=1e-12)
    assert unit.min() < 0 and unit.max() > 1


@pytest.mark.parametrize("decoder", [Decoder(scale=2, dct="fast"), Decoder(clip=False)], ids=str)
@pytest.mark.slow
def test_other_decoders_inside_pytorch(decoder: Decoder) -> None:
    images = torch.rand(3, 3, 18, 26, dtype=torch.float64)

    def coded(image: Tensor) -> Tensor:
        return jpegrad.jpeg(image, 40, decoder=decoder)

    expected = coded(images)
    if decoder.clip:
        # Chroma has whole blocks, and the integers of the fast DCT.
        assert torch.equal(torch.compile(coded, fullgraph=True, backend="aot_eager")(images), expected)
    mapped = torch.func.vmap(coded)(images)
    assert torch.equal(mapped, expected)
    tangent = torch.randn_like(images)
    _, forward = torch.func.jvp(coded, (images,), (tangent,))
    leaf = images.clone().requires_grad_()
    cotangent = torch.randn_like(expected)
    (backward,) = torch.autograd.grad(coded(leaf), leaf, cotangent)
    torch.testing.assert_close((forward * cotangent).sum(), (backward * tangent).sum(), rtol=1e-9, atol=1e-9)


IMAGE, BYTES = torch.rand(3, 16, 16), torch.zeros(3, 16, 16, dtype=torch.uint8)
WRONG: dict[str, tuple[Callable[[], object], type[Exception], str]] = {
    "upsampling": (
        lambda: Decoder(upsampling="fancy"),
        ValueError,
        "upsampling: expected one of triangle, replicate; got 'fancy'",
    ),
    "dct": (lambda: Decoder(dct="ifast"), ValueError, "dct: expected one of accurate, fast; got 'ifast'"),
    "scale": (lambda: Decoder(scale=3), ValueError, "scale: expected 1, 2, 4 or 8, got 3"),
    "scale of a fraction": (lambda: Decoder(scale=0.5), ValueError, "scale: expected 1, 2, 4 or 8, got 0.5"),
    "scale of a bool": (lambda: Decoder(scale=True), ValueError, "scale: expected 1, 2, 4 or 8, got True"),
    "clip": (lambda: Decoder(clip=0), TypeError, "clip: expected True or False, got 0"),
    "fast and unclipped": (
        lambda: Decoder(dct="fast", clip=False),
        ValueError,
        'dct: expected "accurate" with clip=False',
    ),
    "no decoder": (
        lambda: jpegrad.jpeg(IMAGE, 50, decoder={"scale": 2}),
        TypeError,
        "decoder: expected None or a jpegrad.Decoder, got dict",
    ),
    "fast and soft": (
        lambda: jpegrad.jpeg(IMAGE, 50, decoder=Decoder(dct="fast"), forward="soft"),
        ValueError,
        'decoder: expected dct="accurate" with forward="soft"',
    ),
    "fast and soft levels": (
        lambda: jpegrad.decode(jpegrad.encode(IMAGE, 50, forward="soft"), decoder=Decoder(dct="fast")),
        ValueError,
        'decoder: expected dct="accurate" with forward="soft"',
    ),
    "bytes and unclipped": (
        lambda: jpegrad.jpeg(BYTES, 50, decoder=Decoder(clip=False)),
        ValueError,
        "image: expected floating point with decoder.clip=False",
    ),
    "bytes of levels": (
        lambda: jpegrad.decode(jpegrad.encode(IMAGE, 50), dtype=torch.uint8, decoder=Decoder(clip=False)),
        ValueError,
        "dtype: expected floating point with decoder.clip=False",
    ),
    "bytes of the encoder": (
        lambda: jpegrad.decode(jpegrad.encode(BYTES, 50), decoder=Decoder(clip=False)),
        ValueError,
        "dtype: expected floating point with decoder.clip=False",
    ),
    "a slope of no clamp": (
        lambda: jpegrad.decode(jpegrad.encode(IMAGE, 50), clip_slope=0.1, decoder=Decoder(clip=False)),
        ValueError,
        "clip_slope: expected None with decoder.clip=False",
    ),
    "alpha": (
        lambda: jpegrad.jpeg(torch.rand(4, 16, 16), 50, channels="alpha", decoder=Decoder(scale=2)),
        ValueError,
        'decoder: expected scale=1 with channels="alpha"',
    ),
    "a layer": (
        lambda: jpegrad.nn.JPEG(50, decoder="fast"),
        TypeError,
        "decoder: expected None or a jpegrad.Decoder, got str",
    ),
    "a random layer": (
        lambda: jpegrad.nn.RandomJPEG(decoder=Decoder(scale=2)),
        ValueError,
        "decoder: expected scale=1 in nn.RandomJPEG",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_makes_no_sense_is_an_error(case: str) -> None:
    call, kind, words = WRONG[case]
    with pytest.raises(kind) as caught:
        call()
    assert str(caught.value).startswith(words)


def test_layers_take_a_decoder() -> None:
    image = torch.rand(2, 3, 21, 34)
    plain = Decoder(upsampling="replicate")
    expected = jpegrad.jpeg(image, 50, decoder=plain)
    assert not torch.equal(expected, jpegrad.jpeg(image, 50))
    layer = jpegrad.nn.JPEG(50, decoder=plain)
    assert torch.equal(layer(image), expected)
    assert "decoder=Decoder(upsampling='replicate'" in repr(layer)
    assert torch.equal(jpegrad.nn.RandomJPEG((50, 50), decoder=plain)(image), expected)
    assert jpegrad.nn.JPEG(50, decoder=Decoder(scale=8))(image).shape == (2, 3, 3, 5)
    planes = jpegrad.jpeg(torch.rand(5, 21, 34), 50, channels="planes", decoder=Decoder(scale=4))
    assert planes.shape == (5, 6, 9)
    rgba = torch.rand(4, 21, 34)
    out = jpegrad.jpeg(rgba, 50, channels="alpha", decoder=plain)
    assert torch.equal(out, torch.cat([jpegrad.jpeg(rgba[:3], 50, decoder=plain), rgba[3:]]))
