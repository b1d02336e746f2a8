"""Which gradient does a network learn from? Small networks trained through JPEG, judged by real files.

    jpegrad bench train [--contestants NAME …] [--seeds N] [--ramps SHARE …]

Every contestant has the same networks, pictures, curriculum and number of steps, and the best of three learning rates,
chosen on other crops than it is judged on. A record is one training: it is never made twice.
"""

from __future__ import annotations

import argparse
import copy
import math
import time
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state

import jpegrad
from jpegrad.surrogates import soft_round, straight_through
from jpegrad_studies import figures
from jpegrad_studies.common import (
    RESULTS,
    Results,
    codec,
    earlier,
    finish,
    load_images,
    markdown,
    one_thread,
    track,
)
from jpegrad_studies.learners import BITS, JUDGED, SIDE, TASKS, Task, crops, right

BATCH = 16
RATES = (6e-3, 3e-3, 1.5e-3)
HELD_OUT = ("caps", "coast")
PLATEAU = 60.0
"""Bits right in per cent, running mean, that a network has to pass."""
REFERENCE = "reich_ste"

# (images in 0 ... 255, quality [B], progress of the training 0 ... 1) -> what the network behind is shown.
Coder = Callable[[Tensor, Tensor, float], Tensor]
Record = dict[str, Any]


def fixed(**options: Any) -> Coder:
    call = codec(**options)
    return lambda image, quality, progress: call(image, quality)


def narrowing(forward: str, first: float, last: float) -> Coder:
    """A width that goes from first to last, in equal ratios."""
    return lambda image, quality, progress: codec(
        forward=forward, surrogate="gaussian", sigma=first * (last / first) ** progress
    )(image, quality)


def at_random(forward: str, low: float, high: float) -> Coder:
    """A width drawn for each batch, its logarithm uniform."""

    def call(image: Tensor, quality: Tensor, progress: float) -> Tensor:
        sigma = low * (high / low) ** float(torch.rand(()))
        return codec(forward=forward, surrogate="gaussian", sigma=sigma)(image, quality)

    return call


def by_quality(forward: str, share: float) -> Coder:
    """A width of this share of the luma table's mean entry, image by image, in powers of √2."""

    def call(image: Tensor, quality: Tensor, progress: float) -> Tensor:
        entries = jpegrad.tables.annex_k(quality)[:, 0].double().mean((-2, -1))
        powers = (2 * (share * entries).log2()).round()
        out = torch.empty_like(image)
        for power in powers.unique().tolist():
            of_it = powers == power
            width = 2 ** (power / 2)
            out[of_it] = codec(forward=forward, surrogate="gaussian", sigma=width)(
                image[of_it], quality[of_it]
            )
        return out

    return call


def at_other_qualities(coder: Coder) -> Coder:
    """The mean of what comes out at each image's quality and at that of the next image."""

    def call(image: Tensor, quality: Tensor, progress: float) -> Tensor:
        return (coder(image, quality, progress) + coder(image, quality.roll(1), progress)) / 2

    return call


def unseen(coder: Coder) -> Coder:
    """No gradient: the network before learns nothing of it, the one behind does."""
    return lambda image, quality, progress: coder(image.detach(), quality, progress)


def in_turn(until: float, first: Coder, second: Coder) -> Coder:
    return lambda image, quality, progress: (first if progress < until else second)(image, quality, progress)


def carried(carrier: Coder) -> Coder:
    """The exact value with another gradient."""
    exact = fixed(surrogate="identity")

    def call(image: Tensor, quality: Tensor, progress: float) -> Tensor:
        with torch.no_grad():
            value = exact(image, quality, progress)
        return straight_through(value, carrier(image, quality, progress))

    return call


def mixed(*coders: Coder) -> Coder:
    """Every image through one of them, by turns."""

    def call(image: Tensor, quality: Tensor, progress: float) -> Tensor:
        out: list[Tensor | None] = [None] * len(image)
        for i, coder in enumerate(coders):
            places = list(range(i, len(image), len(coders)))
            if places:
                for place, one in zip(places, coder(image[places], quality[places], progress), strict=True):
                    out[place] = one
        return torch.stack([one for one in out if one is not None])

    return call


