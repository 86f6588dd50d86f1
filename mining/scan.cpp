// The compiled core of mining: 8-bit products that rule out almost every pair, float32 for those that are left, exact
// cosines in float64, and the greedy walk of one-to-one choice. Called through ctypes by native.py, which says what
// every argument means. No function here allocates more than a few hundred bytes, knows threads, or throws.
//
// Why the result is exact although 8-bit codes are not: every row is a code times a step plus a remainder whose length
// is known. By Cauchy and Schwarz the codes' product plus terms that belong to the row alone and to the column alone is
// an upper bound of the cosine (exact.py derives it). A pair is only left out when that bound is below the worst of the
// neighbours that both its row and its column already have.

#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__x86_64__) || defined(_M_X64)
#define X86 1
#include <immintrin.h>
#endif

namespace {

constexpr int ROWS = 12;     // rows of a tile
constexpr int COLUMNS = 32;  // columns of a tile
constexpr int PORTABLE = 0, AVX2 = 1, VNNI = 2;

float half_to_float(uint16_t half) {
    const uint32_t sign = static_cast<uint32_t>(half & 0x8000u) << 16;
    const uint32_t exponent = (half >> 10) & 0x1fu, fraction = half & 0x3ffu;
    float value;
    if (exponent == 0) {
        value = std::ldexp(static_cast<float>(fraction), -24);
    } else {
        const uint32_t bits = (exponent == 31 ? 0x7f800000u : (exponent + 112) << 23) | (fraction << 13);
        std::memcpy(&value, &bits, 4);
    }
    uint32_t bits;
    std::memcpy(&bits, &value, 4);
    bits |= sign;
    std::memcpy(&value, &bits, 4);
    return value;
}

// What a tile needs of its rows, or of its columns. The bound of a pair is start + codes' products, times both steps,
// plus both terms; a pair is of interest from the lower of both floors on.
struct Edge {
    const int32_t* start;  // of rows only
    const float* step;
    const float* term;
    const float* floor;
};

// Tiles: out[r][c] = bound; bit c of reached[r] tells whether it is of interest. Returns whether any is; `out` is only
// written then. The columns' codes are unsigned.

bool tile_portable(const int8_t* x, int64_t stride, const uint8_t* y, int64_t fours, const Edge& rows,
                   const Edge& columns, float* out, uint32_t* reached) {
    int32_t sum[ROWS][COLUMNS];
    for (int r = 0; r < ROWS; r++)
        for (int c = 0; c < COLUMNS; c++) sum[r][c] = rows.start[r];
    for (int64_t four = 0; four < fours; four++) {
        const uint8_t* column = y + four * COLUMNS * 4;
        for (int r = 0; r < ROWS; r++) {
            const int8_t* row = x + r * stride + four * 4;
            for (int c = 0; c < COLUMNS; c++)
                sum[r][c] += row[0] * column[4 * c] + row[1] * column[4 * c + 1] + row[2] * column[4 * c + 2] +
                             row[3] * column[4 * c + 3];
        }
    }
    uint32_t any = 0;
    for (int r = 0; r < ROWS; r++) {
        reached[r] = 0;
        for (int c = 0; c < COLUMNS; c++) {
            const float bound =
                static_cast<float>(sum[r][c]) * (rows.step[r] * columns.step[c]) + (rows.term[r] + columns.term[c]);
            const float floor = rows.floor[r] < columns.floor[c] ? rows.floor[r] : columns.floor[c];
            reached[r] |= static_cast<uint32_t>(bound >= floor) << c;
            out[r * COLUMNS + c] = bound;
        }
        any |= reached[r];
    }
    return any;
}

#ifdef X86

// Column codes are at most 127, so that the sums of two products that vpmaddubsw makes fit 16 bits.
__attribute__((target("avx2,fma"))) bool tile_avx2(const int8_t* x, int64_t stride, const uint8_t* y, int64_t fours,
                                                   const Edge& rows, const Edge& columns, float* out,
                                                   uint32_t* reached) {
    const __m256i ones = _mm256_set1_epi16(1);
    uint32_t any = 0;
    for (int first = 0; first < ROWS; first += 2) {
        __m256i sum[2][4];
        for (int r = 0; r < 2; r++)
            for (int v = 0; v < 4; v++) sum[r][v] = _mm256_set1_epi32(rows.start[first + r]);
        const int8_t* top = x + first * stride;
        for (int64_t four = 0; four < fours; four++) {
            __m256i column[4];
            for (int v = 0; v < 4; v++)
                column[v] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(y + four * COLUMNS * 4 + 32 * v));
            for (int r = 0; r < 2; r++) {
                int32_t codes;
                std::memcpy(&codes, top + r * stride + four * 4, 4);
                const __m256i row = _mm256_set1_epi32(codes);
                for (int v = 0; v < 4; v++)
                    sum[r][v] = _mm256_add_epi32(
                        sum[r][v], _mm256_madd_epi16(_mm256_maddubs_epi16(column[v], row), ones));
            }
        }
        for (int r = 0; r < 2; r++) {
            const int at = first + r;
            const __m256 step = _mm256_set1_ps(rows.step[at]), term = _mm256_set1_ps(rows.term[at]);
            uint32_t bits = 0;
            for (int v = 0; v < 4; v++) {
                const __m256 bound = _mm256_fmadd_ps(_mm256_cvtepi32_ps(sum[r][v]),
                                                     _mm256_mul_ps(step, _mm256_loadu_ps(columns.step + 8 * v)),
                                                     _mm256_add_ps(term, _mm256_loadu_ps(columns.term + 8 * v)));
                const __m256 floor =
                    _mm256_min_ps(_mm256_set1_ps(rows.floor[at]), _mm256_loadu_ps(columns.floor + 8 * v));
                bits |= static_cast<uint32_t>(_mm256_movemask_ps(_mm256_cmp_ps(bound, floor, _CMP_GE_OQ))) << (8 * v);
                _mm256_storeu_ps(out + at * COLUMNS + 8 * v, bound);
            }
            reached[at] = bits;
            any |= bits;
        }
    }
    return any;
}

