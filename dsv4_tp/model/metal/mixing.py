"""Hyper-connections in two kernels a sublayer; see `PlainMixing` for what they compute."""

import mlx.core as mx

from dsv4_tp.model.metal.kernel import kernel
from dsv4_tp.model.mixing import Mix
from dsv4_tp.modelspec import ModelSpec

_THREADS = 256  # of a group, all of one token


class MetalMixing:
    """By kernels of Metal, a thread for each channel of a token."""

    def __init__(self, spec: ModelSpec) -> None:
        """Kernels are compiled when they first run; where there is no Metal they fail then."""
        self.n, self.iters, self.eps = spec.hc_mult, spec.hc_sinkhorn_iters, mx.array(spec.hc_eps)
        given = ["streams", "scores", "scale", "base", "eps"]
        self._collapse = kernel("collapse", given, ["x", "post", "comb"])
        self._write_back = kernel("write_back", ["x", "streams", "post", "comb"], ["out"])

    def collapse(
        self, streams: mx.array, scores: mx.array, scale: mx.array, base: mx.array
    ) -> tuple[mx.array, Mix]:
        """See Mixing."""
        batch, length, n, width = streams.shape
        x, post, comb = self._collapse(
            inputs=[streams, scores, scale, base, self.eps],
            template=[("T", streams.dtype), ("N", n), ("ITERS", self.iters)],
            grid=(width, batch * length, 1),
            threadgroup=(_THREADS, 1, 1),
            output_shapes=[(batch, length, width), (batch, length, n), (batch, length, n, n)],
            output_dtypes=[streams.dtype, mx.float32, mx.float32],
        )
        return x, Mix(post, comb)

    def write_back(self, x: mx.array, streams: mx.array, mix: Mix) -> mx.array:
        """See Mixing."""
        batch, length, n, width = streams.shape
        (out,) = self._write_back(
            inputs=[x, streams, mix.post, mix.comb],
            template=[("T", streams.dtype), ("N", n)],
            grid=(width, batch * length, 1),
            threadgroup=(_THREADS, 1, 1),
            output_shapes=[streams.shape],
            output_dtypes=[streams.dtype],
        )
        return out
