"""Draws the picture of the README: ``python docs/images/make.py``."""

from pathlib import Path

import torch
from matplotlib.figure import Figure

import jpegrad
from jpegrad.demo.figures import gradient
from jpegrad.demo.study import photograph


def panels(name: str, quality: float) -> list[tuple[str, torch.Tensor]]:
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


def main() -> None:
    figure = Figure(figsize=(12, 6.4), layout="constrained")
    rows = [panels("portrait", 10), panels("hibiscus", 25)]
    for axes, (title, picture) in zip(
        figure.subplots(2, 4).flat, [p for row in rows for p in row], strict=True
    ):
        axes.imshow(picture.permute(1, 2, 0).numpy())
        axes.set(title=title, xticks=[], yticks=[])
    figure.savefig(Path(__file__).with_name("readme.png"), dpi=75)


if __name__ == "__main__":
    main()
