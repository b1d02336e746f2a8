"""Laws of every kernel backend: its values equal the reference's with 0 differing samples; it says what it cannot do.

Its gradients have laws of their own in ``test_kernel_gradients.py``.
"""

import pytest
import torch

import jpegrad
from jpegrad.backends import reference, triton
from jpegrad.backends.fused.operators import OPERATORS
from jpegrad.backends.fused.settings import settings_of
from jpegrad.backends.native import abi
from jpegrad.spec import Color, resolve
from kernel_cases import (
    LAYOUTS,
    MODES,
    Kernel,
    as_bytes,
    channels,
    compare,
    law,
    results,
    run,
    same,
    sizes,
    spec,
)


@law("mode", MODES)
def test_equals_the_reference_at_every_size(kernel: Kernel, mode: str) -> None:
    for i, (height, width) in enumerate(kernel.take(sizes(), [(1, 1), (5, 4), (31, 17), (40, 65)])):
        image = kernel.picture(1, channels(mode), height, width)
        compare(
            kernel,
            as_bytes(image) if i % 3 == 0 else image,
            kernel.tables(float(i * 37 % 100 + 1)),
            spec(mode),
        )


@law("mode", MODES, few=["4:2:0"])
def test_equals_the_reference_at_every_quality(kernel: Kernel, mode: str) -> None:
    qualities = torch.tensor(kernel.take(range(1, 101), (1, 10, 99, 100)), dtype=torch.float32)
    image = kernel.picture(len(qualities), channels(mode), 19, 21)
    for count in kernel.take((1, 2, 3), [1, 3]):
        compare(kernel, image, kernel.tables(qualities, count), spec(mode))


# The interpreter would take minutes.
@law(few=())
def test_every_table_entry(kernel: Kernel) -> None:
    entries = torch.arange(1.0, 256.0, dtype=torch.float64).reshape(255, 1, 1, 1).expand(-1, 1, 8, 8)
    image = torch.randint(0, 256, (255, 1, 16, 24), dtype=torch.uint8)
    compare(kernel, image.to(kernel.device), entries.to(kernel.device), spec("gray"))


# The native kernel says that they lie far outside.
@pytest.mark.filterwarnings("ignore:value_range")
@law()
def test_noise_and_saturated_samples(kernel: Kernel) -> None:
    image = (torch.randint(0, 2, (1, 3, 24, 24)).float() * 3 - 1).to(kernel.device)
    compare(kernel, image, kernel.tables(3.0), spec("4:4:4"))
    compare(kernel, torch.rand(1, 3, 24, 24).to(kernel.device), kernel.tables(50.0), spec("4:2:2"))


@law(
    "value_range",
    [(0.0, 255.0), (-1.0, 1.0), (0.0, 3.0), (-17.3, 1.9), (0.1, 0.2)],
    [(0.1, 0.2)],
)
def test_value_ranges(kernel: Kernel, value_range: tuple[float, float]) -> None:
    low, high = value_range
    image = low + kernel.picture(2, 3, 20, 37) * (high - low)
    compare(kernel, image, kernel.tables(80), spec("4:2:0", value_range=value_range))


@law("value_range", [(0.0, 1.0), (0.0, 255.0), (-1.0, 1.0), (-17.3, 1.9)])
def test_rounding_of_values_next_to_a_tie(kernel: Kernel, value_range: tuple[float, float]) -> None:
    low, high = value_range
    around = (low + (torch.arange(255, dtype=torch.float64) + 0.5) / 255 * (high - low)).float()
    below, above = around.nextafter(torch.tensor(-10.0)), around.nextafter(torch.tensor(1e3))
    rows = torch.stack([below, around, above]).reshape(1, 1, 3, 255).to(kernel.device)
    chosen = spec("gray", value_range=value_range)
    ones = torch.ones(1, 8, 8, dtype=torch.float64, device=kernel.device)
    with torch.no_grad():
        found, expected = (
            backend.encode(rows.tile(1, 1, 8, 1), ones, chosen)[0][0]
            for backend in (kernel.backend, reference)
        )
    same(found, expected)
    rows[0, 0, 0, 0], rows[0, 0, 1, 1], rows[0, 0, 2, 2] = torch.nan, torch.inf, -torch.inf
    compare(kernel, rows, ones, chosen)


@law(
    "layout",
    LAYOUTS,
    ["channels last", "one column of all, expanded", "transposed", "inner window, every second column"],
)
def test_any_strides(kernel: Kernel, layout: str) -> None:
    strided = LAYOUTS[layout]
    picture = kernel.picture(2, 3, 21, 35)
    for image in kernel.take((picture, as_bytes(picture)), [picture]):
        found = kernel.backend.jpeg(strided(image), kernel.tables(60), spec("4:2:0"))
        same(found, reference.jpeg(strided(image).contiguous(), kernel.tables(60), spec("4:2:0")))


