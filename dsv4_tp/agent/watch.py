"""A living rank, what is normal for it, and how long it may therefore show no progress.

Normal is learned phase by phase, from the gaps between two changes of its progress, and only while
its work stays the same. What a request brings when it comes or goes (a longer prompt, more rows in
a step) may take a time of its own, and is held to the configured deadline. Compiling a schema is a
phase of its own, of which nothing is learned: the next one may be much larger.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from dsv4_tp.agent.events import Deadlines
from dsv4_tp.core import RankReport
from dsv4_tp.rpc.progress import DOING

FACTOR = 5.0  # times what is usual, without progress: it has stalled
SLOW_FACTOR = 3.0  # times what is usual: worth a note, and no fault
WARM_UP = 5  # changes, before anything is learned or expected
# By phase, what is always allowed: other work on the machine, or a disk, may take that long.
FLOORS_S = {"loading": 20.0, "prefill": 10.0, "decode": 5.0}
_LEAST_NOTED_S = 1.0
_STEPS = {"loading": "layer", "prefill": "chunk of a prompt", "decode": "step"}


@dataclass(frozen=True, slots=True)
class Pace:
    """The gaps of one phase."""

    seen: int = 0
    longest_s: float = 0.0
    token_s: float = 0.0  # the longest for each token fed in it

    def with_gap(self, gap_s: float, tokens: int) -> "Pace":
        """One gap more, in which so many tokens of prompts were fed."""
        token_s = gap_s / tokens if tokens else 0.0
        return Pace(self.seen + 1, max(self.longest_s, gap_s), max(self.token_s, token_s))

    def usual_s(self, chunk_tokens: int) -> float | None:
        """The longest normal gap, with a chunk of so many tokens in it; None: not known yet."""
        if self.seen < WARM_UP:
            return None
        return max(self.longest_s, self.token_s * chunk_tokens)


@dataclass(frozen=True, slots=True)
class Watch:
    """A living rank: its latest report, since when it is the same, and what was normal."""

    report: RankReport
    since_s: float
    met_s: float = -math.inf  # when it showed last that it met the others
    # Requests it has not finished, with the most tokens that each has fed at a time.
    owed: Mapping[str, int] = field(default_factory=dict[str, int])
    calm: int = 0  # changes since its work is the same
    paces: Mapping[str, Pace] = field(default_factory=dict[str, Pace])  # by phase

    @property
    def idle(self) -> bool:
        """Whether it rightly makes no progress."""
        return self.report.phase == "ready" and not self.owed

    @property
    def doing(self) -> str:
        """What it is at, as a verdict says it."""
        busy = self.report.phase == "ready" and self.owed
        return "taking a request" if busy else DOING[self.report.phase]

    @property
    def usual_s(self) -> float | None:
        """The longest normal gap in what it is at; None: not known, or its work has changed."""
        pace = self.paces.get(self.report.phase)
        if pace is None or self.calm < WARM_UP or _is_done(self.report):
            return None
        return pace.usual_s(max(self.owed.values(), default=0))


def with_report(watch: Watch, report: RankReport, now_s: float) -> Watch:
    """A look at the rank's progress; what has changed is learned from."""
    old = watch.report
    if _meetings(report) != _meetings(old):
        watch = replace(watch, met_s=now_s)
    if replace(report, waits=old.waits, calls=old.calls) == old:  # they come and go within a step
        return replace(watch, report=report)
    paces = watch.paces
    if old.phase in FLOORS_S and watch.calm >= WARM_UP and not _is_done(old):
        tokens = report.prefill_tokens - old.prefill_tokens
        pace = paces.get(old.phase, Pace()).with_gap(now_s - watch.since_s, tokens)
        paces = {**paces, old.phase: pace}
    return replace(watch, report=report, since_s=now_s, calm=watch.calm + 1, paces=paces)


def with_task(watch: Watch, request_id: str, chunk_tokens: int, now_s: float) -> Watch:
    """It is given a request."""
    # An idle rank's last change may be long ago: its time runs from here.
    since_s = now_s if watch.idle else watch.since_s
    return replace(watch, owed={**watch.owed, request_id: chunk_tokens}, since_s=since_s, calm=0)


def without_task(watch: Watch, request_id: str) -> Watch:
    """It is done with a request; another one may take its place."""
    rest = {name: tokens for name, tokens in watch.owed.items() if name != request_id}
    return replace(watch, owed=rest, calm=0)


def allowed_s(watch: Watch, deadlines: Deadlines) -> float:
    """How long it may show no progress: what is configured, or less where it is usually faster."""
    most_s = deadlines.of(watch.report.phase)
    usual_s = watch.usual_s if deadlines.learned else None
    if usual_s is None:
        return most_s
    return min(most_s, max(FLOORS_S[watch.report.phase], FACTOR * usual_s))


def slowness(watch: Watch, now_s: float) -> str:
    """A note on a rank that takes much longer than usual; empty: it does not."""
    usual_s, gap_s = watch.usual_s, now_s - watch.since_s
    if usual_s is None or gap_s <= max(_LEAST_NOTED_S, SLOW_FACTOR * usual_s):
        return ""
    return f"slow: {gap_s:.1f} s in a {_STEPS[watch.report.phase]}, {usual_s:.1f} s were usual"


def _meetings(report: RankReport) -> tuple[int, ...]:
    """What moves only where the ranks meet; to load or to compile, a rank needs nobody."""
    return report.waits, report.prefill_tokens, report.decode_steps


def _is_done(report: RankReport) -> bool:
    """Whether a rank that loads has all its bytes: what is left is no layer."""
    return report.phase == "loading" and report.bytes_loaded == report.bytes_total
