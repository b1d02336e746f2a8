"""The command line in the process of the tests, and the picture that it works on."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from corpus import picture
from jpegrad.cli import main


class Result(NamedTuple):
    code: int
    out: str
    error: str


Run = Callable[..., Result]


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., Result]:
    """`jpegrad` with arguments, in an empty folder; a real process would spend its time importing torch."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> Result:
        monkeypatch.setattr(sys, "argv", ["jpegrad", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit:
            main()
        sys.stdout.flush()
        out, error = capfd.readouterr()
        return Result(exit.value.code or 0, out, error)  # type: ignore[arg-type]

    return call


@pytest.fixture
def png(tmp_path: Path) -> np.ndarray:
    """The picture in `in.png`."""
    pixels = picture(37, 53)
    Image.fromarray(pixels).save(tmp_path / "in.png")
    return pixels


def files(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}
