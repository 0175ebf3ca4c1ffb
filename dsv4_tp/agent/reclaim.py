"""Whether the memory of ranks that ended came back. Bytes in, words out; nothing is measured here.

The end of a process does not prove it: a driver may keep what was wired for it until the next boot,
and the next epoch would start on a host that only looks empty.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from dsv4_tp.core import RankReport

MEMORY_S = 50.0  # for it to come back, after the last rank is gone
_TOLERANCE_BYTES = 512 * 2**20
_GB = 1e9


@dataclass(frozen=True, slots=True)
class Kept:
    """Memory that belongs to no process, or may stay when its process has ended."""

    nbytes: int
    kind: str  # as a verdict says it: wired, shared
    noise: float = 0.0  # of what ranks held, so much more may be other programs' doing


@dataclass(frozen=True, slots=True)
class Balance:
    """What ended ranks left behind."""

    held_bytes: int  # by the ranks, at most
    missing_bytes: int  # kept now and not before they started; no more than they held
    allowed_bytes: int
    kind: str

    @property
    def is_even(self) -> bool:
        """Whether the memory is back."""
        return self.missing_bytes <= self.allowed_bytes

    @property
    def returned_bytes(self) -> int:
        """What came back."""
        return self.held_bytes - self.missing_bytes

    @property
    def verdict(self) -> str:
        """In words, what did not."""
        return (
            f"{self.missing_bytes / _GB:.1f} GB of {self.kind} memory did not come back within "
            f"{MEMORY_S:g} s; reboot it"
        )


def balance(before: Kept, now_bytes: int, gone: Iterable[RankReport]) -> Balance:
    """What is missing of the memory of ranks that are `gone`, by their last reports."""
    held = sum(report.peak_bytes for report in gone)
    missing = min(max(now_bytes - before.nbytes, 0), held)
    return Balance(held, missing, max(_TOLERANCE_BYTES, int(before.noise * held)), before.kind)
