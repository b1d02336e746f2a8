"""Options by keyword: their names, their types for editors, and which of them do not go together."""

import inspect
from typing import get_args

import pytest
import torch

import jpegrad
from jpegrad import spec, surrogates
from jpegrad.spec import check_options

IMAGE = torch.rand(3, 16, 16)


def test_the_types_that_editors_see_are_the_tables_that_run() -> None:
    assert get_args(spec.Subsampling) == tuple(spec.SUBSAMPLING)
    assert get_args(spec.Forward) == spec.FORWARDS
    assert get_args(spec.SurrogateName) == tuple(surrogates.ALL)
    assert get_args(spec.Backend) == ("auto", *jpegrad.backends.ORDER)


def test_the_options_are_the_arguments_of_jpeg() -> None:
    arguments = set(inspect.signature(jpegrad.jpeg).parameters)
    assert set(spec.Options.__annotations__) == arguments - {"image", "quality", "tables", "like"}
    assert arguments == set(inspect.signature(jpegrad.encode).parameters)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("subsample", "did you mean 'subsampling'?"),
        ("jpeg_quality", "did you mean 'quality'?"),
        ("table_surogate", "did you mean 'table_surrogate'?"),
        ("tables", "expected some of subsampling, forward,"),
        ("xyz", "expected some of subsampling, forward,"),
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
