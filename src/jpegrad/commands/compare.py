"""``jpegrad compare``."""

from pathlib import Path
from typing import Annotated

import typer

from jpegrad.commands import sources
from jpegrad.commands.options import Background, Force, Json, Lenient, color_of
from jpegrad.commands.terminal import WrongOption, say, tell


def compare(
    first: Annotated[Path, typer.Argument(help="A picture, the original; or -.", show_default=False)],
    second: Annotated[Path, typer.Argument(help="A picture of the same size; or -.", show_default=False)],
    difference: Annotated[
        Path | None,
        typer.Option(
            "--difference", "-d", help="Write |second − first|, made brighter: .png, .bmp, .tif or .ppm."
        ),
    ] = None,
    gain: Annotated[
        float | None,
        typer.Option(help="How much brighter; else so that the largest difference is white."),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(
            help="Write a page, a file of its own, with both pictures under a slider and the figures."
        ),
    ] = None,
    background: Background = None,
    lenient: Lenient = False,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """How much two pictures differ, as viewers show them: PSNR, SSIM, SSIMULACRA2, Butteraugli, the largest difference.

    Gray pictures are compared with colour ones as RGB, and CMYK as RGB too.
    """
    if gain is not None and not 0 < gain <= 255:
        raise WrongOption(f"--gain: expected more than 0 and at most 255, got {gain:g}")
    if gain is not None and difference is None:
        raise WrongOption("--gain: expected with --difference")
    if first == second == sources.STANDARD:
        raise WrongOption("expected - once, because standard input is one file")
    if difference is not None:
        sources.plan([first], difference, suffixes=(), written=sources.LOSSLESS, inputs=[second], force=force)
    if html is not None:
        sources.check_page(html, [first, second, difference], force)
    from jpegrad.commands import comparing

    a, b = (comparing.see(path, color_of(background), lenient) for path in (first, second))
    facts = comparing.compare(a, b, difference, gain, html)
    if as_json:
        tell(facts)
        return
    for line in comparing.lines(facts):
        say(line)
