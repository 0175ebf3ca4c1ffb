"""The models that all sides run: their configs, and random weights by DeepSeek's own names."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx

from benchmarks.synthetic import CONFIGS, smaller, stored_tensors
from dsv4_tp.modelspec import parse_spec

TINY = "tiny"
# All that a model can have, at widths at which operations take the time and not products.
_TINY_WIDTHS = {
    "hidden_size": 256,
    "head_dim": 64,
    "index_head_dim": 32,
    "index_n_heads": 32,
    "index_topk": 16,
    "moe_intermediate_size": 128,
    "num_attention_heads": 8,
    "o_groups": 4,
    "o_lora_rank": 64,
    "q_lora_rank": 128,
    "qk_rope_head_dim": 32,
    "sliding_window": 32,
}
_TINY_RATIOS, _TINY_EXPERTS, _TINY_VOCAB = (0, 4, 128, 4), 16, 512
_FLASH_EXPERTS, _FLASH_VOCAB = 8, 1024  # of 256 and 129,280: the rest would be memory only
_QUANTISED = ("quantization_config", "expert_dtype")


@dataclass(frozen=True, slots=True)
class Case:
    """A model, and how much of it is measured."""

    name: str
    config: Mapping[str, Any]
    warm: int  # tokens that are in the cache before any are fed one by one
    prompt: int  # tokens
    turns: int


def cases() -> Iterator[Case]:
    """The tiny model, then one layer of Flash's widths of each kind."""
    flash = json.loads((CONFIGS / "deepseek-v4-flash.json").read_text())
    plain = in_float32(flash)
    tiny = smaller({**plain, **_TINY_WIDTHS}, _TINY_RATIOS, _TINY_EXPERTS, _TINY_VOCAB)
    yield Case(TINY, tiny, warm=128, prompt=128, turns=15)
    for ratio in (0, 4, 128):
        one = {**smaller(plain, (ratio,), _FLASH_EXPERTS, _FLASH_VOCAB), "num_hash_layers": 0}
        # MLX takes an expert's matrix anew for each row here: few tokens, but a window at least.
        yield Case(f"Flash, ratio {ratio}", one, warm=max(32, ratio), prompt=8, turns=5)


def in_float32(config: Mapping[str, Any]) -> dict[str, Any]:
    """The same model with weights that are not packed."""
    plain = {key: value for key, value in config.items() if key not in _QUANTISED}
    return {**plain, "torch_dtype": "float32"}


def write(folder: Path, config: Mapping[str, Any]) -> None:
    """Write a checkpoint of random float32 weights to `folder`, which is made."""
    tensors = tuple(stored_tensors(parse_spec(config)))
    keys = mx.random.split(mx.random.key(0), len(tensors))
    weights = {
        tensor.name: random_weight(tensor.name, tensor.shape, key)
        if tensor.dtype != "I64"
        else mx.random.randint(0, config["n_routed_experts"], tensor.shape, mx.int64, key)
        for tensor, key in zip(tensors, keys, strict=True)
    }
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    mx.save_safetensors(str(folder / "model.safetensors"), weights)


def random_weight(name: str, shape: tuple[int, ...], key: mx.array) -> mx.array:
    """Norms near one, matrices that keep the size of what they multiply, all else around zero."""
    noise = mx.random.uniform(-(3**0.5), 3**0.5, shape, key=key)  # of variance one
    if name.endswith("norm.weight"):
        return 1 + 0.1 * noise
    return noise * (shape[-1] ** -0.5 if len(shape) > 1 else 0.5)
