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


class Turns(Protocol):
    """Is told where a rank is, so that of ranks that stand still one may be found to blame."""

    def turned(self) -> None:
        """It may wait for other ranks from now on, or has done with that: in turns."""
        ...

    def called(self) -> None:
        """It leaves its own code for MLX's, or is back: in turns."""
        ...


class _Untold:
    """Turns that nobody needs to know."""

    def turned(self) -> None:
        """Nothing."""

    def called(self) -> None:
        """Nothing."""


UNTOLD: Turns = _Untold()
