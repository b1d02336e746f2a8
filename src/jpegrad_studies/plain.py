"""What a practised PyTorch user would write in one page: real arithmetic in float32, every step one whole-tensor call.

Its value is a JPEG's only to within about a grey level; its gradient is that of straight-through rounding with slope 1.
The speed study times it as it is and compiled.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

import jpegrad

SAMPLES = torch.arange(8.0)
DCT = torch.cos((2 * SAMPLES + 1) * SAMPLES[:, None] * torch.pi / 16) / 2
DCT[0] /= 2**0.5
TO_YCC = torch.tensor([[0.299, 0.587, 0.114], [-0.168736, -0.331264, 0.5], [0.5, -0.418688, -0.081312]])
TO_RGB = torch.linalg.inv(TO_YCC)


def rounded(x: Tensor) -> Tensor:
    return x + (x.round() - x).detach()


def coded(plane: Tensor, table: Tensor) -> Tensor:
    """[B, C, H, W] through the DCT, the quantiser and back; table [C, 8, 8]."""
    b, c, height, width = plane.shape
    dct, step = DCT.to(plane), table[:, None, None].to(plane)
    blocks = plane.view(b, c, height // 8, 8, width // 8, 8).transpose(3, 4)
    levels = rounded(dct @ blocks @ dct.mT / step)
    return (dct.mT @ (levels * step) @ dct).transpose(3, 4).reshape(plane.shape)


def plain_jpeg(image: Tensor, quality: float) -> Tensor:
    """[B, 3, H, W] in 0…1, sides multiples of 16; 4:2:0 with box downsampling and bilinear upsampling."""
    tables = jpegrad.tables.annex_k(quality)
    x = torch.einsum("ij,bjhw->bihw", TO_YCC.to(image), rounded(image * 255))
    luma = coded(x[:, :1] - 128, tables[:1])
    chroma = coded(F.avg_pool2d(x[:, 1:], 2), tables[1:].expand(2, 8, 8))
    chroma = F.interpolate(chroma, scale_factor=2.0, mode="bilinear")
    out = torch.einsum("ij,bjhw->bihw", TO_RGB.to(image), torch.cat([luma + 128, chroma], 1))
    return rounded(out.clamp(0, 255)) / 255
