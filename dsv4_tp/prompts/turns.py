"""Messages -> turns as the model knows them: results of tools are part of what a user says."""

from collections.abc import Iterable
from dataclasses import dataclass

from dsv4_tp.asks import Message

_KEPT = ("system", "user", "assistant", "latest_reminder")


@dataclass(frozen=True, slots=True)
class Turn:
    """One message, or several of a user and of tools."""

    messages: tuple[Message, ...]

    @property
    def role(self) -> str:
        """That of the message; `user` for results of tools."""
        role = self.messages[0].role
        return "user" if role == "tool" else role

    @property
    def task(self) -> str:
        """The quick task, of which a turn has one at most."""
        return next((message.task for message in self.messages if message.task), "")

    @property
    def asks(self) -> bool:
        """Whether the assistant is to answer it."""
        return self.role in ("user", "developer")


def turns_of(messages: Iterable[Message]) -> tuple[Turn, ...]:
    """The turns, results of tools in the order of the calls they answer."""
    turns: list[Turn] = []
    order: dict[str, int] = {}
    for message in messages:
        if turns and _continues(turns[-1], message):
            turns[-1] = Turn((*turns[-1].messages, message))
        else:
            turns.append(Turn((message,)))
    for at, turn in enumerate(turns):
        if calls := turn.messages[0].tool_calls:
            order = {call.id: place for place, call in enumerate(calls) if call.id}
        turns[at] = _sorted(turn, order)
    return tuple(turns)


def last_asking(turns: tuple[Turn, ...]) -> int:
    """The index of the last turn of a user or developer; -1 where there is none."""
    return max((at for at, turn in enumerate(turns) if turn.asks), default=-1)


def without_notes(turns: tuple[Turn, ...]) -> tuple[Turn, ...]:
    """The turns without those of developers that later turns have overtaken."""
    last = last_asking(turns)
    return tuple(turn for at, turn in enumerate(turns) if at >= last or turn.role in _KEPT)


def _continues(turn: Turn, message: Message) -> bool:
    if turn.role != "user":
        return False
    return message.role == "tool" or (message.role == "user" and not turn.task)


def _sorted(turn: Turn, order: dict[str, int]) -> Turn:
    """Results change places among themselves; what the user says stays where it is."""
    results = [message for message in turn.messages if message.role == "tool"]
    ordered = iter(sorted(results, key=lambda result: order.get(result.tool_call_id, 0)))
    return Turn(tuple(next(ordered) if m.role == "tool" else m for m in turn.messages))
