"""What one takes home: the .jpg, its tables, and the Python code that makes both."""

import json
from pathlib import PurePath
from typing import NamedTuple

from torch import Tensor

from jpegrad import __version__
from jpegrad.app.settings import ANNEX_K, WIDTHS, Settings
from jpegrad.app.views import file_of


class Named(NamedTuple):
    """A picture under a name: that of a bundled photograph, or of the user's file."""

    name: str
    pixels: Tensor
    bundled: bool

    @property
    def stem(self) -> str:
        """What files made of it are called."""
        return PurePath(self.name).stem or "picture"


def jpg(picture: Named, settings: Settings) -> bytes:
    """The .jpg file."""
    return file_of(picture.pixels, settings)[1]


def tables(picture: Named, settings: Settings) -> bytes:
    """Its quantization tables, as ``jpegrad.tables.load`` reads them."""
    about = {"made_by": "jpegrad app", "picture": picture.name}
    return json.dumps({"tables": settings.entries().tolist(), **about}).encode() + b"\n"


def python(picture: Named, settings: Settings) -> bytes:
    """A program that writes the same .jpg, and takes the gradient that the page shows."""
    own = not isinstance(settings.tables, str)
    lines = [f'"""Made by jpegrad app, jpegrad {__version__}."""', ""]
    lines += [] if picture.bundled else ["import numpy as np"]
    lines += [
        "import torch",
        *([] if picture.bundled else ["from PIL import Image, ImageOps"]),
        "",
        "import jpegrad",
    ]
    if picture.bundled:
        lines += ["from jpegrad.data import photograph", "", f"image = photograph({picture.name!r})"]
    else:
        gray = len(picture.pixels) == 1
        axes = "unsqueeze(0)" if gray else "permute(2, 0, 1)"
        lines += [
            "",
            f"with Image.open({picture.name!r}) as opened:",
            f"    pixels = np.array(ImageOps.exif_transpose(opened).convert({'L' if gray else 'RGB'!r}))",
            f"image = torch.from_numpy(pixels).{axes}",
        ]
    if own:
        rows = "\n".join(f"    [{_table(table)}]," for table in settings.entries().tolist())
        lines += ["tables = torch.tensor([", rows, "])"]
        how = "tables=tables"
    elif settings.tables == ANNEX_K:
        how = f"quality={settings.quality:g}"
    else:
        lines += [
            f"base = jpegrad.tables.load({settings.tables!r})",
            f"tables = jpegrad.tables.scale(base, {settings.quality:g})",
        ]
        how = "tables=tables"
    how += f", subsampling={settings.subsampling!r}"
    surrogate = f"surrogate={settings.surrogate!r}"
    if settings.width is not None:
        name, _ = WIDTHS[settings.surrogate]
        surrogate = f"surrogate=jpegrad.surrogates.{settings.surrogate}({name}={settings.width!r})"
    lines += [
        "",
        f"coefficients = jpegrad.encode(image, {how})",
        f"jpegrad.write({picture.stem + '.jpg'!r}, coefficients)",
        f"jpegrad.tables.save({picture.stem + '.json'!r}, coefficients.tables)",
        "",
        "# The gradient of the squared error, to the samples in 0…1.",
        "x = (image / 255).requires_grad_()",
        f"coded = jpegrad.jpeg(x, {how}, forward={settings.forward!r}, {surrogate})",
        "(coded - x.detach()).square().mean().backward()",
        'print(f"{x.grad.abs().mean():.3g} on average")',
    ]
    return ("\n".join(lines) + "\n").encode()


def _table(rows: list[list[int]]) -> str:
    return ",\n     ".join(str(row) for row in rows)


FILES = {"jpg": (jpg, "image/jpeg"), "json": (tables, "application/json"), "py": (python, "text/x-python")}
"""What makes each kind of file, and its type."""
