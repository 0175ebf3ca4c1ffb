"""The names of each known checkpoint family, as tables.

A row says under which name a family stores the tensor that our model calls `path`. Fields in
braces stand for themselves on both sides. In a name `{expert}` is the number of a routed expert
and `{group}` that of an output group, so such a row gathers one tensor from many; the name of a
routed expert's tensor without `{expert}` holds all of them, stacked. `{proj}` is the word for
`{w}`. The first row whose path fits is the one. Where a row has several names, a checkpoint uses
one of them throughout.

Data only; `names.py` reads it and `detect.py` chooses.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

# What a field in braces may stand for.
FIELDS: Mapping[str, str] = {
    "block": r"(?:layers|mtp)\.\d+",
    "layer": r"layers\.\d+",
    "sub": "attn|ffn|head",
    "leaf": "fn|base|scale",
    "w": "w1|w2|w3",
    "name": ".+",
}
# The projections of an expert, in the words of others.
PROJECTIONS: Mapping[str, str] = {"w1": "gate_proj", "w2": "down_proj", "w3": "up_proj"}


@dataclass(frozen=True, slots=True)
class Row:
    """The names under which the tensors whose path has this form may be stored.

    `part` (k, n): of a stacked tensor that holds n of ours, the k-th n-th of each expert's rows.
    """

    path: str
    names: tuple[str, ...]
    part: tuple[int, int] = (0, 1)


@dataclass(frozen=True, slots=True)
class Drop:
    """Names (a glob) that are in the files but not used, and why."""

    pattern: str
    reason: str


@dataclass(frozen=True, slots=True)
class Layout:
    """One family's names. A tensor that no row has a name for is not in such files."""

    name: str
    rows: tuple[Row, ...]
    drops: tuple[Drop, ...] = ()


OFFICIAL = Layout(
    name="DeepSeek's names",
    rows=(
        Row("hc_head.{leaf}", ("hc_head_{leaf}",)),
        Row("{block}.hc_{sub}.{leaf}", ("{block}.hc_{sub}_{leaf}",)),
        Row(
            "{block}.attn.wo_a.weight",
            ("{block}.attn.wo_a.weight", "{block}.attn.wo_a.{group}.weight"),
        ),
        Row(
            "{block}.ffn.experts.{w}.weight",
            ("{block}.ffn.experts.{expert}.{w}.weight", "{block}.ffn.experts.{w}.weight"),
        ),
        Row("{name}", ("{name}",)),  # our names are DeepSeek's
    ),
    drops=(
        Drop("mtp.*.emb.tok_emb.weight", "a copy of embed.weight, which the MTP stage shares"),
        Drop("mtp.*.head.weight", "a copy of head.weight, which the MTP stage shares"),
    ),
)

SWITCH = Layout(
    name="mlx-lm's names with switch_mlp",
    rows=(
        Row("embed.weight", ("model.embed_tokens.weight",)),
        Row("head.weight", ("lm_head.weight",)),
        Row("norm.weight", ("model.norm.weight",)),
        Row("hc_head.{leaf}", ("model.hc_head.{leaf}", "model.hc_head.hc_{leaf}")),
        Row(
            "{layer}.hc_{sub}.{leaf}",
            ("model.{layer}.{sub}_hc.{leaf}", "model.{layer}.hc_{sub}.{leaf}"),
        ),
        Row(
            "{layer}.attn.wo_a.weight",
            ("model.{layer}.attn.wo_a.weight", "model.{layer}.attn.wo_a.{group}.weight"),
        ),
        Row(
            "{layer}.ffn.gate.bias",
            ("model.{layer}.ffn.gate.e_score_correction_bias", "model.{layer}.ffn.gate.bias"),
        ),
        Row(
            "{layer}.ffn.experts.{w}.weight",
            (
                "model.{layer}.ffn.switch_mlp.{proj}.weight",
                "model.{layer}.ffn.experts.{expert}.{w}.weight",
            ),
        ),
        Row(
            "{layer}.ffn.shared_experts.{w}.weight",
            (
                "model.{layer}.ffn.shared_experts.{proj}.weight",
                "model.{layer}.ffn.shared_experts.{w}.weight",
            ),
        ),
        Row("{layer}.{name}", ("model.{layer}.{name}",)),
    ),
)