def contestants() -> dict[str, Coder]:
    """No JPEG in training, every published approach that reaches the image at 4:2:0, and the ways of this package."""
    published: dict[str, Coder] = {
        name: lambda image, quality, progress, call=one.call: call(image, quality)
        for name, one in earlier().items()
        if "image" in one.differentiable and one.subsampling == "4:2:0"
    }
    slope_1, soft_6 = fixed(surrogate="identity"), fixed(forward="soft", sigma=6.0)
    soft_12 = fixed(forward="soft", sigma=12.0)
    return {
        "no JPEG in training": lambda image, quality, progress: image,
        **published,
        "exact, slope 1": slope_1,
        "exact, cubic": fixed(surrogate="cubic"),
        **{f"exact, soft_round {a}": fixed(surrogate=soft_round(float(a))) for a in (2, 3, 5, 8)},
        **{f"soft, soft_round {a}": fixed(forward="soft", surrogate=soft_round(float(a))) for a in (3, 7)},
        **{f"exact, σ {sigma}": fixed(sigma=float(sigma)) for sigma in (1, 2, 4, 6, 12, 24)},
        **{f"soft, σ {sigma}": fixed(forward="soft", sigma=float(sigma)) for sigma in (1, 2, 4, 6, 12, 24)},
        "soft, σ 12 to 1": narrowing("soft", 12, 1),
        "soft, σ 12 to 3": narrowing("soft", 12, 3),
        "soft, σ 6 to 2": narrowing("soft", 6, 2),
        "soft, σ 1 to 12 at random": at_random("soft", 1, 12),
        "soft σ 6, exact from 70 % on": in_turn(0.7, soft_6, fixed(sigma=6.0)),
        "half exact σ 6, half soft σ 6": mixed(fixed(sigma=6.0), soft_6),
        "exact, σ 12 to 1": narrowing("exact", 12, 1),
        "exact value, gradient of soft σ 2": carried(fixed(forward="soft", sigma=2.0)),
        "exact value, gradient of soft σ 6": carried(soft_6),
        "exact value, gradient of soft σ 12": carried(soft_12),
        "exact value, gradient of soft σ 12 to 1": carried(narrowing("soft", 12, 1)),
        "exact value, gradient of soft σ 12, slope 1 from 50 % on": in_turn(0.5, carried(soft_12), slope_1),
        "exact value, gradient of soft σ 6 at two qualities": carried(at_other_qualities(soft_6)),
        "exact, σ 2 to 24": narrowing("exact", 2, 24),
        "exact, σ by quality": by_quality("exact", 0.1),
        "soft, σ by quality": by_quality("soft", 0.1),
        "half exact σ 12, half soft σ 6": mixed(fixed(sigma=12.0), soft_6),
        "half exact slope 1, half soft σ 2": mixed(slope_1, fixed(forward="soft", sigma=2.0)),
        "half real files with identity, half soft σ 6": mixed(published["fsa"], soft_6),
        "half real files without gradient, half soft σ 6": mixed(unseen(slope_1), soft_6),
    }


def photographs() -> tuple[list[Tensor], list[Tensor]]:
    """To learn from: four bundled ones and two of scikit-image. Held out: two bundled ones."""
    from skimage.data import astronaut, coffee

    bundled = load_images(None, multiple=1)
    held_out = [bundled.pop(name) for name in HELD_OUT]
    others = [torch.from_numpy(np.array(one())).permute(2, 0, 1) for one in (astronaut, coffee)]
    return [*bundled.values(), *others], held_out


class Together:
    """Networks of one form, one per seed, evaluated together: far fewer calls, and the same training for each."""

    def __init__(self, networks: list[nn.Module]) -> None:
        self.networks = networks
        self.parameters, self.buffers = stack_module_state(networks)
        self.form = copy.deepcopy(networks[0]).to("meta")

    def __call__(self, *inputs: Tensor) -> Tensor:
        """[S, B, ...] from [S, B, ...]."""

        def one(parameters: dict[str, Tensor], buffers: dict[str, Tensor], *inputs: Tensor) -> Tensor:
            return functional_call(self.form, (parameters, buffers), inputs)

        out: Tensor = torch.vmap(one)(self.parameters, self.buffers, *inputs)
        return out

    def trained(self) -> list[nn.Module]:
        for i, network in enumerate(self.networks):
            network.load_state_dict({name: value[i].detach() for name, value in self.parameters.items()})
        return self.networks


