"""Which calls can each backend run? As the backends tell it; nothing is measured."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd.forward_ad import dual_level

from jpegrad import Color, Decoder, Surrogate, backends
from jpegrad.spec import JFIF
from jpegrad_studies.common import CHECKOUT, ROOT, markdown, publish

PAGE = ROOT / "docs" / "speed.md"
DEVICES = {"triton": "cuda", "native": "cpu", "plain": "cpu", "reference": "cpu"}
"""Where each backend is asked: on the device that it is made for."""

SOFT = {"forward": "soft"}
OWN = Surrogate("own", lambda u, *_: u / 2, lambda u, *_: torch.full_like(u, 0.5), "an example")

# What a call is, the image's type, and the arguments of the call.
CALLS: tuple[tuple[str, torch.dtype, dict[str, Any]], ...] = (
    ("`jpeg`, exact", torch.float32, {}),
    ("`jpeg`, soft", torch.float32, SOFT),
    ("`encode`, exact", torch.float32, {"operation": "encode"}),
    ("`encode`, soft", torch.float32, {**SOFT, "operation": "encode"}),
    ("bytes", torch.uint8, {}),
    ("float16", torch.float16, {}),
    ("bfloat16", torch.bfloat16, {}),
    ("float64", torch.float64, {}),
    ("`color` of numbers", torch.float32, {"color": JFIF}),
    ("`color` of tensors", torch.float32, {"color": Color(torch.tensor(JFIF.matrix))}),
    ("`decoder`, plain upsampling", torch.float32, {"decoder": Decoder(upsampling="replicate")}),
    ("`decoder`, any other", torch.float32, {"decoder": Decoder(scale=2)}),
    ("exact, a surrogate of your own", torch.float32, {"surrogate": OWN}),
    ("soft, a surrogate of your own", torch.float32, {**SOFT, "surrogate": OWN}),
    ("soft, `noise`", torch.float32, {**SOFT, "surrogate": "noise"}),
    ("soft, `table_gaussian`", torch.float32, {**SOFT, "surrogate": "table_gaussian"}),
    ("soft, `table_relative`", torch.float32, {**SOFT, "surrogate": "table_relative"}),
    ("within `torch.func`", torch.float32, {"within": "vmap"}),
    ("forward mode", torch.float32, {"within": "dual_level"}),
)


def table() -> str:
    """Every call beside every backend: a mark, or the number of the reason why it does not run there."""
    notes: dict[str, int] = {}
    names = backends.ORDER[::-1]
    rows = []
    for call, dtype, options in CALLS:
        reasons = (_reasons(name, dtype, **options) for name in names)
        cells = (
            ", ".join(str(notes.setdefault(each, len(notes) + 1)) for each in found) for found in reasons
        )
        rows.append([call, *(cell or "✓" for cell in cells)])
    listed = "\n".join(f"{number}. {note}" for note, number in notes.items())
    return f"{markdown(['', *(f'`{name}`' for name in names)], rows)}\n\n{listed}"


def _reasons(name: str, dtype: torch.dtype, within: str = "", **options: Any) -> list[str]:
    # A fake tensor is on a device that this machine need not have.
    with FakeTensorMode():
        image = torch.empty(1, 3, 16, 16, dtype=dtype, device=DEVICES[name])
    found: list[str] = []

    def ask(image: Tensor) -> Tensor:
        found.extend(backends.explain(image, backend=name, **options)[name])
        return image

    with dual_level() if within == "dual_level" else nullcontext():
        (torch.func.vmap(ask) if within == "vmap" else ask)(image)
    # Whether it is installed here is no matter of the call.
    return [reason for reason in found if reason != backends.BACKENDS[name].missing()]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="jpegrad bench capabilities", description=__doc__)
    parser.parse_args(arguments)
    text = table()
    print(text)
    if CHECKOUT:
        publish("capabilities", text, PAGE)


if __name__ == "__main__":
    main()