SELF_ATTN = Layout(
    name="mlx-lm's names with self_attn",
    rows=(
        *SWITCH.rows[:4],
        Row(
            "{layer}.hc_{sub}.{leaf}",
            ("model.{layer}.hc_{sub}.{leaf}", "model.{layer}.{sub}_hc.{leaf}"),
        ),
        Row("{layer}.attn_norm.weight", ("model.{layer}.input_layernorm.weight",)),
        Row("{layer}.ffn_norm.weight", ("model.{layer}.post_attention_layernorm.weight",)),
        Row(
            "{layer}.attn.wo_a.weight",
            ("model.{layer}.self_attn.wo_a.weight", "model.{layer}.self_attn.wo_a.{group}.weight"),
        ),
        Row(
            "{layer}.ffn.gate.bias",
            ("model.{layer}.mlp.gate.e_score_correction_bias", "model.{layer}.mlp.gate.bias"),
        ),
        Row(
            "{layer}.ffn.experts.{w}.weight",
            (
                "model.{layer}.mlp.switch_mlp.{proj}.weight",
                "model.{layer}.mlp.experts.{expert}.{w}.weight",
            ),
        ),
        Row(
            "{layer}.ffn.shared_experts.{w}.weight",
            ("model.{layer}.mlp.shared_experts.{proj}.weight",),
        ),
        Row("{layer}.attn.{name}", ("model.{layer}.self_attn.{name}",)),
        Row("{layer}.ffn.{name}", ("model.{layer}.mlp.{name}",)),
    ),
)

SAVED = Layout(
    name="transformers' names, as its save_pretrained writes them",
    rows=(
        Row("embed.weight", ("model.embed_tokens.weight",)),
        Row("head.weight", ("head.weight",)),
        Row("norm.weight", ("model.norm.weight",)),
        Row("hc_head.{leaf}", ("model.hc_head.hc_{leaf}",)),
        Row("{layer}.hc_{sub}.{leaf}", ("model.{layer}.hc_{sub}_{leaf}",)),
        Row("{layer}.attn.kv_norm.weight", ("model.{layer}.attn.norm.weight",)),
        Row(
            "{layer}.ffn.experts.{w}.weight",
            ("model.{layer}.ffn.experts.{expert}.{w}.weight",),
        ),
        Row("{layer}.{name}", ("model.{layer}.{name}",)),
    ),
)

# The plug-in's model is one rank with all heads, so its wo_a has one run that holds all groups.
OWN = Layout(
    name="our own names, as mlx-lm saves them",
    rows=(
        Row("{layer}.attn.wo_a.weight", ("{layer}.attn.wo_a.0.weight",)),
        Row("{name}", ("{name}",)),
    ),
)

_ATTN, _INDEXER = "model.{layer}.self_attn", "model.{layer}.self_attn.compressor.indexer"
_GATE_UP = ("model.{layer}.mlp.experts.gate_up_proj",)

