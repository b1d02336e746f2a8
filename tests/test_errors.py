"""Wrong arguments: the message names the argument, what was expected and what came."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import jpegrad
from jpegrad import surrogates, tables
from jpegrad.rate import models

IMAGE = torch.rand(2, 3, 16, 16)
COEFFICIENTS = jpegrad.encode(torch.rand(3, 16, 16), 50)
ANNEX = tables.annex_k(50)

TYPE, VALUE = TypeError, ValueError

# What came into jpeg and encode, over a legal call; the error; words that the message must have.
CALLS: dict[str, tuple[dict[str, Any], type[Exception], tuple[str, ...]]] = {
    "image: list": ({"image": [[0.0]]}, TYPE, ("image", "torch.Tensor", "list")),
    "image: array": (
        {"image": np.zeros((3, 8, 8))},
        TYPE,
        ("image", "torch.Tensor", "ndarray", "torch.from_numpy(image) makes"),
    ),
    "image: array, channels last": (
        {"image": np.zeros((8, 8, 3))},
        TYPE,
        ("image", "ndarray", "torch.from_numpy(image).movedim(-1, -3)"),
    ),
    "image: Pillow's": (
        {"image": Image.new("RGB", (8, 8))},
        TYPE,
        ("image", "torch.from_numpy(numpy.array("),
    ),
    "image: int64": (
        {"image": torch.zeros(3, 8, 8, dtype=torch.int64)},
        TYPE,
        ("image", "uint8", "torch.int64"),
    ),
    "image: bool": (
        {"image": torch.zeros(3, 8, 8, dtype=torch.bool)},
        TYPE,
        ("image", "uint8", "torch.bool"),
    ),
    "image: complex": (
        {"image": torch.zeros(3, 8, 8, dtype=torch.complex64)},
        TYPE,
        ("image", "torch.complex64"),
    ),
    "image: two channels": (
        {"image": torch.zeros(2, 8, 8)},
        VALUE,
        ("image", "1 or 3", "[2, 8, 8]", 'channels="alpha"', 'channels="planes"'),
    ),
    "image: channels last": (
        {"image": torch.zeros(8, 8, 3)},
        VALUE,
        ("image", "[..., 1 or 3, H, W]", "[8, 8, 3]", "image.movedim(-1, -3)"),
    ),
    "image: no channel": ({"image": torch.zeros(8, 8)}, VALUE, ("image", "1 or 3", "[8, 8]", "image[None]")),
    "image: scalar": ({"image": torch.zeros(())}, VALUE, ("image", "[]")),
    "image: no rows": ({"image": torch.zeros(3, 0, 8)}, VALUE, ("image", "H, W >= 1", "[3, 0, 8]")),
    "image: no columns": ({"image": torch.zeros(3, 8, 0)}, VALUE, ("image", "H, W >= 1", "[3, 8, 0]")),
    "quality: 0": ({"quality": 0}, VALUE, ("quality", "1 to 100", "0")),
    "quality: 101": ({"quality": 101}, VALUE, ("quality", "1 to 100", "101")),
    "quality: 0.99": ({"quality": 0.99}, VALUE, ("quality", "1 to 100", "0.99")),
    "quality: NaN": ({"quality": float("nan")}, VALUE, ("quality", "1 to 100", "nan")),
    "quality: infinity": ({"quality": float("inf")}, VALUE, ("quality", "1 to 100", "inf")),
    "quality: text": ({"quality": "75"}, TYPE, ("quality", "number", "str")),
    "quality: bool": ({"quality": True}, TYPE, ("quality", "number", "bool")),
    "quality: list of texts": ({"quality": ["10", "20"]}, TYPE, ("quality", "list of numbers", "list")),
    "quality: list with bool": ({"quality": [True, 20]}, TYPE, ("quality", "list of numbers", "list")),
    "quality: list beyond": ({"quality": [10, 200]}, VALUE, ("quality", "1 to 100", "200")),
    "quality: NaN in a list": ({"quality": [10, float("nan")]}, VALUE, ("quality", "1 to 100", "nan")),
    "quality: bools of NumPy": ({"quality": np.array([True, True])}, TYPE, ("quality", "real", "torch.bool")),
    "quality: bool of NumPy": ({"quality": np.True_}, TYPE, ("quality", "number", "bool")),
    "quality: array of a wrong batch": ({"quality": np.ones(3)}, VALUE, ("quality", "[2]", "[3]")),
    "quality: bool tensor": ({"quality": torch.tensor(True)}, TYPE, ("quality", "real", "torch.bool")),
    "quality: complex": ({"quality": torch.tensor(1j)}, TYPE, ("quality", "real", "torch.complex64")),
    "quality: wrong batch": ({"quality": torch.ones(3)}, VALUE, ("quality", "[2]", "[3]")),
    "quality: too deep": ({"quality": torch.ones(2, 1)}, VALUE, ("quality", "[2]", "[2, 1]")),
    "quality: missing": ({"quality": None}, VALUE, ("quality", "tables", "None")),
    "tables: text": ({"quality": None, "tables": "mse"}, TYPE, ("tables", "torch.Tensor", "str")),
    "tables: ragged": ({"quality": None, "tables": [[1], [2, 3]]}, TYPE, ("tables", "torch.Tensor", "list")),
    "tables: list": ({"quality": None, "tables": [[1]]}, VALUE, ("tables", "8, 8]", "[1, 1]")),
    "tables: bool": ({"quality": None, "tables": ANNEX > 9}, TYPE, ("tables", "real", "torch.bool")),
    "tables: complex": ({"quality": None, "tables": ANNEX + 0j}, TYPE, ("tables", "real", "torch.complex64")),
    "tables: four": (
        {"quality": None, "tables": ANNEX.repeat(2, 1, 1)},
        VALUE,
        ("tables", "2 or 3", "[4, 8, 8]"),
    ),
    "tables: flat": ({"quality": None, "tables": ANNEX.flatten(1)}, VALUE, ("tables", "8, 8]", "[2, 64]")),
    "tables: wrong batch": (
        {"quality": None, "tables": ANNEX.expand(3, 2, 8, 8)},
        VALUE,
        ("tables", "[2]", "[3]"),
    ),
    "tables: and quality": ({"tables": ANNEX}, VALUE, ("tables", "quality", "both", "jpegrad.tables.scale")),
    "subsampling": ({"subsampling": "4:2:1"}, VALUE, ("subsampling", "4:2:0", "'4:2:1'")),
    "subsampling: number": ({"subsampling": 420}, VALUE, ("subsampling", "4:2:0", "420")),
    "subsampling: unhashable": ({"subsampling": ["4:2:0"]}, VALUE, ("subsampling", "4:2:0")),
    "forward": ({"forward": "ste"}, VALUE, ("forward", "exact, soft", "'ste'")),
    "surrogate": ({"surrogate": "sigmoid"}, VALUE, ("surrogate", "gaussian", "'sigmoid'")),
    "surrogate: function": ({"surrogate": torch.round}, TYPE, ("surrogate", "name or a Surrogate")),
    "table_surrogate": ({"table_surrogate": "sigmoid"}, VALUE, ("table_surrogate", "gaussian", "'sigmoid'")),
    "table_surrogate: number": ({"table_surrogate": 3}, TYPE, ("table_surrogate", "int")),
    "sigma: 0": ({"sigma": 0}, VALUE, ("sigma", "positive", "0")),
    "sigma: NaN": ({"sigma": float("nan")}, VALUE, ("sigma", "positive", "nan")),
    "sigma: text": ({"sigma": "2"}, TYPE, ("sigma", "number", "'2'")),
    "sigma: beside another surrogate": (
        {"sigma": -1.0, "surrogate": "cubic"},
        VALUE,
        ("sigma", "positive", "-1.0"),
    ),
    "clip_slope: negative": ({"clip_slope": -0.1}, VALUE, ("clip_slope", "0 to 1", "-0.1")),
    "clip_slope: 2": ({"clip_slope": 2}, VALUE, ("clip_slope", "0 to 1", "2")),
    "clip_slope: NaN": ({"clip_slope": float("nan")}, VALUE, ("clip_slope", "0 to 1", "nan")),
    "clip_slope: text": ({"clip_slope": "leaky"}, TYPE, ("clip_slope", "number", "str")),
    "color: name": ({"color": "bt709"}, TYPE, ("color", "matrix, offset", "str")),
    "color: empty": ({"color": ()}, TYPE, ("color", "matrix, offset")),
    "color: matrix of 2": (
        {"color": (torch.eye(2), torch.zeros(3))},
        VALUE,
        ("color.matrix", "[3, 3]", "[2, 2]"),
    ),
    "color: offset of 2": ({"color": (torch.eye(3), [0.0, 1.0])}, VALUE, ("color.offset", "[3]", "[2]")),
    "color: inverse": (
        {"color": (torch.eye(3), torch.zeros(3), torch.eye(4))},
        VALUE,
        ("color.inverse", "[3, 3]", "[4, 4]"),
    ),
    "color: text": ({"color": ("abc", torch.zeros(3))}, TYPE, ("color.matrix", "numbers", "'abc'")),
    "color: complex": (
        {"color": (torch.eye(3) + 0j, torch.zeros(3))},
        TYPE,
        ("color.matrix", "numbers", "1.+0.j"),
    ),
    "color: NaN": (
        {"color": (torch.eye(3).tolist(), [0.0, float("nan"), 0.0])},
        VALUE,
        ("color.offset", "finite", "nan"),
    ),
    "value_range: upside down": ({"value_range": (1, 0)}, VALUE, ("value_range", "low < high", "(1, 0)")),
    "value_range: empty": ({"value_range": (1, 1)}, VALUE, ("value_range", "low < high", "(1, 1)")),
    "value_range: infinite": ({"value_range": (0, float("inf"))}, VALUE, ("value_range", "finite", "inf")),
    "value_range: NaN": ({"value_range": (float("nan"), 1)}, VALUE, ("value_range", "finite", "nan")),
    "value_range: number": ({"value_range": 255}, TYPE, ("value_range", "two numbers", "255")),
    "value_range: three": ({"value_range": (0, 1, 2)}, TYPE, ("value_range", "two numbers", "(0, 1, 2)")),
    "value_range: two channels of three": (
        {"value_range": ((0, 1), (2, 3))},
        VALUE,
        ("value_range", "3 channels", "2"),
    ),
    "value_range: as many lows as highs": (
        {"value_range": ((0, 1), (2, 3, 4))},
        TYPE,
        ("value_range", "one per channel", "(2, 3, 4)"),
    ),
    "value_range: one channel upside down": (
        {"value_range": ((0, 0, 1), (1, 1, 0))},
        VALUE,
        ("value_range", "low < high"),
    ),
    "value_range: texts": ({"value_range": "01"}, TYPE, ("value_range", "two numbers", "'01'")),
    "rounding": ({"rounding": "floor"}, VALUE, ("rounding", "nearest, truncate", "'floor'")),
    "rounding: of the soft forward": (
        {"rounding": "truncate", "forward": "soft"},
        VALUE,
        ("rounding", "nearest", "soft"),
    ),
    "backend": ({"backend": "cuda"}, VALUE, ("backend", "auto", "reference", "'cuda'")),
    "like: and quality": ({"like": COEFFICIENTS}, VALUE, ("like", "quality")),
    "like: tensor": ({"quality": None, "like": ANNEX}, TYPE, ("like", "Coefficients", "Tensor")),
}


def check(call: Callable[[], object], error: type[Exception], words: tuple[str, ...]) -> None:
    with pytest.raises((TypeError, ValueError)) as caught:
        call()
    assert caught.type is error, caught.value
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("function", [jpegrad.jpeg, jpegrad.encode], ids=lambda f: f.__name__)
@pytest.mark.parametrize("case", CALLS)
def test_calls(case: str, function: Callable[..., object]) -> None:
    wrong, error, words = CALLS[case]
    arguments = {"image": IMAGE, "quality": 75, **wrong}
    image, quality = arguments.pop("image"), arguments.pop("quality")
    check(lambda: function(image, quality, **arguments), error, words)


CHANNELS: dict[str, tuple[dict[str, Any], type[Exception], tuple[str, ...]]] = {
    "other": ({"channels": "gray"}, VALUE, ("channels", "alpha", "planes", "'gray'")),
    "alpha of RGB": ({"channels": "alpha"}, VALUE, ("image", "2 or 4", "[2, 3, 16, 16]")),
    "planes: quality": ({"channels": "planes", "quality": torch.ones(3)}, VALUE, ("quality", "[3")),
    "planes: range": (
        {"channels": "planes", "value_range": ((0, 1), (2, 3))},
        VALUE,
        ("value_range", "3 channels", "2"),
    ),
}


@pytest.mark.parametrize("case", CHANNELS)
def test_channels(case: str) -> None:
    wrong, error, words = CHANNELS[case]
    check(lambda: jpegrad.jpeg(IMAGE, **{"quality": 75, **wrong}), error, words)


# Without the first argument these name the one left out; every other misspelling is Python's own error.
def test_unknown_arguments_are_named() -> None:
    with pytest.raises(TypeError, match="qualty"):
        jpegrad.jpeg(IMAGE, qualty=75)


DECODES: dict[str, tuple[dict[str, Any], type[Exception], tuple[str, ...]]] = {
    "coefficients": ({"coefficients": ANNEX}, TYPE, ("coefficients", "Coefficients", "Tensor")),
    "dtype": ({"dtype": torch.int32}, TYPE, ("dtype", "uint8", "torch.int32")),
    "dtype: text": ({"dtype": "float32"}, TYPE, ("dtype", "float32")),
    "forward": ({"forward": "hard"}, VALUE, ("forward", "exact, soft", "'hard'")),
    "clip_slope": ({"clip_slope": 7}, VALUE, ("clip_slope", "0 to 1", "7")),
    "value_range": ({"value_range": (2, 1)}, VALUE, ("value_range", "low < high", "(2, 1)")),
    "backend": ({"backend": "fast"}, VALUE, ("backend", "auto", "'fast'")),
}


@pytest.mark.parametrize("case", DECODES)
def test_decode(case: str) -> None:
    wrong, error, words = DECODES[case]
    arguments = {"coefficients": COEFFICIENTS, **wrong}
    check(lambda: jpegrad.decode(arguments.pop("coefficients"), **arguments), error, words)


LEVELS = COEFFICIENTS.levels
HELD: dict[str, tuple[dict[str, Any], type[Exception], tuple[str, ...]]] = {
    "levels: two": ({"levels": LEVELS[:2]}, VALUE, ("levels", "1, 3 or 4", "2")),
    "levels: swapped": ({"levels": LEVELS[::-1]}, VALUE, ("levels[0]", "[..., 2, 2, 8, 8]", "[1, 1, 8, 8]")),
    "levels: arrays": (
        {"levels": tuple(x.numpy() for x in LEVELS)},
        TYPE,
        ("levels[0]", "Tensor", "ndarray"),
    ),
    "levels: complex": (
        {"levels": tuple(x + 0j for x in LEVELS)},
        TYPE,
        ("levels[0]", "real", "torch.complex64"),
    ),
    "tables: bool": ({"tables": ANNEX > 9}, TYPE, ("tables", "real", "torch.bool")),
    "levels: batches differ": (
        {"levels": (LEVELS[0].expand(2, -1, -1, -1, -1), *LEVELS[1:])},
        VALUE,
        ("levels[1]", "[2]", "[]"),
    ),
    "tables": ({"tables": ANNEX[0]}, VALUE, ("tables", "2 or 3", "[8, 8]")),
    "tables: four for three": (
        {"tables": ANNEX[:1].expand(4, 8, 8)},
        VALUE,
        ("tables", "2 or 3", "[4, 8, 8]"),
    ),
    "tables: list": ({"tables": ANNEX.tolist()}, TYPE, ("tables", "Tensor", "list")),
    "size": ({"size": (17, 16)}, VALUE, ("levels[0]", "17×16", "[..., 3, 2, 8, 8]")),
    "size: empty": ({"size": (0, 16)}, VALUE, ("size", "(0, 16)")),
    "subsampling": ({"subsampling": "4:0:0"}, VALUE, ("subsampling", "4:2:0", "'4:0:0'")),
}


@pytest.mark.parametrize("case", HELD)
def test_coefficients(case: str) -> None:
    wrong, error, words = HELD[case]
    arguments = {"levels": LEVELS, "tables": ANNEX, "size": (16, 16), "subsampling": "4:2:0", **wrong}
    check(lambda: jpegrad.Coefficients(**arguments), error, words)


Module = Callable[..., object]
MODULES: dict[str, tuple[Module, dict[str, Any], type[Exception], tuple[str, ...]]] = {
    "JPEG: both": (
        jpegrad.nn.JPEG,
        {"quality": 5, "tables": ANNEX},
        VALUE,
        ("quality", "tables", "one of them"),
    ),
    "JPEG: quality": (jpegrad.nn.JPEG, {"quality": 0}, VALUE, ("quality", "1 to 100", "0")),
    "JPEG: tables": (jpegrad.nn.JPEG, {"tables": ANNEX[0]}, VALUE, ("tables", "8, 8]", "[8, 8]")),
    "JPEG: subsampling": (jpegrad.nn.JPEG, {"quality": 5, "subsampling": "x"}, VALUE, ("subsampling", "'x'")),
    "JPEG: option": (
        jpegrad.nn.JPEG,
        {"quality": 5, "sampling": "4:2:0"},
        TYPE,
        ("nn.JPEG", "'sampling'", "'subsampling'"),
    ),
    "JPEG: backend": (jpegrad.nn.JPEG, {"quality": 5, "backend": "x"}, VALUE, ("backend", "auto", "'x'")),
    "JPEG: list": (jpegrad.nn.JPEG, {"quality": [5, "x"]}, TYPE, ("quality", "numbers", "'x'")),
    "JPEG: bool": (jpegrad.nn.JPEG, {"quality": True}, TYPE, ("quality", "number", "bool")),
    "RandomJPEG: option": (
        jpegrad.nn.RandomJPEG,
        {"jpeg_quality": (5, 50)},
        TYPE,
        ("nn.RandomJPEG", "'jpeg_quality'", "'quality'"),
    ),
    "RandomJPEG: backend": (jpegrad.nn.RandomJPEG, {"backend": "x"}, VALUE, ("backend", "auto", "'x'")),
    "RandomJPEG: per": (jpegrad.nn.RandomJPEG, {"per": "frame"}, VALUE, ("per", "clip", "'frame'")),
    "RandomJPEG: three": (
        jpegrad.nn.RandomJPEG,
        {"quality": (5, 6, 7)},
        TYPE,
        ("quality", "two", "(5, 6, 7)"),
    ),
    "RandomJPEG: bool": (jpegrad.nn.RandomJPEG, {"quality": (True, 90)}, TYPE, ("quality", "two", "True")),
    "RandomJPEG: one bool": (jpegrad.nn.RandomJPEG, {"quality": True}, TYPE, ("quality", "two", "True")),
    "RandomJPEG: tensor": (
        jpegrad.nn.RandomJPEG,
        {"quality": torch.tensor([5, 90])},
        TYPE,
        ("quality", "two", "tensor"),
    ),
    "RandomJPEG: text": (jpegrad.nn.RandomJPEG, {"quality": "90"}, TYPE, ("quality", "two", "'90'")),
    "RandomJPEG: NaN": (jpegrad.nn.RandomJPEG, {"quality": (5, float("nan"))}, VALUE, ("quality", "nan")),
    "RandomJPEG: one out of range": (
        jpegrad.nn.RandomJPEG,
        {"quality": 101},
        VALUE,
        ("quality", "100", "101"),
    ),
    "RandomJPEG: upside down": (jpegrad.nn.RandomJPEG, {"quality": (90, 10)}, VALUE, ("quality", "(90, 10)")),
    "RandomJPEG: 0": (jpegrad.nn.RandomJPEG, {"quality": (0, 10)}, VALUE, ("quality", "(0, 10)")),
    "RandomJPEG: no mode": (jpegrad.nn.RandomJPEG, {"subsampling": ()}, VALUE, ("subsampling", "none")),
    "RandomJPEG: mode": (
        jpegrad.nn.RandomJPEG,
        {"subsampling": ["4:4:4", "x"]},
        VALUE,
        ("subsampling", "'x'"),
    ),
    "RandomJPEG: p": (jpegrad.nn.RandomJPEG, {"p": 1.5}, VALUE, ("p", "0 to 1", "1.5")),
    "RandomJPEG: p text": (jpegrad.nn.RandomJPEG, {"p": "half"}, TYPE, ("p", "number", "str")),
    "RandomJPEG: seed": (
        jpegrad.nn.RandomJPEG,
        {"generator": 7},
        TYPE,
        ("generator", "torch.Generator", "int"),
    ),
    "soft_round": (surrogates.soft_round, {"a": 0}, VALUE, ("a", "positive", "0")),
    "gaussian": (surrogates.gaussian, {"sigma": -2}, VALUE, ("sigma", "positive", "-2")),
    "marginal": (models.marginal, {"width": 0}, VALUE, ("width", "positive", "0")),
    "marginal_costs: levels": (
        jpegrad.rate.marginal_costs,
        {"coefficients": LEVELS},
        TYPE,
        ("coefficients", "Coefficients", "tuple"),
    ),
    "marginal_costs: huffman": (
        jpegrad.rate.marginal_costs,
        {"coefficients": COEFFICIENTS, "huffman": "best"},
        VALUE,
        ("huffman", "default", "'best'"),
    ),
    "report: array": (
        jpegrad.tune.report,
        {"image": IMAGE[0], "original": np.zeros((3, 16, 16))},
        TYPE,
        ("original", "torch.Tensor", "ndarray"),
    ),
    "report: other size": (
        jpegrad.tune.report,
        {"image": IMAGE[0, :, :1], "original": IMAGE[0]},
        VALUE,
        ("image", "[C, H, W]", "[3, 1, 16]"),
    ),
    "report: several": (
        jpegrad.tune.report,
        {"image": IMAGE, "original": IMAGE},
        VALUE,
        ("original", "[C, H, W]", "[2, 3, 16, 16]"),
    ),
    "annex_k": (tables.annex_k, {"quality": 101}, VALUE, ("quality", "1 to 100", "101")),
    "scale: base": (tables.scale, {"base": [1], "quality": 5}, TYPE, ("base", "torch.Tensor", "list")),
    "scale: quality": (
        tables.scale,
        {"base": ANNEX, "quality": None},
        TYPE,
        ("quality", "number", "NoneType"),
    ),
}


@pytest.mark.parametrize("case", MODULES)
def test_everything_else(case: str) -> None:
    build, arguments, error, words = MODULES[case]
    check(lambda: build(**arguments), error, words)


def test_a_named_backend_that_cannot_run_says_why() -> None:
    for name in jpegrad.backends.ORDER:
        # Meta tensors have no values, so that only plain torch can trace them.
        reasons = jpegrad.backends.reasons(
            name, "jpeg", torch.empty(3, 8, 8, device="meta"), jpegrad.spec.Spec()
        )
        if reasons:
            with pytest.raises(ValueError, match="cannot run this call") as caught:
                jpegrad.jpeg(torch.empty(3, 8, 8, device="meta"), 50, backend=name)
            assert reasons[0] in str(caught.value)
