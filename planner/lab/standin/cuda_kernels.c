/* The gates' kernels on the host's memory, each as plain as its comment in planner/probe/kernels/NAME.ptx. Threads of a
   GPU share the work in strides; here one loop does all of it, which gives the same words. */
#include "cuda.h"

#define P(n) (*(Pointer *)p[n])
#define U(n) (*(uint32_t *)p[n])
#define F(n) (*(float *)p[n])
#define WORDS(n) ((uint32_t *)(uintptr_t)P(n))
#define NEED(address, size) do { if (!mapped(address, size)) return ILLEGAL_ADDRESS; } while (0)

enum { CHAINS = 16, WARP_WORDS = 1024, REPORT_BYTES = 40, REPORT_WORDS = 10 };
#define WARP_OPERATIONS (4.0 * 2 * 16 * 16 * 16)    /* of one warp in one round */
#define LATENCY_NS 5000.0

/* The proof of planner 0.1: threads beyond the launch do not run. */
static int mix(void **p, uint32_t threads, struct output *out) {
    uint32_t seed = U(1), count = threads < U(2) ? threads : U(2), rounds = U(3);
    NEED(P(0), (size_t)count * 4);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t x = seed ^ (i * 0x9E3779B9U);
        for (uint32_t round = 0; round < rounds; round++) {
            x ^= x << 13;
            x ^= x >> 17;
            x ^= x << 5;
            x = x * 0x85EBCA6BU + 0xC2B2AE35U;
        }
        WORDS(0)[i] = x;
    }
    *out = (struct output){WORDS(0), count};
    return SUCCESS;
}

static int empty(void **p, uint32_t threads, struct output *out) {
    (void)p, (void)threads, (void)out;
    count_latency(LATENCY_NS);
    return SUCCESS;
}

static int tick(void **p, uint32_t threads, struct output *out) {
    NEED(P(0), 8);
    *(uint64_t *)WORDS(0) += threads;
    count_latency(LATENCY_NS);
    if (*(uint64_t *)WORDS(0) == threads)       /* the first since it was cleared: two wrong bits would be none */
        *out = (struct output){WORDS(0), 2};
    return SUCCESS;
}

static uint32_t pattern(uint32_t i, uint32_t kind, uint32_t seed, uint32_t mask) {
    uint32_t x = seed;
    if (kind == 1) {
        x = 1U << ((i + seed) & 31);
    } else if (kind == 2) {
        x = i + seed;
    } else if (kind == 3) {
        x ^= (i & 4095) * 0x9E3779B9U;
        x = (x ^ x >> 16) * 0x85EBCA6BU;
        x = (x ^ x >> 13) * 0xC2B2AE35U;
        x = ((x ^ x >> 16) >> 1) + (i >> 12);
    }
    return x ^ mask;
}

static int fill(void **p, uint32_t threads, struct output *out) {
    uint32_t *words = WORDS(0), n = U(1);
    (void)threads;
    NEED(P(0), (size_t)n * 4);
    for (uint32_t i = 0; i < n; i++)
        words[i] = pattern(i, U(2), U(3), U(4));
    count_work(MEMORY, 4.0 * n);
    *out = (struct output){words, n};
    return SUCCESS;
}

/* Add one word to a report: mismatches, words read, their sum, lowest wrong index, wrong bits. */
static void compare(uint64_t *report, uint32_t i, uint32_t have, uint32_t want) {
    report[1]++;
    report[2] += have;
    if (have == want)
        return;
    report[0]++;
    if (i < report[3])
        report[3] = i;
    *(uint32_t *)&report[4] |= have ^ want;
}

static int check(void **p, uint32_t threads, struct output *out) {
    const uint32_t *words = WORDS(0), n = U(1);
    (void)threads;
    NEED(P(0), (size_t)n * 4);
    NEED(P(5), REPORT_BYTES);
    for (uint32_t i = 0; i < n; i++)
        compare((uint64_t *)WORDS(5), i, words[i], pattern(i, U(2), U(3), U(4)));
    count_work(MEMORY, 4.0 * n);
    *out = (struct output){WORDS(5), REPORT_WORDS};
    return SUCCESS;
}

static int same(void **p, uint32_t threads, struct output *out) {
    const uint32_t *words = WORDS(0), n = U(1);
    (void)threads;
    NEED(P(0), (size_t)n * 4);
    NEED(P(3), REPORT_BYTES);
    for (uint32_t i = 0; i < n; i++)
        compare((uint64_t *)WORDS(3), i, words[i], words[i & U(2)]);
    count_work(MEMORY, 4.0 * n);
    *out = (struct output){WORDS(3), REPORT_WORDS};
    return SUCCESS;
}

