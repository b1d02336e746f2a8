"""The study of a CUDA device, under Triton's interpreter: that it runs whole."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from jpegrad_studies.gpu import SMALL, compared, report
from kernel_cases import TRITON, picture

pytestmark = [
    *TRITON.marks,
    pytest.mark.skipif(not TRITON.interpreted, reason="for machines without a device"),
]


def pictures() -> list[torch.Tensor]:
    return [(255 * picture(3, 32, 48).clamp(0, 1)).to(torch.uint8)]


def test_a_comparison_with_the_reference() -> None:
    found = compared(pictures(), torch.device("cpu"), "4:4:4", "exact", (8, 12))
    assert found["samples"] == 2 * 3 * 8 * 12 and found["differ"] == 0
    assert found["gradient"] < 5e-5 and found["halves"] < 1e-3


def test_no_device_and_no_interpreter_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRITON_INTERPRET")
    with pytest.raises(ValueError, match="expected a CUDA device, or TRITON_INTERPRET=1"):
        report(pictures(), tmp_path / "x.json", **{**SMALL, "device": "cpu"})


@pytest.mark.slow
def test_the_script_of_a_device_runs_whole(tmp_path: Path) -> None:
    root = Path(__file__).resolve().parents[1]
    environment = {**os.environ, "OUT": str(tmp_path), "PYTHON": sys.executable}
    run = subprocess.run(
        [root / "studies" / "device.sh", "--small"], env=environment, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    cells = json.loads((tmp_path / "speed-gpu.json").read_text())["cells"]
    assert cells["exactness"]["differ"] == 0
    (shape,) = (cell for name, cell in cells.items() if name != "exactness")
    assert shape["failed"] == {} and shape["differ from Pillow"] == 0
    ours = [row for row in shape["seconds"] if row.endswith(": jpegrad")]
    assert {"F: jpegrad", "F+B: jpegrad", "soft F+B: jpegrad", "soft encode: jpegrad"} <= set(ours)
