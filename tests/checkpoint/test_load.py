from collections import Counter
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from dsv4_tp.checkpoint import adopt, read_group
from dsv4_tp.core import DType, ExpertSplit, Part
from dsv4_tp.errors import CheckpointError
from dsv4_tp.layouts import PLAIN as NOT_QUANTISED
from dsv4_tp.layouts import Catalog, catalog, read_headers
from dsv4_tp.modelspec import ModelSpec, Stored, read_spec
from dsv4_tp.pieces import Load, biases_name, plan_loads, scales_name
from dsv4_tp.plan import make_plan
from tests.checkpoint.decode import decoded
from tests.storage_files import (
    BASE,
    CONVERSIONS,
    FP4,
    NATIVE,
    PLAIN,
    RAGGED,
    copy_model,
    read_file,
    write_file,
)

MODELS = [PLAIN, NATIVE, FP4, BASE, RAGGED, *CONVERSIONS]


def found(model_dir: Path) -> tuple[ModelSpec, Catalog]:
    spec = read_spec(model_dir)
    return spec, catalog(spec, read_headers(model_dir), mtp=True)


def parameters(model_dir: Path, part: Part | None = None, dtype: DType = DType.FLOAT32):
    """(load, its parameter, its scales) of all that a rank reads."""
    spec, whole = found(model_dir)
    for group in plan_loads(whole, part or spec.whole, spec).values():
        ready = read_group(group, dtype)
        assert ready.keys() == {name for load in group for name in load.pieces}
        for load in group:
            yield load, ready[load.cut.name], ready.get(scales_name(load.cut.name))


def value(load: Load, weight: mx.array, scales: mx.array | None) -> np.ndarray:
    form = load.source.format
    if scales is not None:
        weight = mx.dequantize(
            weight, scales, group_size=32, bits=form.bits, mode=form.mode, dtype=mx.float32
        )
    return np.array(weight)


def piece(load: Load, files: dict[str, np.ndarray]) -> np.ndarray:
    """What the cut must hold, from the decoded files."""
    tensor, cut = load.source.tensor, load.cut
    names = [entry.name for entry in load.source.weights]
    whole = np.stack([files[n] for n in names]) if len(tensor.shape) == 3 else files[names[0]]
    spans = [cut.rows, cut.columns] if len(tensor.shape) > 1 else [cut.rows]
    spans = [cut.experts, *spans] if len(tensor.shape) == 3 else spans
    return whole[tuple(slice(s.start, s.stop) if s else slice(None) for s in spans)]


