"""The rounding in the Triton kernels: slopes and smooth functions of the surrogates, and their adjoint for a block."""

import triton
import triton.language as tl

from jpegrad.backends.triton.blocks import fdct, idct, level_of, row_places, table_row


@triton.jit
def _sine(r):
    """sin πr for |r| ≤ ½, by its series."""
    x = r * r
    sine = -0.00737043 * x + 0.08214589
    sine = sine * x - 0.59926453
    sine = sine * x + 2.55016404
    sine = sine * x - 5.16771278
    return (sine * x + 3.14159265) * r


@triton.jit
def _cosine(r):
    """cos 2πr for |r| ≤ ½."""
    sine = _sine(r)
    return 1.0 - 2.0 * sine * sine


@triton.jit
def _spikes(r, inverse, wide):
    """Density of a smoothed staircase's thresholds at a residual r; ``inverse`` is 1 / (their width s in steps).

    ``wide`` says whether a width may be above 0.3 anywhere, for all lanes alike.

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
    density = 0.398942280 * inverse * near * (1.0 + second + third * (1.0 + second * second * second))
    if wide:
        q = tl.exp(-19.7392088 / square)
        q4 = q * q * q * q
        c = _cosine(r)
        series = (
            1.0 - 2.0 * q * c + 2.0 * q4 * (2.0 * c * c - 1.0) - 2.0 * q4 * q4 * q * (4.0 * c * c - 3.0) * c
        )
        density = tl.where(inverse > 3.3333333, density, series)
    return density


@triton.jit
def may_be_wide(steps, RECORD: tl.constexpr, p):
    """Whether a Gaussian of p grey levels may be wider than 0.3 steps of a table."""
    if RECORD == "gaussian":
        least = tl.min(tl.load(steps + tl.arange(0, 64)), 0)
        return least.to(tl.float32) < 3.34 * p
    else:
        return False


@triton.jit
def _slope(r, level, step, RECORD: tl.constexpr, p, wide):
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
        e = tl.exp(-2.0 * p * (0.5 - tl.abs(r)))
        small = tl.exp(-p)
        return (4.0 * e / ((1.0 + e) * (1.0 + e))) * (0.5 * p * (1.0 + small) / (1.0 - small))
    elif RECORD == "gaussian":
        return _spikes(r, step * (1.0 / p), wide)
    elif RECORD == "table_gaussian" or RECORD == "table_relative":
        # These records round half to even, the quantiser half away from zero.
        nearest = tl.abs(level)
        nearest -= ((tl.abs(r) > 0.4998) & (nearest % 2 == 1)).to(tl.int32)
        inverse = (1.0 / p) / tl.maximum(nearest.to(tl.float32), 0.5)
        return _spikes(r, inverse * step if RECORD == "table_gaussian" else inverse, True)
    elif RECORD == "distortion":
        u = level.to(tl.float32) + r
        return tl.where(tl.abs(u) < 0.5, 4.0 * u * u, 1.0)
    elif RECORD == "dead_zone":
        return tl.where(tl.abs(level.to(tl.float32) + r) > 1.2886751345948129, 1.0, 0.0)
    else:
        return r * 0.0 + 1.0


@triton.jit
def normal_tail(z, e):
    """Of the normal distribution beyond z ≥ 0 (Abramowitz, Stegun 7.1.26), e = exp(−z²/2); right to 8e-8."""
    t = 1.0 / (1.0 + 0.231641888 * z)
    p = 0.5307027145 * t - 0.7265760135
    p = p * t + 0.7107068705
    p = p * t - 0.142248368
    return (p * t + 0.127414796) * t * e


@triton.jit
def _smoothed(r, inverse, wide):
    """The smoothed staircase at a residual: value, slope, and how the value grows with the logarithm of the width.

    As :func:`_spikes`, whose integral it is.
    """
    inverse = tl.minimum(tl.maximum(inverse, 1.0), 1000.0)
    a, square = tl.abs(r), inverse * inverse
    z1, z2, z3, z4 = (0.5 - a) * inverse, (0.5 + a) * inverse, (1.5 - a) * inverse, (1.5 + a) * inverse
    second, third = tl.exp(-a * square), tl.exp((a - 1.0) * square)
    e1 = tl.exp(-0.5 * z1 * z1)
    e2, e3, e4 = e1 * second, e1 * third, e1 * third * second * second * second
    sign = tl.where(r < 0, -1.0, 1.0)
    value = sign * (normal_tail(z1, e1) - normal_tail(z2, e2) + normal_tail(z3, e3) - normal_tail(z4, e4))
    widening = sign * 0.398942280 * (z1 * e1 - z2 * e2 + z3 * e3 - z4 * e4)
    slope = 0.398942280 * inverse * (e1 + e2 + e3 + e4)
    if wide:
        s, c = _sine(r), _sine(0.5 - a)
        sine, cosine = 2.0 * s * c, 1.0 - 2.0 * s * s
        sine2, cosine2 = 2.0 * sine * cosine, 2.0 * cosine * cosine - 1.0
        sine3, cosine3 = 2.0 * cosine * sine2 - sine, 2.0 * cosine * cosine2 - cosine
        q = tl.exp(-19.7392088 / square)
        q4 = q * q * q * q
        w1, w2, w3 = -2.0 * q, 2.0 * q4, -2.0 * q4 * q4 * q
        series = r + (w1 * sine + 0.5 * w2 * sine2 + w3 * sine3 * (1.0 / 3)) * 0.159154943
        sloped = 1.0 + w1 * cosine + w2 * cosine2 + w3 * cosine3
        widened = (w1 * sine + 2.0 * w2 * sine2 + 3.0 * w3 * sine3) * (-6.28318531 / square)
        narrow = inverse > 3.3333333
        value = tl.where(narrow, value, series)
        slope = tl.where(narrow, slope, sloped)
        widening = tl.where(narrow, widening, widened)
    return value, slope, widening


@triton.jit
def soft_of(u, step, RECORD: tl.constexpr, p, wide):
    """A record's smooth function of coefficients in steps: value, slope, growth with the logarithm of its own width."""
    # Adding 1.5·2^23 leaves the nearest integer, half to even.
    level = (u + 12582912.0) - 12582912.0
    r = u - level
    widening = r * 0.0
    value = u
    if RECORD == "gaussian":
        smooth, slope, widening = _smoothed(r, step * (1.0 / p), wide)
        return level + smooth, slope, widening
    elif RECORD == "cubic":
        value = level + r * r * r
    elif RECORD == "sin" or RECORD == "fourier":
        s = _sine(r)
        sine, cosine = 2.0 * s * _sine(0.5 - tl.abs(r)), 1.0 - 2.0 * s * s
        total, before, now = sine, r * 0.0, sine
        if RECORD == "fourier":
            for n in tl.static_range(2, 10):
                before, now = now, 2.0 * cosine * now - before
                total += now * ((2 * (n % 2) - 1) / n)
            total *= 2.0
        value = u - total * 0.159154943
    elif RECORD == "soft_round":
        e, small = tl.exp(-2.0 * p * (0.5 - tl.abs(r))), tl.exp(-p)
        bent = 0.5 - 0.5 * (1.0 - e) / (1.0 + e) * (1.0 + small) / (1.0 - small)
        value = level + tl.where(r < 0, -bent, bent)
    elif RECORD == "distortion":
        third = tl.where(u < 0, -1.0 / 3, 1.0 / 3)
        value = tl.where(tl.abs(u) < 0.5, (4.0 / 3) * u * u * u, u - third)
    elif RECORD == "dead_zone":
        beyond = tl.maximum(tl.abs(u) - 1.2886751345948129, 0.0)
        value = tl.where(u < 0, -beyond, beyond)
    return value, _slope(r, level, step, RECORD, p, False), widening


