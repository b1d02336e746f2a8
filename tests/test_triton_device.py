"""The Triton kernels on a GPU; and what the compiler says of them without one: into how many registers."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import jpegrad
from jpegrad import surrogates
from jpegrad.backends import triton
from jpegrad.spec import JFIF, Color, Spec, resolve
from kernel_cases import (
    DEVICE,
    MODES,
    OWN,
    RECORDS,
    TRITON,
    as_bytes,
    channels,
    compare,
    compare_gradients,
    spec,
)

pytestmark = TRITON.marks
picture, tables = TRITON.picture, TRITON.tables


@pytest.mark.gpu
@pytest.mark.parametrize("mode", MODES)
def test_every_size_on_the_device(mode: str) -> None:
    for width in range(1, 41):
        image = picture(2, channels(mode), (7 * width + 3) % 40 + 1, width)
        compare(TRITON, image, tables(float(2 * width)), spec(mode))
        if width % 4 == 1:
            compare_gradients(TRITON, image, tables(50), spec(mode, clip_slope=0.1))
    compare(TRITON, picture(3, channels(mode), 517, 1030), tables(75), spec(mode))


@pytest.mark.gpu
@pytest.mark.parametrize("name", RECORDS)
def test_every_record_on_the_device(name: str) -> None:
    chosen = spec("4:2:0", surrogate=RECORDS[name], table_surrogate=RECORDS[name])
    compare_gradients(TRITON, picture(2, 3, 130, 263), tables(50), chosen)


@pytest.mark.gpu
@pytest.mark.parametrize("mode", MODES)
def test_the_stencil_on_the_device(mode: str) -> None:
    chosen = spec(mode, surrogate=surrogates.identity)
    for size in ((130, 263), (64, 1024), (1, 1), (3, 700)):
        compare_gradients(TRITON, picture(2, channels(mode), *size), tables(50), chosen, to_tables=False)


@pytest.mark.gpu
def test_the_default_on_the_device() -> None:
    image = picture(1, 3, 16, 16)
    for operation in ("jpeg", "encode"):
        assert jpegrad.backends.explain(image, operation)["triton"] == []


@pytest.mark.gpu
def test_the_same_gradients_in_every_run() -> None:
    image, entries = picture(4, 3, 130, 263).requires_grad_(), tables(50).requires_grad_()
    first, second = (
        torch.autograd.grad(triton.jpeg(image, entries, spec("4:2:0")).cos().sum(), (image, entries))
        for _ in range(2)
    )
    assert all(map(torch.equal, first, second))


@pytest.mark.gpu
def test_strides_beyond_32_bits() -> None:
    # Two small images far apart in one buffer.
    room = torch.zeros(2**31 + 4096, dtype=torch.uint8, device=DEVICE)
    image = room.as_strided((2, 1, 16, 24), (2**31 + 1024, 0, 24, 1))
    image.copy_(as_bytes(picture(2, 1, 16, 24)))
    compare(TRITON, image, tables(50), spec("gray"))


def through_everything(image: Tensor, entries: Tensor, chosen: Spec) -> tuple[Tensor, ...]:
    out = triton.jpeg(image, entries, chosen)
    levels, _ = triton.encode(image, entries, chosen)
    again = triton.decode(levels, entries, (64, 96), torch.float32, chosen)
    return out, again, *torch.autograd.grad((out * again).square().sum(), (image, entries))


def learned(**options: Any) -> Spec:
    """A call whose colour conversion is learned."""
    color = Color(torch.tensor(JFIF.matrix, device=DEVICE).requires_grad_())
    return spec("4:2:0", color=color, **options)


@pytest.mark.gpu
@pytest.mark.parametrize("name", ["gaussian", "identity", "own", "colours"])
def test_graph_capture(name: str) -> None:
    image, entries = picture(2, 3, 64, 96).requires_grad_(), tables(50).requires_grad_()
    chosen = learned() if name == "colours" else spec("4:2:0", surrogate=RECORDS[name])
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        # Triton compiles at the first launch, which a capture does not allow.
        through_everything(image, entries, chosen)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = through_everything(image, entries, chosen)
    with torch.no_grad():
        image.copy_(picture(2, 3, 64, 96))
    graph.replay()
    for a, b in zip(captured, through_everything(image, entries, chosen), strict=True):
        assert torch.equal(a, b)


def coded(image: Tensor, quality: Any, forward: str) -> Tensor:
    """By one call, and by way of the levels."""
    options: Any = {"forward": forward, "backend": "triton"}
    levels = jpegrad.encode(image, quality, **options)
    return jpegrad.decode(levels, backend="triton") + jpegrad.jpeg(image, quality, **options)


@pytest.mark.gpu
@pytest.mark.parametrize("forward", ["exact", "soft"])
def test_graph_capture_of_a_quality(forward: str) -> None:
    image = picture(2, 3, 64, 96).requires_grad_()

    def both() -> tuple[Tensor, Tensor]:
        out = coded(image, 75, forward)
        return out, torch.autograd.grad(out.square().sum(), image)[0]

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        both()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = both()
    graph.replay()
    for a, b in zip(captured, both(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.gpu
def test_a_quality_for_every_image() -> None:
    image, found = picture(3, 3, 33, 40), []
    for backend in ("triton", "reference"):
        quality = torch.tensor([12.5, 50.0, 97.0], device=DEVICE, requires_grad=True)
        out = jpegrad.jpeg(image, quality, backend=backend)
        found.append((out.detach(), *torch.autograd.grad(out.square().sum(), quality)))
    assert torch.equal(found[0][0], found[1][0])
    torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-4, atol=0)


@pytest.mark.gpu
def test_no_call_waits_for_the_device() -> None:
    image, entries = picture(2, 3, 64, 96).requires_grad_(), tables(50).requires_grad_()
    qualities = (75, 75.5, torch.tensor([20.0, 90.0], device=DEVICE).requires_grad_())

    def everything() -> None:
        for record in (surrogates.gaussian(), OWN):
            through_everything(image, entries, spec("4:2:0", surrogate=record))
        for forward in ("exact", "soft"):
            through_everything(image, entries, learned(forward=forward))
        jpegrad.jpeg(image, tables=entries, backend="triton").sum().backward()
        for forward in ("exact", "soft"):
            for quality in qualities:
                coded(image, quality, forward).sum().backward()

    # Kernels are compiled and constants come to the device once, and the first calls from a line look at the range.
    for _ in range(4):
        everything()
    torch.cuda.set_sync_debug_mode("error")
    try:
        everything()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
@pytest.mark.whole_graph
def test_compiles_on_the_device() -> None:
    def loss(image: Tensor, entries: Tensor) -> Tensor:
        return (triton.jpeg(image, entries, resolve()) + 1).square().sum()

    image, entries = picture(2, 3, 64, 96).requires_grad_(), tables(50).requires_grad_()
    found, expected = (
        torch.autograd.grad(function(image, entries), (image, entries))
        for function in (torch.compile(loss, fullgraph=True), loss)
    )
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_the_second_device() -> None:
    image, entries = (x.to("cuda:1") for x in (picture(2, 3, 17, 35), tables(50)))
    compare_gradients(TRITON, image, entries, spec("4:2:0"))


def compiled_offline(*arguments: str) -> dict[str, dict[str, int]]:
    script = Path(__file__).parent / "triton_offline.py"
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, str(script), *arguments]
    run = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr[-3000:]
    found: dict[str, dict[str, int]] = json.loads(run.stdout)
    return found


# The compiler takes minutes.
@pytest.mark.slow
@pytest.mark.parametrize("architecture", ["90", "80"])
def test_compiles_for_a_gpu_without_spills(architecture: str) -> None:
    for name, kernel in compiled_offline("--architecture", architecture).items():
        assert kernel["spilled"] == 0, (name, kernel)


@pytest.mark.slow
def test_every_variant_compiles_for_a_gpu_without_spills() -> None:
    for name, kernel in compiled_offline("--all").items():
        assert kernel["spilled"] == 0, (name, kernel)
