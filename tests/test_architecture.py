"""The layers: who may import whom, what `import jpegrad` loads, and the public names."""

import ast
import importlib
import inspect
import io
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

import jpegrad

PACKAGE = Path(__file__).resolve().parents[1] / "src" / "jpegrad"

GROUND = {
    "arguments",
    "compiling",
    "decoder",
    "formulas",
    "home",
    "inputs",
    "notice",
    "sampling",
    "spec",
    "surrogates",
    "tables",
}
CODEC = {*GROUND, "coefficients", "backends", "codec"}
FILES = {*CODEC, "files", "entropy", "rate", "jfif", "io", "lossless"}
OUTER = {*FILES, "", "metrics", "nn", "tune", "data"}

# Which layers each layer may import. A layer is a module or subpackage of jpegrad; each backend is one of its own;
# "" is the package itself, as `import jpegrad` gives it.
ARROWS: dict[str, set[str]] = {
    "formulas": set(),
    "notice": set(),
    "surrogates": {"formulas", "notice"},
    "home": set(),
    "tables": {"files", "home", "surrogates", "data"},
    "decoder": set(),
    "compiling": set(),
    "sampling": {"compiling"},
    "spec": {"arguments", "compiling", "decoder", "home", "sampling", "surrogates", "tables"},
    "coefficients": GROUND,
    "data": set(),
    "files": set(),
    "randomness": set(),
    "stages": GROUND,
    "backends.reference": {*GROUND, "stages"},
    "arguments": set(),
    "inputs": {"arguments", "notice", "spec", "surrogates"},
    "backends.fused": {*GROUND, "backends.reference"},
    "backends.native": {*GROUND, "backends.fused"},
    "backends.plain": {*GROUND, "backends.fused"},
    "backends.triton": {*GROUND, "backends.fused"},
    "backends": {*GROUND, "backends.reference", "backends.plain", "backends.native", "backends.triton"},
    "codec": {*GROUND, "coefficients", "backends"},
    "entropy": {*GROUND, "backends"},
    "rate": {*GROUND, "coefficients", "backends", "entropy"},
    "jfif": {*GROUND, "coefficients", "backends", "entropy"},
    "io": {*CODEC, "files", "entropy", "jfif"},
    "lossless": {*GROUND, "coefficients", "jfif"},
    "pictures": FILES,
    "nn": {*FILES, "randomness"},
    "compat": FILES,
    "metrics": CODEC,
    "testing": FILES,
    "tune": {*FILES, "metrics", "pictures", "data"},
    "page": set(),
    "demo": {*OUTER, "page"},
    "app": {*OUTER, "pictures", "page"},
    "commands": {*OUTER, "pictures", "page", "demo", "app"},
    "cli": {"", "commands"},
    "__main__": set(),
    "": {*FILES, "metrics", "nn", "tune", "testing", "data"},
}

PUBLIC = {
    "Coefficients",
    "Color",
    "Decoder",
    "JPEGError",
    "ProgressiveScan",
    "Surrogate",
    "backends",
    "bits",
    "data",
    "decode",
    "encode",
    "jpeg",
    "lossless",
    "metrics",
    "nn",
    "rate",
    "read",
    "read_header",
    "read_structure",
    "surrogates",
    "tables",
    "testing",
    "to_bytes",
    "to_bytes_batch",
    "tune",
    "write",
}

PUBLIC_TUNE = {
    "BitsPerPixel",
    "Bytes",
    "DatasetSettings",
    "Folder",
    "LikeQuality",
    "Loss",
    "Score",
    "Metric",
    "Tuned",
    "compress",
    "learn_dataset_tables",
    "learn_image_tables",
    "mix",
    "report",
    "rgb_weights",
    "trellis",
}

PUBLIC_NN = {"Coding", "Drawn", "History", "JPEG", "RandomHistory", "RandomJPEG", "Step"}

PUBLIC_METRICS = {"Butteraugli", "Perceptual", "SSIMULACRA2"}

