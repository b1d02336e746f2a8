"""What ``jpegrad tune`` does."""

import functools
import math
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from rich.progress import Progress
from torch import Tensor

from jpegrad.codec import Coefficients, decode, encode
from jpegrad.commands import sources
from jpegrad.commands.coding import best_quality, carrying, read_picture
from jpegrad.commands.pictures import read_jpeg
from jpegrad.commands.sources import Job
from jpegrad.commands.terminal import done, errors, is_terminal, numbers, options, say, show, tell
from jpegrad.commands.tune_many import Outcome, Row
from jpegrad.io import to_bytes
from jpegrad.metrics.comparison import SMALLEST
from jpegrad.pictures import Color, Picture
from jpegrad.rate import bits
from jpegrad.sampling import SUBSAMPLING
from jpegrad.spec import Subsampling, check_choice
from jpegrad.tables import load as load_tables
from jpegrad.tables import save as save_tables
from jpegrad.tune import BitsPerPixel, Bytes, LikeQuality, Loss, Score, Tuned, compress
from jpegrad.tune.descent import Unreachable
from jpegrad.tune.metrics import ALL, JUDGES, Qualities, psnr
from jpegrad.tune.targets import SCORES, Target

COLUMNS = {
    "psnr": ("PSNR", 2),
    "psnr_y": ("PSNR Y", 2),
    "ms_ssim": ("MS-SSIM", 4),
    "ssim": ("SSIM Y", 4),
    "ssimulacra2": ("SSIMULACRA2", 2),
    "butteraugli": ("Butteraugli", 3),
}
"""Of each printed quality: its name in words, and how many decimals are shown."""
EQUAL = {
    "mse": "psnr",
    "ms-ssim": "ms_ssim",
    "ssimulacra2": "ssimulacra2",
    "butteraugli": "butteraugli",
    "perceptual": "ssimulacra2",
}
"""Which printed quality a metric optimises."""


@dataclass(frozen=True)
class Tuning:
    """What the options say of a file, and which of them names the target."""

    metric: str
    option: str
    target: Target
    choose_levels: bool
    subsampling: str | None
    progressive: bool
    three_tables: bool
    base: str | None
    steps: int
    metadata: bool
    background: Color | None
    start: Path | None = None


def tuning_of(targets: dict[str, float | None], **settings: Any) -> Tuning:
    """What the options say, checked.

    Args:
        targets: the options that name one, with their values.
        settings: the other fields of :class:`Tuning`.

    Raises:
        WrongOption: one of them is wrong.
    """
    with options():
        check_choice("--metric", settings["metric"], tuple(ALL))
        if settings["subsampling"] is not None:
            check_choice("--subsampling", settings["subsampling"], (*SUBSAMPLING, "auto"))
        option, target = _target(targets)
        if settings["steps"] < 0:
            raise ValueError(f"--steps: expected 0 or more, got {settings['steps']}")
    if settings["base"] is not None:
        load_tables(settings["base"])
    return Tuning(option=option, target=target, **settings)


