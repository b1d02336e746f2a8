"""Attacks on classifiers through JPEG, judged by real files.

The attack sees a differentiable JPEG. Its result is rounded to 8 bits, written and read by Pillow, and classified.
Only pictures that the network recognises after JPEG at the same quality take part, so top-1 without an attack is 100 %.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

import jpegrad
from jpegrad_studies import figures
from jpegrad_studies.baselines.fsa import pillow
from jpegrad_studies.classifiers import NATIVE, Classifier, classifier, labelled, recognised, unlabelled
from jpegrad_studies.common import (
    RESULTS,
    Results,
    bootstrap,
    codec,
    earlier,
    finish,
    markdown,
    one_thread,
    track,
)

SEED = 0
BATCH = 16
QUALITIES = (5, 18, 38, 63, 88)
REFERENCE = "reich_ste"
OURS = "jpegrad soft narrowing from wide"

FIELDS = ("right", "cross_entropy")
Cell = dict[str, list[float]]
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


def narrowing(share: float = 1.0) -> Seen:
    """The soft forward with the library's own rule for the width, for `share` budgets."""

    def seen(image: Tensor, quality: Tensor, budget: float, progress: float) -> Tensor:
        sigma = jpegrad.surrogates.narrowing(share * budget, progress)
        return codec(forward="soft", surrogate="gaussian", sigma=sigma)(image, quality)

    return seen


class Reach(torch.autograd.Function):
    """The soft picture; backward takes what the network says of it and solves for a move, by steps through the codec.

    The move within the budget that raises the linearised loss of the *coded* picture most: still one gradient of the
    network, and eight of the codec.
    """

    STEPS = 8

    @staticmethod
    def forward(ctx: Any, image: Tensor, quality: Tensor, budget: float) -> Tensor:
        ctx.save_for_backward(image, quality)
        ctx.budget = budget
        return codec(forward="soft", surrogate="gaussian", sigma=5 * budget)(image, quality)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        image, quality = ctx.saved_tensors
        move = torch.zeros_like(image)
        for step in range(Reach.STEPS):
            sigma = jpegrad.surrogates.narrowing(ctx.budget, step / (Reach.STEPS - 1))
            with torch.enable_grad():
                moved = (image + move).requires_grad_()
                coded = codec(surrogate="gaussian", sigma=sigma)(moved, quality)
            (gradient,) = torch.autograd.grad(coded, moved, gradients)
            move = (move + ctx.budget / 4 * gradient.sign()).clamp(-ctx.budget, ctx.budget)
        return move, None, None


def reach(image: Tensor, quality: Tensor, budget: float, progress: float) -> Tensor:
    return Reach.apply(image, quality, budget)  # type: ignore[no-any-return, no-untyped-call]


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
        OURS: narrowing(),
        # An L2 ball of the same root mean square lets single coefficients move much farther.
        "jpegrad soft narrowing for L2": narrowing(2.0),
        "jpegrad reach": reach,
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


def judge(logits: Classifier, images: Tensor, classes: Tensor, quality: Tensor) -> Cell:
    """Right or wrong, and cross-entropy, of the real files."""
    with torch.no_grad():
        answer = logits(pillow(images, quality))
    losses = F.cross_entropy(answer, classes, reduction="none")
    right = (answer.argmax(1) == classes).int().tolist()
    return {"right": right, "cross_entropy": [round(loss, 3) for loss in losses.tolist()]}


def attacked(
    logits: Classifier,
    seen: Seen,
    chosen: Chosen,
    quality: int,
    attack: Attack,
    budget: float,
    start: int = 0,
) -> Iterator[Cell]:
    """Mini-batches from picture `start` on; each draws its own random numbers, so that a run may stop between."""
    _, images, classes = chosen
    for first in range(start, len(images), BATCH):
        torch.manual_seed(SEED + first)
        part = slice(first, first + BATCH)
        q = torch.full((len(classes[part]),), float(quality))
        adversarial = perturb(logits, seen, images[part], classes[part], q, attack, budget)
        yield judge(logits, adversarial, classes[part], q)


