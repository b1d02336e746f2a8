"""Colour conversion (T.81 leaves it open; JFIF 1.02; libjpeg-turbo ``jccolor.c``, ``jdcolor.c``).

16-bit fixed point. The chroma rows round with 32767 in place of 32768, so that 128 + 127.5 stays inside 8 bits.
"""

from torch import Tensor

from jpegrad.home import constants

ONE = 65536
HALF = 32768


def _mix(planes: Tensor, matrix: Tensor) -> Tensor:
    """``matrix`` applied to the channels of ``[..., 3, H, W]``."""
    columns = planes.unsqueeze(-4) * matrix[..., None, None]
    return columns.sum(-3)


def _column(vector: Tensor) -> Tensor:
    return vector[..., None, None]


def to_ycbcr_real(rgb: Tensor, matrix: Tensor, offset: Tensor) -> Tensor:
    return _mix(rgb, matrix) + _column(offset)


def to_ycbcr_exact(rgb: Tensor, matrix: Tensor, offset: Tensor) -> Tensor:
    rounding = constants((HALF, HALF - 1, HALF - 1), rgb.dtype, rgb.device)
    bias = (offset * ONE).round() + rounding
    return ((_mix(rgb, (matrix * ONE).round()) + _column(bias)) / ONE).floor().clamp(0, 255)


def to_rgb_real(ycbcr: Tensor, inverse: Tensor, offset: Tensor) -> Tensor:
    return _mix(ycbcr - _column(offset), inverse)


def cmyk_to_rgb_real(cmyk: Tensor) -> Tensor:
    """(255 − ink)·(255 − K)/255 of ``[..., 4, H, W]``."""
    light = 255 - cmyk
    return light[..., :3, :, :] * light[..., 3:, :, :] / 255


def cmyk_to_rgb_exact(cmyk: Tensor) -> Tensor:
    """Pillow's ``convert("RGB")``: what the ink takes of the light that K leaves is rounded."""
    light = 255 - cmyk[..., 3:, :, :]
    product = cmyk[..., :3, :, :] * light + 128
    return light - ((product / 256).floor() + product).div(256).floor()


def to_rgb_exact(ycbcr: Tensor, inverse: Tensor, offset: Tensor) -> Tensor:
    """Before the clamp to 0…255."""
    return ((_mix(ycbcr - _column(offset), (inverse * ONE).round()) + HALF) / ONE).floor()
