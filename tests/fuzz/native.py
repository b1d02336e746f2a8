"""The native kernel on random shapes, strides, offsets and threads, with poison around every buffer.

    python -m tests.fuzz.native [--seed 0] [--rounds 1000]

With a build under AddressSanitizer and UndefinedBehaviorSanitizer (``tests/fuzz/sanitize.sh``), reads are watched too.
"""

import argparse
import contextlib
import random
from collections.abc import Sequence
from ctypes import c_void_p
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

import jpegrad
from jpegrad.backends.fused.settings import CLOSED, parse, settings_of
from jpegrad.backends.native import abi, kernels
from jpegrad.backends.native import levels as native_levels
from jpegrad.entropy import huffman
from jpegrad.entropy.script import ProgressiveScan
from jpegrad.sampling import SUBSAMPLING, blocks, ratios
from jpegrad.spec import Spec

POISON = 0xA5
MARGIN = 192


class Guarded:
    """Memory for one tensor, poisoned around it and in it."""

    def __init__(self, shape: tuple[int, ...], dtype: torch.dtype, offset: int = 0) -> None:
        count = torch.Size(shape).numel() * dtype.itemsize
        self.whole = torch.full((count + 2 * MARGIN + offset,), POISON, dtype=torch.uint8)
        self.begin, self.end = MARGIN + offset, MARGIN + offset + count
        self.tensor = self.whole[self.begin : self.end].view(dtype).view(shape)

    def check(self, what: str) -> None:
        around = torch.cat([self.whole[: self.begin], self.whole[self.end :]])
        if not around.eq(POISON).all():
            raise RuntimeError(f"{what}: memory around a buffer was written")


def strided(image: Tensor) -> Tensor:
    """The same values at other strides, surrounded by NaN (or 255)."""
    batch, channels, height, width = image.shape
    order = random.sample(range(4), 4)
    room = [n * random.choice((1, 1, 2)) + random.randint(0, 2) for n in image.shape]
    fill = 255 if image.dtype is torch.uint8 else float("nan")
    whole = torch.full([room[i] for i in order], fill, dtype=image.dtype)
    view = whole.permute([order.index(i) for i in range(4)])
    steps = [
        random.choice([k for k in (1, 2) if (n - 1) * k < r]) for n, r in zip(image.shape, room, strict=True)
    ]
    view = view[:: steps[0], :: steps[1], :: steps[2], :: steps[3]][:batch, :channels, :height, :width]
    return view.copy_(image)


def guarded_parts(batch: int, parts: Sequence[kernels.Part]) -> tuple[list[Guarded], dict[str, Any]]:
    """Memory for each part of what is kept, and the kernel's fields with it."""
    guarded, fields = [], {}
    for part in parts:
        each = [
            Guarded((batch, *s), part.dtype, random.choice((0, 1)) * part.dtype.itemsize) for s in part.shapes
        ]
        places = tuple(x.tensor.data_ptr() for x in each)
        fields[part.field] = places[0] if len(places) == 1 else places
        guarded += each
    return guarded, fields


def parts_of(kept: Tensor, parts: Sequence[kernels.Part]) -> list[Tensor]:
    """The parts of what an operator keeps, as tensors of their own."""
    found, begin = [], 0
    for part in parts:
        for shape in part.shapes:
            size = torch.Size(shape).numel() * part.dtype.itemsize
            found.append(kept[:, begin : begin + size].contiguous().view(part.dtype).view(len(kept), *shape))
            begin += size
    return found


