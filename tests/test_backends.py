"""Backends are parts: a new one is a module and a word, and the kernels' headers stand alone."""

import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import jpegrad
from jpegrad import backends
from jpegrad.backends import reference
from tests.fuzz.native_mutants import MUTANTS

SOURCES = Path(backends.__file__).parent / "native" / "cpp"
COMPILER = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")


class Toy:
    """The reference, for gray images only; it notes what it was asked."""

    watches_range = False
    device_type = None
    encode, decode = staticmethod(reference.encode), staticmethod(reference.decode)

    def __init__(self) -> None:
        self.calls: list[str] = []

    def missing(self) -> str:
        return ""

    def unsupported(self, operation: str, image: Tensor, spec: jpegrad.spec.Spec) -> list[str]:
        return [] if operation == "jpeg" and image.shape[-3] == 1 else ["it is a toy"]

    def jpeg(self, image: Tensor, tables: Tensor, spec: jpegrad.spec.Spec) -> Tensor:
        self.calls.append("jpeg")
        return reference.jpeg(image, tables, spec)

    def level_kernels(self, tensor: Tensor) -> Mapping[str, Callable[..., Any]]:
        return {"double": lambda levels: 2 * levels}


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Toy:
    toy = Toy()
    monkeypatch.setattr(backends, "BACKENDS", {"toy": toy, **backends.BACKENDS})
    return toy


def test_a_new_backend_codes_a_picture(toy: Toy) -> None:
    gray, colour = torch.rand(1, 16, 16), torch.rand(3, 16, 16)
    assert torch.equal(jpegrad.jpeg(gray, 50, backend="toy"), jpegrad.jpeg(gray, 50, backend="reference"))
    jpegrad.jpeg(gray, 50)
    jpegrad.jpeg(colour, 50)
    assert toy.calls == ["jpeg", "jpeg"]
    with pytest.raises(ValueError, match="'toy' cannot run this call: it is a toy"):
        jpegrad.jpeg(colour, 50, backend="toy")
    assert backends.explain(colour)["toy"] == ["it is a toy"]


def test_its_kernels_for_levels_are_found(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    found = backends.kernel("double", torch.ones(1))
    assert found is not None and found(3) == 6
    monkeypatch.setenv("JPEGRAD_BACKEND", "reference")
    assert backends.kernel("double", torch.ones(1)) is None


@pytest.mark.parametrize("name", MUTANTS)
def test_every_mutant_has_one_place(name: str) -> None:
    file, before, after = MUTANTS[name]
    assert (SOURCES / file).read_text().count(before) == 1 and after != before


@pytest.mark.skipif(COMPILER is None, reason="no C++ compiler")
@pytest.mark.parametrize("header", sorted(path.name for path in SOURCES.glob("*.h")))
def test_every_header_compiles_alone(header: str, tmp_path: Path) -> None:
    source = tmp_path / "alone.cpp"
    source.write_text(f'#include "{header}"\n')
    flags = ["-std=c++17", "-fsyntax-only", "-Wall", "-Wextra", "-Wno-psabi", "-Wno-unused-function"]
    assert COMPILER is not None
    run = subprocess.run(
        [COMPILER, *flags, "-Werror", f"-I{SOURCES}", str(source)], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
