"""The notebooks beside the recipes hold what the pages say, and run."""

import importlib.util
import json
from pathlib import Path
from types import ModuleType

import pytest

DOCS = Path(__file__).resolve().parents[1] / "docs"


def load() -> ModuleType:
    found = importlib.util.spec_from_file_location("notebooks", DOCS / "notebooks.py")
    assert found is not None and found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


notebooks = load()


@pytest.mark.parametrize("page", notebooks.PAGES, ids=lambda page: page.stem)
def test_a_notebook_is_its_page(page: Path) -> None:
    made = notebooks.notebook(page.read_text())
    written = json.loads(page.with_suffix(".ipynb").read_text())
    sources = [("".join(cell["source"]), cell["cell_type"]) for cell in written["cells"]]
    assert sources == [(cell["source"], cell["cell_type"]) for cell in made["cells"]]
    assert f"({page.stem}.ipynb)" in page.read_text()
    outputs = [output for cell in written["cells"] for output in cell.get("outputs", ())]
    assert any("image/png" in output.get("data", ()) for output in outputs)


@pytest.mark.slow
@pytest.mark.parametrize("page", notebooks.PAGES, ids=lambda page: page.stem)
def test_a_notebook_runs(page: Path, tmp_path: Path) -> None:
    pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    copy = tmp_path / page.name
    copy.write_text(page.read_text())
    notebooks.execute(copy)
    cells = json.loads(copy.with_suffix(".ipynb").read_text())["cells"]
    assert all(cell["execution_count"] for cell in cells if cell["cell_type"] == "code")


def test_code_and_prose_take_turns() -> None:
    page = (
        "# A\n\n![x](a.png#only-light)\n![x](a.png#only-dark)\n\n```python\na = 1\n```\n\nSee [b](b.md#c).\n"
    )
    cells = notebooks.notebook(page)["cells"]
    assert [cell["cell_type"] for cell in cells] == ["markdown", "code", "markdown"]
    assert [cell["source"] for cell in cells] == ["# A\n\n![x](a.png)", "a = 1", "See [b](b.html#c)."]
