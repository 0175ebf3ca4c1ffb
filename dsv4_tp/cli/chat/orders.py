"""What a line means: a question, or an order such as /new. Pure."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path

from dsv4_tp.cli.chat.talk import Talk, Think, as_openai
from dsv4_tp.cli.show import cost
from dsv4_tp.errors import ConfigError

_ALSO = {"quit": "exit", "bye": "exit", "?": "help"}  # as others' programs call them
_ORDER = re.compile(r"/([A-Za-z?]*)(?:\s+(.*))?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Put:
    """Ask the cluster this."""

    question: str


@dataclass(frozen=True, slots=True)
class Tell:
    """Say this to whoever typed the order."""

    text: str


@dataclass(frozen=True, slots=True)
class Save:
    """Write this into a new file."""

    file: Path
    text: str


@dataclass(frozen=True, slots=True)
class Leave:
    """The conversation is over."""


Act = Put | Tell | Save | Leave
Change = tuple[Talk, Act]


def obey(talk: Talk, line: str) -> Change | None:
    """What becomes of the conversation, and what is to be done; None for an empty line.

    A line that begins with a slash and a word is an order; behind a blank it is a question, too.

    Raises:
        ConfigError: there is no such order, or it cannot be followed; says what can be typed.
    """
    order = _ORDER.fullmatch(line.rstrip())
    if order is None:
        return (talk, Put(line.strip())) if line.strip() else None
    name = _ALSO.get(order[1].lower(), order[1].lower())
    if name not in _ORDERS:
        near = get_close_matches(name, _ORDERS, n=1)
        meant = f"; did you mean /{near[0]}?" if near else ";"
        raise ConfigError(f"/{name}: no such command{meant} /help lists them")
    return _ORDERS[name].follow(talk, (order[2] or "").strip())


def order_names() -> list[str]:
    """All that can be typed, with the slash."""
    return [f"/{name}" for name in _ORDERS]


def _help(talk: Talk, _given: str) -> Change:
    width = max(len(f"{name} {order.takes}") for name, order in _ORDERS.items())
    lines = [
        f"  /{f'{name} {order.takes}':{width}}  {order.help}" for name, order in _ORDERS.items()
    ]
    keys = "Enter sends, Alt-Enter begins a new line, Ctrl-C stops an answer, Ctrl-D leaves."
    return talk, Tell("\n".join([*lines, keys]))


def _new(talk: Talk, _given: str) -> Change:
    kept = "; the system's words stay" if talk.system else ""
    return talk.without_turns(), Tell(f"a new conversation{kept}")


def _system(talk: Talk, given: str) -> Change:
    said = "the system says so from now on" if given else "the system says nothing any more"
    return replace(talk, system=given), Tell(said)


def _think(talk: Talk, given: str) -> Change:
    if not given:
        return talk, Tell(f"thinking: {talk.think}")
    if given not in [*Think]:
        *others, last = Think
        raise ConfigError(f"/think {given!r}: expected {', '.join(others)} or {last}")
    return replace(talk, think=Think(given)), Tell(f"thinking: {given}")


def _again(talk: Talk, _given: str) -> Change:
    if talk.last is None:
        raise ConfigError("/again: nothing was asked yet; type a question")
    return talk.without_last(), Put(talk.last.question)


def _save(talk: Talk, given: str) -> Change:
    if not given:
        raise ConfigError("/save: into which file? say /save FILE.json")
    text = json.dumps(as_openai(talk), ensure_ascii=False, indent=2) + "\n"
    return talk, Save(Path(given).expanduser(), text)


def _stats(talk: Talk, _given: str) -> Change:
    costs = [turn.finish.stats for turn in talk.turns if turn.finish]
    made = sum(each.generated_tokens for each in costs)
    system = f"; system: {talk.system}" if talk.system else ""
    words = f"turns: {len(talk.turns)}, tokens generated: {made}; thinking: {talk.think}{system}"
    last = talk.last.finish if talk.last else None
    return talk, Tell(f"{words}\nlast answer: {cost(last)}" if last else words)


def _leave(talk: Talk, _given: str) -> Change:
    return talk, Leave()


@dataclass(frozen=True, slots=True)
class _Order:
    takes: str
    help: str
    follow: Callable[[Talk, str], Change]


_ORDERS = {
    "help": _Order("", "what can be typed", _help),
    "new": _Order("", "begin a new conversation", _new),
    "system": _Order("[TEXT]", "what the model is told before all else", _system),
    "think": _Order("[on|off|low|high|max]", "whether it thinks first, and how much", _think),
    "again": _Order("", "ask the last question anew", _again),
    "save": _Order("FILE", "the conversation, as JSON for /v1/chat/completions", _save),
    "stats": _Order("", "what the conversation and the last answer cost", _stats),
    "exit": _Order("", "leave", _leave),
}  # fmt: skip
