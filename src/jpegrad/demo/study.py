"""What the demonstration computes."""

import io
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import jpegrad
from jpegrad.data import photograph, photograph_names
from jpegrad.demo.recover import Recovery, Track, recover_quality, recover_tables

QUALITIES = (5, 20, 50, 90)
MODES = {"4:4:4": 0, "4:2:2": 1, "4:2:0": 2}
SHOWN = "portrait"


@dataclass(frozen=True)
class Fidelity:
    """One photograph coded once, beside Pillow."""

    photograph: str
    subsampling: str
    quality: int
    samples: int
    different: int
    psnr: float
    size: int
    same_bytes: bool
    picture: Tensor


@dataclass(frozen=True)
class QualitySlope:
    """d(error)/d(quality) of one photograph at q = 1…99."""

    photograph: str
    qualities: list[int]
    error: list[float]
    measured: list[float]
    gradient: list[float]
    paper: list[float]


@dataclass(frozen=True)
class Results:
    """Everything the report shows."""

    original: Tensor
    fidelity: list[Fidelity]
    image_gradients: dict[str, Tensor]
    slopes: list[QualitySlope]
    table_gradients: Tensor
    quality: Recovery
    tables: Recovery

    def summary(self) -> list[str]:
        """The figures, a line each."""
        samples = sum(row.samples for row in self.fidelity)
        different = sum(row.different for row in self.fidelity)
        files = sum(not row.same_bytes for row in self.fidelity)
        pairs = [(s.gradient[i] / s.measured[i]) for s in self.slopes for i in range(len(s.qualities))]
        sign = sum(ratio > 0 for ratio in pairs) / len(pairs)
        close = sum(1 / 1.5 < ratio < 1.5 for ratio in pairs) / len(pairs)
        zero = sum(g == 0 for s in self.slopes for g in s.gradient)
        return [
            f"samples compared with Pillow: {samples:,}; different: {different}",
            f"files compared with Pillow: {len(self.fidelity)}; different: {files}",
            f"d(error)/d(quality), q = 1…99, {len(self.slopes)} photographs: right sign {sign:.1%}, "
            f"within a factor 1.5 of the measured change {close:.1%}, zero {zero} times",
            self.quality.sentence,
            self.tables.sentence,
        ]


def pillow_file(image: Tensor, quality: int, subsampling: str) -> bytes:
    """The .jpg that Pillow writes of a uint8 picture."""
    buffer = io.BytesIO()
    pixels = Image.fromarray(image.permute(1, 2, 0).numpy())
    pixels.save(buffer, "JPEG", quality=quality, subsampling=MODES[subsampling])
    return buffer.getvalue()


def pillow_pixels(file: bytes) -> Tensor:
    """What Pillow decodes, uint8 ``[3, H, W]``."""
    with Image.open(io.BytesIO(file)) as picture:
        return torch.from_numpy(np.array(picture)).permute(2, 0, 1)


def compute(seed: int, track: Track) -> Results:
    """Run the whole study; ``track(description, items)`` yields the items and shows progress."""
    names = list(photograph_names())
    return Results(
        original=photograph(SHOWN),
        fidelity=_fidelity(names, track),
        image_gradients=_image_gradients(track),
        slopes=[_quality_slope(name, track) for name in names[:3]],
        table_gradients=_table_gradients(),
        quality=recover_quality(photograph(SHOWN), seed, track),
        tables=recover_tables(photograph(SHOWN), seed, track),
    )


def _fidelity(names: list[str], track: Track) -> list[Fidelity]:
    cases = [(n, "4:2:0", q) for n in names for q in QUALITIES]
    cases += [(SHOWN, mode, q) for mode in ("4:4:4", "4:2:2") for q in QUALITIES]
    rows = []
    for name, mode, quality in track("coding photographs beside Pillow", cases):
        image = photograph(name)
        with torch.no_grad():
            coefficients = jpegrad.encode(image, quality, subsampling=mode)
            ours = jpegrad.decode(coefficients)
        file = pillow_file(image, quality, mode)
        mse = (ours.double() - image.double()).square().mean().item()
        rows.append(
            Fidelity(
                photograph=name,
                subsampling=mode,
                quality=quality,
                samples=ours.numel(),
                different=int((ours != pillow_pixels(file)).sum()),
                psnr=float(10 * np.log10(255**2 / mse)),
                size=len(file),
                same_bytes=jpegrad.to_bytes(coefficients) == file,
                picture=ours,
            )
        )
    return rows


def _error(image: Tensor, **how: Any) -> Tensor:
    """Mean squared coding error in grey levels²."""
    return (jpegrad.jpeg(image, **how) - image).square().mean() * 255**2


def _image_gradients(track: Track) -> dict[str, Tensor]:
    gradients = {}
    for name in track("gradients to the image", ["gaussian", "identity", "reich2024_ste"]):
        image = (photograph(SHOWN).float() / 255).requires_grad_()
        coded = jpegrad.jpeg(image, quality=20, surrogate=name)
        # How a classifier or detector would look at it: something downstream that cares about local contrast.
        (coded[:, 1:, 1:] - coded[:, :-1, :-1]).abs().sum().backward()
        assert image.grad is not None
        gradients[name] = image.grad
    return gradients


def _quality_slope(name: str, track: Track) -> QualitySlope:
    image = photograph(name)[:, :192, :192].float() / 255
    error: list[float] = []
    slopes: dict[str, list[float]] = {"distortion": [], "reich2024_ste": []}
    for q in track(f"d(error)/d(quality): {name}", list(range(1, 101))):
        with torch.no_grad():
            error.append(_error(image, quality=q).item())
        for key, found in slopes.items():
            quality = torch.tensor(float(q), requires_grad=True)
            record = {"surrogate": key} if key == "reich2024_ste" else {"table_surrogate": key}
            _error(image, quality=quality, **record).backward()
            assert quality.grad is not None
            found.append(quality.grad.item())
    measured = []
    for q in range(1, 100):
        low, high = max(q - 2, 1), min(q + 2, 100)
        measured.append((error[high - 1] - error[low - 1]) / (high - low))
    return QualitySlope(
        name,
        list(range(1, 100)),
        error[:99],
        measured,
        slopes["distortion"][:99],
        slopes["reich2024_ste"][:99],
    )


def _table_gradients() -> Tensor:
    tables = jpegrad.tables.annex_k(50).requires_grad_()
    _error(photograph(SHOWN).float() / 255, tables=tables).backward()
    assert tables.grad is not None
    return tables.grad
