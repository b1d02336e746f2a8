"""The recipes as notebooks and as figures.

python docs/notebooks.py                  # every notebook, executed, beside its page
python docs/notebooks.py figures [NAME …] # every figure, light and dark, at full size, and how long it took
"""

import os
import re
import resource
import sys
import tempfile
import time
from pathlib import Path

DOCS = Path(__file__).resolve().parent
PAGES = sorted([*(DOCS / "recipes").glob("*.md"), DOCS / "forensics.md"])
CODE = re.compile(r"^```python[^\n]*\n(.*?)^```$\n?", re.DOTALL | re.MULTILINE)
SAVED = re.compile(r'savefig\("([\w-]+\.png)"\)')


def blocks(page: str) -> list[tuple[str, str]]:
    """Prose and code of a page in turns, as notebooks name them."""
    found, end = [], 0
    for block in CODE.finditer(page):
        found += [("markdown", page[end : block.start()].strip()), ("code", block[1].rstrip())]
        end = block.end()
    return [(kind, text) for kind, text in [*found, ("markdown", page[end:].strip())] if text]


def notebook(page: str) -> dict[str, object]:
    """The page as a notebook that is not yet executed."""
    cells: list[dict[str, object]] = []
    for kind, text in blocks(page):
        if kind == "markdown":
            # A notebook shows its own figure, and knows of no dark page.
            text = re.sub(r"!\[[^\]]*\]\([^)]*(#only-dark|images/recipe-[^)]*)\)\n?", "", text)
            text = text.replace("#only-light", "").replace(".md)", ".html)").replace(".md#", ".html#")
            text = re.sub(r"^\[Download[^\n]*\n+", "", text, flags=re.MULTILINE)
        else:
            # The picture is a file; a notebook shows it.
            for name in SAVED.findall(text):
                text += f'\n\nfrom IPython.display import Image as Picture\n\nPicture("{name}")'
        if text.strip():
            cell: dict[str, object] = {"cell_type": kind, "metadata": {}, "source": text.strip()}
            if kind == "code":
                # The libraries of other people need not be there.
                if re.search(r"^from jpegrad\.compat|^import kornia", text, re.MULTILINE):
                    cell["metadata"] = {"tags": ["raises-exception"]}
                cell |= {"execution_count": None, "outputs": []}
            cells.append(cell | {"id": f"cell-{len(cells)}"})
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return {"cells": cells, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}


def execute(page: Path) -> None:
    """Write the notebook beside its page, with what its cells put out."""
    import nbformat
    from nbclient import NotebookClient

    made = nbformat.from_dict(notebook(page.read_text()))
    with tempfile.TemporaryDirectory() as folder:
        NotebookClient(made, timeout=600, resources={"metadata": {"path": folder}}).execute()
    for cell in made.cells:
        # Times of execution change from run to run.
        cell.metadata.pop("execution", None)
    made.metadata.pop("language_info", None)
    nbformat.write(made, page.with_suffix(".ipynb"))


def draw(page: Path) -> float:
    """Run a page at full size and keep its figure, light and dark; the seconds of processor time of one run."""
    from matplotlib import style

    from jpegrad_studies.figures import LOOKS

    namespace: dict[str, object] = {"__name__": "__main__"}
    begin, usage = os.getcwd(), resource.getrusage(resource.RUSAGE_SELF)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for kind, text in blocks(page.read_text()):
            if kind == "markdown":
                continue
            source = compile(text.replace("FULL = False", "FULL = True"), str(page), "exec")
            for suffix, look in LOOKS.items() if SAVED.search(text) else [("", "default")]:
                with style.context([look, {"savefig.transparent": True, "savefig.dpi": 110}]):
                    try:
                        exec(source, namespace)
                    except ModuleNotFoundError as error:
                        # Of the pipelines, those that are installed.
                        print(f"{page.stem}: left out, {error}")
                for name in SAVED.findall(text):
                    Path(name).replace(DOCS / "images" / f"recipe-{page.stem}{suffix}.png")
        os.chdir(begin)
    now = resource.getrusage(resource.RUSAGE_SELF)
    return now.ru_utime + now.ru_stime - usage.ru_utime - usage.ru_stime


def main() -> None:
    drawing, *names = sys.argv[1:] or ["notebooks"]
    for page in PAGES:
        if names and page.stem not in names:
            continue
        began = time.perf_counter()
        if drawing == "figures":
            print(f"{page.stem}: {draw(page):.0f} s of processor time", flush=True)
        else:
            execute(page)
            print(f"{page.with_suffix('.ipynb').name}: {time.perf_counter() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
