"""Does the test suite see a broken kernel? Break one constant, rounding or border at a time, build, and test.

    python -m tests.fuzz.native_mutants [NAME ...]

Every mutant must be caught: by the tests that compare with the reference.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / "src" / "jpegrad" / "backends" / "native" / "cpp"
CODEC = (
    "not triton and (size or every_mode or every_quality or every_table or tie or no_numbers or picture_has"
    " or slope_one or 16_bits or any_strides or one_odd_number or number_of_threads or up_to_the_border"
    " or every_record)"
)
READER = (
    ["tests/test_jfif.py", "tests/test_lenient.py", "tests/test_fuzz.py"],
    "native or decoders_agree or any_arithmetic or slice_of_damaged_files or symbols_that",
)
CODEC_TESTS = [
    f"tests/test_{name}.py" for name in ("inputs", "kernels", "kernel_gradients", "native", "native_safety")
]
# Test files and what to take of them, for mutants of a source of its own; else those of the codec.
TESTS = {
    "scan.cpp": (["tests/test_rate_native.py"], "every_mode or no_file or between"),
    "marginal.cpp": (["tests/test_rate_native.py"], "step_of_a_level"),
    "trellis.cpp": (["tests/test_trellis.py"], "kernel_chooses"),
    "intervals.h": READER,
    "huffman_decode.cpp": READER,
    "huffman_encode.cpp": (
        ["tests/test_writer.py", "tests/test_progressive_size.py"],
        "agree or any_type or refused or ended_bands or alike or no_progressive or growing or integers_count",
    ),
    "arithmetic_decode.cpp": READER,
    "noise.h": (["tests/test_native_soft.py"], "not every_machine"),
    "soft.h": (["tests/test_native_soft.py"], "not every_machine"),
    "soft_functions.h": (["tests/test_native_soft.py"], "not every_machine"),
}

# name: (file, what stands there, what the mutant has instead)
MUTANTS = {
    "soft: mean of the downsampling's rounding": ("soft.h", "bias[i] = -bias[i]", "bias[i] = 0"),
    "soft: an infinite number leaks": (
        "soft.h",
        "(I32)(x - clamped) & (I32)(x - x == 0)",
        "(I32)(x - clamped)",
    ),
    "soft: an infinite number has a gradient": ("soft.h", "infinite & (int)UNDEFINED", "infinite & 0"),
    "soft: NaN has a gradient": ("soft.h", "flags[x] = UNDEFINED;", ";"),
    "soft: NaN becomes a number": (
        "soft.h",
        "if (watch.undefined) restore_undefined",
        "if (false) restore_undefined",
    ),
    "NaN becomes a number": ("color.h", "undefined |= any((I32)(x != x));", ""),
    "NaN has a gradient": ("color.h", "if (x[c][i] != x[c][i]) flags[i] = UNDEFINED;", ";"),
    "soft: right border of the upsampling": ("soft.h", "s[n] = s[n - 1];", "s[n] = 0;"),
    "soft: flags of chroma samples are not cleared": (
        "soft.h",
        "if (flags && c) __builtin_memset",
        "if (false) __builtin_memset",
    ),
    "soft: all channels' clamps are one": ("soft.h", "OUT_R << j", "OUT_R"),
    "soft: the other threshold": ("soft_functions.h", "if (k.far >= 1) cross", "if (k.far >= 2) cross"),
    "soft: the third threshold": ("soft_functions.h", "if (k.far == 2)", "if (k.far == 4)"),
    "soft: a wide staircase's width": ("soft_functions.h", "moved * (float)(-2", "moved * (float)(2"),
    "soft: a saturated block's staircase": (
        "soft_functions.h",
        "is_wide = width >= 0.25f",
        "is_wide = width >= 0.1f",
    ),
    "soft: noise that is left of a saturated block": (
        "soft.h",
        "variance[i] -= known.lost",
        "variance[i] -= 0 * known.lost",
    ),
    "soft: pixels at the right border": (
        "soft.h",
        "more = (float)(k.blocks_x * 8 * h - layout.width)",
        "more = 0",
    ),
    "soft: pixels at the lower border": ("soft.h", "down *= (float)(8 * k.blocks_y - row)", "down *= 1"),
    "soft: noise of the strip before": (
        "soft.h",
        "block_row / k.block_rows & 1",
        "block_row / k.block_rows & 0",
    ),
    "soft: noise wider than a step": ("soft.h", "decoded = splatf(LESS ? 0 : steps.passed)", "decoded = {}"),
    "soft: noise of RGB": ("soft.h", "noise.inverse[3 * j + c]", "noise.inverse[c]"),
    "soft: a clamp's slope at white": ("noise.h", "1 - low.below - high.below", "1 - low.below"),
    "soft: noise behind the last pixel": ("soft.h", "for (int i = n; i < HALF; i++) less[i] = 0;", ""),
    "soft: slopes of a saturated block, second threshold": (
        "soft_functions.h",
        "if (k.far >= 1) threshold",
        "if (k.far >= 2) threshold",
    ),
    "soft: sharp roundings": ("soft_functions.h", "absolute(r) > k.quiet", "absolute(r) > k.quiet + 0.2f"),
    "soft: deviations of the block row before": (
        "soft.h",
        "spread_of[c] == block_row",
        "spread_of[c] / 2 == block_row / 2",
    ),
    "soft: clamped pixels in a row": (
        "soft.h",
        "add_eights(lost[c], x, less);",
        "lost[c][x / 8] += less[0];",
    ),
    "soft: reach of the noise": ("noise.h", "REACH = 4.5f", "REACH = 2.5f"),
    "soft: both bounds in reach": ("noise.h", "REACH * deviation >= 127.5f", "REACH * deviation >= 1000.0f"),
    "soft: the nearer bound": ("noise.h", "x < 127.5f ? above : 255 - above", "above"),
    "16 bits: ties": ("simd.h", "0xfff + (bits >> 13 & 1)", "0x1000"),
    "16 bits: small numbers": ("simd.h", "bits < 0x38800000 ? small : normal", "normal"),
    "16 bits: a gradient's rows": (
        "strips.h",
        "(uint16_t*)call.output.data + (b * layout.count + c)",
        "(uint16_t*)call.output.data + c",
    ),
    "adjoint: halves of a group": ("simd.h", "bits >> 16 ? 2 : 0", "bits >> 31 ? 2 : 0"),
    "adjoint: every sample twice": (
        "backward_rows.h",
        "double_each(sum, row + 2 * i)",
        "interleave(sum, F32{}, row + 2 * i)",
    ),
    "threads: strips that nobody codes": ("parallel.h", "weak(begin, end)", "weak(begin, end + 1)"),
    "what is kept of the second image": (
        "strips.h",
        "kept_stride ? call.kept_stride :",
        "kept_stride ? 64 :",
    ),
    "soft: last harmonic": ("soft_functions.h", "n <= 9", "n <= 8"),
    "chroma rounds with 32768": (
        "exact.h",
        "values(codec), color(codec)",
        "values(codec), color(rounded(codec))",
    ),
    "downsampling bias does not alternate": (
        "chroma.h",
        "I32 bias = alternate + (v - 1);",
        "I32 bias = alternate * 0 + (v - 1);",
    ),
    "4:1:1 box without rounding": (
        "chroma.h",
        "(pair_sums(pairs[0]) + 2) >> 2",
        "(pair_sums(pairs[0]) + 1) >> 2",
    ),
    "upsampling bias of the right sample": ("chroma.h", "right = v == 2 ? 7 : 2", "right = v == 2 ? 8 : 2"),
    "triangle in planes two samples wide": ("geometry.h", "h == 2 && width > 2", "h == 2 && width > 1"),
    "plain upsampling has a triangle": ("geometry.h", "c.triangle && triangle_applies", "triangle_applies"),
    "adjoint: plain upsampling has a triangle": (
        "backward.h",
        "layout.h == 2 && layout.triangle",
        "layout.h == 2",
    ),
    "right border of the upsampling": ("chroma.h", "s[n] = s[n - 1];", "s[n] = 0;"),
    "halo: the strip above is forgotten": ("strips.h", "if (halo) carry();", "if (halo && s % 2) carry();"),
    "halo: lower neighbour clamped too early": (
        "strips.h",
        "far >= k.height ? k.height - 1 : far",
        "far >= k.height - 1 ? k.height - 1 - (k.height > 8) : far",
    ),
    "forward DCT, first rounding": ("dct.h", "ROUND_FORWARD_1 = 1024", "ROUND_FORWARD_1 = 1023"),
    "inverse DCT, last rounding": ("dct.h", "ROUND_INVERSE_2 = 131072", "ROUND_INVERSE_2 = 131071 - 1000"),
    "last digit of an islow constant": (
        "dct.h",
        "{9633, -2259, -11362, -6436}",
        "{9633, -2260, -11362, -6436}",
    ),
    "quantiser rounds half down": (
        "quant.h",
        "half[i] = (uint16_t)(d / 2);",
        "half[i] = (uint16_t)(d / 2 - 1);",
    ),
    "reciprocal one too small": ("quant.h", "(((1u << (16 + b)) + d - 1) / d)", "((1u << (16 + b)) / d)"),
    "values in the range round half away": (
        "color.h",
        "return raised - MAGIC;",
        "return to_float(to_int(load<F32>(p) * k.factor + 0.5f));",
    ),
    "numbers that look like levels": (
        "color.h",
        "seen |= (U32)raised ^ (U32)splatf(MAGIC);",
        "seen |= (U32)raised & ~(U32)splatf(MAGIC);",
    ),
    "levels up to 511": ("color.h", "!any((I32)seen & ~255)) return;", "!any((I32)seen & ~511)) return;"),
    "a range from 0: the last number": (
        "color.h",
        "if (!any((I32)(seen >",
        "if (true || !any((I32)(seen >",
    ),
    "another range: its numbers": ("color.h", "return !any(~inside);", "return true;"),
    "values round half away": (
        "color.h",
        "mul_add(clamped, k.factor, splatf(MAGIC)) - MAGIC",
        "to_float(to_int(clamped * k.factor + 0.5f))",
    ),
    "blue's factor": ("color.h", "116130 - 131072", "116129 - 131072"),
    "lanes without a block: what was there before": (
        "exact.h",
        "if (keep) clear_lanes_without_block(c, 128);",
        "",
    ),
    "channels side by side": ("exact.h", "second[x] = p[3 * x + 1]", "second[x] = p[3 * x + 2]"),
    "decoded levels: columns beyond 16 bits": ("exact.h", "~(I32)(sum <= 2950)", "~(I32)(sum <= 29500)"),
    "decoded levels: fractions": ("exact.h", "other |= (I32)((x + MAGIC) - MAGIC != x);", ""),
    "encoded levels: the last blocks": (
        "exact.h",
        "if (block >= 0) write(plane",
        "if (block > 0) write(plane",
    ),
    "adjoint: right padding": ("backward_rows.h", "row[width - 1] += beyond;", ""),
    "adjoint: bottom padding": ("backward.h", "to[x] += from[x];", "to[x] += 0 * from[x];"),
    "adjoint: last row of an odd height": (
        "backward.h",
        "y + 1 == layout.height ? 2.0f : 1.0f",
        "y + 1 == layout.height ? 1.0f : 1.0f",
    ),
    "adjoint: halo of the triangle": ("backward.h", "y = first - (halo && s > 0 ? 1 : 0)", "y = first"),
    "adjoint: clamp of chroma samples": (
        "backward.h",
        "mask_row(chroma_flag_row(b, c, y), k.width, outside_chroma(b, c, y), out);",
        "",
    ),
    "adjoint: the last samples' clamp": (
        "backward_rows.h",
        "for (; i < n; i++) g[i] *= flags[i]",
        "for (; i < i; i++) g[i] *= flags[i]",
    ),
    "adjoint: left border of the triangle": (
        "backward_rows.h",
        "before = splatf(even[0]);",
        "before = F32{};",
    ),
    "adjoint: right border of the triangle": (
        "backward_rows.h",
        "(at(2 * n - 3) + at(2 * n - 1)) * 0.25f",
        "at(2 * n - 3) * 0.25f",
    ),
    "adjoint: neighbour of the vector before": ("backward_rows.h", "before = odd;", ""),
    "adjoint: columns without slope": (
        "backward.h",
        "columns |= 1u << (8 * part + i % 8);",
        "columns |= 1u << (8 * part + i / 8);",
    ),
    "adjoint: output clamp": (
        "backward_rows.h",
        "masked(load<F32>(g[j]), flag, OUT_R << j, rgb.of(j, n))",
        "load<F32>(g[j])",
    ),
    "slope: the other threshold": ("slopes.h", "if (k.far >= 1)", "if (k.far >= 9)"),
    "table gradient of the last lanes": (
        "backward.h",
        "lane < HALF; lane++) sum +=",
        "lane < HALF - 1; lane++) sum +=",
    ),
    "intervals: fill bytes before a marker": (
        "intervals.h",
        "if (at < end && *at != 0) return at - 1;",
        "if (at < end && *at != 0) return at;",
    ),
    "intervals: a block beyond the component": ("intervals.h", "block_column < c.columns;", "true;"),
    "intervals: the rows of an MCU": ("intervals.h", "row * c.v + y", "row + y"),
    "intervals: order of restarts": ("intervals.h", "(s.intervals - 1) % 8", "s.intervals % 8"),
    "intervals: restarts behind the last interval": (
        "intervals.h",
        "for (; is_restart(marker_code(at, end)); at",
        "for (; false; at",
    ),
    "intervals: missing restarts": (
        "intervals.h",
        "is_restart(code) ? RESTART_ORDER : RESTARTS_MISSING",
        "RESTART_ORDER",
    ),
    "intervals: stuffed byte": (
        "intervals.h",
        "byte = 0xFF;\n    return true;",
        "byte = 0xFE;\n    return true;",
    ),
    "intervals: the last interval is shorter": (
        "intervals.h",
        "s.restart_interval && s.restart_interval < left",
        "s.restart_interval",
    ),
    "huffman: sign of a number": (
        "huffman_decode.cpp",
        "(negative & (1 - (1 << size)))",
        "(negative & (-(1 << size)))",
    ),
    "huffman: bytes of ones in a hurry": (
        "huffman_decode.cpp",
        "!(next & (~next - 0x0101010101010101) & 0x8080808080808080)",
        "true",
    ),
    "huffman: zeros beyond the data": ("huffman_decode.cpp", "b.zeros += 8", "b.zeros += 0"),
    "huffman: bits beyond the data": (
        "huffman_decode.cpp",
        "return count < zeros;",
        "return count + 7 < zeros;",
    ),
    "huffman: codes of more than 10 bits": (
        "huffman_decode.cpp",
        "length = AHEAD + 1; length <= 16",
        "length = AHEAD + 1; length <= 15",
    ),
    "huffman: limit of a length": (
        "huffman_decode.cpp",
        "if (window < limit[length])",
        "if (window <= limit[length])",
    ),
    "huffman: looked-ahead run": (
        "huffman_decode.cpp",
        "(uint8_t)((symbol >> 4) + 1), (uint8_t)(length + size)}",
        "(uint8_t)(symbol >> 4), (uint8_t)(length + size)}",
    ),
    "huffman: numbers that just fit": (
        "huffman_decode.cpp",
        "if (size == 0 || size > free) continue;",
        "if (size == 0) continue;",
    ),
    "encoder: a saturated level passes": (
        "huffman_encode.cpp",
        "ends |= (I16)(row == INT16_MAX) | (I16)(row == INT16_MIN);",
        "",
    ),
    "encoder: fractions of the upper half pass": (
        "huffman_encode.cpp",
        "(I32)(to_float(high) != hi)",
        "(I32)(to_float(high) != to_float(high))",
    ),
    "encoder: ties of doubles": ("huffman_encode.cpp", "(T)MAGIC_WIDE", "(T)MAGIC"),
    "encoder: no limit": (
        "huffman_encode.cpp",
        "if (__builtin_expect(magnitude > limit, 0)) {",
        "if (false) {",
    ),
    "encoder: one above the limit": (
        "huffman_encode.cpp",
        "magnitude > limit, 0",
        "magnitude > limit + 1, 0",
    ),
    "encoder: size of a clamped value": ("huffman_encode.cpp", "magnitude = limit;", ""),
    "encoder: the DC prediction": ("huffman_encode.cpp", "before[i] = block.levels[0];", ""),
    "encoder: the prediction of a first scan": ("huffman_encode.cpp", "before[i] = value;", ""),
    "encoder: DC levels round to 0": (
        "huffman_encode.cpp",
        "const int value = level >> source.s.low;",
        "const int value = level / (1 << source.s.low);",
    ),
    "encoder: bit of a dummy block": (
        "huffman_encode.cpp",
        "before = level >> source.s.low & 1;\n        sink.bits((uint32_t)before, 1);",
        "sink.bits((uint32_t)(level >> source.s.low & 1), 1);",
    ),
    "encoder: an EOB after the last place": (
        "huffman_encode.cpp",
        "if (last != 63) sink.symbol(AC + c.ac, EOB, 0);",
        "sink.symbol(AC + c.ac, EOB, 0);",
    ),
    "encoder: runs of 16": (
        "huffman_encode.cpp",
        "for (; run > 15; run -= 16) sink.symbol(AC + c.ac, ZRL, 0);",
        "for (; run > 16; run -= 16) sink.symbol(AC + c.ac, ZRL, 0);",
    ),
    "encoder: stuffed zeros": ("huffman_encode.cpp", "if (value == 0xFF) *at++ = 0;", ""),
    "encoder: padding is ones": (
        "huffman_encode.cpp",
        "bits((1u << padding) - 1, padding);",
        "bits(0, padding);",
    ),
    "encoder: growing forgets its place": ("huffman_encode.cpp", "at = data + used;", "at = data;"),
    "encoder: longest run of ended bands": (
        "huffman_encode.cpp",
        "LONGEST_RUN = 0x7FFF",
        "LONGEST_RUN = 0x7FFE",
    ),
    "encoder: correction bits that wait": (
        "huffman_encode.cpp",
        "total > PENDING - 64 + 1",
        "total > PENDING - 64 + 2",
    ),
    "encoder: long corrections": (
        "huffman_encode.cpp",
        "if (count > 32) sink.bits((uint32_t)(bits >> 32), count - 32);",
        "",
    ),
    "encoder: a run before the last fresh level": (
        "huffman_encode.cpp",
        "run > 15 && k <= last_fresh",
        "run > 15",
    ),
    "encoder: corrections after a run": (
        "huffman_encode.cpp",
        "put_bits(sink, corrections, count);\n                corrections = 0, count = 0;",
        "put_bits(sink, corrections, count);",
    ),
    "encoder: sign of a fresh level": (
        "huffman_encode.cpp",
        "run << 4 | 1, level >= 0)",
        "run << 4 | 1, level > 1)",
    ),
    "encoder: the last place of a band": (
        "huffman_encode.cpp",
        "if (run || count || last != s.last) ends.add(corrections, count);",
        "ends.add(corrections, count);",
    ),
    "encoder: bands end at 63": (
        "huffman_encode.cpp",
        "if (last != s.last) ends.add(0, 0);",
        "if (last != 63) ends.add(0, 0);",
    ),
    "encoder: tables, weight of the free code": ("huffman_encode.cpp", "counts[i] : 1;", "counts[i] : 2;"),
    "encoder: tables, a free code of ones": (
        "huffman_encode.cpp",
        "lengths[longest]--;",
        "lengths[longest] -= 0;",
    ),
    "encoder: tables, lengths above 16": (
        "huffman_encode.cpp",
        "lengths[leaf + 1] += 2;",
        "lengths[leaf + 1] += 1;",
    ),
    "huffman: the prediction": (
        "huffman_decode.cpp",
        "const int level = before[i] += read",
        "const int level = before[i] + read",
    ),
    "huffman: the prediction after a restart": (
        "huffman_decode.cpp",
        "std::memset(before, 0, sizeof before);",
        "",
    ),
    "huffman: a DC level of 17 bits": (
        "huffman_decode.cpp",
        "if (level != (int16_t)level) b.note(damages, BAD_DC);",
        "",
    ),
    "huffman: a run that leaves its block": (
        "huffman_decode.cpp",
        "if (b.overdrawn() || k > 63)",
        "if (b.overdrawn())",
    ),
    "huffman: symbols without a meaning": (
        "huffman_decode.cpp",
        "if (!code.length || code.step) b.note",
        "if (!code.length) b.note",
    ),
    "huffman: scale of a first scan": ("huffman_decode.cpp", "number *= scale;", ""),
    "huffman: AC levels of 17 bits": (
        "huffman_decode.cpp",
        "if (number != (int16_t)number) b.note(damages, BAD_AC);",
        "",
    ),
    "huffman: a band's run of ends": (
        "huffman_decode.cpp",
        "skipped = (1 << run) - 1 + (run ? b.take(run) : 0);",
        "skipped = (1 << run) + (run ? b.take(run) : 0);",
    ),
    "huffman: runs over the interval's end": (
        "huffman_decode.cpp",
        "return skipped && !stopped() ? BAD_RUN : NONE;",
        "return NONE;",
    ),
    "huffman: refined runs": (
        "huffman_decode.cpp",
        "skipped = (1 << run) + (run ? b.take(run) : 0);\n                    break;",
        "skipped = (1 << run) + 1 + (run ? b.take(run) : 0);\n                    break;",
    ),
    "huffman: levels outside the band": (
        "huffman_decode.cpp",
        "uint64_t open = band;",
        "uint64_t open = ~(uint64_t)0 << s.first;",
    ),
    "huffman: correction of negative levels": (
        "huffman_decode.cpp",
        "(level < 0 ? -bit : bit)",
        "(level < 0 ? bit : bit)",
    ),
    "huffman: corrections behind the run": (
        "huffman_decode.cpp",
        "known & open & passed",
        "known & open",
    ),
    "huffman: refinement out of 16 bits": ("huffman_decode.cpp", "fits &= grown == (int16_t)grown;", ""),
    "huffman: refined symbols of two bits": (
        "huffman_decode.cpp",
        "if (__builtin_expect(size > 1, 0)) b.note(damages, BAD_SYMBOL);",
        "",
    ),
    "huffman: a refined run that leaves its band": (
        "huffman_decode.cpp",
        "if (!zero) b.note(damages, BAD_RUN);",
        "",
    ),
    "huffman: position in the refined band": (
        "huffman_decode.cpp",
        "open &= ~(here | passed);",
        "open &= ~here;",
    ),
    "arithmetic: a state of the table": (
        "arithmetic_decode.cpp",
        "{0x5627, SWITCH | 105, 106}",
        "{0x5627, 105, 106}",
    ),
    "arithmetic: exchange of the symbols": (
        "arithmetic_decode.cpp",
        "less = interval < state.less;",
        "less = false;",
    ),
    "arithmetic: the larger part": (
        "arithmetic_decode.cpp",
        "less = interval >= state.less;",
        "less = true;",
    ),
    "arithmetic: the start": ("arithmetic_decode.cpp", "ahead = -16;", "ahead = -8;"),
    "arithmetic: bounds of the conditioning": (
        "arithmetic_decode.cpp",
        "1 << s.tables[16 + table] >> 1",
        "1 << s.tables[table] >> 1",
    ),
    "arithmetic: the lower bound": ("arithmetic_decode.cpp", "size < lower ? 0", "size <= lower ? 0"),
    "arithmetic: Kx": ("arithmetic_decode.cpp", "k <= knee", "k < knee"),
    "arithmetic: Kx of each table": ("arithmetic_decode.cpp", "s.tables[32 + table]", "s.tables[32]"),
    "arithmetic: bins of large sizes": ("arithmetic_decode.cpp", "bin++;", ""),
    "arithmetic: states after a restart": ("arithmetic_decode.cpp", "std::memset(ac, 0, sizeof ac);", ""),
    "arithmetic: even chances": ("arithmetic_decode.cpp", "EVEN = 113", "EVEN = 1"),
    "arithmetic: end of the refined block": (
        "arithmetic_decode.cpp",
        "if (k > ended && decisions.next(bin[0])) break;",
        "if (k >= ended && decisions.next(bin[0])) break;",
    ),
    "arithmetic: correction of negative levels": (
        "arithmetic_decode.cpp",
        "level + (level < 0 ? -bit : bit)",
        "level + bit",
    ),
    "arithmetic: a run that leaves its block": (
        "arithmetic_decode.cpp",
        "if (++k > last) return lose(damages, BAD_RUN);",
        "if (++k > 63) return lose(damages, BAD_RUN);",
    ),
    "arithmetic: DC levels of 17 bits": (
        "arithmetic_decode.cpp",
        "if (level != (int16_t)level) note(damages, damage);",
        "",
    ),
    "arithmetic: a magnitude that is too large": (
        "arithmetic_decode.cpp",
        "if (less < 0) return lose(damages, BAD_AC);",
        "",
    ),
    "lenient: strict stops": ("intervals.h", "return !s.lenient;", "return false;"),
    "lenient: goes on": ("intervals.h", "if (!s.lenient) return damages & 255;", "return damages & 255;"),
    "lenient: other damages of a block": (
        "intervals.h",
        "damages |= 256 << damage;",
        "damages |= 256 << (damages & 255);",
    ),
    "lenient: a restart that is two ahead": ("intervals.h", "ahead == 1 || ahead == 2", "ahead == 1"),
    "lenient: a restart that is one ahead": ("intervals.h", "ahead == 1 || ahead == 2", "ahead == 2"),
    "lenient: a restart that is two behind": ("intervals.h", "if (ahead < 6)", "if (ahead < 7)"),
    "lenient: a restart that is far away": ("intervals.h", "if (ahead < 6)", "if (ahead < 5)"),
    "lenient: markers that are no segment": ("intervals.h", "} else if (code >= SOF0) {", "} else {"),
    "lenient: the marker behind a lost interval": (
        "intervals.h",
        "stopped && !found && !Decoder::ARITHMETIC",
        "false",
    ),
    "lenient: the restart behind lost data": (
        "intervals.h",
        "stopped && !found && !Decoder::ARITHMETIC",
        "stopped && !Decoder::ARITHMETIC",
    ),
    "lenient: arithmetic restart at a marker": (
        "intervals.h",
        "stopped && !found && !Decoder::ARITHMETIC",
        "stopped && !found",
    ),
    "lenient: Huffman stops behind its MCU": (
        "intervals.h",
        "if (Decoder::ARITHMETIC && decoder.stopped()) continue;",
        "if (decoder.stopped()) continue;",
    ),
    "lenient: the row that is reached": (
        "intervals.h",
        "if (noted) s.reached = row;",
        "s.reached = s.mcu_rows - 1;",
    ),
    "lenient: the row before a restart": ("intervals.h", "bool noted = !stopped;", "bool noted = true;"),
    "lenient: bits that are no code": ("huffman_decode.cpp", "NOT_A_CODE = 17", "NOT_A_CODE = 16"),
    "lenient: a DC code that is none": (
        "huffman_decode.cpp",
        "b.skip(NOT_A_CODE);\n        return 0;",
        "return 0;",
    ),
    "lenient: an AC code that is none": (
        "huffman_decode.cpp",
        "if (!code.length) b.skip(NOT_A_CODE);",
        "",
    ),
    "lenient: a code of a first scan that is none": (
        "huffman_decode.cpp",
        "b.skip(NOT_A_CODE);\n                break;\n            } else",
        "break;\n            } else",
    ),
    "lenient: a code of a refining scan that is none": (
        "huffman_decode.cpp",
        "b.skip(NOT_A_CODE);\n                    skipped = 1;",
        "skipped = 1;",
    ),
    "lenient: the block ends with it": (
        "huffman_decode.cpp",
        "skipped = 1;\n                    break;",
        "break;",
    ),
    "lenient: the place behind a band": ("huffman_decode.cpp", ": s.last + 1]", ": s.last]"),
    "lenient: one bit of a number": (
        "huffman_decode.cpp",
        "b.skip(number ? code.length - size + 1 : code.length);",
        "b.skip(code.length);",
    ),
    "lenient: one bit of a long number": (
        "huffman_decode.cpp",
        "number = b.take(1) ? 1 : -1;",
        "number = b.number(size) > 0 ? 1 : -1;",
    ),
    "lenient: a correction that comes twice": (
        "huffman_decode.cpp",
        "level & bit ? 0 : (level",
        "false ? 0 : (level",
    ),
    "lenient: a lost magnitude ends the block": ("arithmetic_decode.cpp", "        lost = true;\n", ""),
    "lenient: DC is written before AC is lost": ("arithmetic_decode.cpp", "if (lost) return damages;", ""),
    "lenient: DC wraps": (
        "arithmetic_decode.cpp",
        "levels[0] = (int16_t)before[i];",
        "levels[0] = (int16_t)(before[i] & 0x7FFF);",
    ),
    "lenient: begin again after a loss": ("arithmetic_decode.cpp", "        lost = false;\n", ""),
    "scan: undefined levels": ("scan.cpp", "x = (F32)((I32)x & (I32)(x == x));", ""),
    "scan: levels clamped too early": ("scan.cpp", "MAX_LEVEL = 32767", "MAX_LEVEL = 2047"),
    "scan: 16 zeros without a ZRL": ("scan.cpp", "run > 15; run -= 16", "run > 16; run -= 16"),
    "scan: AC not clamped": ("scan.cpp", "clamped(levels[ZIGZAG[k]], MAX_AC)", "levels[ZIGZAG[k]]"),
    "scan: dummy blocks below": ("scan.cpp", "if (below) x = mcu_x * h + h - 1;", ""),
    "scan: last byte stuffed": ("scan.cpp", "(bits >> at & 0xFF) == 0xFF ? 2 : 1", "1"),
    "step costs: end of the block": ("marginal.cpp", "after[64] = 64;", "after[64] = 63;"),
    "step costs: the run before": (
        "marginal.cpp",
        "if (size[k]) before = k;",
        "if (size[k] > 1) before = k;",
    ),
    "step costs: table of each image": ("marginal.cpp", "i * c->tables / c->blocks", "0"),
    "trellis: equal paths": ("trellis.cpp", "if (sum < low) {", "if (sum <= low) {"),
    "trellis: search stops too early": ("trellis.cpp", "least[i] < low", "cost[i] < low"),
    "trellis: lower level of 2": ("trellis.cpp", "if (level > 1) {", "if (level > 2) {"),
    "trellis: half rounds down": ("trellis.cpp", "below >= 0.5", "below > 0.5"),
    "trellis: no end of block": (
        "trellis.cpp",
        "path.best(64, c.ac[0], &total)",
        "path.best(64, c.ac[1], &total)",
    ),
    "trellis: DC in raster order": ("trellis.cpp", "found.v = i ? 1 : c.v;", "found.v = 1;"),
    "trellis: last DC one above": ("trellis.cpp", "if (cost[2] < cost[last]) last = 2;", ""),
    "trellis: luma's prices for chroma": ("trellis.cpp", "? 1 : 2) + (i > 0)", "? 1 : 2)"),
    "trellis: weights turned": ("trellis.cpp", "(i & 7) * stride[3]", "(i >> 3) * stride[3]"),
    "trellis: weights of the first image": ("trellis.cpp", "image * t.weight_strides[i][0]", "0"),
}
ROUNDED = """static Codec rounded(Codec c) {
    c.forward_bias[1]++;
    c.forward_bias[2]++;
    return c;
}

