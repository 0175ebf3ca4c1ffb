"""Where answers are shown: on a terminal, as plain text, or as lines of JSON."""

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import Protocol

from dsv4_tp.cli.chat.heard import Voice
from dsv4_tp.cli.chat.talk import Turn
from dsv4_tp.cli.show import brief
from dsv4_tp.cli.tables import note

_STOPPED = "stopped"
# A text may hold what a terminal takes for orders.
_CONTROLS: Mapping[int, str] = {
    code: "\ufffd" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in "\n\t"
}


class Stage(Voice, Protocol):
    """A voice that is also told when an answer is over."""

    def end(self, turn: Turn) -> None:
        """All of it."""
        ...


class Plain:
    """Answers to stdout, all else to stderr; thinking to nobody."""

    def thought(self, text: str) -> None:
        """Nothing."""

    def said(self, text: str) -> None:
        """As it comes."""
        sys.stdout.write(text)
        sys.stdout.flush()

    def note(self, text: str) -> None:
        """To stderr."""
        note(text)

    def end(self, turn: Turn) -> None:
        """Ends the line, and says what it cost."""
        print(flush=True)
        note(_after(turn))


class Lines:
    """Each answer as one JSON object on one line, when it is done."""

    def thought(self, text: str) -> None:
        """Nothing."""

    def said(self, text: str) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """To stderr."""
        note(text)

    def end(self, turn: Turn) -> None:
        """The whole turn."""
        print(json.dumps(_as_json(turn), ensure_ascii=False), flush=True)


class Terminal:
    """Answers as they come, all else dimmed; where colours are not wanted, words tell it."""

    def __init__(self) -> None:
        from rich.console import Console

        self._console = Console(highlight=False)
        self._plain = self._console.no_color or self._console.color_system is None
        self._begun = False  # a line that has not ended
        self._thinking = False

    def thought(self, text: str) -> None:
        """Dimmed."""
        if not self._thinking:
            self._thinking = True
            self._show("thinking: " if self._plain else "", dim=True)
        self._show(text, dim=True)

    def said(self, text: str) -> None:
        """As it is."""
        if self._thinking:
            self._thinking = False
            self._new_line()
            self._show("\nanswer: " if self._plain else "\n")
        self._show(text)

    def note(self, text: str) -> None:
        """Dimmed, on a line of its own."""
        self._new_line()
        self._show(f"{text}\n", dim=True)

    def end(self, turn: Turn) -> None:
        """What it cost, dimmed."""
        self._thinking = False
        self.note(_after(turn))

    def _new_line(self) -> None:
        if self._begun:
            self._show("\n")

    def _show(self, text: str, *, dim: bool = False) -> None:
        if not text:
            return
        style = "dim" if dim and not self._plain else None
        self._console.out(visible(text), style=style, end="", highlight=False)
        self._begun = not text.endswith("\n")


def visible(text: str) -> str:
    """The text without characters that would move the cursor, change colours or worse."""
    return text.translate(_CONTROLS)


def _after(turn: Turn) -> str:
    if turn.finish is None:
        return _STOPPED
    missing = "" if turn.answer else "; there is no answer"
    return brief(turn.finish) + missing


def _as_json(turn: Turn) -> dict[str, object]:
    finish = turn.finish
    return {
        "question": turn.question,
        "answer": turn.answer,
        "reasoning": turn.reasoning,
        "finish_reason": finish.reason.value if finish else None,
        "stats": asdict(finish.stats) if finish else None,
    }