static int sum(void **p, uint32_t threads, struct output *out) {
    const uint32_t *words = WORDS(0), n = U(1);
    uint64_t *report = (uint64_t *)WORDS(2);
    (void)threads;
    NEED(P(0), (size_t)n * 4);
    NEED(P(2), REPORT_BYTES);
    for (uint32_t i = 0; i < n; i++) {
        report[0] += words[i];
        report[1] += (uint64_t)words[i] * (i + 1);
    }
    report[2] += n;
    count_work(MEMORY, 4.0 * n);
    *out = (struct output){WORDS(2), 6};
    return SUCCESS;
}

static int factors(void **p, uint32_t threads, struct output *out) {
    float *left = (float *)WORDS(0), *right = (float *)WORDS(1);
    uint32_t n = U(2);
    (void)threads;
    NEED(P(0), (size_t)n * 4);
    NEED(P(1), (size_t)n * 4);
    for (uint32_t i = 0; i < n; i++) {
        uint32_t x = pattern(i & 4095, 3, U(3), 0);
        left[i] = (float)(x & 0xFFF);
        right[i] = (float)(x >> 12 & 0xFFF);
    }
    count_work(MEMORY, 8.0 * n);
    *out = (struct output){WORDS(0), n};
    return SUCCESS;
}

static int vector(void **p, uint32_t threads, struct output *out) {
    const float *left = (float *)WORDS(0), *right = (float *)WORDS(1);
    uint32_t n = U(3);
    (void)threads;
    NEED(P(0), (size_t)n * 4);
    NEED(P(1), (size_t)n * 4);
    NEED(P(2), (size_t)n * 4);
    for (uint32_t i = 0; i < n; i++)
        WORDS(2)[i] = (uint32_t)(left[i] * right[i] + (float)(i >> 12 & 4095));
    count_work(MEMORY, 12.0 * n);
    count_latency(LATENCY_NS);
    *out = (struct output){WORDS(2), n};
    return SUCCESS;
}

static int copy(void **p, uint32_t threads, struct output *out) {
    size_t size = (size_t)U(2) * 16;
    (void)threads;
    NEED(P(0), size);
    NEED(P(1), size);
    memmove(WORDS(0), WORDS(1), size);
    count_work(MEMORY, 2.0 * (double)size);
    *out = (struct output){WORDS(0), size / 4};
    return SUCCESS;
}

static void chains(uint32_t threads, uint32_t seed, uint32_t rounds, float a, float b, uint64_t *report) {
    for (uint32_t i = 0; i < threads; i++) {
        float x[CHAINS];
        for (uint32_t j = 0; j < CHAINS; j++)
            x[j] = (float)((seed + i + 4097 * j) & 0xFFFF);
        for (uint32_t round = 0; round < rounds; round++)
            for (uint32_t j = 0; j < CHAINS; j++)
                x[j] = x[j] * a + b;
        for (uint32_t j = 0; j < CHAINS; j++)
            report[0] += (uint32_t)x[j];
    }
    report[1] += threads;
    count_work(SCALAR, 2.0 * CHAINS * rounds * threads);
}

static int multiply_add(void **p, uint32_t threads, struct output *out) {
    NEED(P(4), REPORT_BYTES);
    chains(threads, U(0), U(1), F(2), F(3), (uint64_t *)WORDS(4));
    *out = (struct output){WORDS(4), 1};
    return SUCCESS;
}

/* A 16-bit float; the matrices hold small integers, so infinities and the smallest numbers do not come up. */
static float half(uint16_t bits) {
    uint32_t wide = (uint32_t)(bits & 0x8000) << 16 | ((bits & 0x7FFFU) ? ((bits & 0x7FFFU) << 13) + (112U << 23) : 0);
    float value;
    memcpy(&value, &wide, sizeof value);
    return value;
}

