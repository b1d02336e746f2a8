// Adjoints of the row operations in color.h and chroma.h, in float32.

// A 3x3 matrix, every element in all lanes.
struct Matrix {
    F32 at[9];

    explicit Matrix(const float* m) {
        for (int i = 0; i < 9; i++) at[i] = splatf(m[i]);
    }
};

INLINE F32 masked(F32 g, I32 flags, int bit, F32 outside) {
    I32 active = (flags & bit) != 0;
    return active ? g * outside : g;
}

// Gradients of RGB pixels to gradients of YCbCr at full resolution: transposed decoder matrix behind the output clamp.
template <bool LUMA>
INLINE void decode_adjoint(const float* const g[3], const uint8_t* flags, const Matrix& matrix, F32 outside, float* const out[3]) {
    I32 flag = load_bytes(flags);
    F32 x[3] = {load<F32>(g[0]), load<F32>(g[1]), load<F32>(g[2])};
    const bool clamped = any(flag & (OUT_R | OUT_G | OUT_B));
    if (clamped)
        for (int j = 0; j < 3; j++) x[j] = masked(x[j], flag, OUT_R << j, outside);
    for (int i = LUMA ? 0 : 1; i < 3; i++) {
        F32 sum = mul_add(x[0], matrix.at[i], mul_add(x[1], matrix.at[3 + i], x[2] * matrix.at[6 + i]));
        store(out[i], i == 0 ? masked(sum, flag, SAMPLE, outside) : sum);
    }
}

template <bool LUMA>
static void decode_adjoint_row(const float* const g[3], const uint8_t* flags, int64_t n, const float* numbers, float clip, float* const out[3]) {
    const Matrix matrix(numbers);
    const F32 outside = splatf(clip);
    int64_t i = 0;
    for (; i + HALF <= n; i += HALF) {
        const float* p[3] = {g[0] + i, g[1] + i, g[2] + i};
        float* o[3] = {LUMA ? out[0] + i : nullptr, out[1] + i, out[2] + i};
        decode_adjoint<LUMA>(p, flags + i, matrix, outside, o);
    }
    if (i < n) {
        float tail[3][HALF] = {};
        uint8_t tail_flags[HALF] = {};
        for (int c = 0; c < 3; c++) __builtin_memcpy(tail[c], g[c] + i, (size_t)(n - i) * 4);
        __builtin_memcpy(tail_flags, flags + i, (size_t)(n - i));
        const float* p[3] = {tail[0], tail[1], tail[2]};
        float* o[3] = {LUMA ? out[0] + i : nullptr, out[1] + i, out[2] + i};
        decode_adjoint<LUMA>(p, tail_flags, matrix, outside, o);
    }
}

// Gradients of YCbCr to gradients of RGB pixels: transposed encoder matrix, then the input clamp.
INLINE void encode_adjoint(const float* const g[3], const uint8_t* flags, const Matrix& matrix, F32 outside, float* const out[3]) {
    I32 flag = load_bytes(flags);
    F32 x[3] = {load<F32>(g[0]), load<F32>(g[1]), load<F32>(g[2])};
    F32 sums[3];
    for (int j = 0; j < 3; j++)
        sums[j] = mul_add(x[0], matrix.at[j], mul_add(x[1], matrix.at[3 + j], x[2] * matrix.at[6 + j]));
    if (any(flag & (IN_R | IN_G | IN_B))) {
        outside = (flag & (int)UNDEFINED) != 0 ? F32{} : outside;
        for (int j = 0; j < 3; j++) sums[j] = masked(sums[j], flag, IN_R << j, outside);
    }
    for (int j = 0; j < 3; j++) store(out[j], sums[j]);
}

// `g` readable in whole vectors.
static void encode_adjoint_row(const float* const g[3], const uint8_t* flags, int64_t n, const float* numbers, float clip, float* const out[3]) {
    const Matrix matrix(numbers);
    const F32 outside = splatf(clip);
    int64_t i = 0;
    for (; i + HALF <= n; i += HALF) {
        const float* p[3] = {g[0] + i, g[1] + i, g[2] + i};
        float* o[3] = {out[0] + i, out[1] + i, out[2] + i};
        encode_adjoint(p, flags + i, matrix, outside, o);
    }
    if (i < n) {
        float tail[3][HALF];
        uint8_t tail_flags[HALF] = {};
        __builtin_memcpy(tail_flags, flags + i, (size_t)(n - i));
        const float* p[3] = {g[0] + i, g[1] + i, g[2] + i};
        float* o[3] = {tail[0], tail[1], tail[2]};
        encode_adjoint(p, tail_flags, matrix, outside, o);
        for (int c = 0; c < 3; c++) __builtin_memcpy(out[c] + i, tail[c], (size_t)(n - i) * 4);
    }
}

// Four rows with weights: the vertical half of the upsampling's adjoint. Writes whole vectors.
static void weighted_rows(const float* const rows[4], const float weights[4], int64_t n, float* out) {
    for (int64_t i = 0; i < n; i += HALF) {
        F32 sum = load<F32>(rows[0] + i) * weights[0];
        for (int k = 1; k < 4; k++) sum = mul_add(load<F32>(rows[k] + i), splatf(weights[k]), sum);
        store(out + i, sum);
    }
}

// The horizontal half: from `width` upsampled gradients (overwritten up to the vectors' end) to `n` samples.
// `even`, `odd` have room for n + 2 * LANES.
static void upsample_adjoint_row(float* g, int64_t width, int h, int64_t n, float* even, float* odd, float* out) {
    if (h == 1) {
        __builtin_memcpy(out, g, (size_t)n * 4);
        return;
    }
    for (int64_t x = width; x < h * n; x++) g[x] = 0;
    if (!triangle_applies(h, n)) {
        for (int64_t i = 0; i < n; i++) {
            float sum = 0;
            for (int k = 0; k < h; k++) sum += g[h * i + k];
            out[i] = sum;
        }
        return;
    }
    float *e = even + LANES, *o = odd + LANES;
    for (int64_t i = 0; i < n; i += HALF) {
        F32 a, b;
        split_pairs(g + 2 * i, a, b);
        store(e + i, a);
        store(o + i, b);
    }
    o[-1] = e[0];
    e[n] = o[n - 1];
    for (int64_t i = 0; i < n; i += HALF) {
        F32 near = load<F32>(e + i) + load<F32>(o + i), far = load<F32>(o + i - 1) + load<F32>(e + i + 1);
        store(out + i, near * 0.75f + far * 0.25f);
    }
}

// The box filter's adjoint along a row: every sample to the h pixels it averages, pixels beyond the image to the last one.
static void downsample_adjoint_row(const float* g, int64_t blocks_x, int h, float weight, int64_t width, float* out) {
    int64_t n = ceil_div(width, h), x = 0;
    float beyond = g[n - 1] * (float)(h * n - width);
    for (int64_t i = n; i < blocks_x * 8; i++) beyond += g[i] * (float)h;
    if (h == 2) {
        for (int64_t i = 0; i < n; i += HALF) duplicate(load<F32>(g + i) * weight, out + 2 * i);
    } else {
        for (int64_t i = 0; i < n; i++)
            for (int k = 0; k < h; k++) out[x++] = g[i] * weight;
    }
    out[width - 1] += beyond * weight;
}
