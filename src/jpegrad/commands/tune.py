"""``jpegrad tune``."""

import functools
import json
import math
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, cast

import torch
import typer
from rich.progress import Progress
from torch import Tensor

from jpegrad.codec import Coefficients, decode, encode
from jpegrad.commands import sources
from jpegrad.commands.coding import best_quality, carrying, read_picture
from jpegrad.commands.options import Force, Metadata, byte_count
from jpegrad.commands.terminal import WrongOption, done, errors, is_terminal, numbers, options, say, show
from jpegrad.files import check_output
from jpegrad.io import write
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


def tune(
    picture: Annotated[Path, typer.Argument(help="An 8-bit RGB or gray picture.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="The .jpg to write.")],
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
        bool, typer.Option(help="Print the default tables' files of equal size and quality beside it.")
    ] = True,
    save: Annotated[Path | None, typer.Option("--save-tables", help="Write the tables as JSON too.")] = None,
    metadata: Metadata = True,
    force: Force = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
) -> None:
    """Write a smaller .jpg: quantization tables and levels made for the picture by gradient descent.

    The file is baseline with optimised Huffman tables; every viewer opens it.
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
    inputs = [picture, None if base is None else Path(base)]
    sources.check_jpeg(output, inputs, force)
    if save is not None:
        check_output("--save-tables", save, inputs=inputs, force=force)
        if save.resolve() == output.resolve():
            raise WrongOption(f"--save-tables: expected another file than --output, got {save}")
    source = read_picture(picture, metadata)
    image = source.pixels
    own = _without_metadata(option, target, source)
    with Progress(console=errors, transient=True, disable=not is_terminal()) as progress:
        task = progress.add_task("learning", total=steps + 1)
        try:
            tuned = compress(
                image,
                metric=metric,
                target=own,
                choose_levels=choose_levels,
                subsampling=cast(Subsampling, subsampling),
                table_count=3 if three_tables else 2,
                progressive=progressive,
                base=None if base is None else load_tables(base),
                steps=steps,
                progress=lambda: progress.advance(task),
            )
        except Unreachable as error:
            carried = _carried(source)
            more = f"; of the file, {carried} bytes are metadata (--no-metadata)" if carried else ""
            raise ValueError(str(error).replace("target", option, 1) + more) from None
        coefficients = carrying(tuned.coefficients, source)
        tuned = replace(tuned, coefficients=coefficients, size=tuned.size + _carried(source))
        write(output, coefficients, huffman="optimized", progressive=progressive)
        rows = _compared(source, tuned, target, metric) if compare else []
    if save is not None:
        save_tables(save, tuned.tables, metric=metric, picture=picture.name)
    bits_per_pixel = 8 * tuned.size / (image.shape[-2] * image.shape[-1])
    if as_json:
        about = {"file": str(output), "metric": metric, "loss": tuned.loss, "bits_per_pixel": bits_per_pixel}
        # JSON has no number for the PSNR of equal pictures.
        finite = [{name: None if value == math.inf else value for name, value in row.items()} for row in rows]
        print(json.dumps({**about, "bytes": tuned.size, "changes": source.changes, "compared": finite}))
        return
    if rows:
        _print(rows)
    done(f"{output}: {tuned.size:,} bytes ({bits_per_pixel:.3f} bits per pixel)")


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
