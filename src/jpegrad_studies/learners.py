"""What the training study trains: small networks around JPEG, their losses, and their verdict by real files."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

import jpegrad
from jpegrad_studies.baselines.fsa import PILLOW_SUBSAMPLING, pillow
from jpegrad_studies.prefilter import Residual

SIDE = 32
BITS = 16
BLOCKS = (SIDE // 8) ** 2
JUDGED = 256

# Images [B, 3, SIDE, SIDE] in 0 ... 255 -> as they come out of JPEG.
Send = Callable[[Tensor], Tensor]


def crops(pictures: Sequence[Tensor], count: int, generator: torch.Generator) -> Tensor:
    """[count, 3, SIDE, SIDE] in 0 ... 255 from random places."""
    found = []
    for which, down, right in torch.rand(count, 3, generator=generator).tolist():
        one = pictures[int(which * len(pictures))]
        top, left = int(down * (one.shape[1] - SIDE + 1)), int(right * (one.shape[2] - SIDE + 1))
        found.append(one[:, top : top + SIDE, left : left + SIDE])
    return torch.stack(found).float()


def other_tables(image: Tensor, quality: float) -> Tensor:
    """Files at 4:2:0 with the default tables of mozjpeg, at its scale of qualities."""
    tables = jpegrad.tables.scale(jpegrad.tables.load("robidoux"), quality).int().flatten(1).tolist()
    decoded = []
    for one in image.round().clamp(0, 255).byte().permute(0, 2, 3, 1).numpy():
        with io.BytesIO() as file:
            Image.fromarray(one).save(file, "JPEG", qtables=tables, subsampling=PILLOW_SUBSAMPLING["4:2:0"])
            decoded.append(np.array(Image.open(file)))
    return torch.from_numpy(np.stack(decoded)).permute(0, 3, 1, 2).to(image)


def files(qualities: Sequence[int], others: Sequence[int]) -> dict[str, Send]:
    """Pillow's files in two modes, and with other tables than those trained on."""

    def of_pillow(quality: int, subsampling: str) -> Send:
        return lambda image: pillow(image, torch.full((len(image),), float(quality)), subsampling)

    return {
        **{f"{mode}, q {q}": of_pillow(q, mode) for mode in ("4:2:0", "4:4:4") for q in qualities},
        **{f"mozjpeg's tables, q {q}": lambda image, q=q: other_tables(image, q) for q in others},
    }


