"""How much a model is to think, in the words of a request and in those of a prompt."""

from dataclasses import dataclass

from dsv4_tp.errors import RequestError
from dsv4_tp.prompts.table import FILE, Table

_EFFORTS = {
    "minimal": "low",
    "low": "low",
    "medium": "high",
    "high": "high",
    "xhigh": "max",
    "max": "max",
}
_NONE = "none"


@dataclass(frozen=True, slots=True)
class Mode:
    """What `encode` is told: whether to think, and how much (None: as the model does by itself)."""

    thinking: bool
    effort: str | None = None


def mode_of(effort: str | None, *, thinking: bool) -> Mode:
    """The mode that a request's `reasoning_effort` asks for.

    `thinking` is what else says whether to think: the request's switch, or a default. The effort
    `none` turns it off, and no effort turns it on.

    Raises:
        RequestError: the word is unknown.
    """
    if effort is not None and effort not in (_NONE, *_EFFORTS):
        known = ", ".join((_NONE, *_EFFORTS))
        raise RequestError(f"reasoning_effort: unknown word {effort!r}; known are {known}")
    if not thinking or effort == _NONE:
        return Mode(thinking=False)
    return Mode(thinking=True, effort=effort and _EFFORTS[effort])


def effort_words(table: Table | None, effort: str | None) -> str:
    """What an effort puts before a conversation; None is the model's default.

    Raises:
        RequestError: no such effort, or a checkpoint that does not say what it is.
    """
    if table is None:
        if effort is None:
            return ""
        raise RequestError(f"effort: {effort!r} is of the checkpoint's words, and it has no {FILE}")
    words = table.effort_words.get(table.default_effort if effort is None else effort)
    if words is None:
        known = ", ".join(table.effort_words)
        raise RequestError(f"effort: unknown word {effort!r}; known are {known}")
    return words