def one_round() -> None:
    """Forward and backward of one random call, against the same call on plain tensors."""
    batch, channels = random.choice((1, 1, 2, 3)), random.choice((3, 3, 1))
    height, width = (random.choice((random.randint(1, 40), random.randint(1, 140))) for _ in range(2))
    subsampling = random.choice(list(SUBSAMPLING)) if channels == 3 else "4:4:4"
    record = random.choice(CLOSED)
    value_range = random.choice([(0.0, 1.0), (-1.0, 1.0)])
    spec = Spec(subsampling=subsampling, surrogate=record, value_range=value_range, clip_slope=0.1)
    settings = settings_of(spec, channels, kernels)
    quality: float | Tensor = random.uniform(1, 100)
    if random.random() < 0.5:
        quality = torch.rand(batch) * 99 + 1
    tables = jpegrad.tables.annex_k(quality, dtype=torch.float64).reshape(-1, 2, 8, 8)
    torch.set_num_threads(random.choice((1, 2, 5)))
    abi.PIXELS_PER_THREAD = random.choice((1, 1000))

    image = torch.rand(batch, channels, height, width) * 1.2 - 0.1
    as_bytes = random.random() < 0.3
    if as_bytes:
        image = (image.clamp(0, 1) * 255).to(torch.uint8)
    else:
        image = image.to(random.choice((torch.float32, torch.float16, torch.bfloat16)))
    gradient = torch.randn(image.shape).to(torch.float32 if as_bytes else image.dtype)
    k = kernels.codec(channels, height, width, 2, parse(settings))
    fields = kernels.table_fields(tables)

    expected, kept = torch.ops.jpegrad.native_jpeg(image, tables, settings, True, True)
    out = Guarded(image.shape, image.dtype, random.choice((0, 1, 3)) * image.dtype.itemsize)
    parts = kernels.parts(image.shape[1:], parse(settings), True)
    guarded, saving = guarded_parts(batch, parts)
    moved, moved_gradient = strided(image), strided(gradient)
    for extra in ({}, saving):
        described = {"input": abi.describe(moved), "output": abi.describe(out.tensor)}
        abi.invoke("jpeg", k, batch, **described, **fields, **extra)
        for each in (out, *guarded):
            each.check("forward")
        if not torch.equal(out.tensor, expected):
            raise RuntimeError("forward: another result in another place")
    if not all(
        torch.equal(each.tensor, plain) for each, plain in zip(guarded, parts_of(kept[0], parts), strict=True)
    ):
        raise RuntimeError("forward: something else saved in another place")
    if as_bytes:
        return

    wanted, sums = torch.ops.jpegrad.native_jpeg_backward(gradient, tables, kept, settings, True)
    partial = kernels.table_sums(image.shape, parse(settings), image)
    to_image, to_tables = Guarded(image.shape, image.dtype, 4), Guarded(tuple(partial.shape), torch.float64)
    described = {
        "input": abi.describe(moved_gradient),
        "output": abi.describe(to_image.tensor),
    }
    fields["table_gradient"] = to_tables.tensor.data_ptr()
    abi.invoke("jpeg_backward", k, batch, **described, **fields, **saving)
    for each in (to_image, to_tables, *guarded):
        each.check("backward")
    if not (torch.equal(to_image.tensor, wanted) and torch.equal(to_tables.tensor.sum(1), sums)):
        raise RuntimeError("backward: another result in another place")

    soft = settings_of(replace(spec, forward="soft"), channels, kernels)
    soft_round(moved, moved_gradient, image, gradient, tables, soft)

    if image.dtype is not torch.float32:
        return
    levels, unrounded, _ = torch.ops.jpegrad.native_encode(image, tables, settings, True, True, True)
    planes = [Guarded(tuple(x.shape), torch.float32) for x in (*levels, *unrounded)]
    pointers = [
        (c_void_p * 3)(*(each.tensor.data_ptr() for each in part))
        for part in (planes[:channels], planes[channels:])
    ]
    described = {"input": abi.describe(moved), "planes": pointers[0], "unrounded": pointers[1]}
    abi.invoke("encode", k, batch, **described, **fields)
    for each, plain in zip(planes, (*levels, *unrounded), strict=True):
        each.check("encode")
        if not torch.equal(each.tensor, plain):
            raise RuntimeError("encode: another result in another place")
    abi.invoke("decode", k, batch, output=abi.describe(out.tensor), planes=pointers[0], **fields)
    out.check("decode")
    if not torch.equal(out.tensor, expected):
        raise RuntimeError("decode: not what jpeg gives")


