"""What the commands print, where it goes, and how they say that they were called wrongly."""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

console = Console(highlight=False, markup=False)
errors = Console(stderr=True, highlight=False, markup=False)


@dataclass
class State:
    """Of one call: how much is said, and whether a file goes to the standard output."""

    quiet: bool = False
    verbose: bool = False
    piped: bool = False


state = State()


@contextmanager
def silenced() -> Iterator[None]:
    """What is said in here has been said before."""
    quiet, state.quiet = state.quiet, True
    try:
        yield
    finally:
        state.quiet = quiet


class WrongOption(ValueError):
    """A wrong value of an option, or two that do not go together: exit code 2, as for an unknown option."""

    exit_code = 2


@contextmanager
def options() -> Iterator[None]:
    """What is checked in here is the user's call, not the files."""
    try:
        yield
    except (ValueError, TypeError) as error:
        raise WrongOption(str(error)) from error


def stream() -> Console:
    """The standard output, or the error stream where a file takes its place."""
    return errors if state.piped else console


def say(text: str) -> None:
    """Print a line that was asked for; the width of the terminal does not break it."""
    stream().print(text, soft_wrap=True)


def done(text: str) -> None:
    """Print a line on what was written, unless the call is quiet."""
    if not state.quiet:
        say(text)


def tell(facts: dict[str, Any]) -> None:
    """Print one JSON object on a line."""
    print(json.dumps(facts), file=stream().file)


def words(*columns: str, title: str | None = None) -> Table:
    """A table whose cells may wrap."""
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, title=title, title_justify="left")
    for column in columns:
        table.add_column(column)
    return table


def numbers(*columns: str, first: str | None = None) -> Table:
    """A table of numbers, under names that may wrap, beside a first column of names, each on a line."""
    table = words()
    if first is not None:
        table.add_column(first, no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def show(table: Table) -> None:
    """Print a table; numbers and words are whole however narrow the terminal."""
    out = stream()
    for column in table.columns:
        whole = str(column.header).split()
        for cell in map(str, column.cells):
            whole += [cell] if column.no_wrap else cell.split()
        column.min_width = max(map(cell_len, whole), default=0)
        column.no_wrap, column.overflow = False, "fold"
    out.print(table, crop=False)


def note(text: str) -> None:
    """Print a line on the error stream, where it disturbs no program that reads the output."""
    if not state.quiet:
        errors.print(f"note: {text}", soft_wrap=True)


def complain(kind: str, message: str) -> None:
    """Print an error or a warning as one line on the error stream."""
    text = Text.assemble((f"{kind}: ", "bold red"), " ".join(message.split()))
    errors.print(text, soft_wrap=True)


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Under ``--verbose``, say how long something took."""
    start = time.perf_counter()
    yield
    if state.verbose:
        errors.print(f"{what}: {time.perf_counter() - start:.2f} s", soft_wrap=True)


def is_terminal() -> bool:
    """Whether somebody looks at the error stream, where progress is drawn."""
    return errors.is_terminal and not state.quiet


def write_to_stdout(data: bytes) -> None:
    """Send a file to the standard output."""
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
