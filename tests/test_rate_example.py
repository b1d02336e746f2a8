"""The worked example: neither descent ends with a higher cost than it began, and the sizes are those of real files."""

import re
import subprocess
import sys
from pathlib import Path

from PIL import Image

from jpegrad.data import photograph_path

EXAMPLE = Path(__file__).resolve().parents[1] / "examples" / "rate_distortion.py"


def test_the_example_lowers_the_cost(tmp_path: Path) -> None:
    with Image.open(photograph_path("hibiscus")) as picture:
        picture.crop((40, 40, 120, 104)).save(tmp_path / "small.png")
    command = [sys.executable, EXAMPLE, tmp_path / "small.png", "--steps", "12"]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    lines = re.findall(r"^(.+?) +([\d,]+) bytes +([\d.]+) dB +cost +([\d,]+) bytes$", output, re.MULTILINE)
    assert [name for name, *_ in lines] == ["as it is", "pixels", "tables"]
    sizes, costs = ([int(line[i].replace(",", "")) for line in lines] for i in (1, 3))
    assert sizes[1] < sizes[0]
    assert costs[1] <= costs[0]
    assert costs[2] < 0.97 * costs[0]
