"""Colour conversions and chroma filters: their gradients against real files, found from files, learned for rate.

A conversion is the codec's own argument, ``color``. A filter stands in front of the codec: planes of Y, Cb and Cr go in
with ``color=PLANES``, as Pillow writes pictures of mode YCbCr.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

import jpegrad
from jpegrad import Coefficients
from jpegrad.spec import JFIF, RGB, Color
from jpegrad.testing import SampledGradient
from jpegrad_studies import figures
from jpegrad_studies.common import RESULTS, Results, finish, load_images, markdown, middle, one_thread, track
from jpegrad_studies.truth import trade_off

SEED = 0
SIDE = 64
SIGMA = 4.0
PARTS = 10
QUALITIES = (50, 90)
HELD_OUT = ("caps", "coast")
PLANES = RGB._replace(inverse=None)
"""The components as they are, decoded as every viewer does."""
OFFSET = torch.tensor(JFIF.offset)[:, None, None]
BT709 = ((0.2126, 0.7152, 0.0722), (-0.11457, -0.38543, 0.5), (0.5, -0.45415, -0.04585))
RATE = 1.0

WIDTHS = (12.0, 1.0)
Outcome = dict[str, Any]
Options = Callable[[float], dict[str, Any]]


def fixed(**options: Any) -> Options:
    return lambda progress: options


def narrowing(progress: float) -> dict[str, Any]:
    first, last = WIDTHS
    return {"forward": "soft", "sigma": first * (last / first) ** progress}


# Beside the sampled derivatives, the Gaussians at the noise's own width.
GRADIENTS = {
    "jpegrad": fixed(sigma=SIGMA),
    "jpegrad soft": fixed(forward="soft", sigma=SIGMA),
    "slope 1": fixed(surrogate="identity"),
    "cubic": fixed(surrogate="cubic"),
}
# Progress of a descent 0 ... 1 -> options of `encode`.
DESCENTS: dict[str, Options] = {
    "jpegrad default": fixed(),
    "jpegrad soft": fixed(forward="soft"),
    "jpegrad soft, σ 12 to 1": narrowing,
    "jpegrad soft, soft_round": fixed(forward="soft", surrogate="soft_round"),
    "slope 1": fixed(surrogate="identity"),
}


@dataclass(frozen=True)
class Parameter:
    """Something in front of the quantiser that has parameters.

    Args:
        start: Where a descent begins: JFIF's conversion, or no filter.
        secret: Another encoder's.
        unit: Of each parameter, what moves the planes by about a grey level.
        reach: Of central differences, in units.
        planes: (parameters, images in 0 ... 255) -> Y, Cb and Cr, real numbers.
        is_color: Whether the codec takes it as `color`.
        inverted: Whether the decoder inverts the conversion; else it is what every viewer has.
    """

    start: Tensor
    secret: Tensor
    unit: Tensor
    reach: float
    planes: Callable[[Tensor, Tensor], Tensor]
    is_color: bool
    inverted: bool = False

    def coded(self, parameters: Tensor, image: Tensor, quality: float, **options: Any) -> Coefficients:
        """With gradients to the parameters."""
        if self.is_color:
            inverse = torch.linalg.inv(parameters) if self.inverted else None
            color, given = Color(parameters, JFIF.offset, inverse), image
        else:
            color, given = PLANES, self.planes(parameters, image)
        return jpegrad.encode(given, quality, color=color, value_range=(0.0, 255.0), **options)

    def file(self, parameters: Tensor, image: Tensor, quality: int) -> tuple[Tensor, int]:
        """[3, H, W] through a file that Pillow wrote and reads at 4:2:0, and the file's size in bits."""
        planes = self.planes(parameters, image).round().clamp(0, 255).byte().permute(1, 2, 0).numpy()
        with io.BytesIO() as file:
            Image.fromarray(planes, "YCbCr").save(file, "JPEG", quality=quality)
            size = 8 * file.tell()
            with Image.open(file) as picture:
                if self.inverted:
                    picture.draft("YCbCr", picture.size)
                pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1).to(image)
        if self.inverted:
            own = torch.linalg.inv(parameters)
            pixels = torch.einsum("ij,jhw->ihw", own, pixels - OFFSET).round().clamp(0, 255)
        return pixels, size