__attribute__((target("avx512f,avx512bw,avx512vnni"))) bool tile_vnni(const int8_t* x, int64_t stride,
                                                                      const uint8_t* y, int64_t fours,
                                                                      const Edge& rows, const Edge& columns,
                                                                      float* out, uint32_t* reached) {
    __m512i sum[ROWS][2];
#pragma GCC unroll 12
    for (int r = 0; r < ROWS; r++) sum[r][0] = sum[r][1] = _mm512_set1_epi32(rows.start[r]);
    for (int64_t four = 0; four < fours; four++) {
        const __m512i column0 = _mm512_loadu_si512(y + four * 128), column1 = _mm512_loadu_si512(y + four * 128 + 64);
#pragma GCC unroll 12
        for (int r = 0; r < ROWS; r++) {
            int32_t codes;
            std::memcpy(&codes, x + r * stride + four * 4, 4);
            const __m512i row = _mm512_set1_epi32(codes);
            // not intrinsics: with those GCC 12 keeps sums on the stack, at half the speed
            asm("vpdpbusd %2, %1, %0" : "+v"(sum[r][0]) : "v"(column0), "v"(row));
            asm("vpdpbusd %2, %1, %0" : "+v"(sum[r][1]) : "v"(column1), "v"(row));
        }
    }
    const __m512 step0 = _mm512_loadu_ps(columns.step), step1 = _mm512_loadu_ps(columns.step + 16);
    const __m512 term0 = _mm512_loadu_ps(columns.term), term1 = _mm512_loadu_ps(columns.term + 16);
    const __m512 floor0 = _mm512_loadu_ps(columns.floor), floor1 = _mm512_loadu_ps(columns.floor + 16);
    uint32_t any = 0;
#pragma GCC unroll 12
    for (int r = 0; r < ROWS; r++) {
        const __m512 step = _mm512_set1_ps(rows.step[r]), term = _mm512_set1_ps(rows.term[r]);
        const __m512 floor = _mm512_set1_ps(rows.floor[r]);
        const __m512 bound0 =
            _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[r][0]), _mm512_mul_ps(step, step0), _mm512_add_ps(term, term0));
        const __m512 bound1 =
            _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum[r][1]), _mm512_mul_ps(step, step1), _mm512_add_ps(term, term1));
        const uint32_t low = _mm512_cmp_ps_mask(bound0, _mm512_min_ps(floor, floor0), _CMP_GE_OQ);
        const uint32_t high = _mm512_cmp_ps_mask(bound1, _mm512_min_ps(floor, floor1), _CMP_GE_OQ);
        reached[r] = low | high << 16;
        any |= reached[r];
        sum[r][0] = _mm512_castps_si512(bound0);
        sum[r][1] = _mm512_castps_si512(bound1);
    }
    if (!any) return false;
