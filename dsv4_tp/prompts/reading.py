"""The model's text, while it comes, as reasoning, content and calls of functions."""

from dataclasses import dataclass
from enum import Enum, auto
from re import Match
from typing import Protocol

from dsv4_tp.prompts.arguments import Arguments, as_value, inside_string, is_object
from dsv4_tp.prompts.tags import Place, function_name, places


@dataclass(frozen=True, slots=True)
class Reasoning:
    """The next of what comes before the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Content:
    """The next of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class CallBegun:
    """A call of this function; the first one has index 0."""

    index: int
    name: str


@dataclass(frozen=True, slots=True)
class CallArguments:
    """The next of the arguments of the last call that has begun; joined they are a JSON object."""

    index: int
    text: str


Delta = Reasoning | Content | CallBegun | CallArguments


class Marks(Protocol):
    """What is known here of how a checkpoint writes conversations."""

    @property
    def thinking_end_token(self) -> str:
        """Between reasoning and content."""
        ...

    @property
    def dsml_token(self) -> str:
        """In each tag of a call."""
        ...


class _At(Enum):
    """Where the text is."""

    REASONING = auto()
    CONTENT = auto()
    CALL = auto()  # in one, between its parameters
    STRING = auto()  # in a parameter's value that is text
    JSON = auto()  # in one that is JSON
    BETWEEN = auto()  # behind the first call


