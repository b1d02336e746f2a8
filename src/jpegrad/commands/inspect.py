"""``jpegrad inspect``."""

from pathlib import Path
from typing import Annotated

import typer

from jpegrad.commands import sources
from jpegrad.commands.options import Files, Force, Json, Lenient
from jpegrad.commands.terminal import WrongOption, show, tell
from jpegrad.files import SUFFIXES


def inspect(
    files: Files,
    optimize: Annotated[
        bool, typer.Option(help="Count bits with Huffman tables made for the picture, not Annex K's.")
    ] = False,
    histogram: Annotated[
        bool, typer.Option("--histogram", help="Print how often each level occurs, of DC and of AC.")
    ] = False,
    full: Annotated[
        bool | None,
        typer.Option(
            "--full/--short", help="All that is found, or one line a file. Default: of one file all."
        ),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw tables, bits and levels into this file: .png, .svg or .pdf.")
    ] = None,
    lenient: Lenient = False,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """What .jpg files hold: size, subsampling, tables, quality, scans, metadata, thumbnail, and their bits.

    Of a file that is not decoded it says all but the bits and levels.

    Bits are counted in the baseline file that jpegrad writes of these levels, by component and by place in the block.
    """
    if plot is not None:
        if sources.is_many(files):
            raise WrongOption("--plot: expected one file to draw, not several")
        from jpegrad.commands import plots

        plots.check(plot, files[0], force)
    found = sources.find(files, SUFFIXES)
    full = not sources.is_many(files) if full is None else full
    from jpegrad.commands import inspecting

    huffman = "optimized" if optimize else "default"
    overview = inspecting.overview()

    def one(source: sources.Source) -> None:
        if full or as_json or histogram:
            facts = inspecting.describe(source.path, huffman, lenient)
            if plot is not None:
                inspecting.draw(plot, facts)
            if as_json:
                tell(facts)
            else:
                inspecting.show_all(facts, histogram)
        else:
            inspecting.add_row(overview, source.path, lenient)

    try:
        sources.each(found, one)
    finally:
        if overview.row_count:
            show(overview)