#pragma GCC unroll 12
    for (int r = 0; r < ROWS; r++) {
        _mm512_storeu_ps(out + r * COLUMNS, _mm512_castsi512_ps(sum[r][0]));
        _mm512_storeu_ps(out + r * COLUMNS + 16, _mm512_castsi512_ps(sum[r][1]));
    }
    return true;
}

#endif

using Tile = bool (*)(const int8_t*, int64_t, const uint8_t*, int64_t, const Edge&, const Edge&, float*, uint32_t*);

Tile tile_of(int isa) {
#ifdef X86
    if (isa == VNNI) return tile_vnni;
    if (isa == AVX2) return tile_avx2;
#endif
    return tile_portable;
}

// Inner products in float32 with 64 partial sums: |error| <= (dim / 64 + 8) * 2^-24 * |x| |y|.

template <class Row>
float value_at(const Row* row, int64_t place);
template <>
inline float value_at(const float* row, int64_t place) {
    return row[place];
}
template <>
inline float value_at(const uint16_t* row, int64_t place) {
    return half_to_float(row[place]);
}

template <class X, class Y>
float dot_portable(const X* x, const Y* y, int64_t dim) {
    float sum[64] = {};
    int64_t place = 0;
    for (; place + 64 <= dim; place += 64)
        for (int lane = 0; lane < 64; lane++) sum[lane] += value_at(x, place + lane) * value_at(y, place + lane);
    for (int lane = 0; place + lane < dim; lane++) sum[lane] += value_at(x, place + lane) * value_at(y, place + lane);
    for (int width = 32; width; width /= 2)
        for (int lane = 0; lane < width; lane++) sum[lane] += sum[lane + width];
    return sum[0];
}

#ifdef X86

#define WIDE __attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni"), always_inline)) inline
WIDE __m512 load16(const float* row, __mmask16 mask) { return _mm512_maskz_loadu_ps(mask, row); }
WIDE __m512 load16(const uint16_t* row, __mmask16 mask) {
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(mask, row));
}

template <class X, class Y>
__attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni"))) float dot_avx512(const X* x, const Y* y, int64_t dim) {
    __m512 sum[4] = {_mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps(), _mm512_setzero_ps()};
    int64_t place = 0;
    for (; place + 64 <= dim; place += 64)
        for (int v = 0; v < 4; v++)
            sum[v] = _mm512_fmadd_ps(load16(x + place + 16 * v, 0xffff), load16(y + place + 16 * v, 0xffff), sum[v]);
    for (; place < dim; place += 16) {
        const __mmask16 mask = dim - place >= 16 ? 0xffff : static_cast<__mmask16>((1u << (dim - place)) - 1);
        sum[0] = _mm512_fmadd_ps(load16(x + place, mask), load16(y + place, mask), sum[0]);
    }
    return _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(sum[0], sum[1]), _mm512_add_ps(sum[2], sum[3])));
}

__attribute__((target("avx2,fma,f16c"), always_inline)) inline __m256 load8(const float* row) {
    return _mm256_loadu_ps(row);
}
__attribute__((target("avx2,fma,f16c"), always_inline)) inline __m256 load8(const uint16_t* row) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(row)));
}

