// A group of THREADS for a token m: what the sublayer reads of its streams [N, W], after its norm,
// rounded as MLX's norm rounds. Each 32 sum by themselves, then all have each sum of these. The
// group's last thread also makes post and comb, with ITERS steps of Sinkhorn as PlainMixing does them.
const uint lane = thread_position_in_grid.x;
const uint m = thread_position_in_grid.y;
const uint first = m * (2 + N) * N;  // of the token's scores

float pre[N];
for (uint j = 0; j < N; ++j)
    pre[j] = 1 / (1 + exp(-(scores[first + j] * scale[0] + base[j]))) + eps;

float own[(W + THREADS - 1) / THREADS];
float squares = 0;
for (uint d = lane; d < W; d += THREADS) {
    float total = 0;
    for (uint j = 0; j < N; ++j) total += pre[j] * float(streams[(m * N + j) * W + d]);
    own[d / THREADS] = float(T(total));
    squares += own[d / THREADS] * own[d / THREADS];
}
threadgroup float parts[THREADS / 32];
squares = simd_sum(squares);
if (lane % 32 == 0) parts[lane / 32] = squares;
threadgroup_barrier(mem_flags::mem_threadgroup);
float sum = 0;
for (uint part = 0; part < THREADS / 32; ++part) sum += parts[part];
const float factor = 1 / sqrt(sum / W + norm_eps);
for (uint d = lane; d < W; d += THREADS)
    x[m * W + d] = T(float(T(own[d / THREADS] * factor)) * float(weight[d]));
if (lane != THREADS - 1) return;

for (uint j = 0; j < N; ++j) {
    const float score = scores[first + N + j] * scale[1] + base[N + j];
    post[m * N + j] = 2 / (1 + exp(-score));
}
float mix[N][N];
for (uint j = 0; j < N; ++j) {
    float top = 0, row = 0;
    for (uint k = 0; k < N; ++k) {
        const uint at = (2 + j) * N + k;
        mix[j][k] = scores[first + at] * scale[2] + base[at];
        top = k == 0 ? mix[j][k] : max(top, mix[j][k]);
    }
    for (uint k = 0; k < N; ++k) {
        mix[j][k] = exp(mix[j][k] - top);
        row += mix[j][k];
    }
    for (uint k = 0; k < N; ++k) mix[j][k] = mix[j][k] / row + eps;
}
for (int step = 0; step < ITERS; ++step) {
    for (uint j = 0; step > 0 && j < N; ++j) {  // the softmax was the first step's rows
        float row = eps;
        for (uint k = 0; k < N; ++k) row += mix[j][k];
        for (uint k = 0; k < N; ++k) mix[j][k] /= row;
    }
    for (uint k = 0; k < N; ++k) {
        float column = eps;
        for (uint j = 0; j < N; ++j) column += mix[j][k];
        for (uint j = 0; j < N; ++j) mix[j][k] /= column;
    }
}
for (uint j = 0; j < N; ++j)
    for (uint k = 0; k < N; ++k) comb[(m * N + j) * N + k] = mix[j][k];
