"""A slice of the fuzzer, and that the fuzzer itself notices what it looks for."""

import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from multiprocessing.connection import Connection

import numpy as np
import pytest
import torch

import jpegrad
from jpegrad.backends import native
from jpegrad.jfif import JPEGError, segments
from jpegrad.jfif.segments import FrameComponent, ScanComponent
from jpegrad.jfif.sequential import BAD_DC, BAD_RUN
from tests.fuzz import decoders, fuzz_read
from tests.fuzz.fuzz_read import attempt, fuzz
from tests.fuzz.mutate import mutant, seeds

needs_native = pytest.mark.skipif(not native.level_kernels(torch.empty(0)), reason="no native kernel here")


def test_a_slice_of_damaged_files() -> None:
    report = fuzz(300, seed=1)
    assert not report.failures
    assert report.outcomes.total() == 300
    # Neither refused nor read by chance alone: the mutations reach beyond the headers.
    assert report.outcomes["read"] > 20
    assert report.outcomes["JPEGError: corrupt"] > 20
    assert report.outcomes["JPEGError: truncated"] > 20


@needs_native
def test_both_decoders_agree_on_damaged_files() -> None:
    outcomes = decoders.fuzz(400, seed=2)
    assert outcomes.total() == 400
    assert outcomes["equal"] > 30
    assert outcomes["both refuse"] > 200


def arithmetic_file(rng: np.random.Generator) -> bytes:
    """A gray file of 12 blocks: one scan of data that often take the less probable way."""
    sequential = bool(rng.integers(2))
    size, quantization = (8, 96), segments.emit_dqt(0, [1] * 64)
    marker = segments.SOF9 if sequential else segments.SOF10
    frame = segments.emit_sof(size, [FrameComponent(1, 1, 1, 0)]).replace(b"\xff\xc0", bytes((0xFF, marker)))
    header = segments.emit_sos([ScanComponent(1, 0, 0)])[:-3]
    first = 0 if sequential else int(rng.integers(1, 60))
    last = 63 if sequential else min(63, first + int(rng.integers(0, 9)))
    dc = b"" if sequential else header + bytes((0, 0, 0, 0, 0))
    pieces = [b"\xff\0", b"\xff\0", b"\xfe", b"\0"]
    data = b"".join(
        pieces[i] if (i := int(rng.integers(5))) < 4 else bytes((int(rng.integers(255)),))
        for _ in range(int(rng.integers(1, 60)))
    )
    return b"".join(
        [b"\xff\xd8", quantization, frame, dc, header, bytes((first, last, 0)), data, b"\xff\xd9"]
    )


@needs_native
def test_both_decoders_agree_on_any_arithmetic_data(monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes: Counter[str] = Counter()
    for seed in range(1500):
        data = arithmetic_file(np.random.default_rng(seed))
        found = []
        for backend in ("native", "reference"):
            monkeypatch.setenv("JPEGRAD_BACKEND", backend)
            try:
                found.append([level.tolist() for level in jpegrad.read(data).levels])
            except JPEGError as error:
                found.append(str(error))
        assert found[0] == found[1], f"seed {seed}"
        outcomes[found[0] if isinstance(found[0], str) else "read"] += 1
    for start in (BAD_DC, BAD_RUN, "read"):
        assert any(outcome.startswith(start) for outcome in outcomes), outcomes


def test_mutants_are_reproducible_and_differ() -> None:
    assert [mutant(3, i) for i in range(20)] == [mutant(3, i) for i in range(20)]
    assert len({mutant(3, i) for i in range(20)}) > 18


def test_seeds_are_read_equal_to_pillow() -> None:
    assert Counter(attempt(data, compare=True)[0] for data in seeds()) == {
        "read; equal to Pillow": len(seeds())
    }


@pytest.mark.parametrize("error", [KeyError("x"), MemoryError(), RecursionError(), SystemExit()])
def test_other_exceptions_are_failures(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(data: bytes, **options: object) -> None:
        raise error

    monkeypatch.setattr(fuzz_read, "read", broken)
    assert attempt(b"", compare=False)[0] in fuzz_read.FAILURES


def _die(connection: Connection, *_: object) -> None:
    connection.send("ready")
    connection.recv()
    os.kill(os.getpid(), signal.SIGKILL)


def _hang(connection: Connection, *_: object) -> None:
    connection.send("ready")
    time.sleep(60)


@pytest.mark.parametrize(
    ("worker", "kind", "seconds"), [(_die, "process died", 30), (_hang, "too slow", 0.1)]
)
@pytest.mark.slow
def test_dead_and_hanging_workers_are_failures(
    worker: Callable[..., None], kind: str, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fuzz_read, "_work", worker)
    report = fuzz_read.supervise(range(2), seed=0, seconds=seconds, memory_mib=64, compare=False)
    assert report.outcomes == {kind: 2}
    assert [index for index, _ in report.failures] == [0, 1]


def test_only_the_documented_error_counts_as_a_refusal() -> None:
    assert attempt(b"", compare=False)[0] == "JPEGError: not a JPEG file"
    assert issubclass(JPEGError, ValueError)
