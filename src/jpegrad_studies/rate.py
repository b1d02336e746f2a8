"""Does the slope of the size predict the real file?

At each photograph and quality every rate model predicts how the coded data grows or shrinks when tables, quality, image
or levels move; the true change is that of the real file. Steps of tables are taken in the logarithm of the entries,
slope · entry · log(new / old), in which the size is straightest.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from scipy.stats import spearmanr
from torch import Tensor

import jpegrad
from jpegrad.rate import ALL, RateModel, marginal_costs
from jpegrad.rate.size import header_bytes
from jpegrad_studies.common import CHECKOUT, RESULTS, ROOT, Results, load_images, markdown, publish, track

if TYPE_CHECKING:
    from matplotlib.figure import Figure

QUALITIES = (5, 10, 20, 35, 50, 75, 90, 95)
HUFFMAN = ("default", "optimized")
HEIGHT, WIDTH = 256, 384
SEED = 0
PAGE = ROOT / "docs" / "rate.md"
FIGURE = ROOT / "docs" / "images" / "rate.png"
TABLES = ("table scale", "table signs", "one AC entry", "DC entry", "quality")
IMAGES = ("blur", "contrast", "noise")
LEVELS = ("levels to zero", "one level ±1")
OWN = ("table descent", "image descent")
BOTH_ENDS = "marginal, mean slope of both ends"
ONE_SIDED = "marginal_costs, one-sided"
RANGE = {"value_range": (0.0, 255.0)}

Move = tuple[str, Tensor, Tensor]


def legal(tables: Tensor) -> Tensor:
    return tables.round().clamp(1, 255)


def tenth(entries: Tensor) -> Tensor:
    """A tenth of each entry, at least 1."""
    return (entries / 10).round().clamp(min=1)


def blurred(image: Tensor) -> Tensor:
    padded = torch.nn.functional.pad(image[None], (1, 1, 1, 1), "replicate")[0]
    rows = (padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]) / 4
    return (rows[..., :-2] + 2 * rows[..., 1:-1] + rows[..., 2:]) / 4


def table_moves(image: Tensor, tables: Tensor, quality: int, random: torch.Generator) -> Iterable[Move]:
    for factor in (0.9, 0.95, 1.05, 1.1):
        yield "table scale", image, legal(tables * factor)
    for _ in range(4):
        signs = torch.randint(0, 2, tables.shape, generator=random) * 2 - 1
        yield "table signs", image, legal(tables + signs * tenth(tables))
    for _ in range(6):
        table, place, up = (int(torch.randint(0, n, (), generator=random)) for n in (2, 23, 2))
        yield "one AC entry", image, moved_entry(tables, table, jpegrad.tables.ZIGZAG[1 + place], 2 * up - 1)
    for table in (0, 1):
        for sign in (-1, 1):
            yield "DC entry", image, moved_entry(tables, table, 0, sign)
    for change in (-3, -2, -1, 1, 2, 3):
        yield "quality", image, jpegrad.tables.annex_k(quality + change)


def moved_entry(tables: Tensor, table: int, place: int, sign: int) -> Tensor:
    step = torch.zeros_like(tables).flatten(1)
    step[table, place] = sign
    return legal(tables + step.view_as(tables) * tenth(tables))


def image_moves(image: Tensor, tables: Tensor, random: torch.Generator) -> Iterable[Move]:
    for amount in (0.15, 0.3):
        yield "blur", (image + amount * (blurred(image) - image)).round(), tables
    mean = image.mean((1, 2), keepdim=True)
    for factor in (0.96, 1.04):
        yield "contrast", (mean + (image - mean) * factor).round().clamp(0, 255), tables
    for _ in range(2):
        signs = torch.randint(0, 2, image.shape, generator=random) * 2 - 1
        yield "noise", (image + signs).clamp(0, 255), tables


def level_moves(
    levels: tuple[Tensor, ...], random: torch.Generator
) -> Iterable[tuple[str, tuple[Tensor, ...]]]:
    """Moves of AC levels."""

    def chance(level: Tensor, probability: float) -> Tensor:
        chosen = torch.rand(level.shape, generator=random) < probability
        chosen[..., 0, 0] = False
        return chosen

    for probability in (0.01, 0.03, 0.1):
        yield "levels to zero", tuple(x - x.sign() * chance(x, probability) for x in levels)
        signs = [torch.randint(0, 2, x.shape, generator=random) * 2 - 1 for x in levels]
        yield (
            "levels ±1",
            tuple(x + s * chance(x, probability / 3) for x, s in zip(levels, signs, strict=True)),
        )
    for _ in range(8):
        # Half of the single moves are at levels that are not zero, or nearly all would be.
        luma = levels[0].clone()
        flat = luma.view(-1, 64)
        eligible = (
            (flat != 0) if torch.rand((), generator=random) < 0.5 else torch.ones_like(flat, dtype=torch.bool)
        )
        eligible[:, 0] = False
        places = eligible.nonzero()
        row, place = places[int(torch.randint(0, len(places), (), generator=random))].tolist()
        flat[row, place] += 1 if torch.rand((), generator=random) < 0.5 else -1
        yield "one level ±1", (luma, *levels[1:])


def pillow_size(image: Tensor, tables: Tensor, huffman: str) -> int:
    """Bytes of Pillow's file."""
    file = io.BytesIO()
    entries = [table.flatten().int().tolist() for table in tables]
    pixels = np.ascontiguousarray(image.byte().permute(1, 2, 0).numpy())
    Image.fromarray(pixels).save(
        file, "JPEG", qtables=entries, subsampling="4:2:0", optimize=huffman == "optimized"
    )
    return len(file.getvalue())


