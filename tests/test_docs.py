"""Every Python block of the README and the documentation runs, and so does every example of a docstring.

Sentences are short, and what is generated is up to date.
"""

import ast
import doctest
import importlib
import importlib.util
import inspect
import pkgutil
import re
import shlex
import shutil
import sys
import warnings
from pathlib import Path
from types import ModuleType

import pytest
from typer.testing import CliRunner

import jpegrad
from jpegrad.cli import app
from jpegrad.data import photograph_path
from jpegrad_studies import capabilities, short
from jpegrad_studies.common import COMPARISON

ROOT = Path(__file__).resolve().parents[1]
ALONE = (
    *("faq", "quickstart"),
    *("files", "files-change", "files-decoders", "files-kinds", "files-read"),
)
"""Pages of which each block runs by itself; those of the others run from top to bottom."""
PAGES = [
    path
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    if "```python" in path.read_text() and path.stem not in ALONE
]
PROSE = [
    *(ROOT / name for name in ("README.md", "DESIGN.md", "CONTRIBUTING.md", "CHANGELOG.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
BLOCK = re.compile(r"^```python[^\n]*\n(.*?)^```$", re.DOTALL | re.MULTILINE)
# The kernel library is no Python module, and Triton is an extra.
PEERS = ("albumentations", "art", "kornia", "torchvision")
NOT_IMPORTED = {"jpegrad.backends.native._kernel", "jpegrad.backends.triton"}
MODULES = [
    module.name
    for module in pkgutil.walk_packages(jpegrad.__path__, "jpegrad.")
    if module.name not in NOT_IMPORTED and not module.name.endswith("__main__")
]


def absent_peers(source: str) -> list[str]:
    """The optional packages that a source imports, itself or through a drop-in, and that are not installed."""
    asked = [
        peer
        for peer in PEERS
        if re.search(rf"^(from|import) (jpegrad\.compat\.)?{peer}\b", source, re.MULTILINE)
    ]
    return [peer for peer in asked if importlib.util.find_spec(peer) is None]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_the_blocks_of_a_page_run_from_top_to_bottom(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = page.read_text()
    namespace: dict[str, object] = {"__name__": "__main__"}
    absent = set()
    for block in BLOCK.finditer(text):
        if lacking := absent_peers(block[1]):
            absent.update(lacking)
            continue
        # Blank lines in front, so that a traceback shows the line of the page.
        source = "\n" * (text.count("\n", 0, block.start()) + 1) + block[1]
        exec(compile(source, str(page), "exec"), namespace)
    if absent:
        pytest.skip(f"all blocks ran but those that need {', '.join(sorted(absent))}")


def blocks_alone() -> dict[str, str]:
    """The blocks of these pages, by page and number."""
    return {
        f"{page}-{i}": block[1]
        for page in ALONE
        for i, block in enumerate(BLOCK.finditer((ROOT / "docs" / f"{page}.md").read_text()), 1)
    }


@pytest.mark.parametrize("name", blocks_alone())
def test_a_block_runs_by_itself(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(blocks_alone()[name], name, "exec"), {"__name__": "__main__"})


def test_the_commands_of_the_page_on_the_command_line_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(photograph_path("tulips"), "photo.png")
    blocks = re.findall(
        r"^```sh\n(.*?)^```$", (ROOT / "docs" / "cli.md").read_text(), re.DOTALL | re.MULTILINE
    )
    lines = [line for block in blocks for line in block.splitlines()]
    assert lines
    for line in lines:
        program, *arguments = shlex.split(line)
        assert program == "jpegrad"
        result = CliRunner().invoke(app, arguments)
        assert result.exit_code == 0, f"{line}: {result.output}"
    assert Path("small.jpg").stat().st_size <= 9000
    assert jpegrad.read("photo.jpg").size == jpegrad.read("same.jpg").size == (200, 267)


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_a_module_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    peer = name.removeprefix("jpegrad.compat.")
    if peer in PEERS:
        pytest.importorskip(peer)
    module = importlib.import_module(name)
    with warnings.catch_warnings():
        # An example need not close what it opens.
        warnings.simplefilter("ignore", ResourceWarning)
        report = doctest.testmod(module, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert report.failed == 0, f"{report.failed} of {report.attempted} examples of {name} failed"


API = {path.stem: path.read_text() for path in (ROOT / "docs" / "api").glob("*.md")}
SHOWN = {name for page in API.values() for name in re.findall(r"^::: ([\w.]+)$", page, re.MULTILINE)}
LISTED = {
    name
    for page in API.values()
    for names in re.findall(r"members: \[([^\]]*)\]", page)
    for name in names.split(", ")
}


def public(module: ModuleType) -> dict[str, object]:
    """Functions, classes and records that a module has for its users: its own, and those that it passes on."""
    tree = ast.parse(Path(str(module.__file__)).read_text())
    passed_on = {
        alias.asname
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname == alias.name
    }
    own = {
        name for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__
    }
    names = {name for name in own | passed_on if not name.startswith("_")}
    found = {name: getattr(module, name) for name in names}
    return {name: value for name, value in found.items() if not inspect.ismodule(value)}


@pytest.mark.parametrize(
    "module",
    [
        *(
            jpegrad,
            jpegrad.backends,
            jpegrad.data,
            jpegrad.lossless,
            jpegrad.metrics,
            jpegrad.nn,
            jpegrad.rate,
        ),
        *(jpegrad.surrogates, jpegrad.tables, jpegrad.testing, jpegrad.tune),
    ],
    ids=lambda module: module.__name__,
)
def test_the_api_pages_show_every_name_of_a_module(module: ModuleType) -> None:
    # Of a module that is shown whole, all that has a docstring is there.
    whole = {name: sys.modules[name] for name in SHOWN if name in sys.modules}
    names = public(module)
    assert names
    for name, value in names.items():
        if isinstance(value, jpegrad.Surrogate):
            # A picture and a table show them.
            assert jpegrad.surrogates.ALL[name] is value and "images/surrogates.png" in API["surrogates"]
        elif name in LISTED or any(one.rpartition(".")[2] == name for one in SHOWN - {*whole}):
            continue
        elif inspect.isfunction(value) or inspect.isclass(value):
            assert value.__module__ in whole and value.__doc__, name
        else:
            assert any(vars(one).get(name) is value for one in whole.values()), name


def test_the_api_pages_show_how_a_record_is_made() -> None:
    griffe = pytest.importorskip("griffe")
    extensions = griffe.load_extensions(str(ROOT / "docs" / "_extensions" / "docstrings.py"), "dataclasses")
    package = griffe.load("jpegrad", search_paths=[ROOT / "src"], extensions=extensions, resolve_aliases=True)
    pages = "".join(path.read_text() for path in (ROOT / "docs" / "api").glob("*.md"))
    shown = [package[name] for name in re.findall(r"^::: jpegrad\.([\w.]+)$", pages, re.MULTILINE)]
    classes = [x for x in shown if x.is_class and x.name not in ("Backend", "JPEGError")]
    assert {"Color", "Decoder", "Coefficients", "ProgressiveScan", "Bytes"} <= {x.name for x in classes}
    for one in classes:
        made = [parameter.name for parameter in one.all_members["__init__"].parameters][1:]
        real = inspect.signature(getattr(importlib.import_module(one.module.path), one.name)).parameters
        assert made == list(real), one.path


def test_the_page_on_surrogates_names_every_one() -> None:
    rows = set(re.findall(r"^\| `(\w+)` \|", (ROOT / "docs" / "surrogates.md").read_text(), re.MULTILINE))
    assert rows == set(jpegrad.surrogates.ALL)


def sentences(page: str) -> list[str]:
    """The sentences of a page's prose: without code, tables, headings and generated parts."""
    for left_out in (
        r"^```.*?^```$",
        r"<!-- begin (\S+) -->.*?<!-- end \1 -->",
        r"^( {4}|\||#)[^\n]*$",
    ):
        page = re.sub(left_out, "", page, flags=re.DOTALL | re.MULTILINE)
    found = []
    # A list's item is a paragraph; code and the target of a link are one word.
    for paragraph in re.split(r"\n\s*\n|\n(?=\s*(?:-|\d+\.) )", page):
        text = re.sub(r"`[^`]+`|\]\([^)]*\)", "word", " ".join(paragraph.split()))
        found += re.split(r"(?<=[.!?])[*\")]*\s+", text)
    return found


@pytest.mark.parametrize("page", PROSE, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_sentence_is_long(page: Path) -> None:
    long = [sentence for sentence in sentences(page.read_text()) if len(sentence.split()) > 40]
    assert not long


def test_long_sentences_are_found() -> None:
    words = " ".join(["word"] * 50)
    code = f"```python\n{words}\n```\n\n    {words}\n\n| {words} |\n\n<!-- begin x -->\n{words}\n<!-- end x -->\n"
    assert not any(len(sentence.split()) > 40 for sentence in sentences(code))
    for text in (words, f"Short.\n{words}.", f"- one\n- two\n  {words}", f"**{words}.** Short."):
        assert sum(len(sentence.split()) > 40 for sentence in sentences(code + "\n" + text)) == 1


def test_the_page_on_backends_has_what_they_say() -> None:
    assert f"<!-- begin capabilities -->\n\n{capabilities.table()}\n\n<!--" in capabilities.PAGE.read_text()


@pytest.mark.parametrize("study", ["forward", "attack", "gradient", "recover", "ablate", "train"])
def test_the_short_tables_of_the_comparison_are_cut_from_the_whole_ones(study: str) -> None:
    section = re.search(
        rf"<!-- begin {study} -->\n\n(.*?)\n\n<!-- end {study} -->", COMPARISON.read_text(), re.DOTALL
    )
    assert section
    whole = short.whole(section[1])
    assert whole != section[1] and short.folded(study, whole) == section[1]
    for each in short.SHORT.get(study, ()):
        assert short.cut(whole, each).count("\n") > 2, each.title


PHOTOGRAPHS = {"images/tune-shown.png"}
"""They have no ground."""


@pytest.mark.parametrize("page", sorted((ROOT / "docs").rglob("*.md")), ids=lambda path: path.stem)
def test_a_figure_has_a_light_and_a_dark_version(page: Path) -> None:
    found = re.findall(r"!\[([^\]]*)\]\(([^)]*)\)", page.read_text())
    figures = [(text, name) for text, name in found if name not in PHOTOGRAPHS]
    light = [(text, name.removesuffix("#only-light")) for text, name in figures if "#only-dark" not in name]
    dark = [(text, name.removesuffix("#only-dark")) for text, name in figures if "#only-dark" in name]
    assert all(text for text, _ in figures)
    assert dark == [(text, re.sub(r"(\.\w+)$", r"-dark\1", name)) for text, name in light]
