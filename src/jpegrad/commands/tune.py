"""``jpegrad tune``."""

import functools
from pathlib import Path
from typing import Annotated

import typer

from jpegrad.commands import sources, tune_many
from jpegrad.commands.options import MODES, TUNE_STEPS, Background, Metadata, Metric, byte_count, color_of
from jpegrad.commands.terminal import WrongOption
from jpegrad.files import SUFFIXES, check_output


def tune(
    pictures: Annotated[
        list[Path],
        typer.Argument(
            help="8-bit RGB or gray pictures, folders of them, or patterns as '*.png', or - for one.",
            show_default=False,
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The .jpg to write; another folder for several.")
    ],
    metric: Metric = "perceptual",
    target_bytes: Annotated[
        int | None,
        typer.Option(
            parser=byte_count,
            metavar="SIZE",
            help="The best file of at most so many bytes, or as 60kB, 60KiB.",
        ),
    ] = None,
    bpp: Annotated[float | None, typer.Option(help="The same in bits per pixel.")] = None,
    like_quality: Annotated[
        float | None,
        typer.Option(
            help="Weigh bytes against errors as the default tables do at this quality. Default: 75."
        ),
    ] = None,
    target_loss: Annotated[
        float | None, typer.Option(help="The smallest file whose loss, as the metric gives it, is no higher.")
    ] = None,
    ssimulacra2: Annotated[
        float | None, typer.Option(help="The smallest file whose SSIMULACRA2 is at least that.")
    ] = None,
    butteraugli: Annotated[
        float | None, typer.Option(help="The smallest file whose Butteraugli, as 3-norm, is at most that.")
    ] = None,
    choose_levels: Annotated[
        bool, typer.Option("--choose-levels/--round-levels", help="Choose levels too, not tables alone.")
    ] = True,
    subsampling: Annotated[
        str | None,
        typer.Option(
            help=f"{', '.join(MODES)}, or auto: 4:2:0 or 4:4:4, whichever is better. "
            "Default: 4:2:0, or that of --start.",
            autocompletion=lambda: [*MODES, "auto"],
        ),
    ] = None,
    progressive: Annotated[bool, typer.Option(help="Write a progressive file.")] = False,
    three_tables: Annotated[bool, typer.Option(help="Give Cb and Cr tables of their own.")] = False,
    base: Annotated[
        str | None,
        typer.Option(
            help="Tables to start from: a JSON file, or a name of shipped ones, as for jpegrad jpeg --tables."
        ),
    ] = None,
    start: Annotated[
        Path | None,
        typer.Option(
            help="A .jpg of the picture, or the picture itself, whose levels, tables and subsampling to begin with."
        ),
    ] = None,
    steps: Annotated[int, typer.Option(help="Of gradient descent: the effort.")] = TUNE_STEPS,
    compare: Annotated[
        bool | None,
        typer.Option(
            help="Print the default tables' files of equal size and quality beside that of one picture."
        ),
    ] = None,
    save: Annotated[Path | None, typer.Option("--save-tables", help="Write the tables as JSON too.")] = None,
    background: Background = None,
    metadata: Metadata = True,
    workers: Annotated[
        int | None,
        typer.Option(help="Processes, of one thread each, for several pictures. Default: one for each core."),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="K/N", help="Make the K-th of N parts of several pictures, as 2/8: one for each machine."
        ),
    ] = None,
    table: Annotated[
        Path | None,
        typer.Option(
            "--csv", help="Write bytes before and after, loss, seconds and error of several pictures."
        ),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(
            help="Write a page of several pictures, before and after under a slider, and their metrics."
        ),
    ] = None,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Write over a file that is there, even the input; of several, make all anew, but no input.",
        ),
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a JSON object for each file, a line each.")
    ] = False,
) -> None:
    """Write a smaller .jpg: quantization tables and levels made for the picture by gradient descent.

    The file is baseline with optimised Huffman tables; every viewer opens it.

    Of several pictures, those whose file is there already are passed over; so an interrupted call goes on.
    """
    if workers is not None and workers < 1:
        raise WrongOption(f"--workers: expected 1 or more, got {workers}")
    many = sources.is_many(pictures)
    wrong = (
        {"--save-tables": save, "--compare": compare or None, "--start": start}
        if many
        else {"--workers": workers, "--shard": shard, "--csv": table, "--html": html}
    )
    for name, given in wrong.items():
        if given is None:
            continue
        if many:
            raise WrongOption(f"{name}: expected with one picture, got several or a folder")
        more = "; jpegrad compare has it for two files" if name == "--html" else ""
        raise WrongOption(f"{name}: expected with several pictures or a folder, got {pictures[0]}{more}")
    part = tune_many.part(shard)
    from jpegrad.commands import tuning

    behind = color_of(background)
    how = tuning.tuning_of(
        {
            "--target-bytes": target_bytes,
            "--bpp": bpp,
            "--like-quality": like_quality,
            "--target-loss": target_loss,
            "--ssimulacra2": ssimulacra2,
            "--butteraugli": butteraugli,
        },
        metric=metric,
        choose_levels=choose_levels,
        subsampling=subsampling,
        progressive=progressive,
        three_tables=three_tables,
        base=base,
        steps=steps,
        metadata=metadata,
        background=behind,
        start=start,
    )
    files = [None if base is None else Path(base), start]
    if many:
        jobs = tune_many.plan(pictures, output, files, part)
        if table is not None:
            tune_many.check_table(table, jobs, files, force)
        if html is not None:
            inputs = [*files, table, *(path for job in jobs for path in (job.source, job.output))]
            sources.check_page(html, inputs, force)
        make = functools.partial(tuning.outcome, tuning=how)
        tune_many.tune(
            jobs, make, count=workers, table=table, html=html, background=behind, as_json=as_json, force=force
        )
        return
    (job,) = sources.plan(
        pictures,
        output,
        suffixes=sources.PICTURES,
        written=SUFFIXES,
        suffix=SUFFIXES[0],
        inputs=files,
        force=force,
    )
    if save is not None:
        check_output("--save-tables", save, inputs=[job.source, *files], force=force)
        if save.resolve() == job.output.resolve():
            raise WrongOption(f"--save-tables: expected another file than --output, got {save}")
    tuning.one(job, how, compare is not False, save, as_json)