def blocks(image: Tensor) -> Tensor:
    """[B, 3, SIDE, SIDE] in 0 ... 255 as [B, BLOCKS, 192] in -1 ... 1."""
    whole = (image / 127.5 - 1).reshape(-1, 3, SIDE // 8, 8, SIDE // 8, 8)
    return whole.permute(0, 2, 4, 1, 3, 5).reshape(-1, BLOCKS, 192)


def picture(vectors: Tensor) -> Tensor:
    """Blocks in the places that they came from."""
    whole = vectors.reshape(-1, SIDE // 8, SIDE // 8, 3, 8, 8)
    return whole.permute(0, 3, 1, 4, 2, 5).reshape(-1, 3, SIDE, SIDE)


class Embedder(nn.Module):
    """Bits [B, BITS] into pictures [B, 3, SIDE, SIDE]: a residual of a given PSNR, block by block."""

    def __init__(self, psnr: float = 38.0, channels: int = 128) -> None:
        super().__init__()
        self.root_mean_square = 255 * 10 ** (-psnr / 20)
        self.message = nn.Linear(BITS, 16 * BLOCKS)
        self.body = nn.Sequential(
            *(nn.Linear(192 + 16, channels), nn.GELU()),
            *(nn.Linear(channels, channels), nn.GELU()),
            nn.Linear(channels, 192),
        )

    def residual(self, image: Tensor, bits: Tensor) -> Tensor:
        message = self.message(2 * bits - 1).reshape(-1, BLOCKS, 16)
        return picture(self.body(torch.cat((blocks(image), message), 2)))

    def forward(self, image: Tensor, bits: Tensor) -> Tensor:
        residual = self.residual(image, bits)
        length = residual.square().mean((1, 2, 3), keepdim=True).sqrt()
        return (image + residual * (self.root_mean_square / (length + 1e-6))).clamp(0, 255)


class ConvolvingEmbedder(Embedder):
    """The same from convolutions on cells of 4 × 4 pixels, which know nothing of blocks."""

    def __init__(self, psnr: float = 36.0, channels: int = 32) -> None:
        super().__init__(psnr)
        self.message = nn.Linear(BITS, 8 * (SIDE // 4) ** 2)
        self.body = nn.Sequential(
            *(nn.Conv2d(48 + 8, channels, 3, padding=1), nn.GELU()),
            *(nn.Conv2d(channels, channels, 3, padding=1), nn.GELU()),
            nn.Conv2d(channels, 48, 1),
        )

    def residual(self, image: Tensor, bits: Tensor) -> Tensor:
        message = self.message(2 * bits - 1).reshape(-1, 8, SIDE // 4, SIDE // 4)
        seen = F.pixel_unshuffle(image / 127.5 - 1, 4)
        return F.pixel_shuffle(self.body(torch.cat((seen, message), 1)), 4)


class Reader(nn.Module):
    """Logits [B, BITS] of the bits in pictures, block by block."""

    def __init__(self, channels: int = 128) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(nn.Linear(192, channels), nn.GELU()),
            *(nn.Linear(channels, channels), nn.GELU()),
            *(nn.Linear(channels, 16), nn.GELU(), nn.Flatten()),
            nn.Linear(16 * BLOCKS, BITS),
        )

    def forward(self, image: Tensor) -> Tensor:
        found: Tensor = self.body(blocks(image))
        return found


class ConvolvingReader(nn.Module):
    """The same from convolutions on cells of 4 × 4 pixels."""

    def __init__(self, channels: int = 32) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(nn.Conv2d(48, channels, 3, padding=1), nn.GELU()),
            *(nn.Conv2d(channels, channels, 3, padding=1), nn.GELU()),
            *(nn.Conv2d(channels, 16, 1), nn.GELU(), nn.Flatten()),
            nn.Linear(16 * (SIDE // 4) ** 2, BITS),
        )

    def forward(self, image: Tensor) -> Tensor:
        found: Tensor = self.body(F.pixel_unshuffle(image / 127.5 - 1, 4))
        return found


class Filter(Residual):
    """A filter that is told no bits."""

    def forward(self, image: Tensor, bits: Tensor | None = None) -> Tensor:
        return super().forward(image)


def right(logits: Tensor, bits: Tensor) -> Tensor:
    """Per cent, over the last two dimensions."""
    return 100 * ((logits > 0) == (bits > 0.5)).float().mean((-2, -1))


@dataclass(frozen=True)
class Task:
    """A network before JPEG and one behind it.

    Args:
        before: (images, bits) -> images, both [B, ...].
        behind: images -> what the loss is taken of.
        loss: (of that, images, bits) -> number, over all but the first dimension: one per training.
        qualities: least and greatest of the training, drawn per image.
        settings: files of the verdict.
        chosen_by: those by which a learning rate is chosen.
        tells: whether bits are told.
    """

    before: Callable[[], nn.Module]
    behind: Callable[[], nn.Module]
    loss: Callable[[Tensor, Tensor, Tensor], Tensor]
    qualities: tuple[int, int]
    settings: dict[str, Send]
    chosen_by: Sequence[str]
    tells: bool

    @torch.no_grad()
    def errors(
        self,
        before: nn.Module,
        behind: nn.Module,
        pictures: Sequence[Tensor],
        seed: int,
        settings: Sequence[str],
    ) -> dict[str, float]:
        """Of bits: wrong ones in per cent. Of pictures: squared error, in per cent of that without filters."""
        generator = torch.Generator().manual_seed(seed)
        images = crops(pictures, JUDGED, generator)
        bits = torch.randint(2, (JUDGED, BITS), generator=generator).float()
        sent, found = before(images, bits), {}
        for name in settings:
            file = self.settings[name]
            out = behind(file(sent.clamp(0, 255)))
            if self.tells:
                found[name] = 100 - float(right(out, bits))
            else:
                error, without = (
                    float((x.clamp(0, 255) - images).square().mean()) for x in (out, file(images))
                )
                found[name] = 100 * error / without
        return {name: round(error, 3) for name, error in found.items()}


def cross_entropy(logits: Tensor, images: Tensor, bits: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logits, bits, reduction="none").mean((1, 2))


def squared_error(out: Tensor, images: Tensor, bits: Tensor) -> Tensor:
    return (out / 255 - images / 255).square().mean((1, 2, 3, 4))


MARKED = ((40, 80), files((30, 50, 70, 90), (50, 70)), ("4:2:0, q 50", "4:2:0, q 70"), True)
FILTERED = ((5, 25), files((5, 10, 20, 40), (20,)), ("4:2:0, q 10", "4:2:0, q 20"), False)
TASKS = {
    "watermark": Task(Embedder, Reader, cross_entropy, *MARKED),
    "convolving watermark": Task(ConvolvingEmbedder, ConvolvingReader, cross_entropy, *MARKED),
    "sandwich": Task(Filter, Filter, squared_error, *FILTERED),
}
