"""What every rank has of things that each may have or lack."""

import hashlib
from collections.abc import Sequence
from typing import TypeVar

import mlx.core as mx
import numpy as np

from dsv4_tp.engine.collectives import Collectives
from dsv4_tp.prefixes import Index, Shelf, with_entries

_DIGEST_BYTES = 16
_Thing = TypeVar("_Thing")


def common(collectives: Collectives, things: Sequence[_Thing]) -> list[_Thing]:
    """Those of this rank's things that all ranks have: things are equal if their `repr` is.

    Two collectives, of as many digests as the rank that has most.
    """
    digests = [hashlib.sha256(repr(thing).encode()).digest()[:_DIGEST_BYTES] for thing in things]
    most = -collectives.agree(-len(digests))
    if most == 0:
        return []
    table = np.zeros((most, _DIGEST_BYTES), dtype=np.uint8)
    for row, digest in enumerate(digests):
        table[row] = np.frombuffer(digest, dtype=np.uint8)
    # [ranks, most, bytes]
    gathered = collectives.gather(mx.array(table))
    collectives.evaluate(gathered)
    ranks = [{row.tobytes() for row in rank} for rank in np.array(gathered, dtype=np.uint8)]
    pairs = zip(things, digests, strict=True)
    return [thing for thing, digest in pairs if all(digest in rank for rank in ranks)]


def common_index(collectives: Collectives, shelf: Shelf, budget_bytes: int) -> Index:
    """The index of the snapshots that all ranks have found; this rank gives the others up."""
    index = with_entries(budget_bytes, common(collectives, shelf.found))
    shelf.keep_only(index)
    return index
