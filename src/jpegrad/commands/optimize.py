"""``jpegrad optimize``."""

from pathlib import Path
from typing import Annotated

import typer

from jpegrad.commands import sources
from jpegrad.commands.options import Files, Force, Json
from jpegrad.commands.terminal import done
from jpegrad.files import SUFFIXES


def optimize(
    files: Files,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="The smaller .jpg file; a folder for several; or -."),
    ],
    baseline: Annotated[
        bool, typer.Option("--baseline", help="Baseline files alone, with Huffman tables made for them.")
    ] = False,
    strip: Annotated[
        bool,
        typer.Option(
            "--strip", help="Leave out the metadata but for what viewers need: ICC profile and orientation."
        ),
    ] = False,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Make .jpg files smaller without loss: the same picture, coded anew in the best of several ways.

    Levels and tables stay as they are, and so do Exif, ICC profile, XMP, comment and density. The ways are optimised
    Huffman tables and progressive files of several scripts. A file that is the smallest already is copied.
    """
    jobs = sources.plan(files, output, suffixes=SUFFIXES, written=SUFFIXES, force=force)
    from jpegrad.commands import smallest

    totals = [0, 0]

    def one(job: sources.Job) -> None:
        before, after = smallest.optimize(job, baseline, strip, as_json)
        totals[0] += before
        totals[1] += after

    try:
        sources.each(jobs, one)
    finally:
        before, after = totals
        if len(jobs) > 1 and before and not as_json:
            done(f"together {before:,} → {after:,} bytes ({after / before - 1:+.1%})")