def decoded(coefficients: Coefficients) -> Tensor:
    return jpegrad.decode(coefficients, value_range=(0.0, 255.0))


def converted(matrix: Tensor, image: Tensor) -> Tensor:
    """Y, Cb and Cr of images [..., 3, H, W]."""
    return torch.einsum("ij,...jhw->...ihw", matrix, image) + OFFSET


def filtered(taps: Tensor, image: Tensor) -> Tensor:
    """JFIF's planes, with [3, 3] on those of Cb and Cr before libjpeg's mean of four; the taps' sum is made 1."""
    planes = converted(torch.tensor(JFIF.matrix), image)
    chroma = planes[..., 1:, :, :].reshape(-1, 1, *planes.shape[-2:])
    smooth = F.conv2d(F.pad(chroma, (1, 1, 1, 1), mode="replicate"), taps[None, None] / taps.sum())
    return torch.cat((planes[..., :1, :, :], smooth.reshape_as(planes[..., 1:, :, :])), -3)


def parameters() -> dict[str, Parameter]:
    jfif, bt709 = torch.tensor(JFIF.matrix), torch.tensor(BT709)
    grey = torch.full((3, 3), 1 / 128)
    none = torch.zeros(3, 3)
    none[1, 1] = 1.0
    binomial = torch.tensor([[1.0, 2.0, 1.0], [2.0, 4.0, 2.0], [1.0, 2.0, 1.0]]) / 16
    return {
        "conversion": Parameter(jfif, bt709, grey, 0.1, converted, True),
        "inverted conversion": Parameter(jfif, bt709, grey, 0.1, converted, True, True),
        "filter": Parameter(none, binomial, torch.full((3, 3), 1 / 16), 1.0, filtered, False),
    }


PARAMETERS = parameters()


def agreement(image: Tensor, quality: int, which: str, noises: int) -> Outcome:
    """Derivatives by central differences of real files, meaned over noise on the pixels, and what gradients say."""
    parameter, generator = PARAMETERS[which], torch.Generator().manual_seed(SEED)
    weights = torch.randn(image.shape, generator=generator)
    target, _ = parameter.file(parameter.secret, image, quality)
    losses: dict[str, Callable[[Tensor], Tensor]] = {
        "random weights": lambda coded: (coded * weights).sum(),
        "squared error to another encoder's file": lambda coded: (coded - target).square().sum(),
    }
    slopes = torch.zeros(len(losses), PARTS, *parameter.start.shape, dtype=torch.float64)
    for part in range(noises):
        one = (image + SIGMA * torch.randn(image.shape, generator=generator)).round().clamp(0, 255)
        for index in np.ndindex(*parameter.start.shape):
            for sign in (1, -1):
                moved = parameter.start.clone()
                moved[index] += sign * parameter.reach * parameter.unit[index]
                coded, _ = parameter.file(moved, one, quality)
                for kind, loss in enumerate(losses.values()):
                    slopes[(kind, part % PARTS, *index)] += sign * float(loss(coded))
    slopes *= PARTS / noises / (2 * parameter.reach)
    found: Outcome = {}
    for (kind, loss), truth in zip(losses.items(), slopes, strict=True):
        sampled = SampledGradient(truth)
        found[kind] = {"truth": truth.mean(0).flatten().tolist()}
        for name, options in GRADIENTS.items():
            moved = parameter.start.clone().requires_grad_()
            value = loss(decoded(parameter.coded(moved, image, quality, **options(0.0))))
            slope = (torch.autograd.grad(value, moved)[0] * parameter.unit).double()
            measures = asdict(sampled.agreement(slope))
            found[kind][name] = {"predicted": slope.flatten().tolist(), **measures}
    return found


