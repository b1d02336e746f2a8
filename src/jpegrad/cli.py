"""The command line: ``jpegrad --help``."""

import os
import sys

import typer
from rich.console import Console

from jpegrad.commands import code, files, listing

app = typer.Typer(
    help="The JPEG codec, inside autograd.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)

app.command("demo")(listing.demo)
app.command("jpeg")(code.jpeg)
app.command("size")(code.size)
app.command("inspect")(files.inspect)
app.command("surrogates")(listing.surrogates)
app.command("backends")(listing.backends)


def main() -> None:
    """Run the command line; errors are one line."""
    try:
        app()
    except (ValueError, TypeError, OSError) as error:
        if os.environ.get("JPEGRAD_TRACEBACK"):
            raise
        Console(stderr=True).print(f"[bold red]error:[/] {error}", highlight=False, soft_wrap=True)
        sys.exit(1)
