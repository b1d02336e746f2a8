"""``jpegrad tune``."""

import functools
import math
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, cast

import torch
import typer
from rich.progress import Progress
from torch import Tensor

from jpegrad.codec import Coefficients, decode, encode
from jpegrad.commands import sources, tune_many
from jpegrad.commands.coding import best_quality, carrying, read_picture
from jpegrad.commands.options import Metadata, byte_count
from jpegrad.commands.sources import Job
from jpegrad.commands.terminal import (
    WrongOption,
    done,
    errors,
    is_terminal,
    numbers,
    options,
    say,
    show,
    tell,
)
from jpegrad.commands.tune_many import Outcome, Row
from jpegrad.files import SUFFIXES, check_output
from jpegrad.io import to_bytes
from jpegrad.pictures import Picture
from jpegrad.rate import bits
from jpegrad.sampling import SUBSAMPLING
from jpegrad.spec import Subsampling, check_choice
from jpegrad.tables import load as load_tables
from jpegrad.tables import save as save_tables
from jpegrad.tune import BitsPerPixel, Bytes, LikeQuality, Loss, Score, Tuned, compress, report
from jpegrad.tune.descent import Unreachable
from jpegrad.tune.image import STEPS
from jpegrad.tune.metrics import ALL, psnr
from jpegrad.tune.targets import Target

COLUMNS = {"psnr": "PSNR", "psnr_y": "PSNR Y", "ms_ssim": "MS-SSIM", "ssim": "SSIM Y"}
EQUAL = {"mse": "psnr", "ms-ssim": "ms_ssim"}
"""Which printed quality a metric optimises."""
Metric = Annotated[str, typer.Option(help=f"What to optimise: {', '.join(ALL)}.")]


@dataclass(frozen=True)
class Tuning:
    """What the options say of a file, and which of them names the target."""

    metric: str
    option: str
    target: Target
    choose_levels: bool
    subsampling: str
    progressive: bool
    three_tables: bool
    base: str | None
    steps: int
    metadata: bool


