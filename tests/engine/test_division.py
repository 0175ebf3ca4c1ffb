"""How a call's tokens are divided over ranks, and put together again."""

from typing import cast

import mlx.core as mx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsv4_tp.core import Part, Span
from dsv4_tp.engine import Collectives, TokenShares
from dsv4_tp.engine.collectives import Group
from tests.parallel.team import Sums
from tests.specs import fuzz

NONE = Span(0, 0)


def ranks(heads: list[int], sums: list[mx.array] | None = None) -> list[TokenShares]:
    """One of each rank. What they put together is kept in `sums`."""
    parts = [Part(Span(0, count), NONE, NONE, NONE, NONE) for count in heads]

    def keep(x: mx.array) -> mx.array:
        assert sums is not None
        sums.append(x)
        return x

    all_sums = (Sums(rank, len(heads), keep) for rank in range(len(heads)))
    return [TokenShares(cast(Collectives, each), parts) for each in all_sums]


@fuzz
@given(st.lists(st.integers(0, 64), min_size=2, max_size=16), st.integers(64, 5000))
def test_each_token_is_of_one_rank(heads: list[int], length: int):
    spans = [rank.span(length) for rank in ranks(heads)]
    assert [span.start for span in spans[1:]] == [span.stop for span in spans[:-1]]
    assert (spans[0].start, spans[-1].stop) == (0, length)
    # A rank without a token would have nothing to look up by.
    assert min(map(len, spans)) >= 1
    rest, total = length - len(heads), sum(1 + each for each in heads)
    fair = [1 + (1 + count) / total * rest for count in heads]
    assert all(abs(len(span) - share) < 1 for span, share in zip(spans, fair, strict=True))


@pytest.mark.parametrize("heads", [[4, 4], [3, 0, 5], [1] * 8])
def test_what_each_finds_is_put_together(heads: list[int]):
    whole = mx.random.randint(0, 10**6, (2, 100, 5), key=mx.random.key(1))
    sums: list[mx.array] = []
    for rank in ranks(heads, sums):
        span = rank.span(100)
        rank.whole(whole[:, span.start : span.stop], 100)
    assert mx.array_equal(sum(sums[1:], sums[0]), whole)


def test_a_short_call_is_not_divided():
    first, second = ranks([4, 4])
    assert first.span(63) == second.span(63) == Span(0, 63)
    found = mx.zeros((1, 63, 5), mx.uint32)
    assert second.whole(found, 63) is found  # and nothing is sent
    alone = TokenShares(Collectives(), [Part(Span(0, 8), NONE, NONE, NONE, NONE)])
    assert alone.span(5000) == Span(0, 5000)
    assert alone.whole(found, 5000) is found


def test_what_may_be_rounded_is_not_put_together():
    with pytest.raises(AssertionError, match="float32 may be rounded"):
        Collectives(Group(0, 2)).put_together(mx.zeros((2,)))
