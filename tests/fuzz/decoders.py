"""The native entropy decoder against the one in Python, on damaged files, strict and not: equal, or both refuse.

What was read is written, baseline and progressive, and read back.

    python -m tests.fuzz.decoders [--count 20000] [--seed 0]

Under AddressSanitizer (``tests/fuzz/sanitize.sh``) with ``--alone`` the native one only, for the memory it touches.
"""

import argparse
import os
from collections import Counter

import torch

import jpegrad
from jpegrad.jfif import JPEGError
from tests.fuzz.fuzz_read import MAX_PIXELS
from tests.fuzz.mutate import mutant


def read_with(backend: str, data: bytes, strict: bool) -> jpegrad.Coefficients | None:
    """The file as one of the decoders reads it; None if it refuses."""
    before = os.environ.get("JPEGRAD_BACKEND")
    os.environ["JPEGRAD_BACKEND"] = backend
    try:
        return jpegrad.read(data, strict=strict, max_pixels=MAX_PIXELS, level_dtype=torch.int16)
    except JPEGError:
        return None
    finally:
        os.environ.pop("JPEGRAD_BACKEND")
        if before is not None:
            os.environ["JPEGRAD_BACKEND"] = before


def rewrite(coefficients: jpegrad.Coefficients) -> None:
    """Any levels make files that are read back, baseline and progressive, or are refused.

    Raises:
        AssertionError: something else is read back.
    """
    for progressive in (False, True):
        try:
            data = jpegrad.to_bytes(coefficients, progressive=progressive)
        except ValueError:
            continue
        again = jpegrad.read(data, level_dtype=torch.int16)
        for ours, theirs in zip(coefficients.levels, again.levels, strict=True):
            assert torch.equal(ours, theirs), "other levels are read back"


def compare(data: bytes) -> str:
    """What both make of a file.

    Raises:
        AssertionError: they disagree.
    """
    outcomes = []
    for strict in (True, False):
        native, python = (read_with(backend, data, strict) for backend in ("native", "reference"))
        assert (native is None) == (python is None), "one decoder refuses"
        if native is None or python is None:
            outcomes.append("both refuse")
            continue
        for ours, theirs in zip(native.shown, python.shown, strict=True):
            assert torch.equal(ours, theirs), "levels differ"
        assert torch.equal(native.tables, python.tables), "tables differ"
        assert sorted(native.damage) == sorted(python.damage), "damage differs"
        outcomes.append("equal, damaged" if native.damage else "equal")
        rewrite(native)
    # What is not damaged is read both ways; what is damaged is refused.
    assert (outcomes[0] == "equal") == (outcomes[1] == "equal"), (
        "damage that is not refused, or refused without"
    )
    return outcomes[1]


def fuzz(count: int, seed: int, *, alone: bool = False) -> Counter[str]:
    """How many files end how.

    Raises:
        AssertionError: the decoders disagree; the message names the file.
    """
    outcomes: Counter[str] = Counter()
    for index in range(count):
        data = mutant(seed, index)
        try:
            if alone:
                outcomes[
                    "refused" if read_with("native", data, strict=bool(index % 2)) is None else "read"
                ] += 1
            else:
                outcomes[compare(data)] += 1
        except AssertionError as error:
            raise AssertionError(f"file {index} of seed {seed}: {error}") from None
    return outcomes


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--alone", action="store_true")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    print(
        f"{chosen.count} files, seed {chosen.seed}:",
        dict(fuzz(chosen.count, chosen.seed, alone=chosen.alone)),
    )