def initial(build: Callable[[], nn.Module], seeds: Sequence[int]) -> Together:
    networks = []
    for seed in seeds:
        torch.manual_seed(seed)
        networks.append(build())
    return Together(networks)


def train(
    task: Task, coder: Coder, steps: int, ramp: float, rate: float, seeds: Sequence[int]
) -> list[Record]:
    """One training per seed: the share of coded images rises from 0 to 1 over a share `ramp` of the steps.

    If `ramp` is infinite, it rises with the bits that are right, from 0 at 50 % to 1 at 90 %, and never falls.
    """
    learned, held_out = photographs()
    before, behind = initial(task.before, seeds), initial(task.behind, [seed + 1000 for seed in seeds])
    torch.manual_seed(seeds[0])
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]
    parameters = [*before.parameters.values(), *behind.parameters.values()]
    optimizer = torch.optim.Adam(parameters, lr=rate, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, rate, steps, pct_start=min(max(0.05, 1.5 / steps), 0.9)
    )
    began, codec_time = (time.process_time(), time.monotonic()), 0.0
    running = torch.full((len(seeds),), 50.0)
    left: list[int | None] = [None] * len(seeds)
    traces: list[list[float]] = [[] for _ in seeds]
    low, high = task.qualities
    share = torch.zeros(len(seeds))
    for step in range(steps):
        progress = step / max(steps - 1, 1)
        if ramp == math.inf:
            share = torch.maximum(share, (running - 50) / 40)
        else:
            share = torch.full_like(share, progress / ramp if ramp else 1.0)
        images = torch.stack([crops(learned, BATCH, generator) for generator in generators])
        drawn = torch.stack([torch.rand(BATCH, BITS + 2, generator=generator) for generator in generators])
        bits = (drawn[..., :BITS] < 0.5).float()
        quality = (low + (high - low + 1) * drawn[..., BITS]).floor()
        coded = (drawn[..., BITS + 1] < share[:, None]).flatten()
        sent = before(images, bits)
        if coded.any():
            at = time.process_time()
            flat = sent.flatten(0, 1)
            out = flat.clone()
            out[coded] = coder(flat[coded], quality.flatten()[coded], progress)
            sent = out.unflatten(0, sent.shape[:2])
            codec_time += time.process_time() - at
        result = behind(sent)
        optimizer.zero_grad()
        task.loss(result, images, bits).sum().backward()
        optimizer.step()
        schedule.step()
        if task.tells:
            running += 0.02 * (right(result.detach(), bits) - running)
            left = [
                step if one is None and at > PLATEAU else one
                for one, at in zip(left, running.tolist(), strict=True)
            ]
            if (step + 1) * 10 // steps > step * 10 // steps:
                for trace, at in zip(traces, running.tolist(), strict=True):
                    trace.append(round(at, 1))
    cost = {
        "processor seconds": round((time.process_time() - began[0]) / len(seeds), 1),
        "of these in the forward pass of the codec": round(codec_time / len(seeds), 2),
        "seconds": round((time.monotonic() - began[1]) / len(seeds), 1),
    }
    records = []
    for first, second, started, trace in zip(before.trained(), behind.trained(), left, traces, strict=True):
        other = task.errors(first, second, learned, 98, task.chosen_by)
        records.append({
            "errors": task.errors(first, second, held_out, 99, list(task.settings)),
            "on other crops": float(np.mean(list(other.values()))),
            "left the plateau": started,
            "right in training": trace,
            **cost,
        })  # fmt: skip
    return records


def key_of(task: str, steps: int, ramp: float, name: str, rate: float, seed: int) -> str:
    return f"{task}/{steps}/{ramp:g}/{name}/{rate:g}/{seed}"


