"""``jpegrad decode``."""

from pathlib import Path
from typing import Annotated

import torch
import typer

from jpegrad import codec
from jpegrad.commands import pictures
from jpegrad.commands.code import Force, Lenient, Metadata, read_picture, without_profile
from jpegrad.commands.terminal import options, say
from jpegrad.decoder import Decoder
from jpegrad.io import read_header
from jpegrad.sampling import ceil_div


def decode(
    file: Annotated[Path, typer.Argument(help="A .jpg file.", show_default=False)],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The decoded picture, a name in .png, .bmp, .tif or .ppm.")
    ],
    upsampling: Annotated[
        str, typer.Option(help="Of chroma: triangle, as viewers do, or replicate.")
    ] = "triangle",
    dct: Annotated[
        str, typer.Option(help="The inverse DCT: accurate, as viewers have it, or fast.")
    ] = "accurate",
    scale: Annotated[int, typer.Option(help="Decode to the whole size or a part of it: 1, 2, 4 or 8.")] = 1,
    metadata: Metadata = True,
    lenient: Lenient = False,
    force: Force = False,
) -> None:
    """Decode a .jpg file to a gray or RGB picture: as viewers do, or as libjpeg-turbo does with other settings."""
    pictures.check_decoded(output, [file], force)
    with options():
        decoder = Decoder(upsampling, dct, scale)  # type: ignore[arg-type]
    coefficients = pictures.read_jpeg(file, lenient)
    source = read_picture(file, metadata, upright=True, cmyk=True, lenient=lenient)
    if coefficients.channels == 4:
        source = without_profile(output, source)
    x, y, unit = source.density
    if unit:
        # The picture stays as large on paper.
        source = source._replace(density=(ceil_div(x, scale), ceil_div(y, scale), unit))
    image = codec.decode(
        coefficients,
        space="native" if coefficients.channels == 1 else "RGB",
        dtype=torch.uint8,
        decoder=decoder,
    )
    image = pictures.turned(image, read_header(file).orientation)
    pictures.save(output, image, source)
    say(f"{output}: {image.shape[-1]}×{image.shape[-2]}")
