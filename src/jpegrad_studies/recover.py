"""What gradient descent through each approach finds, judged by real files."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import jpegrad
from jpegrad.surrogates import table_relative
from jpegrad_studies import figures
from jpegrad_studies.baselines import Baseline
from jpegrad_studies.baselines.fsa import pillow
from jpegrad_studies.common import (
    RESULTS,
    Results,
    codec,
    earlier,
    finish,
    load_images,
    markdown,
    middle,
    one_thread,
    ours,
    track,
)
from jpegrad_studies.prefilter import train
from jpegrad_studies.truth import file_cost, file_with_tables, squared_error, trade_off

SEED = 0
SIDE = 96
SECRETS = (8, 25, 50, 80)
STARTS = (20.0, 65.0)
DESCENTS = (10, 75)

# (image, quality [B], base tables or None, progress 0 ... 1) -> coded image.
Coder = Callable[[Tensor, Tensor, Tensor | None, float], Tensor]
Outcome = dict[str, dict[str, float]]


def annealed(image: Tensor, quality: Tensor, base: Tensor | None, progress: float) -> Tensor:
    """The soft forward, its staircase smoothed by half of each level at first, by 3 % at last."""
    return codec(forward="soft", surrogate=table_relative(0.5 * 0.06**progress))(image, quality, base)


def steady(subject: Baseline) -> Coder:
    return lambda image, quality, base, progress: subject.call(image, quality, base)


def table_subjects() -> dict[str, Coder]:
    """Published approaches with a gradient to quality and tables at 4:2:0, and the ways of this package."""
    published = earlier()
    return {
        **{
            name: steady(published[name]) for name in ("shin_tables", "soft_round", "reich_soft", "reich_ste")
        },
        "jpegrad": steady(ours("default", "")),
        "jpegrad identity": steady(ours("identity", "", table_surrogate="identity")),
        "jpegrad table_gaussian": steady(ours("table_gaussian", "", table_surrogate="table_gaussian")),
        "jpegrad table_relative": steady(ours("relative", "", table_surrogate="table_relative")),
        "jpegrad soft": steady(ours("soft", "", forward="soft")),
        "jpegrad soft, table_relative narrowing": annealed,
    }


def image_subjects() -> dict[str, Coder]:
    """For tasks whose gradient goes to the image."""
    published = earlier()
    names = ("fsa", "uniform_noise", "shin_tables", "soft_round", "reich_soft", "reich_ste")
    return {
        **{
            name: lambda image, quality, base, progress, call=published[name].call: call(image, quality)
            for name in names
        },
        "jpegrad": steady(ours("default", "")),
        "jpegrad identity": steady(ours("identity", "", surrogate="identity")),
        "jpegrad cubic": steady(ours("cubic", "", surrogate="cubic")),
        "jpegrad soft": steady(ours("soft", "", forward="soft")),
        "jpegrad soft, soft_round": steady(ours("bend", "", forward="soft", surrogate="soft_round")),
    }


def recover_quality(image: Tensor) -> Outcome:
    """From a photograph and its file: Adam (40 steps of 2, cosine decay), secrets 8, 25, 50, 80, starts 20 and 65."""
    targets = {secret: pillow(image[None], torch.tensor([float(secret)])) for secret in SECRETS}
    outcomes = {}
    for name, coder in table_subjects().items():
        misses = []
        for secret, start in product(SECRETS, STARTS):
            q = torch.tensor([start], requires_grad=True)
            descend(q, lambda q, t, c=coder: c(image[None], q, None, t), targets[secret], 40, 2.0, (1, 99))
            misses.append(abs(round(float(q.detach())) - secret))
        outcomes[name] = {
            "mean miss": float(np.mean(misses)),
            "within 1 (%)": 100 * float(np.mean(np.array(misses) <= 1)),
        }
    return outcomes


def recover_tables(image: Tensor) -> Outcome:
    """From a photograph and its file with secret tables: Adam (100 steps of 1, cosine decay) from Annex K."""
    generator = torch.Generator().manual_seed(SEED)
    annex_k = jpegrad.tables.annex_k(50.0).float()
    secret = (annex_k * (0.4 + 1.2 * torch.rand(annex_k.shape, generator=generator))).round().clamp(1, 255)
    target = file_with_tables(image, secret)

    def judge(found: Tensor) -> dict[str, float]:
        return {
            "squared error to the file": squared_error(file_with_tables(image, found), target),
            "entries within 1 (%)": 100 * float(((found.round() - secret).abs() <= 1).float().mean()),
        }

    fifty = torch.tensor([50.0])
    outcomes = {"the start, Annex K": judge(annex_k)}
    for name, coder in table_subjects().items():
        base = annex_k.clone().requires_grad_()
        descend(base, lambda b, t, c=coder: c(image[None], fifty, b, t), target[None], 100, 1.0, (1, 255))
        outcomes[name] = judge(base.detach())
    return outcomes


def rate_distortion(image: Tensor) -> Outcome:
    """Pixels that lower squared error + λ · bits of the real file: Adam (30 steps of 0.4, cosine decay), the same
    slope of the size for all, λ the trade-off of the quality scale itself; against the unchanged photograph's file."""
    outcomes: Outcome = {name: {} for name in image_subjects()}
    for quality in DESCENTS:
        price = trade_off([image], quality)
        size, error = file_cost(image, quality)
        q = torch.tensor([float(quality)])
        for name, coder in image_subjects().items():
            torch.manual_seed(SEED)
            pixels = image[None].clone().requires_grad_()
            optimizer = torch.optim.Adam([pixels], lr=0.4, betas=(0.8, 0.95))
            schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 30)
            for step in range(30):
                optimizer.zero_grad()
                distortion = (coder(pixels, q, None, step / 29) - image).square().sum()
                coefficients = jpegrad.encode(pixels, quality=quality, value_range=(0.0, 255.0))
                (distortion + price * jpegrad.bits(coefficients).sum()).backward()
                optimizer.step()
                schedule.step()
            found, off = file_cost(pixels.detach()[0], quality, image)
            change = (off + price * found) / (error + price * size) - 1
            outcomes[name][f"cost at q {quality} (%)"] = 100 * change
    return outcomes


