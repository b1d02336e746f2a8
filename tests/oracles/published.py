"""The published differentiable JPEGs a second time: numpy, SciPy's DCT, one block after the other."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.fft import dctn, idctn

from jpegrad_studies.baselines.common import ANNEX_K

JFIF = np.array([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])
JFIF_INVERSE = np.array([[1, 0, 1.402], [1, -0.344136, -0.714136], [1, 1.772, 0]])
LUMA, CHROMA = (table.numpy() for table in ANNEX_K)

Step = Callable[[np.ndarray], np.ndarray]
Clip = Callable[[np.ndarray, float, float], np.ndarray]
TableRule = Callable[[float], tuple[np.ndarray, ...]]


def percent(q: float) -> float:
    return 5000 / q if q < 50 else 200 - 2 * q


def legal(base: np.ndarray, q: float) -> np.ndarray:
    return np.clip(np.floor((base * math.floor(percent(q)) + 50) / 100), 1, 255)


def cubic(x: np.ndarray) -> np.ndarray:
    return np.round(x) + (x - np.round(x)) ** 3


def zero_cubic(x: np.ndarray) -> np.ndarray:
    return np.array([v**3 if abs(v) < 0.5 else v for v in x.ravel()]).reshape(x.shape)


def fourier(x: np.ndarray) -> np.ndarray:
    return x - sum((-1) ** (n + 1) / n * np.sin(2 * np.pi * n * x) for n in range(1, 10)) / np.pi


def sine(x: np.ndarray) -> np.ndarray:
    return x - np.sin(2 * np.pi * x) / (2 * np.pi)


def soft_round(x: np.ndarray) -> np.ndarray:
    m = np.floor(x) + 0.5
    return m + np.tanh(7 * (x - m)) / (2 * np.tanh(3.5))


def soft_levels(x: np.ndarray) -> np.ndarray:
    """Softmax over all levels within ten of the value, the tail that the adapter leaves out included."""
    k = np.floor(x)[..., None] + np.arange(-10, 11)
    weights = np.exp(-20 * (x[..., None] - k) ** 2)
    return (weights * k).sum(-1) / weights.sum(-1)


def soft_floor(x: np.ndarray) -> np.ndarray:
    return cubic(x - 0.5)


def soft_clip(x: np.ndarray, low: float, high: float) -> np.ndarray:
    return np.where(x < low, low + (x - low) * 1e-3, np.where(x > high, high + (x - high) * 1e-3, x))


def mean_down(plane: np.ndarray) -> np.ndarray:
    return (plane[::2, ::2] + plane[1::2, ::2] + plane[::2, 1::2] + plane[1::2, 1::2]) / 4


def filtered_down(plane: np.ndarray, taps: tuple[float, ...], mode: str) -> np.ndarray:
    """Four taps per axis around each pair of samples."""
    padded = np.pad(plane, 1, mode=mode)
    rows = sum(
        t * padded[i : i + plane.shape[0] - 1 + i % 2 : 2][: plane.shape[0] // 2] for i, t in enumerate(taps)
    )
    return sum(t * rows[:, i : i + plane.shape[1] : 2][:, : plane.shape[1] // 2] for i, t in enumerate(taps))


def reich_down(plane: np.ndarray) -> np.ndarray:
    side = math.exp(-2) / (1 + 2 * math.exp(-2))
    middle = 1 - 2 * side
    return filtered_down(plane, (side / 2, (side + middle) / 2, (side + middle) / 2, side / 2), "reflect")


def nearest_up(plane: np.ndarray) -> np.ndarray:
    return np.kron(plane, np.ones((2, 2)))


def triangle_up(plane: np.ndarray) -> np.ndarray:
    for axis in (0, 1):
        last = plane.shape[axis] - 1
        before = np.take(plane, [0, *range(last)], axis)
        after = np.take(plane, [*range(1, last + 1), last], axis)
        size = [n * (1 + (a == axis)) for a, n in enumerate(plane.shape)]
        plane = np.stack([(3 * plane + before) / 4, (3 * plane + after) / 4], axis + 1).reshape(size)
    return plane


def pick(plane: np.ndarray) -> np.ndarray:
    return nearest_up(plane[::2, ::2])


def same(plane: np.ndarray) -> np.ndarray:
    return plane


def code(plane: np.ndarray, table: np.ndarray, rounding: Step) -> np.ndarray:
    out = np.empty_like(plane)
    for y in range(0, plane.shape[0], 8):
        for x in range(0, plane.shape[1], 8):
            coefficients = dctn(plane[y : y + 8, x : x + 8], norm="ortho") / table
            out[y : y + 8, x : x + 8] = idctn(rounding(coefficients) * table, norm="ortho")
    return out


def hard_clip(x: np.ndarray, low: float, high: float) -> np.ndarray:
    return np.clip(x, low, high)


def round_trip(
    image: np.ndarray,
    q: float,
    tables: TableRule,
    rounding: Step = np.round,
    down: Step = mean_down,
    up: Step = triangle_up,
    shift: float = 128.0,
    color: np.ndarray = JFIF,
    inverse: np.ndarray = JFIF_INVERSE,
    clip: Clip = hard_clip,
) -> np.ndarray:
    """The coded image [H, W, 3] of one in 0 ... 255."""
    ycc = image @ color.T
    luma, chroma = tables(q)
    planes = [code(ycc[..., 0] - shift, luma, rounding) + shift]
    planes += [up(code(down(ycc[..., c]), chroma, rounding)) for c in (1, 2)]
    return clip(np.stack(planes, -1) @ inverse.T, 0, 255)


def unfloored(extra: float = 0.0) -> TableRule:
    return lambda q: (LUMA.T * (percent(q) / 100 + extra), CHROMA * (percent(q) / 100 + extra))


def upright(q: float) -> tuple[np.ndarray, ...]:
    return LUMA * percent(q) / 100, CHROMA * percent(q) / 100


def correct(q: float) -> tuple[np.ndarray, ...]:
    return legal(LUMA, q), legal(CHROMA, q)


def rounded(q: float) -> tuple[np.ndarray, ...]:
    return tuple(np.clip(np.round(t * percent(q) / 100), 1, 255) for t in (LUMA, CHROMA))


def korus(q: float) -> tuple[np.ndarray, ...]:
    return tuple(np.clip(np.floor((t * percent(q) + 50) / 100), 1, 255) for t in (LUMA, CHROMA))


def mbrs(q: float) -> tuple[np.ndarray, ...]:
    return tuple(np.maximum(np.round(t * percent(q) / 100), 1) for t in (LUMA, CHROMA))


def reich(floor: Step, clip: Clip) -> TableRule:
    return lambda q: tuple(
        clip(floor((t * floor(np.array(percent(q))) + 50) / 100), 1, 255) for t in (LUMA, CHROMA)
    )


def cubic_slope(x: np.ndarray) -> np.ndarray:
    return 3 * (x - np.round(x)) ** 2


def leak(x: np.ndarray, low: float, high: float) -> np.ndarray:
    return np.where((x < low) | (x > high), 1e-3, 1.0)


def reich_table(q: float, base: np.ndarray, straight: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The paper's table of a quality, and its derivatives to quality and base."""
    floor = np.floor if straight else soft_floor
    raw = np.array(percent(q))
    entry = (base * floor(raw) + 50) / 100
    slope = leak(floor(entry), 1, 255) * cubic_slope(entry - 0.5) / 100
    to_quality = slope * base * cubic_slope(raw - 0.5) * (-5000 / q**2 if q < 50 else -2.0)
    clip = hard_clip if straight else soft_clip
    return clip(floor(entry), 1, 255), to_quality, slope * floor(raw)


