"""The demo model's numbers: its config.json, and what its training takes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

# Small, but with one of each: ratios 0, 4 and 128, a hash layer, an MTP stage, several output
# groups. Widths are multiples of 128, the blocks of FP8. A window of 32 and 16 selected rows make
# short texts cross every border. 16 index heads: with fewer, scores tie at exactly zero.
CONFIG: Mapping[str, Any] = {
    "architectures": ["DeepseekV4ForCausalLM"],
    "attention_bias": False,
    "attention_dropout": 0.0,
    "bos_token_id": 0,
    "compress_ratios": [0, 4, 128, 0],
    "compress_rope_theta": 160000,
    "eos_token_id": 1,
    "expert_dtype": "fp4",
    "hc_eps": 1e-06,
    "hc_mult": 4,
    "hc_sinkhorn_iters": 20,
    "head_dim": 128,
    "hidden_act": "silu",
    "hidden_size": 256,
    "index_head_dim": 128,
    "index_n_heads": 16,
    "index_topk": 16,
    "initializer_range": 0.02,
    "max_position_embeddings": 4096,
    "model_type": "deepseek_v4",
    "moe_intermediate_size": 128,
    "n_routed_experts": 16,
    "n_shared_experts": 1,
    "norm_topk_prob": True,
    "num_attention_heads": 8,
    "num_experts_per_tok": 2,
    "num_hash_layers": 1,
    "num_hidden_layers": 3,
    "num_key_value_heads": 1,
    "num_nextn_predict_layers": 1,
    "o_groups": 4,
    "o_lora_rank": 64,
    "q_lora_rank": 128,
    "qk_rope_head_dim": 64,
    "quantization_config": {
        "activation_scheme": "dynamic",
        "fmt": "e4m3",
        "quant_method": "fp8",
        "scale_fmt": "ue8m0",
        "weight_block_size": [128, 128],
    },
    "rms_norm_eps": 1e-06,
    "rope_scaling": {
        "type": "yarn",
        "factor": 16,
        "original_max_position_embeddings": 256,
        "beta_fast": 32,
        "beta_slow": 1,
    },
    "rope_theta": 10000,
    "routed_scaling_factor": 1.5,
    "scoring_func": "sqrtsoftplus",
    "sliding_window": 32,
    "swiglu_limit": 10.0,
    "tie_word_embeddings": False,
    "topk_method": "noaux_tc",
    "torch_dtype": "bfloat16",
    "transformers_version": "4.57.1",
    "use_cache": True,
    "vocab_size": 640,
}

GENERATION: Mapping[str, Any] = {
    "bos_token_id": 0,
    "eos_token_id": 1,
    "do_sample": True,
    "temperature": 1.0,
    "top_p": 1.0,
    "transformers_version": "4.57.1",
}


@dataclass(frozen=True, slots=True)
class Phase:
    """A run of training steps of one kind."""

    steps: int
    length: int  # of each sequence; a multiple of the window
    rows: int  # sequences per step
    select: bool  # the indexer chooses rows; before, every visible row is read
    rounded: bool = False  # weights in the forward pass as the release stores them
    drills: float = 0.0  # share of sequences that are short lists said again and again


# Looking up first, from short lists that are said again and again: from other text it is not
# learned in such a time (values stayed at chance for a million tokens), while the language needs
# little. Then longer sequences and fewer drills. The indexer chooses once its scores have learned
# from full attention, and at the end the weights settle on values that FP8 and FP4 can hold.
PHASES = (
    Phase(steps=350, length=128, rows=16, select=False, drills=0.8),
    Phase(steps=200, length=256, rows=8, select=False, drills=0.6),
    Phase(steps=200, length=512, rows=4, select=False, drills=0.4),
    Phase(steps=200, length=512, rows=4, select=True, drills=0.2),
    Phase(steps=50, length=1088, rows=2, select=True, drills=0.2),
    Phase(steps=160, length=512, rows=4, select=True, rounded=True, drills=0.1),
    Phase(steps=40, length=1088, rows=2, select=True, rounded=True, drills=0.1),
)

SEED = 1
MUON_RATE = 0.02
ADAM_RATE = 0.003
WEIGHT_DECAY = 0.02
WARMUP_STEPS = 30
FLAT_SHARE = 0.5  # of all steps at full rate; then the rate falls in a line
LAST_RATE = 0.05  # of the full rate, at the end
BIAS_RATE = 0.003  # how fast a gate's bias follows its experts' loads


def rate_at(step: int, steps: int) -> float:
    """The learning rate at a step of so many, as a share of the full one."""
    warm = min(1.0, (step + 1) / WARMUP_STEPS)
    left = (steps - step) / (steps * (1 - FLAT_SHARE))
    return warm * max(LAST_RATE, min(1.0, left))
