"""Where lines come from: somebody who types, or a pipe."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from dsv4_tp.errors import ConfigError

if TYPE_CHECKING:
    from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent

_MARK = "> "


def piped() -> Iterator[str]:
    """The lines of stdin; ConfigError if they are no text."""
    try:
        yield from sys.stdin
    except UnicodeDecodeError as error:
        raise ConfigError(f"stdin: not UTF-8: {error.reason}; give it text") from error


def typed(history: Path, orders: list[str]) -> Iterator[str]:
    """What is typed, until Ctrl-D; Ctrl-C takes back what has been typed so far.

    `history` keeps it, for its user only; `orders` are completed by Tab.
    """
    from prompt_toolkit import PromptSession
    from prompt_toolkit.completion import WordCompleter
    from prompt_toolkit.history import FileHistory

    _own(history)
    session = PromptSession[str](
        history=FileHistory(str(history)),
        completer=WordCompleter(orders, sentence=True),
        complete_while_typing=False,
        key_bindings=_keys(),
        multiline=True,
        prompt_continuation="  ",
    )
    while True:
        try:
            yield session.prompt(_MARK)
        except KeyboardInterrupt:
            continue
        except EOFError:
            return


def write_own(file: Path, text: str) -> None:
    """Write a new file that only its user can read; ConfigError if that cannot be."""
    try:
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
    except OSError as error:
        raise ConfigError(f"/save {file}: {error.strerror}; give another name") from error


def _own(file: Path) -> None:
    """Make the file if it is missing; nobody else may read it."""
    os.close(os.open(file, os.O_WRONLY | os.O_CREAT, 0o600))
    file.chmod(0o600)


def _keys() -> "KeyBindings":
    """Enter sends, Alt-Enter and Ctrl-J begin a new line."""
    from prompt_toolkit.key_binding import KeyBindings

    keys = KeyBindings()

    def send(event: "KeyPressEvent") -> None:
        event.current_buffer.validate_and_handle()

    def new_line(event: "KeyPressEvent") -> None:
        event.current_buffer.newline(copy_margin=False)

    keys.add("enter")(send)
    keys.add("escape", "enter")(new_line)
    keys.add("c-j")(new_line)
    return keys
