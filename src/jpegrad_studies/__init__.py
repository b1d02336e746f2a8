"""The studies behind the tables of the documentation; every module with a ``main`` function is one."""

from __future__ import annotations

import ast
from pathlib import Path


def studies() -> dict[str, str]:
    """Every study by name, with the first line of what it says of itself; none is imported."""
    found = {}
    for path in sorted(Path(__file__).parent.glob("*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if any(isinstance(node, ast.FunctionDef) and node.name == "main" for node in tree.body):
            found[path.stem] = (ast.get_docstring(tree) or "").partition("\n")[0]
    return found
