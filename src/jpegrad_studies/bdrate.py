"""Bjøntegaard's difference of rate: how many bytes more or less one coder takes at equal quality."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.interpolate import PchipInterpolator


def bd_rate(anchor: Sequence[tuple[float, float]], test: Sequence[tuple[float, float]]) -> float:
    """Mean difference of log(bytes) over the qualities that both curves reach, in percent; negative is smaller.

    Args:
        anchor, test: (bytes, quality) of the files of one image, at least two each; quality in dB or the like.

    Returns:
        NaN where the curves share no quality.

    Source: Bjøntegaard, VCEG-M33, 2001; piecewise cubic interpolation as in VCEG-AI11 follow-ups.
    """
    curves = [_curve(points) for points in (anchor, test)]
    low, high = max(x[0] for x, _ in curves), min(x[-1] for x, _ in curves)
    if low >= high:
        return float("nan")
    means = [PchipInterpolator(x, y).integrate(low, high) / (high - low) for x, y in curves]
    return 100 * float(np.expm1(means[1] - means[0]))


def _curve(points: Sequence[tuple[float, float]]) -> tuple[np.ndarray, np.ndarray]:
    """Quality ascending, each once, and the logarithm of the bytes."""
    quality, index = np.unique([q for _, q in points], return_index=True)
    return quality, np.log([float(points[i][0]) for i in index])
