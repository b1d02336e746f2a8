"""The quantiser in the Triton kernels' backward pass: slopes of the surrogates, and what they make of a block."""

import triton
import triton.language as tl

from jpegrad.backends.triton.blocks import fdct, idct, level_of, row_places, table_row


@triton.jit
def _cosine(r):
    """cos 2πr for |r| ≤ ½: 1 − 2·sin² πr, the sine by its series."""
    x = r * r
    sine = -0.00737043 * x + 0.08214589
    sine = sine * x - 0.59926453
    sine = sine * x + 2.55016404
    sine = sine * x - 5.16771278
    sine = (sine * x + 3.14159265) * r
    return 1.0 - 2.0 * sine * sine


@triton.jit
def _spikes(r, inverse):
    """Density of a smoothed staircase's thresholds at a residual r; ``inverse`` is 1 / (their width s in steps).

    The sum over the thresholds where they are narrow, four of them; its Fourier series, three harmonics, where they are
    wide. Where both meet, at s = 0.3, the first terms left out are 1e-9 and 3e-12.
    """
    inverse = tl.minimum(tl.maximum(inverse, 1.0), 1000.0)
    a, square = tl.abs(r), inverse * inverse
    d = 0.5 - a
    # Thresholds at distances ½ − a, ½ + a, 1½ − a, 1½ + a, as multiples of the first.
    near = tl.exp(-0.5 * d * d * square)
    second = tl.exp(-a * square)
    third = tl.exp((a - 1.0) * square)
    narrow = 0.398942280 * inverse * near * (1.0 + second + third * (1.0 + second * second * second))
    q = tl.exp(-19.7392088 / square)
    q4 = q * q * q * q
    c = _cosine(r)
    wide = 1.0 - 2.0 * q * c + 2.0 * q4 * (2.0 * c * c - 1.0) - 2.0 * q4 * q4 * q * (4.0 * c * c - 3.0) * c
    return tl.where(inverse > 3.3333333, narrow, wide)


@triton.jit
def _slope(r, level, step, RECORD: tl.constexpr, P: tl.constexpr):
    """The slope of a record of ``surrogates.py``, with its parameter, at ``level`` + r, |r| ≤ ½."""
    if RECORD == "cubic":
        return 3.0 * r * r
    elif RECORD == "sin":
        return 1.0 - _cosine(r)
    elif RECORD == "fourier":
        c = _cosine(r)
        before, now = r * 0.0 + 1.0, c
        total = r * 0.0
        for n in tl.static_range(1, 10):
            total += (2 * (n % 2) - 1) * now
            before, now = now, 2.0 * c * now - before
        return 1.0 - 2.0 * total
    elif RECORD == "soft_round":
        # sech² of the distance to the middle between two levels; even, so that one exponential is enough.
        e = tl.exp(-2.0 * P * (0.5 - tl.abs(r)))
        small: tl.constexpr = 2.718281828459045**-P
        full: tl.constexpr = (1 - small) / (1 + small)
        return (4.0 * e / ((1.0 + e) * (1.0 + e))) * (P / (2 * full))
    elif RECORD == "gaussian":
        return _spikes(r, step * (1.0 / P))
    elif RECORD == "table_gaussian" or RECORD == "table_relative":
        # These records round half to even, the quantiser half away from zero.
        nearest = tl.abs(level)
        nearest -= ((tl.abs(r) > 0.4998) & (nearest % 2 == 1)).to(tl.int32)
        inverse = (1.0 / P) / tl.maximum(nearest.to(tl.float32), 0.5)
        return _spikes(r, inverse * step if RECORD == "table_gaussian" else inverse)
    elif RECORD == "distortion":
        u = level.to(tl.float32) + r
        return tl.where(tl.abs(u) < 0.5, 4.0 * u * u, 1.0)
    elif RECORD == "dead_zone":
        return tl.where(tl.abs(level.to(tl.float32) + r) > 1.2886751345948129, 1.0, 0.0)
    else:
        return r * 0.0 + 1.0


@triton.jit
def _row(g, c, step, reciprocal, C: tl.constexpr, SLOPES: tl.constexpr, TABLES: tl.constexpr):
    """A row of the dequantised coefficients' gradient to that of the coefficients; what it adds to the table's."""
    level = level_of(c, step, reciprocal)
    r = (c - 8 * step * level).to(tl.float32) * reciprocal
    step = step.to(tl.float32)
    entry = g
    if TABLES:
        through = _slope(r, level, step, SLOPES[2], SLOPES[3][C]) * (level.to(tl.float32) + r)
        entry = g * (level.to(tl.float32) - through)
    return g * _slope(r, level, step, SLOPES[0], SLOPES[1][C]), entry


@triton.jit
def adjoint(tile, coefficients, tables, place, C: tl.constexpr, SLOPES: tl.constexpr, TABLES: tl.constexpr):
    """Gradient of a component's decoded samples to that of its samples, and rows of the table's."""
    gradients = fdct(tile, 0, 0)
    rows, entries = (), ()
    for i in tl.static_range(8):
        c = tl.load(row_places(coefficients, place, i), mask=place[1], other=0).to(tl.int32)
        step, reciprocal = table_row(tables[0], i, gradients[i]), table_row(tables[1], i, gradients[i])
        row, entry = _row(gradients[i], c, step, reciprocal, C, SLOPES, TABLES)
        rows += (row,)
        entries += (entry,)
    return idct(rows, 0, 0), entries


@triton.jit
def added(rows, others):
    found = ()
    for i in tl.static_range(8):
        found += (rows[i] + others[i],)
    return found


@triton.jit
def store_sums(sums, rows):
    """Rows of a table's gradient, added over the blocks."""
    for i in tl.static_range(8):
        tl.store(sums + 8 * i + tl.arange(0, 8), tl.sum(rows[i], axis=0))
