"""``jpegrad transform``."""

import re
from pathlib import Path
from typing import Annotated

import torch
import typer

from jpegrad import lossless
from jpegrad.codec import Coefficients
from jpegrad.commands.code import Force, Optimize, Progressive
from jpegrad.commands.pictures import check_jpeg, naming
from jpegrad.commands.terminal import WrongOption, note, say
from jpegrad.io import read, read_structure, write
from jpegrad.jfif.exif import thumbnail_of
from jpegrad.jfif.segments import kind

PLACE = re.compile(r"(\d+)x(\d+)\+(\d+)\+(\d+)")


def transform(
    file: Annotated[Path, typer.Argument(help="A .jpg file.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="The changed .jpg file.")],
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
) -> None:
    """Turn, flip or crop a .jpg file without loss: its levels are moved, and not coded again.

    Exif, ICC profile, XMP, comment and density are kept.
    """
    check_jpeg(output, [file], force)
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
    data = file.read_bytes()
    with naming(file):
        found = read(data, level_dtype=torch.int16)
    _say_what_is_lost(file, data, progressive)
    try:
        changed = _changed(found, orientation, rotate, flip, transpose, transverse, place, trim, grow)
    except ValueError as error:
        advice = re.sub(r"(trim|grow)=True", r"--\1", str(error))
        raise ValueError(f"{file}: {advice}") from None
    if _has_thumbnail(found) and not _has_thumbnail(changed):
        note(f"{file}: Exif's thumbnail, which would stay as it was, is left out")
    write(output, changed, huffman="optimized" if optimize else None, progressive=progressive)
    rows, columns = changed.size
    say(f"{output}: {columns}×{rows}, {output.stat().st_size:,} bytes")


def _changed(
    coefficients: Coefficients,
    orientation: bool,
    rotate: int | None,
    flip: str | None,
    transpose: bool,
    transverse: bool,
    place: tuple[int, ...] | None,
    trim: bool,
    grow: bool,
) -> Coefficients:
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


def _say_what_is_lost(file: Path, data: bytes, progressive: bool) -> None:
    structure = read_structure(data)
    if any(segment.kind == "multi-picture index" for segment in structure.segments):
        note(f"{file}: further pictures are left out")
    elif structure.trailing:
        note(f"{file}: {structure.trailing:,} bytes behind the picture are left out")
    if structure.arithmetic:
        note(f"{file}: the output has Huffman's coding in place of arithmetic coding")
    if structure.process == "progressive" and not progressive:
        note(f"{file}: is progressive, the output is not; --progressive makes it so")


def _has_thumbnail(coefficients: Coefficients) -> bool:
    return any(
        kind(marker, payload) == "Exif" and thumbnail_of(payload) for marker, payload in coefficients.metadata
    )
