"""Draws the pictures that no study makes, light and dark: ``python docs/images/make.py``."""

import io
from pathlib import Path

import numpy as np
import torch
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from PIL import Image

import jpegrad
from jpegrad.demo.study import photograph
from jpegrad.page import gradient
from jpegrad.surrogates import ALL as SURROGATES
from jpegrad.surrogates import Component
from jpegrad_studies.baselines import ALL
from jpegrad_studies.figures import GREY, OTHERS, OURS, drawn

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


def pictures(
    name: str, rows: list[list[tuple[str, torch.Tensor]]], size: tuple[float, float], title: str = ""
) -> None:
    def draw(figure: Figure) -> None:
        panels = [panel for row in rows for panel in row]
        for axes, (label, picture) in zip(figure.subplots(len(rows), len(rows[0])).flat, panels, strict=True):
            axes.imshow(picture.permute(1, 2, 0).numpy())
            axes.set_title(label, fontsize=15)
            axes.set(xticks=[], yticks=[])
        figure.suptitle(title, fontsize=15)

    drawn(HERE / f"{name}.png", draw, size, dpi=75)


def surrogates(figure: Figure) -> None:
    """The soft function and the slope of every record, at the frequency (0, 1) of luma and table entry 16."""
    torch.manual_seed(0)
    u = torch.linspace(-2.5, 2.5, 1001)
    coefficients = u[:, None, None].expand(-1, 8, 8)
    step = torch.full((8, 8), 16.0)
    panels = list(figure.subplots(3, 5, sharex=True, sharey=True).flat)
    for axes, (name, record) in zip(panels, SURROGATES.items(), strict=False):
        soft, slope = (
            function(coefficients, step, Component("Y"))[:, 0, 1] for function in (record.soft, record.slope)
        )
        axes.plot(u, u.round(), color=GREY, linewidth=0.8, label="rounding")
        axes.plot(u, soft, ",", color=OURS) if name == "noise" else axes.plot(u, soft, color=OURS)
        axes.plot([], color=OURS, label="soft")
        axes.plot(u, slope, color=OTHERS[0], label="slope")
        axes.set_title(name, fontsize=11)
        axes.set(xlim=(-2.5, 2.5), ylim=(-2.7, 4.2))
        axes.grid(alpha=0.3)
    for axes in panels[len(SURROGATES) :]:
        axes.set_axis_off()
    first = figure.axes[0]
    figure.legend(*first.get_legend_handles_labels(), loc="lower right")
    figure.supxlabel("coefficient / table entry", fontsize=11)


def table_sets(figure: Figure) -> None:
    """Luma above chroma of every set."""
    sets = {"annex_k(50)": jpegrad.tables.annex_k(50)}
    sets |= {name: jpegrad.tables.load(name) for name in jpegrad.data.table_names()}
    columns = -(-len(sets) // 2)
    grid = figure.subplots(4, columns)
    for i, (name, tables) in enumerate(sets.items()):
        row, column = divmod(i, columns)
        for plane, table in enumerate(tables[:2]):
            axes = grid[2 * row + plane, column]
            drawing = axes.imshow(table, cmap="viridis", norm=LogNorm(1, 255))
            axes.set(xticks=[], yticks=[])
            for y, x in ((0, 0), (0, 7), (7, 0), (7, 7)):
                value = float(table[y, x])
                # What is legible on the colour.
                color = "black" if value > 60 else "white"
                axes.text(x, y, f"{value:.0f}", ha="center", va="center", fontsize=6, color=color)
        grid[2 * row, column].set_title(name, fontsize=10)
    for axes in grid.flat:
        if not axes.images:
            axes.set_axis_off()
    figure.colorbar(drawing, ax=grid, shrink=0.5, label="table entry")


def main() -> None:
    picture = photograph("portrait")[:, :240, :240]
    caption = f"a differentiable JPEG's output less the real file, {GAIN} times as bright"
    pictures("difference", [differences(picture)], (14, 3.9), caption)
    pictures("gradients", [gradients("portrait", 10), gradients("hibiscus", 25)], (12, 6.4))
    drawn(HERE / "surrogates.png", surrogates, (11, 6.4))
    drawn(HERE / "tables.png", table_sets, (11, 6.2))


if __name__ == "__main__":
    main()
