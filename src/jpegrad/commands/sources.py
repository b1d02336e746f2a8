"""Which files a command reads and writes: single ones, folders, patterns, and ``-`` for the standard streams."""

import glob
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple, TypeVar

from jpegrad.commands.terminal import WrongOption, complain, state, timed, write_to_stdout
from jpegrad.files import SUFFIXES, check_output, write_atomically

Item = TypeVar("Item", "Source", "Job")
STANDARD = Path("-")
"""The standard input or output."""
LOSSLESS = {".png": "PNG", ".bmp": "BMP", ".tif": "TIFF", ".tiff": "TIFF", ".ppm": "PPM", ".pgm": "PPM"}
"""Pillow's name of the format of each suffix."""
PICTURES = (*SUFFIXES, *LOSSLESS, ".webp", ".gif")
"""What the names of pictures in a folder end in."""


class Source(NamedTuple):
    """A file to read, and its place below the folder that the user named."""

    path: Path
    place: Path


class Job(NamedTuple):
    """A file to read and one to write."""

    source: Path
    output: Path

    @property
    def output_name(self) -> str:
        """What messages call the file to write."""
        return target_name(self.output)


def is_many(arguments: list[Path]) -> bool:
    """Whether the user named more than one file."""
    return len(arguments) != 1 or arguments[0].is_dir() or _is_pattern(arguments[0])


def find(arguments: list[Path], suffixes: Iterable[str], outside: Path | None = None) -> list[Source]:
    """The files that arguments name, in order.

    Args:
        arguments: files, ``-``, folders and patterns.
        suffixes: of files in folders; others there, and hidden ones, are left out. A warning counts the pictures
            among them.
        outside: a folder whose files are none.

    Raises:
        WrongOption: a folder has no such file, or a pattern matches none.
    """
    found: list[Source] = []
    for argument in arguments:
        if argument.is_dir():
            # Nothing that an earlier call has written is read; but a folder may be written into itself.
            apart = outside and outside.resolve()
            apart = None if apart == argument.resolve() else apart
            below = sorted(path for path in argument.rglob("*") if path.is_file())
            places = ((path, path.relative_to(argument)) for path in below)
            here = [
                Source(path, place)
                for path, place in places
                if path.suffix.lower() in PICTURES
                and not any(part.startswith(".") for part in place.parts)
                and not (apart and apart in path.resolve().parents)
            ]
            wanted = [source for source in here if source.path.suffix.lower() in suffixes]
            if not wanted:
                raise WrongOption(f"expected a folder with files in {', '.join(suffixes)}, got {argument}")
            if len(here) > len(wanted):
                others = f"{len(here) - len(wanted)} of {len(here)} pictures"
                complain(
                    "warning", f"{argument}: {others} do not end in {', '.join(suffixes)} and are left out"
                )
            found += wanted
        elif _is_pattern(argument):
            matches = sorted(map(Path, glob.glob(str(argument), recursive=True)))
            wanted = [Source(path, Path(path.name)) for path in matches if path.is_file()]
            if not wanted:
                raise WrongOption(f"expected a pattern that matches a file, got {argument}")
            found += wanted
        else:
            found.append(Source(argument, Path(argument.name)))
    if sum(source.path == STANDARD for source in found) > 1:
        raise WrongOption("expected - once, because standard input is one file")
    return found