def descend(
    variable: Tensor,
    coder: Callable[[Tensor, float], Tensor],
    target: Tensor,
    steps: int,
    rate: float,
    limits: tuple[float, float],
) -> None:
    """Adam with a cosine decay on the mean squared error to the target, kept inside the limits."""
    optimizer = torch.optim.Adam([variable], lr=rate, betas=(0.8, 0.95))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        optimizer.zero_grad()
        (coder(variable, step / (steps - 1)) - target).square().mean().backward()
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            variable.clamp_(*limits)


TASKS: dict[str, Callable[[Tensor], Outcome]] = {
    "recover quality": recover_quality,
    "recover tables": recover_tables,
    "rate and distortion": rate_distortion,
}


def run(options: argparse.Namespace) -> Results:
    images = load_images(options.images, options.limit)
    settings = {"images": list(images), "seed": SEED, "side": SIDE, "steps of the networks": options.steps}
    results = Results(options.out, settings)
    work: dict[str, Callable[[], Outcome]] = {}
    for name, image in images.items():
        crop = middle(image, SIDE)
        for task, solve in TASKS.items():
            work[f"{task}/{name}"] = lambda a=crop, f=solve: f(a)
    for name, coder in image_subjects().items():
        for seed in range(options.seeds):
            work[f"networks/{name}/{seed}"] = lambda c=coder, s=seed: train(
                c, list(images.values()), options.steps, s
            )
    for key in track(results.missing(work), description="recover"):
        results.add(key, work[key]())
    return results


def task_table(results: Results, task: str) -> str:
    cells = [cell for key, cell in results.cells.items() if key.startswith(f"{task}/")]
    fields = list(next(iter(cells[0].values())))
    rows = [[name, *(f"{np.mean([c[name][f] for c in cells]):.3g}" for f in fields)] for name in cells[0]]
    return markdown(["approach", *fields], rows)


def network_table(results: Results) -> str:
    groups: dict[str, list[dict[str, float]]] = {}
    for key, cell in results.cells.items():
        if key.startswith("networks/"):
            groups.setdefault(key.split("/")[1], []).append(cell)
    fields = list(next(iter(groups.values()))[0])
    rows = []
    for name, cells in groups.items():
        values = [[cell[field] for cell in cells] for field in fields]
        spread = [f" ({min(v):.2f} … {max(v):.2f})" if len(v) > 1 else "" for v in values]
        rows.append([name, *(f"{np.mean(v):+.2f}{s}" for v, s in zip(values, spread, strict=True))])
    rows.sort(key=lambda row: float(row[1].split()[0]))
    return markdown(["approach", *fields], rows)


def report(results: Results) -> str:
    parts = [f"{len(results.settings['images'])} photographs, the middle {SIDE} × {SIDE}."]
    for task, solve in TASKS.items():
        title = " ".join((solve.__doc__ or "").split())
        parts += [f"**{task.capitalize()}**. {title}", task_table(results, task)]
    title = " ".join((train.__doc__ or "").split())
    steps = results.settings["steps of the networks"]
    parts += [
        f"**Networks**. {title} {steps} steps; over several seeds the mean (least … most).",
        network_table(results),
    ]
    return "\n\n".join(parts)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="jpegrad bench recover", description=__doc__)
    parser.add_argument("--images", type=Path, help="folder of PNG photographs (default: the bundled ones)")
    parser.add_argument("--limit", type=int, help="at most so many photographs")
    parser.add_argument("--steps", type=int, default=200, help="of training the networks")
    parser.add_argument("--seeds", type=int, default=1, help="trainings of the networks per approach")
    parser.add_argument("--out", type=Path, default=RESULTS / "recover.json", help="(default: %(default)s)")
    options = parser.parse_args(arguments)
    one_thread()
    results = run(options)
    finish("recover", report(results), options.out, lambda path: figures.recover(results, path))


if __name__ == "__main__":
    main()
