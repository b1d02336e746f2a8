"""Damaged .jpg files: the corpus with flipped bits, cuts, spliced segments and forged header fields."""

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np

from jpegrad.jfif import segments
from tests.corpus import corpus, join, split

Parts = list[tuple[int, bytes]]
INTERESTING = (0x00, 0x01, 0x0F, 0x10, 0x7F, 0x80, 0xFE, 0xFF)


@cache
def seeds() -> tuple[bytes, ...]:
    return tuple(corpus().values())


@cache
def seed_parts() -> tuple[Parts, ...]:
    return tuple(split(data) for data in seeds())


def _place(rng: np.random.Generator, data: Sequence[object]) -> int:
    return int(rng.integers(0, max(len(data), 1)))


def flip_bits(rng: np.random.Generator, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 9))):
        if changed:
            changed[_place(rng, changed)] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def flip_header_bits(rng: np.random.Generator, data: bytes) -> bytes:
    end = data.find(b"\xff\xda") + 14
    return flip_bits(rng, data[:end]) + data[end:]


def set_bytes(rng: np.random.Generator, data: bytes) -> bytes:
    at = _place(rng, data)
    forged = bytes(rng.choice(INTERESTING, int(rng.integers(1, 5))).tolist())
    return data[:at] + forged + data[at + len(forged) :]


def truncate(rng: np.random.Generator, data: bytes) -> bytes:
    return data[: _place(rng, data)] + (b"\xff\xd9" if rng.random() < 0.5 else b"")


def delete(rng: np.random.Generator, data: bytes) -> bytes:
    at = _place(rng, data)
    return data[:at] + data[at + int(rng.integers(1, 200)) :]


def repeat(rng: np.random.Generator, data: bytes) -> bytes:
    at = _place(rng, data)
    piece = data[at : at + int(rng.integers(1, 200))]
    return data[:at] + piece * int(rng.integers(2, 20)) + data[at:]


def insert_noise(rng: np.random.Generator, data: bytes) -> bytes:
    at = _place(rng, data)
    return data[:at] + rng.bytes(int(rng.integers(1, 40))) + data[at:]


def splice_files(rng: np.random.Generator, data: bytes) -> bytes:
    other = seeds()[_place(rng, seeds())]
    return data[: _place(rng, data)] + other[_place(rng, other) :]


def splice_segments(rng: np.random.Generator, parts: Parts) -> Parts:
    donor = seed_parts()[_place(rng, seed_parts())]
    at = _place(rng, parts)
    return [*parts[:at], donor[_place(rng, donor)], *parts[at + int(rng.integers(2)) :]]


def shuffle_segments(rng: np.random.Generator, parts: Parts) -> Parts:
    a, b = _place(rng, parts), _place(rng, parts)
    parts = list(parts)
    parts[a], parts[b] = parts[b], parts[a]
    return parts


def repeat_segment(rng: np.random.Generator, parts: Parts) -> Parts:
    at = _place(rng, parts)
    return [*parts[:at], *parts[at : at + 1] * int(rng.integers(2, 30)), *parts[at + 1 :]]


def forge_length(rng: np.random.Generator, parts: Parts) -> Parts:
    at = _place(rng, parts)
    marker, part = parts[at]
    length = int(rng.choice([0, 1, 2, 3, 0xFFFF, int(rng.integers(65536))]))
    return [*parts[:at], (marker, part[:2] + length.to_bytes(2, "big") + part[4:]), *parts[at + 1 :]]


def forge_fields(rng: np.random.Generator, parts: Parts) -> Parts:
    """Bytes of a frame, scan, table or restart header."""
    kinds = (segments.SOF0, segments.SOF2, segments.SOS, segments.DHT, segments.DQT, segments.DRI)
    chosen = [i for i, (marker, _) in enumerate(parts) if marker in kinds]
    if not chosen:
        return parts
    at = chosen[_place(rng, chosen)]
    marker, part = parts[at]
    field = 4 + int(rng.integers(0, 17))
    value = int(rng.choice([*INTERESTING, 0x11, 0x22, 0x41, int(rng.integers(256))]))
    return [*parts[:at], (marker, part[:field] + bytes((value,)) + part[field + 1 :]), *parts[at + 1 :]]


ON_BYTES: tuple[Callable[[np.random.Generator, bytes], bytes], ...] = (
    flip_bits,
    flip_header_bits,
    set_bytes,
    truncate,
    delete,
    repeat,
    insert_noise,
    splice_files,
)
ON_PARTS: tuple[Callable[[np.random.Generator, Parts], Parts], ...] = (
    splice_segments,
    shuffle_segments,
    repeat_segment,
    forge_length,
    forge_fields,
)


def mutant(seed: int, index: int) -> bytes:
    """The ``index``-th damaged file: segments are edited first, then bytes; the same for the same arguments."""
    rng = np.random.default_rng((seed, index))
    parts = seed_parts()[_place(rng, seed_parts())]
    edits = int(rng.integers(0, 3))
    for _ in range(edits):
        parts = ON_PARTS[_place(rng, ON_PARTS)](rng, parts)
    data = join(parts)
    for _ in range(int(rng.integers(0 if edits else 1, 3))):
        data = ON_BYTES[_place(rng, ON_BYTES)](rng, data)
    return data