template <class X, class Y>
__attribute__((target("avx2,fma,f16c"))) float dot_avx2(const X* x, const Y* y, int64_t dim) {
    __m256 sum[8];
    for (int v = 0; v < 8; v++) sum[v] = _mm256_setzero_ps();
    int64_t place = 0;
    for (; place + 64 <= dim; place += 64)
        for (int v = 0; v < 8; v++)
            sum[v] = _mm256_fmadd_ps(load8(x + place + 8 * v), load8(y + place + 8 * v), sum[v]);
    for (int v = 4; v; v /= 2)
        for (int left = 0; left < v; left++) sum[left] = _mm256_add_ps(sum[left], sum[left + v]);
    float lanes[8], total = 0;
    _mm256_storeu_ps(lanes, sum[0]);
    for (float lane : lanes) total += lane;
    return total + dot_portable(x + place, y + place, dim - place);
}

#endif

template <class X, class Y>
float dot(int isa, const X* x, const Y* y, int64_t dim) {
#ifdef X86
    if (isa == VNNI) return dot_avx512(x, y, dim);
    if (isa == AVX2) return dot_avx2(x, y, dim);
#endif
    return dot_portable(x, y, dim);
}

// A row's best candidates: a heap whose first is the worst, which is the lowest score, the highest index among equals.
bool worse(float score, int64_t index, float than, int64_t than_index) {
    return score < than || (score == than && index > than_index);
}

void replace_worst(float* score, int64_t* index, int64_t width, float new_score, int64_t new_index) {
    int64_t hole = 0;
    for (;;) {
        int64_t child = 2 * hole + 1;
        if (child >= width) break;
        if (child + 1 < width && worse(score[child + 1], index[child + 1], score[child], index[child])) child++;
        if (!worse(score[child], index[child], new_score, new_index)) break;
        score[hole] = score[child];
        index[hole] = index[child];
        hole = child;
    }
    score[hole] = new_score;
    index[hole] = new_index;
}

struct Side {
    const void* rows;
    int64_t half;         // rows are float16 rather than float32
    const int64_t* row;   // number of each scanned row in `rows`
    const float* scale;   // one over the norm, by scanned row
    const int32_t* start;  // these four by scanned row, padded to whole tiles
    const float* step;
    const float* term;
    float* floor;
    const float* lost;   // these two by scanned row: how much lower the bound of a pair is than the tile says is
    const float* spare;  // one side's `lost` times the other's `spare`, and the other way round
    float* score;         // (scanned rows, width) heaps
    int64_t* index;
    int64_t width;
    int64_t first;  // number that the first scanned row has in the other side's `index`
};

template <class X, class Y>
int64_t scan(int isa, int64_t dim, int64_t padded, const int8_t* x_codes, const uint8_t* y_codes,
             const Side& x, const Side& y, int64_t begin, int64_t end, int64_t columns, uint8_t* locks) {
    const Tile tile = tile_of(isa);
    const X* x_rows = static_cast<const X*>(x.rows);
    const Y* y_rows = static_cast<const Y*>(y.rows);
    alignas(64) float bound[ROWS * COLUMNS];
    uint32_t reached[ROWS];
    int64_t scored = 0;
    for (int64_t left = 0; left < columns; left += COLUMNS) {
        const uint8_t* strip = y_codes + left * padded;
        const uint32_t present = columns - left < COLUMNS ? (1u << (columns - left)) - 1 : ~0u;
        const Edge edge = {nullptr, y.step + left, y.term + left, y.floor + left};
        for (int64_t top = begin; top < end; top += ROWS) {
            if (!tile(x_codes + top * padded, padded, strip, padded / 4,
                      {x.start + top, x.step + top, x.term + top, x.floor + top}, edge, bound, reached))
                continue;
            const int64_t bottom = end - top < ROWS ? end - top : ROWS;
            for (int64_t r = 0; r < bottom; r++) {
                const int64_t i = top + r;
                for (uint32_t bits = reached[r] & present; bits; bits &= bits - 1) {
                    const int64_t c = __builtin_ctz(bits), j = left + c;
                    const float most = bound[r * COLUMNS + c] - x.lost[i] * y.spare[j] - x.spare[i] * y.lost[j];
                    if (most < x.floor[i] && most < y.floor[j]) continue;
                    const float score = dot(isa, x_rows + x.row[i] * dim, y_rows + y.row[j] * dim, dim) * x.scale[i] *
                                        y.scale[j];
                    scored++;
                    if (x.width && score >= x.floor[i]) {
                        float* own = x.score + i * x.width;
                        int64_t* own_index = x.index + i * x.width;
                        if (worse(own[0], own_index[0], score, y.first + j)) {
                            replace_worst(own, own_index, x.width, score, y.first + j);
                            if (own[0] > x.floor[i]) x.floor[i] = own[0];
                        }
                    }
                    if (y.width && score >= y.floor[j]) {  // a stale floor is only ever lower
                        float* other = y.score + j * y.width;
                        int64_t* other_index = y.index + j * y.width;
                        while (__atomic_test_and_set(locks + j, __ATOMIC_ACQUIRE)) {
                        }
                        if (worse(other[0], other_index[0], score, x.first + i)) {
                            replace_worst(other, other_index, y.width, score, x.first + i);
                            if (other[0] > y.floor[j]) y.floor[j] = other[0];
                        }
                        __atomic_clear(locks + j, __ATOMIC_RELEASE);
                    }
                }
            }
        }
    }
    return scored;
}

