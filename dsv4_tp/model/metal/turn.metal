// 32 threads for a row of x [rows, W]: with NORM its RMSNorm, then its last R channels turned in pairs.
// Rounded as MLX's norm and the plain turn round. HEADS rows belong to a token, and have its turn.
const uint lane = thread_position_in_grid.x;
const uint row = thread_position_in_grid.y;
const uint first = row * W;
const uint turn = row / HEADS % (table_shape[0] * table_shape[1]) * R;

float factor = 1;
if (NORM) {
    float sum = 0;
    for (uint d = lane; d < W; d += 32) sum += float(x[first + d]) * float(x[first + d]);
    factor = 1 / sqrt(simd_sum(sum) / W + eps);
}
for (uint d = lane; d < W - R; d += 32) {
    const T own = x[first + d];
    out[first + d] = NORM ? T(float(T(float(own) * factor)) * float(weight[d])) : own;
}
for (uint d = W - R + 2 * lane; d < W; d += 64) {
    float a = float(x[first + d]), b = float(x[first + d + 1]);
    if (NORM) {
        a = float(T(float(T(a * factor)) * float(weight[d])));
        b = float(T(float(T(b * factor)) * float(weight[d + 1])));
    }
    const uint at = turn + d - (W - R);
    out[first + d] = T(a * table[at] - b * table[at + 1]);
    out[first + d + 1] = T(a * table[at + 1] + b * table[at]);
}