def study(image: Tensor, quality: int, huffman: str) -> dict[str, Any]:
    """One photograph [3, H, W] at one quality: true and predicted changes in bits, by family and model."""
    random = torch.Generator().manual_seed(SEED + quality)
    tables = jpegrad.tables.annex_k(quality)

    @torch.no_grad()
    def size(coefficients: jpegrad.Coefficients) -> float:
        return jpegrad.bits(coefficients, huffman=huffman).item()

    @torch.no_grad()
    def size_of(image: Tensor, tables: Tensor) -> float:
        return size(jpegrad.encode(image, tables=tables, **RANGE))

    leaves = image.clone().requires_grad_(), tables.clone().requires_grad_()
    coefficients = jpegrad.encode(leaves[0], tables=leaves[1], **RANGE)
    before = size(coefficients)
    if before != 8 * pillow_size(image, tables, huffman):
        raise RuntimeError(f"the size of the file at quality {quality} differs from Pillow's")
    plain = replace(
        coefficients.detach(), levels=tuple(x.detach().requires_grad_() for x in coefficients.levels)
    )
    costs = marginal_costs(plain, huffman=huffman)
    moves = [*table_moves(image, tables, quality, random), *image_moves(image, tables, random)]
    edits = list(level_moves(tuple(x.detach() for x in plain.levels), random))
    families: dict[str, dict[str, list[float]]] = {}

    def record(family: str, name: str, value: Tensor | float) -> None:
        families.setdefault(family, {}).setdefault(name, []).append(
            round(value.item() if isinstance(value, Tensor) else value, 1)
        )

    def slopes(
        coefficients: jpegrad.Coefficients, model: RateModel, leaves: tuple[Tensor, ...]
    ) -> tuple[Tensor, ...]:
        bits = jpegrad.bits(coefficients, huffman=huffman, rate=model)
        return torch.autograd.grad(bits, leaves, retain_graph=True)

    def predicted(slopes: tuple[Tensor, ...], at: Tensor, pixels: Tensor, entries: Tensor) -> Tensor:
        """Change along a move, by slopes to image and tables; ``at`` are the tables where these were taken."""
        return (slopes[0] * (pixels - image)).sum() + (slopes[1] * at * (entries / tables).log()).sum()

    for family, pixels, entries in moves:
        record(family, "true", size_of(pixels, entries) - before)
    for family, levels in edits:
        record(family, "true", size(replace(plain, levels=levels)) - before)
        record(family, ONE_SIDED, one_sided(costs, plain.levels, levels))

    own: dict[str, dict[str, list[list[float]]]] = {family: {} for family in OWN}
    for name, model in ALL.items():
        found = slopes(coefficients, model, leaves)
        by_levels = slopes(plain, model, plain.levels)
        for family, pixels, entries in moves:
            record(family, name, predicted(found, tables, pixels, entries))
            if model is ALL["marginal"] and family in (*TABLES, "noise"):
                moved = pixels.clone().requires_grad_(), entries.clone().requires_grad_()
                there = slopes(jpegrad.encode(moved[0], tables=moved[1], **RANGE), model, moved)
                both = predicted(found, tables, pixels, entries) + predicted(there, entries, pixels, entries)
                record(family, BOTH_ENDS, both / 2)
        for family, levels in edits:
            record(
                family,
                name,
                sum((g * (x - y)).sum() for g, x, y in zip(by_levels, levels, plain.levels, strict=True)),
            )
        for family, (pixels, entries) in own_descents(image, tables, *found):
            change = predicted(found, tables, pixels, entries).item()
            own[family].setdefault(name, []).append([size_of(pixels, entries) - before, round(change, 1)])
    return {"bits": before - 8 * int(header_bytes(coefficients)), "families": families, "own": own}


