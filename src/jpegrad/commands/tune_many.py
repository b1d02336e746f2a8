"""What ``jpegrad tune`` does with a folder, or with several pictures."""

import csv
import functools
import io
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn

from jpegrad.commands import sources, workers
from jpegrad.commands.sources import Job
from jpegrad.commands.terminal import (
    WrongOption,
    complain,
    console,
    done,
    errors,
    is_terminal,
    note,
    numbers,
    show,
    silenced,
    state,
    tell,
)
from jpegrad.files import SUFFIXES, check_output, write_atomically

if TYPE_CHECKING:
    from jpegrad.commands.beside import Pair

Result = TypeVar("Result")


@dataclass(frozen=True)
class Row:
    """What became of a file: a line of the CSV file."""

    file: str
    bytes_before: int | None = None
    bytes_after: int | None = None
    loss: float | None = None
    seconds: float | None = None
    error: str = ""


@dataclass(frozen=True)
class Outcome:
    """A row, and what is to be said beside it."""

    job: Job
    row: Row
    changes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


COLUMNS = tuple(field.name for field in fields(Row))
ENDED = "its process has ended, as for lack of memory; fewer --workers need less"
Measured = tuple[Job, "Pair | None", str]
"""A file, its pair, or why there is none."""


def part(shard: str | None) -> tuple[int, int]:
    """``2/8`` as (2, 8)."""
    found = re.fullmatch(r"(\d+)/(\d+)", "1/1" if shard is None else shard)
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise WrongOption(f"--shard: expected K/N, such as 2/8, with K from 1 to N; got {shard}")
    return int(found[1]), int(found[2])


def plan(
    arguments: list[Path], output: Path, inputs: Iterable[Path | None], shard: tuple[int, int]
) -> list[Job]:
    """What this call makes of what: every N-th file, in order of the paths below the folder.

    Raises:
        WrongOption: the names do not fit, or an original would be written over, with ``--force`` even.
    """
    if sources.STANDARD in (*arguments, output):
        raise WrongOption("expected names of files and folders, got -, which is one picture")
    for argument in arguments:
        if argument.is_dir() and output.resolve() == argument.resolve():
            raise WrongOption(f"--output: expected another folder than {argument}, whose pictures stay")
    jobs = sources.plan(
        arguments,
        output,
        suffixes=sources.PICTURES,
        written=SUFFIXES,
        suffix=SUFFIXES[0],
        inputs=inputs,
        force=True,
    )
    originals = {_identity(path): path for path in (*(job.source for job in jobs), *inputs) if path}
    for job in jobs:
        read = originals.get(_identity(job.output))
        if read is not None and job.output.exists():
            raise WrongOption(f"--output: expected another file than {read}, which is read; got {job.output}")
    index, count = shard
    return sorted(jobs, key=lambda job: job.output.relative_to(output).as_posix())[index - 1 :: count]


def _identity(path: Path) -> object:
    try:
        found = path.stat()
    except OSError:
        return path
    return found.st_dev, found.st_ino


def tune(
    jobs: list[Job],
    make: Callable[[Job], Outcome],
    *,
    count: int | None,
    table: Path | None,
    html: Path | None,
    background: tuple[int, int, int] | None,
    as_json: bool,
    force: bool,
) -> None:
    """Make what is not there yet, and say what became of each.

    Args:
        jobs: the files.
        make: makes one; it raises nothing.
        count: of processes; None takes one for each core.
        table: the CSV file to write.
        html: the page to write.
        background: what lies behind transparent pictures, on the page too.
        as_json: print an object for each file.
        force: make those that are there anew.

    Raises:
        SystemExit: with code 1, if some failed.
    """
    rows = {} if table is None or force else _earlier(table)
    there = [] if force else [job for job in jobs if job.output.is_file()]
    for job in there:
        kept = rows.get(str(job.source), Row(str(job.source)))
        before, after = _size(job.source), _size(job.output)
        rows[kept.file] = replace(kept, bytes_before=before, bytes_after=after, error="")
        if as_json:
            _tell(job, rows[kept.file], ())
        else:
            done(f"{job.output}: is there already")
    left = [job for job in jobs if job not in set(there)]
    made: list[Row] = []
    try:
        outcomes = workers.share(left, make, min(count or workers.cores(), len(left)), _lost)
        for outcome in _progress("tuning", outcomes, len(left)):
            _say(outcome, as_json)
            made.append(outcome.row)
            rows[outcome.row.file] = outcome.row
    except KeyboardInterrupt:
        complain(
            "error", f"interrupted after {len(made)} of {len(left)} files; the same call goes on from there"
        )
        raise
    finally:
        if table is not None:
            write_atomically(table, _csv(rows.values()))
    failed = sum(bool(row.error) for row in made)
    if html is not None:
        _page(html, [job for job in jobs if not rows[str(job.source)].error], background, count)
    if not state.quiet and not as_json:
        _summary([rows[str(job.source)] for job in there], [row for row in made if not row.error], failed)
    if failed:
        complain("error", f"{failed} of {len(jobs)} files failed")
        raise SystemExit(1)


