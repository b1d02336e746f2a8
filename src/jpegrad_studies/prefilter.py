"""Two small networks around JPEG, trained through it and judged by real files."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

import jpegrad
from jpegrad_studies.baselines.fsa import pillow
from jpegrad_studies.truth import trade_off

QUALITY = 10
CROP = 64
BATCH = 4


class Residual(nn.Module):
    """The picture and a correction by two convolutions, which starts at zero."""

    def __init__(self, channels: int = 12) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, channels, 5, padding=2), nn.ReLU(), nn.Conv2d(channels, 3, 5, padding=2)
        )
        nn.init.zeros_(self.body[2].weight)
        nn.init.zeros_(self.body[2].bias)

    def forward(self, image: Tensor) -> Tensor:
        return image + 255 * self.body(image / 255 - 0.5)


def train(
    coder: Callable[[Tensor, Tensor, Tensor | None, float], Tensor],
    photographs: Sequence[Tensor],
    steps: int,
    seed: int,
) -> dict[str, float]:
    """A filter before JPEG and one after it (5 × 5, 12 channels, 5 × 5, residual), trained together at quality 10 for
    squared error + λ · bits on random 64 × 64 crops of the left halves, judged with real files on the right halves;
    against no filters. The slope of the size is the same for all."""
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    before, after = Residual(), Residual()
    parameters = [*before.parameters(), *after.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    whole = [photograph.float() for photograph in photographs]
    price = trade_off(whole, QUALITY)
    lefts = [photograph[:, :, : photograph.shape[2] // 2] for photograph in whole]
    quality = torch.full((BATCH,), float(QUALITY))
    for step in range(steps):
        crops = torch.stack([random_crop(lefts, generator) for _ in range(BATCH)])
        sent = before(crops)
        shown = after(coder(sent, quality, None, step / max(steps - 1, 1)))
        coefficients = jpegrad.encode(sent, quality=QUALITY, value_range=(0.0, 255.0))
        cost = (shown - crops).square().sum() + price * jpegrad.bits(coefficients).sum()
        optimizer.zero_grad()
        (cost / crops.numel()).backward()
        optimizer.step()
        schedule.step()
    return judge(before, after, whole, price)


def random_crop(photographs: Sequence[Tensor], generator: torch.Generator) -> Tensor:
    image = photographs[int(torch.randint(len(photographs), (), generator=generator))]
    top, left = (int(torch.randint(extent - CROP + 1, (), generator=generator)) for extent in image.shape[1:])
    return image[:, top : top + CROP, left : left + CROP]


@torch.no_grad()
def judge(
    before: nn.Module, after: nn.Module, photographs: Sequence[Tensor], price: float
) -> dict[str, float]:
    """Change of cost, squared error and size of the right halves, in per cent of those without filters."""
    quality = torch.tensor([float(QUALITY)])
    sums = torch.zeros(2, 2, dtype=torch.float64)
    for photograph in photographs:
        right = photograph[None, :, :, photograph.shape[2] // 2 :]
        filtered = before(right).round().clamp(0, 255)
        pairs = ((right, pillow(right, quality)), (filtered, after(pillow(filtered, quality))))
        for row, (sent, shown) in enumerate(pairs):
            bits = jpegrad.bits(jpegrad.encode(sent.to(torch.uint8), quality=QUALITY)).sum()
            sums[row] += torch.stack(((shown.clamp(0, 255) - right).double().square().sum(), bits))
    costs = sums[:, 0] + price * sums[:, 1]
    (error, size), cost = sums[1] / sums[0] - 1, costs[1] / costs[0] - 1
    return {
        "cost (%)": 100 * float(cost),
        "squared error (%)": 100 * float(error),
        "size (%)": 100 * float(size),
    }
