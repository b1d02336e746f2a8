import os
from collections.abc import Callable
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from command import png as png
from command import run as run
from jpegrad.data import photograph_names, photograph_path

if not torch.cuda.is_available():
    # Triton decides when it is first imported, by whichever test, whether its kernels are interpreted.
    os.environ.setdefault("TRITON_INTERPRET", "1")

hypothesis.settings.register_profile("jpegrad", deadline=None, derandomize=True, max_examples=50)
hypothesis.settings.load_profile("jpegrad")


def pytest_configure(config: pytest.Config) -> None:
    # On pictures this small more threads only wait for one another; the tests are up to nine times slower with them.
    torch.set_num_threads(1)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("whole_graph") and torch.__version__ < "2.13":
        pytest.skip("PyTorch before 2.13 breaks the graph")
    if item.get_closest_marker("gpu") is None or torch.cuda.is_available():
        return
    if os.environ.get("REQUIRE_GPU") == "1":
        pytest.fail("REQUIRE_GPU=1, and torch sees no CUDA device")
    pytest.skip("needs a CUDA device")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, [])]
    counts = [value for report in reports for name, value in report.user_properties if name == "samples"]
    if counts:
        compared, differing = (sum(column) for column in zip(*counts, strict=True))
        terminalreporter.write_line(
            f"{compared:,} samples compared with Pillow and OpenCV, {differing:,} differ"
        )


@pytest.fixture
def tally(record_property: Callable[[str, object], None]) -> Callable[[np.ndarray, np.ndarray], None]:
    """Compare samples, expect no difference, and count them for the summary line."""

    def compare(found: np.ndarray, expected: np.ndarray) -> None:
        assert found.shape == expected.shape
        differing = int((found.astype(int) != expected).sum())
        record_property("samples", (expected.size, differing))
        assert differing == 0, f"{differing} of {expected.size} samples differ"

    return compare


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def photographs() -> dict[str, np.ndarray]:
    """Every bundled photograph as uint8 [H, W, 3]; treat as read-only."""
    pictures = {}
    for name in photograph_names():
        with Image.open(photograph_path(name)) as picture:
            pictures[name] = np.array(picture.convert("RGB"))
            pictures[name].flags.writeable = False
    return pictures


@pytest.fixture(scope="session")
def photograph(photographs: dict[str, np.ndarray]) -> Callable[[str], torch.Tensor]:
    """A bundled photograph by name, as a fresh uint8 tensor [3, H, W]."""

    def load(name: str) -> torch.Tensor:
        return torch.from_numpy(photographs[name].copy()).permute(2, 0, 1).contiguous()

    return load


@pytest.fixture(scope="session")
def photo() -> Tensor:
    """A photograph as uint8 ``[3, H, W]``."""
    with Image.open(photograph_path("portrait")) as picture:
        return torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1).contiguous()


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory, photo: Tensor) -> Path:
    """Five small pictures, some in a folder below."""
    path = tmp_path_factory.mktemp("pictures")
    (path / "below").mkdir()
    for i in range(5):
        piece = photo[:, 48 * i : 48 * i + 64 + i, 32:104].permute(1, 2, 0).numpy()
        Image.fromarray(piece).save(path / "below" / f"{i}.png" if i % 2 else path / f"{i}.png")
    return path