def run(options: argparse.Namespace) -> Results:
    everyone = contestants()
    settings = {"side": SIDE, "bits": BITS, "batch": BATCH, "held out": HELD_OUT, "judged": JUDGED}
    results = Results(options.out, settings)
    todo = {}
    for task, ramp, name, rate in product(
        options.tasks, options.ramps, options.contestants or everyone, options.rates
    ):
        at = (task, options.steps, ramp, name, rate)
        seeds = [seed for seed in range(options.seeds) if key_of(*at, seed) not in results.cells]
        if seeds:
            todo[at] = seeds
    for at in track(list(todo), description="train"):
        task, steps, ramp, name, rate = at
        for seed, record in zip(
            todo[at], train(TASKS[task], everyone[name], steps, ramp, rate, todo[at]), strict=True
        ):
            results.add(key_of(*at, seed), record)
    return results


Rates = dict[float, dict[int, Record]]
Group = dict[str, dict[int, Record]]


def by_rate(results: Results) -> dict[tuple[str, int, float], dict[str, Rates]]:
    """Records by task, steps and ramp; then by contestant, rate and seed."""
    found: dict[tuple[str, int, float], dict[str, Rates]] = {}
    for key, record in results.cells.items():
        task, steps, ramp, name, rate, seed = key.split("/")
        rates = found.setdefault((task, int(steps), float(ramp)), {}).setdefault(name, {})
        rates.setdefault(float(rate), {})[int(seed)] = record
    order = list(TASKS)
    return dict(sorted(found.items(), key=lambda one: (order.index(one[0][0]), *one[0][1:])))


def best(rates: Rates) -> float:
    """The rate with the fewest errors on other crops, by the seeds that all rates have."""
    common = set.intersection(*map(set, rates.values()))
    return min(
        rates, key=lambda rate: np.mean([rates[rate][i]["on other crops"] for i in common or rates[rate]])
    )


def grouped(results: Results) -> dict[tuple[str, int, float], Group]:
    """The same, of each contestant at its best rate."""
    return {
        key: {name: rates[best(rates)] for name, rates in group.items()}
        for key, group in by_rate(results).items()
    }


def overall(record: Record) -> float:
    """Mean error over all settings of files."""
    return float(np.mean(list(record["errors"].values())))


STUDENT = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 7: 2.45, 8: 2.36}
"""Of Student's distribution, two-sided, 95 %, by number of values."""


def interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean and half of its 95 % interval over seeds; of one value, or of more than 8, nothing."""
    half = (
        STUDENT.get(len(values), math.nan) * float(np.std(values, ddof=1)) / math.sqrt(len(values))
        if len(values) > 1
        else math.nan
    )
    return float(np.mean(values)), half


def beside(seeds: dict[int, Record], reference: dict[int, Record]) -> list[float]:
    """Logarithms of the ratio of overall errors, seed by seed."""
    return [math.log(overall(seeds[i]) / overall(reference[i])) for i in sorted({*seeds} & {*reference})]


def share(logarithms: Sequence[float]) -> str:
    """A mean ratio with its interval."""
    if not logarithms:
        return "–"
    mean, half = interval(logarithms)
    if math.isnan(half):
        return f"{math.exp(mean):.2f}"
    return f"{math.exp(mean):.2f} [{math.exp(mean - half):.2f}, {math.exp(mean + half):.2f}]"


def tables(results: Results) -> str:
    """One per task, number of steps and ramp, the best contestant first."""
    pieces, rated = [], by_rate(results)
    for (task, steps, ramp), group in grouped(results).items():
        settings = list(TASKS[task].settings)
        of_444 = [name for name in settings if name.startswith("4:4:4")]
        columns = [name for name in settings if name not in of_444]
        reference = group.get(REFERENCE, {})
        rows = []
        for name, seeds in sorted(group.items(), key=lambda one: np.mean([*map(overall, one[1].values())])):
            records = list(seeds.values())
            cells = [np.mean([one["errors"][column] for one in records]) for column in columns]
            cells.append(np.mean([one["errors"][column] for one in records for column in of_444]))
            cells.append(np.mean([*map(overall, records)]))
            left = [one["left the plateau"] for one in records]
            rows.append([
                name, *(f"{cell:.2f}" for cell in cells), share(beside(seeds, reference)), len(records),
                "no" if None in left else max(left),
            ])  # fmt: skip
        pieces.append(f"**{task.capitalize()}, {steps} steps, {curriculum(ramp)}**")
        header = ["error, %", *columns, "4:4:4", "all", f"all, times {REFERENCE}", "seeds", "left by step"]
        pieces.append(markdown(header, rows))
        tuned = {name: rates for name, rates in rated[task, steps, ramp].items() if len(rates) > 1}
        if tuned:
            pieces.append(rate_table(tuned))
    return "\n\n".join(pieces + [table for task in TASKS if (table := over_curricula(results, task))])


def over_curricula(results: Results, task: str) -> str:
    """Against the reference, over the curricula with a rising share: a seed's value is its mean over them."""
    groups = {
        f"{curriculum(ramp)}, {steps} steps".removeprefix("coded share rising "): group
        for (one, steps, ramp), group in grouped(results).items()
        if one == task and ramp and REFERENCE in group
    }
    names = dict.fromkeys(name for group in groups.values() for name in group)
    rows = []
    for name in names:
        found = [group.get(name, {}) for group in groups.values()]
        met = [
            {
                i: math.log(overall(seeds[i]) / overall(group[REFERENCE][i]))
                for i in seeds
                if i in group[REFERENCE]
            }
            for seeds, group in zip(found, groups.values(), strict=True)
            if seeds
        ]
        common = sorted(set.intersection(*map(set, met)))
        if name == REFERENCE or len(met) < 2 or not common:
            continue
        every = [ratio for one in met for ratio in one.values()]
        means = [float(np.mean([one[i] for one in met])) for i in common]
        cells = [f"{np.mean([*map(overall, seeds.values())]):.2f}" if seeds else "–" for seeds in found]
        fewer = f"{sum(ratio < 0 for ratio in every)} of {len(every)}"
        rows.append([name, *cells, share(means), fewer, float(np.mean(means))])
    if not rows:
        return ""
    header = ["all, %", *groups, f"times {REFERENCE}", "fewer errors in"]
    rows.sort(key=lambda row: row[-1])
    reference = [f"{np.mean([*map(overall, group[REFERENCE].values())]):.2f}" for group in groups.values()]
    lines = [*(row[:-1] for row in rows), [REFERENCE, *reference, "1.00", "–"]]
    return f"**{task.capitalize()}, over the curricula with a rising share**\n\n{markdown(header, lines)}"


def rate_table(tuned: dict[str, Rates]) -> str:
    """The mean error over all settings by learning rate; (!) is the one chosen by other crops."""
    columns = sorted({rate for rates in tuned.values() for rate in rates})

    def shown(rates: Rates, rate: float) -> str:
        if rate not in rates:
            return "–"
        error = np.mean([*map(overall, rates[rate].values())])
        return f"{error:.2f}" + " (!)" * (rate == best(rates))

    header = ["all, by learning rate; (!) is chosen by other crops", *(f"{rate:g}" for rate in columns)]
    return markdown(
        header, [[name, *(shown(rates, rate) for rate in columns)] for name, rates in tuned.items()]
    )


def curriculum(ramp: float) -> str:
    if ramp == math.inf:
        return "coded share rising with the bits that are right"
    return f"coded share rising over {100 * ramp:g} %" if ramp else "all coded from the start"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="jpegrad bench train", description=__doc__)
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=["watermark"])
    parser.add_argument("--contestants", nargs="+", choices=list(contestants()), metavar="NAME")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rates", nargs="+", type=float, default=list(RATES))
    parser.add_argument(
        "--ramps",
        nargs="+",
        type=float,
        default=[0.5],
        help="shares of the steps; inf: by the bits that are right",
    )
    parser.add_argument("--out", type=Path, default=RESULTS / "train.json", help="(default: %(default)s)")
    options = parser.parse_args(arguments)
    silent = [task for task in options.tasks if not TASKS[task].tells]
    if silent and math.inf in options.ramps:
        parser.error(f"--ramps inf: {silent[0]} tells no bits")
    one_thread()
    results = run(options)
    finish("train", tables(results), options.out, lambda path: figures.train(results, path))


if __name__ == "__main__":
    main()
