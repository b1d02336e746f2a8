"""RandomJPEG with other tables than Annex K's, by name and of files; modes that follow the quality."""

import io
import pickle
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.JpegPresets import presets
from torch import Tensor
from torch.utils.data import DataLoader

import jpegrad
from jpegrad.nn import Drawn, RandomJPEG
from jpegrad.tables import annex_k, load, scale

PILLOW = {0: "4:4:4", 1: "4:2:2", 2: "4:2:0"}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(count: int, channels: int = 3) -> Tensor:
    """Bytes, smooth enough that a coding changes some and keeps some."""
    noise = torch.rand(count, channels, 5, 7, generator=generator(count + channels))
    big = torch.nn.functional.interpolate(noise, (37, 45), mode="bicubic")
    return (big * 255).clamp(0, 255).byte()


def pillow(image: Tensor) -> Image.Image:
    pixels = image.movedim(0, -1).numpy()
    mode = {1: "L", 3: "RGB", 4: "CMYK"}[image.shape[0]]
    return Image.frombytes(mode, (image.shape[2], image.shape[1]), np.ascontiguousarray(pixels).tobytes())


def saved(image: Tensor, **options: Any) -> bytes:
    buffer = io.BytesIO()
    pillow(image).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def opened(data: bytes) -> Tensor:
    with Image.open(io.BytesIO(data)) as picture:
        pixels = np.array(picture)
    return torch.from_numpy(pixels[..., None] if pixels.ndim == 2 else pixels).movedim(-1, 0)


@pytest.fixture
def camera(tmp_path: Path) -> Path:
    """A folder of colour files, three of one coding, two with a coding of their own; a gray one and one of inks."""
    (one,) = pictures(1)
    (tmp_path / "below").mkdir()
    for i in range(3):
        (tmp_path / "below" / f"{i}.JPG").write_bytes(
            saved(one, quality=93, subsampling=1, progressive=i == 2)
        )
    (tmp_path / "web.jpeg").write_bytes(saved(one, quality="web_medium"))
    (tmp_path / "four.jpg").write_bytes(saved(one, quality=40, subsampling=0))
    (tmp_path / "gray.jpg").write_bytes(saved(one[:1], quality=7))
    (tmp_path / "inks.jpg").write_bytes(saved(pictures(1, 4)[0], quality=55))
    (tmp_path / "notes.txt").write_text("no picture")
    (tmp_path / ".hidden.jpg").write_bytes(b"none")
    return tmp_path


def test_images_are_coded_like_the_files_of_a_folder(camera: Path) -> None:
    images = pictures(12)
    layer = RandomJPEG(like=camera, generator=generator())
    drawn = layer.draw(images.shape)
    assert drawn.quality is None
    out = layer(images, drawn)
    colour = ["web.jpeg", "four.jpg", "below/0.JPG"]
    ways = []
    for name in colour:
        with Image.open(camera / name) as picture:
            tables: Any = picture.quantization  # type: ignore[attr-defined]
            sampling = {"web": 2, "fou": 0, "bel": 1}[name[:3]]
        ways.append({"qtables": tables, "subsampling": sampling})
    for image, coded, i in zip(images, out, drawn.coding.tolist(), strict=True):
        coding = layer.codings[i]
        way = next(way for way in ways if PILLOW[way["subsampling"]] == coding.subsampling)
        assert torch.equal(coded, opened(saved(image, **way)))
    assert {layer.codings[i].subsampling for i in drawn.coding.tolist()} == {"4:4:4", "4:2:2", "4:2:0"}


def test_every_file_is_equally_likely_and_channels_fit(camera: Path) -> None:
    layer = RandomJPEG(like=camera, generator=generator(3))

    def counts(channels: int, asked: RandomJPEG = layer) -> Counter[tuple[str, float]]:
        drawn = asked.draw((3000, channels, 8, 8)).coding.tolist()
        codings = [asked.codings[i] for i in drawn]
        return Counter((c.subsampling, float(c.tables[0, 0, 0])) for c in codings if c.tables is not None)

    colour = counts(3)
    assert len(colour) == 3
    (_, most), *rest = colour.most_common()
    # Five standard deviations of a binomial, 3/5 and 1/5.
    assert abs(most - 1800) < 5 * (3000 * 0.24) ** 0.5
    assert all(abs(n - 600) < 5 * (3000 * 0.16) ** 0.5 for _, n in rest)
    # Gray images have the luma table of any file.
    assert len(counts(1)) == 5
    inks = RandomJPEG(like=camera, channels="CMYK", generator=generator(3))
    assert len(counts(4, inks)) == 1
    (image,) = pictures(1, 4)
    assert torch.equal(inks(image), opened(saved(image, quality=55)))


