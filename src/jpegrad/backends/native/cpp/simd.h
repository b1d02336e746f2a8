// Fixed arrays of lanes: 16-bit vectors of LANES elements, 32-bit vectors of half as many.
// LANES is 8 (SSE2, NEON, anything), 16 (AVX2) or 32 (AVX-512).
#pragma once
#include "target.h"

namespace NAMESPACE {

typedef int16_t I16 __attribute__((vector_size(2 * LANES)));
typedef uint16_t U16 __attribute__((vector_size(2 * LANES)));
typedef int32_t I32 __attribute__((vector_size(2 * LANES)));
typedef uint32_t U32 __attribute__((vector_size(2 * LANES)));
typedef int64_t I64 __attribute__((vector_size(2 * LANES)));
typedef float F32 __attribute__((vector_size(2 * LANES)));
typedef double F64 __attribute__((vector_size(2 * LANES)));
typedef float HalfF32 __attribute__((vector_size(LANES)));
typedef uint8_t U8 __attribute__((vector_size(LANES)));
typedef uint8_t HalfU8 __attribute__((vector_size(LANES / 2)));
constexpr int HALF = LANES / 2;

constexpr float MAGIC = 12582912.0f;               // 1.5 * 2^23: adding it rounds to an integer
constexpr double MAGIC_WIDE = 6755399441055744.0;  // 1.5 * 2^52

#define INLINE static inline __attribute__((always_inline))
#define INLINE_MEMBER inline __attribute__((always_inline))

template <class V, class T> INLINE V load(const T* p) {
    V v;
    __builtin_memcpy(&v, p, sizeof v);
    return v;
}
template <class V, class T> INLINE void store(T* p, V v) { __builtin_memcpy(p, &v, sizeof v); }

// A row of n elements: step(i, count) for its whole vectors, `count` the constant N, and for the fewer ones at its end.
template <int N> using All = std::integral_constant<int, N>;
template <int N, class Step> INLINE void in_vectors(int64_t n, const Step& step) {
    int64_t i = 0;
    for (; i + N <= n; i += N) step(i, All<N>());
    if (i < n) step(i, (int)(n - i));
}

// Where a step reads a whole vector: the row itself, or a copy of its end, filled up.
template <class T, class U, int N> INLINE T* readable(T* p, All<N>, U (&)[N], U) { return p; }
template <class T, class U, int N> INLINE T* readable(T* p, int count, U (&copy)[N], U rest) {
    for (U& each : copy) each = rest;
    __builtin_memcpy(copy, p, (size_t)count * sizeof(T));
    return copy;
}

// Where a step writes a whole vector: the row itself, or a copy that is then written back.
template <class T, int N> INLINE T* writable(T* p, All<N>, T (&)[N]) { return p; }
template <class T, int N> INLINE T* writable(T*, int, T (&copy)[N]) { return copy; }
template <class T, int N> INLINE void write_back(T*, All<N>, const T (&)[N]) {}
template <class T, int N> INLINE void write_back(T* p, int count, const T (&copy)[N]) {
    __builtin_memcpy(p, copy, (size_t)count * sizeof(T));
}

// Asks for the memory that a row will soon be written to: it comes while there is other work.
template <int N, class T> INLINE void will_write(T* p) {
    constexpr int AHEAD = 1024, LINE = 64;
    for (int i = 0; i < N * (int)sizeof(T); i += LINE) __builtin_prefetch((const char*)p + AHEAD + i, 1);
}

INLINE I16 splat16(int x) { return I16{} + (int16_t)x; }
INLINE I32 splat32(int x) { return I32{} + x; }
INLINE F32 splatf(float x) { return F32{} + x; }

#if defined(__clang__)
#define SHUFFLE(V, a, b, ...) ((V)__builtin_shufflevector(a, b, __VA_ARGS__))
#else
template <class V> struct Index;
template <> struct Index<I16> {
    typedef I16 type;
};
template <> struct Index<I32> {
    typedef I32 type;
};
template <> struct Index<I64> {
    typedef I64 type;
};
#define SHUFFLE(V, a, b, ...) ((V)__builtin_shuffle((V)(a), (V)(b), typename Index<V>::type{__VA_ARGS__}))
#endif

// Two 32-bit halves of a 16-bit vector, in "paired" order: as the instruction set unpacks them. Only pack() undoes it.
struct Pair {
    I32 lo, hi;
};

#if X86
#if LANES == 32
#define MM(name) _mm512_##name
#define AS_INT(x) ((__m512i)(x))
#elif LANES == 16
#define MM(name) _mm256_##name
#define AS_INT(x) ((__m256i)(x))
#else
#define MM(name) _mm_##name
#define AS_INT(x) ((__m128i)(x))
#endif
INLINE I16 unpack_lo16(I16 a, I16 b) { return (I16)MM(unpacklo_epi16)(AS_INT(a), AS_INT(b)); }
INLINE I16 unpack_hi16(I16 a, I16 b) { return (I16)MM(unpackhi_epi16)(AS_INT(a), AS_INT(b)); }
INLINE I16 unpack_lo32(I16 a, I16 b) { return (I16)MM(unpacklo_epi32)(AS_INT(a), AS_INT(b)); }
INLINE I16 unpack_hi32(I16 a, I16 b) { return (I16)MM(unpackhi_epi32)(AS_INT(a), AS_INT(b)); }
INLINE I16 unpack_lo64(I16 a, I16 b) { return (I16)MM(unpacklo_epi64)(AS_INT(a), AS_INT(b)); }
INLINE I16 unpack_hi64(I16 a, I16 b) { return (I16)MM(unpackhi_epi64)(AS_INT(a), AS_INT(b)); }
INLINE I16 min16(I16 a, I16 b) { return (I16)MM(min_epi16)(AS_INT(a), AS_INT(b)); }
INLINE I16 max16(I16 a, I16 b) { return (I16)MM(max_epi16)(AS_INT(a), AS_INT(b)); }
INLINE U16 mulhi(U16 a, U16 b) { return (U16)MM(mulhi_epu16)(AS_INT(a), AS_INT(b)); }
INLINE I16 mulhi(I16 a, I16 b) { return (I16)MM(mulhi_epi16)(AS_INT(a), AS_INT(b)); }
// The second operand where the first is NaN.
INLINE F32 maxf(F32 a, F32 b) { return MM(max_ps)(a, b); }
INLINE F32 minf(F32 a, F32 b) { return MM(min_ps)(a, b); }
INLINE I32 to_int(F32 a) { return (I32)MM(cvttps_epi32)(a); }
// a * ca + b * cb, exact, in paired order.
INLINE Pair rotate(I16 a, I16 b, int ca, int cb) {
    auto k = MM(set1_epi32)((int)((uint32_t)cb << 16 | (uint16_t)ca));
    return {(I32)MM(madd_epi16)(AS_INT(unpack_lo16(a, b)), k), (I32)MM(madd_epi16)(AS_INT(unpack_hi16(a, b)), k)};
}
INLINE I16 pack(Pair p) { return (I16)MM(packs_epi32)(AS_INT(p.lo), AS_INT(p.hi)); }
#else
INLINE I16 unpack_lo16(I16 a, I16 b) { return SHUFFLE(I16, a, b, 0, 8, 1, 9, 2, 10, 3, 11); }
INLINE I16 unpack_hi16(I16 a, I16 b) { return SHUFFLE(I16, a, b, 4, 12, 5, 13, 6, 14, 7, 15); }
INLINE I16 unpack_lo32(I16 a, I16 b) { return (I16)SHUFFLE(I32, (I32)a, (I32)b, 0, 4, 1, 5); }
INLINE I16 unpack_hi32(I16 a, I16 b) { return (I16)SHUFFLE(I32, (I32)a, (I32)b, 2, 6, 3, 7); }
INLINE I16 unpack_lo64(I16 a, I16 b) { return (I16)SHUFFLE(I64, (I64)a, (I64)b, 0, 2); }
INLINE I16 unpack_hi64(I16 a, I16 b) { return (I16)SHUFFLE(I64, (I64)a, (I64)b, 1, 3); }
INLINE I16 min16(I16 a, I16 b) { return a < b ? a : b; }
INLINE I16 max16(I16 a, I16 b) { return a > b ? a : b; }
INLINE F32 maxf(F32 a, F32 b) { return a > b ? a : b; }
INLINE F32 minf(F32 a, F32 b) { return a < b ? a : b; }
INLINE I32 to_int(F32 a) { return __builtin_convertvector(a, I32); }
INLINE I32 lower(I16 a) { return (I32)unpack_lo16(a, a) >> 16; }
INLINE I32 upper(I16 a) { return (I32)unpack_hi16(a, a) >> 16; }
INLINE Pair rotate(I16 a, I16 b, int ca, int cb) {
    return {lower(a) * ca + lower(b) * cb, upper(a) * ca + upper(b) * cb};
}
INLINE I16 pack(Pair p) {
    I32 low = splat32(-32768), high = splat32(32767);
    p.lo = p.lo < low ? low : p.lo > high ? high : p.lo;
    p.hi = p.hi < low ? low : p.hi > high ? high : p.hi;
    return SHUFFLE(I16, (I16)p.lo, (I16)p.hi, 0, 2, 4, 6, 8, 10, 12, 14);
}
INLINE U16 mulhi(U16 a, U16 b) {
    U32 lo = ((U32)lower((I16)a) & 0xffff) * ((U32)lower((I16)b) & 0xffff);
    U32 hi = ((U32)upper((I16)a) & 0xffff) * ((U32)upper((I16)b) & 0xffff);
    return (U16)SHUFFLE(I16, (I16)lo, (I16)hi, 1, 3, 5, 7, 9, 11, 13, 15);
}
INLINE I16 mulhi(I16 a, I16 b) {
    return SHUFFLE(I16, (I16)(lower(a) * lower(b)), (I16)(upper(a) * upper(b)), 1, 3, 5, 7, 9, 11, 13, 15);
}
#endif

INLINE Pair operator+(Pair a, Pair b) { return {a.lo + b.lo, a.hi + b.hi}; }
INLINE Pair operator-(Pair a, Pair b) { return {a.lo - b.lo, a.hi - b.hi}; }
INLINE Pair operator+(Pair a, int b) { return {a.lo + b, a.hi + b}; }
INLINE Pair operator>>(Pair a, int n) { return {a.lo >> n, a.hi >> n}; }

// a * b + c; one rounding where the instruction set fuses, so only for sums that are exact or need no exactness.
#if X86 && LANES > 8
INLINE F32 mul_add(F32 a, F32 b, F32 c) { return MM(fmadd_ps)(a, b, c); }
constexpr bool FUSED = true;
#elif defined(__aarch64__)
INLINE F32 mul_add(F32 a, F32 b, F32 c) { return vfmaq_f32(c, a, b); }
constexpr bool FUSED = true;
#else
INLINE F32 mul_add(F32 a, F32 b, F32 c) { return a * b + c; }
constexpr bool FUSED = false;
#endif

// While it lives, results below float32's normal numbers are 0: where they are computed in software they cost more than
// all the rest.
struct Flushed {
#if X86
    const unsigned before = _mm_getcsr();
    Flushed() { _mm_setcsr(before | 0x8000); }
    ~Flushed() { _mm_setcsr(before); }
#else
    Flushed() {}
    ~Flushed() {}
#endif
};

INLINE F32 to_float(I32 a) { return __builtin_convertvector(a, F32); }

#if LANES == 32
INLINE bool any(I32 mask) { return _mm512_test_epi32_mask((__m512i)mask, (__m512i)mask) != 0; }
#elif X86 && LANES == 16
INLINE bool any(I32 mask) { return !_mm256_testz_si256((__m256i)mask, (__m256i)mask); }
#elif X86
INLINE bool any(I32 mask) { return _mm_movemask_epi8(_mm_cmpeq_epi32((__m128i)mask, _mm_setzero_si128())) != 0xFFFF; }
#else
INLINE bool any(I32 mask) { return (mask[0] | mask[1] | mask[2] | mask[3]) != 0; }
#endif

// 1 / a, to a few units in float32's last place.
#if X86 && LANES > 8
INLINE F32 reciprocal(F32 a) {
#if LANES == 32
    F32 guess = _mm512_rcp14_ps(a);
#else
    F32 guess = _mm256_rcp_ps(a);
#endif
    return guess + guess * (1 - a * guess);
}
#else
INLINE F32 reciprocal(F32 a) { return 1 / a; }
#endif

// The sum of all elements.
#if LANES == 32
INLINE float total(F32 a) { return _mm512_reduce_add_ps(a); }
#elif X86 && LANES == 16
INLINE float total(F32 a) {
    __m128 four = _mm256_castps256_ps128(a) + _mm256_extractf128_ps(a, 1), two = four + _mm_movehl_ps(four, four);
    return two[0] + two[1];
}
#else
INLINE float total(F32 a) { return (a[0] + a[2]) + (a[1] + a[3]); }
#endif

// Of numbers 0...255, `n` bytes.
INLINE void store_bytes(uint8_t* p, I32 a, int64_t n) {
    const HalfU8 bytes = __builtin_convertvector(a, HalfU8);
    __builtin_memcpy(p, &bytes, n < HALF ? (size_t)n : (size_t)HALF);
}

// Floating-point numbers of 16 bits to float32, and back: rounded to the nearest even.
typedef uint16_t HalfU16 __attribute__((vector_size(LANES)));
INLINE U32 bits_of(const uint16_t* p) { return __builtin_convertvector(load<HalfU16>(p), U32); }
INLINE void store_bits(uint16_t* p, U32 bits) { store(p, __builtin_convertvector(bits, HalfU16)); }

INLINE F32 from_bfloat(const uint16_t* p) { return (F32)(bits_of(p) << 16); }
INLINE void to_bfloat(F32 x, uint16_t* p) {
    const U32 bits = (U32)x;
    store_bits(p, x == x ? (bits + 0x7fff + (bits >> 16 & 1)) >> 16 : U32{} + 0x7fc0);
}

INLINE F32 from_half(const uint16_t* p) {
    const U32 bits = bits_of(p), magnitude = (bits & 0x7fff) << 13;
    F32 x = (F32)magnitude * 0x1p112f;
    x = magnitude < 0x0f800000 ? x : (F32)(magnitude | 0x7f800000);
    return (F32)((U32)x | (bits & 0x8000) << 16);
}
INLINE void to_half(F32 x, uint16_t* p) {
    const U32 sign = (U32)x >> 16 & 0x8000, bits = (U32)x & 0x7fffffff;
    // Numbers below 2^-14 have no exponent: as the last bits of their sum with 1/2.
    const U32 small = (U32)((F32)bits + 0.5f) - 0x3f000000,
              normal = (bits + 0xfff + (bits >> 13 & 1) - 0x38000000) >> 13;
    U32 found = bits < 0x38800000 ? small : normal;
    found = bits < 0x47800000 ? found : U32{} + 0x7c00;
    store_bits(p, (x == x ? found : U32{} + 0x7e00) | sign);
}

// Which halves of a 16-bit mask have a bit set: bit 0 the lower one, bit 1 the upper one.
#if X86 && LANES > 8
INLINE int any_halves(I16 mask) {
#if LANES == 32
    const uint32_t bits = _mm512_test_epi16_mask((__m512i)mask, (__m512i)mask);
#else
    const uint32_t bits = (uint32_t)_mm256_movemask_epi8((__m256i)mask);
#endif
    return (bits & 0xffff ? 1 : 0) | (bits >> 16 ? 2 : 0);
}
#else
INLINE int any_halves(I16 mask) {
    uint64_t halves[2];
    __builtin_memcpy(halves, &mask, sizeof halves);
    return (halves[0] ? 1 : 0) | (halves[1] ? 2 : 0);
}
#endif

// The bytes of HALF flags as one number.
#if LANES == 32
typedef unsigned __int128 Flags;
constexpr Flags flags_of(int bits) { return (Flags)(0x0101010101010101u * (uint64_t)bits) * ((Flags)1 << 64 | 1); }
#else
typedef std::conditional_t<HALF == 8, uint64_t, uint32_t> Flags;
constexpr Flags flags_of(int bits) { return (Flags)(0x0101010101010101u * (uint64_t)bits); }
#endif

// Raster order: the element of index i stays at index i.
struct Halves {
    I32 lo, hi;
};
#if LANES == 32
INLINE Halves widen(I16 a) {
    return {(I32)_mm512_cvtepi16_epi32(_mm512_castsi512_si256((__m512i)a)),
            (I32)_mm512_cvtepi16_epi32(_mm512_extracti64x4_epi64((__m512i)a, 1))};
}
INLINE I16 narrow(I32 lo, I32 hi) {
    return (I16)_mm512_permutexvar_epi64(_mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7),
                                         _mm512_packs_epi32((__m512i)lo, (__m512i)hi));
}
INLINE U8 to_bytes(I16 a) { return (U8)_mm512_cvtepi16_epi8((__m512i)a); }
INLINE I16 from_bytes(U8 a) { return (I16)_mm512_cvtepu8_epi16((__m256i)a); }
// Alternately one of a, one of b.
INLINE void interleave(I16 a, I16 b, int16_t* out) {
    __m512i lo = (__m512i)unpack_lo16(a, b), hi = (__m512i)unpack_hi16(a, b);
    store(out, _mm512_permutex2var_epi64(lo, _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11), hi));
    store(out + LANES, _mm512_permutex2var_epi64(lo, _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15), hi));
}
#elif X86 && LANES == 16
INLINE Halves widen(I16 a) {
    return {(I32)_mm256_cvtepi16_epi32(_mm256_castsi256_si128((__m256i)a)),
            (I32)_mm256_cvtepi16_epi32(_mm256_extracti128_si256((__m256i)a, 1))};
}
INLINE I16 narrow(I32 lo, I32 hi) {
    return (I16)_mm256_permute4x64_epi64(_mm256_packs_epi32((__m256i)lo, (__m256i)hi), 0xD8);
}
INLINE U8 to_bytes(I16 a) {
    __m256i packed = _mm256_permute4x64_epi64(_mm256_packus_epi16((__m256i)a, (__m256i)a), 0xD8);
    return (U8)_mm256_castsi256_si128(packed);
}
INLINE I16 from_bytes(U8 a) { return (I16)_mm256_cvtepu8_epi16((__m128i)a); }
// Alternately one of a, one of b.
INLINE void interleave(I16 a, I16 b, int16_t* out) {
    __m256i lo = (__m256i)unpack_lo16(a, b), hi = (__m256i)unpack_hi16(a, b);
    store(out, _mm256_permute2x128_si256(lo, hi, 0x20));
    store(out + LANES, _mm256_permute2x128_si256(lo, hi, 0x31));
}
#else
#if X86
INLINE Halves widen(I16 a) { return {(I32)unpack_lo16(a, a) >> 16, (I32)unpack_hi16(a, a) >> 16}; }
#else
INLINE Halves widen(I16 a) { return {lower(a), upper(a)}; }
#endif
INLINE I16 narrow(I32 lo, I32 hi) { return pack({lo, hi}); }
INLINE U8 to_bytes(I16 a) { return __builtin_convertvector(a, U8); }
INLINE I16 from_bytes(U8 a) { return __builtin_convertvector(a, I16); }
INLINE void interleave(I16 a, I16 b, int16_t* out) {
    store(out, unpack_lo16(a, b));
    store(out + LANES, unpack_hi16(a, b));
}
#endif

