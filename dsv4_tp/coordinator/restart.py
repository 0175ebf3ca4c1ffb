"""Whether and when another epoch follows one that has failed. No clock in here; a part of `state`.

What fails over and over would fail for ever, so it ends with a reason: three times in a row
without anything to show for it, however long each took, or as often within a while as the policy
allows. A host where no epoch could start, for its port is taken or its disk is not there, is waited
for like one that is away.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import takewhile

from dsv4_tp.config import Restart

IN_VAIN = 3  # epochs in a row
_DOUBLINGS = 32  # more make no difference, and numbers have an end


@dataclass(frozen=True, slots=True)
class Failure:
    """An epoch that failed."""

    at_s: float
    who: str  # "rank 1 on mac-b"
    cause: str  # "killed by SIGKILL while loading"
    fruitful: bool  # it had told something of a request, or was ready for a good while
    unfit: int = 0  # so many times since then no rank was started, for a host was not fit

    def __str__(self) -> str:
        return f"{self.who}: {self.cause}"


@dataclass(frozen=True, slots=True)
class Wait:
    """Another epoch may start when so much time has passed."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Stop:
    """There is to be no other, for this reason."""

    reason: str


def with_failure(
    policy: Restart, failures: tuple[Failure, ...], last: Failure
) -> tuple[Failure, ...]:
    """All that `judge` has to know of; hosts that were not fit are forgotten once an epoch ran."""
    if failures and failures[-1].unfit:
        before, failures = failures[-1], failures[:-1]
        last = replace(last, at_s=before.at_s, unfit=before.unfit + 1) if last.unfit else last
    return (*failures[-max(IN_VAIN, policy.most) :], last)


def judge(policy: Restart, failures: Sequence[Failure], now_s: float) -> Wait | Stop:
    """What follows the last of `failures`, which are in the order in which they happened."""
    last = failures[-1]
    if last.unfit:
        if now_s - last.at_s >= policy.window_s:
            return Stop(f"{last}; given up after {policy.window_s:g} s")
        return Wait(pause_s(policy, last.unfit))
    recent = [each for each in failures if now_s - each.at_s <= policy.window_s]
    vain = [*takewhile(lambda each: not each.fruitful, reversed(failures))][::-1]
    if len(vain) >= IN_VAIN:
        return Stop(_reason(vain, "before a token"))
    if len(recent) >= policy.most:
        return Stop(_reason(recent, f"within {policy.window_s:g} s"))
    return Wait(pause_s(policy, len(recent)))


def pause_s(policy: Restart, failed: int) -> float:
    """How long to wait after so many failures, one or more."""
    least_s, most_s = policy.backoff_s
    return min(most_s, least_s * 2 ** min(failed - 1, _DOUBLINGS))


def _reason(failures: Sequence[Failure], when: str) -> str:
    """Who failed how often, with the evidence; each piece of it once."""
    culprits = {each.who for each in failures}
    if len(culprits) == 1:
        who, causes = culprits.pop(), [each.cause for each in failures]
    else:
        who, causes = "the cluster", [str(each) for each in failures]
    return f"{who} failed {_times(len(failures))} {when}: {'; '.join(dict.fromkeys(causes))}"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
