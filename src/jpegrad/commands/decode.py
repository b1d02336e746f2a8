"""``jpegrad decode``."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jpegrad.commands import sources
from jpegrad.commands.options import Files, Force, Json, Lenient, Metadata
from jpegrad.commands.sources import Job
from jpegrad.commands.terminal import done, options, tell, timed
from jpegrad.files import SUFFIXES

if TYPE_CHECKING:
    from jpegrad.decoder import Decoder


def decode(
    files: Files,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="The decoded picture, a name in .png, .bmp, .tif or .ppm; a folder for several; or -.",
        ),
    ],
    upsampling: Annotated[
        str, typer.Option(help="Of chroma: triangle, as viewers do, or replicate.")
    ] = "triangle",
    dct: Annotated[
        str, typer.Option(help="The inverse DCT: accurate, as viewers have it, or fast.")
    ] = "accurate",
    scale: Annotated[int, typer.Option(help="Decode to the whole size or a part of it: 1, 2, 4 or 8.")] = 1,
    metadata: Metadata = True,
    suffix: Annotated[
        str, typer.Option(help="Of the files in a folder, and the kind of standard output: .png, .bmp, ...")
    ] = ".png",
    lenient: Lenient = False,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Decode .jpg files to gray or RGB pictures: as viewers do, or as libjpeg-turbo does with other settings."""
    jobs = sources.plan(
        files,
        output,
        suffixes=SUFFIXES,
        written=sources.LOSSLESS,
        suffix=suffix,
        force=force,
    )
    from jpegrad.decoder import Decoder

    with options():
        decoder = Decoder(upsampling, dct, scale)  # type: ignore[arg-type]
    sources.each(jobs, lambda job: _decode(job, decoder, metadata, suffix, lenient, as_json))


def _decode(job: Job, decoder: "Decoder", metadata: bool, suffix: str, lenient: bool, as_json: bool) -> None:
    import torch

    from jpegrad import codec
    from jpegrad.commands import coding, pictures
    from jpegrad.io import read
    from jpegrad.pictures import of_jpeg
    from jpegrad.sampling import ceil_div

    data = sources.read(job.source)
    with timed(f"{sources.name(job.source)}: decoded"), pictures.naming(job.source):
        coefficients = read(data, strict=not lenient, level_dtype=torch.int16)
        image = codec.decode(
            coefficients,
            space="native" if coefficients.channels == 1 else "RGB",
            dtype=torch.uint8,
            decoder=decoder,
        )
    source = of_jpeg(Path(sources.name(job.source)), data, image, damage=coefficients.damage)
    source = coding.kept(job.source, source, metadata)
    output = job.output_name
    if coefficients.channels == 4:
        source = coding.without_profile(output, source)
    x, y, unit = source.density
    if unit:
        # The picture stays as large on paper.
        source = source._replace(density=(ceil_div(x, decoder.scale), ceil_div(y, decoder.scale), unit))
    pictures.save(job.output, source.pixels, source, suffix)
    height, width = source.pixels.shape[-2:]
    if as_json:
        facts = {"file": output, "source": sources.name(job.source), "width": width, "height": height}
        tell({**facts, "changes": list(source.changes)})
    else:
        done(f"{output}: {width}×{height}")
