"""The command line: ``jpegrad --help``.

A command is imported when it is called: PyTorch takes seconds, and ``--help`` needs none of it.
"""

import functools
import inspect
import os
import sys
import warnings
from collections.abc import Callable
from importlib import import_module
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperCommand

from jpegrad import __version__
from jpegrad.commands.terminal import complain, state


class Entry(NamedTuple):
    """Where a command is, ``module:function`` in ``jpegrad.commands``, what it is for, and how it is called."""

    place: str
    purpose: str
    examples: tuple[str, ...]
    settings: dict[str, Any] = {}  # noqa: RUF012


# What follows the study's name belongs to the study.
REST = {"allow_extra_args": True, "ignore_unknown_options": True, "allow_interspersed_args": False}
COMMANDS = {
    "demo": Entry(
        "demo:demo",
        "Show the codec and its gradients on photographs, as an HTML report.",
        ("jpegrad demo", "jpegrad demo -o report.html --seed 3"),
    ),
    "app": Entry(
        "app:app",
        "Look at the codec and its gradients on a local page.",
        ("jpegrad app", "jpegrad app --port 8020 --no-browser"),
    ),
    "jpeg": Entry(
        "code:jpeg",
        "Code pictures as libjpeg-turbo does.",
        (
            "jpegrad jpeg photo.png -o photo.jpg --quality 85",
            "jpegrad jpeg photo.png -o small.jpg --target-bytes 60kB --optimize",
            "jpegrad jpeg photo.png -o seen.png -q 10",
            "jpegrad jpeg pictures/ -o coded/ -q 75",
            "jpegrad jpeg logo.png -o logo.jpg --background white",
            "jpegrad jpeg - -o - -q 50 < photo.png > photo.jpg",
        ),
    ),
    "decode": Entry(
        "decode:decode",
        "Decode .jpg files, as viewers do or with other settings.",
        (
            "jpegrad decode photo.jpg -o photo.png",
            "jpegrad decode photo.jpg -o small.png --scale 4",
            "jpegrad decode coded/ -o decoded/",
        ),
    ),
    "size": Entry(
        "code:size",
        "The exact size of the .jpg, without writing it.",
        ("jpegrad size photo.png -q 30 -q 60 -q 90", "jpegrad size pictures/ --json --no-compare"),
    ),
    "inspect": Entry(
        "inspect:inspect",
        "What .jpg files hold: tables, quality, scans, metadata, bits.",
        (
            "jpegrad inspect photo.jpg",
            "jpegrad inspect photo.jpg --histogram --plot photo.svg",
            "jpegrad inspect coded/",
        ),
    ),
    "compare": Entry(
        "compare:compare",
        "How much two pictures differ.",
        ("jpegrad compare photo.png photo.jpg", "jpegrad compare photo.png photo.jpg --difference apart.png"),
    ),
    "transform": Entry(
        "transform:transform",
        "Turn, flip or crop .jpg files without loss.",
        (
            "jpegrad transform photo.jpg -o upright.jpg --orientation",
            "jpegrad transform photo.jpg -o turned.jpg --rotate 90 --trim",
            "jpegrad transform photo.jpg -o part.jpg --crop 96x64+32+16",
        ),
    ),
    "optimize": Entry(
        "optimize:optimize",
        "Make .jpg files smaller without loss.",
        (
            "jpegrad optimize photo.jpg -o smaller.jpg",
            "jpegrad optimize coded/ -o smaller/ --strip",
        ),
    ),
    "tune": Entry(
        "tune:tune",
        "Make a smaller .jpg: tables and levels made for the picture.",
        (
            "jpegrad tune photo.png -o photo.jpg --target-bytes 9kB",
            "jpegrad tune photo.png -o photo.jpg --metric ms-ssim --like-quality 75",
            "jpegrad tune pictures/ -o smaller/ --metric perceptual --ssimulacra2 80",
        ),
    ),
    "tune-dataset": Entry(
        "dataset:tune_dataset",
        "Learn one table set for all qualities over a folder.",
        ("jpegrad tune-dataset pictures/ -o tables.json --metric mse",),
    ),
    "surrogates": Entry(
        "listing:surrogates", "The gradient estimators of the library.", ("jpegrad surrogates",)
    ),
    "backends": Entry("listing:backends", "Which code runs here, and why.", ("jpegrad backends --json",)),
    "bench": Entry(
        "bench:bench",
        "Run a study whose tables stand in the documentation.",
        ("jpegrad bench", "jpegrad bench speed --quick", "jpegrad bench attack --help"),
        REST,
    ),
}
SETTINGS: dict[str, Any] = {"pretty_exceptions_enable": False, "rich_markup_mode": "rich"}


