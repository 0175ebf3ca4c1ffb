"""Counts what a decoded token costs: operations per layer, collectives, bytes on the wire.

Counts do not depend on how fast this machine is, so they can be compared between machines and
between projects. `--json` prints one line; without it, a table beside the figures of others.

Operations are the operation nodes of `mx.export_to_dot` for one decoder layer of the demo model,
one sequence, one new token, on a warm cache: what its output and its new cache need. Arrays that
are evaluated already, such as weights, are inputs and no operations. The usual step completes no
window; the dearest one completes a window of the layer's compressor, and is counted apart.
A run of elementwise operations that was fused is one node, as it is one kernel of a GPU.

`primitives_per_layer` and `primitives_dearest_step` are in bfloat16, as on a Mac with `kernels:
metal`: functions are fused, and a custom kernel counts as one. `primitives_without_kernels` is the
same with `kernels: plain`. A norm, for which MLX has a kernel of its own on a GPU, is thirteen
operations on a CPU, and is counted as these, as in the figures of others. `primitives_on_a_gpu` and
`primitives_on_a_gpu_without_kernels` are the same two with one operation for a norm.
`primitives_here` is in the dtype that this machine's backend is used with, and as it runs here.

Collectives and bytes are those of `benchmarks.traffic`.
"""

import argparse
import io
import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from unittest.mock import patch

import mlx.core as mx

from benchmarks import traffic
from dsv4_tp import demo
from dsv4_tp.core import AttentionSplit, DType
from dsv4_tp.model import LayerCache
from dsv4_tp.model.block import Block
from dsv4_tp.model.fused import fused_everywhere
from dsv4_tp.model.mixing import Mix, Norm
from dsv4_tp.model.turning import Turns
from dsv4_tp.parallel import load_rank

RANKS = (1, 2, 3, 4, 8)
# Past the demo's window and with more compressed rows than its indexer takes.
USUAL_POSITION = 132
DEAREST_POSITION = 255  # 256 is a multiple of both ratios
_OPERATION = re.compile(r"shape ?= ?rectangle")

# From other projects' published or measured figures for DeepSeek-V4, and our targets.
PEERS = {
    "primitives_per_layer": ("480 / 550 / 482", "150 or less each"),
    "collectives_per_token": ("86", "87 or less"),
    "collectives_whole_attention": ("43", "44 or less"),
    "wire_bytes_per_token": ("2 ranks: 0.70 to 1.67 MB", "2 ranks: 0.71 MB or less"),
}


Count = Callable[[Block, mx.array, LayerCache], int]


@dataclass(frozen=True, slots=True)
class Counts:
    """The result; keys are compress ratios or numbers of ranks, as JSON wants them: strings."""

    primitives_per_layer: dict[str, int]
    primitives_without_kernels: dict[str, int]
    primitives_on_a_gpu: dict[str, int]
    primitives_on_a_gpu_without_kernels: dict[str, int]
    primitives_here: dict[str, int]
    primitives_dearest_step: dict[str, int]
    collectives_per_token: dict[str, float]
    collectives_whole_attention: dict[str, float]
    wire_bytes_per_token: dict[str, float]
    wire_bytes_whole_attention: dict[str, float]
    demo_collectives_per_token: dict[str, float]
    demo_wire_bytes_per_token: dict[str, float]
    demo_collectives_whole_attention: dict[str, float]


def primitives(
    dtype: DType, position: int, count: Count, model_dir: Path | None = None
) -> dict[str, int]:
    """Operations of a layer for the token at `position`, by compress ratio; else of the demo's."""
    loaded = load_rank(model_dir or demo.path(), None, dtype=dtype)
    model, spec = loaded.model, loaded.spec
    cache = model.make_cache()
    mx.eval(model(_ids(position), cache), cache.arrays())
    return {
        str(ratio): count(model.layers[layer], model.embedded(_ids(1)), cache[layer])
        for layer, ratio in enumerate(spec.compress_ratios)
    }


def here(layer: Block, streams: mx.array, cache: LayerCache) -> int:
    """As on this machine's backend."""
    token = _ids(1)
    mx.eval(streams, token)
    return operations(layer(streams, token, cache), *cache.state)


def fused(layer: Block, streams: mx.array, cache: LayerCache) -> int:
    """As by default on a Mac."""
    with fused_everywhere():
        return here(layer, streams, cache)


def by_kernels(layer: Block, streams: mx.array, cache: LayerCache) -> int:
    """As with `kernels: metal`."""
    layer.graphs = layer.attn.graphs = None  # as with kernels
    layer.hc_attn.mixing = layer.hc_ffn.mixing = layer.attn.rope.turning = kernels = Kernels()
    token = _ids(1)
    mx.eval(streams, token)
    with fused_everywhere():
        layer(streams, token, cache)
    return operations(*kernels.given, *cache.state) + kernels.calls


def on_a_gpu(count: Count) -> Count:
    """`count`, where a norm is one operation."""

    def counted(layer: Block, streams: mx.array, cache: LayerCache) -> int:
        with patch.object(mx.fast, "rms_norm", _one_operation):
            return count(layer, streams, cache)

    return counted


