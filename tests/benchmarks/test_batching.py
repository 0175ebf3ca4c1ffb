"""The bench of shared steps counts what it says."""

import pytest

from benchmarks import batching
from dsv4_tp.engine import Collectives, Team
from dsv4_tp.model import Model


@pytest.fixture(scope="module")
def alone() -> tuple[Model, Team]:
    return batching.on_ring(Collectives())


def test_sequences_share_passes(alone: tuple[Model, Team], monkeypatch) -> None:
    monkeypatch.setattr(batching, "SHARED_STEPS", 3)
    one, three = batching.batches(*alone, (1, 3))
    assert (one.passes, one.throughput) == (1, 1)
    assert (three.passes, three.collectives) == (pytest.approx(1 / 3), 0)


def test_a_text_waits_for_a_chunk_and_without_them_for_all(alone: tuple[Model, Team]) -> None:
    chunked, at_once = batching.stalls(*alone, long=48, chunk=16)
    assert (chunked.chunks, chunked.tokens, chunked.whole) == (1, 16, 1)
    assert (at_once.chunks, at_once.tokens) == (1, 48)