// Transpose 8x8 tiles of 16-bit elements, one in each 128-bit part of the vectors.
INLINE void transpose(I16 a[8]) {
    I16 b[8], c[8];
    for (int i = 0; i < 4; i++) {
        b[2 * i] = unpack_lo16(a[2 * i], a[2 * i + 1]);
        b[2 * i + 1] = unpack_hi16(a[2 * i], a[2 * i + 1]);
    }
    for (int i = 0; i < 8; i += 4)
        for (int j = 0; j < 2; j++) {
            c[i + 2 * j] = unpack_lo32(b[i + j], b[i + j + 2]);
            c[i + 2 * j + 1] = unpack_hi32(b[i + j], b[i + j + 2]);
        }
    for (int i = 0; i < 4; i++) {
        a[2 * i] = unpack_lo64(c[i], c[i + 4]);
        a[2 * i + 1] = unpack_hi64(c[i], c[i + 4]);
    }
}

INLINE F32 unpack_lo(F32 a, F32 b) { return (F32)unpack_lo32((I16)a, (I16)b); }
INLINE F32 unpack_hi(F32 a, F32 b) { return (F32)unpack_hi32((I16)a, (I16)b); }

// In each 128-bit part, turn four vectors of four floats by 90 degrees.
INLINE void transpose4(F32 x[4]) {
    F32 a = unpack_lo(x[0], x[1]), b = unpack_hi(x[0], x[1]), c = unpack_lo(x[2], x[3]), d = unpack_hi(x[2], x[3]);
    x[0] = (F32)unpack_lo64((I16)a, (I16)c);
    x[1] = (F32)unpack_hi64((I16)a, (I16)c);
    x[2] = (F32)unpack_lo64((I16)b, (I16)d);
    x[3] = (F32)unpack_hi64((I16)b, (I16)d);
}

