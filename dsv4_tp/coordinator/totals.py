"""What became of all requests of a cluster, in numbers; a part of `requests`."""

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from dsv4_tp.core import FinishEvent, StepEvent, Work

_STEPS_S = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.5, 5.0, 15.0)
_WAITS_S = (
    0.01,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
    60.0,
    120.0,
    300.0,
    600.0,
    1800.0,
)


@dataclass(frozen=True, slots=True)
class Histogram:
    """How often something has taken how long, in seconds."""

    bounds_s: tuple[float, ...]  # growing
    counts: tuple[int, ...]  # up to each bound, above the one before; and above the last
    sum_s: float = 0.0

    def observed(self, time_s: float) -> "Histogram":
        """Once more."""
        at = bisect_left(self.bounds_s, time_s)
        counts = (*self.counts[:at], self.counts[at] + 1, *self.counts[at + 1 :])
        return Histogram(self.bounds_s, counts, self.sum_s + time_s)


def _none(bounds_s: tuple[float, ...] = _WAITS_S) -> Histogram:
    return Histogram(bounds_s, (0,) * (len(bounds_s) + 1))


@dataclass(frozen=True, slots=True)
class Times:
    """How long clients have waited for what; time that was lost with an epoch is waiting, too."""

    first_token: Histogram = field(default_factory=_none)  # from its request's arrival
    queue: Histogram = field(default_factory=_none)  # from a request's arrival to its start
    prefill: Histogram = field(default_factory=_none)
    decode: Histogram = field(default_factory=_none)
    whole: Histogram = field(default_factory=_none)  # from a request's arrival to its end

    def finished(self, event: FinishEvent) -> "Times":
        """A request has ended, which ranks had not refused."""
        first_s, whole_s = event.first_token_s, event.queue_s + event.prefill_s + event.decode_s
        return replace(
            self,
            first_token=self.first_token if first_s is None else self.first_token.observed(first_s),
            queue=self.queue.observed(event.queue_s),
            prefill=self.prefill.observed(event.prefill_s),
            decode=self.decode.observed(event.decode_s),
            whole=self.whole.observed(whole_s),
        )


@dataclass(frozen=True, slots=True)
class Tokens:
    """Of requests that have ended."""

    prompt: int = 0
    cached: int = 0  # of the prompts, that were in a snapshot
    drafted: int = 0
    accepted: int = 0  # of the drafted ones

    def finished(self, event: FinishEvent) -> "Tokens":
        """A request has ended."""
        return Tokens(
            self.prompt + event.prompt_tokens,
            self.cached + event.cached_tokens,
            self.drafted + event.drafted_tokens,
            self.accepted + event.accepted_tokens,
        )


@dataclass(frozen=True, slots=True)
class Totals:
    """What was done since the launch."""

    ended: Mapping[str, int] = field(default_factory=dict[str, int])  # by reason, refused, lost
    work: Mapping[str, Work] = field(default_factory=lambda: {"prefill": Work(), "decode": Work()})
    running: int = 0  # requests that have a place, after the last step
    replayed: int = 0  # requests that went on in another epoch, each time
    generated: int = 0  # tokens, as clients have them
    between_tokens: Histogram = field(default_factory=lambda: _none(_STEPS_S))
    tokens: Tokens = Tokens()
    times: Times = field(default_factory=Times)

    def counted(self, why: str, count: int = 1) -> "Totals":
        """So many more have ended for this reason."""
        return replace(self, ended={**self.ended, why: self.ended.get(why, 0) + count})

    def finished(self, event: FinishEvent) -> "Totals":
        """One has ended as the ranks told."""
        if event.error:
            return self
        tokens, times = self.tokens.finished(event), self.times.finished(event)
        return replace(self, tokens=tokens, times=times)

    def told(self, pause_s: float | None) -> "Totals":
        """A client has one more token, so long after the one before, if there was one."""
        between = self.between_tokens if pause_s is None else self.between_tokens.observed(pause_s)
        return replace(self, generated=self.generated + 1, between_tokens=between)

    def stepped(self, event: StepEvent) -> "Totals":
        """The first rank has made a step."""
        work = {**self.work, event.phase: self.work[event.phase] + event.work}
        return replace(self, work=work, running=event.running)
