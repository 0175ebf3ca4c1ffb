"""A conversation as it stands."""

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from dsv4_tp.asks import Conversation, Finish, Message


class Think(StrEnum):
    """Whether answers begin with thinking, and how much, in the checkpoint's words."""

    ON = "on"  # as much as its makers chose
    OFF = "off"
    LOW = "low"
    HIGH = "high"
    MAX = "max"


@dataclass(frozen=True, slots=True)
class Turn:
    """A question and what came of it."""

    question: str
    answer: str
    reasoning: str = ""
    finish: Finish | None = None  # None: it was stopped


@dataclass(frozen=True, slots=True)
class Talk:
    """What was said, and how the next question is to be put."""

    system: str = ""
    think: Think = Think.ON
    turns: tuple[Turn, ...] = ()
    last: Turn | None = None  # what was asked last, also if there is no answer to keep

    @property
    def thinks(self) -> bool:
        """Whether an answer begins with its thinking."""
        return self.think is not Think.OFF

    @property
    def messages(self) -> tuple[Message, ...]:
        """All of it."""
        said = [message for turn in self.turns for message in _messages(turn)]
        return (*([Message("system", self.system)] if self.system else []), *said)

    def asking(self, question: str) -> Conversation:
        """The conversation with this question at its end."""
        effort = "" if self.think in (Think.ON, Think.OFF) else self.think.value
        messages = (*self.messages, Message("user", question))
        return Conversation(messages, thinking=self.thinks, effort=effort)

    def with_turn(self, turn: Turn) -> "Talk":
        """It goes on behind this turn; one without an answer is not part of what was said."""
        turns = (*self.turns, turn) if turn.answer else self.turns
        return replace(self, turns=turns, last=turn)

    def without_last(self) -> "Talk":
        """As it was before the last question."""
        kept = self.turns[:-1] if self.turns and self.turns[-1] is self.last else self.turns
        return replace(self, turns=kept)

    def without_turns(self) -> "Talk":
        """Nothing was said yet."""
        return replace(self, turns=(), last=None)


def as_openai(talk: Talk) -> dict[str, Any]:
    """The messages as /v1/chat/completions takes them."""
    return {"messages": [_as_openai(message) for message in talk.messages]}


def _messages(turn: Turn) -> tuple[Message, Message]:
    answer = Message("assistant", turn.answer, reasoning=turn.reasoning)
    return Message("user", turn.question), answer


def _as_openai(message: Message) -> dict[str, str]:
    thought = {"reasoning_content": message.reasoning} if message.reasoning else {}
    return {"role": message.role, "content": message.content} | thought
