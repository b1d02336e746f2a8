"""What the official tools say of bundled photographs: numbers, written by this script where the tools are.

    python tests/oracles/judges.py FOLDER

FOLDER holds ``ssimulacra2`` of jpegli, and ``butteraugli_main``, which prints the maximum and ``3-norm: x`` of jpegli's
``ButteraugliDistance`` and ``ComputeDistanceP`` (libjxl has a tool of this name and these two lines).
"""

import io
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from jpegrad.data import photograph_path

FIGURES = Path(__file__).with_name("judges.json")
# Photograph, left, top, width, height; gray if there are no colours.
PICTURES = {
    "caps": ("caps", 0, 0, 288, 192, "RGB"),
    "coast": ("coast", 0, 0, 250, 250, "RGB"),
    "hibiscus": ("hibiscus", 0, 0, 320, 240, "RGB"),
    "gray": ("portrait", 0, 0, 240, 320, "L"),
    "odd": ("tulips", 11, 7, 133, 101, "RGB"),
    "narrow": ("facades", 40, 30, 17, 201, "RGB"),
    "small": ("facades", 60, 90, 16, 15, "RGB"),
    "low": ("coast", 20, 160, 90, 14, "RGB"),
    "smallest": ("tulips", 100, 90, 8, 8, "RGB"),
}
QUALITIES = (10, 40, 75, 90, 98)


def pair(picture: str, quality: int) -> tuple[np.ndarray, np.ndarray]:
    """The picture, and Pillow's file of it decoded: uint8 ``[H, W]`` or ``[H, W, 3]``."""
    name, left, top, width, height, mode = PICTURES[picture]
    with Image.open(photograph_path(name)) as whole:
        original = whole.crop((left, top, left + width, top + height)).convert(mode)
    file = io.BytesIO()
    original.save(file, "JPEG", quality=quality)
    return np.array(original), np.array(Image.open(file))


def judge(tools: Path, original: np.ndarray, image: np.ndarray) -> dict[str, float]:
    """What the tools print."""
    with tempfile.TemporaryDirectory() as folder:
        names = [str(Path(folder) / f"{i}.png") for i in range(2)]
        for name, pixels in zip(names, (original, image), strict=True):
            Image.fromarray(pixels).save(name)
        score, distances = (
            subprocess.run([tools / tool, *names], capture_output=True, text=True, check=True).stdout.split()
            for tool in ("ssimulacra2", "butteraugli_main")
        )
    return {
        "ssimulacra2": float(score[0]),
        "butteraugli": float(distances[2]),
        "butteraugli_max": float(distances[0]),
    }


if __name__ == "__main__":
    found = {
        f"{picture} {quality}": judge(Path(sys.argv[1]), *pair(picture, quality))
        for picture in PICTURES
        for quality in QUALITIES
    }
    FIGURES.write_text(json.dumps(found, indent=1) + "\n")