def _quiet(wanted: bool) -> None:
    state.quiet = state.quiet or wanted


def _verbose(wanted: bool) -> None:
    if wanted and not state.verbose:
        state.verbose = True


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"jpegrad {__version__}")
        raise typer.Exit


QUIET, VERBOSE = "Print only what was asked for, warnings and errors.", "Say how long each step takes."
Quiet = Annotated[bool, typer.Option("--quiet", callback=_quiet, help=QUIET)]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", callback=_verbose, help=VERBOSE)]

app = typer.Typer(no_args_is_help=True, **SETTINGS)


class Late(TyperCommand):
    """A command that is imported when it is called, or when its own help or completion is asked for."""

    def make_context(self, info_name: str | None, args: list[str], *rest: Any, **more: Any) -> Any:
        return command(str(self.name)).make_context(info_name, args, *rest, **more)


def command(name: str) -> Any:
    """The command itself, with examples and the options that all have."""
    entry = COMMANDS[name]
    module, _, function = entry.place.partition(":")
    single = typer.Typer(add_completion=False, **SETTINGS)
    epilog = "\n\n".join(["[bold]Examples[/]", *(f"  {line}" for line in entry.examples)])
    made = _with_loudness(getattr(import_module(f"jpegrad.commands.{module}"), function))
    single.command(name, epilog=epilog, context_settings=entry.settings)(made)
    return typer.main.get_command(single)


def _with_loudness(function: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(function)
    def call(*, quiet: bool, verbose: bool, **arguments: Any) -> None:
        function(**arguments)

    signature = inspect.signature(function)
    own = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=kind)
        for name, kind in (("quiet", Quiet), ("verbose", Verbose))
    ]
    call.__signature__ = signature.replace(parameters=[*signature.parameters.values(), *own])  # type: ignore[attr-defined]
    call.__annotations__ = {**function.__annotations__, "quiet": Quiet, "verbose": Verbose}
    return call


for _name, _entry in COMMANDS.items():
    app.command(_name, cls=Late, short_help=_entry.purpose)(lambda: None)


@app.callback()
def options(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", callback=_quiet, help=QUIET)] = False,
    verbose: Verbose = False,
) -> None:
    """The JPEG codec, inside autograd."""


def main() -> None:
    """Run the command line; errors and warnings are one line each."""
    state.quiet = state.verbose = state.piped = False
    with warnings.catch_warnings():
        warnings.showwarning = _warn
        try:
            sys.exit(app(prog_name="jpegrad", standalone_mode=False))
        except (typer.Abort, KeyboardInterrupt):
            sys.exit(130)
        except BrokenPipeError:
            # Who read the output has left; nor can Python flush it when it ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(1)
        except Exception as error:
            # Wrong options: an exception of click, or of the copy of it within typer.
            wrong_usage = getattr(error, "format_message", None)
            known = wrong_usage is not None or isinstance(error, (ValueError, TypeError, OSError))
            if not known or os.environ.get("JPEGRAD_TRACEBACK"):
                raise
            # Without arguments there is the help, and no message.
            if message := wrong_usage() if wrong_usage else str(error):
                complain("error", message)
            sys.exit(getattr(error, "exit_code", 1))


def _warn(message: Warning | str, *_: Any, **__: Any) -> None:
    complain("warning", str(message))