@triton.jit
def _row(
    g, c, step, reciprocal, C: tl.constexpr, RECORDS: tl.constexpr, parameters, wide, TABLES: tl.constexpr
):
    """A row of the dequantised coefficients' gradient to that of the coefficients; what it adds to the table's."""
    level = level_of(c, step, reciprocal)
    r = (c - 8 * step * level).to(tl.float32) * reciprocal
    step = step.to(tl.float32)
    entry = g
    if TABLES:
        through = _slope(r, level, step, RECORDS[1], parameters[1][C], wide[1]) * (level.to(tl.float32) + r)
        entry = g * (level.to(tl.float32) - through)
    return g * _slope(r, level, step, RECORDS[0], parameters[0][C], wide[0]), entry


@triton.jit
def adjoint(
    tile, kept, factors, tables, place, C: tl.constexpr, RECORDS: tl.constexpr, parameters, TABLES: tl.constexpr
):  # fmt: skip
    """Gradient of a component's decoded samples to that of its samples, and rows of the table's.

    ``kept`` are integer coefficients; without records they are slopes, and ``factors`` what the table's gradient is
    multiplied by.
    """
    gradients = fdct(tile, 0, 0)
    rows, entries = (), ()
    if RECORDS is not None:
        wide = (
            may_be_wide(tables[0], RECORDS[0], parameters[0][C]),
            may_be_wide(tables[0], RECORDS[1], parameters[1][C]),
        )
    for i in tl.static_range(8):
        g = gradients[i]
        found = tl.load(row_places(kept, place, i), mask=place[1], other=0)
        if RECORDS is None:
            row, entry = g * found, g
            if TABLES:
                entry = g * tl.load(row_places(factors, place, i), mask=place[1], other=0.0)
        else:
            step, reciprocal = table_row(tables[0], i, g), table_row(tables[1], i, g)
            row, entry = _row(g, found.to(tl.int32), step, reciprocal, C, RECORDS, parameters, wide, TABLES)
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