def cell(logits: Classifier, seen: Seen, chosen: Chosen, quality: int, attack: Attack, budget: float) -> Cell:
    parts = list(attacked(logits, seen, chosen, quality, attack, budget))
    return {field: [one for part in parts for one in part[field]] for field in FIELDS}


def run(options: argparse.Namespace) -> Results:
    everyone = subjects()
    settings = {
        "pictures": options.labelled.name if options.labelled else "bundled photographs",
        "seed": SEED,
        "attacks": {name: [one.norm, one.steps, one.step, one.start] for name, one in ATTACKS.items()},
    }
    results = Results(options.out, settings)
    for model in options.models:
        pool: Chosen | None = None
        for quality in options.qualities:
            keys = {
                f"{model}/{attack}/{budget:g}/{quality}/{name}": (attack, budget, name)
                for attack in options.attacks
                for budget in options.budgets
                for name in options.approaches or everyone
            }
            if all(size(results, key) >= options.images for key in keys):
                continue
            logits = classifier(model)
            pool = pool or (labelled(options.labelled) if options.labelled else unlabelled(logits))
            chosen = recognised(logits, pool, quality, options.images)
            short = [key for key in keys if size(results, key) < len(chosen[0])]
            for key in track(short, description=f"{model}, q {quality}"):
                attack, budget, name = keys[key]
                whole = size(results, key) // BATCH * BATCH
                done = {field: results.cells.get(key, {}).get(field, [])[:whole] for field in FIELDS}
                for part in attacked(logits, everyone[name], chosen, quality, ATTACKS[attack], budget, whole):
                    done = {field: done[field] + part[field] for field in FIELDS}
                    results.add(key, done)
    return results


def size(results: Results, key: str) -> int:
    """Number of pictures in a cell: a run for more of them goes on where a smaller one stopped."""
    return len(results.cells[key]["right"]) if key in results.cells else 0


Rows = dict[str, dict[int, Cell]]


def grouped(results: Results) -> dict[tuple[str, str, str], Rows]:
    """Cells by network, attack and budget; then by approach and quality."""
    groups: dict[tuple[str, str, str], Rows] = {}
    for key, one in results.cells.items():
        model, attack, budget, quality, name = key.split("/", 4)
        groups.setdefault((model, attack, budget), {}).setdefault(name, {})[int(quality)] = one
    return dict(sorted(groups.items()))


def summary(results: Results) -> str:
    """A row for each network and attack, a column for each budget: what ours gains, over the reference and over the
    best of all earlier approaches on the pictures that both have."""
    groups = grouped(results)
    budgets = sorted({budget for _, _, budget in groups}, key=float)
    pieces = {"the reference": "", "the best earlier approach": ""}
    for title in pieces:
        rows: dict[str, list[str]] = {}
        for (model, attack, budget), one in groups.items():
            others = {name: row for name, row in one.items() if not name.startswith("jpegrad")}
            if title == "the reference":
                others = {name: row for name, row in others.items() if name == REFERENCE}
            gained = {name: gains(one[OURS], row) for name, row in others.items() if OURS in one}
            gained = {name: values for name, values in gained.items() if np.isfinite(values).all()}
            if gained:
                name = min(gained, key=lambda name: gained[name].mean())
                beaten = "" if title == "the reference" else f" {name}"
                row = rows.setdefault(f"{model}, {attack}", ["–"] * len(budgets))
                row[budgets.index(budget)] = f"{gain(one[OURS], one[name])} of {len(gained[name])}{beaten}"
        header = [f"gain over {title}", *(f"ε {budget}" for budget in budgets)]
        pieces[title] = markdown(header, [[name, *row] for name, row in rows.items()])
    return "\n\n".join([f"**{OURS}, mean over qualities**", *pieces.values()])


