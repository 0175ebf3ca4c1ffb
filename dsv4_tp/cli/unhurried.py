"""Lines for somebody who may not look: a coordinator that waits for its terminal beats no more."""

import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from queue import Empty, Full, Queue
from threading import Thread
from typing import Any, TextIO

_MOST = 4096  # pieces of text that wait; what comes then is left out
_LAST_S = 1.0  # for what still waits at the end


class Unhurried:
    """A stream that is written by a thread, so that none of its writers waits for its reader.

    A terminal that was stopped by Ctrl-S takes nothing, nor does a pipe that nobody reads.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._waiting: Queue[str] = Queue(_MOST)
        self._left_out = 0
        self._ends = False
        self._thread = Thread(target=self._work, daemon=True)
        self._thread.start()

    def __getattr__(self, name: str) -> Any:
        """What a writer may ask: whether it is a terminal, how it is encoded."""
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Take it; all of it counts as written.

        Raises:
            TypeError: it is bytes. Click tells by this that a stream is one of text.
        """
        if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"a stream of text takes str, not {type(text).__name__}")
        try:
            self._waiting.put_nowait(text)
        except Full:
            self._left_out += 1
        return len(text)

    def flush(self) -> None:
        """Nothing: it is on its way."""

    def finish(self) -> None:
        """Write what waits, if the reader takes it soon."""
        self._ends = True
        with suppress(Full):
            self._waiting.put_nowait("")  # wakes the thread
        self._thread.join(_LAST_S)

    def _work(self) -> None:
        with suppress(OSError, ValueError):  # nobody is there any more, and nobody can be told
            while not (self._ends and self._waiting.empty()):
                with suppress(Empty):
                    self._stream.write(self._waiting.get(timeout=_LAST_S) + self._note())
                    self._stream.flush()

    def _note(self) -> str:
        """How much is missing, once there is room again."""
        if not self._left_out or not self._waiting.empty():
            return ""
        count, self._left_out = self._left_out, 0
        return f"left out here, as nobody read: {count} lines\n"


@contextmanager
def unhurried() -> Generator[None]:
    """While this lasts nothing in this process waits for who reads its stderr."""
    stream, sys.stderr = sys.stderr, Unhurried(sys.stderr)
    try:
        yield
    finally:
        late, sys.stderr = sys.stderr, stream
        late.finish()