def _one_operation(x: mx.array, weight: mx.array | None, eps: float) -> mx.array:
    """Stands in for a norm: as many rows, of one operation."""
    return mx.negative(x)


class Kernels:
    """Stands in for the kernels of a Mac: counts them, and keeps what they are given.

    What they make is there at once, so that nothing before them is counted with what follows.
    """

    def __init__(self) -> None:
        self.calls = 0
        self.given: list[mx.array] = []

    def collapse(
        self, streams: mx.array, scores: mx.array, scale: mx.array, base: mx.array, norm: Norm
    ) -> tuple[mx.array, Mix]:
        """See Mixing."""
        *batch, n, width = streams.shape
        x = self._made((*batch, width), streams.dtype, streams, scores, scale, base, norm.weight)
        post, comb = (self._made((*batch, *shape), mx.float32) for shape in ((n,), (n, n)))
        self.calls += 1
        return x, Mix(post, comb)

    def write_back(self, x: mx.array, streams: mx.array, mix: Mix) -> mx.array:
        """See Mixing."""
        self.calls += 1
        return self._made(streams.shape, streams.dtype, x, streams, *mix)

    def table(self, turns: Turns) -> mx.array:
        """See Turning."""
        return mx.array(turns)

    def turned(self, x: mx.array, table: mx.array) -> mx.array:
        """See Turning."""
        self.calls += 1
        return self._made(x.shape, x.dtype, x, table)

    def normed(self, x: mx.array, weight: mx.array | None, eps: float, table: mx.array) -> mx.array:
        """See Turning."""
        return self.turned(x, table)

    def _made(self, shape: tuple[int, ...], dtype: mx.Dtype, *given: mx.array) -> mx.array:
        self.given += given
        made = mx.zeros(shape, dtype)
        mx.eval(made)
        return made


def _ids(count: int) -> mx.array:
    """Printable bytes, [1, count]."""
    return mx.arange(count, dtype=mx.int32)[None] % 94 + 3


def operations(*outputs: mx.array) -> int:
    """The operations that are still to be done for `outputs`."""
    dot = io.StringIO()
    mx.export_to_dot(dot, *outputs)
    return len(_OPERATION.findall(dot.getvalue()))


def count(ranks: tuple[int, ...]) -> Counts:
    """All counts, the traffic for these numbers of ranks."""
    own = DType.FLOAT32 if mx.default_device() == mx.cpu else DType.BFLOAT16
    split, whole = AttentionSplit
    measured, measured_whole = (
        {n: traffic.checked(n, way) for n in ranks} for way in (split, whole)
    )
    flash, flash_whole = ({n: traffic.of_flash(n, way) for n in ranks} for way in (split, whole))
    return Counts(
        primitives_per_layer=primitives(DType.BFLOAT16, USUAL_POSITION, by_kernels),
        primitives_without_kernels=primitives(DType.BFLOAT16, USUAL_POSITION, fused),
        primitives_on_a_gpu=primitives(DType.BFLOAT16, USUAL_POSITION, on_a_gpu(by_kernels)),
        primitives_on_a_gpu_without_kernels=primitives(
            DType.BFLOAT16, USUAL_POSITION, on_a_gpu(fused)
        ),
        primitives_here=primitives(own, USUAL_POSITION, here),
        primitives_dearest_step=primitives(DType.BFLOAT16, DEAREST_POSITION, by_kernels),
        collectives_per_token=traffic.collectives_by_ranks(flash),
        collectives_whole_attention=traffic.collectives_by_ranks(flash_whole),
        wire_bytes_per_token=traffic.wire_bytes_by_ranks(flash),
        wire_bytes_whole_attention=traffic.wire_bytes_by_ranks(flash_whole),
        demo_collectives_per_token=traffic.collectives_by_ranks(measured),
        demo_wire_bytes_per_token=traffic.wire_bytes_by_ranks(measured),
        demo_collectives_whole_attention=traffic.collectives_by_ranks(measured_whole),
    )


def table(counts: Counts) -> str:
    """The counts for a person, beside what others need and what we aim at."""
    lines = [_row("by compress ratio", " / ".join(counts.primitives_here), "others", "target")]
    for key, values in asdict(counts).items():
        if key == "collectives_per_token":
            lines += ["", _row("by number of ranks", " / ".join(values), "others", "target")]
        lines.append(
            _row(key, " / ".join(f"{n:.0f}" for n in values.values()), *PEERS.get(key, ()))
        )
    return "\n".join(lines)


def _row(name: str, ours: str, others: str = "", target: str = "") -> str:
    return f"{name:38}{ours:42}{others:36}{target}".rstrip()


def main() -> None:
    """Count and print."""
    parser = argparse.ArgumentParser(description="Count what a decoded token costs.")
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    parser.add_argument("--ranks", type=int, nargs="+", default=RANKS, help="default: 1 2 3 4 8")
    arguments = parser.parse_args()
    counts = count(tuple(arguments.ranks))
    print(json.dumps(asdict(counts)) if arguments.json else table(counts))


if __name__ == "__main__":
    main()