#define IN_PLACE __attribute__((always_inline)) inline  // so that it is compiled for its caller's instruction set

// In place: values of each block of `block` (a power of two) by the orthonormal Walsh-Hadamard matrix.
IN_PLACE void hadamard(float* values, int64_t size, int64_t block) {
    for (int64_t begin = 0; begin < size; begin += block)
        for (int64_t half = 1; half < block; half *= 2)
            for (int64_t group = begin; group < begin + block; group += 2 * half)
                for (int64_t place = group; place < group + half; place++) {
                    const float a = values[place], b = values[place + half];
                    values[place] = a + b;
                    values[place + half] = a - b;
                }
    const float shrink = 1.0f / std::sqrt(static_cast<float>(block));
    for (int64_t place = 0; place < size; place++) values[place] *= shrink;
}

// Sums in float64 in 32 lanes: dimension d goes to lane d mod 32, in order, and lanes are added pairwise. The product of
// two float32 is exact in float64, so fused or not, on any processor and from either side, the bits are the same.
template <class X, class Y>
double sum_lanes(double* lanes, const X* x, const Y* y, int64_t left) {
    for (int64_t lane = 0; lane < left; lane++)
        lanes[lane] += static_cast<double>(value_at(x, lane)) * static_cast<double>(value_at(y, lane));
    for (int width = 16; width; width /= 2)
        for (int lane = 0; lane < width; lane++) lanes[lane] += lanes[lane + width];
    return lanes[0];
}

template <class X, class Y>
double dot_exact(const X* x, const Y* y, int64_t dim) {
    double sum[32] = {};
    int64_t place = 0;
    for (; place + 32 <= dim; place += 32)
        for (int lane = 0; lane < 32; lane++)
            sum[lane] += static_cast<double>(value_at(x, place + lane)) * static_cast<double>(value_at(y, place + lane));
    return sum_lanes(sum, x + place, y + place, dim - place);
}

#ifdef X86

template <class X, class Y>
__attribute__((target("avx2,fma,f16c"))) double dot_exact_avx2(const X* x, const Y* y, int64_t dim) {
    __m256d sum[8];
    for (int v = 0; v < 8; v++) sum[v] = _mm256_setzero_pd();
    int64_t place = 0;
    for (; place + 32 <= dim; place += 32)
        for (int v = 0; v < 4; v++) {
            const __m256 a = load8(x + place + 8 * v), b = load8(y + place + 8 * v);
            sum[2 * v] = _mm256_fmadd_pd(_mm256_cvtps_pd(_mm256_castps256_ps128(a)),
                                         _mm256_cvtps_pd(_mm256_castps256_ps128(b)), sum[2 * v]);
            sum[2 * v + 1] = _mm256_fmadd_pd(_mm256_cvtps_pd(_mm256_extractf128_ps(a, 1)),
                                             _mm256_cvtps_pd(_mm256_extractf128_ps(b, 1)), sum[2 * v + 1]);
        }
    double lanes[32];
    for (int v = 0; v < 8; v++) _mm256_storeu_pd(lanes + 4 * v, sum[v]);
    return sum_lanes(lanes, x + place, y + place, dim - place);
}

