"""config.json: both spellings of the layer kinds, and one clear error for everything wrong."""

import json
from pathlib import Path
from typing import Any

import pytest

from dsv4_tp.errors import ModelError
from dsv4_tp.modelspec import Stored, contract, parse_spec, read_spec

GOLDEN = Path(__file__).parent.parent / "golden"


def config(**changes: Any) -> dict[str, Any]:
    """The config of a small model, with keys changed, or left out where the value is ...."""
    data = json.loads((GOLDEN / "public" / "a1_flash_mini" / "config.json").read_text())
    merged = {**data, **changes}
    return {key: value for key, value in merged.items() if value is not ...}


def test_released_spelling() -> None:
    spec = read_spec(GOLDEN / "native")
    # The sixth entry of compress_ratios belongs to the MTP stage.
    assert spec.compress_ratios == (0, 4, 128, 4, 128)
    assert (spec.expert_format, spec.linear_format) == ("fp4", "fp8")
    assert spec.yarn is not None
    assert spec.yarn.factor == 16
    assert spec.eos_token_ids == (1,)


def test_spelling_of_transformers() -> None:
    ratios = {"compressed_sparse_attention": 4, "heavily_compressed_attention": 128}
    kinds = ["sliding_attention", "sliding_attention", *ratios, "compressed_sparse_attention"]
    yarn = {"rope_type": "yarn", "factor": 16, "original_max_position_embeddings": 65536}
    spec = parse_spec(
        config(
            compress_ratios=...,
            num_hash_layers=...,
            rope_scaling=...,
            torch_dtype=...,
            dtype="float32",
            layer_types=kinds,
            compress_rates=ratios,
            mlp_layer_types=["hash_moe", "hash_moe", "moe", "moe", "moe"],
            rope_parameters={"main": {}, "compress": {**yarn, "beta_fast": 32, "beta_slow": 1}},
        )
    )
    assert spec == parse_spec(config())


def test_base_has_fp8_experts() -> None:
    spec = read_spec(GOLDEN / "layouts" / "a_base_fp8")
    stored = {tensor.name: tensor.stored for tensor in contract(spec, mtp=False)}
    assert stored["layers.1.ffn.experts.w2.weight"] is Stored.FP8
    assert stored["layers.1.attn.compressor.wkv.weight"] is Stored.BF16


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "deepseek_v3"}, ["model_type", "deepseek_v3", "deepseek_v4"]),
        ({"model_type": "deepseek_v41"}, ["model_type", "deepseek_v41"]),
        ({"compress_ratios": ...}, ["compress_ratios", "layer_types"]),
        ({"compress_ratios": [0, 0, 4, 64, 4, 0]}, ["compress_ratios[3]", "64"]),
        ({"compress_ratios": [0, 0, 4, 128, 4, 4]}, ["compress_ratios[5]", "MTP"]),
        ({"compress_ratios": [0, 0, 4]}, ["3 layer kinds", "5 layers"]),
        ({"compress_ratios": "0,4"}, ["compress_ratios", "list of integers"]),
        ({"compress_ratios": ..., "layer_types": ["full_attention"] * 5}, ["full_attention"]),
        ({"hidden_size": ...}, ["hidden_size", "missing"]),
        ({"hidden_size": "48"}, ["hidden_size", "'48'", "integer"]),
        ({"hidden_size": True}, ["hidden_size", "True", "integer"]),
        ({"hidden_size": 0}, ["hidden_size", "0", "at least 1"]),
        ({"scoring_func": "relu"}, ["scoring_func", "relu", "sqrtsoftplus"]),
        ({"rope_theta": -1}, ["rope_theta", "-1"]),
        ({"rope_theta": float("nan")}, ["rope_theta", "nan"]),
        ({"norm_topk_prob": "yes"}, ["norm_topk_prob", "yes"]),
        ({"o_groups": 3}, ["num_attention_heads 8", "o_groups 3"]),
        ({"qk_rope_head_dim": 15}, ["qk_rope_head_dim 15"]),
        ({"num_experts_per_tok": 9}, ["num_experts_per_tok 9", "n_routed_experts 6"]),
        ({"rope_scaling": {"type": "linear"}}, ["rope_scaling: type", "linear"]),
        ({"rope_scaling": [1]}, ["rope_scaling", "object"]),
        ({"torch_dtype": "int8"}, ["torch_dtype", "int8"]),
    ],
)
def test_wrong_config(changes: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ModelError) as caught:
        parse_spec(config(**changes), where="models/x/config.json")
    message = str(caught.value)
    assert message.startswith("models/x/config.json: ")
    assert [word for word in words if word not in message] == []
    assert "\n" not in message


def test_files(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file"):
        read_spec(tmp_path)
    file = tmp_path / "config.json"
    for text, words in (("{", "not JSON"), ("[1]", "expected a JSON object"), ("\xff", "JSON")):
        file.write_text(text, encoding="latin-1")
        with pytest.raises(ModelError, match=words):
            read_spec(tmp_path)
    file.write_text(json.dumps(config()))
    assert read_spec(tmp_path) == read_spec(file)


def test_contract_names_each_tensor_once() -> None:
    spec = read_spec(GOLDEN / "native")
    names = [tensor.name for tensor in contract(spec, mtp=True)]
    assert len(set(names)) == len(names)
    assert {name for name in names if "layers.0" in name and "compressor" in name} == set()
    assert "layers.0.ffn.gate.tid2eid" in names
    assert "layers.1.ffn.gate.bias" in names
    assert "mtp.0.h_proj.weight" in names
