"""The straight-through gradient a second time: float64, direct matrices, integers where the codec has integers.

Every linear stage is a dense matrix written from its definition, so that the backward pass is nothing but transposes.
Shares no code with the package.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

FACTORS = {"4:4:4": (1, 1), "4:2:2": (2, 1), "4:2:0": (2, 2), "4:4:0": (1, 2), "4:1:1": (4, 1)}
TO_YCBCR = np.array([[0.299, 0.587, 0.114], [-0.16874, -0.33126, 0.5], [0.5, -0.41869, -0.08131]])
TO_RGB = np.array([[1.0, 0.0, 1.402], [1.0, -0.34414, -0.71414], [1.0, 1.772, 0.0]])
CENTRE = np.array([0.0, 128.0, 128.0])

ISLOW = np.array(
    [
        [8192, 8192, 8192, 8192, 8192, 8192, 8192, 8192],
        [11363, 9633, 6437, 2260, -2260, -6437, -9633, -11363],
        [10703, 4433, -4433, -10703, -10703, -4433, 4433, 10703],
        [9633, -2259, -11362, -6436, 6436, 11362, 2259, -9633],
        [8192, -8192, -8192, 8192, 8192, -8192, -8192, 8192],
        [6437, -11362, 2261, 9633, -9633, -2261, 11362, -6437],
        [4433, -10704, 10704, -4433, -4433, 10704, -10704, 4433],
        [2260, -6436, 9633, -11363, 11363, -9633, 6436, -2260],
    ]
)

# Slope of the rounding: (coefficient / step, step, component 0…2) to an array like the first.
Slope = Callable[[np.ndarray, np.ndarray, int], np.ndarray]


@dataclass
class Gradients:
    """The decoded picture in grey levels, and the gradient to everything that went in."""

    decoded: np.ndarray
    picture: np.ndarray
    tables: np.ndarray
    matrix: np.ndarray
    offset: np.ndarray


def blocks(length: int, factor: int) -> int:
    return -(-length // (8 * factor))


def downsampling(length: int, factor: int, replicate: str) -> np.ndarray:
    """[8·blocks, length]: ``replicate`` the last full-resolution "column", or the last downsampled "row"."""
    matrix = np.zeros((8 * blocks(length, factor), length))
    last_row = -(-length // factor) - 1
    for i in range(len(matrix)):
        first = factor * (min(i, last_row) if replicate == "row" else i)
        for k in range(factor):
            matrix[i, min(first + k, length - 1)] += 1 / factor
    return matrix


def upsampling(length: int, factor: int, full: int, triangle: bool) -> np.ndarray:
    """[full, length] from a component's ``length`` = ⌈full / factor⌉ samples."""
    matrix = np.zeros((full, length))
    for j in range(full):
        i = j // factor
        if triangle and factor == 2:
            neighbour = i - 1 if j % 2 == 0 else i + 1
            matrix[j, i] += 0.75
            matrix[j, min(max(neighbour, 0), length - 1)] += 0.25
        else:
            matrix[j, i] = 1
    return matrix


def orthonormal() -> np.ndarray:
    k, n = np.mgrid[:8, :8]
    return np.sqrt(np.where(k == 0, 1, 2) / 8) * np.cos((2 * n + 1) * k * np.pi / 16)


