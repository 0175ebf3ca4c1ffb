"""config.json -> ModelSpec. Nothing is assumed: a number the file does not state is an error."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from dsv4_tp.errors import ModelError
from dsv4_tp.modelspec.fields import Fields
from dsv4_tp.modelspec.quantization import is_native, mlx_quantization
from dsv4_tp.modelspec.spec import ModelSpec, Yarn

RATIOS = (0, 4, 128)
_SCORING = ("sqrtsoftplus", "sigmoid", "softmax")
_DTYPES = ("bfloat16", "float32", "float16")
# Stated under the same name as in ModelSpec.
_INTEGERS = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "max_position_embeddings",
    "num_attention_heads",
    "head_dim",
    "qk_rope_head_dim",
    "q_lora_rank",
    "o_groups",
    "o_lora_rank",
    "sliding_window",
    "index_n_heads",
    "index_head_dim",
    "index_topk",
    "n_routed_experts",
    "num_experts_per_tok",
    "moe_intermediate_size",
    "hc_mult",
    "hc_sinkhorn_iters",
)
_NUMBERS = (
    "routed_scaling_factor",
    "swiglu_limit",
    "hc_eps",
    "rms_norm_eps",
)
# Stated so, or by transformers in a part of rope_parameters.
_THETAS = {"rope_theta": "main", "compress_rope_theta": "compress"}
# The layer kinds in the words of transformers' configs.
_KINDS = {
    "sliding_attention": 0,
    "compressed_sparse_attention": 4,
    "heavily_compressed_attention": 128,
}


def read_spec(path: Path) -> ModelSpec:
    """The model described by `path`: a config.json or a directory that holds one.

    Raises:
        ModelError: no such file, not JSON, or not a DeepSeek-V4 model; names file, key, value.
    """
    file = path / "config.json" if path.is_dir() else path
    if not file.is_file():
        raise ModelError(f"{file}: no such file; --model takes a directory with a config.json")
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"{file}: not JSON: {error}") from error
    if not isinstance(data, dict):
        raise ModelError(f"{file}: expected a JSON object, found {type(data).__name__}")
    return parse_spec(cast(dict[str, object], data), where=str(file))


def parse_spec(data: Mapping[str, Any], *, where: str = "config.json") -> ModelSpec:
    """The ModelSpec of a parsed config.json; `where` names it in errors.

    Raises:
        ModelError: a key is missing or wrong; names file, key and value.
    """
    fields = Fields(data, where)
    fields.choice("model_type", ("deepseek_v4",))
    native = is_native(fields)
    as_stated: dict[str, Any] = {key: fields.integer(key) for key in _INTEGERS}
    as_stated |= {key: _rope_theta(fields, key) for key in _THETAS}
    as_stated |= {key: fields.number(key) for key in _NUMBERS}
    spec = ModelSpec(
        **as_stated,
        num_hash_layers=_hash_layers(fields),
        num_nextn_predict_layers=_optional_integer(fields, "num_nextn_predict_layers"),
        compress_ratios=_ratios(fields),
        yarn=_yarn(fields),
        n_shared_experts=_optional_integer(fields, "n_shared_experts", absent=1),
        scoring_func=fields.choice("scoring_func", _SCORING),
        norm_topk_prob=fields.flag("norm_topk_prob"),
        expert_format=_expert_format(fields) if native else "plain",
        linear_format="fp8" if native else "plain",
        mlx_quantization=mlx_quantization(fields),
        torch_dtype=fields.choice("torch_dtype" if "torch_dtype" in fields else "dtype", _DTYPES),
        bos_token_id=fields.integer("bos_token_id", least=0),
        eos_token_ids=_eos_ids(fields),
        dspark_block_size=_optional_integer(fields, "dspark_block_size"),
    )
    _check(spec, where)
    return spec


def _optional_integer(fields: Fields, key: str, *, absent: int = 0) -> int:
    return fields.integer(key, least=0) if key in fields else absent


def _ratios(fields: Fields) -> tuple[int, ...]:
    """One ratio per layer; entries past the last layer belong to MTP stages."""
    layers = fields.integer("num_hidden_layers")
    if "compress_ratios" in fields:
        ratios = fields.integers("compress_ratios")
    elif "layer_types" in fields:
        ratios = tuple(_ratio_of_kind(fields, kind) for kind in fields.strings("layer_types"))
    else:
        raise ModelError(
            f"{fields.where}: neither compress_ratios nor layer_types states the layer kinds; "
            "take config.json from the model's own repository"
        )
    if len(ratios) < layers:
        raise ModelError(f"{fields.where}: {len(ratios)} layer kinds for {layers} layers")
    for layer, ratio in enumerate(ratios):
        if ratio not in RATIOS or (layer >= layers and ratio != 0):
            raise ModelError(
                f"{fields.where}: compress_ratios[{layer}] is {ratio}; "
                "layers know 0, 4 and 128, MTP stages 0"
            )
    return ratios[:layers]


def _ratio_of_kind(fields: Fields, kind: str) -> int:
    if kind not in _KINDS:
        raise ModelError(
            f"{fields.where}: layer_types holds {kind!r}, expected one of {', '.join(_KINDS)}"
        )
    if _KINDS[kind] == 0:
        return 0
    return fields.section("compress_rates").integer(kind)


def _hash_layers(fields: Fields) -> int:
    if "num_hash_layers" in fields or "mlp_layer_types" not in fields:
        return fields.integer("num_hash_layers", least=0)
    kinds = fields.strings("mlp_layer_types")
    count = kinds.count("hash_moe")
    if "hash_moe" in kinds[count:]:
        raise fields.wrong("mlp_layer_types", "hash_moe in the first layers only")
    return count


def _rope_theta(fields: Fields, key: str) -> float:
    if key in fields or "rope_parameters" not in fields:
        return fields.number(key)
    return fields.section("rope_parameters").section(_THETAS[key]).number("rope_theta")


def _yarn(fields: Fields) -> Yarn | None:
    if "rope_scaling" in fields:
        scaling = fields.section("rope_scaling")
    elif "rope_parameters" in fields:
        scaling = fields.section("rope_parameters").section("compress")
    else:
        return None
    kind = "type" if "type" in scaling else "rope_type"
    if scaling.choice(kind, ("yarn", "default")) == "default":
        return None
    return Yarn(
        factor=scaling.number("factor"),
        original_positions=scaling.integer("original_max_position_embeddings"),
        beta_fast=scaling.number("beta_fast"),
        beta_slow=scaling.number("beta_slow"),
    )


def _expert_format(fields: Fields) -> str:
    # Base checkpoints have FP8 experts and no expert_dtype.
    return fields.choice("expert_dtype", ("fp4", "fp8")) if "expert_dtype" in fields else "fp8"


def _eos_ids(fields: Fields) -> tuple[int, ...]:
    if isinstance(fields.data.get("eos_token_id"), list):
        return fields.integers("eos_token_id")
    return (fields.integer("eos_token_id", least=0),)


def _check(spec: ModelSpec, where: str) -> None:
    """Relations between numbers that the model's shapes rest on."""
    rope, topk = spec.qk_rope_head_dim, spec.num_experts_per_tok
    rules = (
        (spec.num_attention_heads % spec.o_groups == 0, "num_attention_heads", "o_groups"),
        (rope % 2 == 0 and rope <= spec.head_dim, "qk_rope_head_dim", "head_dim"),
        (rope <= spec.index_head_dim, "qk_rope_head_dim", "index_head_dim"),
        (topk <= spec.n_routed_experts, "num_experts_per_tok", "n_routed_experts"),
        (spec.num_hash_layers <= spec.num_hidden_layers, "num_hash_layers", "num_hidden_layers"),
    )
    for holds, one, other in rules:
        if not holds:
            values = f"{one} {getattr(spec, one)} does not go with {other} {getattr(spec, other)}"
            raise ModelError(f"{where}: {values}")
