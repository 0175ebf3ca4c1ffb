"""What is said of two ranks beside one follows from their times; the models are of all kinds."""

from pathlib import Path

import pytest

from benchmarks import scaling
from benchmarks.scaling import Times
from dsv4_tp.core import DType
from dsv4_tp.engine import Collectives
from dsv4_tp.modelspec import read_spec


def test_gains_are_medians_and_the_time_in_sums_is_the_two_ranks():
    one = [Times(8, 3, 9, 9), Times(9, 4, 9, 9), Times(7, 5, 9, 9)]
    two = [Times(4, 2, 1, 0), Times(3, 2, 1, 1), Times(7, 2, 0, 2)]
    prefill, decode = scaling.gains("plain", list(zip(one, two, strict=True)))
    assert (prefill.speed_up, prefill.lowest, prefill.highest) == (2, 1, 3)
    assert (decode.speed_up, decode.lowest, decode.highest) == (2, 1.5, 2.5)
    assert (prefill.in_collectives, decode.in_collectives) == (0.25, 0.5)
    assert (prefill.tokens, decode.tokens) == (512, 32)


def test_the_plain_model_runs_with_a_layer_of_each_kind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    narrow = {"hidden_size": 128, "moe_intermediate_size": 64, "q_lora_rank": 64}
    monkeypatch.setattr(scaling, "_QUARTER", scaling._QUARTER | narrow)
    scaling.write("plain", tmp_path / "model")
    spec = read_spec(tmp_path / "model")
    assert (spec.compress_ratios, spec.num_hash_layers) == ((0, 4, 128), 1)
    assert DType(spec.torch_dtype) is DType.FLOAT32
    times = scaling.timed(tmp_path / "model", Collectives(), scaling.Case(140, 2, 1))
    assert 0 < times.prefill_sums_s < times.prefill_s
