"""Draws the pictures of the README and the home page, light and dark: ``python docs/images/make.py``."""

import io
from pathlib import Path

import numpy as np
import torch
from matplotlib import style
from matplotlib.figure import Figure
from PIL import Image

import jpegrad
from jpegrad.demo.figures import gradient
from jpegrad.demo.study import photograph
from jpegrad_studies.baselines import ALL

HERE = Path(__file__).parent
QUALITY, GAIN = 50, 32
APPROACHES = {"kornia": "kornia 0.9", "reich_soft": "Diff-JPEG, soft", "reich_ste": "Diff-JPEG, STE"}


def pillow(picture: torch.Tensor) -> torch.Tensor:
    """The decoded file of uint8 ``[3, H, W]``, in grey levels."""
    buffer = io.BytesIO()
    Image.fromarray(picture.permute(1, 2, 0).numpy()).save(buffer, "JPEG", quality=QUALITY)
    return torch.from_numpy(np.array(Image.open(buffer))).permute(2, 0, 1).float()


def differences(picture: torch.Tensor) -> list[tuple[str, torch.Tensor]]:
    """The file, and what every differentiable JPEG makes of the picture, less the file, brightened."""
    file, grey = pillow(picture), picture.float()[None]
    found = [(f"Pillow's file, quality {QUALITY}", file.byte())]
    outputs = {
        title: call(grey, torch.tensor([float(QUALITY)]))[0]
        for key, title in APPROACHES.items()
        if (call := ALL[key].call) is not None
    }
    outputs["jpegrad"] = jpegrad.jpeg(grey / 255, QUALITY)[0] * 255
    for title, output in outputs.items():
        apart = (output.round() - file).abs()
        share = (apart > 0).float().mean()
        # 100 % is said of all samples only.
        said = f"{share:.0%} of samples differ" if share else "0 samples differ"
        found.append((f"{title}\n{said}", (GAIN * apart).clamp(0, 255).byte()))
    return found


def gradients(name: str, quality: float) -> list[tuple[str, torch.Tensor]]:
    original = photograph(name)[:, :240, :240]
    image = (original.float() / 255).requires_grad_()
    coded = jpegrad.jpeg(image, quality)
    size = jpegrad.bits(jpegrad.encode(image, quality))
    by_size = torch.autograd.grad(size, image)[0]
    by_error = torch.autograd.grad((coded - image).square().sum(), image)[0]
    file = f"quality {quality:g}: {int(size) // 8:,} bytes"
    return [
        ("original", original),
        (file, (coded.detach() * 255).round().byte()),
        ("gradient of the error", gradient(by_error)),
        ("gradient of the file's size", gradient(by_size)),
    ]


def draw(
    name: str, rows: list[list[tuple[str, torch.Tensor]]], size: tuple[float, float], title: str = ""
) -> None:
    for look, suffix in (("default", ""), ("dark_background", "-dark")):
        with style.context(look):
            figure = Figure(figsize=size, layout="constrained")
            panels = [panel for row in rows for panel in row]
            for axes, (label, picture) in zip(
                figure.subplots(len(rows), len(rows[0])).flat, panels, strict=True
            ):
                axes.imshow(picture.permute(1, 2, 0).numpy())
                axes.set_title(label, fontsize=15)
                axes.set(xticks=[], yticks=[])
            figure.suptitle(title, fontsize=15)
            figure.savefig(HERE / f"{name}{suffix}.png", dpi=75, transparent=True)


def main() -> None:
    picture = photograph("portrait")[:, :240, :240]
    caption = f"a differentiable JPEG's output less the real file, {GAIN} times as bright"
    draw("difference", [differences(picture)], (14, 3.9), caption)
    draw("gradients", [gradients("portrait", 10), gradients("hibiscus", 25)], (12, 6.4))


if __name__ == "__main__":
    main()