def soft_round(
    moved: Tensor, moved_gradient: Tensor, image: Tensor, gradient: Tensor, tables: Tensor, settings: str
) -> None:
    """The soft forward and its backward pass of the same call."""
    with_tables = random.random() < 0.5
    expected, kept = torch.ops.jpegrad.native_jpeg(image, tables, settings, True, with_tables)
    parts = kernels.parts(image.shape[1:], parse(settings), with_tables)
    out = Guarded(image.shape, image.dtype, random.choice((0, 1)) * image.dtype.itemsize)
    saved, fields = guarded_parts(len(image), parts)
    results, guarded = [expected, *parts_of(kept[0], parts)], [out, *saved]
    k = kernels.codec(*image.shape[1:], 2, parse(settings))
    fields |= kernels.table_fields(tables)
    described = {"input": abi.describe(moved), "output": abi.describe(out.tensor)}
    abi.invoke("soft", k, len(image), **described, **fields)
    # The clamps' slopes are written where a flag is set, and the backward pass reads them there.
    whole = [True, *(part.field != "clips" for part in parts for _ in part.shapes)]
    for each, plain, is_whole in zip(guarded, results, whole, strict=True):
        each.check("soft")
        if is_whole and not torch.equal(each.tensor, plain):
            raise RuntimeError("soft: another result in another place")

    wanted, sums = torch.ops.jpegrad.native_jpeg_backward(gradient, tables, kept, settings, with_tables)
    partial = kernels.table_sums(image.shape, parse(settings), image)
    to_image, to_tables = Guarded(image.shape, image.dtype, 4), Guarded(tuple(partial.shape), torch.float64)
    described = {
        "input": abi.describe(moved_gradient),
        "output": abi.describe(to_image.tensor),
    }
    if with_tables:
        fields["table_gradient"] = to_tables.tensor.data_ptr()
    abi.invoke("jpeg_backward", k, len(image), **described, **fields)
    for each in (to_image, to_tables, *guarded):
        each.check("soft backward")
    if not torch.equal(to_image.tensor, wanted):
        raise RuntimeError("soft backward: another result in another place")
    if with_tables and not torch.equal(to_tables.tensor.sum(1), sums):
        raise RuntimeError("soft backward: another result in another place")


