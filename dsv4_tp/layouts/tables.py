"""The names of each known checkpoint family, as tables.

A row says under which name a release stores the tensor that our model calls `path`. Fields in
braces stand for themselves on both sides; `{expert}` is the number of a routed expert, so such a
row gathers one tensor from many. The first row whose path fits is the one.

Data only; `names.py` reads it. A further family becomes a Layout beside OFFICIAL; until then
FOREIGN recognises it by a name that only it has, so that the refusal can say what was met.
"""

from collections.abc import Mapping
from dataclasses import dataclass

# What a field in braces may stand for.
FIELDS: Mapping[str, str] = {
    "block": r"(?:layers|mtp)\.\d+",
    "leaf": "fn|base|scale",
    "w": "w1|w2|w3",
    "name": ".+",
}


@dataclass(frozen=True, slots=True)
class Row:
    """The released name of the tensors whose path in our model has this form."""

    released: str
    path: str


@dataclass(frozen=True, slots=True)
class Drop:
    """Names (a glob) that are in the files but not used, and why."""

    pattern: str
    reason: str


@dataclass(frozen=True, slots=True)
class Layout:
    """One family's names. A quantised `X.weight` has its scales in `X` + `scale_suffix`."""

    name: str
    rows: tuple[Row, ...]
    scale_suffix: str
    drops: tuple[Drop, ...]


OFFICIAL = Layout(
    name="DeepSeek's release",
    scale_suffix=".scale",
    rows=(
        Row("hc_head_{leaf}", path="hc_head.{leaf}"),
        Row("{block}.hc_head_{leaf}", path="{block}.hc_head.{leaf}"),
        Row("{block}.hc_attn_{leaf}", path="{block}.hc_attn.{leaf}"),
        Row("{block}.hc_ffn_{leaf}", path="{block}.hc_ffn.{leaf}"),
        Row("{block}.ffn.experts.{expert}.{w}.weight", path="{block}.ffn.experts.{w}.weight"),
        Row("{name}", path="{name}"),  # our names are DeepSeek's
    ),
    drops=(
        Drop("mtp.*.emb.tok_emb.weight", "a copy of embed.weight, which the MTP stage shares"),
        Drop("mtp.*.head.weight", "a copy of head.weight, which the MTP stage shares"),
    ),
)

# Left out of a model whose config.json states a DSpark drafter.
DSPARK = Drop("mtp.*", "a stage of the DSpark drafter, which is not used yet")
# Left out when the MTP stages are not asked for.
UNASKED_MTP = "a stage for multi-token prediction, which was not asked for"

# A name (a glob) that tells a family which is not supported yet, and what to call it.
FOREIGN: tuple[tuple[str, str], ...] = (
    ("*.switch_mlp.*", "an mlx-lm conversion (switch_mlp)"),
    ("*.attn.wo_a.0.*", "an mlx conversion with one wo_a per output group"),
    ("*.self_attn.*", "transformers' names (self_attn)"),
    ("*.biases", "an affine quantisation by MLX"),
    ("*.weight_scale_inv", "a conversion with weight_scale_inv"),
    ("model.*", "names with the prefix `model.`"),
)
