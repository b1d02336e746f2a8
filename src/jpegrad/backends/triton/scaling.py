"""The Triton kernel that scales the tables of Annex K to a quality, as ``jpegrad.tables.scale`` does."""

import triton
import triton.language as tl


@triton.jit
def _within(x, LOW: tl.constexpr, HIGH: tl.constexpr):
    return tl.minimum(tl.maximum(x, LOW), HIGH)


@triton.jit
def _percent(q):
    return tl.where(q < 50.0, 5000.0 / q, 200.0 - 2.0 * q)


@triton.jit
def scale_kernel(base, quality, entries, slopes):
    """A program makes both tables of one quality, and the slopes of their entries to it."""
    at = tl.arange(0, 128)
    entry = tl.load(base + at)
    given = tl.load(quality + tl.program_id(0))
    q = _within(tl.where(given == given, given, 1.0), 1.0, 100.0) + tl.zeros((128,), tl.float64)
    percent = _percent(q)
    percent = tl.where(q < 50.0, tl.floor(percent), percent)
    found = _within(tl.floor((entry * percent + 50.0) / 100.0), 1.0, 255.0)
    below, above = tl.maximum(q - 2.0, 1.0), tl.minimum(q + 2.0, 100.0)
    low, high = entry * _percent(above) / 100.0, entry * _percent(below) / 100.0
    chord = (_within(low, 1.0, 255.0) - _within(high, 1.0, 255.0)) / (above - below)
    derivative = entry / 100.0 * tl.where(q < 50.0, -5000.0 / (q * q), -2.0)
    slope = tl.where((low > 1.0) & (high < 255.0), derivative, chord)
    # Of no number there is no slope.
    slope = tl.where(tl.abs(given) < float("inf"), slope, 0.0)
    where = tl.program_id(0).to(tl.int64) * 128 + at
    tl.store(entries + where, found)
    tl.store(slopes + where, slope)
