"""A classifier made robust to JPEG: does it matter which codec it is trained behind?

    jpegrad bench robust [--contestants NAME …] [--seeds N]

A small network tells which of eight weak gratings lies on a crop of a photograph. It is trained on crops as they are or
on coded ones, and judged by files of held-out photographs, as they are and attacked. No gradient passes the codec.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jpegrad_studies.attack import ATTACKS, narrowing, perturb, plain
from jpegrad_studies.baselines.fsa import pillow
from jpegrad_studies.common import RESULTS, Results, finish, markdown, one_thread, track
from jpegrad_studies.learners import SIDE, Send, crops, files
from jpegrad_studies.train import HELD_OUT, Coder, Record, contestants, interval, photographs

CLASSES = 8
AMPLITUDE = 8.0
"""Of a grating, in grey levels."""
BUDGET = 2.0
"""Of an attack, in grey levels."""
BATCH = 32
STEPS = 400
RATE = 3e-3
QUALITIES = (20, 90)
JUDGED = 512
JUDGED_ATTACKED = 128
ATTACKED = (50, 80)
"""Qualities of the attacked files."""
SETTINGS: dict[str, Send] = {"as they are": lambda image: image.round(), **files((10, 20, 50, 90), (50,))}

CODECS = ("no JPEG in training", "fsa", "soft, σ 6", "reich_soft", "kornia")
"""No gradient passes the codec: all that have the file's value are one, here fsa."""
ATTACKERS = ("exact, σ 2", "reich_ste")


def gratings(image: Tensor, classes: Tensor, phase: Tensor) -> Tensor:
    """One of four directions and two periods, 3 and 6 pixels, on each image [B, 3, SIDE, SIDE]; phases in 0 ... 1."""
    angle = (classes % 4) * (math.pi / 4)
    frequency = 1 / (3 + 3 * (classes // 4))
    down, right = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    along = angle.cos()[:, None, None] * right + angle.sin()[:, None, None] * down
    wave = (2 * math.pi * (frequency[:, None, None] * along + phase[:, None, None])).sin()
    return (image + AMPLITUDE * wave[:, None]).clamp(0, 255)


class Classifier(nn.Module):
    """Logits [B, CLASSES] of images [B, 3, H, W] in 0 ... 255."""

    def __init__(self, channels: int = 16) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(nn.Conv2d(3, channels, 7, stride=2, padding=3), nn.BatchNorm2d(channels), nn.ReLU()),
            *(
                nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1),
                nn.BatchNorm2d(2 * channels),
                nn.ReLU(),
            ),
            *(nn.Conv2d(2 * channels, 2 * channels, 3, padding=1), nn.BatchNorm2d(2 * channels), nn.ReLU()),
            *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2 * channels, CLASSES)),
        )

    def forward(self, image: Tensor) -> Tensor:
        found: Tensor = self.body((image - image.mean((2, 3), keepdim=True)) / 32)
        return found


def draw(pictures: Sequence[Tensor], count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Images and their classes."""
    classes = torch.randint(CLASSES, (count,), generator=generator)
    phase = torch.rand(count, generator=generator)
    return gratings(crops(pictures, count, generator), classes, phase), classes


def train(coder: Coder, steps: int, seed: int) -> Record:
    learned, held_out = photographs()
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    network = Classifier()
    optimizer = torch.optim.Adam(network.parameters(), lr=RATE, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, max(steps, 2))
    began = time.process_time()
    low, high = QUALITIES
    for step in range(steps):
        images, classes = draw(learned, BATCH, generator)
        quality = torch.randint(low, high + 1, (BATCH,), generator=generator).float()
        coded = coder(images, quality, step / max(steps - 1, 1))
        loss = F.cross_entropy(network(coded), classes)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    seconds = time.process_time() - began
    return {"errors": errors(network, held_out), "processor seconds": round(seconds, 1)}


def errors(network: nn.Module, pictures: Sequence[Tensor]) -> dict[str, float]:
    """Wrong answers in per cent; an attacked image is wrong if any of three attacks through the codec succeeds."""
    network.eval().requires_grad_(False)
    images, classes = draw(pictures, JUDGED, torch.Generator().manual_seed(99))
    found = {name: network(send(images)).argmax(1) != classes for name, send in SETTINGS.items()}
    images, classes = images[:JUDGED_ATTACKED], classes[:JUDGED_ATTACKED]
    everyone = contestants()
    ways = [narrowing(), *(plain(partial(everyone[name], progress=0.0)) for name in ATTACKERS)]
    for quality in ATTACKED:
        q = torch.full((JUDGED_ATTACKED,), float(quality))
        wrong = torch.zeros(JUDGED_ATTACKED, dtype=torch.bool)
        for seen in ways:
            moved = perturb(network, seen, images, classes, q, ATTACKS["I-FGSM"], BUDGET)
            wrong |= network(pillow(moved, q)).argmax(1) != classes
        found[f"attacked, q {quality}"] = wrong
    return {name: round(100 * float(wrong.float().mean()), 3) for name, wrong in found.items()}


def run(options: argparse.Namespace) -> Results:
    everyone = contestants()
    settings = {
        "side": SIDE, "amplitude": AMPLITUDE, "budget": BUDGET, "steps": options.steps, "batch": BATCH,
        "rate": RATE, "qualities": QUALITIES, "held out": HELD_OUT, "judged": (JUDGED, JUDGED_ATTACKED),
    }  # fmt: skip
    results = Results(options.out, settings)
    wanted = {
        f"{name}/{seed}": (name, seed)
        for seed in range(options.seeds)
        for name in options.contestants or CODECS
    }
    for key in track(results.missing(wanted), description="robust"):
        name, seed = wanted[key]
        results.add(key, train(everyone[name], options.steps, seed))
    return results


def mean(record: Record, names: Sequence[str]) -> float:
    return float(np.mean([record["errors"][name] for name in names]))


def tables(results: Results) -> str:
    """The best on all files first."""
    groups: dict[str, list[Record]] = {}
    for key, record in results.cells.items():
        groups.setdefault(key.split("/")[0], []).append(record)
    of_files = [name for name in SETTINGS if name != "as they are"]
    columns = {
        "as they are": ["as they are"],
        **{name: [name] for name in of_files if name.startswith("4:2:0")},
        "all files": of_files,
        **{name: [name] for name in (f"attacked, q {quality}" for quality in ATTACKED)},
    }
    rows = [
        [name, *(spread([mean(one, names) for one in records]) for names in columns.values()), len(records)]
        for name, records in sorted(
            groups.items(), key=lambda one: np.mean([mean(each, of_files) for each in one[1]])
        )
    ]
    return markdown(["error, %", *columns, "seeds"], rows)


def spread(values: Sequence[float]) -> str:
    """A mean with half of its interval."""
    middle, half = interval(values)
    return f"{middle:.1f}" if math.isnan(half) else f"{middle:.1f} ± {half:.1f}"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="jpegrad bench robust", description=__doc__)
    parser.add_argument("--contestants", nargs="+", choices=CODECS, metavar="NAME")
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=RESULTS / "robust.json", help="(default: %(default)s)")
    options = parser.parse_args(arguments)
    one_thread()
    finish("robust", tables(run(options)), options.out)


if __name__ == "__main__":
    main()