def one_sided(costs: list[tuple[Tensor, Tensor]], before: Sequence[Tensor], after: Sequence[Tensor]) -> float:
    """Sum of the exact costs of levels that move by one."""
    total = 0.0
    for (up, down), old, new in zip(costs, before, after, strict=True):
        total += (
            torch.where(new.abs() > old.abs(), up, torch.where(new.abs() < old.abs(), down, 0.0)).sum().item()
        )
    return total


def own_descents(
    image: Tensor, tables: Tensor, by_image: Tensor, by_tables: Tensor
) -> Iterable[tuple[str, tuple[Tensor, Tensor]]]:
    """Against a model's own slope: entries by 5 % (mean square, in the logarithm); the steepest samples by 1."""
    slope = by_tables * tables
    step = 0.05 * slope / slope.square().mean().sqrt().clamp(min=1e-9)
    yield "table descent", (image, legal(tables * (-step).clamp(-0.3, 0.3).exp()))
    threshold = by_image.abs().flatten().kthvalue(int(0.9 * by_image.numel())).values
    steep = by_image.abs() > threshold
    yield "image descent", ((image - by_image.sign() * steep).clamp(0, 255), tables)


def descent(image: Tensor, quality: int, model: RateModel, steps: int = 15) -> dict[str, float]:
    """Minimise squared error + λ · bits over the pixels; λ is the trade-off of the quality scale itself."""
    with torch.no_grad():
        ends = [jpegrad.encode(image, quality=quality + change, **RANGE) for change in (-5, 5)]
        errors = [(jpegrad.decode(c) - image).square().sum() for c in ends]
        sizes = [jpegrad.bits(c, huffman="optimized") for c in ends]
        trade_off = (errors[0] - errors[1]) / (sizes[1] - sizes[0])
    pixels = image.clone().requires_grad_()
    optimizer = torch.optim.Adam([pixels], lr=0.4, betas=(0.8, 0.95))
    costs, bits = [], []
    for _ in range(steps + 1):
        coefficients = jpegrad.encode(pixels, quality=quality, **RANGE)
        size = jpegrad.bits(coefficients, huffman="optimized", rate=model)
        cost = (jpegrad.decode(coefficients) - image).square().sum() + trade_off * size
        costs.append(cost.item())
        bits.append(size.item())
        optimizer.zero_grad()
        cost.backward()
        optimizer.step()
    return {"cost": costs[-1] / costs[0], "bits": bits[-1] / bits[0]}


def run(directory: Path | None, limit: int | None, path: Path) -> Results:
    images = {name: crop(image) for name, image in load_images(directory, limit).items()}
    sizes = {name: list(image.shape[1:]) for name, image in images.items()}
    results = Results(path, {"images": sizes, "seed": SEED, "models": list(ALL)})
    jobs: dict[str, Callable[[], Any]] = {}
    for name, image in images.items():
        for quality in QUALITIES:
            for huffman in HUFFMAN:
                jobs[f"{name}/{quality}/{huffman}"] = lambda i=image, q=quality, h=huffman: study(i, q, h)
        for quality in (20, 60):
            small = image[:, :128, :192]
            jobs[f"{name}/{quality}/descent"] = lambda i=small, q=quality: {
                model: descent(i, q, record) for model, record in ALL.items()
            }
    for key in track(results.missing(jobs), description="rate"):
        results.add(key, jobs[key]())
    return results


