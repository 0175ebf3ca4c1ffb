"""Hyper-connections in two kernels a sublayer; see `PlainMixing` for what they compute."""

import mlx.core as mx

from dsv4_tp.model.metal.kernel import kernel, scalar
from dsv4_tp.model.mixing import Mix, Norm
from dsv4_tp.modelspec import ModelSpec

_THREADS = 256  # of a group, all of one token; a multiple of 32


class MetalMixing:
    """By kernels of Metal, a group of threads or more for each token."""

    def __init__(self, spec: ModelSpec) -> None:
        """Kernels are compiled when they first run; where there is no Metal they fail then."""
        self.n, self.iters, self.eps = spec.hc_mult, spec.hc_sinkhorn_iters, scalar(spec.hc_eps)
        given = ["streams", "scores", "scale", "base", "eps", "weight", "norm_eps"]
        self._collapse = kernel("collapse", given, ["x", "post", "comb"])
        self._write_back = kernel("write_back", ["x", "streams", "post", "comb"], ["out"])

    def collapse(
        self, streams: mx.array, scores: mx.array, scale: mx.array, base: mx.array, norm: Norm
    ) -> tuple[mx.array, Mix]:
        """See Mixing."""
        batch, length, n, width = streams.shape
        sizes = [("N", n), ("W", width), ("ITERS", self.iters), ("THREADS", _THREADS)]
        x, post, comb = self._collapse(
            inputs=[streams, scores, scale, base, self.eps, norm.weight, scalar(norm.eps)],
            template=[("T", streams.dtype), *sizes],
            grid=(_THREADS, batch * length, 1),
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
