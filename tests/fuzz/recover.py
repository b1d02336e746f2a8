"""``read(strict=False)`` on damaged files, against Pillow with ``LOAD_TRUNCATED_IMAGES``: 0 differing samples.

    python -m tests.fuzz.recover [--count 6000] [--seed 0]

TurboJPEG, whose source of data is another, must agree wherever it decodes the file.

Where Pillow's result is not libjpeg's, another counts:

- The data of an arithmetic-coded file end early. Pillow hands its bytes over in pieces, and the arithmetic decoder of
  libjpeg cannot wait for the next one. Here an EOI is added.
- The file ends inside a segment. What is missing of it is up to the program that reads; here the file ends before it.

And where libjpeg has no result of its own, there is nothing to compare:

- There are fill bytes inside of the data, FF FF 00. libjpeg-turbo has two Huffman decoders, which disagree on that;
  which one serves depends on how many bytes its buffer has at this moment.
- Levels are so large that the inverse DCT leaves 16 bits.
"""

import argparse
import io
import re
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
import simplejpeg
import torch
from PIL import Image, ImageFile

import jpegrad
from jpegrad.jfif import JPEGError
from tests.corpus import opencv, picture, pillow
from tests.fuzz.fuzz_read import MAX_PIXELS, leaves_16_bits
from tests.fuzz.mutate import delete, flip_bits, insert_noise, repeat, seeds, set_bytes, truncate

Rng = np.random.Generator
ARITHMETIC = (b"\xff\xc9", b"\xff\xca")
EQUAL, BOTH_REFUSE = "equal to Pillow", "both refuse"
WITH_EOI = "equal to Pillow with an EOI"
WITHOUT_LAST = "equal to Pillow without the last segment"


def restarts(data: bytes) -> list[int]:
    return [i for i in range(len(data) - 1) if data[i] == 0xFF and 0xD0 <= data[i + 1] <= 0xD7]


def lose_restarts(rng: Rng, data: bytes) -> bytes:
    """Some are gone."""
    for at in reversed(restarts(data)):
        if rng.random() < 0.15:
            data = data[:at] + data[at + 2 :]
    return data


def renumber_restarts(rng: Rng, data: bytes) -> bytes:
    """Some count wrongly, or are other markers."""
    changed = bytearray(data)
    others = [*range(0xD0, 0xD8), 0x01, 0x33, 0xD8, 0xD9, 0xDA, 0xFE]
    for at in restarts(data):
        if rng.random() < 0.15:
            changed[at + 1] = int(rng.choice(others))
    return bytes(changed)


def lose_intervals(rng: Rng, data: bytes) -> bytes:
    """Several at once, as where a packet is lost; or they come twice."""
    found = restarts(data)
    if len(found) < 2:
        return data
    a, b = sorted(int(i) for i in rng.integers(0, len(found), 2))
    middle = data[found[a] : found[b]]
    return data[: found[a]] + middle * int(rng.choice([0, 2])) + data[found[b] :]


def insert_restarts(rng: Rng, data: bytes) -> bytes:
    for _ in range(int(rng.integers(1, 4))):
        at = int(rng.integers(len(data)))
        data = data[:at] + bytes((0xFF, 0xD0 + int(rng.integers(8)))) + data[at:]
    return data


def lose_end(rng: Rng, data: bytes) -> bytes:
    return data[: len(data) - int(rng.integers(1, 4))]


DAMAGES: tuple[Callable[[Rng, bytes], bytes], ...] = (
    truncate,
    lose_end,
    lose_restarts,
    renumber_restarts,
    lose_intervals,
    insert_restarts,
    flip_bits,
    set_bytes,
    delete,
    repeat,
    insert_noise,
)


def with_restarts() -> tuple[bytes, ...]:
    photo = picture(75, 90)
    files = [
        pillow(photo, quality=80, subsampling=mode, progressive=p, restart_marker_blocks=n)
        for mode in ("4:4:4", "4:2:0")
        for p in (False, True)
        for n in (1, 3, 6)
    ]
    return (
        *files,
        opencv(photo, "4:4:0", rst_interval=2),
        opencv(photo[..., 1].copy(), "4:4:4", rst_interval=1),
    )


def damaged(seed: int, index: int) -> bytes:
    """The ``index``-th file, damaged behind its first header; the same for the same arguments."""
    rng = np.random.default_rng((seed, index))
    damage = DAMAGES[index % len(DAMAGES)]
    files = with_restarts() if "restarts" in damage.__name__ or "intervals" in damage.__name__ else seeds()
    data = files[int(rng.integers(len(files)))]
    scan = data.index(b"\xff\xda") + 10
    return data[:scan] + damage(rng, data[scan:])


def by_pillow(data: bytes) -> np.ndarray | None:
    """``[C, H, W]``; None if it refuses, which in a damaged file it may also say with black."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
        try:
            with Image.open(io.BytesIO(data)) as opened:
                return np.atleast_3d(np.array(opened)).transpose(2, 0, 1)
        except Exception:
            return None


def by_turbojpeg(data: bytes, channels: int) -> np.ndarray | None:
    """The same; it refuses odd sampling factors, and errors that Pillow does not meet any more."""
    if channels == 4:
        return None
    try:
        return simplejpeg.decode_jpeg(data, "GRAY" if channels == 1 else "RGB", strict=False).transpose(
            2, 0, 1
        )
    except ValueError:
        return None


def judge(data: bytes) -> str:
    """How our picture of a damaged file compares with Pillow's.

    Raises:
        AssertionError: they differ where they should not.
    """
    theirs = by_pillow(data)
    try:
        coefficients = jpegrad.read(data, strict=False, max_pixels=MAX_PIXELS)
    except JPEGError as error:
        assert theirs is None or not theirs.any(), f"refused, but Pillow shows it: {error}"
        return BOTH_REFUSE
    ours = jpegrad.decode(coefficients, dtype=torch.uint8).numpy()
    if theirs is not None and np.array_equal(ours, theirs):
        other = by_turbojpeg(data, coefficients.channels)
        assert other is None or np.array_equal(ours, other), "another picture than TurboJPEG's"
        return EQUAL
    if leaves_16_bits(coefficients):
        return "undefined: beyond 16 bits in the inverse DCT"
    for damage in coefficients.damage:
        if "inside the segment" in damage:
            begins = [at.start() for at in re.finditer(bytes.fromhex(damage[-4:]), data)]
            shown = [by_pillow(data[:at] + b"\xff\xd9") for at in begins]
            assert any(each is not None and np.array_equal(ours, each) for each in shown), damage
            return WITHOUT_LAST
    if any("fill bytes" in damage for damage in coefficients.damage):
        return "undefined: fill bytes inside of the data"
    assert any("before its EOI" in damage for damage in coefficients.damage), coefficients.damage
    assert any(marker in data for marker in ARITHMETIC), "another picture than Pillow's"
    ended = by_pillow(data + b"\xff\xd9")
    assert ended is not None and np.array_equal(ours, ended), "another picture than Pillow's with an EOI"
    return WITH_EOI


def fuzz(count: int, seed: int) -> Counter[str]:
    """How many files end how.

    Raises:
        AssertionError: of a file; the message names it.
    """
    outcomes: Counter[str] = Counter()
    for index in range(count):
        try:
            outcomes[judge(damaged(seed, index))] += 1
        except AssertionError as error:
            raise AssertionError(f"file {index} of seed {seed}: {error}") from None
    return outcomes


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=6_000)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{chosen.count} files, seed {chosen.seed}:", dict(fuzz(chosen.count, chosen.seed)))