MODULES = Layout(
    name="transformers' names of modules",
    rows=(
        Row("embed.weight", ("model.embed_tokens.weight",)),
        Row("head.weight", ("lm_head.weight",)),
        Row("norm.weight", ("model.norm.weight",)),
        Row("hc_head.{leaf}", ("model.hc_head.hc_{leaf}",)),
        Row("{layer}.hc_{sub}.{leaf}", ("model.{layer}.{sub}_hc.{leaf}",)),
        Row("{layer}.attn_norm.weight", ("model.{layer}.input_layernorm.weight",)),
        Row("{layer}.ffn_norm.weight", ("model.{layer}.post_attention_layernorm.weight",)),
        Row("{layer}.attn.attn_sink", (_ATTN + ".sinks",)),
        Row("{layer}.attn.wq_a.weight", (_ATTN + ".q_a_proj.weight",)),
        Row("{layer}.attn.wq_b.weight", (_ATTN + ".q_b_proj.weight",)),
        Row("{layer}.attn.wkv.weight", (_ATTN + ".kv_proj.weight",)),
        Row("{layer}.attn.wo_a.weight", (_ATTN + ".o_a_proj.weight",)),
        Row("{layer}.attn.wo_b.weight", (_ATTN + ".o_b_proj.weight",)),
        Row("{layer}.attn.q_norm.weight", (_ATTN + ".q_a_norm.weight",)),
        Row("{layer}.attn.kv_norm.weight", (_ATTN + ".kv_norm.weight",)),
        Row("{layer}.attn.compressor.ape", (_ATTN + ".compressor.position_bias",)),
        Row("{layer}.attn.compressor.wkv.weight", (_ATTN + ".compressor.kv_proj.weight",)),
        Row("{layer}.attn.compressor.wgate.weight", (_ATTN + ".compressor.gate_proj.weight",)),
        Row("{layer}.attn.compressor.norm.weight", (_ATTN + ".compressor.kv_norm.weight",)),
        Row("{layer}.attn.indexer.compressor.ape", (_INDEXER + ".position_bias",)),
        Row("{layer}.attn.indexer.compressor.wkv.weight", (_INDEXER + ".kv_proj.weight",)),
        Row("{layer}.attn.indexer.compressor.wgate.weight", (_INDEXER + ".gate_proj.weight",)),
        Row("{layer}.attn.indexer.compressor.norm.weight", (_INDEXER + ".kv_norm.weight",)),
        Row("{layer}.attn.indexer.wq_b.weight", (_INDEXER + ".q_b_proj.weight",)),
        Row(
            "{layer}.attn.indexer.weights_proj.weight",
            (_INDEXER + ".scorer.weights_proj.weight",),
        ),
        Row("{layer}.ffn.gate.bias", ("model.{layer}.mlp.gate.e_score_correction_bias",)),
        Row("{layer}.ffn.experts.w1.weight", _GATE_UP, part=(0, 2)),
        Row("{layer}.ffn.experts.w3.weight", _GATE_UP, part=(1, 2)),
        Row("{layer}.ffn.experts.w2.weight", ("model.{layer}.mlp.experts.down_proj",)),
        Row(
            "{layer}.ffn.shared_experts.{w}.weight",
            ("model.{layer}.mlp.shared_experts.{proj}.weight",),
        ),
        Row("{layer}.ffn.{name}", ("model.{layer}.mlp.{name}",)),
    ),
)


def _bare(layout: Layout) -> Layout:
    """The same names where the inner model was saved, which has no prefix."""
    rows = (
        replace(row, names=tuple(name.removeprefix("model.") for name in row.names))
        for row in layout.rows
    )
    return Layout(f"{layout.name}, without the prefix `model.`", tuple(rows))


BARE = tuple(_bare(layout) for layout in (SWITCH, SELF_ATTN, MODULES))

# Of layouts that fit equally well the first is taken.
LAYOUTS = (OFFICIAL, SWITCH, SELF_ATTN, SAVED, MODULES, OWN, *BARE)

# Left out of a model with a DSpark drafter.
DSPARK = Drop("mtp.*", "a stage of the DSpark drafter, which is not used yet")
# Tensors that only a DSpark drafter has.
DSPARK_MARKS = ("mtp.0.main_proj.", "mtp.0.main_norm.")
# Left out when the MTP stages are not asked for.
UNASKED_MTP = "a stage for multi-token prediction, which was not asked for"

# A name (a glob) that tells a family which is not supported, and what to call it.
FOREIGN: tuple[tuple[str, str], ...] = (
    ("*.weight_scale_inv", "a conversion with weight_scale_inv"),
    ("*.qweight", "a quantisation by GPTQ or AWQ"),
    ("*.weight_packed", "a quantisation by compressed-tensors"),
)
