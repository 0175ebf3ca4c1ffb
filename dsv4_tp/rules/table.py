"""The sharding table: how each tensor of the model is shared out between ranks, and why.

Total: exactly one rule fits each tensor. Data only; `cuts.py` turns a rule into spans.
"""

from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase
from functools import cache


class Split(StrEnum):
    """What a rank holds of a tensor `[rows, columns]`, or `[experts, rows, columns]`."""

    ALL = "all of it"
    HEAD_VALUES = "one value per head"
    HEAD_ROWS = "head_dim rows per head"
    GROUP_BLOCKS = "rows of the touched groups, input columns of the heads"
    GROUP_COLUMNS = "input columns of the touched groups"
    EXPERT_ROWS = "held experts, output rows of the width"
    EXPERT_COLUMNS = "held experts, input columns of the width"
    SHARED_ROWS = "output rows of the width"
    SHARED_COLUMNS = "input columns of the width"
    VOCAB_ROWS = "rows of the vocabulary"


@dataclass(frozen=True, slots=True)
class Rule:
    """Tensors whose path fits `pattern` (a glob) are split so; `kind` names them in reports."""

    pattern: str
    split: Split
    kind: str
    reason: str


RULES: tuple[Rule, ...] = (
    # attention: a rank keeps whole heads; partial outputs meet in the layer's first all-reduce
    Rule("*.attn.wq_b.weight", Split.HEAD_ROWS, "attention", "each head's query is its own"),
    Rule("*.attn.attn_sink", Split.HEAD_VALUES, "attention", "a sink belongs to one head"),
    Rule("*.attn.wo_a.weight", Split.GROUP_BLOCKS, "attention", "a group reads its heads only"),
    Rule("*.attn.wo_b.weight", Split.GROUP_COLUMNS, "attention", "linear: partial sums add up"),
    Rule("*.attn.wq_a.weight", Split.ALL, "attention shared", "all heads need the whole latent"),
    Rule("*.attn.q_norm.weight", Split.ALL, "attention shared", "normalises the whole latent"),
    Rule("*.attn.wkv.weight", Split.ALL, "attention shared", "one key-value head serves all heads"),
    Rule("*.attn.kv_norm.weight", Split.ALL, "attention shared", "normalises the whole head"),
    Rule("*.attn.compressor.*", Split.ALL, "compressors", "its rows serve all heads"),
    Rule("*.attn.indexer.*", Split.ALL, "indexers", "all ranks must choose the same rows"),
    # experts: partial outputs meet in the layer's second all-reduce
    Rule("*.ffn.experts.w1.weight", Split.EXPERT_ROWS, "experts", "a channel is its own"),
    Rule("*.ffn.experts.w3.weight", Split.EXPERT_ROWS, "experts", "a channel is its own"),
    Rule("*.ffn.experts.w2.weight", Split.EXPERT_COLUMNS, "experts", "linear: sums add up"),
    Rule("*.shared_experts.w1.weight", Split.SHARED_ROWS, "shared expert", "a channel is its own"),
    Rule("*.shared_experts.w3.weight", Split.SHARED_ROWS, "shared expert", "a channel is its own"),
    Rule(
        "*.shared_experts.w2.weight", Split.SHARED_COLUMNS, "shared expert", "linear: sums add up"
    ),
    Rule("*.ffn.gate.*", Split.ALL, "gates", "all ranks must choose the same experts"),
    # what stays whole
    Rule("*.attn_norm.weight", Split.ALL, "norms", "normalises the whole stream"),
    Rule("*.ffn_norm.weight", Split.ALL, "norms", "normalises the whole stream"),
    Rule("*.hc_attn.*", Split.ALL, "hyper-connections", "streams are mixed on every rank"),
    Rule("*.hc_ffn.*", Split.ALL, "hyper-connections", "streams are mixed on every rank"),
    Rule("hc_head.*", Split.ALL, "hyper-connections", "streams are mixed on every rank"),
    Rule("norm.weight", Split.ALL, "norms", "normalises the whole stream"),
    Rule("embed.weight", Split.ALL, "embed", "a row is cheaper to hold than to send"),
    Rule("head.weight", Split.VOCAB_ROWS, "head", "a logit is its own"),
    # multi-token prediction, beside the block's own tensors above
    Rule("mtp.?.hc_head.*", Split.ALL, "hyper-connections", "streams are mixed on every rank"),
    Rule("mtp.?.enorm.weight", Split.ALL, "norms", "normalises the whole stream"),
    Rule("mtp.?.hnorm.weight", Split.ALL, "norms", "normalises the whole stream"),
    Rule("mtp.?.norm.weight", Split.ALL, "norms", "normalises the whole stream"),
    Rule("mtp.?.e_proj.weight", Split.ALL, "MTP projections", "the block needs it whole"),
    Rule("mtp.?.h_proj.weight", Split.ALL, "MTP projections", "the block needs it whole"),
)


@cache
def rule_of(path: str) -> Rule:
    """The one rule for the tensor at `path`."""
    fitting = [rule for rule in RULES if fnmatchcase(path, rule.pattern)]
    assert len(fitting) == 1, f"{path}: {len(fitting)} sharding rules fit, expected one"
    return fitting[0]