@law("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(kernel: Kernel, dtype: torch.dtype) -> None:
    image = kernel.picture(2, 3, 20, 20).to(dtype)
    assert not kernel.unsupported(image, spec("4:2:0"))
    compare(kernel, image, kernel.tables(50), spec("4:2:0"))


@law()
def test_leading_dimensions_and_tables_of_their_own(kernel: Kernel) -> None:
    for shape, quality, count, mode in kernel.take(
        [
            ((2, 3, 3, 17, 24), torch.tensor([10.0, 50.0, 90.0]), 3, "4:2:2"),
            ((2, 3, 3, 17, 24), torch.rand(2, 1) * 99 + 1, 2, "4:2:2"),
            ((3, 9, 10), 70.0, 2, "4:4:0"),
        ],
        [
            ((2, 1, 3, 9, 10), torch.tensor([[10.0], [90.0]]), 2, "4:2:2"),
            ((3, 9, 10), 70.0, 2, "4:4:0"),
        ],
    ):
        compare(kernel, kernel.picture(*shape), kernel.tables(quality, count), spec(mode))


@law("shape", [(0, 3, 16, 16), (2, 0, 3, 8, 8), (0, 1, 1, 1)])
def test_no_images(kernel: Kernel, shape: tuple[int, ...]) -> None:
    image, entries, chosen = torch.rand(shape, device=kernel.device), kernel.tables(50), spec("4:4:4")
    assert kernel.backend.jpeg(image, entries, spec("4:2:0")).shape == shape
    for split in (False, True):
        assert run(kernel.backend, image, entries, chosen, split).shape == shape
        out, gradient, to_tables = results(kernel.backend, image, entries, chosen, split)
        assert out.shape == gradient.shape == shape and to_tables.eq(0).all()


@law("mode", MODES)
def test_levels_and_decoding(kernel: Kernel, mode: str) -> None:
    (size,) = kernel.take([(37, 50)], [(21, 26)])
    image, entries = kernel.picture(2, channels(mode), *size), kernel.tables(torch.tensor([20.0, 95.0]), 3)
    (levels, unrounded), (expected, expected_unrounded) = (
        backend.encode(image, entries, spec(mode)) for backend in (kernel.backend, reference)
    )
    assert unrounded is not None and expected_unrounded is not None
    for a, b in zip((*levels, *unrounded), (*expected, *expected_unrounded), strict=True):
        assert a.dtype is torch.float32
        same(a, b)
    with torch.no_grad():
        silent, nothing = kernel.backend.encode(image, entries, spec(mode))
        assert nothing is None and all(map(torch.equal, silent, levels))
        one = {"4:2:0": torch.uint8, "gray": torch.float64}.get(mode, torch.float32)
        for dtype in kernel.take((torch.uint8, torch.float16, torch.float32, torch.float64), [one]):
            found, wanted = (
                backend.decode(levels, entries, size, dtype, spec(mode))
                for backend in (kernel.backend, reference)
            )
            assert found.dtype is dtype
            same(found, wanted)


@law("scale largest", [(1, 255), (4, 255), (12, 255), (40, 255), (3000, 255), (3000, 65535)], [(3000, 65535)])
def test_decoding_levels_that_no_picture_has(kernel: Kernel, scale: int, largest: int) -> None:
    levels = tuple((torch.randn(1, 3, 4, 8, 8) * scale).round().to(kernel.device) for _ in range(3))
    levels[0][0, 0, 0] += 0.25
    levels[0][0, 1, 1, 0, :3] = torch.tensor([torch.nan, torch.inf, -1e6])
    entries = torch.randint(1, largest + 1, (2, 8, 8)).double().to(kernel.device)
    found, expected = (
        backend.decode(levels, entries, (20, 31), torch.uint8, spec("4:4:4"))
        for backend in (kernel.backend, reference)
    )
    same(found, expected)


@law("operator", [each.name for each in OPERATORS], fast=False)
def test_operators_are_as_pytorch_wants_them(kernel: Kernel, operator: str) -> None:
    """Their schemas, what the compiler sees of them, and what they compute when compiled."""
    entries, settings = kernel.tables(50)[None], settings_of(spec("4:2:0"), 3, kernel.backend.kernels)
    image, size = kernel.picture(1, 3, 9, 10), (9, 10, torch.float32)
    call = {each.name: getattr(torch.ops.jpegrad, f"{kernel.name}_{each.name}") for each in OPERATORS}
    out, saved = call["jpeg"](image, entries, settings, True, True)
    levels, unrounded, flags = call["encode"](image, entries, settings, True, True, True)
    decoded, kept = call["decode"](levels, [], entries, *size, settings, True)
    arguments = {
        "jpeg": (image, entries, settings, True, True),
        "jpeg_backward": (out, entries, saved, settings, True),
        "encode": (image, entries, settings, True, True, True),
        "encode_backward": (unrounded, flags, settings),
        "decode": (levels, [], entries, *size, settings, True),
        "decode_backward": (decoded, kept, settings),
    }
    torch.library.opcheck(call[operator].default, arguments[operator])


# What no kernel runs: the image, options of the call, and the reason.
REFUSED = {
    "float64": (torch.float64, {}, "it has gradients in float32, the image is float64"),
    "conversion that overflows": (
        torch.float32,
        {"color": Color(((500.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)))},
        "the colour conversion does not fit 32-bit integers",
    ),
    "offsets": (
        torch.float32,
        {"color": Color(jpegrad.spec.JFIF.matrix, (0.1, 128.0, 128.0))},
        "its colour offsets are multiples of 2^-16",
    ),
}


@law("case", REFUSED)
def test_what_no_kernel_runs(kernel: Kernel, case: str) -> None:
    dtype, options, reason = REFUSED[case]
    image = kernel.picture(1, 3, 8, 8).to(dtype)
    for operation in ("jpeg", "encode", "decode"):
        assert kernel.unsupported(image, resolve(**options), operation) == [reason]
    assert jpegrad.backends.explain(image, **options)[kernel.name][-1] == reason
    for call in (jpegrad.jpeg, jpegrad.encode):
        with pytest.raises(ValueError) as caught:
            call(image, 50, backend=kernel.name, **options)
        assert str(caught.value).startswith(f"backend: {kernel.name!r} cannot run this call: ")
        assert str(caught.value).endswith(reason)
    # No other choice than the reference is left, and it is taken in silence.
    found, expected = (jpegrad.jpeg(image, 50, backend=name, **options) for name in ("auto", "reference"))
    same(found, expected)


@law()
def test_conversions_of_tensors(kernel: Kernel) -> None:
    image, chosen = kernel.picture(1, 3, 8, 8), resolve(color=Color(torch.eye(3)))
    reasons = {"triton": []}.get(kernel.name, ["it takes colour conversions of numbers, not of tensors"])
    for operation in ("jpeg", "encode", "decode"):
        assert kernel.unsupported(image, chosen, operation) == reasons


# PyTorch itself compiles its formulas for forward mode in a way that it deprecates.
@pytest.mark.filterwarnings("ignore:`torch.jit.*:DeprecationWarning")
@law()
def test_no_kernel_has_forward_mode(kernel: Kernel) -> None:
    image = kernel.picture(1, 3, 8, 8)
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(image, image)
        with pytest.raises(ValueError, match="it has no rules for forward-mode differentiation"):
            jpegrad.jpeg(dual, 50, backend=kernel.name)


@law()
def test_images_on_another_device(kernel: Kernel) -> None:
    reason = {
        "native": "it runs on the CPU, the image is on meta",
        "triton": "it runs on CUDA devices, the image is on meta",
        "plain": "",
    }[kernel.name]
    image = torch.empty(1, 3, 8, 8, device="meta")
    if not reason:
        assert jpegrad.jpeg(image, 50, backend=kernel.name).device == image.device
        return
    assert kernel.backend.unsupported("jpeg", image, spec("4:2:0")) == [reason]
    with pytest.raises(ValueError, match=f"^backend: '{kernel.name}' cannot run this call: {reason}$"):
        jpegrad.jpeg(image, 50, backend=kernel.name)


@law()
def test_the_reason_if_it_is_missing(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(abi, "load", lambda: "the native kernel is not built")
    monkeypatch.setattr(triton.kernels, "_version", lambda: None)
    missing = {"native": "the native kernel is not built", "triton": "triton is not installed", "plain": ""}
    reason, image = missing[kernel.name], kernel.picture(1, 3, 8, 8)
    if not reason:
        assert not kernel.backend.missing()
        return
    assert kernel.backend.missing() == reason and kernel.unsupported(image, spec("4:2:0")) == [reason]
    with pytest.raises(ValueError, match=reason):
        jpegrad.jpeg(image, 50, backend=kernel.name)
    assert jpegrad.jpeg(image, 50).shape == (1, 3, 8, 8)