def one(job: Job, tuning: Tuning, compare: bool, save: Path | None, as_json: bool) -> None:
    """Make the file of one picture, and say what it is beside those of the default tables."""
    with Progress(console=errors, transient=True, disable=not is_terminal()) as progress:
        task = progress.add_task("learning", total=tuning.steps + 1)
        source, tuned = make_file(job, tuning, lambda: progress.advance(task))
        rows = _compared(source, tuned, tuning.target, tuning.metric) if compare else []
    if save is not None:
        save_tables(save, tuned.tables, metric=tuning.metric, picture=sources.name(job.source))
    height, width = source.pixels.shape[-2:]
    bits_per_pixel = 8 * tuned.size / (height * width)
    if as_json:
        about = {
            "file": job.output_name,
            "metric": tuning.metric,
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
    source = read_picture(job.source, tuning.metadata, background=tuning.background)
    own = _without_metadata(tuning.option, tuning.target, source)
    try:
        tuned = compress(
            source.pixels,
            metric=tuning.metric,
            target=own,
            choose_levels=tuning.choose_levels,
            subsampling=cast(Subsampling | None, tuning.subsampling),
            start=None if tuning.start is None else replace(read_jpeg(tuning.start), metadata=()),
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


def outcome(job: Job, tuning: Tuning) -> Outcome:
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


KINDS: dict[str, Callable[[Any], Target]] = {
    "--target-bytes": Bytes,
    "--bpp": BitsPerPixel,
    "--like-quality": LikeQuality,
    "--target-loss": Loss,
    "--ssimulacra2": functools.partial(Score, "ssimulacra2"),
    "--butteraugli": functools.partial(Score, "butteraugli"),
}


def _target(values: dict[str, float | None]) -> tuple[str, Target]:
    """The option that was given, and what it asks for."""
    given = [option for option, value in values.items() if value is not None]
    if len(given) > 1:
        raise ValueError(f"expected one target, got {' and '.join(given)}")
    if not given:
        return "--like-quality", LikeQuality()
    (option,) = given
    try:
        return option, KINDS[option](values[option])
    except ValueError as error:
        # The library calls it target or quality.
        raise ValueError(f"{option}:{str(error).partition(':')[2]}") from None


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
    original = _unit(image if image.dtype == torch.uint8 else (image * 255).round())
    qualities = Qualities(original)
    large = min(original.shape[-2:]) >= SMALLEST
    wanted = target.judge if isinstance(target, Score) else None
    # Beside a file for squared error, which takes five seconds for a megapixel, that of Butteraugli is too long.
    asked = [
        name
        for name in JUDGES
        if large and (name in ("ssimulacra2", wanted) or metric in ("butteraugli", "perceptual"))
    ]
    judges = {name: JUDGES[name](original) for name in asked}

    def measured(coefficients: Coefficients) -> dict[str, float]:
        shown = _unit(decode(coefficients, dtype=torch.uint8))
        return qualities(shown) | {name: judge.score(shown).item() for name, judge in judges.items()}

    def default(name: str, quality: float) -> dict[str, Any]:
        coefficients = encode(image, quality, subsampling=subsampling)
        size = int(bits(carrying(coefficients, source), huffman="optimized")) // 8
        return {"name": name, "quality": quality, "bytes": size, **measured(coefficients)}

    rows = []
    if isinstance(target, LikeQuality):
        rows.append(default(f"default, quality {target.quality:g}", target.quality))
    else:
        with suppress(ValueError):
            quality = best_quality(image, tuned.size, subsampling, {"huffman": "optimized"}, source)
            rows.append(default(f"default, quality {quality}", quality))
    found = measured(tuned.coefficients)
    rows.append({"name": f"tuned for {metric}", "quality": None, "bytes": tuned.size, **found})
    name = EQUAL.get(metric)
    if name in found:

        def one(quality: float) -> float:
            """That one alone, the more the better, so that a search for an equal one does not measure all."""
            shown = _unit(decode(encode(image, quality, subsampling=subsampling), dtype=torch.uint8))
            if name in judges:
                return -SCORES[name] * judges[name].score(shown).item()
            if name == "psnr" or qualities.multiscale is None:
                return psnr(shown, original)
            return float(qualities.multiscale(shown))

        better = -SCORES.get(name, -1)
        equal = _equal(one, better * found[name], near=rows[0]["quality"] or 50)
        if equal is not None:
            rows.append(default(f"default, {COLUMNS[name][0]} no {'less' if better > 0 else 'more'}", equal))
    return rows


def _unit(pixels: Tensor) -> Tensor:
    return pixels[None] / 255


def _print(rows: list[dict[str, Any]]) -> None:
    if rows[0]["quality"] is None:
        say("no quality of the default tables gives a file as small")
    shown = {column: about for column, about in COLUMNS.items() if column in rows[0]}
    table = numbers("bytes", *(words for words, _ in shown.values()), first="")
    for row in rows:
        values = (f"{row[column]:.{decimals}f}" for column, (_, decimals) in shown.items())
        table.add_row(row["name"], f"{row['bytes']:,}", *values)
    show(table)


def _equal(value: Callable[[float], float], least: float, near: float) -> int | None:
    """The lowest quality of the default tables that reaches ``least``, sought from one near it."""
    low, high, step = 0, 101, 4
    middle = round(near)
    while high - low > 1:
        if value(middle) >= least:
            high = middle
            middle = max(high - step, (low + high) // 2)
        else:
            low = middle
            middle = min(low + step, (low + high + 1) // 2)
        step *= 2
    return high if high <= 100 else None
