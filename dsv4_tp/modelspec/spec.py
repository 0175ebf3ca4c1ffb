"""ModelSpec: the numbers that define one DeepSeek-V4 model."""

from dataclasses import dataclass

from dsv4_tp.core import Part, Span
from dsv4_tp.modelspec.quantization import MlxQuantization


@dataclass(frozen=True, slots=True)
class Yarn:
    """Context extension of the compressed layers' rotary table (YaRN, without mscale)."""

    factor: float
    original_positions: int
    beta_fast: float
    beta_slow: float


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """One model, in the names of its config.json unless noted.

    `compress_ratios` holds one of 0 (window only), 4 (overlapping windows and an indexer)
    or 128 for each of the `num_hidden_layers` layers; MTP stages always use 0.
    """

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_hash_layers: int
    num_nextn_predict_layers: int
    compress_ratios: tuple[int, ...]
    max_position_embeddings: int
    # attention
    num_attention_heads: int
    head_dim: int
    qk_rope_head_dim: int
    q_lora_rank: int
    o_groups: int
    o_lora_rank: int
    sliding_window: int
    index_n_heads: int
    index_head_dim: int
    index_topk: int
    rope_theta: float
    compress_rope_theta: float
    yarn: Yarn | None  # config.json: rope_scaling
    # mixture of experts
    n_routed_experts: int
    n_shared_experts: int
    num_experts_per_tok: int
    moe_intermediate_size: int
    scoring_func: str
    norm_topk_prob: bool
    routed_scaling_factor: float
    swiglu_limit: float
    # hyper-connections and norms
    hc_mult: int
    hc_sinkhorn_iters: int
    hc_eps: float
    rms_norm_eps: float
    # storage and text
    expert_format: str  # "fp4" | "fp8" | "plain": how config.json says routed experts are stored
    linear_format: str  # "fp8" | "plain"
    mlx_quantization: MlxQuantization | None  # of a conversion by MLX
    torch_dtype: str  # "bfloat16" | "float32" | "float16"
    bos_token_id: int
    eos_token_ids: tuple[int, ...]
    dspark_block_size: int  # 0: no DSpark drafter

    @property
    def heads_per_group(self) -> int:
        """Attention heads that feed one output group."""
        return self.num_attention_heads // self.o_groups

    @property
    def group_width(self) -> int:
        """Input columns of one output group's wo_a."""
        return self.heads_per_group * self.head_dim

    @property
    def shared_width(self) -> int:
        """Channels of the shared expert."""
        return self.n_shared_experts * self.moe_intermediate_size

    @property
    def whole(self) -> Part:
        """The part that holds everything: one rank alone."""
        return Part(
            heads=Span(0, self.num_attention_heads),
            experts=Span(0, self.n_routed_experts),
            expert_width=Span(0, self.moe_intermediate_size),
            shared_width=Span(0, self.shared_width),
            vocab=Span(0, self.vocab_size),
        )