def to_blocks(plane: np.ndarray) -> np.ndarray:
    height, width = plane.shape
    return plane.reshape(height // 8, 8, width // 8, 8).swapaxes(1, 2)


def to_plane(parts: np.ndarray) -> np.ndarray:
    by, bx = parts.shape[:2]
    return parts.swapaxes(1, 2).reshape(8 * by, 8 * bx)


def upsample_integers(plane: np.ndarray, h: int, v: int, triangle: bool) -> np.ndarray:
    if not triangle:
        return plane.repeat(v, 0).repeat(h, 1)
    if v == 2:
        above, below = plane[[0, *range(len(plane) - 1)]], plane[[*range(1, len(plane)), len(plane) - 1]]
        rows = np.stack([3 * plane + above, 3 * plane + below], 1).reshape(-1, plane.shape[1])
        if h == 1:
            return (rows + np.tile([1, 2], len(plane))[:, None]) >> 2
        plane = rows
    before, after = np.c_[plane[:, :1], plane[:, :-1]], np.c_[plane[:, 1:], plane[:, -1:]]
    columns = np.stack([3 * plane + before, 3 * plane + after], 2).reshape(len(plane), -1)
    bias, shift = ([8, 7], 4) if v == 2 else ([1, 2], 2)
    return (columns + np.tile(bias, plane.shape[1])) >> shift


def run(
    picture: np.ndarray,
    tables: np.ndarray,
    mode: str,
    cotangent: np.ndarray,
    slope: Slope,
    table_slope: Slope,
    clip_slope: float = 0.0,
    matrix: np.ndarray = TO_YCBCR,
    offset: np.ndarray = CENTRE,
    inverse: np.ndarray | None = None,
) -> Gradients:
    """Code and decode ``picture`` and send ``cotangent`` back through it.

    ``picture`` is [C, H, W] in grey levels (real numbers, also outside 0…255), ``tables`` [n, 8, 8] integers.
    Without ``inverse`` the decoder is JFIF's, and the offset acts in the encoder alone.
    """
    channels, height, width = picture.shape
    gray = channels == 1
    h_max, v_max = (1, 1) if gray else FACTORS[mode]
    rgb = np.rint(picture.clip(0, 255)).astype(np.int64)
    back, centre = (TO_RGB, CENTRE) if inverse is None else (inverse, offset)
    planes = rgb
    if not gray:
        rounding = np.rint(offset * 65536) + np.array([32768, 32767, 32767])
        mixed = np.einsum("ij,jyx->iyx", np.rint(matrix * 65536), rgb) + rounding[:, None, None]
        planes = (mixed.astype(np.int64) >> 16).clip(0, 255)

    stages, decoded = [], []
    for i, plane in enumerate(planes):
        h, v = (h_max, v_max) if i else (1, 1)
        down_y, down_x = downsampling(height, v, "row"), downsampling(width, h, "column")
        sums = np.rint(v * down_y @ plane @ (h * down_x).T).astype(np.int64)
        x = np.arange(sums.shape[1])
        bias = {(2, 1): x & 1, (2, 2): 1 + (x & 1)}.get((h, v), h * v // 2)
        samples = to_blocks((sums + bias) // (h * v)) - 128
        coefficients = (ISLOW @ ((samples @ ISLOW.T + 1024) >> 11) + 16384) >> 15
        step = tables[min(i, len(tables) - 1)]
        levels = np.sign(coefficients) * ((np.abs(coefficients) + 4 * step) // (8 * step))
        spatial = (((ISLOW.T @ (levels * step) + 1024) >> 11) @ ISLOW + 131072) >> 18
        unclipped = to_plane(spatial) + 128
        size = -(-height // v), -(-width // h)
        triangle = (h, v) in ((2, 1), (2, 2), (1, 2)) and (h == 1 or size[1] > 2)
        cropped = unclipped.clip(0, 255)[: size[0], : size[1]]
        decoded.append(upsample_integers(cropped, h, v, triangle)[:height, :width])
        up_y, up_x = upsampling(size[0], v, height, triangle), upsampling(size[1], h, width, triangle)
        stages.append((down_y, down_x, coefficients / 8 / step, levels, step, unclipped, up_y, up_x))

    result = np.stack(decoded)
    grad = cotangent.astype(float)
    grad_inverse_offset = np.zeros(3)
    if not gray:
        ycc = result - np.rint(centre).astype(np.int64)[:, None, None]
        result = (np.einsum("ij,jyx->iyx", np.rint(back * 65536).astype(np.int64), ycc) + 32768) >> 16
        grad = np.einsum("ij,iyx->jyx", back, grad * clamp_slope(result, clip_slope))
        grad_inverse_offset = -grad.sum((1, 2)) if inverse is not None else grad_inverse_offset

    dct = orthonormal()
    grad_tables, grad_planes = np.zeros(tables.shape), []
    for i, (g, stage) in enumerate(zip(grad, stages, strict=True)):
        down_y, down_x, u, levels, step, unclipped, up_y, up_x = stage
        spatial = np.zeros(unclipped.shape)
        cropped = up_y.T @ g @ up_x
        spatial[: cropped.shape[0], : cropped.shape[1]] = cropped
        g_coefficients = dct @ to_blocks(spatial * clamp_slope(unclipped, clip_slope)) @ dct.T
        grad_tables[min(i, len(tables) - 1)] += (g_coefficients * (levels - table_slope(u, step, i) * u)).sum(
            (0, 1)
        )
        g_samples = to_plane(dct.T @ (g_coefficients * slope(u, step, i)) @ dct)
        grad_planes.append(down_y.T @ g_samples @ down_x)
    grad = np.stack(grad_planes)
    grad_matrix = np.einsum("iyx,jyx->ij", grad, rgb)
    grad_offset = grad.sum((1, 2))
    if not gray:
        grad = np.einsum("ij,iyx->jyx", matrix, grad)
        grad_offset = grad_offset + grad_inverse_offset
    grad = grad * clamp_slope(picture, clip_slope)
    return Gradients(result.clip(0, 255), grad, grad_tables, grad_matrix, grad_offset)


def clamp_slope(x: np.ndarray, outside: float) -> np.ndarray:
    return np.where((x >= 0) & (x <= 255), 1.0, outside)


def scaled(base: np.ndarray, quality: float) -> np.ndarray:
    """libjpeg's quality scaling."""
    percent = np.floor(5000 / quality) if quality < 50 else 200 - 2 * quality
    return np.floor((base * percent + 50) / 100).clip(1, 255).astype(np.int64)


def entry_slope(base: np.ndarray, quality: float) -> np.ndarray:
    """d(entry)/d(quality) without the floors: the chord over ± 2 where an end of it is clipped, else the derivative."""

    def entry(q: float) -> np.ndarray:
        return base * (50 / q if q < 50 else 2 - q / 50)

    left, right = max(quality - 2, 1), min(quality + 2, 100)
    chord = (entry(right).clip(1, 255) - entry(left).clip(1, 255)) / (right - left)
    derivative = base * (-50 / quality**2 if quality < 50 else -1 / 50)
    return np.where((entry(right) > 1) & (entry(left) < 255), derivative, chord)