WIDE __m256 load8_wide(const float* row) { return _mm256_loadu_ps(row); }
WIDE __m256 load8_wide(const uint16_t* row) {
    return _mm256_maskz_cvtph_ps(0xff, _mm_loadu_si128(reinterpret_cast<const __m128i*>(row)));
}

template <class X, class Y>
__attribute__((target("avx512f,avx512bw,avx512vl,avx512vnni"))) double dot_exact_avx512(const X* x, const Y* y,
                                                                                     int64_t dim) {
    __m512d sum[4] = {_mm512_setzero_pd(), _mm512_setzero_pd(), _mm512_setzero_pd(), _mm512_setzero_pd()};
    int64_t place = 0;
    for (; place + 32 <= dim; place += 32)
        for (int v = 0; v < 4; v++)
            sum[v] = _mm512_fmadd_pd(_mm512_cvtps_pd(load8_wide(x + place + 8 * v)),
                                     _mm512_cvtps_pd(load8_wide(y + place + 8 * v)), sum[v]);
    double lanes[32];
    for (int v = 0; v < 4; v++) _mm512_storeu_pd(lanes + 8 * v, sum[v]);
    return sum_lanes(lanes, x + place, y + place, dim - place);
}

#endif

constexpr int64_t AHEAD = 2;  // rows that are fetched from memory before their turn

inline void fetch(const void* row, int64_t bytes) {
    for (int64_t line = 0; line < bytes; line += 64) __builtin_prefetch(static_cast<const char*>(row) + line);
}

template <class X, class Y>
void score_exactly(int isa, const X* x, const Y* y, int64_t dim, const int64_t* x_row, const double* x_scale,
                   const double* y_scale, const int64_t* y_row, int64_t count, int64_t each, float* out) {
    for (int64_t i = 0; i < count; i++) {
        const X* row = x + x_row[i] * dim;
        for (int64_t c = 0; c < each; c++) {
            const int64_t at = i * each + c, j = y_row[at];
            if (at + AHEAD < count * each) fetch(y + y_row[at + AHEAD] * dim, dim * static_cast<int64_t>(sizeof(Y)));
            double sum;
#ifdef X86
            if (isa == VNNI)
                sum = dot_exact_avx512(row, y + j * dim, dim);
            else if (isa == AVX2)
                sum = dot_exact_avx2(row, y + j * dim, dim);
            else
#endif
                sum = dot_exact(row, y + j * dim, dim);
            // one product of the scales first: it is the same from both sides
            const double cosine = sum * (x_scale[x_row[i]] * y_scale[j]);
            out[at] = static_cast<float>(cosine > 1 ? 1 : cosine < -1 ? -1 : cosine);
        }
    }
}

#ifdef X86
__attribute__((target("avx2,f16c"))) void widen_avx2(const uint16_t* row, int64_t dim, float* out) {
    int64_t d = 0;
    for (; d + 8 <= dim; d += 8)
        _mm256_storeu_ps(out + d, _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(row + d))));
    for (; d < dim; d++) out[d] = half_to_float(row[d]);
}
#endif

void widen(int, const float* row, int64_t dim, float* out) { std::memcpy(out, row, dim * sizeof(float)); }

void widen(int isa, const uint16_t* row, int64_t dim, float* out) {
#ifdef X86
    if (isa != PORTABLE) return widen_avx2(row, dim, out);
#endif
    for (int64_t d = 0; d < dim; d++) out[d] = half_to_float(row[d]);
}

template <class Number>
IN_PLACE double sum_of(const Number* lanes, int count) {
    double sum = 0;
    for (int lane = 0; lane < count; lane++) sum += lanes[lane];
    return sum;
}

constexpr double CLIP = 4;  // standard deviations that the largest code stands for; what is beyond is a remainder too

