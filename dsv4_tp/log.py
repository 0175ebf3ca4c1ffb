"""Events for people: one line each on stderr, `time event key=value ...`.

It owns the format only; who logs what is not its business.
"""

import sys
import time


def log(event: str, **fields: object) -> None:
    """Write one event; `event` is a word or several joined by dashes."""
    words = [_clock(), event, *(f"{key}={_word(value)}" for key, value in fields.items())]
    # One write, so that the lines of processes that share a terminal stay whole.
    sys.stderr.write(" ".join(words) + "\n")
    sys.stderr.flush()


def _clock() -> str:
    now = time.time()
    return time.strftime("%H:%M:%S", time.localtime(now)) + f".{int(now * 1000) % 1000:03d}"


def _word(value: object) -> str:
    """The value as one word: floats short, quoted if a reader could not tell where it ends."""
    text = f"{value:.3f}" if isinstance(value, float) else str(value)
    return text if text and not set(text) & set(' "=\n\r\t') else repr(text)
