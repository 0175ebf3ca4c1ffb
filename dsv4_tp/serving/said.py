"""What comes of one answer: thinking, text and calls apart, and what it costs."""

from dsv4_tp.asks import Finish, Piece
from dsv4_tp.core import FinishReason
from dsv4_tp.errors import NotReadyError
from dsv4_tp.prompts import CallBegun, Delta, Reading


class Said:
    """One answer in the making."""

    def __init__(self, reading: Reading, *, thinks: bool, closing: int) -> None:
        """`closing` is the token that ends the thinking."""
        self._reading = reading
        self._thinking = thinks
        self._closing = closing
        self.called = False  # whether it has calls
        self.reasoning_tokens = 0
        self.finish: Finish | None = None

    def add(self, piece: Piece) -> list[Delta]:
        """What is certain now that the answer goes on like this."""
        self._count(piece)
        found = [*self._reading.add(piece.text)]
        if piece.finish:
            found += self._reading.finish()
            self.finish = piece.finish
        self.called |= any(isinstance(each, CallBegun) for each in found)
        return found

    @property
    def reason(self) -> FinishReason:
        """Why it has ended; NotReadyError if it was cancelled here, for which APIs have no word."""
        assert self.finish, "asked before the end"
        if self.finish.reason not in (FinishReason.STOP, FinishReason.LENGTH):
            raise NotReadyError(f"the text was {self.finish.reason.value} before its end")
        return self.finish.reason

    @property
    def waits(self) -> bool:
        """Whether it has ended so that its calls may be answered."""
        ended = self.finish is not None and self.finish.reason is FinishReason.STOP
        return self.called and ended

    def thought(self, piece: Piece) -> int:
        """How many of the next tokens belong to the thinking; the one that ends it does."""
        if not self._thinking:
            return 0
        ended = self._closing in piece.tokens
        return piece.tokens.index(self._closing) + 1 if ended else len(piece.tokens)

    def _count(self, piece: Piece) -> None:
        self.reasoning_tokens += self.thought(piece)
        self._thinking = self._thinking and self._closing not in piece.tokens
