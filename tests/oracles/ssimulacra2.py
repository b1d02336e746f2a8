"""SSIMULACRA2 a second time: float64, the recursive filter, variances as differences of means, as the tool computes it.

The tool's own arithmetic is float32, in which variances of smooth areas cancel: there it finds errors that are none.
Of the package it shares the table of weights.
"""

import math

import numpy as np

BIAS = 0.0037930732552754493
MIX = np.array(
    [
        [0.3, 0.622, 0.078],
        [0.23, 0.692, 0.078],
        [0.24342268924547819, 0.20476744424496821, 1 - 0.24342268924547819 - 0.20476744424496821],
    ]
)
RADIUS = 5


def score(original: np.ndarray, image: np.ndarray, weights: tuple[float, ...]) -> float:
    """Of uint8 ``[H, W, 3]``."""
    pair = [
        np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4) for x in (original / 255, image / 255)
    ]
    scales: list[np.ndarray] = []
    for scale in range(6):
        if min(pair[0].shape[:2]) < 8:
            break
        if scale:
            pair = [halved(x) for x in pair]
        scales.append(norms(*map(to_xyb, pair)))
    # The table runs through channels, scales, norms and kinds; where scales are missing it just runs on.
    total = sum(
        weight * value
        for weight, value in zip(
            weights,
            (v for channel in range(3) for norm in scales for v in norm[channel].ravel()),
            strict=False,
        )
    )
    x = total * 0.9562382616834844
    x = 2.326765642916932 * x - 0.020884521182843837 * x**2 + 6.248496625763138e-05 * x**3
    return 100 - 10 * x**0.6276336467831387 if x > 0 else 100.0


def halved(x: np.ndarray) -> np.ndarray:
    x = np.pad(x, ((0, x.shape[0] % 2), (0, x.shape[1] % 2), (0, 0)), mode="edge")
    return (x[::2, ::2] + x[1::2, ::2] + x[::2, 1::2] + x[1::2, 1::2]) / 4


def to_xyb(linear: np.ndarray) -> np.ndarray:
    long, medium, short = np.moveaxis(np.cbrt(linear @ MIX.T + BIAS) - np.cbrt(BIAS), -1, 0)
    luma = (long + medium) / 2
    return np.stack([(long - medium) / 2 * 14 + 0.42, luma + 0.01, short - luma + 0.55], -1)


def norms(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """``[channel, norm, kind]``."""
    mean_1, mean_2 = blurred(one), blurred(other)
    luminance = 1 - (mean_1 - mean_2) ** 2
    numerator = 2 * (blurred(one * other) - mean_1 * mean_2) + 0.0009
    denominator = blurred(one**2) - mean_1**2 + blurred(other**2) - mean_2**2 + 0.0009
    edges = (1 + abs(other - mean_2)) / (1 + abs(one - mean_1)) - 1
    kinds = [1 - luminance * numerator / denominator, edges, -edges]
    errors = np.maximum(np.stack(kinds, -1), 0)
    return np.stack([errors.mean((0, 1)), (errors**4).mean((0, 1)) ** 0.25], 1)


def blurred(x: np.ndarray) -> np.ndarray:
    return recursive(recursive(x).swapaxes(0, 1)).swapaxes(0, 1)


def recursive(x: np.ndarray) -> np.ndarray:
    """Along the first axis: Charalampidis, 2016, equations 33 and 35 to 57, for a deviation of 1.5."""
    sigma, signs = 1.5, np.array([1, -1, 1])
    omega = np.array([1, 3, 5]) * math.pi / (2 * RADIUS)
    p = signs / np.tan(omega / 2)
    r = signs * p**2 / np.sin(omega)
    rho = np.exp(-((sigma * omega) ** 2) / 2) / RADIUS
    row = np.cross(p, r)
    beta = np.linalg.solve(np.stack([p, r, row]), [1.0, RADIUS**2 - sigma**2, row @ rho])
    n, padded = len(x), np.pad(x, ((RADIUS + 1, RADIUS + 1), *((0, 0),) * (x.ndim - 1)))
    out = np.zeros_like(x)
    for b, w in zip(beta, omega, strict=True):
        before = last = np.zeros(x.shape[1:])
        for k in range(1 - RADIUS, n):
            total = padded[k + 2 * RADIUS] if k < 0 else padded[k] + padded[k + 2 * RADIUS]
            before, last = last, -b * math.cos(w * (RADIUS + 1)) * total + 2 * math.cos(w) * last - before
            if k >= 0:
                out[k] += last
    return out