/* Four sums of products, 16x16 each: left by rows, right by columns. */
static void products_f16(const uint16_t *left, const uint16_t *right, float *out, uint32_t rounds) {
    float a[256], b[1024];
    for (int i = 0; i < 256; i++)
        a[i] = half(left[i]);
    for (int i = 0; i < 1024; i++)
        b[i] = half(right[i]);
    for (int at = 0; at < WARP_WORDS; at++) {
        const float *row = a + 16 * (at >> 4 & 15), *column = b + 256 * (at >> 8) + 16 * (at & 15);
        float value = 0;
        for (uint32_t round = 0; round < rounds; round++)
            for (int k = 0; k < 16; k++)
                value += row[k] * column[k];
        out[at] = value;
    }
}

static void products_s8(const int8_t *left, const int8_t *right, int32_t *out, uint32_t rounds) {
    for (int at = 0; at < WARP_WORDS; at++) {
        const int8_t *row = left + 16 * (at >> 4 & 15), *column = right + 256 * (at >> 8) + 16 * (at & 15);
        int32_t value = 0;
        for (uint32_t round = 0; round < rounds; round++)
            for (int k = 0; k < 16; k++)
                value += row[k] * column[k];
        out[at] = value;
    }
}

static int wmma_f16(void **p, uint32_t threads, struct output *out) {
    uint32_t warps = threads / 32;
    NEED(P(0), 512);
    NEED(P(1), 4 * 512);
    NEED(P(2), (size_t)warps * WARP_WORDS * 4);
    for (uint32_t warp = 0; warp < warps; warp++)
        products_f16((uint16_t *)WORDS(0), (uint16_t *)WORDS(1), (float *)WORDS(2) + warp * WARP_WORDS, U(3));
    count_work(TENSOR_F16, WARP_OPERATIONS * U(3) * warps);
    *out = (struct output){WORDS(2), (size_t)warps * WARP_WORDS};
    return SUCCESS;
}

static int wmma_s8(void **p, uint32_t threads, struct output *out) {
    uint32_t warps = threads / 32;
    NEED(P(0), 256);
    NEED(P(1), 4 * 256);
    NEED(P(2), (size_t)warps * WARP_WORDS * 4);
    for (uint32_t warp = 0; warp < warps; warp++)
        products_s8((int8_t *)WORDS(0), (int8_t *)WORDS(1), (int32_t *)WORDS(2) + warp * WARP_WORDS, U(3));
    count_work(TENSOR_S8, WARP_OPERATIONS * U(3) * warps);
    *out = (struct output){WORDS(2), (size_t)warps * WARP_WORDS};
    return SUCCESS;
}

/* Both in one launch. Cycles are those of a multiprocessor whose Tensor Cores are eight times as fast as its scalar
   units, or, where a test turns them off, as fast; each warp starts one cycle after the one before. */
static int ratio(void **p, uint32_t threads, struct output *out) {
    uint32_t warps = threads / 32;
    uint64_t *stamps = (uint64_t *)WORDS(9), speed = value_of("tensor_cores_off", physical(), 0) ? 256 : 2048;
    uint64_t tensor = (uint64_t)(WARP_OPERATIONS * U(3) * 16) / speed, scalar = 2ULL * CHAINS * U(5) * 512 / 256;
    NEED(P(8), REPORT_BYTES);
    NEED(P(9), (size_t)warps * 32);
    int bad = wmma_f16(p, threads, out);
    if (bad)
        return bad;
    chains(threads, U(4), U(5), F(6), F(7), (uint64_t *)WORDS(8));
    uint64_t last = warps - 1;      /* each comes a cycle after the one before; a loop begins when the last has come */
    for (uint32_t warp = 0; warp < warps; warp++) {
        stamps[4 * warp] = 100 + warp;
        stamps[4 * warp + 1] = last + 100 + tensor;
        stamps[4 * warp + 2] = 500 + tensor + warp;
        stamps[4 * warp + 3] = last + 500 + tensor + scalar;
    }
    return SUCCESS;
}

static const struct kernel KERNELS[] = {
    {"planner_mix", mix}, {"planner_empty", empty}, {"planner_tick", tick}, {"planner_fill", fill},
    {"planner_check", check}, {"planner_same", same}, {"planner_sum", sum}, {"planner_factors", factors},
    {"planner_vector", vector}, {"planner_copy", copy}, {"planner_fma", multiply_add}, {"planner_wmma_f16", wmma_f16},
    {"planner_wmma_s8", wmma_s8}, {"planner_ratio", ratio},
};

const struct kernel *find_kernel(const char *name) {
    for (size_t i = 0; i < sizeof KERNELS / sizeof *KERNELS; i++)
        if (!strcmp(KERNELS[i].name, name))
            return &KERNELS[i];
    return NULL;
}
