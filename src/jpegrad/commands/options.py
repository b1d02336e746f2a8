"""Options and arguments that several commands have. Nothing here needs PyTorch, so that ``--help`` is there at once."""

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from jpegrad.commands.terminal import WrongOption
from jpegrad.data import table_names

MODES = ("4:4:4", "4:2:2", "4:2:0", "4:4:0", "4:1:1")
"""As ``jpegrad.spec.SUBSAMPLING``, whose import takes seconds."""
METRICS = ("mse", "ms-ssim", "mix", "ssimulacra2", "butteraugli", "perceptual")
"""As ``jpegrad.tune.metrics.ALL``, likewise."""
TUNE_STEPS = 16
"""As ``jpegrad.tune.image.STEPS``, likewise."""
LEARNING: dict[str, Any] = {
    "steps": 300,
    "batch": 8,
    "qualities": (20, 35, 50, 65, 80, 90),
    "crop": 384,
    "learning_rate": 0.06,
    "subsampling": "4:2:0",
    "seed": 0,
}
"""As ``jpegrad.tune.DatasetSettings``, likewise."""
UNITS = {"": 1, "k": 1000, "m": 1000**2, "g": 1000**3, "ki": 1024, "mi": 1024**2, "gi": 1024**3}


def byte_count(text: str) -> int:
    """``60000``, ``60kB`` or ``60KiB``."""
    found = re.fullmatch(r"\s*([\d_]+(?:\.\d+)?)\s*([kmg]?i?)b?\s*", text, re.IGNORECASE)
    if found is None or found[2].lower() not in UNITS:
        raise typer.BadParameter(f"expected bytes, such as 60000, 60kB (1000) or 60KiB (1024); got {text}")
    return int(float(found[1]) * UNITS[found[2].lower()])


def color_of(background: str | None) -> tuple[int, int, int] | None:
    """The colour that ``--background`` names."""
    from PIL import ImageColor

    if background is None:
        return None
    try:
        return ImageColor.getrgb(background)[:3]
    except ValueError:
        raise WrongOption(f"--background: expected a colour, as white or #ffcc00; got {background}") from None


Pictures = Annotated[
    list[Path],
    typer.Argument(
        help="8-bit RGB, gray or CMYK pictures, folders of them, patterns as '*.png', or - for standard input.",
        show_default=False,
    ),
]
Files = Annotated[
    list[Path],
    typer.Argument(
        help=".jpg files, folders of them, patterns as '*.jpg', or - for standard input.", show_default=False
    ),
]
Quality = Annotated[
    float | None, typer.Option("--quality", "-q", help="1 to 100; 75 if nothing else decides.")
]
Subsampling = Annotated[
    str | None,
    typer.Option(
        help=f"{', '.join(MODES)}, or factors as 3x1,1x1,1x1; if nothing else decides, 4:2:0, of CMYK 4:4:4.",
        autocompletion=lambda: list(MODES),
    ),
]
Tables = Annotated[
    str | None,
    typer.Option(
        help=f"JSON file of quantization tables, or {', '.join(table_names())}, which ship; used as they are, "
        "or with --quality scaled to it as libjpeg scales its own.",
        autocompletion=lambda: list(table_names()),
    ),
]
Like = Annotated[
    Path | None, typer.Option(help="A .jpg whose tables, subsampling and colour conversion to use.")
]
ByteCount = Annotated[
    int | None,
    typer.Option(
        parser=byte_count,
        metavar="SIZE",
        help="Take the best quality whose file is no larger: bytes, or as 60kB, 60KiB.",
    ),
]
Background = Annotated[
    str | None,
    typer.Option(
        metavar="COLOUR",
        help="Lay this colour, as white or #ffcc00, behind transparent pictures; else they are an error.",
    ),
]
Metric = Annotated[
    str,
    typer.Option(help=f"What to optimise: {', '.join(METRICS)}.", autocompletion=lambda: list(METRICS)),
]
Optimize = Annotated[bool, typer.Option(help="Huffman tables made for the picture.")]
Progressive = Annotated[
    bool, typer.Option("--progressive", help="A progressive file, with libjpeg's standard scans.")
]
Metadata = Annotated[
    bool,
    typer.Option(
        help="Carry Exif, ICC profile, XMP, comment and density of the picture; or nothing, and turn it upright."
    ),
]
Compare = Annotated[
    bool, typer.Option(help="Decode the file too, and say the PSNR; or not, which is faster.")
]
Lenient = Annotated[
    bool,
    typer.Option("--lenient", help="Take a damaged .jpg file as viewers show it, and say what was wrong."),
]
Force = Annotated[bool, typer.Option("--force", help="Write over a file that is there, even the input.")]
Json = Annotated[bool, typer.Option("--json", help="Print a JSON object for each file, a line each.")]
