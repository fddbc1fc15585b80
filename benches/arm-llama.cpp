// Calls one of llama.cpp's products once, for benches/arm.py to count its instructions:
// `llama NAME ROWS WEIGHTS`, with 1,024 columns. vec_dot takes a row of weights and one of activations at a time,
// gemv one row of activations, gemm four.
#include <cstdlib>
#include <cstring>

extern "C" {
#define VEC_DOT(t, q) void ggml_vec_dot_##t##_##q(int, float *, size_t, const void *, size_t, const void *, size_t, int);
#define REPACKED(t, q) \
    void ggml_gemv_##t##_##q(int, float *, size_t, const void *, const void *, int, int); \
    void ggml_gemm_##t##_##q(int, float *, size_t, const void *, const void *, int, int);
VEC_DOT(q4_0, q8_0) VEC_DOT(q4_1, q8_1) VEC_DOT(q5_0, q8_0) VEC_DOT(q5_1, q8_1) VEC_DOT(q8_0, q8_0)
VEC_DOT(q4_K, q8_K) VEC_DOT(q5_K, q8_K) VEC_DOT(q6_K, q8_K)
REPACKED(q4_0_4x4, q8_0) REPACKED(q8_0_4x4, q8_0) REPACKED(q4_K_8x4, q8_K) REPACKED(q5_K_8x4, q8_K)
REPACKED(q6_K_8x4, q8_K)
}

static char w[1 << 20], x[1 << 20];
static float y[1 << 16];

int main(int argc, char **argv) {
    if (argc != 4) return 64;
    const char *name = argv[1];
    const int rows = atoi(argv[2]), weights = atoi(argv[3]), cols = 1024;
#define RUN_DOT(t, q) \
    if (!strcmp(name, "vec_dot_" #t)) \
        for (int r = 0; r < rows; r++) \
            for (int i = 0; i < weights; i++) ggml_vec_dot_##t##_##q(cols, y + i, 0, w + i * 2048, 0, x + r * 2048, 0, 1);
#define RUN_REPACKED(t, q) \
    if (!strcmp(name, "gemv_" #t)) ggml_gemv_##t##_##q(cols, y, weights, w, x, 1, weights); \
    if (!strcmp(name, "gemm_" #t)) ggml_gemm_##t##_##q(cols, y, weights, w, x, rows, weights);
    RUN_DOT(q4_0, q8_0) RUN_DOT(q4_1, q8_1) RUN_DOT(q5_0, q8_0) RUN_DOT(q5_1, q8_1) RUN_DOT(q8_0, q8_0)
    RUN_DOT(q4_K, q8_K) RUN_DOT(q5_K, q8_K) RUN_DOT(q6_K, q8_K)
    RUN_REPACKED(q4_0_4x4, q8_0) RUN_REPACKED(q8_0_4x4, q8_0) RUN_REPACKED(q4_K_8x4, q8_K)
    RUN_REPACKED(q5_K_8x4, q8_K) RUN_REPACKED(q6_K_8x4, q8_K)
    return y[0] != 0;
}