// Elements 0, 2, 4... and 1, 3, 5... of 2 * HALF floats; and back.
#if LANES == 32
INLINE void split_pairs(F32 a, F32 b, F32& even, F32& odd) {
    const __m512i first = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    even = _mm512_permutex2var_ps(a, first, b);
    odd = _mm512_permutex2var_ps(a, _mm512_or_si512(first, _mm512_set1_epi32(1)), b);
}
// Each element one place on, the last of `before` comes in first; or one back, the first of `after` comes in last.
INLINE F32 shifted_right(F32 before, F32 a) { return (F32)_mm512_alignr_epi32((__m512i)a, (__m512i)before, 15); }
INLINE F32 shifted_left(F32 a, F32 after) { return (F32)_mm512_alignr_epi32((__m512i)after, (__m512i)a, 1); }
INLINE void interleave(F32 a, F32 b, float* out) {
    const __m512i first = _mm512_setr_epi32(0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
    store(out, _mm512_permutex2var_ps(a, first, b));
    store(out + HALF, _mm512_permutex2var_ps(a, _mm512_add_epi32(first, _mm512_set1_epi32(8)), b));
}
// Every element twice.
INLINE void double_each(F32 x, float* out) {
    const __m512i first = _mm512_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7);
    store(out, _mm512_permutexvar_ps(first, x));
    store(out + HALF, _mm512_permutexvar_ps(_mm512_or_si512(first, _mm512_set1_epi32(8)), x));
}
INLINE I32 load_bytes(const uint8_t* p) { return (I32)_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i*)p)); }
#elif X86 && LANES == 16
INLINE void split_pairs(F32 a, F32 b, F32& even, F32& odd) {
    auto turn = [](__m256 x) { return (F32)_mm256_permute4x64_pd((__m256d)x, 0xD8); };
    even = turn(_mm256_shuffle_ps(a, b, 0x88));
    odd = turn(_mm256_shuffle_ps(a, b, 0xDD));
}
// Each element one place on, the last of `before` comes in first; or one back, the first of `after` comes in last.
INLINE F32 shifted_right(F32 before, F32 a) {
    __m256i middle = _mm256_permute2x128_si256((__m256i)before, (__m256i)a, 0x21);
    return (F32)_mm256_alignr_epi8((__m256i)a, middle, 12);
}
INLINE F32 shifted_left(F32 a, F32 after) {
    __m256i middle = _mm256_permute2x128_si256((__m256i)a, (__m256i)after, 0x21);
    return (F32)_mm256_alignr_epi8(middle, (__m256i)a, 4);
}
INLINE void interleave(F32 a, F32 b, float* out) {
    F32 lo = unpack_lo(a, b), hi = unpack_hi(a, b);
    store(out, _mm256_permute2f128_ps(lo, hi, 0x20));
    store(out + HALF, _mm256_permute2f128_ps(lo, hi, 0x31));
}
// Every element twice.
INLINE void double_each(F32 x, float* out) {
    store(out, _mm256_permutevar8x32_ps(x, _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3)));
    store(out + HALF, _mm256_permutevar8x32_ps(x, _mm256_setr_epi32(4, 4, 5, 5, 6, 6, 7, 7)));
}
INLINE I32 load_bytes(const uint8_t* p) { return (I32)_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i*)p)); }
#else
INLINE void split_pairs(F32 a, F32 b, F32& even, F32& odd) {
    even = (F32)SHUFFLE(I32, (I32)a, (I32)b, 0, 2, 4, 6);
    odd = (F32)SHUFFLE(I32, (I32)a, (I32)b, 1, 3, 5, 7);
}
INLINE F32 shifted_right(F32 before, F32 a) { return (F32)SHUFFLE(I32, (I32)before, (I32)a, 3, 4, 5, 6); }
INLINE F32 shifted_left(F32 a, F32 after) { return (F32)SHUFFLE(I32, (I32)a, (I32)after, 1, 2, 3, 4); }
INLINE void interleave(F32 a, F32 b, float* out) {
    store(out, unpack_lo(a, b));
    store(out + HALF, unpack_hi(a, b));
}
INLINE void double_each(F32 x, float* out) { interleave(x, x, out); }
INLINE I32 load_bytes(const uint8_t* p) { return __builtin_convertvector(load<HalfU8>(p), I32); }
#endif

}  // namespace NAMESPACE