def descend(parameter: Parameter, cost: Callable[[Tensor, float], Tensor], steps: int) -> Tensor:
    """Adam in units of the parameters; its rate falls to a fiftieth."""
    moved = torch.zeros_like(parameter.start).requires_grad_()
    optimizer = torch.optim.Adam([moved], lr=RATE, betas=(0.8, 0.95))
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.02 ** (1 / steps))
    for step in range(steps):
        optimizer.zero_grad()
        cost(parameter.start + moved * parameter.unit, step / max(steps - 1, 1)).backward()
        optimizer.step()
        schedule.step()
    return (parameter.start + moved * parameter.unit).detach()


def recover(images: Tensor, others: Tensor, quality: int, which: str, steps: int) -> Outcome:
    """From photographs and their files of another encoder, which has BT.709's matrix, or a binomial filter of chroma.
    The descent on the squared error starts at JFIF's, without a filter. Distance to the secret in units, root mean
    square; squared error to the other encoder's files of other photographs, in per cent of what it is at the start."""
    parameter = PARAMETERS[which]

    def files(found: Tensor, pictures: Tensor) -> Tensor:
        return torch.stack([parameter.file(found, one, quality)[0] for one in pictures])

    target, unseen = files(parameter.secret, images), files(parameter.secret, others)

    def judged(found: Tensor) -> tuple[float, float]:
        found = found if parameter.is_color else found / found.sum()
        distance = ((found - parameter.secret) / parameter.unit).square().mean().sqrt()
        return float(distance), float((files(found, others) - unseen).square().mean())

    far, before = judged(parameter.start)
    outcome: Outcome = {"the start": {"distance": far, "error (%)": 100.0}}
    for name, options in DESCENTS.items():

        def cost(moved: Tensor, progress: float, options: Options = options) -> Tensor:
            coefficients = parameter.coded(moved, images, quality, **options(progress))
            return (decoded(coefficients) - target).square().mean()

        distance, after = judged(descend(parameter, cost, steps))
        outcome[name] = {"distance": distance, "error (%)": 100 * after / before}
    return outcome


def learn(images: Tensor, others: Tensor, quality: int, which: str, steps: int) -> Outcome:
    """For squared error + λ · bits, λ the trade-off of the quality scale itself: change of the files' cost in per
    cent, on the photographs learned from and on others. The slope of the size is the same for all."""
    parameter, price = PARAMETERS[which], trade_off(list(images), quality)

    def total(found: Tensor, pictures: Tensor) -> float:
        sums = 0.0
        for one in pictures:
            coded, size = parameter.file(found, one, quality)
            sums += float((coded - one).square().sum()) + price * size
        return sums

    outcome: Outcome = {}
    for name, options in DESCENTS.items():

        def cost(moved: Tensor, progress: float, options: Options = options) -> Tensor:
            coefficients = parameter.coded(moved, images, quality, **options(progress))
            error = (decoded(coefficients) - images).square().sum()
            return (error + price * jpegrad.bits(coefficients).sum()) / images.numel()

        found = descend(parameter, cost, steps)
        outcome[name] = {
            place: 100 * (total(found, pictures) / total(parameter.start, pictures) - 1)
            for place, pictures in {"learned from (%)": images, "others (%)": others}.items()
        }
    return outcome


def run(options: argparse.Namespace) -> Results:
    pictures = {name: middle(image, SIDE) for name, image in load_images(options.images).items()}
    others = torch.stack([pictures.pop(name) for name in list(pictures) if name in HELD_OUT])
    images = torch.stack(list(pictures.values()))
    settings = {
        "images": list(pictures), "side": SIDE, "seed": SEED, "noises": options.noises, "steps": options.steps
    }  # fmt: skip
    results = Results(options.out, settings)
    work: dict[str, Callable[[], Outcome]] = {}
    for which, quality in product(PARAMETERS, options.qualities):
        at = (quality, which)
        if not PARAMETERS[which].inverted:
            for name in list(pictures)[: options.limit]:
                work[f"gradient/{which}/{quality}/{name}"] = lambda i=pictures[name], a=at: agreement(
                    i, *a, options.noises
                )
            work[f"recover/{which}/{quality}/all"] = lambda a=at: recover(images, others, *a, options.steps)
        work[f"learn/{which}/{quality}/all"] = lambda a=at: learn(images, others, *a, options.steps)
    for key in track(results.missing(work), description="conversion"):
        results.add(key, work[key]())
    return results