def tables(results: Results) -> str:
    """The summary; then two tables per network, attack and budget: the outcomes, and what is gained."""
    pieces = [summary(results)]
    for (model, attack, budget), rows in grouped(results).items():
        qualities = sorted({quality for row in rows.values() for quality in row})
        reference = rows.get(REFERENCE, {})
        unit = "grey levels" if ATTACKS[attack].norm == "inf" else "grey levels root mean square"
        pieces.append(f"**EfficientNet-{model}, {attack}, {budget} {unit}**")
        order = sorted(rows, key=lambda name: -gains(rows[name], reference).mean())
        header = ["top-1 % / cross-entropy", *(f"q {q}" for q in qualities), "pictures"]
        lines = [[name, *(shown(rows[name].get(q)) for q in qualities), counts(rows[name])] for name in order]
        pieces.append(markdown(header, lines))
        if not reference:
            continue
        header = [f"gain over {REFERENCE}", *(f"q {q}" for q in qualities), "all"]
        lines = [
            [name, *(beside(rows[name], reference, q) for q in qualities), gain(rows[name], reference)]
            for name in order
            if name != REFERENCE
        ]
        pieces.append(markdown(header, lines))
    return "\n\n".join(pieces)


def shown(one: Cell | None) -> str:
    return f"{100 * np.mean(one['right']):.1f} / {np.mean(one['cross_entropy']):.2f}" if one else "–"


def counts(row: dict[int, Cell]) -> str:
    """Pictures per quality, least … most."""
    found = {len(one["right"]) for one in row.values()}
    return " … ".join(str(n) for n in sorted({min(found), max(found)}))


def beside(row: dict[int, Cell], reference: dict[int, Cell], quality: int) -> str:
    """The gain at one quality, and how many pictures stay recognised, this row : the reference."""
    if quality not in row or quality not in reference:
        return "–"
    pairs = list(zip(row[quality]["right"], reference[quality]["right"], strict=False))
    kept, theirs = np.sum(pairs, 0)
    return f"{gain(row, reference, [quality])}; {kept} : {theirs} of {len(pairs)}"


def gain(row: dict[int, Cell], reference: dict[int, Cell], qualities: Sequence[int] | None = None) -> str:
    """Mean with its interval."""
    values = gains(row, reference, qualities)
    if not np.isfinite(values).all():
        return "–"
    low, high = bootstrap(values)
    return f"{values.mean():+.2f} [{low:+.2f}, {high:+.2f}]"


def gains(
    row: dict[int, Cell], reference: dict[int, Cell], qualities: Sequence[int] | None = None
) -> np.ndarray:
    """Differences of cross-entropy, picture by picture, on the pictures and qualities that both have."""
    shared = [q for q in sorted(set(row) & set(reference)) if qualities is None or q in qualities]
    pairs = [
        pair
        for q in shared
        for pair in zip(row[q]["cross_entropy"], reference[q]["cross_entropy"], strict=False)
    ]
    return np.subtract(*np.transpose(pairs)) if pairs else np.full(1, -np.inf)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="jpegrad bench attack", description=__doc__)
    parser.add_argument(
        "--labelled", type=Path, help="folder with labels.csv; without it the bundled photographs"
    )
    parser.add_argument("--images", type=int, default=6, help="pictures per quality")
    parser.add_argument("--models", nargs="+", choices=list(NATIVE), default=["lite0"])
    parser.add_argument("--attacks", nargs="+", choices=list(ATTACKS), default=["I-FGSM"])
    parser.add_argument("--budgets", nargs="+", type=float, default=[2.0], help="in grey levels of 255")
    parser.add_argument("--qualities", nargs="+", type=int, default=list(QUALITIES))
    parser.add_argument("--approaches", nargs="+", choices=list(subjects()), metavar="NAME")
    parser.add_argument("--out", type=Path, default=RESULTS / "attack.json", help="(default: %(default)s)")
    options = parser.parse_args(arguments)
    one_thread()
    results = run(options)
    finish("attack", tables(results), options.out, lambda path: figures.attack(results, path))


if __name__ == "__main__":
    main()