@pytest.mark.parametrize(
    ("model_dir", "shares", "split"),
    [
        (PLAIN, [1] * 8, ExpertSplit.WIDTH),
        (PLAIN, [2, 3, 3], ExpertSplit.WHOLE),
        (NATIVE, [3, 5], ExpertSplit.WIDTH),
        (FP4, [1], ExpertSplit.WIDTH),
        (FP4, [1] * 3, ExpertSplit.WIDTH),
        (FP4, [2, 3, 3], ExpertSplit.WHOLE),
        (BASE, [3, 5], ExpertSplit.WIDTH),
        (RAGGED, [1, 1], ExpertSplit.WIDTH),
        (RAGGED, [3, 5], ExpertSplit.WHOLE),
    ],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_each_rank_holds_the_files_values_exactly(
    model_dir: Path, shares: list[int], split: ExpertSplit
) -> None:
    files = decoded(model_dir)
    spec, whole = found(model_dir)
    plan = make_plan(spec, whole, shares, expert_split=split, dtype=DType.FLOAT32)
    for part, held in zip(plan.parts, plan.rank_bytes, strict=True):
        total = 0
        for load, weight, scales in parameters(model_dir, part):
            assert np.array_equal(value(load, weight, scales), piece(load, files)), load.cut
            total += weight.nbytes + (scales.nbytes if scales is not None else 0)
        assert total == held.total


MEET_FLOAT32 = ("gate.weight", "compressor.wkv", "compressor.wgate", "head.weight")


def test_formats_and_dtypes_in_memory() -> None:
    for load, weight, scales in parameters(FP4, dtype=DType.BFLOAT16):
        stored = load.source.tensor.stored
        assert (scales is not None) == (stored in (Stored.FP8, Stored.FP4))
        expected = {Stored.INT: mx.int32, Stored.F32: mx.float32, Stored.BF16: mx.bfloat16}
        wide = any(name in load.cut.name for name in MEET_FLOAT32)
        assert weight.dtype == (mx.float32 if wide else expected.get(stored, mx.uint32))
    kept = {load.cut.name: weight for load, weight, _ in parameters(PLAIN, dtype=DType.BFLOAT16)}
    for name in (
        "layers.2.attn.attn_sink",
        "layers.2.attn.compressor.ape",
        "layers.2.ffn.gate.bias",
        "layers.2.hc_attn.fn",
        "hc_head.base",
    ):
        assert kept[name].dtype == mx.float32
    assert kept["embed.weight"].dtype == mx.bfloat16


def test_a_rank_reads_little_more_than_it_holds() -> None:
    spec, whole = found(FP4)
    one, *_ = make_plan(spec, whole, [1] * 4, expert_split=ExpertSplit.WIDTH).parts
    for group in plan_loads(whole, one, spec).values():
        for load in group:
            weight = load.pieces[load.cut.name]
            cropped = load.cut.columns is not None
            assert weight.span_bytes == weight.nbytes or cropped
            if load.cut.rows and load.source.format != NOT_QUANTISED:
                parts = len(load.cut.rows) / load.source.tensor.shape[-2]
                whole_bytes = sum(entry.nbytes for entry in load.source.weights)
                assert weight.nbytes <= whole_bytes * parts


@pytest.mark.parametrize("model_dir", CONVERSIONS, ids=lambda path: path.name)
@pytest.mark.parametrize("split", ExpertSplit)
def test_two_ranks_read_between_them_what_one_reads(model_dir: Path, split: ExpertSplit) -> None:
    """Of stacked experts and of wo_a in pieces too, their scales and biases among it."""
    spec, whole = found(model_dir)
    read: Counter[str] = Counter()
    for part in make_plan(spec, whole, [1, 1], expert_split=split).parts:
        for load in (load for group in plan_loads(whole, part, spec).values() for load in group):
            if (load.cut.experts or load.cut.rows) and load.cut.columns is None:
                read[load.source.tensor.name] += load.span_bytes
    held = {s.tensor.name: (*s.weights, *s.scales, *s.biases) for s in whole.sources}
    assert read == {name: sum(entry.nbytes for entry in held[name]) for name in read}
    assert {"layers.1.attn.wq_b.weight", "layers.1.attn.wo_a.weight", "head.weight"} <= read.keys()


@pytest.mark.parametrize("model_dir", MODELS, ids=lambda path: path.name)
def test_arrays_that_are_already_loaded_become_the_same_parameters(model_dir: Path) -> None:
    arrays: dict[str, mx.array] = {}
    for file in sorted(model_dir.glob("model*.safetensors")):
        arrays |= mx.load(str(file))
    adopted = adopt(read_spec(model_dir), arrays, mtp=True, dtype=DType.BFLOAT16).parameters
    for load, weight, scales in parameters(model_dir, dtype=DType.BFLOAT16):
        held = adopted.pop(load.cut.name)
        assert held.dtype == weight.dtype
        assert mx.array_equal(held, weight)
        if scales is not None:
            assert mx.array_equal(adopted.pop(scales_name(load.cut.name)), scales)
        assert (adopted.pop(biases_name(load.cut.name), None) is not None) == (
            biases_name(load.cut.name) in load.pieces
        )
    assert not adopted


def test_strangers_among_loaded_arrays_are_refused() -> None:
    arrays = mx.load(str(PLAIN / "model.safetensors"))
    with pytest.raises(CheckpointError, match="stranger"):
        adopt(read_spec(PLAIN), arrays | {"stranger": mx.zeros((2,))})
    with pytest.raises(CheckpointError, match=r"embed\.weight in the given arrays is .*uint16"):
        adopt(read_spec(PLAIN), arrays | {"embed.weight": mx.zeros((80, 48), mx.uint16)})


def test_a_scale_that_mxfp8_cannot_hold(tmp_path: Path) -> None:
    model_dir = copy_model(BASE, tmp_path)
    name = "layers.0.attn.wq_b.scale"
    for file in model_dir.glob("*.safetensors"):
        tensors = read_file(file)
        if name in tensors:
            tensors[name].data = np.full(tensors[name].shape, 3, "<f4").tobytes()
            write_file(file, tensors)
    with pytest.raises(CheckpointError, match=r"layers\.0\.attn\.wq_b\.weight: 8 of 8"):
        list(parameters(model_dir))