def grouped(results: Results, task: str, which: str) -> dict[int, list[Outcome]]:
    """Cells of one task by quality."""
    groups: dict[int, list[Outcome]] = {}
    for key, cell in results.cells.items():
        kind, parameter, quality, _ = key.split("/")
        if (kind, parameter) == (task, which):
            groups.setdefault(int(quality), []).append(cell)
    return dict(sorted(groups.items()))


def gradient_table(results: Results, which: str, loss: str) -> str:
    groups, rows = grouped(results, "gradient", which), []
    for name in GRADIENTS:
        row = []
        for cells in groups.values():
            cosine, size, error = (
                np.mean([cell[loss][name][field] for cell in cells])
                for field in ("cosine", "size", "cosine_error")
            )
            error /= np.sqrt(len(cells))
            # What the noise of the sampling hides.
            row.append(f"{cosine:.2f} ± {error:.2f} ({size:.2f})" if error < 0.3 else "–")
        rows.append([name, *row])
    return markdown(["cosine (size)", *(f"q {quality}" for quality in groups)], rows)


def task_table(results: Results, task: str, which: str) -> str:
    groups = grouped(results, task, which)
    first = next(iter(groups.values()))[0]
    fields = list(next(iter(first.values())))
    rows = [
        [
            name,
            *(
                f"{np.mean([cell[name][field] for cell in cells]):.3g}"
                for cells in groups.values()
                for field in fields
            ),
        ]
        for name in first
    ]
    return markdown(["approach", *(f"q {quality}, {field}" for quality in groups for field in fields)], rows)


TITLES = {
    "conversion": "conversion, 3 × 3, as every viewer decodes it",
    "inverted conversion": "conversion, and its inverse in the decoder",
    "filter": "filter of chroma, 3 × 3",
}


def report(results: Results) -> str:
    settings = results.settings
    pieces = [
        f"{len(settings['images'])} photographs, the middle {SIDE} × {SIDE}; {len(HELD_OUT)} others to judge by."
        f" Gradients: {settings['noises']} noises of {SIGMA:g} grey levels."
        " Cosine ± standard error (size: truth per gradient, 1 is right)."
        f" Descents: Adam, {settings['steps']} steps, the same for all."
    ]
    for which, title in TITLES.items():
        if grouped(results, "gradient", which):
            for loss in ("random weights", "squared error to another encoder's file"):
                pieces += [f"**Gradient to the {title}: {loss}**", gradient_table(results, which, loss)]
        for task, solve in {"recover": recover, "learn": learn}.items():
            if grouped(results, task, which):
                text = " ".join((solve.__doc__ or "").split())
                pieces += [f"**{task.capitalize()} the {title}**. {text}", task_table(results, task, which)]
    return "\n\n".join(pieces)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="jpegrad bench conversion", description=__doc__)
    parser.add_argument(
        "--images", type=Path, help=f"folder of PNG photographs, {' and '.join(HELD_OUT)} among them"
    )
    parser.add_argument("--limit", type=int, default=2, help="photographs of each gradient")
    parser.add_argument("--noises", type=int, default=100, help="for each sampled derivative")
    parser.add_argument("--steps", type=int, default=100, help="of each descent")
    parser.add_argument("--qualities", nargs="+", type=int, default=list(QUALITIES))
    parser.add_argument(
        "--out", type=Path, default=RESULTS / "conversion.json", help="(default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    one_thread()
    results = run(options)
    finish("conversion", report(results), options.out, lambda path: figures.conversion(results, path))


if __name__ == "__main__":
    main()
