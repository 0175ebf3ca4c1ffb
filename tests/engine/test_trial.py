"""A trial of a group tells equal bits from others, whatever it costs."""

import mlx.core as mx

from dsv4_tp.engine.collectives import Collectives
from dsv4_tp.engine.trial import try_group


class Echo(Collectives):
    """Another rank whose digests differ from ours by `wrong`."""

    def __init__(self, wrong: int) -> None:
        super().__init__()
        self.wrong = wrong

    def gather(self, x: mx.array) -> mx.array:
        return mx.stack([x, x + self.wrong])


def test_equal_bits_are_told_from_others():
    same, other = try_group(Echo(0)), try_group(Echo(1))
    assert (same.equal, other.equal) == (True, False)
    assert 0 < same.median_s <= same.slowest_s
    assert same.row_bytes == 16384