def reich_gray(
    plane: np.ndarray, q: float, base: np.ndarray, cotangent: np.ndarray, straight: bool = False
) -> tuple[np.ndarray, np.ndarray, float, np.ndarray]:
    """The paper's coding of a gray plane, and what a cotangent is at image, quality and base table."""
    table, to_quality, to_base = reich_table(q, base, straight)
    rounding, clip = (np.round, hard_clip) if straight else (cubic, soft_clip)
    out, image, entries = np.empty_like(plane), np.empty_like(plane), np.zeros((8, 8))
    for y in range(0, plane.shape[0], 8):
        for x in range(0, plane.shape[1], 8):
            at = np.s_[y : y + 8, x : x + 8]
            u = dctn(plane[at] - 128, norm="ortho") / table
            decoded = idctn(rounding(u) * table, norm="ortho") + 128
            out[at] = clip(decoded, 0, 255)
            back = dctn(cotangent[at] * leak(decoded, 0, 255), norm="ortho")
            image[at] = idctn(back * cubic_slope(u), norm="ortho")
            entries += back * (rounding(u) - cubic_slope(u) * u)
    return out, image, float((entries * to_quality).sum()), entries * to_base


MBRS_COLOR = np.array([[0.299, 0.587, 0.114], [-0.1687, -0.3313, 0.5], [0.5, -0.4187, -0.0813]])
MBRS_INVERSE = np.array([[1, 0, 1.40198758], [1, -0.344113281, -0.714103821], [1, 1.77197812, 0]])
FULL = {"down": same, "up": same}