def _page(html: Path, jobs: list[Job], background: tuple[int, int, int] | None, count: int | None) -> None:
    """Before and after of every file that is there, measured by as many processes."""
    from jpegrad.commands import beside, comparing

    measured = workers.share(
        jobs,
        functools.partial(_pair, background=background),
        min(count or workers.cores(), len(jobs)),
        _unmeasured,
    )
    pairs: dict[Job, beside.Pair] = {}
    for job, pair, error in _progress("comparing", measured, len(jobs)):
        if pair is None:
            note(f"{job.source}: not on the page: {error}")
        else:
            pairs[job] = pair
    kept = sorted(pairs, key=lambda job: str(job.source))

    def addresses() -> Iterator[tuple[str, str]]:
        for job in kept:
            with silenced():
                yield comparing.see(job.source, background).address, comparing.see(job.output).address

    beside.write(html, f"{len(kept)} files, before and after", [pairs[job] for job in kept], addresses())
    done(f"{html}: the page")


def _pair(job: Job, background: tuple[int, int, int] | None) -> Measured:
    from jpegrad.commands import comparing

    try:
        return job, comparing.pair(job.source, job.output, background), ""
    except (ValueError, OSError) as error:
        return job, None, str(error)


def _unmeasured(job: Job) -> Measured:
    return job, None, ENDED


def _lost(job: Job) -> Outcome:
    return Outcome(job, Row(str(job.source), error=ENDED))


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _progress(what: str, results: Iterator[Result], total: int) -> Iterator[Result]:
    """The same under a progress bar, above which other lines are printed."""
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeElapsedColumn())
    # Rich would take lines for a file or a pipe to the error stream.
    redirect = console.is_terminal
    with Progress(
        *columns, console=errors, transient=True, disable=not is_terminal(), redirect_stdout=redirect
    ) as progress:
        task = progress.add_task(what, total=total)
        for result in results:
            yield result
            progress.advance(task)


def _say(outcome: Outcome, as_json: bool) -> None:
    job, row = outcome.job, outcome.row
    for change in outcome.changes:
        note(f"{row.file}: {change}")
    for warning in outcome.warnings:
        complain("warning", f"{row.file}: {warning}")
    if row.error:
        complain("error", row.error if row.file in row.error else f"{row.file}: {row.error}")
    elif as_json:
        _tell(job, row, outcome.changes)
    else:
        loss, seconds = f"loss {row.loss:.6g}", f"{row.seconds:.1f} s"
        done(f"{job.output}: {_change([row])}, {loss}, {seconds}")


def _tell(job: Job, row: Row, changes: tuple[str, ...]) -> None:
    tell(
        {
            "file": str(job.output),
            "source": row.file,
            "bytes_before": row.bytes_before,
            "bytes": row.bytes_after,
            "loss": row.loss,
            "seconds": row.seconds,
            "changes": changes,
        }
    )


def _change(rows: list[Row]) -> str:
    before, after = (sum(getattr(row, name) or 0 for row in rows) for name in ("bytes_before", "bytes_after"))
    share = f" ({after / before - 1:+.1%})" if before else ""
    return f"{before:,} → {after:,} bytes{share}"


def _summary(there: list[Row], made: list[Row], failed: int) -> None:
    table = numbers("files", "bytes", "seconds", first="")
    kinds = {"made": made, "there already": there}
    for name, rows in kinds.items():
        if rows:
            seconds = f"{sum(row.seconds or 0 for row in rows):.1f}" if rows is made else ""
            table.add_row(name, f"{len(rows):,}", _change(rows), seconds)
    if failed:
        table.add_row("failed", f"{failed:,}", "", "")
    show(table)


def check_table(table: Path, jobs: list[Job], inputs: Iterable[Path | None], force: bool) -> None:
    """Raise unless the CSV file may be written: a new one, or one of an earlier call, which is gone on with."""
    if table in {job.output for job in jobs} or table.suffix.lower() in sources.PICTURES:
        raise WrongOption(f"--csv: expected a name of its own, such as table.csv, got {table}")
    exists = table.is_file()
    # Not even --force lets it replace what is read.
    for path in (*(job.source for job in jobs), *inputs):
        if exists and path is not None and _identity(path) == _identity(table):
            raise WrongOption(f"--csv: expected another file than {path}, which is read; got {table}")
    if not force and exists and _is_ours(table):
        return
    check_output("--csv", table, force=force)


def _is_ours(table: Path) -> bool:
    with table.open(encoding="utf-8", errors="replace", newline="") as lines:
        return next(csv.reader(lines), None) == list(COLUMNS)


def _earlier(table: Path) -> dict[str, Row]:
    """The rows of an earlier call."""
    if not table.is_file():
        return {}
    with table.open(encoding="utf-8", errors="surrogateescape", newline="") as lines:
        reader = csv.DictReader(lines)
        try:
            return {line["file"]: _row(line) for line in reader}
        except (ValueError, TypeError):
            place = f"{table}, line {reader.line_num}"
            raise ValueError(f"--csv: expected a table as an earlier call wrote it, got {place}") from None


def _row(line: dict[str, str]) -> Row:
    kinds: dict[str, Callable[[str], int | float | str]] = {
        "bytes_before": int,
        "bytes_after": int,
        "loss": float,
        "seconds": float,
    }
    numbers = {name: kind(line[name]) if line[name] else None for name, kind in kinds.items()}
    return Row(line["file"], **numbers, error=line["error"])  # type: ignore[arg-type]


def _csv(rows: Iterable[Row]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in sorted(rows, key=lambda row: row.file):
        writer.writerow(asdict(row))
    return text.getvalue().encode("utf-8", errors="surrogateescape")
