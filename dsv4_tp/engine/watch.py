"""What each step of a rank was: seen from outside, by the progress and events that pass."""

import time
from collections.abc import Callable

from dsv4_tp.core import Event, StepEvent, TokenEvent, Work
from dsv4_tp.engine.collectives import Ledger
from dsv4_tp.engine.outside import Progress
from dsv4_tp.engine.steps import Check, Decode, Feed, Score, Wait


class Watch:
    """Stands between an engine and the outside, and counts what is told. It is a `Progress`."""

    def __init__(
        self, progress: Progress, emit: Callable[[Event], None], ledger: Ledger, *, tells: bool
    ) -> None:
        """`tells`: this rank emits what it has counted, a StepEvent for each step."""
        self._progress = progress
        self._emit = emit
        self._ledger = ledger
        self._tells = tells
        self._phase = ""
        self._begin()

    def phase(self, phase: str) -> None:
        """A phase begins."""
        self._phase = phase
        self._progress.phase(phase)

    def prefilled(self, tokens: int) -> None:
        """So many more given tokens were fed."""
        self._tokens += tokens
        self._progress.prefilled(tokens)

    def decoded(self) -> None:
        """One more decode step is done."""
        self._progress.decoded()

    def emit(self, event: Event) -> None:
        """Passes an event on."""
        if isinstance(event, TokenEvent) and self._phase == "decode":
            self._tokens += 1
        self._emit(event)

    def done(self, step: Wait | Feed | Decode | Score | Check, *, running: int) -> None:
        """The step is over, and so many requests have a place now."""
        if self._tells and not isinstance(step, Wait):
            self._emit(StepEvent(self._phase, self._work(step), running))
        self._begin()

    def _begin(self) -> None:
        self._began_s, self._before, self._tokens = time.monotonic(), self._ledger.traffic, 0

    def _work(self, step: Feed | Decode | Score | Check) -> Work:
        spent = self._ledger.traffic - self._before
        return Work(
            steps=1,
            rows=_rows(step),
            tokens=self._tokens,
            collectives=spent.collectives,
            wire_bytes=spent.wire_bytes,
            time_s=time.monotonic() - self._began_s,
        )


def _rows(step: Feed | Decode | Score | Check) -> int:
    match step:
        case Feed() | Check():
            return 1
        case Decode():
            return len(step.rows)
        case Score():
            return len(step.request.rows)
