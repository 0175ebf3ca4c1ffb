"""Every tensor of a DeepSeek-V4 model, by its parameter path: the list a checkpoint must fill.

Names are DeepSeek's, as paths of our model's modules: the released `layers.3.hc_attn_fn` is
`layers.3.hc_attn.fn` here, and the experts of a layer are one stacked tensor `[E, out, in]`.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from dsv4_tp.modelspec.spec import ModelSpec


class Stored(StrEnum):
    """How the official release stores a tensor (bases differ in the experts)."""

    FP8 = "fp8"  # e4m3, one scale per 128 x 128 block
    FP4 = "fp4"  # e2m1, two per byte, one scale per 32 columns
    BF16 = "bf16"
    F32 = "f32"
    INT = "int"


@dataclass(frozen=True, slots=True)
class Tensor:
    """One parameter: its path in the model, its whole logical shape, how it is released."""

    name: str
    shape: tuple[int, ...]
    stored: Stored


def contract(spec: ModelSpec, *, mtp: bool) -> tuple[Tensor, ...]:
    """All tensors of the backbone, and those of the MTP stages if `mtp`."""
    return tuple(_backbone(spec)) + (tuple(_mtp(spec)) if mtp else ())


def _backbone(spec: ModelSpec) -> Iterator[Tensor]:
    yield Tensor("embed.weight", (spec.vocab_size, spec.hidden_size), Stored.BF16)
    for layer, ratio in enumerate(spec.compress_ratios):
        yield from _block(spec, f"layers.{layer}", ratio, hashed=layer < spec.num_hash_layers)
    yield Tensor("norm.weight", (spec.hidden_size,), Stored.BF16)
    yield from _hyper_head(spec, "hc_head")
    yield Tensor("head.weight", (spec.vocab_size, spec.hidden_size), Stored.BF16)


def _mtp(spec: ModelSpec) -> Iterator[Tensor]:
    size = spec.hidden_size
    for stage in range(spec.num_nextn_predict_layers):
        at = f"mtp.{stage}"
        yield from _block(spec, at, 0, hashed=False)
        yield _linear(spec, f"{at}.e_proj", size, size)
        yield _linear(spec, f"{at}.h_proj", size, size)
        for norm in ("enorm", "hnorm", "norm"):
            yield Tensor(f"{at}.{norm}.weight", (size,), Stored.BF16)
        yield from _hyper_head(spec, f"{at}.hc_head")


def _block(spec: ModelSpec, at: str, ratio: int, *, hashed: bool) -> Iterator[Tensor]:
    for sublayer in ("attn", "ffn"):
        yield from _hyper_connection(spec, f"{at}.hc_{sublayer}")
        yield Tensor(f"{at}.{sublayer}_norm.weight", (spec.hidden_size,), Stored.BF16)
    yield from _attention(spec, f"{at}.attn")
    if ratio:
        yield from _compressor(spec, f"{at}.attn.compressor", ratio, spec.head_dim)
    if ratio == 4:
        yield from _indexer(spec, f"{at}.attn.indexer")
    yield from _moe(spec, f"{at}.ffn", hashed=hashed)


def _attention(spec: ModelSpec, at: str) -> Iterator[Tensor]:
    size, head = spec.hidden_size, spec.head_dim
    latent = spec.o_groups * spec.o_lora_rank
    yield Tensor(f"{at}.attn_sink", (spec.num_attention_heads,), Stored.F32)
    yield Tensor(f"{at}.q_norm.weight", (spec.q_lora_rank,), Stored.BF16)
    yield Tensor(f"{at}.kv_norm.weight", (head,), Stored.BF16)
    yield _linear(spec, f"{at}.wq_a", spec.q_lora_rank, size)
    yield _linear(spec, f"{at}.wq_b", spec.num_attention_heads * head, spec.q_lora_rank)
    yield _linear(spec, f"{at}.wkv", head, size)
    yield _linear(spec, f"{at}.wo_a", latent, spec.group_width)
    yield _linear(spec, f"{at}.wo_b", size, latent)


def _compressor(spec: ModelSpec, at: str, ratio: int, head: int) -> Iterator[Tensor]:
    # Ratio 4 pools over two windows, so each token has one half for either.
    width = 2 * head if ratio == 4 else head
    yield Tensor(f"{at}.ape", (ratio, width), Stored.F32)
    yield Tensor(f"{at}.wkv.weight", (width, spec.hidden_size), Stored.BF16)
    yield Tensor(f"{at}.wgate.weight", (width, spec.hidden_size), Stored.BF16)
    yield Tensor(f"{at}.norm.weight", (head,), Stored.BF16)


def _indexer(spec: ModelSpec, at: str) -> Iterator[Tensor]:
    heads, head = spec.index_n_heads, spec.index_head_dim
    yield _linear(spec, f"{at}.wq_b", heads * head, spec.q_lora_rank)
    yield Tensor(f"{at}.weights_proj.weight", (heads, spec.hidden_size), Stored.BF16)
    yield from _compressor(spec, f"{at}.compressor", 4, head)


def _moe(spec: ModelSpec, at: str, *, hashed: bool) -> Iterator[Tensor]:
    experts, size, width = spec.n_routed_experts, spec.hidden_size, spec.moe_intermediate_size
    yield Tensor(f"{at}.gate.weight", (experts, size), Stored.BF16)
    if hashed:
        table = (spec.vocab_size, spec.num_experts_per_tok)
        yield Tensor(f"{at}.gate.tid2eid", table, Stored.INT)
    else:
        yield Tensor(f"{at}.gate.bias", (experts,), Stored.F32)
    stored = {"fp4": Stored.FP4, "fp8": Stored.FP8}.get(spec.expert_format, Stored.BF16)
    for name, out_width, in_width in (
        ("w1", width, size),
        ("w2", size, width),
        ("w3", width, size),
    ):
        yield Tensor(f"{at}.experts.{name}.weight", (experts, out_width, in_width), stored)
    shared = spec.shared_width
    yield _linear(spec, f"{at}.shared_experts.w1", shared, size)
    yield _linear(spec, f"{at}.shared_experts.w2", size, shared)
    yield _linear(spec, f"{at}.shared_experts.w3", shared, size)


def _hyper_connection(spec: ModelSpec, at: str) -> Iterator[Tensor]:
    streams = spec.hc_mult
    mixes = (2 + streams) * streams
    yield Tensor(f"{at}.fn", (mixes, streams * spec.hidden_size), Stored.F32)
    yield Tensor(f"{at}.base", (mixes,), Stored.F32)
    yield Tensor(f"{at}.scale", (3,), Stored.F32)


def _hyper_head(spec: ModelSpec, at: str) -> Iterator[Tensor]:
    streams = spec.hc_mult
    yield Tensor(f"{at}.fn", (streams, streams * spec.hidden_size), Stored.F32)
    yield Tensor(f"{at}.base", (streams,), Stored.F32)
    yield Tensor(f"{at}.scale", (1,), Stored.F32)


def _linear(spec: ModelSpec, at: str, out_width: int, in_width: int) -> Tensor:
    stored = Stored.FP8 if spec.linear_format == "fp8" else Stored.BF16
    return Tensor(f"{at}.weight", (out_width, in_width), stored)
