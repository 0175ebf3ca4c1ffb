"""Drafts are counted by what they save."""

from benchmarks import batching, drafts
from dsv4_tp.engine import Collectives


def test_right_drafts_save_passes():
    alone, (asked, *_) = batching.on_ring(Collectives(), mtp=True), drafts.texts(1)
    found = drafts.drafted(*alone, [asked], 2)
    assert (found.passes < 1, found.right > 0) == (True, True)