def tune(
    pictures: Annotated[
        list[Path],
        typer.Argument(
            help="8-bit RGB or gray pictures, folders of them, or patterns as '*.png'.", show_default=False
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The .jpg to write; another folder for several.")
    ],
    metric: Metric = "mse",
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
        str, typer.Option(help=f"{', '.join(SUBSAMPLING)}, or auto: 4:2:0 or 4:4:4, whichever is better.")
    ] = "4:2:0",
    progressive: Annotated[bool, typer.Option(help="Write a progressive file.")] = False,
    three_tables: Annotated[bool, typer.Option(help="Give Cb and Cr tables of their own.")] = False,
    base: Annotated[
        str | None,
        typer.Option(
            help="Tables to start from: a JSON file, or a name of shipped ones, as for jpegrad jpeg --tables."
        ),
    ] = None,
    steps: Annotated[int, typer.Option(help="Of gradient descent: the effort.")] = STEPS,
    compare: Annotated[
        bool | None,
        typer.Option(
            help="Print the default tables' files of equal size and quality beside that of one picture."
        ),
    ] = None,
    save: Annotated[Path | None, typer.Option("--save-tables", help="Write the tables as JSON too.")] = None,
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
    with options():
        check_choice("--metric", metric, tuple(ALL))
        check_choice("--subsampling", subsampling, (*SUBSAMPLING, "auto"))
        option, target = _target(
            {
                "--target-bytes": (Bytes, target_bytes),
                "--bpp": (BitsPerPixel, bpp),
                "--like-quality": (LikeQuality, like_quality),
                "--target-loss": (Loss, target_loss),
                "--ssimulacra2": (functools.partial(Score, "ssimulacra2"), ssimulacra2),
                "--butteraugli": (functools.partial(Score, "butteraugli"), butteraugli),
            }
        )
        if steps < 0:
            raise ValueError(f"--steps: expected 0 or more, got {steps}")
        if workers is not None and workers < 1:
            raise ValueError(f"--workers: expected 1 or more, got {workers}")
    tuning = Tuning(
        metric, option, target, choose_levels, subsampling, progressive, three_tables, base, steps, metadata
    )
    start = None if base is None else Path(base)
    if sources.is_many(pictures):
        for name, given in (("--save-tables", save), ("--compare", compare or None)):
            if given is not None:
                raise WrongOption(f"{name}: expected with one picture, got several or a folder")
        jobs = tune_many.plan(pictures, output, [start], tune_many.part(shard))
        if table is not None:
            tune_many.check_table(table, jobs, [start], force)
        if html is not None:
            inputs = [start, table, *(path for job in jobs for path in (job.source, job.output))]
            sources.check_page(html, inputs, force)
        if base is not None:
            load_tables(base)
        make = functools.partial(_outcome, tuning=tuning)
        tune_many.tune(jobs, make, count=workers, table=table, html=html, as_json=as_json, force=force)
        return
    for name, value in (("--workers", workers), ("--shard", shard), ("--csv", table), ("--html", html)):
        if value is not None:
            more = "; jpegrad compare has it for two files" if name == "--html" else ""
            raise WrongOption(f"{name}: expected with several pictures or a folder, got {pictures[0]}{more}")
    (job,) = sources.plan(
        pictures,
        output,
        suffixes=sources.PICTURES,
        written=SUFFIXES,
        suffix=SUFFIXES[0],
        inputs=[start],
        force=force,
    )
    if save is not None:
        check_output("--save-tables", save, inputs=[job.source, start], force=force)
        if save.resolve() == job.output.resolve():
            raise WrongOption(f"--save-tables: expected another file than --output, got {save}")
    with Progress(console=errors, transient=True, disable=not is_terminal()) as progress:
        task = progress.add_task("learning", total=steps + 1)
        source, tuned = make_file(job, tuning, lambda: progress.advance(task))
        rows = [] if compare is False else _compared(source, tuned, target, metric)
    if save is not None:
        save_tables(save, tuned.tables, metric=metric, picture=job.source.name)
    height, width = source.pixels.shape[-2:]
    bits_per_pixel = 8 * tuned.size / (height * width)
    if as_json:
        about = {
            "file": job.output_name,
            "metric": metric,
            "loss": tuned.loss,
            "bits_per_pixel": bits_per_pixel,
        }
        # JSON has no number for the PSNR of equal pictures.
        finite = [{name: None if value == math.inf else value for name, value in row.items()} for row in rows]
        tell({**about, "bytes": tuned.size, "changes": source.changes, "compared": finite})
        return
    if rows:
        _print(rows)
    done(f"{job.output_name}: {tuned.size:,} bytes ({bits_per_pixel:.3f} bits per pixel)")


def make_file(job: Job, tuning: Tuning, progress: Callable[[], None] | None = None) -> tuple[Picture, Tuned]:
    """Read a picture, write its file, whole or not at all, and give both."""
    source = read_picture(job.source, tuning.metadata)
    own = _without_metadata(tuning.option, tuning.target, source)
    try:
        tuned = compress(
            source.pixels,
            metric=tuning.metric,
            target=own,
            choose_levels=tuning.choose_levels,
            subsampling=cast(Subsampling, tuning.subsampling),
            table_count=3 if tuning.three_tables else 2,
            progressive=tuning.progressive,
            base=None if tuning.base is None else load_tables(tuning.base),
            steps=tuning.steps,
            progress=progress,
        )
    except Unreachable as error:
        carried = _carried(source)
        more = f"; of the file, {carried} bytes are metadata (--no-metadata)" if carried else ""
        raise ValueError(str(error).replace("target", tuning.option, 1) + more) from None
    coefficients = carrying(tuned.coefficients, source)
    data = to_bytes(coefficients, huffman="optimized", progressive=tuned.progressive or False)
    sources.write(job.output, data)
    return source, replace(tuned, coefficients=coefficients, size=len(data))


def _outcome(job: Job, tuning: Tuning) -> Outcome:
    """The same of one among several: what goes wrong is its outcome."""
    file, start = str(job.source), time.perf_counter()
    changes: tuple[str, ...] = ()
    with warnings.catch_warnings(record=True) as caught:
        try:
            before = job.source.stat().st_size
            source, tuned = make_file(job, tuning)
            changes = source.changes
            row = Row(file, before, tuned.size, tuned.loss, round(time.perf_counter() - start, 3))
        except (ValueError, OSError) as error:
            row = Row(file, error=" ".join(str(error).split()))
        except Exception as error:
            # Whatever it is, the others go on.
            row = Row(file, error=" ".join(f"{type(error).__name__}: {error}".split()))
    return Outcome(job, row, changes, tuple(str(warning.message) for warning in caught))


def _target(kinds: dict[str, tuple[Callable[[Any], Target], float | None]]) -> tuple[str, Target]:
    """The option that was given, and what it asks for."""
    given = [option for option, (_, value) in kinds.items() if value is not None]
    if len(given) > 1:
        raise ValueError(f"expected one target, got {' and '.join(given)}")
    if not given:
        return "--like-quality", LikeQuality()
    kind, value = kinds[given[0]]
    try:
        return given[0], kind(value)
    except ValueError as error:
        # The library calls it target or quality.
        raise ValueError(f"{given[0]}:{str(error).partition(':')[2]}") from None


def _carried(source: Picture) -> int:
    """Bytes of the file that are the picture's metadata."""
    return sum(4 + len(payload) for _, payload in source.metadata)


def _without_metadata(option: str, target: Target, source: Picture) -> Target:
    """The target of the file without its metadata.

    Raises:
        ValueError: they alone are more than that.
    """
    carried = _carried(source)
    if isinstance(target, BitsPerPixel):
        height, width = source.pixels.shape[-2:]
        count = int(target.bits * height * width / 8)
    elif isinstance(target, Bytes):
        count = target.count
    else:
        return target
    if carried and count <= carried:
        raise ValueError(
            f"{option}: expected more than the {carried} bytes of metadata, got {count} bytes; "
            "--no-metadata leaves them out"
        )
    return Bytes(count - carried) if carried else target


@torch.no_grad()
def _compared(source: Picture, tuned: Tuned, target: Target, metric: str) -> list[dict[str, Any]]:
    """The tuned file beside those of the default tables, at equal size or quality, and at equal metric."""
    image, subsampling = source.pixels, cast(Subsampling, tuned.coefficients.subsampling)

    def default(name: str, quality: float) -> dict[str, Any]:
        coefficients = encode(image, quality, subsampling=subsampling)
        size = int(bits(carrying(coefficients, source), huffman="optimized")) // 8
        return {"name": name, "quality": quality, "bytes": size, **_report(coefficients, image)}

    rows = []
    if isinstance(target, LikeQuality):
        rows.append(default(f"default, quality {target.quality:g}", target.quality))
    else:
        with suppress(ValueError):
            quality = best_quality(image, tuned.size, subsampling, {"huffman": "optimized"}, source)
            rows.append(default(f"default, quality {quality}", quality))
    found = _report(tuned.coefficients, image)
    rows.append({"name": f"tuned for {metric}", "quality": None, "bytes": tuned.size, **found})
    name = EQUAL.get(metric)
    if name in found:
        equal = _equal(lambda q: _one(encode(image, q, subsampling=subsampling), image, name), found[name])
        if equal is not None:
            rows.append(default(f"default, {COLUMNS[name]} no less", equal))
    return rows


def _print(rows: list[dict[str, Any]]) -> None:
    if rows[0]["quality"] is None:
        say("no quality of the default tables gives a file as small")
    shown = [column for column in COLUMNS if column in rows[0]]
    table = numbers("bytes", *(COLUMNS[column] for column in shown), first="")
    for row in rows:
        values = (f"{row[column]:.{2 if 'psnr' in column else 4}f}" for column in shown)
        table.add_row(row["name"], f"{row['bytes']:,}", *values)
    show(table)


def _report(coefficients: Coefficients, image: Tensor) -> dict[str, float]:
    decoded = decode(coefficients, dtype=torch.uint8)
    original = image if image.dtype == torch.uint8 else (image * 255).round()
    return report(decoded / 255, original / 255)


def _one(coefficients: Coefficients, image: Tensor, name: str) -> float:
    """PSNR or MS-SSIM alone, so that a search for an equal one does not measure all."""
    shown = decode(coefficients, dtype=torch.uint8)[None] / 255
    original = (image if image.dtype == torch.uint8 else (image * 255).round())[None] / 255
    return psnr(shown, original) if name == "psnr" else 1 - float(ALL["ms-ssim"].against(original)(shown))


def _equal(value: Callable[[int], float], least: float) -> int | None:
    """The lowest quality of the default tables that reaches ``least``."""
    low, high = 0, 101
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if value(middle) >= least else (middle, high)
    return high if high <= 100 else None
