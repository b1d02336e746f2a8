"""The command line: ``jpegrad --help``."""

import os
import sys
import warnings
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from jpegrad import __version__
from jpegrad.commands import bench, code, dataset, decode, demo, files, listing, transform, tune

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

app.command("demo")(demo.demo)
app.command("jpeg")(code.jpeg)
app.command("decode")(decode.decode)
app.command("size")(code.size)
app.command("inspect")(files.inspect)
app.command("transform")(transform.transform)
app.command("tune")(tune.tune)
app.command("tune-dataset")(dataset.tune_dataset)
app.command("surrogates")(listing.surrogates)
app.command("backends")(listing.backends)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"jpegrad {__version__}")
        raise typer.Exit


@app.callback()
def options(
    show_version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """The JPEG codec, inside autograd."""


# What follows the study's name belongs to the study.
REST = {"allow_extra_args": True, "ignore_unknown_options": True, "allow_interspersed_args": False}
app.command("bench", context_settings=REST)(bench.bench)


def main() -> None:
    """Run the command line; errors and warnings are one line each."""
    with warnings.catch_warnings():
        warnings.showwarning = _warn
        try:
            sys.exit(app(standalone_mode=False))
        except (typer.Abort, KeyboardInterrupt):
            sys.exit(130)
        except Exception as error:
            # Wrong options: an exception of click, or of the copy of it within typer.
            wrong_usage = getattr(error, "format_message", None)
            known = wrong_usage is not None or isinstance(error, (ValueError, TypeError, OSError))
            if not known or os.environ.get("JPEGRAD_TRACEBACK"):
                raise
            # Without arguments there is the help, and no message.
            if message := wrong_usage() if wrong_usage else str(error):
                _line("error: ", message)
            sys.exit(getattr(error, "exit_code", 1))


def _warn(message: Warning | str, *_: Any, **__: Any) -> None:
    _line("warning: ", str(message))


def _line(kind: str, message: str) -> None:
    text = Text.assemble((kind, "bold red"), " ".join(message.split()))
    Console(stderr=True).print(text, soft_wrap=True)
