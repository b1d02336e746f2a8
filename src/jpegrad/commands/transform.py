"""``jpegrad transform``."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jpegrad.commands import sources
from jpegrad.commands.options import Files, Force, Json, Optimize, Progressive
from jpegrad.commands.sources import Job
from jpegrad.commands.terminal import WrongOption, done, note, tell
from jpegrad.files import SUFFIXES

if TYPE_CHECKING:
    from jpegrad.coefficients import Coefficients

PLACE = re.compile(r"(\d+)x(\d+)\+(\d+)\+(\d+)")


def transform(
    files: Files,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="The changed .jpg file; a folder for several; or -."),
    ],
    orientation: Annotated[
        bool, typer.Option("--orientation", help="Turn as Exif's orientation says, which then is 1.")
    ] = False,
    rotate: Annotated[int | None, typer.Option(help="Clockwise: 90, 180 or 270.")] = None,
    flip: Annotated[str | None, typer.Option(help="horizontal (left to right) or vertical.")] = None,
    transpose: Annotated[
        bool, typer.Option("--transpose", help="Mirror at the diagonal from the upper left.")
    ] = False,
    transverse: Annotated[
        bool, typer.Option("--transverse", help="Mirror at the diagonal from the upper right.")
    ] = False,
    crop: Annotated[
        str | None, typer.Option(help="WxH+X+Y: a part of the picture, after all other changes.")
    ] = None,
    trim: Annotated[
        bool, typer.Option("--trim", help="Cut off rows and columns that fill no whole MCU, where need be.")
    ] = False,
    grow: Annotated[
        bool, typer.Option("--grow", help="Let a cropped part grow up and left onto the grid of MCUs.")
    ] = False,
    optimize: Optimize = False,
    progressive: Progressive = False,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Turn, flip or crop .jpg files without loss: their levels are moved, and not coded again.

    Exif, ICC profile, XMP, comment and density are kept.
    """
    jobs = sources.plan(files, output, suffixes=SUFFIXES, written=SUFFIXES, force=force)
    wanted = {
        "--rotate": rotate is not None,
        "--flip": flip is not None,
        "--transpose": transpose,
        "--transverse": transverse,
    }
    chosen = [option for option, value in wanted.items() if value]
    if len(chosen) > 1:
        raise WrongOption(f"{chosen[1]}: expected without {chosen[0]}; run the command twice")
    if not (chosen or orientation or crop):
        raise WrongOption(
            "transform: expected a change: --orientation, --rotate, --flip, --transpose, --transverse or --crop"
        )
    if rotate is not None and rotate not in (90, 180, 270):
        raise WrongOption(f"--rotate: expected 90, 180 or 270, got {rotate}")
    if flip is not None and flip not in ("horizontal", "vertical"):
        raise WrongOption(f"--flip: expected horizontal or vertical, got {flip}")
    place = _place(crop)
    if grow and place is None:
        raise WrongOption("--grow: expected with --crop")

    def change(coefficients: "Coefficients") -> "Coefficients":
        return _changed(coefficients, orientation, rotate, flip, transpose, transverse, place, trim, grow)

    sources.each(jobs, lambda job: _transform(job, change, optimize, progressive, as_json))


def _transform(
    job: Job,
    change: Callable[["Coefficients"], "Coefficients"],
    optimize: bool,
    progressive: bool,
    as_json: bool,
) -> None:
    import torch

    from jpegrad.commands.pictures import naming
    from jpegrad.io import read, to_bytes

    data, name = sources.read(job.source), sources.name(job.source)
    with naming(job.source):
        found = read(data, level_dtype=torch.int16)
        say_what_is_lost(name, data, progressive)
    try:
        changed = change(found)
    except ValueError as error:
        advice = re.sub(r"(trim|grow)=True", r"--\1", str(error))
        raise ValueError(f"{name}: {advice}") from None
    if _has_thumbnail(found) and not _has_thumbnail(changed):
        note(f"{name}: Exif's thumbnail, which would stay as it was, is left out")
    written = to_bytes(changed, huffman="optimized" if optimize else None, progressive=progressive)
    sources.write(job.output, written)
    rows, columns = changed.size
    if as_json:
        facts = {"file": job.output_name, "source": name, "width": columns, "height": rows}
        tell({**facts, "bytes": len(written)})
    else:
        done(f"{job.output_name}: {columns}×{rows}, {len(written):,} bytes")


def _changed(
    coefficients: "Coefficients",
    orientation: bool,
    rotate: int | None,
    flip: str | None,
    transpose: bool,
    transverse: bool,
    place: tuple[int, ...] | None,
    trim: bool,
    grow: bool,
) -> "Coefficients":
    from jpegrad import lossless

    if orientation:
        coefficients = lossless.apply_orientation(coefficients, trim=trim)
    if rotate is not None:
        coefficients = lossless.rotate(coefficients, rotate, trim=trim)
    if flip is not None:
        coefficients = lossless.flip(coefficients, flip, trim=trim)
    if transpose:
        coefficients = lossless.transpose(coefficients)
    if transverse:
        coefficients = lossless.transverse(coefficients, trim=trim)
    if place is not None:
        width, height, left, top = place
        coefficients = lossless.crop(coefficients, top, left, height, width, grow=grow)
    return coefficients


def _place(crop: str | None) -> tuple[int, ...] | None:
    if crop is None:
        return None
    found = PLACE.fullmatch(crop)
    if found is None:
        raise WrongOption(f"--crop: expected WxH+X+Y, such as 640x480+16+32, got {crop}")
    return tuple(map(int, found.groups()))


def say_what_is_lost(file: str, data: bytes, progressive: bool) -> None:
    """A line for each thing of a .jpg file that is not in its levels and segments."""
    from jpegrad.io import read_structure

    structure = read_structure(data)
    if any(segment.kind == "multi-picture index" for segment in structure.segments):
        note(f"{file}: further pictures are left out")
    elif structure.trailing:
        note(f"{file}: {structure.trailing:,} bytes behind the picture are left out")
    if structure.arithmetic:
        note(f"{file}: the output has Huffman's coding in place of arithmetic coding")
    if structure.process == "progressive" and not progressive:
        note(f"{file}: is progressive, the output is not; --progressive makes it so")


def _has_thumbnail(coefficients: "Coefficients") -> bool:
    from jpegrad.jfif.exif import thumbnail_of
    from jpegrad.jfif.segments import kind

    return any(
        kind(marker, payload) == "Exif" and thumbnail_of(payload) for marker, payload in coefficients.metadata
    )
