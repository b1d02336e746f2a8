"""What a package manager sees: the version, the dependencies, and the library without its extras."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import jpegrad

ROOT = Path(__file__).resolve().parents[1]
# Run in place of sitecustomize: a process in which nothing of the extra `cli` is installed.
WITHOUT_EXTRA = """
import sys
for name in {names!r}:
    sys.modules[name] = None
"""
EXTRA = ("matplotlib", "rich", "typer")


def run(*command: str, without: tuple[str, ...] = (), folder: Path) -> subprocess.CompletedProcess[str]:
    (folder / "sitecustomize.py").write_text(WITHOUT_EXTRA.format(names=without))
    path = os.pathsep.join([str(folder), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, *command],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_an_installation_brings_three_packages_and_the_extra_the_command_line() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    listed = re.search(r"^dependencies = \[\n(.*?)^\]", text, re.MULTILINE | re.DOTALL)
    extra = re.search(r"^cli = \[\n(.*?)^\]", text, re.MULTILINE | re.DOTALL)
    assert listed and extra
    name = re.compile(r'^    "([\w-]+)', re.MULTILINE)
    assert set(name.findall(listed[1])) == {"torch", "numpy", "pillow"}
    assert set(name.findall(extra[1])) == set(EXTRA)


def test_continuous_integration_runs_every_python_that_is_claimed() -> None:
    claimed = (ROOT / "pyproject.toml").read_text()
    versions = re.findall(r'"Programming Language :: Python :: (3\.\d+)"', claimed)
    assert f'requires-python = ">={versions[0]}"' in claimed
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text()
    (run,) = re.findall(r"^ +python: \[(.*)\]$", workflow, re.MULTILINE)
    assert re.findall(r'"([\d.]+)"', run) == versions


@pytest.mark.parametrize("missing", EXTRA)
def test_without_its_extra_the_command_says_what_to_install(missing: str, tmp_path: Path) -> None:
    arguments = ["demo", "-o", str(tmp_path / "demo.html")] if missing == "matplotlib" else ["--version"]
    done = run("-m", "jpegrad", *arguments, without=(missing,), folder=tmp_path)
    line = f"error: the command line needs the package {missing}: pip install 'jpegrad[cli]'\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", line)


@pytest.mark.parametrize(
    "arguments",
    ["--version", "--help", "jpeg --help", "decode --help", "inspect --help", "optimize --help"],
    ids=lambda x: x.replace(" ", "-"),
)
def test_help_and_version_need_no_pytorch(arguments: str, tmp_path: Path) -> None:
    slow = ("torch", "numpy", "PIL", "matplotlib")
    done = run("-m", "jpegrad", *arguments.split(), without=slow, folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "") and "jpegrad" in done.stdout


def test_usage_errors_need_no_pytorch(tmp_path: Path) -> None:
    done = run("-m", "jpegrad", "jpeg", "photo.png", without=("torch", "numpy", "PIL"), folder=tmp_path)
    assert (done.returncode, done.stderr) == (2, "error: Missing option '--output' / '-o'.\n")


def test_a_broken_installation_keeps_its_traceback(tmp_path: Path) -> None:
    done = run("-m", "jpegrad", "size", "nope.png", without=("jpegrad.rate",), folder=tmp_path)
    assert done.returncode == 1 and "Traceback" in done.stderr and "jpegrad.rate" in done.stderr


LIBRARY = """
import importlib, pkgutil
import torch, jpegrad
for module in pkgutil.walk_packages(jpegrad.__path__, "jpegrad."):
    part = module.name.split(".")[1]
    if module.name.removeprefix("jpegrad.compat.") in ("albumentations", "art", "kornia", "torchvision"):
        continue
    if part not in ("cli", "commands", "demo", "__main__") and "triton" not in module.name and "._" not in module.name:
        importlib.import_module(module.name)
tuned = jpegrad.tune.compress(torch.rand(3, 48, 64), steps=2)
print(len(tuned.to_bytes()), jpegrad.__version__)
"""


def test_the_library_works_without_the_extra(tmp_path: Path) -> None:
    done = run("-c", LIBRARY, without=EXTRA, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[0]) > 100


def test_one_version_everywhere(tmp_path: Path) -> None:
    assert f"\nversion: {jpegrad.__version__}\n" in (ROOT / "CITATION.cff").read_text()
    done = run("-m", "jpegrad", "--version", folder=tmp_path)
    assert done.stdout == f"jpegrad {jpegrad.__version__}\n", done.stderr
