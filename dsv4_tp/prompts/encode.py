"""A conversation -> the text that the model goes on with."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

from dsv4_tp.asks import Message
from dsv4_tp.prompts.check import check
from dsv4_tp.prompts.effort import effort_words
from dsv4_tp.prompts.pieces import Pieces, fill, given, joined, ours
from dsv4_tp.prompts.table import BUILT_IN, Table
from dsv4_tp.prompts.tools import called, offer
from dsv4_tp.prompts.turns import Turn, last_asking, turns_of, without_notes


def encode(
    messages: Sequence[Message],
    table: Table | None,
    *,
    thinking: bool,
    drop_thinking: bool = True,
    effort: str | None = None,
) -> str:
    """The conversation as one text, BOS included: see `encode_pieces`."""
    pieces = encode_pieces(
        messages, table, thinking=thinking, drop_thinking=drop_thinking, effort=effort
    )
    return "".join(piece.text for piece in pieces)


def encode_pieces(
    messages: Sequence[Message],
    table: Table | None,
    *,
    thinking: bool,
    drop_thinking: bool = True,
    effort: str | None = None,
) -> Pieces:
    """The conversation in pieces that tell what the messages said from what the format says.

    Without a table (a checkpoint that has none) plain turns can be written, and nothing else.
    `drop_thinking` leaves out what the assistant thought before the last turn of a user, and
    developers' messages from before it; not where a message brings tools, nor without `thinking`.
    `effort` (low, high, max; None is the model's default) counts with `thinking` only.

    Raises:
        RequestError: it cannot be written; names the index of the message and the field.
    """
    check(messages, table)
    words = effort_words(table, effort)
    dropped = thinking and drop_thinking and not any(message.tools for message in messages)
    turns = turns_of(messages)
    turns = without_notes(turns) if dropped else turns
    writer = _Writer(table or BUILT_IN, turns, thinking, last_asking(turns) if dropped else -1)
    start = ours(writer.table.bos_token + (words if thinking else ""))
    return start + tuple(chain.from_iterable(map(writer.write, range(len(turns)))))


@dataclass(frozen=True, slots=True)
class _Writer:
    table: Table
    turns: tuple[Turn, ...]
    thinking: bool
    thinks_from: int  # the turn from which on thoughts are written

    def write(self, at: int) -> Pieces:
        """One turn, and what leads over to the next."""
        turn = self.turns[at]
        said = self._answer(at) if turn.role == "assistant" else self._words(turn)
        following = self.turns[at + 1].role if at + 1 < len(self.turns) else "assistant"
        leads = following in ("assistant", "latest_reminder")
        return said + ours(self._lead(at)) if leads else said

    def _words(self, turn: Turn) -> Pieces:
        table, message = self.table, turn.messages[0]
        content = given(message.content)
        match turn.role:
            case "system":
                return fill(table.system_template, content=content) + offer(table, message)
            case "latest_reminder":
                said = fill(table.latest_reminder_template, content=content)
                return ours(table.latest_reminder_token) + said
            case "developer":
                content += offer(table, message)
            case _:
                content = joined("\n\n", [self._part(message) for message in turn.messages])
        return ours(table.user_token) + fill(table.user_template, content=content)

    def _part(self, message: Message) -> Pieces:
        content = given(message.content)
        if message.role == "tool":
            return fill(self.table.tool_output_template, content=content)
        return content

    def _answer(self, at: int) -> Pieces:
        message = self.turns[at].messages[0]
        table = self.table
        template = table.open_assistant_template if message.open else table.assistant_template
        return fill(
            template,
            reasoning=self._thoughts(at, message),
            content=given(message.content),
            tool_calls=called(table, message.tool_calls),
        )

    def _thoughts(self, at: int, message: Message) -> Pieces:
        of_a_task = at > 0 and self.turns[at - 1].task
        if not self.thinking or of_a_task or at < self.thinks_from:
            return ()
        thought = fill(self.table.thinking_template, reasoning_content=given(message.reasoning))
        return thought + ours(self.table.thinking_end_token)

    def _lead(self, at: int) -> str:
        table, turn = self.table, self.turns[at]
        opened, closed = table.thinking_start_token, table.thinking_end_token
        if turn.task == "action":
            start = opened if self.thinking else closed
            return table.assistant_token + start + table.task_tokens[turn.task]
        if turn.task:
            return table.task_tokens[turn.task]
        if turn.asks:
            thinks = self.thinking and at >= self.thinks_from
            return table.assistant_token + (opened if thinks else closed)
        return ""
