"""The counting bench counts what it says."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import mlx.core as mx
import pytest

from benchmarks import counts, runs, traffic
from dsv4_tp import demo
from dsv4_tp.core import AttentionSplit, DType
from dsv4_tp.model import LayerCache
from dsv4_tp.model.block import Block
from dsv4_tp.parallel import load_rank

ROOT = Path(counts.__file__).parents[1]


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DSV4TP_STATE_DIR", str(tmp_path / "state"))


def test_operations_are_counted_and_evaluated_inputs_are_not():
    x = mx.array([1.0, 2.0])
    mx.eval(x)
    assert counts.operations(x) == 0
    assert counts.operations(mx.exp(mx.abs(x))) == 2
    shared = mx.abs(x)
    assert counts.operations(mx.exp(shared), mx.sin(shared)) == 3


def test_a_compiled_function_is_one_operation():
    x = mx.array([1.0, 2.0])
    mx.eval(x)
    assert counts.operations(mx.compile(lambda y: mx.exp(mx.abs(y)))(x)) == 1


@pytest.mark.parametrize("way", [counts.here, counts.by_kernels])
def test_a_step_that_completes_windows_costs_more(way: counts.Count):
    usual = counts.primitives(DType.FLOAT32, counts.USUAL_POSITION, way)
    dearest = counts.primitives(DType.FLOAT32, counts.DEAREST_POSITION, way)
    assert usual.keys() == dearest.keys() == {"0", "4", "128"}
    # Where the ring begins anew, its rows come in two runs that are joined.
    assert 0 < usual["0"] <= dearest["0"] + 2 <= usual["0"] + 4
    assert (usual["4"] < dearest["4"], usual["128"] < dearest["128"]) == (True, True)


@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++, which MLX compiles by")
@pytest.mark.parametrize(
    ("place", "dtype", "way"),
    [
        ("primitives_per_layer", DType.BFLOAT16, counts.by_kernels),
        ("primitives_without_kernels", DType.BFLOAT16, counts.fused),
        ("primitives_on_a_gpu", DType.BFLOAT16, counts.on_a_gpu(counts.by_kernels)),
        ("primitives_here", DType.FLOAT32, counts.here),
    ],
)
def test_no_layer_takes_more_operations_than_were_published(
    place: str, dtype: DType, way: counts.Count
):
    found = counts.primitives(dtype, counts.USUAL_POSITION, way)
    published = runs.published()
    assert found.keys() == published["counts"][place].keys()
    assert runs.excess({"counts": {place: found}}, published) == []


def test_a_norm_is_one_operation_of_a_gpu():
    def norm(layer: Block, streams: mx.array, _cache: LayerCache) -> int:
        return counts.operations(layer.attn_norm(streams))

    layer, cache = (
        load_rank(demo.path(), None, dtype=DType.BFLOAT16).model.layers[0],
        LayerCache(4, 0),
    )
    streams = mx.ones((1, 1, 256), dtype=mx.bfloat16)
    mx.eval(streams)
    assert (counts.on_a_gpu(norm)(layer, streams, cache), norm(layer, streams, cache)) == (1, 13)


def test_kernels_are_counted_with_what_they_are_given():
    layer = load_rank(demo.path(), None, dtype=DType.FLOAT32).model.layers[0]
    kernels = counts.Kernels()
    layer.hc_attn.mixing = kernels
    streams = mx.zeros((1, 1, 4, 256)) + 1
    x, _ = layer.hc_attn(streams, layer.attn_norm)
    assert (kernels.calls, counts.operations(x)) == (1, 0)
    # The streams and the scores were still to be made.
    assert counts.operations(streams) < counts.operations(*kernels.given)


def test_traffic_by_design():
    flash = {"layers": 43, "hidden": 4096, "value_bytes": 2}
    assert traffic.expected(ranks=1, **flash) == traffic.Traffic(0, 0)
    # 86 all-reduces of 8 KiB, or half of them, and a packet of 12 bytes
    assert traffic.expected(ranks=2, **flash) == traffic.Traffic(87, 704_524)
    whole = {"attention": AttentionSplit.WHOLE}
    assert traffic.expected(ranks=2, **flash, **whole) == traffic.Traffic(44, 352_268)


@pytest.mark.cluster
def test_the_ledgers_of_real_ranks_agree_with_the_design():
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.counts", "--json", "--ranks", "2"],
        check=True,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        timeout=200,
    )
    (line,) = done.stdout.splitlines()
    result = json.loads(line)
    assert result["demo_collectives_per_token"] == {"2": 7}
    assert result["demo_wire_bytes_per_token"] == {"2": 6 * 256 * 4 + 12}
    assert result["demo_collectives_whole_attention"] == {"2": 4}
    assert result["collectives_per_token"] == {"2": 87}
    assert result["collectives_whole_attention"] == {"2": 44}
    assert result["primitives_per_layer"].keys() == {"0", "4", "128"}
    assert runs.excess({"counts": result}, runs.published()) == []