def plan(
    arguments: list[Path],
    output: Path,
    *,
    suffixes: Iterable[str],
    written: Iterable[str],
    suffix: str | None = None,
    inputs: Iterable[Path | None] = (),
    force: bool = False,
) -> list[Job]:
    """What is made of what, checked before any work is done.

    One file goes to ``output``, a name or ``-``. Several go into the folder ``output`` under their own names, those of
    a folder below it as they lie there.

    Args:
        arguments: as in :func:`find`.
        output: as the user gave it.
        suffixes: of files in folders that are read.
        written: in which a name to write may end.
        suffix: of files in the folder; None keeps their own.
        inputs: further files that are read.
        force: let files be replaced.

    Raises:
        WrongOption: the names do not fit.
        ValueError: a file to write is there already.
    """
    if suffix is not None and suffix not in written:
        raise WrongOption(f"--suffix: expected one of {', '.join(written)}, got {suffix}")
    single = output == STANDARD or not (is_many(arguments) or output.is_dir())
    if single:
        sources = find(arguments, suffixes)
        if len(sources) > 1:
            raise WrongOption(f"--output: expected one picture for standard output, got {len(sources)}")
        if output == STANDARD:
            if sys.stdout.isatty():
                raise WrongOption("--output: expected a pipe or a file behind -, not a terminal")
            state.piped = True
        elif output.suffix.lower() not in written:
            raise WrongOption(f"--output: expected a name that ends in {', '.join(written)}, got {output}")
        jobs = [Job(sources[0].path, output)]
    else:
        if (output.exists() and not output.is_dir()) or output.suffix.lower() in written:
            raise WrongOption(f"--output: expected a folder for the files of several, got {output}")
        sources = find(arguments, suffixes, output)
        jobs = [
            Job(path, output / (place if suffix is None else place.with_suffix(suffix)))
            for path, place in sources
        ]
    made: dict[Path, Path] = {}
    for source, target in jobs:
        if target in made:
            raise WrongOption(
                f"--output: expected names that differ; {target} is made of {made[target]} and {source}"
            )
        made[target] = source
        if target != STANDARD and (single or target.parent.is_dir()):
            check_output("--output", target, inputs=[*made.values(), *inputs], force=force)
    return jobs


def check_jpeg(path: Path, inputs: Iterable[Path | None], force: bool) -> None:
    """Raise unless a .jpg may be written there."""
    if path.suffix.lower() not in SUFFIXES:
        raise WrongOption(f"--output: expected a name that ends in {', '.join(SUFFIXES)}, got {path}")
    check_output("--output", path, inputs=inputs, force=force)


def check_page(path: Path, inputs: Iterable[Path | None], force: bool) -> None:
    """Raise unless a page of HTML may be written there."""
    if path.suffix.lower() not in (".html", ".htm"):
        raise WrongOption(f"--html: expected a name that ends in .html, got {path}")
    check_output("--html", path, inputs=inputs, force=force)


def each(items: list[Item], work: Callable[[Item], None]) -> None:
    """Do the work on each; of several, one that fails is an error on a line that names it, and the others go on.

    Raises:
        SystemExit: with code 1 after all, if some failed.
    """
    failed = 0
    for item in items:
        try:
            work(item)
        except (WrongOption, BrokenPipeError):
            raise
        except (ValueError, OSError) as error:
            message, read = str(error), name(item[0])
            if read not in message and not (len(items) == 1 and message.startswith("--")):
                message = f"{read}: {message}"
            if len(items) == 1:
                raise type(error)(message) if isinstance(error, ValueError) else error from None
            complain("error", message)
            failed += 1
    if failed:
        complain("error", f"{failed} of {len(items)} files failed")
        raise SystemExit(1)


def read(path: Path) -> bytes:
    """The bytes of a file, or of standard input."""
    return sys.stdin.buffer.read() if path == STANDARD else path.read_bytes()


def name(path: Path) -> str:
    """What messages call a file to read."""
    return "standard input" if path == STANDARD else str(path)


def target_name(path: Path) -> str:
    """What messages call a file to write."""
    return "standard output" if path == STANDARD else str(path)


def write(path: Path, data: bytes) -> None:
    """Write a file that appears whole or not at all; its folder is made, if need be."""
    with timed(f"{target_name(path)}: written"):
        if path == STANDARD:
            write_to_stdout(data)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(path, data)


def _is_pattern(path: Path) -> bool:
    return path != STANDARD and glob.has_magic(str(path)) and not path.exists()
