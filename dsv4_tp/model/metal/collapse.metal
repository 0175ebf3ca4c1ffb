// One thread for a channel d of a token m: what the sublayer reads of it. The token's first thread
// also makes post and comb. N streams, ITERS steps of Sinkhorn, as PlainMixing does them.
const uint d = thread_position_in_grid.x;
const uint m = thread_position_in_grid.y;
const uint D = streams_shape[3];
const uint first = m * (2 + N) * N;  // of the token's scores

float total = 0;
for (uint j = 0; j < N; ++j) {
    const float score = scores[first + j] * scale[0] + base[j];
    total += (1 / (1 + exp(-score)) + eps) * float(streams[(m * N + j) * D + d]);
}
x[m * D + d] = T(total);
if (d != 0) return;

for (uint j = 0; j < N; ++j) {
    const float score = scores[first + N + j] * scale[1] + base[N + j];
    post[m * N + j] = 2 / (1 + exp(-score));
}
float mix[N][N];
for (uint j = 0; j < N; ++j) {
    float top = 0, sum = 0;
    for (uint k = 0; k < N; ++k) {
        const uint at = (2 + j) * N + k;
        mix[j][k] = scores[first + at] * scale[2] + base[at];
        top = k == 0 ? mix[j][k] : max(top, mix[j][k]);
    }
    for (uint k = 0; k < N; ++k) {
        mix[j][k] = exp(mix[j][k] - top);
        sum += mix[j][k];
    }
    for (uint k = 0; k < N; ++k) mix[j][k] = mix[j][k] / sum + eps;
}
for (int step = 0; step < ITERS; ++step) {
    for (uint j = 0; step > 0 && j < N; ++j) {  // the softmax was the first step's rows
        float sum = eps;
        for (uint k = 0; k < N; ++k) sum += mix[j][k];
        for (uint k = 0; k < N; ++k) mix[j][k] /= sum;
    }
    for (uint k = 0; k < N; ++k) {
        float sum = eps;
        for (uint j = 0; j < N; ++j) sum += mix[j][k];
        for (uint j = 0; j < N; ++j) mix[j][k] /= sum;
    }
}
for (uint j = 0; j < N; ++j)
    for (uint k = 0; k < N; ++k) comb[(m * N + j) * N + k] = mix[j][k];
