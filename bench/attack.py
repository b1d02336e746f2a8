"""Attacks through JPEG, judged by real files: python -m bench.attack [--labelled DIR] [--images N].

The attack sees a differentiable JPEG. Its result is rounded to 8 bits, written and read by Pillow, and classified.
Only pictures that the network recognises after JPEG at the same quality take part, so top-1 without an attack is 100 %.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from baselines.fsa import pillow
from bench.classifiers import NATIVE, Classifier, classifier, labelled, recognised, unlabelled
from bench.common import RESULTS, Results, bootstrap, codec, earlier, markdown, publish, track

SEED = 0
BATCH = 16
QUALITIES = (5, 18, 38, 63, 88)
REFERENCE = "reich_ste"

Chosen = tuple[list[str], Tensor, Tensor]
# (image, quality [B], budget in grey levels, progress of the attack 0 ... 1) -> what the classifier is shown.
Seen = Callable[[Tensor, Tensor, float, float], Tensor]


@dataclass(frozen=True)
class Attack:
    """Gradient ascent on the cross-entropy.

    Args:
        norm: "inf", or "2" for steps along the gradient; the budget in L2 is then a root mean square.
        steps: Number of gradients.
        step: Size of one step in budgets.
        start: Whether it starts at a random place of the ball.
    """

    name: str
    norm: str
    steps: int
    step: float
    start: bool


ATTACKS = {
    attack.name: attack
    for attack in (
        Attack("FGSM", "inf", 1, 1.0, False),
        Attack("I-FGSM", "inf", 10, 0.5, False),
        Attack("PGD", "inf", 10, 0.25, True),
        Attack("PGD-L2", "2", 10, 0.25, True),
    )
}


def budget_gaussian(forward: str, width: float, final: float | None = None, **options: float) -> Seen:
    """Gaussian surrogate of `width` budgets of pixel noise; with `final`, the width moves there during the attack."""

    def seen(image: Tensor, quality: Tensor, budget: float, progress: float) -> Tensor:
        sigma = budget * (width + progress * ((width if final is None else final) - width))
        return codec(forward=forward, surrogate="gaussian", sigma=sigma, **options)(image, quality)

    return seen


def plain(call: Callable[[Tensor, Tensor], Tensor]) -> Seen:
    return lambda image, quality, budget, progress: call(image, quality)


def subjects() -> dict[str, Seen]:
    """No JPEG in the loop, every published approach that reaches the image, and the modes of this package."""
    published = {name: plain(one) for name, one in earlier().items() if "image" in one.differentiable}
    return {
        "no JPEG in the loop": plain(lambda image, quality: image),
        **published,
        "jpegrad identity": plain(codec(surrogate="identity")),
        "jpegrad cubic": plain(codec(surrogate="cubic")),
        "jpegrad default": plain(codec()),
        "jpegrad budget": budget_gaussian("exact", 1.5),
        "jpegrad soft budget": budget_gaussian("soft", 1.5),
        "jpegrad soft budget/2": budget_gaussian("soft", 0.75),
        "jpegrad soft budget x2": budget_gaussian("soft", 3.0),
        "jpegrad soft narrowing": budget_gaussian("soft", 2.5, 0.75),
        "jpegrad soft narrowing from wide": budget_gaussian("soft", 4.0, 0.75),
        # An L2 ball of the same root mean square lets single coefficients move much farther.
        "jpegrad soft narrowing for L2": budget_gaussian("soft", 12.0, 2.0),
    }


def lengths(x: Tensor) -> Tensor:
    """Root mean square of each image."""
    return x.square().mean((1, 2, 3), keepdim=True).sqrt().clamp(min=1e-12)


def project(x: Tensor, origin: Tensor, budget: float, norm: str) -> Tensor:
    offset = x - origin
    offset = (
        offset.clamp(-budget, budget) if norm == "inf" else offset * (budget / lengths(offset)).clamp(max=1)
    )
    return (origin + offset).clamp(0, 255)


def perturb(
    logits: Classifier,
    seen: Seen,
    images: Tensor,
    classes: Tensor,
    quality: Tensor,
    attack: Attack,
    budget: float,
) -> Tensor:
    """Adversarial images in 0 ... 255, rounded to 8 bits."""
    x = images.clone()
    if attack.start:
        noise = torch.rand_like(x) * 2 - 1 if attack.norm == "inf" else torch.randn_like(x)
        noise = noise * budget if attack.norm == "inf" else noise / lengths(noise) * budget
        x = project(x + noise, images, budget, attack.norm)
    for step in range(attack.steps):
        x.requires_grad_()
        progress = step / max(attack.steps - 1, 1)
        shown = seen(x, quality, budget, progress)
        loss = F.cross_entropy(logits(shown), classes, reduction="sum")
        # A mini-batch coded without any gradient (MBRS draws such) leaves the images where they are.
        gradient = torch.autograd.grad(loss, x)[0] if loss.requires_grad else torch.zeros_like(x)
        direction = gradient.sign() if attack.norm == "inf" else gradient / lengths(gradient)
        x = project(x.detach() + attack.step * budget * direction, images, budget, attack.norm)
    return x.round()


def judge(
    logits: Classifier, images: Tensor, classes: Tensor, quality: Tensor
) -> tuple[list[bool], list[float]]:
    """Right or wrong, and cross-entropy, of the real files."""
    with torch.no_grad():
        answer = logits(pillow(images, quality))
    losses = F.cross_entropy(answer, classes, reduction="none")
    return (answer.argmax(1) == classes).tolist(), [round(loss, 4) for loss in losses.tolist()]


def cell(
    logits: Classifier,
    seen: Seen,
    chosen: tuple[list[str], Tensor, Tensor],
    quality: int,
    attack: Attack,
    budget: float,
) -> dict[str, list[bool] | list[float]]:
    torch.manual_seed(SEED)
    names, images, classes = chosen
    right, losses = [], []
    for start in range(0, len(names), BATCH):
        part = slice(start, start + BATCH)
        q = torch.full((len(classes[part]),), float(quality))
        adversarial = perturb(logits, seen, images[part], classes[part], q, attack, budget)
        answers = judge(logits, adversarial, classes[part], q)
        right += answers[0]
        losses += answers[1]
    return {"right": right, "cross_entropy": losses}


def run(options: argparse.Namespace) -> Results:
    everyone = subjects()
    names = options.approaches or list(everyone)
    settings = {
        "pictures": options.labelled.name if options.labelled else "bundled photographs",
        "images": options.images,
        "seed": SEED,
        "attacks": {name: [one.norm, one.steps, one.step, one.start] for name, one in ATTACKS.items()},
    }
    results = Results(options.out, settings)
    for model in options.models:
        logits = classifier(model)
        pool = labelled(options.labelled) if options.labelled else unlabelled(logits)
        for quality in options.qualities:
            keys = {
                f"{model}/{attack}/{budget:g}/{quality}/{name}": (attack, budget, name)
                for attack in options.attacks
                for budget in options.budgets
                for name in names
            }
            missing = results.missing(keys)
            chosen = recognised(logits, pool, quality, options.images) if missing else ([], None, None)
            for key in track(missing, description=f"{model}, q {quality}"):
                attack, budget, name = keys[key]
                results.add(key, cell(logits, everyone[name], chosen, quality, ATTACKS[attack], budget))
    return results


def tables(results: Results) -> str:
    """One table per network, attack and budget: top-1 and cross-entropy at each quality."""
    groups: dict[tuple[str, str, str], dict[str, dict[int, dict[str, list[float]]]]] = {}
    for key, one in results.cells.items():
        model, attack, budget, quality, name = key.split("/", 4)
        groups.setdefault((model, attack, budget), {}).setdefault(name, {})[int(quality)] = one
    pieces = []
    for (model, attack, budget), rows in groups.items():
        qualities = sorted({quality for row in rows.values() for quality in row})
        counts = [len(next(row[q] for row in rows.values() if q in row)["right"]) for q in qualities]
        unit = "grey levels, L∞" if ATTACKS[attack].norm == "inf" else "grey levels root mean square, L2"
        title = f"**EfficientNet-{model}, {attack}, {budget} {unit}**: top-1 % / mean cross-entropy;"
        header = ["approach", *(f"q {q} (n = {n})" for q, n in zip(qualities, counts, strict=True)), "gain"]
        lines = [
            [name, *row_cells(row, qualities), gain(row, rows.get(REFERENCE, {}))]
            for name, row in rows.items()
        ]
        lines.sort(key=lambda line: -mean_loss(rows[line[0]]))
        pieces.append(
            f"{title} gain in cross-entropy over `{REFERENCE}`, 95 % interval.\n\n{markdown(header, lines)}"
        )
    return "\n\n".join(pieces)


def mean_loss(row: dict[int, dict[str, list[float]]]) -> float:
    return float(np.mean([np.mean(one["cross_entropy"]) for one in row.values()]))


def row_cells(row: dict[int, dict[str, list[float]]], qualities: Sequence[int]) -> list[str]:
    shown = []
    for quality in qualities:
        one = row.get(quality)
        shown.append(
            f"{100 * np.mean(one['right']):.0f} / {np.mean(one['cross_entropy']):.2f}" if one else "–"
        )
    return shown


def gain(row: dict[int, dict[str, list[float]]], reference: dict[int, dict[str, list[float]]]) -> str:
    """Paired over pictures and qualities."""
    shared = sorted(set(row) & set(reference))
    if not shared or row is reference:
        return "–"
    paired = [np.subtract(row[q]["cross_entropy"], reference[q]["cross_entropy"]) for q in shared]
    values = np.concatenate(paired)
    low, high = bootstrap(values)
    return f"{values.mean():+.2f} [{low:+.2f}, {high:+.2f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--labelled", type=Path, help="folder with labels.csv; without it the bundled photographs"
    )
    parser.add_argument("--images", type=int, default=6, help="pictures per quality")
    parser.add_argument("--models", nargs="+", choices=list(NATIVE), default=["lite0"])
    parser.add_argument("--attacks", nargs="+", choices=list(ATTACKS), default=["I-FGSM"])
    parser.add_argument("--budgets", nargs="+", type=float, default=[2.0], help="in grey levels of 255")
    parser.add_argument("--qualities", nargs="+", type=int, default=list(QUALITIES))
    parser.add_argument("--approaches", nargs="+", choices=list(subjects()), metavar="NAME")
    parser.add_argument("--out", type=Path, default=RESULTS / "attack.json")
    options = parser.parse_args()
    torch.set_num_threads(1)
    text = tables(run(options))
    print(text)
    if options.out == RESULTS / "attack.json":
        publish("attack", text)


if __name__ == "__main__":
    main()
