"""The native kernel's manners: it touches its own memory only, and may be called from anywhere, any number of times."""

import multiprocessing
import threading

import pytest
import torch
from torch import Tensor

import jpegrad
from jpegrad.backends import native
from jpegrad.backends.fused.settings import CLOSED, parse, settings_of
from jpegrad.backends.native import kernels
from jpegrad.backends.native import levels as native_levels
from jpegrad.entropy import huffman, scan
from jpegrad.sampling import SUBSAMPLING
from jpegrad.spec import Spec
from kernel_cases import NATIVE, tables
from tests.fuzz.native import fuzz, parts_of

pytestmark = NATIVE.marks


def step(image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Image and gradients to image and tables of one forward and backward pass."""
    image, entries = image.clone().requires_grad_(), tables(50.0).requires_grad_()
    out = native.jpeg(image, entries, Spec())
    return out.detach(), *torch.autograd.grad(out.square().sum(), (image, entries))


def test_memory_around_every_buffer_stays_as_it_was() -> None:
    fuzz(seed=0, rounds=150)


@pytest.mark.parametrize("size", [(1, 70_001), (70_001, 1), (17, 20_003)])
def test_huge_sides(size: tuple[int, int]) -> None:
    image = torch.rand(1, 3, *size)
    wide = native.jpeg(image, tables(50.0), Spec())
    # Blocks and their neighbours decide a sample: a window far from its borders decodes to the same.
    y, x = (slice(0, min(side, 1600)) for side in size)
    window = native.jpeg(image[..., y, x], tables(50.0), Spec())
    inner = tuple(slice(0, side if side < 1600 else 1500) for side in window.shape[-2:])
    assert torch.equal(wide[..., y, x][..., inner[0], inner[1]], window[..., inner[0], inner[1]])
    step(image)


def test_the_number_of_threads_changes_nothing() -> None:
    image = torch.rand(3, 3, 333, 450)
    results = []
    for count in (1, 2, 3, 7):
        torch.set_num_threads(count)
        results.append(step(image))
    torch.set_num_threads(1)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("record", CLOSED, ids=lambda record: record.name)
@pytest.mark.parametrize("forward", ["exact", "soft"])
@pytest.mark.parametrize("subsampling", SUBSAMPLING)
def test_calls_before_and_the_number_of_threads_change_nothing(
    subsampling: str, forward: str, record: jpegrad.Surrogate
) -> None:
    def run() -> list[Tensor]:
        out, saved = torch.ops.jpegrad.native_jpeg(image, entries, settings, True, True)
        parts = kernels.parts(image.shape[1:], parse(settings), True)
        fields = [part.field for part in parts for _ in part.shapes]
        kept = zip(parts_of(saved[0], parts), fields, strict=True)
        both = torch.ops.jpegrad.native_jpeg_backward(out, entries, saved, settings, True)
        alone, _ = torch.ops.jpegrad.native_jpeg_backward(out, entries, saved, settings, False)
        # The clamps' slopes are written where a flag is set.
        return [out, *(part for part, field in kept if field != "clips"), *both, alone]

    spec = Spec(subsampling=subsampling, forward=forward, surrogate=record)
    settings = settings_of(spec, 3, kernels)
    # Groups of blocks that are not full, and a strip whose last row of blocks is not there.
    image, entries = torch.rand(2, 3, 40, 42), tables(60)[None]
    expected = run()
    for i in range(12):
        # Larger ones fill the memory that all of them share with other samples.
        other = torch.rand(1, 3, 64, 150 + 10 * i)
        torch.ops.jpegrad.native_jpeg(other, tables(95)[None], settings, True, False)
        torch.set_num_threads(1 + i % 2)
        found = run()
        torch.set_num_threads(1)
        assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_several_python_threads_at_once() -> None:
    images = [torch.rand(1, 3, 40 + 17 * i, 300) for i in range(8)]
    expected = [step(image) for image in images]
    found: dict[int, list[bool]] = {}

    def work(i: int) -> None:
        found[i] = [
            all(torch.equal(a, b) for a, b in zip(step(images[i]), expected[i], strict=True))
            for _ in range(5)
        ]

    workers = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(found) == 8 and all(all(each) for each in found.values())


def _in_child(image: Tensor, queue: "multiprocessing.Queue[Tensor]") -> None:
    torch.set_num_threads(2)
    queue.put(native.jpeg(image, tables(50.0), Spec()).numpy().tobytes())


def test_after_a_fork() -> None:
    image = torch.rand(1, 3, 500, 700)
    torch.set_num_threads(2)
    expected = native.jpeg(image, tables(50.0), Spec()).numpy().tobytes()
    torch.set_num_threads(1)
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    child = context.Process(target=_in_child, args=(image, queue))
    child.start()
    assert queue.get(timeout=60) == expected
    child.join(timeout=60)
    assert child.exitcode == 0


class Coded(torch.utils.data.Dataset[Tensor]):
    def __len__(self) -> int:
        return 12

    def __getitem__(self, index: int) -> Tensor:
        image = torch.rand(3, 64, 96, generator=torch.Generator().manual_seed(index))
        return jpegrad.jpeg(image, 50, backend="native")


def test_in_the_workers_of_a_data_loader() -> None:
    loaded = torch.cat(list(torch.utils.data.DataLoader(Coded(), batch_size=4, num_workers=2)))
    assert torch.equal(loaded, torch.stack([Coded()[i] for i in range(12)]))


@pytest.mark.parametrize("mode", (*SUBSAMPLING, "gray"))
def test_scans_have_the_length_that_rate_counts(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JPEGRAD_BACKEND", "reference")
    sampling = (1, 1) if mode == "gray" else SUBSAMPLING[mode]
    subsampling = "4:4:4" if mode == "gray" else mode
    for height, width in ((1, 1), (17, 33), (40, 9), (25, 70)):
        image = torch.rand(3, 1 if mode == "gray" else 3, height, width)
        levels, _ = native.encode(image, tables(85.0), Spec(subsampling=subsampling))
        levels = tuple(x.detach() for x in levels)
        for scale in (1, 20):  # the larger ones are clamped, and need codes of all lengths
            scaled = [x * scale for x in levels]
            scaled[0][:, :, ::2, 4:] = 0
            counts = native_levels.scan_counts(scaled, height, width, sampling)
            assert torch.equal(counts, scan.scan_counts(scaled, height, width, subsampling))
            books = {
                "default": [huffman.DEFAULT[: counts.shape[1]]] * 3,
                "optimized": [[huffman.optimal_table(row) for row in each] for each in counts.tolist()],
            }
            for kind, each in books.items():
                book = torch.stack([huffman.code_book(found) for found in each])
                found = native_levels.scan_bytes(scaled, book, height, width, sampling)
                assert torch.equal(found, scan.scan_bytes(scaled, height, width, subsampling, kind)[..., 0])
