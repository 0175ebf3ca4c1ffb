// One thread for a channel d of a token m: all its streams anew. The sum runs over comb's rows.
const uint d = thread_position_in_grid.x;
const uint m = thread_position_in_grid.y;
const uint D = streams_shape[3];

float old[N];
for (uint j = 0; j < N; ++j) old[j] = float(streams[(m * N + j) * D + d]);
const float own = float(x[m * D + d]);
for (uint k = 0; k < N; ++k) {
    float sum = post[m * N + k] * own;
    for (uint j = 0; j < N; ++j) sum += comb[(m * N + j) * N + k] * old[j];
    out[(m * N + k) * D + d] = T(sum);
}
