"""What a request cost on this rank: times, decode steps, collectives and bytes."""

import time

from dsv4_tp.core import FinishEvent, Request
from dsv4_tp.engine.collectives import Traffic
from dsv4_tp.engine.steps import Ended

_NOTHING = Traffic()


class Meter:
    """Measures one request from its first step on."""

    def __init__(self) -> None:
        self._started_s = time.monotonic()
        self._decoding_since_s: float | None = None
        self._spent = _NOTHING
        self._decode_steps = self._drafted = self._accepted = 0

    def prefill_done(self) -> None:
        """The prompt is fed and its first token chosen."""
        self._decoding_since_s = time.monotonic()

    def decoded(self, spent: Traffic, drafted: int, accepted: int) -> None:
        """A step fed a token and so many drafts, of which some were right; it exchanged so much."""
        self._decode_steps += 1
        self._drafted += drafted
        self._accepted += accepted
        self._spent += spent

    def finish(self, ended: Ended) -> FinishEvent:
        """The request is over."""
        now_s = time.monotonic()
        prefill_end_s = now_s if self._decoding_since_s is None else self._decoding_since_s
        return finish_event(
            ended,
            prefill_s=prefill_end_s - self._started_s,
            decode_s=now_s - prefill_end_s,
            decode_steps=self._decode_steps,
            drafted=self._drafted,
            accepted=self._accepted,
            spent=self._spent,
        )


def finish_event(
    ended: Ended,
    *,
    prefill_s: float = 0.0,
    decode_s: float = 0.0,
    decode_steps: int = 0,
    drafted: int = 0,
    accepted: int = 0,
    spent: Traffic = _NOTHING,
) -> FinishEvent:
    """The event of a request that ended; one that never had its turn cost nothing."""
    request = ended.request
    prompts = (request.prompt,) if isinstance(request, Request) else request.rows
    return FinishEvent(
        request.id,
        ended.reason,
        prompt_tokens=sum(map(len, prompts)),
        generated_tokens=ended.generated,
        cached_tokens=ended.cached,
        prefill_s=prefill_s,
        decode_s=decode_s,
        collectives=spent.collectives,
        wire_bytes=spent.wire_bytes,
        error=ended.error,
        decode_steps=decode_steps,
        drafted_tokens=drafted,
        accepted_tokens=accepted,
    )
