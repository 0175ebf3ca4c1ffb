"""One answer as parts that follow each other: each is opened, grows, and is closed."""

from dataclasses import dataclass
from enum import Enum, auto

from dsv4_tp.asks import Piece
from dsv4_tp.prompts import CallArguments, CallBegun, Content, Delta, Reasoning
from dsv4_tp.serving.said import Said


class Kind(Enum):
    """What a part is."""

    THOUGHT = auto()
    TEXT = auto()
    CALL = auto()


@dataclass(slots=True)
class Part:
    """One of them; a call's text is its arguments, which are a JSON object in the end."""

    index: int  # among all
    kind: Kind
    name: str = ""  # of the function
    call_id: str = ""
    text: str = ""  # so far


@dataclass(frozen=True, slots=True)
class Opened:
    """A part begins; it is empty."""

    part: Part


@dataclass(frozen=True, slots=True)
class Grown:
    """It has some more text, which is in it already."""

    part: Part
    text: str


@dataclass(frozen=True, slots=True)
class Closed:
    """It is whole."""

    part: Part


Step = Opened | Grown | Closed


class Parts:
    """The parts of one answer; only the last one is open.

    Text that stands within a call is told behind it.
    """

    def __init__(self, said: Said, call_id: str) -> None:
        """Calls are `call_id` and a number."""
        self._said = said
        self._call_id = call_id
        self._behind = ""  # text that waits for the call before it
        self.all: list[Part] = []
        self._open = False

    def add(self, piece: Piece) -> list[Step]:
        """What happens to them with this piece; with the last one all are closed."""
        steps = [step for delta in self._said.add(piece) for step in self._add(delta)]
        return steps + self._close() if piece.finish else steps

    def _add(self, delta: Delta) -> list[Step]:
        match delta:
            case Reasoning(text=text):
                return self._grow(Kind.THOUGHT, text)
            case Content(text=text) if self._is_open(Kind.CALL):
                self._behind += text
                return []
            case Content(text=text):
                return self._grow(Kind.TEXT, text)
            case CallBegun(index=index, name=name):
                return self._close() + self._begin(Kind.CALL, name, f"{self._call_id}_{index}")
            case CallArguments(text=text):
                return self._grow(Kind.CALL, text)

    def _is_open(self, kind: Kind) -> bool:
        return self._open and self.all[-1].kind is kind

    def _grow(self, kind: Kind, text: str) -> list[Step]:
        steps = [] if self._is_open(kind) else [*self._close(), *self._begin(kind)]
        part = self.all[-1]
        part.text += text
        return [*steps, Grown(part, text)] if text else steps

    def _begin(self, kind: Kind, name: str = "", call_id: str = "") -> list[Step]:
        self._open = True
        self.all.append(Part(len(self.all), kind, name, call_id))
        return [Opened(self.all[-1])]

    def _close(self) -> list[Step]:
        """The open part, and the text that waited for that."""
        if not self._open:
            return []
        self._open = False
        closed: list[Step] = [Closed(self.all[-1])]
        behind, self._behind = self._behind, ""
        return [*closed, *self._grow(Kind.TEXT, behind), *self._close()] if behind else closed
