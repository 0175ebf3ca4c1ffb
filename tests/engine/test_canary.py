"""What the canary says of ranks that do not fit together; see test_ring for real ones."""

from contextlib import suppress

import mlx.core as mx
import numpy as np
import pytest

from dsv4_tp.engine.canary import check_agreement, check_sums
from dsv4_tp.engine.collectives import Collectives, Group
from dsv4_tp.errors import PreflightError, RankFailure

FACTS = {"version": "1", "dtype": "float32"}


class Said(Exception):
    pass


class Mute(Collectives):
    """A rank that says one thing and hears nothing."""

    def gather(self, x):
        self.said = x
        raise Said


class Heard(Collectives):
    """Rank 0, which hears `others` say theirs; sums come out as `total`."""

    def __init__(self, *others, total=None):
        super().__init__(Group(0, 1 + len(others)))
        self.others, self.total = others, total

    def gather(self, x):
        return mx.stack([x, *(x if other is None else other for other in self.others)])

    def all_sum(self, x):
        return x if self.total is None else self.total(x)


def said(rank, size, *, facts=FACTS, nonce=b"n"):
    """What a rank puts into the first exchange."""
    mute = Mute(Group(rank, size))
    with suppress(Said):
        check_agreement(mute, facts, nonce=nonce)
    return mute.said


def test_ranks_of_one_launch_agree():
    check_agreement(Heard(said(1, 3), said(2, 3)), FACTS, nonce=b"n")


@pytest.mark.parametrize(
    "other", [said(1, 2, nonce=b"m"), mx.full((16, 16), 7, dtype=mx.uint8), None]
)
def test_a_stranger_is_found_out(other):
    words = "no rank of this launch" if other is not None else "wrong order"
    with pytest.raises(RankFailure, match=words):
        check_agreement(Heard(other), FACTS, nonce=b"n")


def test_another_fact_is_named():
    other = said(1, 2, facts=FACTS | {"dtype": "bfloat16"})
    with pytest.raises(PreflightError, match="the dtype: ranks \\[1\\] differ from rank 0"):
        check_agreement(Heard(other), FACTS, nonce=b"n")


def test_sums_with_other_bits_elsewhere_are_found():
    with pytest.raises(RankFailure, match="other bits on ranks \\[1\\]"):
        check_sums(Heard(mx.zeros(32, dtype=mx.uint8)))


def test_wrong_sums_are_found_though_all_ranks_have_them():
    right = Heard(total=lambda x: x)
    check_sums(right)
    with pytest.raises(RankFailure, match="is wrong"):
        check_sums(Heard(total=lambda x: x + mx.array(np.float32(1e-3))))
