"""How the process of a rank is ended: what it is sent, in which order, and how long each may take.

All ranks of a host are ended at once, so the longest way is the same for one rank and for many.
"""

from dataclasses import dataclass
from signal import SIGKILL, SIGTERM, SIGUSR2, Signals

DUMP = SIGUSR2  # a rank answers it with its stacks on stderr, even while one thread holds the GIL
DUMP_S = 0.5  # what that may take before a rank that stalled is ended


@dataclass(frozen=True, slots=True)
class Rung:
    """A signal, and how long to wait for the end."""

    number: Signals
    patience_s: float


_ASK = Rung(SIGTERM, 1.0)
_MAKE = Rung(SIGKILL, 5.0)


def ladder(*, stopped: bool) -> tuple[Rung, ...]:
    """The way down for a process; one that is stopped by a signal takes no other but SIGKILL."""
    return (_MAKE,) if stopped else (_ASK, _MAKE)


def longest_s() -> float:
    """From the verdict on a rank that stalled until it is gone, or known to be beyond reach."""
    return DUMP_S + sum(rung.patience_s for rung in ladder(stopped=False))