FORMULAS: dict[str, dict[str, Any]] = {
    "shin": {"tables": unfloored(), "rounding": cubic, "up": nearest_up},
    "shin_zero": {"tables": unfloored(), "rounding": zero_cubic, "up": nearest_up},
    "shin_tables": {"tables": correct, "rounding": cubic, "up": nearest_up},
    "shin_zero_tables": {"tables": correct, "rounding": zero_cubic, "up": nearest_up},
    "shin_upright": {"tables": upright, "rounding": cubic, "up": nearest_up},
    "shin_444": {"tables": unfloored(), "rounding": cubic, **FULL},
    "diffjpeg": {"tables": unfloored(), "rounding": cubic, "up": nearest_up},
    "stegastamp": {"tables": unfloored(1e-4), "rounding": zero_cubic, "up": nearest_up},
    "struempler": {"tables": correct, **FULL},
    "talebi": {"tables": rounded, **FULL},
    "invisp": {"tables": unfloored(), "rounding": fourier, "up": nearest_up},
    "korus_sin": {"tables": korus, "rounding": sine, "shift": 127, **FULL},
    "korus_soft": {"tables": korus, "shift": 127, **FULL},
    "mbrs_simulated": {
        "tables": mbrs,
        "down": pick,
        "up": same,
        "shift": 0,
        "color": MBRS_COLOR,
        "inverse": MBRS_INVERSE,
    },
    "soft_round": {"tables": correct, "rounding": soft_round},
    "jpeg_dl": {"tables": correct, "rounding": soft_levels, **FULL},
    "reich_soft": {
        "tables": reich(soft_floor, soft_clip),
        "rounding": cubic,
        "down": reich_down,
        "clip": soft_clip,
    },
    "reich_ste": {"tables": reich(np.floor, hard_clip), "down": reich_down},
}


def lanczos_up(plane: np.ndarray) -> np.ndarray:
    """Doubling one output at a time."""

    def kernel(d: float) -> float:
        return 1.0 if d == 0 else 3 * math.sin(math.pi * d) * math.sin(math.pi * d / 3) / (math.pi * d) ** 2

    def line(values: np.ndarray) -> np.ndarray:
        out = []
        for x in range(2 * len(values)):
            centre = x / 2 - 0.25
            near = [i for i in range(len(values)) if abs(i - centre) < 3]
            weights = np.array([kernel(i - centre) for i in near])
            out.append((weights * values[near]).sum() / weights.sum())
        return np.array(out)

    return np.apply_along_axis(line, 1, np.apply_along_axis(line, 0, plane))


def through_masks(image: np.ndarray, color: np.ndarray, keep: list[np.ndarray]) -> np.ndarray:
    yuv = image @ color.T
    ones = np.ones((8, 8))
    planes = [code(yuv[..., c], ones, lambda x, c=c: x * keep[min(c, 1)]) for c in range(3)]
    return np.stack(planes, -1)