def test_gray_images_take_the_luma_table_of_any_file(camera: Path) -> None:
    images = pictures(8, 1)
    layer = RandomJPEG(like=camera, generator=generator())
    drawn = layer.draw(images.shape)
    out = layer(images, drawn)
    for image, coded, i in zip(images, out, drawn.coding.tolist(), strict=True):
        tables = layer.codings[i].tables
        assert tables is not None
        assert torch.equal(coded, opened(saved(image, qtables=[tables[0].flatten().int().tolist()])))
    planes = RandomJPEG(like=camera, channels="planes")
    assert torch.equal(
        planes(pictures(8), planes.draw((8, 3, 37, 45))._replace(coding=drawn.coding))[:, :1],
        layer(pictures(8)[:, :1], drawn),
    )


@pytest.mark.parametrize("name", sorted(presets))
def test_presets_are_those_of_pillow(name: str) -> None:
    (image,) = pictures(1)
    assert torch.equal(RandomJPEG(like=name)(image), opened(saved(image, quality=name)))


def test_headers_and_coefficients_say_what_files_say(camera: Path) -> None:
    (image,) = pictures(1)
    path = camera / "below" / "0.JPG"
    kinds: list[Any] = [path, str(path), jpegrad.read_header(path), jpegrad.read(path)]
    expected = jpegrad.jpeg(image, like=jpegrad.read(path))
    for like in [*kinds, kinds]:
        assert torch.equal(RandomJPEG(like=like)(image), expected)
    assert [coding.files for coding in RandomJPEG(like=kinds).codings] == [4]


def test_coefficients_may_have_a_conversion_of_their_own() -> None:
    images = pictures(12)
    like = []
    for factor in (0.5, 1.5):
        matrix = torch.tensor(jpegrad.spec.JFIF.matrix) * torch.tensor([[1], [factor], [1]])
        color = jpegrad.Color(matrix, torch.tensor((0.0, 128.0, 128.0)), torch.linalg.inv(matrix))
        like.append(jpegrad.encode(images[0], 60, color=color))
    layer = RandomJPEG(like=like, generator=generator())
    drawn = layer.draw(images.shape)
    out = layer(images, drawn)
    assert {*drawn.coding.tolist()} == {0, 1}
    for image, coded, i in zip(images, out, drawn.coding.tolist(), strict=True):
        assert torch.equal(coded, jpegrad.jpeg(image, like=like[i]))


@pytest.mark.parametrize("kind", ["RGB", "wide", "4:1:0"])
def test_unusual_files_are_coded_like_too(kind: str, tmp_path: Path) -> None:
    images = pictures(2)
    ways: dict[str, dict[str, Any]] = {
        "RGB": {"quality": 30, "color": jpegrad.spec.RGB, "subsampling": "4:4:4"},
        "wide": {"tables": annex_k(50)},
        "4:1:0": {"quality": 30, "subsampling": "4x2,1x1,1x1"},
    }
    source = jpegrad.encode(images[0], **ways[kind])
    if kind == "wide":
        source = jpegrad.Coefficients(source.levels, source.tables * 13, source.size)
        assert source.tables.max() > 255
    (tmp_path / "file.jpg").write_bytes(jpegrad.to_bytes(source))
    found = RandomJPEG(like=tmp_path)(images)
    assert torch.equal(found, jpegrad.jpeg(images, like=source))


def test_what_cannot_be_coded_like_is_left_out_and_named(camera: Path) -> None:
    good = RandomJPEG(like=camera).codings
    whole = saved(pictures(1)[0])
    (camera / "broken.jpg").write_bytes(whole[:100])
    start = whole.index(b"\xff\xc0")
    twelve = bytearray(whole)
    twelve[start + 4] = 12
    (camera / "twelve.jpg").write_bytes(twelve)
    zero = bytearray(whole)
    zero[whole.index(b"\xff\xdb") + 9] = 0
    (camera / "zero.jpg").write_bytes(zero)
    with pytest.warns(UserWarning, match=r"left out 3 of 10 files.*broken\.jpg: truncated") as caught:
        layer = RandomJPEG(like=camera)
    assert caught[0].filename == __file__
    assert [c.files for c in layer.codings] == [c.files for c in good]
    for name, word in (("broken", "truncated"), ("twelve", "12 bits"), ("zero", "entry of 0")):
        with pytest.raises(jpegrad.JPEGError, match=f"{name}.jpg: .*{word}"):
            RandomJPEG(like=camera / f"{name}.jpg")


def test_a_folder_may_be_gone_once_it_was_read(camera: Path) -> None:
    layer = RandomJPEG(like=camera, generator=generator())
    shutil.rmtree(camera)
    images = pictures(5)
    twin = pickle.loads(pickle.dumps(layer))
    assert torch.equal(layer(images), twin(images))
    assert repr(layer) == "RandomJPEG(per=image, codings=[5], p=1.0)"