template <class Row>
IN_PLACE void encode(int isa, const Row* rows, int64_t dim, int64_t padded, const int64_t* row, const double* scale,
            int64_t count, const float* mean, const double* other_mean, const float* signs, int64_t block,
            int32_t levels, int32_t zero, int64_t packed, uint8_t* codes, int64_t first, int32_t* sums, double* about,
            float* scratch) {
    constexpr float whole = 12582912.0f;  // 1.5 * 2^23: what is added to it loses its fraction, to nearest even
    const float most = static_cast<float>(levels);
    for (int64_t i = 0; i < count; i++) {
        widen(isa, rows + row[i] * dim, dim, scratch);
        const double unit = scale[row[i]];
        double towards[8] = {};
        for (int64_t d = 0; d < dim; d++) {
            const double value = static_cast<double>(scratch[d]) * unit;
            towards[d % 8] += value * other_mean[d];
            scratch[d] = (static_cast<float>(value) - mean[d]) * signs[d];
        }
        std::memset(scratch + dim, 0, (padded - dim) * sizeof(float));
        hadamard(scratch, padded, block);
        float squares[16] = {}, largest[16] = {}, lost[16] = {}, size[16] = {}, sum[16] = {};
        for (int64_t d = 0; d < padded; d += 16)
            for (int lane = 0; lane < 16; lane++) {
                const float value = scratch[d + lane], length = value < 0 ? -value : value;
                squares[lane] += value * value;
                largest[lane] = largest[lane] < length ? length : largest[lane];
            }
        float top = static_cast<float>(CLIP * std::sqrt(sum_of(squares, 16) / static_cast<double>(padded)));
        float longest = 0;
        for (float one : largest) longest = longest < one ? one : longest;
        if (longest < top) top = longest;
        const float step = top > 1e-12f ? top / most : 1e-12f, per_step = 1.0f / step;
        for (int64_t d = 0; d < padded; d += 16)
            for (int lane = 0; lane < 16; lane++) {
                const float exact = scratch[d + lane], steps = exact * per_step;
                float code = (steps > most ? most : steps < -most ? -most : steps) + whole;
                code -= whole;
                const float near = code * step, rest = exact - near;
                lost[lane] += rest * rest;
                size[lane] += near * near;
                sum[lane] += code;
                scratch[d + lane] = code;
            }
        const int64_t place = first + i;
        if (packed) {
            uint8_t* out = codes + place / COLUMNS * COLUMNS * padded + place % COLUMNS * 4;
            for (int64_t d = 0; d < padded; d += 4)
                for (int64_t of = 0; of < 4; of++)
                    out[d * COLUMNS + of] = static_cast<uint8_t>(static_cast<int32_t>(scratch[d + of]) + zero);
        } else {
            uint8_t* out = codes + place * padded;
            for (int64_t d = 0; d < padded; d++)
                out[d] = static_cast<uint8_t>(static_cast<int32_t>(scratch[d]) + zero);
        }
        sums[i] = static_cast<int32_t>(sum_of(sum, 16));
        about[4 * i] = sum_of(towards, 8);
        // float32 sums of dim / 16 squares are right to dim / 16 * 2^-24: at most 1.3e-4 for 32,768 dimensions
        about[4 * i + 1] = std::sqrt(sum_of(lost, 16)) * (1 + 2e-4);
        about[4 * i + 2] = std::sqrt(sum_of(size, 16)) * (1 + 2e-4);
        about[4 * i + 3] = step;
    }
}

template <class... Arguments>
void encode_portable(Arguments... arguments) {
    encode(arguments...);
}

#ifdef X86
template <class... Arguments>
__attribute__((target("avx2,fma"))) void encode_avx2(Arguments... arguments) {
    encode(arguments...);
}
#endif

}  // namespace

