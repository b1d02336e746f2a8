"""The tables of qualities that a device knows alone: one kernel for what is some sixty operations of PyTorch."""

from typing import Any

import torch
from torch import Tensor

from jpegrad.backends.fused.operators import is_watched
from jpegrad.backends.triton.launch import launch
from jpegrad.home import constants
from jpegrad.tables import ANNEX_K, annex_k


def scaled(quality: Tensor) -> Tensor:
    """:func:`jpegrad.tables.annex_k` in float64, with its gradient: ``[...]`` to ``[..., 2, 8, 8]``."""
    if is_watched(quality) or torch.autograd.forward_ad._current_level >= 0:
        return annex_k(quality, dtype=torch.float64)
    found: Tensor = _Scaled.apply(quality)  # type: ignore[no-untyped-call]
    return found


class _Scaled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, quality: Tensor) -> Tensor:
        numbers = quality.to(torch.float64).contiguous()
        entries = numbers.new_empty((*numbers.shape, 2, 8, 8))
        slopes = torch.empty_like(entries)
        base = constants(ANNEX_K, torch.float64, quality.device)
        launch("scaling.scale_kernel", numbers.numel(), numbers, base, numbers, entries, slopes)
        ctx.save_for_backward(slopes)
        ctx.dtype = quality.dtype
        return entries

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (slopes,) = ctx.saved_tensors
        found: Tensor = (gradient * slopes).sum((-3, -2, -1)).to(ctx.dtype)
        return found
