import os
from collections.abc import Callable

import hypothesis
import numpy as np
import pytest
import torch
from PIL import Image

from jpegrad.data import photograph_names, photograph_path

hypothesis.settings.register_profile("jpegrad", deadline=None, derandomize=True, max_examples=50)
hypothesis.settings.load_profile("jpegrad")


def pytest_configure(config: pytest.Config) -> None:
    if "PYTEST_XDIST_WORKER" in os.environ:
        torch.set_num_threads(1)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") is None or torch.cuda.is_available():
        return
    if os.environ.get("REQUIRE_GPU") == "1":
        pytest.fail("REQUIRE_GPU=1, and torch sees no CUDA device")
    pytest.skip("needs a CUDA device")


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
