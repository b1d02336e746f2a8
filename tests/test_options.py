"""Options by keyword: their names, their types for editors, and which of them do not go together."""

import inspect
import warnings
from typing import Any, get_args

import pytest
import torch

import jpegrad
from jpegrad import sampling, spec, surrogates
from jpegrad.spec import check_options

IMAGE = torch.rand(3, 16, 16)


def test_the_types_that_editors_see_are_the_tables_that_run() -> None:
    assert get_args(spec.Subsampling) == tuple(sampling.SUBSAMPLING)
    assert get_args(spec.Forward) == spec.FORWARDS
    assert get_args(spec.Rounding) == spec.ROUNDINGS
    assert get_args(spec.Space) == spec.SPACES
    assert get_args(spec.SurrogateName) == tuple(surrogates.ALL)
    assert get_args(spec.Backend) == ("auto", *jpegrad.backends.ORDER)


def test_the_options_are_the_arguments_of_jpeg() -> None:
    arguments = set(inspect.signature(jpegrad.jpeg).parameters)
    assert set(spec.Options.__annotations__) == arguments - {"image", "quality", "tables", "like"}
    # An encoder decodes nothing.
    assert arguments - {"decoder"} == set(inspect.signature(jpegrad.encode).parameters)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("subsample", "did you mean 'subsampling'?"),
        ("jpeg_quality", "did you mean 'quality'?"),
        ("table_surogate", "did you mean 'table_surrogate'?"),
        ("tables", "expected some of forward, surrogate,"),
        ("xyz", "expected some of forward, surrogate,"),
    ],
)
def test_an_unknown_option_names_the_caller_and_the_nearest_name(wrong: str, words: str) -> None:
    with pytest.raises(TypeError) as caught:
        check_options("nn.Layer", {"sigma": 2.0, wrong: 1})
    assert str(caught.value).startswith(f"nn.Layer: unexpected keyword argument {wrong!r}; {words}")
    with pytest.raises(TypeError, match=f"^explain: unexpected keyword argument '{wrong}'"):
        jpegrad.backends.explain(IMAGE, **{wrong: 1})


def test_values_of_options_are_checked() -> None:
    check_options("nn.Layer", {"backend": "native", "surrogate": "cubic"})
    for wrong in ({"backend": "cuda"}, {"subsampling": "4:2:1"}, {"clip_slope": 2}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            check_options("nn.Layer", wrong)


def test_explain_tells_of_the_backend_that_is_named() -> None:
    assert tuple(jpegrad.backends.explain(IMAGE)) == jpegrad.backends.ORDER
    assert jpegrad.backends.explain(IMAGE, backend="reference") == {"reference": []}
    with pytest.raises(ValueError, match="operation: expected one of jpeg, encode"):
        jpegrad.backends.explain(IMAGE, "decoding")


REICH, TABLES_GAUSSIAN = {"surrogate": "reich2024"}, {"table_surrogate": "gaussian"}
# What does not go together, and the words that must say so.
CLASHES: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "sigma and a name": ({"sigma": 3.0, "surrogate": "cubic"}, ("sigma", "3.0", "surrogate='cubic'")),
    "sigma and a record": (
        {"sigma": 3.0, "surrogate": surrogates.gaussian(2.0)},
        ("sigma", "by that name", "surrogate=the record 'gaussian'"),
    ),
    "sigma and two": (
        {"sigma": 3.0, "surrogate": "sin", "table_surrogate": "dead_zone"},
        ("sigma", "surrogate='sin', table_surrogate='dead_zone'"),
    ),
    "sigma and a preset": ({"sigma": 2.0, **REICH}, ("sigma", "'reich2024'")),
    "table_surrogate and soft": (
        {"forward": "soft", "table_surrogate": "cubic"},
        ("table_surrogate", 'forward="soft"', "'cubic'"),
    ),
    "table_surrogate and a preset": (
        {**REICH, "table_surrogate": surrogates.cubic},
        ("table_surrogate", 'forward="soft"', "the record 'cubic'"),
    ),
}


@pytest.mark.parametrize("case", CLASHES)
def test_no_option_is_ignored(case: str) -> None:
    options, words = CLASHES[case]
    for call in (
        lambda: jpegrad.jpeg(IMAGE, 50, **options),
        lambda: jpegrad.encode(IMAGE, 50, **options),
        lambda: jpegrad.backends.explain(IMAGE, **options),
        lambda: jpegrad.nn.JPEG(50, **options),
        lambda: jpegrad.nn.RandomJPEG(**options),
    ):
        with pytest.raises(ValueError) as caught:
            call()
        for word in words:
            assert word in str(caught.value)


def test_a_conversion_of_a_gray_image_is_an_error() -> None:
    for function in (jpegrad.jpeg, jpegrad.encode):
        with pytest.raises(ValueError, match="color: expected None for a gray image"):
            function(IMAGE[:1], 50, color=jpegrad.spec.RGB)
        function(IMAGE[:1], 50, subsampling="4:4:4")


def test_sigma_is_the_width_of_every_gaussian_by_name() -> None:
    chosen = spec.resolve(surrogate="cubic", sigma=3.0, **TABLES_GAUSSIAN)
    assert chosen.table_surrogate == surrogates.gaussian(3.0)
    chosen = spec.resolve(sigma=3.0, **TABLES_GAUSSIAN)
    assert chosen.surrogate == chosen.table_surrogate == surrogates.gaussian(3.0)
    assert spec.resolve().surrogate is surrogates.ALL["gaussian"]
    assert spec.resolve(forward="soft", surrogate="reich2024").table_surrogate == surrogates.cubic


def line() -> int:
    """Of the caller."""
    return inspect.stack()[1].lineno


def test_a_width_that_smooths_nothing_warns_at_the_users_line() -> None:
    here: list[int] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        jpegrad.jpeg(IMAGE, 50, sigma=2 / 255), here.append(line())
        jpegrad.jpeg(IMAGE, 50, sigma=2 / 255), here.append(line())
        surrogates.gaussian(0.1), here.append(line())
        jpegrad.nn.JPEG(50, sigma=0.2), here.append(line())
        jpegrad.backends.explain(IMAGE, sigma=0.25), here.append(line())
    assert [(w.filename, w.lineno) for w in caught] == [(__file__, number) for number in here]
    assert all(w.category is UserWarning for w in caught)
    message = str(caught[0].message)
    assert message.startswith("sigma: 0.00784 grey levels")
    assert message.endswith("noise of 0.00784 on an image in 0 to 1 is sigma=2")


def test_layers_warn_at_the_line_that_runs_them() -> None:
    layer = torch.nn.Sequential(jpegrad.nn.JPEG(50, sigma=0.5))
    layer[0].options["sigma"] = 0.2
    with pytest.warns(UserWarning, match="sigma: 0.2 grey levels") as caught:
        layer(IMAGE)
    assert caught[0].filename == __file__


def test_widths_of_legitimate_use_do_not_warn() -> None:
    # Warnings are errors here. Below half a grey level no sample of a file moves.
    for budget in (0.5, 1.0, 2.0, 8.0):
        for progress in (0.0, 0.5, 1.0):
            sigma = surrogates.narrowing(budget, progress)
            assert sigma >= surrogates.FINEST
            jpegrad.jpeg(IMAGE, 50, forward="soft", sigma=sigma)
    assert abs(12 * surrogates.FINEST**2 - 1) < 1e-12
