"""What a rank's loop is given of the world outside: where commands arrive, and who is told."""

from collections.abc import Sequence
from typing import Protocol

from dsv4_tp.core import Command


class Inbox(Protocol):
    """Where commands arrive, in the order of their numbers."""

    def wait(self) -> Sequence[Command]:
        """At least one command."""
        ...

    def poll(self) -> Sequence[Command]:
        """The commands that are there; maybe none."""
        ...


class Progress(Protocol):
    """Who is told how far this rank is."""

    def phase(self, phase: str) -> None:
        """A phase begins: "ready", "compiling", "prefill", "decode" or "leaving"."""
        ...

    def prefilled(self, tokens: int) -> None:
        """So many more given tokens were fed."""
        ...

    def decoded(self) -> None:
        """One more token was fed and the next one chosen."""
        ...