"""


LONGEST = 600
"""Seconds after which a mutant counts as one that never ends."""
COMPILER = [
    os.environ.get("CXX", "g++"),
    *("-O1", "-std=c++17", "-fPIC", "-pthread", "-ffp-contract=off", "-fwrapv", "-w"),
]


def built(folder: Path, objects: Path) -> Path:
    """The library of the sources in ``folder``; a unit that was compiled before is taken from ``objects``."""
    parts = []
    for source in sorted(folder.glob("*.cpp")):
        # The tests run the best kernel of the machine: the baseline need not be mutated too.
        unit = SOURCES / source.name if source.name == "baseline.cpp" else source
        text = subprocess.run([*COMPILER, "-E", "-P", unit], check=True, capture_output=True).stdout
        part = objects / f"{hashlib.sha256(text).hexdigest()}.o"
        if not part.exists():
            subprocess.run([*COMPILER, "-c", unit, "-o", part], check=True)
        parts.append(part)
    library = folder / "native.so"
    subprocess.run([*COMPILER, "-shared", "-o", library, *parts], check=True)
    return library


def caught(name: str, folder: Path, objects: Path) -> bool:
    """Whether the tests fail on a mutant."""
    file, before, after = MUTANTS[name]
    for source in (*SOURCES.glob("*.cpp"), *SOURCES.glob("*.h")):
        (folder / source.name).write_text(source.read_text())
    text = (folder / file).read_text()
    if text.count(before) != 1:
        raise SystemExit(f"{name}: {file} does not hold {before!r} once")
    mutated = text.replace(before, after)
    if "rounded(codec)" in after:
        mutated = mutated.replace(
            "template <class T>\nINLINE const T* input_row",
            ROUNDED + "template <class T>\nINLINE const T* input_row",
            1,
        )
    (folder / file).write_text(mutated)
    library = built(folder, objects)
    paths, chosen = TESTS.get(file, (CODEC_TESTS, CODEC))
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *paths, "-k", chosen]
    environment = {**os.environ, "JPEGRAD_NATIVE_LIBRARY": str(library), "JPEGRAD_NATIVE": "best"}
    try:
        run = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=LONGEST
        )
    except subprocess.TimeoutExpired:
        return True
    if run.returncode > 1:
        raise SystemExit(run.stdout + run.stderr)
    # A mutant that crashes the tests has a negative one.
    return run.returncode != 0


def main() -> None:
    survivors = []
    with tempfile.TemporaryDirectory() as objects:
        for name in sys.argv[1:] or MUTANTS:
            with tempfile.TemporaryDirectory() as folder:
                found = caught(name, Path(folder), Path(objects))
            print(f"{'caught' if found else 'SURVIVED'}: {name}", flush=True)
            survivors += [] if found else [name]
    if survivors:
        raise SystemExit(f"{len(survivors)} mutants survived")


if __name__ == "__main__":
    main()
