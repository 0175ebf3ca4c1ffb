"""The canary: the first exchanges of a new group, which show that all ranks run the same.

First that they are who they should be and hold the same facts, then that a sum has the same bits
on all of them. It knows facts by name only; what they say is their owner's business.
"""

import hashlib
from collections.abc import Mapping, Sequence

import mlx.core as mx
import numpy as np
from numpy.typing import DTypeLike

from dsv4_tp.engine.collectives import Collectives
from dsv4_tp.engine.steps import MOST_ROWS
from dsv4_tp.errors import PreflightError, RankFailure

# Fixed, so that ranks of different versions still exchange equal shapes.
_SLOTS = 16
_DIGEST_BYTES = 16
_SHOWN_CHARACTERS = 80
# A row, and more rows than are added by rank: sums take another way by their size.
_SUMS = ((1, 256), (MOST_ROWS + 1, 1024))


def check_agreement(
    collectives: Collectives, facts: Mapping[str, str], *, nonce: bytes = b""
) -> None:
    """Compares the nonce and the facts of all ranks, at most 15, by one collective.

    Raises:
        PreflightError: a fact differs; it names the first one, the ranks that hold it otherwise
            than rank 0, and what this rank holds.
        RankFailure: at some rank's place is another rank, or a stranger.
    """
    assert len(facts) < _SLOTS, "more facts than the exchange has room for"
    badges = [f"{nonce.hex()} {rank}" for rank in range(collectives.size)]
    mine = _digests([badges[collectives.rank], *(f"{key}={facts[key]}" for key in facts)])
    # [ranks, slots, bytes]
    gathered = _heard(collectives, collectives.gather(mx.array(mine)), np.uint8)
    _check_badges(gathered[:, 0], _digests(badges, slots=collectives.size))
    for slot, (name, value) in enumerate(facts.items(), start=1):
        others = _unlike(gathered[:, slot], gathered[0, slot])
        if others:
            raise PreflightError(
                f"the ranks do not agree on the {name}: ranks {others} "
                f"differ from rank 0; rank {collectives.rank} has {value[:_SHOWN_CHARACTERS]}"
            )


def check_sums(collectives: Collectives, *, nonce: bytes = b"") -> None:
    """Sums noise that every rank knows of every other one, and compares the bits of the sums.

    Raises:
        RankFailure: a sum is wrong here, or has other bits on another rank.
    """
    for shape in _SUMS:
        noise = [_noise(nonce, rank, shape) for rank in range(collectives.size)]
        mine = collectives.all_sum(mx.array(noise[collectives.rank]))
        total = _heard(collectives, mine, np.float32)
        digest = np.frombuffer(hashlib.sha256(total.tobytes()).digest(), dtype=np.uint8)
        digests = _heard(collectives, collectives.gather(mx.array(digest)), np.uint8)
        if others := _unlike(digests, digests[0]):
            raise _wrong(f"has other bits on ranks {others} than on rank 0")
        if not np.allclose(total, np.sum(noise, axis=0, dtype=np.float64), atol=1e-5):
            raise _wrong("is wrong")


def _heard(collectives: Collectives, x: mx.array, dtype: DTypeLike) -> np.ndarray:
    """What came of an exchange."""
    collectives.evaluate(x)
    return np.array(x, dtype=dtype)


def _check_badges(shown: np.ndarray, expected: np.ndarray) -> None:
    if not (strange := _unlike(shown, expected)):
        return
    known = {badge.tobytes() for badge in expected}
    if all(badge.tobytes() in known for badge in shown):
        raise RankFailure("the ring joined the ranks in a wrong order")
    raise RankFailure(
        f"what answers as ranks {strange} is no rank of this launch; find out what else connects "
        "to the ranks' data ports"
    )


def _unlike(rows: np.ndarray, expected: np.ndarray) -> list[int]:
    """Which rows are not as expected."""
    return np.flatnonzero(np.any(rows != expected, axis=-1)).tolist()


def _wrong(how: str) -> RankFailure:
    return RankFailure(f"a sum over the ranks {how}; a link or the backend between them is broken")


def _noise(nonce: bytes, rank: int, shape: tuple[int, int]) -> np.ndarray:
    """float32 in [-0.5, 0.5), the same wherever it is made."""
    count = shape[0] * shape[1]
    words = hashlib.shake_256(nonce + bytes([rank])).digest(4 * count)
    return (np.frombuffer(words, dtype="<u4") / 2**32 - 0.5).astype(np.float32).reshape(shape)


def _digests(words: Sequence[str], *, slots: int = _SLOTS) -> np.ndarray:
    """uint8 [slots, digest bytes]; slots without a word are zero."""
    table = np.zeros((slots, _DIGEST_BYTES), dtype=np.uint8)
    for slot, word in enumerate(words):
        digest = hashlib.sha256(word.encode()).digest()[:_DIGEST_BYTES]
        table[slot] = np.frombuffer(digest, dtype=np.uint8)
    return table