def crop(image: Tensor) -> Tensor:
    """The middle of a photograph, float in 0 … 255."""
    height, width = image.shape[1:]
    top, left = (max(0, (side - most) // 2) for side, most in ((height, HEIGHT), (width, WIDTH)))
    return image[:, top : top + HEIGHT, left : left + WIDTH].float().contiguous()


def pairs(results: Results, family: str, model: str, quality: int | None = None) -> np.ndarray:
    """(predicted, true) relative changes, [n, 2]."""
    found = []
    for key, cell in results.cells.items():
        _, q, kind = key.split("/")
        if kind == "descent" or quality not in (None, int(q)):
            continue
        if family in OWN:
            true, predicted = zip(*cell["own"][family][model], strict=True)
        else:
            true, predicted = cell["families"][family]["true"], cell["families"][family][model]
        found.append(np.array([predicted, true]).T / cell["bits"])
    return np.concatenate(found)


def statistics(pair: np.ndarray) -> dict[str, float]:
    predicted, true = pair.T
    error = np.sqrt(np.square(predicted - true).sum() / np.square(true).sum())
    if not predicted.any():
        return {"r": 0.0, "rho": 0.0, "slope": np.nan, "error": error}
    return {
        "r": np.corrcoef(predicted, true)[0, 1],
        "rho": spearmanr(predicted, true).statistic,
        "slope": predicted @ true / (predicted @ predicted),
        "error": error,
    }


def compact(pair: np.ndarray) -> str:
    found = statistics(pair)
    return f"{found['r']:.3f} / {found['slope']:.2f} / {found['error']:.2f}".replace("nan", "–")


def tables(results: Results) -> str:
    """The study's tables in Markdown."""
    count = len(results.settings["images"])
    parts = [
        markdown(
            ["model", "what it is"], [[f"`{m.name}`", m.source.replace("|", "\\|")] for m in ALL.values()]
        ),
        f"{count} photographs, qualities {', '.join(map(str, QUALITIES))}, both kinds of Huffman tables. "
        "Correlation / slope of the true on the predicted change (1 is right) / relative error, of changes relative "
        "to the size of the coded data.",
    ]
    groups = {
        "tables and quality": (TABLES, (*ALL, BOTH_ENDS)),
        "image, and each model's own descent": ((*IMAGES, *OWN), ALL),
        "levels": (LEVELS, (*ALL, ONE_SIDED)),
    }
    for title, (families, models) in groups.items():
        rows = [[model, *(compact(pairs(results, f, model)) for f in families)] for model in models]
        parts.append(markdown([f"**{title}**", *families], rows))
    families = (*TABLES, *IMAGES, *OWN)
    parts.append("The default, `marginal`, quality by quality:")
    rows = [[q, *(compact(pairs(results, f, "marginal", q)) for f in families)] for q in QUALITIES]
    parts.append(markdown(["quality", *families], rows))
    parts.append("Rank correlations (Spearman):")
    rows = [
        [
            model,
            *(
                f"{statistics(pairs(results, f, model))['rho']:.3f}"
                for f in (*TABLES, *IMAGES, *OWN, *LEVELS)
            ),
        ]
        for model in ALL
    ]
    parts.append(markdown(["model", *TABLES, *IMAGES, *OWN, *LEVELS], rows))
    parts.append(descents(results))
    return "\n\n".join(parts)


def descents(results: Results) -> str:
    cells = [cell for key, cell in results.cells.items() if key.endswith("/descent")]
    rows = []
    for model in ALL:
        cost, bits = (np.array([cell[model][field] for cell in cells]) for field in ("cost", "bits"))
        rows.append([model, f"{100 * (cost.mean() - 1):+.2f} %", f"{100 * (bits.mean() - 1):+.2f} %"])
    text = (
        "Descent on pixels: squared error + λ · bits after 15 steps of Adam, and the real size, against the start "
        f"(mean of {len(cells)} photographs and qualities, crops of 128 × 192):"
    )
    return f"{text}\n\n{markdown(['model', 'cost', 'size'], rows)}"


def figure(results: Results, path: Path) -> None:
    """Predicted against true changes for three models."""
    from jpegrad_studies import figures

    figures.drawn(path, lambda drawing: _panels(results, drawing), (10, 3.6))


def _panels(results: Results, drawing: Figure) -> None:
    from jpegrad_studies.figures import GREY, OTHERS

    shown = ("marginal", "laplace", "sandwich")
    families = ("table scale", "table signs", "one AC entry", "quality", "blur")
    axes = drawing.subplots(1, len(shown), sharex=True, sharey=True)
    for axis, model in zip(axes, shown, strict=True):
        axis.axline((0, 0), slope=1, color=GREY, linewidth=1)
        for family, color in zip(families, OTHERS, strict=False):
            predicted, true = 100 * pairs(results, family, model).T
            axis.plot(predicted, true, ".", markersize=3, label=family, color=color)
        axis.set(title=model, xlabel="predicted change, %", xlim=(-20, 20), ylim=(-20, 20), aspect="equal")
    axes[0].set_ylabel("true change of the file, %")
    axes[0].legend(fontsize="x-small", markerscale=2)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="jpegrad bench rate", description=__doc__)
    parser.add_argument("--images", type=Path, help="folder of PNG photographs; default: the bundled ones")
    parser.add_argument("--limit", type=int, help="at most so many photographs")
    parser.add_argument("--out", type=Path, default=RESULTS / "rate.json", help="(default: %(default)s)")
    options = parser.parse_args(arguments)
    results = run(options.images, options.limit, options.out)
    text = tables(results)
    print(text)
    if CHECKOUT and options.out == RESULTS / "rate.json":
        publish("rate", text, PAGE)
        figure(results, FIGURE)


if __name__ == "__main__":
    main()
