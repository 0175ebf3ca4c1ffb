"""The canary: the first exchange of a new group, which shows that all ranks run the same.

It knows facts by name only; what they say is their owner's business.
"""

import hashlib
from collections.abc import Mapping

import mlx.core as mx
import numpy as np

from dsv4_tp.engine.collectives import Collectives
from dsv4_tp.errors import PreflightError, RankFailure

# Fixed, so that ranks of different versions still exchange equal shapes.
_SLOTS = 16
_DIGEST_BYTES = 16
_SHOWN_CHARACTERS = 80


def check_agreement(collectives: Collectives, facts: Mapping[str, str]) -> None:
    """Compares the facts of all ranks, at most 15, by one collective.

    Raises:
        PreflightError: a fact differs; it names the first one, the ranks that hold it otherwise
            than rank 0, and what this rank holds.
        RankFailure: the ring is not in the order of the ranks.
    """
    assert len(facts) < _SLOTS, "more facts than the exchange has room for"
    digests = _digests([str(collectives.rank), *(f"{key}={facts[key]}" for key in facts)])
    # [ranks, slots, bytes]
    gathered = np.array(collectives.gather(mx.array(digests)), dtype=np.uint8)
    places = _digests([str(rank) for rank in range(_SLOTS)])[: collectives.size]
    if not np.array_equal(gathered[:, 0], places):
        raise RankFailure("the ring joined the ranks in a wrong order")
    for slot, (name, value) in enumerate(facts.items(), start=1):
        others = np.any(gathered[:, slot] != gathered[0, slot], axis=-1)
        if others.any():
            raise PreflightError(
                f"the ranks do not agree on the {name}: ranks {np.flatnonzero(others).tolist()} "
                f"differ from rank 0; rank {collectives.rank} has {value[:_SHOWN_CHARACTERS]}"
            )


def _digests(words: list[str]) -> np.ndarray:
    """uint8 [slots, digest bytes]; slots without a word are zero."""
    table = np.zeros((_SLOTS, _DIGEST_BYTES), dtype=np.uint8)
    for slot, word in enumerate(words):
        digest = hashlib.sha256(word.encode()).digest()[:_DIGEST_BYTES]
        table[slot] = np.frombuffer(digest, dtype=np.uint8)
    return table