class Reading:
    """One text of the model that comes in pieces.

    What it gives, joined, does not depend on the pieces. Of reasoning, content and strings no more
    is held back than what may be the beginning of a tag; a value that is to be JSON is held back
    whole, for it may turn out to be none.

    Models err, so more is read than they are taught. A block's opening tag may be misspelt, or
    missing where the call's own tag has a tag behind it. Closing tags may be cut, misspelt or
    missing. What is no JSON becomes a string, and so does a value that is not said to be JSON. A
    JSON object that stands in a call for its parameters is its arguments. Text that stands where
    tags should be is content; so is what has only begun like a call. Nothing else is lost than
    tags, and blanks beside them.

    Two things are passed on as they were said: a parameter that comes twice, and one with the
    name `arguments`. The latter may be how arguments were written that are no JSON object, or be
    a parameter of that name: who knows the function can tell. Written again, both are as they were.

    The text has no stop token at its end; one that is spelled out in it is text.
    """

    def __init__(self, marks: Marks, *, thinking: bool, calls: bool = True) -> None:
        """`thinking`: it begins with reasoning. Without `calls` it has none: tags are content."""
        self._places = places(marks.thinking_end_token, marks.dsml_token)
        self._tag_begun = f"<{marks.dsml_token}"
        self._calls = calls
        self._at = _At.REASONING if thinking else _At.CONTENT
        self._held = ""
        self._index = -1
        self._arguments = Arguments()
        self._value = ""  # what has come of one that is to be JSON
        self._body = ""  # text in a call, where parameters should be
        self._behind_tag = False
        self.cut = False  # whether the text ended within a call, whose arguments were closed for it

    @property
    def in_reasoning(self) -> bool:
        """Whether the reasoning has not ended; if it never does, there is no answer."""
        return self._at is _At.REASONING

    def add(self, piece: str) -> tuple[Delta, ...]:
        """What is certain now that the text goes on like this."""
        return _joined(self._read(self._held + piece, over=False))

    def finish(self) -> tuple[Delta, ...]:
        """The text is over: what was held back, and the end of a call that has none."""
        if self._at in (_At.CALL, _At.BETWEEN) and self._is_remnant(self._held):
            self._held = ""
        deltas = self._read(self._held, over=True)
        self.cut |= self._at in (_At.CALL, _At.STRING, _At.JSON)
        return _joined([*deltas, *self._end_value(), *self._end_call()])

    def _is_remnant(self, held: str) -> bool:
        """Whether this, at the end, is a tag that was cut off, or the blanks behind one."""
        return self._tag_begun in held or (self._behind_tag and held.isspace())

    def _read(self, text: str, *, over: bool) -> list[Delta]:
        deltas: list[Delta] = []
        at = 0
        while found := self._search(text, at, over=over):
            deltas += self._text(text[at : found.start()])
            if found.lastgroup == "begun":
                self._held = text[found.start() :]
                return deltas
            deltas += self._tag(found)
            at = found.end()
        self._held = ""
        return deltas + self._text(text[at:])

    def _search(self, text: str, at: int, *, over: bool) -> Match[str] | None:
        place = self._place()
        if place is None:
            return None
        return (place.over if over else place.coming).search(text, at)

    def _place(self) -> Place | None:
        match self._at:
            case _At.REASONING:
                return self._places.reasoning
            case _At.CONTENT:
                return self._places.content if self._calls else None
            case _At.CALL:
                return self._places.call
            case _At.STRING | _At.JSON:
                return self._places.value
            case _At.BETWEEN:
                return self._places.between

    def _text(self, text: str) -> list[Delta]:
        if not text:
            return []
        self._behind_tag = False
        match self._at:
            case _At.REASONING:
                return [Reasoning(text)]
            case _At.CONTENT | _At.BETWEEN:
                return [Content(text)]
            case _At.CALL:
                self._body += text
            case _At.STRING:
                return self._say(inside_string(text))
            case _At.JSON:
                self._value += text
        return []

    def _tag(self, found: Match[str]) -> list[Delta]:
        self._behind_tag = True
        match found.lastgroup:
            case "think_end":
                self._at = _At.CONTENT
            case "invoke":
                return [*self._end_call(), self._begin_call(function_name(found["invoke"]))]
            case "parameter":
                return self._begin_value(found["key"], is_json=found["string"] == "false")
            case "value_end":
                return self._end_value()
            case "close" if self._at is _At.BETWEEN or found["word"].startswith("p"):
                return []
            case _:
                return [*self._end_value(), *self._end_call()]
        return []

    def _begin_call(self, name: str) -> Delta:
        self._at = _At.CALL
        self._index += 1
        self._arguments = Arguments()
        return CallBegun(self._index, name)

    def _begin_value(self, key: str, *, is_json: bool) -> list[Delta]:
        said = self._end_body()
        self._at = _At.JSON if is_json else _At.STRING
        return [*said, *self._say(self._arguments.key(key) + ("" if is_json else '"'))]

    def _end_value(self) -> list[Delta]:
        if self._at not in (_At.STRING, _At.JSON):
            return []
        rest = '"' if self._at is _At.STRING else as_value(self._value)
        self._at, self._value = _At.CALL, ""
        return self._say(rest)

    def _end_call(self) -> list[Delta]:
        if self._at is not _At.CALL:
            return []
        self._at = _At.BETWEEN
        if self._arguments.empty and is_object(self._body):
            body, self._body = self._body, ""
            return self._say(body.strip())
        return [*self._end_body(), *self._say(self._arguments.end())]

    def _end_body(self) -> list[Delta]:
        body, self._body = self._body, ""
        return [Content(body)] if body.strip() else []

    def _say(self, arguments: str) -> list[Delta]:
        return [CallArguments(self._index, arguments)]


def _joined(deltas: list[Delta]) -> tuple[Delta, ...]:
    """The same in as few as can be."""
    joined: list[Delta] = []
    for delta in deltas:
        if joined and (both := _both(joined[-1], delta)):
            joined[-1] = both
        else:
            joined.append(delta)
    return tuple(joined)


def _both(one: Delta, other: Delta) -> Delta | None:
    match one, other:
        case Reasoning(a), Reasoning(b):
            return Reasoning(a + b)
        case Content(a), Content(b):
            return Content(a + b)
        case CallArguments(index, a), CallArguments(same, b) if index == same:
            return CallArguments(index, a + b)
        case _:
            return None
