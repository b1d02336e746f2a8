"""``jpegrad bench``: the studies whose tables stand in the documentation."""

import importlib
from typing import Annotated

import typer

from jpegrad.commands.terminal import WrongOption, show, words


def bench(
    context: typer.Context,
    study: Annotated[str | None, typer.Argument(help="Its name; without it they are listed.")] = None,
) -> None:
    """Run a study: `jpegrad bench attack --help` shows its own options. Needs the extra `studies`."""
    import jpegrad_studies

    found = jpegrad_studies.studies()
    if study is None:
        table = words("study", "question")
        for name, question in found.items():
            table.add_row(name, question)
        show(table)
        return
    if study not in found:
        raise WrongOption(f"study: expected one of {', '.join(found)}; got {study!r}")
    try:
        importlib.import_module(f"jpegrad_studies.{study}").main(context.args)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] in ("jpegrad", "jpegrad_studies"):
            raise
        raise OSError(
            f"the study {study} needs the package {error.name}: pip install 'jpegrad[studies]'"
        ) from error