extern "C" {

int best_isa() {
#ifdef X86
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl"))
        return VNNI;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c")) return AVX2;
#endif
    return PORTABLE;
}

int64_t scan_rows(int isa, int64_t dim, int64_t padded, const int8_t* x_codes, const uint8_t* y_codes, const Side* x,
                  const Side* y, int64_t begin, int64_t end, int64_t columns, uint8_t* locks) {
    const auto of = [&](auto x_value, auto y_value) {
        return scan<decltype(x_value), decltype(y_value)>(isa, dim, padded, x_codes, y_codes, *x, *y, begin, end,
                                                          columns, locks);
    };
    if (x->half) return y->half ? of(uint16_t(), uint16_t()) : of(uint16_t(), float());
    return y->half ? of(float(), uint16_t()) : of(float(), float());
}

void encode_rows(int isa, const void* rows, int64_t half, int64_t dim, int64_t padded, const int64_t* row,
                 const double* scale, int64_t count, const float* mean, const double* other_mean, const float* signs,
                 int64_t block, int32_t levels, int32_t zero, int64_t packed, uint8_t* codes, int64_t first,
                 int32_t* sums, double* about, float* scratch) {
    const auto of = [&](auto values) {
#ifdef X86
        if (isa != PORTABLE)
            return encode_avx2(isa, values, dim, padded, row, scale, count, mean, other_mean, signs, block, levels, zero,
                               packed, codes, first, sums, about, scratch);
#endif
        encode_portable(isa, values, dim, padded, row, scale, count, mean, other_mean, signs, block, levels, zero, packed,
                        codes, first, sums, about, scratch);
    };
    if (half)
        of(static_cast<const uint16_t*>(rows));
    else
        of(static_cast<const float*>(rows));
}

void exact_cosines(int isa, const void* x, int64_t x_half, const void* y, int64_t y_half, int64_t dim,
                   const int64_t* x_row, const double* x_scale, const double* y_scale, const int64_t* y_row,
                   int64_t count, int64_t each, float* out) {
    const auto xh = static_cast<const uint16_t*>(x), yh = static_cast<const uint16_t*>(y);
    const auto xf = static_cast<const float*>(x), yf = static_cast<const float*>(y);
    if (x_half && y_half)
        score_exactly(isa, xh, yh, dim, x_row, x_scale, y_scale, y_row, count, each, out);
    else if (x_half)
        score_exactly(isa, xh, yf, dim, x_row, x_scale, y_scale, y_row, count, each, out);
    else if (y_half)
        score_exactly(isa, xf, yh, dim, x_row, x_scale, y_scale, y_row, count, each, out);
    else
        score_exactly(isa, xf, yf, dim, x_row, x_scale, y_scale, y_row, count, each, out);
}

void hash_rows(const uint8_t* rows, int64_t row_bytes, int64_t count, uint64_t* out) {
    for (int64_t i = 0; i < count; i++) {
        const uint8_t* row = rows + i * row_bytes;
        uint64_t lane[4] = {0x9e3779b97f4a7c15u, 0xbf58476d1ce4e5b9u, 0x94d049bb133111ebu, 0xd6e8feb86659fd93u};
        int64_t place = 0;
        for (; place + 32 <= row_bytes; place += 32)
            for (int l = 0; l < 4; l++) {
                uint64_t word;
                std::memcpy(&word, row + place + 8 * l, 8);
                lane[l] = (lane[l] ^ word) * 0xff51afd7ed558ccdu;
                lane[l] ^= lane[l] >> 32;
            }
        for (; place < row_bytes; place++) lane[place % 4] = (lane[place % 4] ^ row[place]) * 0xc4ceb9fe1a85ec53u;
        uint64_t hash = 0;
        for (uint64_t value : lane) {
            hash = (hash ^ value) * 0xff51afd7ed558ccdu;
            hash ^= hash >> 29;
        }
        out[i] = hash;
    }
}

int64_t first_different(const uint8_t* rows, int64_t row_bytes, const int64_t* one, const int64_t* two, int64_t count) {
    for (int64_t i = 0; i < count; i++)
        if (std::memcmp(rows + one[i] * row_bytes, rows + two[i] * row_bytes, row_bytes)) return i;
    return -1;
}

int64_t walk_one_to_one(const int64_t* src, const int64_t* tgt, int64_t count, uint8_t* src_taken, uint8_t* tgt_taken,
                        int64_t* out) {
    int64_t taken = 0;
    for (int64_t place = 0; place < count; place++)
        if (!src_taken[src[place]] && !tgt_taken[tgt[place]]) {
            src_taken[src[place]] = tgt_taken[tgt[place]] = 1;
            out[taken++] = place;
        }
    return taken;
}

}  // extern "C"