def one_round_of_levels() -> None:
    """Counting and choosing random levels, undefined ones too, against the same call on plain tensors."""
    batch, channels = random.choice((1, 1, 2, 3)), random.choice((3, 3, 1))
    size = tuple(random.choice((random.randint(1, 40), random.randint(1, 140))) for _ in range(2))
    subsampling = random.choice(list(SUBSAMPLING)) if channels == 3 else "4:4:4"
    sampling = SUBSAMPLING[subsampling]
    torch.set_num_threads(random.choice((1, 2, 5)))
    abi.PIXELS_PER_THREAD = random.choice((1, 1000))
    dtype = random.choice((torch.float32, torch.float64))
    planes = []
    for ratio in ratios(channels, subsampling):
        shape = (batch, *blocks(size, ratio), 8, 8)
        plane = (
            torch.randn(shape, dtype=dtype)
            * 10 ** random.uniform(-1, 3)
            * (torch.rand(shape) < random.random())
        )
        odd = torch.tensor([torch.nan, torch.inf, -torch.inf, 1e30, -1e30, 1023.5, -2048.0])
        strange = torch.rand(shape) < random.choice((0, 0, 1e-3))
        plane[strange] = odd[torch.randint(len(odd), (int(strange.sum()),))].to(dtype)
        planes.append(plane)
    k = abi.Codec(
        height=size[0], width=size[1], channels=channels, table_count=2, h=sampling[0], v=sampling[1]
    )

    expected = native_levels.scan_counts(planes, *size, sampling)
    floats = [plane.round().float() for plane in planes]
    counts = Guarded(tuple(expected.shape), torch.int64)
    abi.invoke("scan_counts", k, batch, planes=abi.pointers(floats), counts=counts.tensor.data_ptr())
    counts.check("scan_counts")
    if not torch.equal(counts.tensor, expected):
        raise RuntimeError("scan_counts: another result in another place")
    book = huffman.code_book(huffman.DEFAULT[: counts.tensor.shape[1]])[None]
    expected = native_levels.scan_bytes(planes, book, *size, sampling)
    found = Guarded((batch,), torch.int64)
    fields = {"counts": found.tensor.data_ptr(), "book": book.data_ptr(), "book_stride": 0}
    abi.invoke("scan_bytes", k, batch, planes=abi.pointers(floats), **fields)
    found.check("scan_bytes")
    if not torch.equal(found.tensor, expected):
        raise RuntimeError("scan_bytes: another result in another place")

    lower = [plane.abs() - 1 for plane in planes]
    for plane, below in zip(planes, lower, strict=True):
        prices = torch.rand(*random.choice(((), (batch,))), 64, 12)
        wanted = torch.rand(plane.shape) < 0.5
        expected = native_levels.step_costs(plane, below, wanted, prices)
        costs = Guarded(tuple(plane.shape), torch.float32)
        fields = {"levels": plane.float(), "lower": below.float(), "where": wanted, "bits": prices}
        pointers = {name: tensor.data_ptr() for name, tensor in fields.items()}
        count = {"blocks": plane.numel() // 64, "tables": prices.numel() // 768}
        abi.step_costs(**count, **pointers, out=costs.tensor.data_ptr())
        costs.check("step_costs")
        if not torch.equal(costs.tensor, expected):
            raise RuntimeError("step_costs: another result in another place")

    tables = torch.randint(1, 256, random.choice(((2, 8, 8), (batch, 2, 8, 8)))).double()
    kinds = 1 if channels == 1 else 2
    prices = [
        torch.rand(batch, kinds, 12, *run, dtype=torch.float64) * random.uniform(0, 1e4)
        for run in ((64,), ())
    ]
    shapes = random.choice(((), (8, 8), (batch, 1, 1, 1, 8)))
    weights = [torch.rand(shapes, dtype=dtype) for _ in planes] if random.random() < 0.6 else []
    arguments = (tables, weights, *prices, *size, sampling)
    expected = native_levels.trellis(planes, *arguments)
    moved = [Guarded(tuple(plane.shape), dtype, random.choice((0, 1)) * dtype.itemsize) for plane in planes]
    for each, plane in zip(moved, planes, strict=True):
        each.tensor.copy_(plane)
    again = native_levels.trellis([each.tensor for each in moved], *arguments)
    out = [Guarded(tuple(plane.shape), dtype, random.choice((0, 1)) * dtype.itemsize) for plane in planes]
    native_levels.choose(planes, [each.tensor for each in out], *arguments)
    for each, first, second in zip(out, expected, again, strict=True):
        each.check("trellis")
        if not (torch.equal(each.tensor, first) and torch.equal(second, first)):
            raise RuntimeError("trellis: another result in another place")
        if not first.isfinite().all() or first.abs().max() > 1024:
            raise RuntimeError("trellis: a level that no file holds")


def random_script(components: int) -> list[ProgressiveScan]:
    """Scans of every bit of every level, in any order that a decoder can follow."""
    queues = []
    for i in range(components):
        low = random.choice((0, 0, 1, 3))
        queues.append([ProgressiveScan((i,), 0, 0, 0, low)])
        queues[-1] += [ProgressiveScan((i,), 0, 0, high, high - 1) for high in range(low, 0, -1)]
        ends = sorted({*random.sample(range(1, 63), random.choice((0, 1, 2))), 63})
        first = 1
        for last in ends:
            low = random.choice((0, 1, 2, 5))
            queues.append([ProgressiveScan((i,), first, last, 0, low)])
            queues[-1] += [ProgressiveScan((i,), first, last, high, high - 1) for high in range(low, 0, -1)]
            first = last + 1
    script: list[ProgressiveScan] = []
    if components > 1 and random.random() < 0.5:
        low = random.choice((0, 1))
        together = tuple(range(components))
        script = [ProgressiveScan(together, 0, 0, 0, low)] + [ProgressiveScan(together, 0, 0, 1, 0)] * low
        queues = [queue for queue in queues if queue[0].first]
    while any(queues):
        queue = random.choice([queue for queue in queues if queue])
        component = queue[0].components[0]
        # The DC level of a component comes before its AC levels.
        before = [each for each in queues if each and each[0].first == 0 and component in each[0].components]
        started = any(scan.first == 0 and component in scan.components for scan in script)
        script.append((queue if started else before[0]).pop(0))
    return script


def one_round_of_scans() -> None:
    """Coded levels are read back, whatever they are and wherever they lie; what is no level is refused or clamped."""
    channels = random.choice((3, 3, 1))
    size = (random.randint(1, 60), random.randint(1, 60))
    subsampling = random.choice(list(SUBSAMPLING)) if channels == 3 else "4:4:4"
    dtype = random.choice((torch.float32, torch.float64, torch.int16))
    spread, density = 10 ** random.uniform(-0.5, 3), random.choice((0.01, 0.1, 0.5, 1.0))
    planes = []
    for ratio in ratios(channels, subsampling):
        shape = (*blocks(size, ratio), 8, 8)
        plane = (torch.randn(shape) * spread).round().clamp(-1023, 1023) * (torch.rand(shape) < density)
        planes.append(Guarded(shape, dtype, random.choice((0, 1, 3)) * dtype.itemsize))
        planes[-1].tensor.copy_(plane)
    levels = tuple(plane.tensor for plane in planes)
    tables = torch.randint(1, 256, (min(channels, 2), 8, 8))
    coefficients = jpegrad.Coefficients(levels, tables, size, subsampling)
    script = random_script(channels)
    how = random.choice(({}, {"huffman": "optimized"}, {"progressive": True}, {"progressive": script}))
    data = jpegrad.to_bytes(coefficients, **how)
    for plane, again in zip(planes, jpegrad.read(data).levels, strict=True):
        plane.check("encode_scan")
        if not torch.equal(again, plane.tensor.float()):
            raise RuntimeError(f"encode_scan: other levels were written, {how}")
    if jpegrad.bits(coefficients, **how) != 8 * len(data):
        raise RuntimeError("encode_scan: another size with clamping")

    odd = torch.tensor([torch.nan, torch.inf, -torch.inf, 1e30, -1e30, 1023.5, -2048.0, 32768.0, -32768.0])
    for plane in planes:
        wrong = torch.rand(plane.tensor.shape) < 0.01
        values = odd[torch.randint(len(odd), (int(wrong.sum()),))]
        if dtype is torch.int16:
            values = values.nan_to_num(0.0).clamp(-32768, 32767)
        plane.tensor[wrong] = values.to(dtype)
    if jpegrad.bits(coefficients, **how) < 0:
        raise RuntimeError("encode_scan: a size below 0")
    with contextlib.suppress(ValueError):
        jpegrad.to_bytes(coefficients, **how)
    for plane in planes:
        plane.check("encode_scan")


def fuzz(seed: int, rounds: int) -> None:
    threads, grain = torch.get_num_threads(), abi.PIXELS_PER_THREAD
    random.seed(seed)
    torch.manual_seed(seed)
    try:
        for _ in range(rounds):
            one_round()
            one_round_of_levels()
            one_round_of_scans()
    finally:
        torch.set_num_threads(threads)
        abi.PIXELS_PER_THREAD = grain


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=1000)
    chosen = parser.parse_args()
    fuzz(chosen.seed, chosen.rounds)
    kernel = abi.library().jpegrad_kernel().decode()
    print(f"{chosen.rounds} rounds of seed {chosen.seed} on {kernel}: nothing found")
