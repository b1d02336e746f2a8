"""Bjøntegaard's difference of rate: how many bytes more or less one coder takes at equal quality."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.interpolate import PchipInterpolator

Points = Sequence[tuple[float, float]]
"""(bytes, quality) of the files of one image; quality in dB or the like."""


def bd_rate(anchor: Points, test: Points, sizes: tuple[float, float] | None = None) -> float:
    """Mean difference of log(bytes) over the qualities that both curves reach, in percent; negative is smaller.

    Args:
        anchor, test: two files each at least.
        sizes: between two sizes of the anchor's files, in bytes, whose qualities are the ends; None is between all.

    Returns:
        NaN where the curves share no quality.

    Source: Bjøntegaard, VCEG-M33, 2001; piecewise cubic interpolation as in VCEG-AI11 follow-ups.
    """
    curves = [curve(points) for points in (anchor, test)]
    low, high = max(x[0] for x, _ in curves), min(x[-1] for x, _ in curves)
    if sizes is not None:
        quality, size = curves[0]
        order = np.argsort(size)
        ends = np.interp(np.log(sizes), size[order], quality[order])
        low, high = max(low, ends[0]), min(high, ends[1])
    if low >= high:
        return float("nan")
    means = [PchipInterpolator(x, y).integrate(low, high) / (high - low) for x, y in curves]
    return 100 * float(np.expm1(means[1] - means[0]))


def curve(points: Points) -> tuple[np.ndarray, np.ndarray]:
    """Quality ascending, each once, and the logarithm of the bytes."""
    quality, index = np.unique([q for _, q in points], return_index=True)
    return quality, np.log([float(points[i][0]) for i in index])
