"""Files of equal size side by side: pieces of them, as a viewer shows them, beside the original.

    jpegrad bench tune_shown --judges FOLDER --images FOLDER [--out FILE]

The encoders are those of `tune_judged`. Each file of theirs is the largest that is not larger than ours.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from jpegrad import tune
from jpegrad_studies.common import CHECKOUT, RESULTS, ROOT, load_images
from jpegrad_studies.tune_judged import ANCHORS, Coder

FIGURE = ROOT / "docs" / "images" / "tune-shown.png" if CHECKOUT else RESULTS / "tune-shown.png"
PIECES = (("kodim03", 0.3, (300, 130)), ("kodim08", 0.9, (330, 240)), ("kodim05", 0.7, (420, 60)))
"""Picture, bits per pixel, left and top of the piece."""
WIDTH, HEIGHT, SCALE = 144, 100, 2
COLUMNS = ("jpegli 4:2:0", "mozjpeg 4:2:0")


def largest(tools: Path, image: Tensor, name: str, most: int, folder: Path) -> Path:
    """The file of the highest quality that has at most so many bytes."""
    source, output = folder / "source.png", folder / "file.jpg"
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(source)

    def made(quality: int) -> int:
        coder: Coder = ANCHORS[name](quality, 0)
        coder(tools, source, output, image)
        return output.stat().st_size

    low, high = 1, 100
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if made(middle) <= most else (low, middle)
    made(low)
    return output


def piece(picture: Image.Image, corner: tuple[int, int]) -> Image.Image:
    left, top = corner
    found = picture.convert("RGB").crop((left, top, left + WIDTH, top + HEIGHT))
    return found.resize((SCALE * WIDTH, SCALE * HEIGHT), Image.Resampling.NEAREST)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="jpegrad bench tune_shown", description=__doc__)
    parser.add_argument("--judges", type=Path, required=True, help="folder of the official tools")
    parser.add_argument("--images", type=Path, required=True, help="folder of the Kodak photographs")
    parser.add_argument("--steps", type=int, default=16, help="of descent (default: 16)")
    parser.add_argument("--out", type=Path, default=FIGURE, help="(default: %(default)s)")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    images = load_images(options.images, multiple=1)
    rows = []
    for name, bits, corner in PIECES:
        image = images[name]
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            target = tune.BitsPerPixel(bits)
            ours = folder / "ours.jpg"
            made = tune.compress(
                image, metric="perceptual", target=target, steps=options.steps, progressive=True
            )
            ours.write_bytes(made.to_bytes())
            sizes = [made.size]
            with Image.open(ours) as shown:
                row = [piece(Image.fromarray(image.permute(1, 2, 0).numpy()), corner), piece(shown, corner)]
            for anchor in COLUMNS:
                with Image.open(largest(options.judges, image, anchor, made.size, folder)) as shown:
                    row.append(piece(shown, corner))
                    sizes.append((folder / "file.jpg").stat().st_size)
        print(f"{name}: {', '.join(map(str, sizes))} bytes (ours, {', '.join(COLUMNS)})")
        rows.append(np.concatenate([np.array(each) for each in row], 1))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.concatenate(rows)).save(options.out, optimize=True)


if __name__ == "__main__":
    main()