class Coded(torch.utils.data.Dataset[Tensor]):
    def __init__(self, layer: RandomJPEG) -> None:
        self.layer = layer

    def __len__(self) -> int:
        return 8

    def __getitem__(self, i: int) -> Tensor:
        coded = self.layer(pictures(1)[0])
        assert isinstance(coded, Tensor)
        return coded


@pytest.mark.slow
@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_workers_code_like_files(camera: Path, context: str) -> None:
    layer = RandomJPEG(like=camera, generator=generator())
    possible = [
        jpegrad.jpeg(pictures(1)[0], tables=c.tables, subsampling=c.subsampling)
        for c in layer.codings
        if c.components == 3
    ]
    loader = DataLoader(Coded(layer), batch_size=4, num_workers=2, multiprocessing_context=context)
    for coded in (image for batch in loader for image in batch):
        assert any(torch.equal(coded, each) for each in possible)


def test_tables_by_name_are_scaled_by_the_quality() -> None:
    images = pictures(16)
    own = torch.randint(1, 60, (2, 8, 8)).float()
    names = ["robidoux", "klein", own]
    layer = RandomJPEG((20, 95), tables=names, subsampling=("4:2:0", "4:4:4"), generator=generator(4))
    drawn = layer.draw(images.shape)
    out = layer(images, drawn)
    assert drawn.quality is not None
    bases = [load("robidoux"), load("klein"), own]
    for image, coded, quality, i in zip(images, out, drawn.quality, drawn.coding.tolist(), strict=True):
        expected = jpegrad.jpeg(
            image, tables=scale(bases[i // 2], quality), subsampling=("4:2:0", "4:4:4")[i % 2]
        )
        assert torch.equal(coded, expected)
    assert {*drawn.coding.tolist()} == {*range(6)}


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("color", [None, jpegrad.spec.RGB], ids=["JFIF", "RGB"])
def test_annex_k_as_tables_is_annex_k(channels: int, color: Any) -> None:
    if color is not None and channels != 3:
        pytest.skip("has no such conversion")
    images = pictures(4, channels)
    options: dict[str, Any] = {"channels": "CMYK"} if channels == 4 else {"color": color}
    for tables in (annex_k(50), jpegrad.tables.ANNEX_K, [annex_k(50)]):
        layer = RandomJPEG((5, 95), tables=tables, subsampling="4:4:4", **options)
        drawn = layer.draw(images.shape)
        plain = RandomJPEG((5, 95), subsampling="4:4:4", **options)
        assert torch.equal(layer(images, drawn), plain(images, drawn))


@pytest.mark.parametrize("quality", [(1, 100), (1.0, 100.0)], ids=str)
@pytest.mark.parametrize("tables", [None, ["robidoux", "flat"]], ids=["K", "two"])
def test_a_mode_may_follow_the_quality(quality: Any, tables: Any) -> None:
    rule: Any = {1: "4:2:0", 60: "4:2:2", 90: "4:4:4"}
    layer = RandomJPEG(quality, subsampling=rule, tables=tables, generator=generator())
    drawn = layer.draw((500, 3, 8, 8))
    assert drawn.quality is not None
    for q, i in zip(drawn.quality.tolist(), drawn.coding.tolist(), strict=True):
        expected = "4:4:4" if q >= 90 else "4:2:2" if q >= 60 else "4:2:0"
        assert layer.codings[i].subsampling == expected
    assert len({*drawn.coding.tolist()}) == (3 if tables is None else 6)
    images = pictures(6)
    drawn = layer.draw(images.shape)
    out = layer(images, drawn)
    if tables is None and drawn.quality is not None:
        modes = [layer.codings[i].subsampling for i in drawn.coding]
        for x, y, q, mode in zip(images, out, drawn.quality, modes, strict=True):
            assert torch.equal(y, jpegrad.jpeg(x, q.item(), subsampling=mode))
    assert "90: '4:4:4'" in repr(layer)


def test_a_learned_quality_moves_tables_by_name() -> None:
    images = torch.rand(4, 3, 16, 16)
    layer = RandomJPEG(tables=["robidoux", "mse"], generator=generator())
    drawn = layer.draw(images.shape)
    assert drawn.quality is not None
    quality = drawn.quality.double().requires_grad_()
    layer(images, drawn._replace(quality=quality)).square().sum().backward()
    again = drawn.quality.double().requires_grad_()
    bases = torch.stack([(load("robidoux"), load("mse"))[i] for i in drawn.coding.tolist()])
    entries = scale(bases, again[:, None, None, None])
    jpegrad.jpeg(images, tables=entries).square().sum().backward()
    assert quality.grad is not None and again.grad is not None
    # Sums in another order.
    assert torch.allclose(quality.grad, again.grad, rtol=1e-5) and (quality.grad != 0).all()


@pytest.mark.parametrize("way", ["like", "tables"])
@pytest.mark.whole_graph
@pytest.mark.slow
def test_compiled_exported_and_mapped_it_draws_the_same(way: str, camera: Path) -> None:
    image = torch.rand(4, 3, 16, 16)
    layer = RandomJPEG(like=camera) if way == "like" else RandomJPEG(tables=["klein", "mse"])
    ways: dict[str, Any] = {
        "eager": layer,
        "compiled": torch.compile(layer, fullgraph=True, backend="eager"),
        "mapped": torch.func.vmap(layer, randomness="same", in_dims=1, out_dims=1),
    }
    found = {}
    for name, each in ways.items():
        torch.manual_seed(6)
        found[name] = each(image[:, None])[:, 0] if name == "mapped" else each(image)
    for name, out in found.items():
        assert torch.equal(out, found["eager"]), name


VALUE, TYPE = ValueError, TypeError
WRONG: dict[str, tuple[dict[str, Any], type[Exception], tuple[str, ...]]] = {
    "like and quality": ({"like": "web_low", "quality": 50}, VALUE, ("like", "without quality", "both")),
    "like and more": (
        {"like": "web_low", "subsampling": "4:2:0", "tables": "mse", "color": jpegrad.spec.RGB},
        VALUE,
        ("without subsampling, tables, color",),
    ),
    "like: number": ({"like": 5}, TYPE, ("like",)),
    "like: numbers": ({"like": [5]}, TYPE, ("like", "int")),
    "like: none": ({"like": []}, VALUE, ("like", "none")),
    "like: no file": ({"like": "web_lower"}, FileNotFoundError, ("web_lower", "web_low,")),
    "tables: name": ({"tables": "mses"}, FileNotFoundError, ("mses", "mse,")),
    "tables: none": ({"tables": []}, VALUE, ("tables", "none")),
    "tables: shape": ({"tables": torch.ones(8, 8)}, VALUE, ("tables", "[8, 8]")),
    "tables: four": ({"tables": torch.ones(4, 8, 8)}, VALUE, ("tables", "[4, 8, 8]")),
    "tables: number": ({"tables": 5}, TYPE, ("tables", "int")),
    "tables: gradient": ({"tables": annex_k(50).requires_grad_()}, VALUE, ("tables", "nn.JPEG")),
    "rule: order": ({"subsampling": {1: "4:2:0", 90: "4:4:4", 80: "4:2:2"}}, VALUE, ("rising", "80")),
    "rule: start": ({"subsampling": {50: "4:2:0"}}, VALUE, ("first of them 1", "50")),
    "rule: empty": ({"subsampling": {}}, VALUE, ("subsampling", "{}")),
    "rule: key": ({"subsampling": {"low": "4:2:0"}}, TYPE, ("qualities as keys", "'low'")),
    "rule: mode": ({"subsampling": {1: "4:2:1"}}, VALUE, ("subsampling", "'4:2:1'")),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_an_error(case: str) -> None:
    arguments, error, words = WRONG[case]
    with pytest.raises(error) as caught:
        RandomJPEG(**arguments)
    for word in words:
        assert word in str(caught.value)


def test_files_that_do_not_fit_are_errors(camera: Path) -> None:
    gray = RandomJPEG(like=camera / "gray.jpg")
    with pytest.raises(ValueError, match="like: expected a file of 3 components"):
        gray(pictures(1))
    gray(pictures(1, 1))
    wrongs: Any = (("alpha", 3), ("CMYK", 3), (None, 2))
    for channels, count in wrongs:
        layer = RandomJPEG(like=camera, channels=channels)
        with pytest.raises(ValueError, match="image: expected"):
            layer.draw((count, 8, 8))
        with pytest.raises(ValueError, match="image: expected"):
            layer(pictures(1, 5)[:, :count])
    empty = camera / "empty"
    empty.mkdir()
    with pytest.raises(ValueError, match=r"folder with \.jpg files, got .*empty with 0"):
        RandomJPEG(like=empty)
    layer = RandomJPEG(like=camera)
    wrong = next(i for i, coding in enumerate(layer.codings) if coding.components == 1)
    none = torch.tensor(True)
    with pytest.raises(ValueError, match=r"drawn\.coding: expected files of 3 components"):
        layer(pictures(1), Drawn(None, torch.tensor(wrong), none))
    with pytest.raises(TypeError, match=r"drawn\.quality: expected None"):
        layer(pictures(1), Drawn(torch.tensor(50), torch.tensor(0), none))
    with pytest.raises(TypeError, match=r"drawn\.quality: expected a torch\.Tensor"):
        RandomJPEG()(pictures(1), Drawn(None, torch.tensor(0), none))
