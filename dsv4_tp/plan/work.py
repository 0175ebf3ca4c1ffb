"""How much a rank computes for each token of a long prompt, in floating-point operations.

Every weight that a token meets is one multiplication and one addition: all but the embedding's,
the head's, which only the last token of a prompt meets, and those of experts it is not sent to. On
top of it, attention compares heads with rows and sums rows, and indexers score the whole pool; what
indexers do for a token, one rank does for all.
"""

from collections.abc import Mapping

from dsv4_tp.modelspec import ModelSpec
from dsv4_tp.plan.reads import rows_read

_PAIR = 2  # a multiplication and an addition
_UNMET = ("embed", "head")


def token_flop(
    spec: ModelSpec,
    counts: Mapping[str, int],
    *,
    heads: int,
    context: int,
    index_share: float = 1.0,
) -> dict[str, float]:
    """What a rank with `counts` weights, by kind, and `heads` does for a token behind `context`.

    It looks up rows for `index_share` of the tokens.
    """
    sent = spec.num_experts_per_tok / spec.n_routed_experts
    met = sum(
        count * (sent if kind == "experts" else 1)
        for kind, count in counts.items()
        if kind not in _UNMET
    )
    looks = [rows_read(spec, ratio, context) for ratio in spec.compress_ratios]
    held, indexed = (sum(column) for column in zip(*looks, strict=True))
    return {
        "weights": _PAIR * met,
        "attention": 2 * _PAIR * heads * spec.head_dim * float(held),
        "indexers": _PAIR * spec.index_n_heads * spec.index_head_dim * indexed * index_share,
    }
