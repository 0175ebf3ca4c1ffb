"""The arguments of one call as JSON that grows, from parameters that come in pieces."""

import json
from typing import Any


class Arguments:
    """One JSON object in the making: what the methods return, joined, is its text.

    Parameters keep their order. One that comes twice is there twice, since the first is out before
    the second is known; readers of JSON take the last.
    """

    def __init__(self) -> None:
        self.empty = True

    def key(self, name: str) -> str:
        """Up to where the value of this parameter begins."""
        begin = "{" if self.empty else ", "
        self.empty = False
        return f"{begin}{_dumps(name)}: "

    def end(self) -> str:
        """The last of it."""
        return "{}" if self.empty else "}"


def inside_string(text: str) -> str:
    """A piece of a string, as it stands between the quotes; pieces can be joined."""
    return _dumps(text)[1:-1]


def as_value(raw: str) -> str:
    """The same text if it is JSON, else the text as a JSON string."""
    return raw if _parse(raw) is not _NOTHING else _dumps(raw)


def is_object(raw: str) -> bool:
    """Whether the text is a JSON object."""
    return isinstance(_parse(raw), dict)


_NOTHING = object()


def _dumps(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _parse(raw: str) -> Any:
    """What it says, numbers as they are written; `_NOTHING` if it is not JSON."""
    try:
        return json.loads(raw, parse_int=str, parse_float=str, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return _NOTHING


def _refuse(constant: str) -> None:
    raise ValueError(f"{constant} is Python's, not JSON's")
