"""Fuzz ``jpegrad.read``, strict and not, and ``read_header``.

Only ``JPEGError`` may come out, in bounded time and memory, and the process must live.

``python -m tests.fuzz.fuzz_read --count 20000 --seed 0`` from the root of the repository.
"""

import argparse
import io
import multiprocessing
import resource
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import jpegrad
from jpegrad.io import read
from jpegrad.jfif import JPEGError
from jpegrad.stages.dct import ISLOW
from tests.fuzz.mutate import mutant, seed_parts

# In which a worker imports torch and makes the corpus.
START_SECONDS = 120.0
# The length of a file does not bound the memory of arithmetic coding.
MAX_PIXELS = 1 << 23
FAILURES = ("other exception", "too slow", "process died")


@dataclass
class Report:
    """Outcomes by kind, failures by index, and the slowest file."""

    outcomes: Counter[str] = field(default_factory=Counter)
    failures: list[tuple[int, str]] = field(default_factory=list)
    slowest: tuple[float, int] = (0.0, -1)

    def add(self, index: int, kind: str, detail: str, seconds: float) -> None:
        self.outcomes[kind] += 1
        self.slowest = max(self.slowest, (seconds, index))
        if kind in FAILURES:
            self.failures.append((index, f"{kind}: {detail}"))

    def merge(self, other: "Report") -> None:
        self.outcomes += other.outcomes
        self.failures += other.failures
        self.slowest = max(self.slowest, other.slowest)


def leaves_16_bits(coefficients: jpegrad.Coefficients) -> bool:
    """Whether the inverse DCT may overflow in decoders that compute in 16 bits, and which then disagree.

    Only forged levels get there. For a picture of 8 bits the first pass yields at most 4096, and quantization with
    steps up to 255 adds at most 127.5 · Σ|column of ISLOW| / 2048 = 3811.
    """
    islow = torch.tensor(ISLOW, dtype=torch.float64)
    for component, level in enumerate(coefficients.shown):
        x = level.double() * coefficients.tables[min(component, len(coefficients.tables) - 1)].double()
        first_pass = islow.mT @ x / 2048
        if max(x.abs().max(), first_pass.abs().max()) > 16383:
            return True
    return False


def pillow_verdict(data: bytes, coefficients: jpegrad.Coefficients) -> str:
    """How Pillow decodes a damaged file that can still be read."""
    try:
        with Image.open(io.BytesIO(data)) as opened:
            theirs = np.atleast_3d(np.array(opened)).transpose(2, 0, 1)
    except Exception as error:
        return f"read; Pillow refuses ({type(error).__name__})"
    ours = jpegrad.decode(coefficients, dtype=torch.uint8).numpy()
    if np.array_equal(ours, theirs):
        return "read; equal to Pillow"
    if leaves_16_bits(coefficients):
        return "read; beyond 16 bits in the inverse DCT"
    return "read; Pillow shows something else"


def attempt(data: bytes, compare: bool) -> tuple[str, str]:
    """(kind, detail) of one file."""
    try:
        with suppress(JPEGError):
            jpegrad.read_header(data)
        with suppress(JPEGError):
            read(data, strict=False, max_pixels=MAX_PIXELS)
        coefficients = read(data, max_pixels=MAX_PIXELS)
    except JPEGError as error:
        return f"JPEGError: {str(error).split(':')[0]}", str(error)
    except BaseException as error:
        return "other exception", repr(error)
    return (pillow_verdict(data, coefficients) if compare else "read"), ""


def _work(connection: Connection, seed: int, memory_mib: int, compare: bool) -> None:
    torch.set_num_threads(1)
    seed_parts()
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + memory_mib * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    connection.send("ready")
    while (index := connection.recv()) is not None:
        data = mutant(seed, index)
        start = time.perf_counter()
        kind, detail = attempt(data, compare)
        connection.send((kind, detail, time.perf_counter() - start))


class Worker:
    """A process that reads one file at a time."""

    def __init__(self, *settings: object) -> None:
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, *settings), daemon=True)
        self.process.start()
        theirs.close()
        if not self.connection.poll(START_SECONDS) or self.connection.recv() != "ready":
            raise RuntimeError("a worker does not start")

    def read(self, index: int, seconds: float) -> tuple[str, str, float]:
        """(kind, detail, seconds taken); after "too slow" and "process died" the process is gone."""
        self.connection.send(index)
        if not self.connection.poll(seconds):
            self.process.kill()
            return "too slow", f"no answer in {seconds} s", seconds
        try:
            return self.connection.recv()
        except (EOFError, ConnectionError):
            self.process.join()
            return "process died", f"exit code {self.process.exitcode}", 0.0

    def stop(self) -> None:
        self.connection.send(None)
        self.process.join()


def supervise(indices: range, seed: int, seconds: float, memory_mib: int, compare: bool) -> Report:
    """Run files one by one in a process of their own, which is replaced when it dies or takes too long."""
    report = Report()
    worker = None
    for index in indices:
        worker = worker or Worker(seed, memory_mib, compare)
        kind, detail, taken = worker.read(index, seconds)
        report.add(index, kind, detail, taken)
        if kind in ("too slow", "process died"):
            worker = None
    if worker is not None:
        worker.stop()
    return report


def fuzz(
    count: int,
    seed: int,
    *,
    workers: int = 1,
    seconds: float = 10,
    memory_mib: int = 512,
    compare: bool = False,
) -> Report:
    """Read ``count`` damaged files; each may take ``seconds`` and ``memory_mib`` of address space."""
    report = Report()
    with ThreadPoolExecutor(workers) as pool:
        slices = [range(first, count, workers) for first in range(workers)]
        for part in pool.map(lambda indices: supervise(indices, seed, seconds, memory_mib, compare), slices):
            report.merge(part)
    return report


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=10, help="wall clock limit per file")
    parser.add_argument(
        "--memory", type=int, default=512, help="MiB of address space beyond an idle worker's"
    )
    parser.add_argument(
        "--compare", action="store_true", help="decode what can be read, and compare with Pillow"
    )
    parser.add_argument("--keep", type=Path, help="folder for the files that failed")
    options = parser.parse_args()
    start = time.perf_counter()
    report = fuzz(
        options.count,
        options.seed,
        workers=options.workers,
        seconds=options.seconds,
        memory_mib=options.memory,
        compare=options.compare,
    )
    print(f"{options.count} files, seed {options.seed}, {time.perf_counter() - start:.0f} s")
    for kind, number in report.outcomes.most_common():
        print(f"{number:8d}  {kind}")
    print(f"slowest: file {report.slowest[1]}, {report.slowest[0]:.2f} s")
    for index, detail in report.failures:
        print(f"FAILED file {index}: {detail}")
        if options.keep:
            options.keep.mkdir(parents=True, exist_ok=True)
            (options.keep / f"{options.seed}-{index}.jpg").write_bytes(mutant(options.seed, index))
    return 1 if report.failures else 0


if __name__ == "__main__":
    sys.exit(main())
