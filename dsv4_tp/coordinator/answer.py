"""From what ranks tell of a request to what its client hears, which ends at a stop string."""

from collections import deque
from collections.abc import Sequence

from dsv4_tp.asks import Finish, Logprob, Piece, Stats
from dsv4_tp.core import SHUTTING_DOWN, FinishEvent, FinishReason, TokenEvent
from dsv4_tp.errors import NotReadyError, NumericsError, RequestError
from dsv4_tp.text import Detokenizer, Stops


class Answer:
    """One text in the making. Its tokens come with their text, never before it.

    A token whose text lies wholly behind the end is not part of it.
    """

    def __init__(self, words: Detokenizer | None, stops: Sequence[str] = ()) -> None:
        """`words` is None where there is no tokenizer; there are no `stops` then."""
        self._words = words
        self._stops = Stops(stops) if stops else None
        self._held: deque[tuple[int, TokenEvent]] = deque()  # and where their text begins
        self._written = 0  # characters, shown or not
        self._shown = 0
        self._generated = 0

    @property
    def stopped(self) -> bool:
        """Whether a stop string has ended it."""
        return self._stops is not None and self._stops.found

    def token(self, event: TokenEvent) -> Piece | None:
        """What can be shown with this token; None: nothing yet, or no more."""
        if self.stopped:
            return None
        self._generated = event.index + 1
        self._held.append((self._written, event))
        text = self._write(self._words.add([event.token]) if self._words else "")
        tokens = self._tokens()
        return _piece(tokens, text) if tokens or text else None

    def finish(self, event: FinishEvent) -> Piece:
        """What is left to show, and what it cost.

        Raises RequestError if the ranks have refused the request, NotReadyError if they were told
        to leave before it had a place, NumericsError if it failed.
        """
        check(event)
        text = self._write(self._words.finish() if self._words else "")
        if self._stops and not self.stopped:
            text += self._stops.finish()
            self._shown = self._written + 1  # so that the last tokens may be silent
        reason = FinishReason.STOP if self.stopped else event.reason
        generated = self._generated if self.stopped else event.generated_tokens
        which = self._stops.which if self._stops else ""
        return _piece(self._tokens(), text, Finish(reason, _stats(event, generated), which))

    def _write(self, text: str) -> str:
        """What can be shown of the text, now that it goes on like this."""
        self._written += len(text)
        shown = self._stops.add(text) if self._stops else text
        self._shown += len(shown)
        return shown

    def _tokens(self) -> list[TokenEvent]:
        """Those whose text is shown, at least its beginning; not told before."""
        tokens: list[TokenEvent] = []
        while self._held and (self._stops is None or self._held[0][0] < self._shown):
            tokens.append(self._held.popleft()[1])
        return tokens


def check(event: FinishEvent) -> None:
    """Raises what the ranks have refused the request for, NumericsError if it failed."""
    if event.error == SHUTTING_DOWN:
        raise NotReadyError(event.error)
    if event.error:
        raise (NumericsError if event.reason is FinishReason.FAILED else RequestError)(event.error)


def _piece(tokens: Sequence[TokenEvent], text: str, finish: Finish | None = None) -> Piece:
    logprobs = tuple(Logprob(each.logprob, each.top) for each in tokens if each.logprob is not None)
    return Piece(tuple(each.token for each in tokens), text, finish, logprobs)


def _stats(event: FinishEvent, generated: int) -> Stats:
    decoded = event.decode_steps + event.accepted_tokens
    return Stats(
        prompt_tokens=event.prompt_tokens,
        generated_tokens=generated,
        prefill_s=event.prefill_s,
        decode_s=event.decode_s,
        tokens_per_s=decoded / event.decode_s if event.decode_s else 0.0,
        collectives_per_token=event.collectives / decoded if decoded else 0.0,
        wire_bytes_per_token=event.wire_bytes / decoded if decoded else 0.0,
        cached_tokens=event.cached_tokens,
        drafted_tokens=event.drafted_tokens,
        accepted_tokens=event.accepted_tokens,
        queue_s=event.queue_s,
        first_token_s=event.first_token_s,
        restarts=event.restarts,
    )
