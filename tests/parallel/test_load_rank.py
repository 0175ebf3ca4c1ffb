import gc
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import pytest

from dsv4_tp.core import DType, ExpertSplit, Span
from dsv4_tp.errors import CheckpointError, ModelError
from dsv4_tp.layouts import catalog, native_catalog, read_headers
from dsv4_tp.model import Model
from dsv4_tp.modelspec import read_spec
from dsv4_tp.parallel import load_rank, quantise_as_stored
from dsv4_tp.plan import make_plan
from tests.model.golden import ROOT
from tests.storage_files import BASE, CONVERSIONS, FP4, PLAIN, change_config, copy_model


@pytest.mark.parametrize("dtype", DType)
@pytest.mark.parametrize("model_dir", [PLAIN, FP4, *CONVERSIONS], ids=lambda path: path.name)
def test_a_rank_holds_the_bytes_that_were_planned(model_dir: Path, dtype: DType) -> None:
    spec = read_spec(model_dir)
    found = catalog(spec, read_headers(model_dir), mtp=False)
    plan = make_plan(spec, found, [2, 3, 3], expert_split=ExpertSplit.WIDTH, dtype=dtype)
    for part, held in zip(plan.parts, plan.rank_bytes, strict=True):
        assert load_rank(model_dir, part, dtype=dtype).weight_bytes == held.total


def test_a_rank_of_four_reads_a_part_and_says_how_far_it_is() -> None:
    spec = read_spec(FP4)
    found = catalog(spec, read_headers(FP4), mtp=False)
    plan = make_plan(spec, found, [1] * 4, expert_split=ExpertSplit.WHOLE)
    calls: list[tuple[int, int]] = []
    loaded = load_rank(
        FP4, plan.parts[1], dtype=DType.BFLOAT16, on_bytes=lambda *done: calls.append(done)
    )
    whole = load_rank(FP4, None, dtype=DType.BFLOAT16)
    assert loaded.bytes_read < 0.75 * whole.bytes_read
    assert loaded.bytes_read < 1.1 * loaded.weight_bytes
    assert calls == sorted(calls)
    assert len(calls) > spec.num_hidden_layers
    assert calls[-1] == (loaded.bytes_read, loaded.bytes_read)


def test_no_more_than_a_layer_is_in_flight() -> None:
    largest = 1.1 * load_rank(FP4, None, dtype=DType.BFLOAT16).weight_bytes / 4  # of 4 layers
    gc.collect()
    mx.reset_peak_memory()
    before = mx.get_active_memory()
    loaded = load_rank(FP4, None, dtype=DType.BFLOAT16)
    # Beside the weights there are the tables of compressors that are bundled.
    assert mx.get_active_memory() - before == pytest.approx(loaded.weight_bytes, rel=0.03)
    assert mx.get_peak_memory() - before < loaded.weight_bytes + largest


def test_a_stage_that_is_asked_for_in_vain_is_announced() -> None:
    plain = ROOT / "public/a6_odd_scalars"
    asked, unasked = (load_rank(plain, None, dtype=DType.FLOAT32, mtp=mtp) for mtp in (True, False))
    assert not asked.model.drafts
    assert asked.notes == (*unasked.notes, "the checkpoint has no MTP stage: speculation is off")


def test_quantised_modules_are_those_the_files_hold_quantised() -> None:
    loaded = load_rank(BASE, None, dtype=DType.FLOAT32, mtp=True)
    quantised = {
        path
        for path, module in loaded.model.named_modules()
        if "scales" in module and isinstance(module, nn.Module)
    }
    formats = native_catalog(loaded.spec, mtp=True).sources
    expected = {
        s.tensor.name.removesuffix(".weight").replace("wo_a", "wo_a.0")
        for s in formats
        if s.format.quantised
    }
    assert quantised == expected
    modes = {module.mode for _, module in loaded.model.named_modules() if "scales" in module}
    assert modes == {"mxfp8"}
    assert any("copy of head.weight" in note for note in loaded.notes)


def test_quantising_does_not_evaluate_random_weights() -> None:
    spec = read_spec(FP4)
    gc.collect()
    mx.reset_peak_memory()
    before = mx.get_active_memory()
    quantise_as_stored(Model(spec), native_catalog(spec, mtp=False))
    assert mx.get_peak_memory() - before < 1_000_000


def test_a_rank_without_heads_experts_and_words() -> None:
    spec = read_spec(PLAIN)
    nothing = replace(
        spec.whole, heads=Span(0, 0), experts=Span(0, 0), shared_width=Span(0, 0), vocab=Span(0, 0)
    )
    model = load_rank(PLAIN, nothing, dtype=DType.FLOAT32).model
    assert model(mx.array([[0, 1, 2]]), model.make_cache()).shape == (1, 3, 0)


def test_another_models_config(tmp_path: Path) -> None:
    model_dir = copy_model(PLAIN, tmp_path)
    change_config(model_dir, hidden_size=64)
    with pytest.raises(CheckpointError, match=r"embed\.weight .*\[80, 48\], expected .*\[80, 64\]"):
        load_rank(model_dir, None, dtype=DType.FLOAT32)
    change_config(model_dir, model_type="llama")
    with pytest.raises(ModelError, match="model_type"):
        load_rank(model_dir, None, dtype=DType.FLOAT32)


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    model_dir = copy_model(PLAIN, tmp_path)
    change_config(model_dir, n_routed_experts=7)
    with pytest.raises(CheckpointError, match=r"layers\.0\.ffn\.experts\.6\.w1\.weight"):
        load_rank(model_dir, None, dtype=DType.FLOAT32)
