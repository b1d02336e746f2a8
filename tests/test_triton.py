"""What is particular to the Triton kernels: their quantizer, their programs, and what they leave to others."""

import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch

import jpegrad
from jpegrad import surrogates
from jpegrad.backends import triton
from jpegrad.backends.triton import calls, halves, kernels, launch
from kernel_cases import DEVICE, OWN, TRITON, as_bytes, compare, compare_gradients, compare_soft, spec

pytestmark = TRITON.marks


@pytest.mark.slow
def test_the_quantizer_divides_exactly() -> None:
    # Every coefficient by every table entry.
    from triton_probe import level_kernel

    entries = torch.arange(1, 256, dtype=torch.float64, device=DEVICE)
    steps, reciprocals = kernels.entries(entries)
    found = torch.empty(255, 65536, dtype=torch.int32, device=DEVICE)
    level_kernel[(255, 8)](steps, reciprocals, found, COUNT=8192, enable_fp_fusion=False)
    c = torch.arange(-32768, 32768, device=DEVICE)
    for step, row in enumerate(found, 1):
        assert torch.equal(row, c.sign() * ((c.abs() + 4 * step) // (8 * step))), step


@pytest.mark.parametrize("bounds", [(-1.0, 1.0), (0.0, 1.0), (0.0, 255.0), (-17.3, 1.9)])
def test_grey_levels_of_a_range(bounds: tuple[float, float]) -> None:
    """Rounded as in float64 at every tie, beside it, near 0 and everywhere between; and all 256 back."""
    from triton_probe import range_kernel

    low, high = bounds
    ties = (low + (torch.arange(256, dtype=torch.float64) - 0.5) / 255 * (high - low)).float()
    steps = torch.arange(-3, 4, dtype=torch.int32)
    beside = (ties.view(torch.int32)[:, None] + steps).view(torch.float32).reshape(-1)
    # Below 0 bit for bit there is no number.
    beside = beside[~beside.isnan()]
    tiny = 2.0 ** -torch.arange(20, 140, dtype=torch.float64)
    tiny = torch.cat([tiny, 1.5 * tiny, tiny * (1 + 2.0**-23), tiny * (1 - 2.0**-24)]).float()
    random = low + (high - low) * (1.2 * torch.rand(16384 - beside.numel() - 2 * tiny.numel()) - 0.1)
    numbers = torch.cat([beside, tiny, -tiny, random]).to(DEVICE)
    grey = torch.empty(numbers.shape, dtype=torch.int32, device=DEVICE)
    back = torch.empty(256, device=DEVICE)
    name = launch.value_range(torch.float32, low, high)
    if TRITON.interpreted:
        launch._round_once()
    range_kernel[(16,)](
        numbers, grey, back, LOW=low, HIGH=high, NAME=name, COUNT=1024, enable_fp_fusion=False
    )  # fmt: skip
    exact = (numbers.double() - low) * (255 / (high - low))
    assert torch.equal(grey, exact.clamp(0, 255).round().int())
    levels = torch.arange(256, dtype=torch.float64, device=DEVICE)
    assert torch.equal(back, (low + levels / 255 * (high - low)).float())


def test_several_programs_per_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "MOST_MCUS", 4)
    monkeypatch.setattr(launch, "MOST_INTERPRETED", 4)
    compare_gradients(TRITON, TRITON.picture(1, 3, 30, 41), TRITON.tables(80), spec("4:2:0"))


@pytest.mark.parametrize(
    "forward",
    ["exact", pytest.param("soft", marks=pytest.mark.slow), pytest.param("identity", marks=pytest.mark.slow)],
)
def test_places_of_64_bits(forward: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch.Grid, "is_long", lambda self, *images: True)
    image, entries = TRITON.picture(1, 3, 9, 20), TRITON.tables(80)
    if forward == "soft":
        compare_soft(TRITON, image, entries, spec("4:2:0", forward="soft"))
    else:
        record = surrogates.identity if forward == "identity" else surrogates.gaussian()
        compare_gradients(
            TRITON, image, entries, spec("4:2:0", surrogate=record), to_tables=forward != "identity"
        )


@pytest.mark.parametrize(
    "axis", [2, pytest.param(1, marks=pytest.mark.slow), pytest.param(0, marks=pytest.mark.slow)]
)
def test_strides_beyond_32_bits(axis: int) -> None:
    # Images, channels or rows far apart; memory that nobody touches is not there.
    shape, strides = (2, 3, 8, 16), [3 * 8 * 16, 8 * 16, 16, 1]
    strides[axis] = 2**31 // (shape[axis] - 1) + 1024
    room = torch.empty(2**31 + 2**16, dtype=torch.uint8, device=DEVICE)
    image = room.as_strided(shape, strides)
    image.copy_(as_bytes(TRITON.picture(*shape)))
    compare(TRITON, image, TRITON.tables(50), spec("4:4:4"))


@pytest.mark.parametrize(
    "forward,dtype",
    [
        ("exact", torch.float16),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in (("exact", torch.bfloat16), ("soft", torch.float16), ("soft", torch.bfloat16))
        ),
    ],
)
def test_16_bit_types_without_a_copy(
    forward: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    image, entries = TRITON.picture(1, 1, 9, 20).to(dtype).requires_grad_(), TRITON.tables(80, 1)
    chosen = spec("gray", forward=forward)
    seen = []
    run = launch.launch

    def watched(kernel: str, programs: Any, like: torch.Tensor, *args: Any, **options: Any) -> None:
        tensors = [x for x in args if isinstance(x, torch.Tensor) and x.shape == image.shape]
        seen.append((kernel, {x.dtype for x in tensors}))
        run(kernel, programs, like, *args, **options)

    for module in (kernels, calls, halves):
        monkeypatch.setattr(module, "launch", watched)
    out = triton.jpeg(image, entries, chosen)
    weight = torch.randn(out.shape).to(out)
    (found,) = torch.autograd.grad(out, image, weight)
    assert out.dtype is found.dtype is dtype
    assert [types for _, types in seen] == [{dtype}] * 3, seen
    wide = image.detach().float().requires_grad_()
    expected = triton.jpeg(wide, entries, chosen)
    (gradient,) = torch.autograd.grad(expected, wide, weight.float())
    # A device rounds; the interpreter cuts bfloat16 off.
    cut = torch.finfo(dtype).eps if TRITON.interpreted and dtype is torch.bfloat16 else 0
    for a, b in ((out, expected), (found, gradient)):
        assert ((a - b.to(dtype)).abs() <= cut * b.abs()).all()
    levels, _ = triton.encode(image, entries, chosen)
    assert torch.equal(levels[0], triton.encode(wide, entries, chosen)[0][0])
    decoded = triton.decode(
        levels, entries, (9, 20), dtype, chosen, jpegrad.backends.block_noise(image, chosen)
    )
    assert decoded.dtype is dtype
    assert (decoded - out).abs().max() < (1e-6 if forward == "exact" else 2 * torch.finfo(dtype).eps)


# Bytes a pixel in 4:2:0 that a call keeps for its backward pass, and has at its height beside the picture's own 24.
MEMORY = {
    "exact, no gradient": (0.0, 1.5),
    "exact": (4.5, 6.0),
    "exact, slope 1": (1.5, 3.0),
    "soft, no gradient": (0.0, 6.1),
    "soft": (37.5, 43.6),
    "soft, sharp clamps": (7.5, 13.5),
}


@pytest.mark.parametrize("name", MEMORY)
def test_bytes_per_pixel(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    alive, height = 0, 0

    def counted(make: Callable[..., torch.Tensor]) -> Callable[..., torch.Tensor]:
        def made(*args: Any, **options: Any) -> torch.Tensor:
            nonlocal alive, height
            found = make(*args, **options)
            alive += found.nbytes
            height = max(height, alive)
            weakref.finalize(found, freed, found.nbytes)
            return found

        return made

    def freed(size: int) -> None:
        nonlocal alive
        alive -= size

    records = {"exact, slope 1": surrogates.identity, "soft, sharp clamps": surrogates.cubic}
    chosen = spec(
        "4:2:0", forward=name.split(",")[0].split()[0], surrogate=records.get(name, surrogates.gaussian())
    )
    image, entries = torch.rand(1, 3, 64, 64), TRITON.tables(50)
    image.requires_grad_("no gradient" not in name)
    for module in (kernels, calls, halves):
        monkeypatch.setattr(module, "launch", lambda *args, **options: None)
    monkeypatch.setattr(torch.Tensor, "new_empty", counted(torch.Tensor.new_empty))
    monkeypatch.setattr(torch.Tensor, "new_zeros", counted(torch.Tensor.new_zeros))
    monkeypatch.setattr(torch, "empty_like", counted(torch.empty_like))
    out = triton.jpeg(image, entries, chosen)
    kept, most, pixels = alive - out.nbytes, height - out.nbytes, 64 * 64
    assert (kept / pixels, most / pixels) == pytest.approx(MEMORY[name], abs=0.11)
    if image.requires_grad:
        height = 0
        torch.autograd.grad(out.sum(), image)
        # The gradient, and nothing else beside what was kept.
        assert (height - kept - out.nbytes) / pixels == pytest.approx(12, abs=0.01)


def test_infinite_samples_beside_others_beyond_the_range() -> None:
    image = TRITON.picture(1, 3, 16, 16)
    image[0, :, 5, 5] = torch.tensor([1.5, torch.inf, -0.5])
    image[0, :, 7, 7] = torch.tensor([-0.5, 1.5, -torch.inf])
    compare_gradients(TRITON, image, TRITON.tables(50), spec("4:2:0", clip_slope=0.3))


def test_reasons() -> None:
    image = TRITON.picture(1, 3, 8, 8)
    assert any("CUDA" in reason for reason in triton.unsupported("jpeg", image.cpu(), spec("4:2:0")))
    for operation in ("jpeg", "encode", "decode"):
        assert not TRITON.unsupported(image, spec("4:2:0", surrogate=OWN), operation)
    for operation in ("jpeg", "encode", "decode"):
        assert not TRITON.unsupported(image, spec("4:2:0", forward="soft"), operation)
    assert "soft function" in TRITON.unsupported(image, spec("4:2:0", forward="soft", surrogate=OWN))[0]


@pytest.mark.parametrize("version", ["3.3.1", "2.0.0", "of an unknown version"])
def test_a_triton_without_tuples_is_a_reason(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert kernels.missing() == ""
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    oldest = kernels.OLDEST
    assert "3.4" in kernels._missing(version, oldest) and version in kernels._missing(version, oldest)
    assert kernels._missing("3.4.0", oldest) == kernels._missing("3.10.0+git12", oldest) == ""
    assert kernels._missing(None, oldest) == "triton is not installed"