PUBLIC_RATE = {"ALL", "Breakdown", "RateModel", "Scan", "bits", "breakdown", "marginal_costs"}


def layer(module: str) -> str:
    """The layer of a module by its dotted name below jpegrad: `rate.size` is in `rate`; each backend is one."""
    parts = module.split(".")
    if parts[0] == "backends" and len(parts) > 1:
        return f"backends.{parts[1]}"
    return parts[0]


def modules() -> dict[str, Path]:
    """Every module of the package, as its dotted name below jpegrad."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(part for part in parts if part != "__init__")] = path
    return found


def imported_modules(source: str, module: str, is_package: bool, known: set[str]) -> set[str]:
    """Modules below jpegrad that a source imports, in functions too; type-checking imports are no arrows."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            node.body = []
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                here = ["jpegrad", *filter(None, module.split("."))]
                here = here[: len(here) - node.level + is_package]
                base = ".".join([*here, *filter(None, [node.module])])
            names.update(f"{base}.{alias.name}" for alias in node.names)
    below = set()
    for name in names:
        if name == "jpegrad" or not name.startswith("jpegrad."):
            below.update({""} if name == "jpegrad" else set())
            continue
        parts = name.split(".")[1:]
        while parts and ".".join(parts) not in known:
            parts.pop()
        below.add(".".join(parts))
    return below


@pytest.mark.parametrize("module", modules())
def test_imports_follow_the_arrows(module: str) -> None:
    found = modules()
    path = found[module]
    here = layer(module)
    assert here in ARROWS, f"{path} is a new layer: draw its arrows in ARROWS"
    imported = imported_modules(path.read_text(), module, path.name == "__init__.py", set(found))
    targets = {layer(name) for name in imported}
    wrong = targets - ARROWS[here] - {here}
    assert not wrong, f"{path} imports {sorted(wrong)}; {here or 'jpegrad'} may import {sorted(ARROWS[here])}"


def test_the_arrows_make_no_circle() -> None:
    done: set[str] = set()
    while remaining := set(ARROWS) - done:
        free = {name for name in remaining if ARROWS[name] - {name} <= done}
        assert free, f"a circle among {sorted(remaining)}"
        done |= free


def test_the_walk_sees_every_form_of_import() -> None:
    known = {"", "spec", "backends", "backends.reference", "stages", "stages.dct", "rate"}
    source = """
import jpegrad.spec
from jpegrad.stages.dct import forward
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    import jpegrad.rate
def late():
    from .reference import run
    from jpegrad import backends
"""
    seen = imported_modules(source, "backends", is_package=True, known=known)
    assert seen == {"spec", "stages.dct", "backends.reference", "backends"}


def test_only_the_command_that_runs_the_studies_imports_them() -> None:
    for module, path in modules().items():
        tree = ast.parse(path.read_text())
        # Within a function, so that the command line starts without them.
        late = [node for top in tree.body if isinstance(top, ast.FunctionDef) for node in ast.walk(top)]
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            outside = {name.partition(".")[0] for name in names} & {"jpegrad_studies", "tests"}
            allowed = {"jpegrad_studies"} if module == "commands.bench" and node in late else set()
            assert outside <= allowed, f"{path} imports {sorted(outside)}"


def test_only_the_command_line_imports_what_its_extras_bring() -> None:
    extras = {
        frozenset({"matplotlib", "rich", "typer"}): ("cli", "commands", "demo"),
        frozenset({"anyio", "starlette", "uvicorn"}): ("app.server",),
    }
    for module, path in modules().items():
        imported: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            imported |= {name.partition(".")[0] for name in names}
        for brought, allowed in extras.items():
            found = imported & brought
            assert not found or {module, layer(module)} & set(allowed), f"{path} imports {sorted(found)}"


def test_only_a_drop_in_imports_its_peer_and_nothing_imports_drop_ins() -> None:
    for module, path in modules().items():
        names: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names.update(alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names.add(node.module or "")
        peers = {name.partition(".")[0] for name in names} & {
            "albumentations",
            "art",
            "kornia",
            "torchvision",
        }
        assert all(module == f"compat.{peer}" for peer in peers), f"{path} imports {sorted(peers)}"
        if layer(module) != "compat":
            assert not any(name.startswith("jpegrad.compat") for name in names), path


def test_import_loads_nothing_and_a_name_loads_nothing_optional() -> None:
    script = """
import sys
import jpegrad
assert not {"torch", "numpy", "PIL"} & set(sys.modules)
import numpy, torch
before = set(sys.modules)
for name in (*jpegrad.__all__, *(name for name in dir(jpegrad) if not name.startswith("_"))):
    getattr(jpegrad, name)
roots = {name.partition(".")[0] for name in set(sys.modules) - before}
print(*sorted(roots - sys.stdlib_module_names - {"jpegrad"}))
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.split() == []


@pytest.mark.parametrize(
    ("module", "public"),
    [
        (jpegrad, PUBLIC),
        (jpegrad.nn, PUBLIC_NN),
        (jpegrad.tune, PUBLIC_TUNE),
        (jpegrad.rate, PUBLIC_RATE),
        (jpegrad.metrics, PUBLIC_METRICS),
    ],
    ids=["jpegrad", "nn", "tune", "rate", "metrics"],
)
def test_the_public_names_are_frozen(module: ModuleType, public: set[str]) -> None:
    # Those of the package itself are imported late, and told to type checkers under TYPE_CHECKING.
    tree = ast.parse(Path(str(module.__file__)).read_text())
    names = {
        alias.asname for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert names - {None} == public
    for name in public:
        assert hasattr(module, name)


@pytest.mark.parametrize("name", ["metrics", "nn", "rate", "tune"])
def test_a_module_shows_its_public_names_alone(name: str) -> None:
    module = getattr(jpegrad, name)
    public = {"metrics": PUBLIC_METRICS, "nn": PUBLIC_NN, "rate": PUBLIC_RATE, "tune": PUBLIC_TUNE}[name]
    assert set(module.__all__) == public == {each for each in dir(module) if not each.startswith("_")}


def test_the_package_shows_its_public_names_alone() -> None:
    assert {name for name in dir(jpegrad) if not name.startswith("_")} == PUBLIC
    assert all(getattr(jpegrad, name) is not None for name in dir(jpegrad))
    with pytest.raises(AttributeError, match="module 'jpegrad' has no attribute 'jpg'"):
        jpegrad.jpg  # type: ignore[attr-defined]  # noqa: B018
    # A star brings functions and classes: names such as io and nn are the user's.
    brought: dict[str, object] = {"nn": torch.nn, "io": io}
    exec("from jpegrad import *", brought)
    assert set(jpegrad.__all__) == {name for name in PUBLIC if not inspect.ismodule(getattr(jpegrad, name))}
    assert set(jpegrad.__all__) < set(brought)
    assert (brought["nn"], brought["io"]) == (torch.nn, io)


def test_a_name_is_that_of_its_module() -> None:
    tree = ast.parse(Path(str(jpegrad.__file__)).read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("jpegrad."):
            for alias in node.names:
                assert getattr(jpegrad, alias.name) is getattr(
                    importlib.import_module(str(node.module)), alias.name
                )


@pytest.mark.parametrize(
    "module", [jpegrad.tune, jpegrad.rate, jpegrad.metrics], ids=["tune", "rate", "metrics"]
)
def test_public_functions_and_records_are_documented(module: ModuleType) -> None:
    for name, value in vars(module).items():
        if name.startswith("_") or not callable(value):
            continue
        text = value.__doc__ or ""
        assert "Example:" in text, name
        for argument in inspect.signature(value).parameters:
            assert re.search(rf"\b{argument}\b.*:", text), f"{name}: {argument}"
