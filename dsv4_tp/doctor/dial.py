"""Connects to a host's listener and exchanges a word with it, so that no stranger counts."""

import errno
import socket
import threading
import time
from contextlib import suppress

from dsv4_tp.doctor.evidence import REACHED, STRANGER, Dial

_HEARD_S = 1.0  # for whoever has connected to say its word


def dial(address: str, port: int, word: str, patience_s: float) -> Dial:
    """Connect within `patience_s`, say the word, and hear it backwards."""
    began = time.monotonic()
    try:
        with socket.create_connection((address, port), patience_s) as connection:
            connection.sendall(word.encode())
            answer = _receive(connection, len(word))
        outcome = REACHED if answer == word[::-1] else STRANGER
    except TimeoutError:
        outcome = errno.errorcode[errno.ETIMEDOUT]
    except OSError as error:
        outcome = errno.errorcode.get(error.errno or 0, str(error))
    return Dial(f"{address}:{port}", outcome, time.monotonic() - began)


def listen(address: str, port: int, word: str) -> int:
    """Answer everybody who says the word, until this process ends; the port (0: a free one).

    Raises:
        OSError: it cannot listen there.
    """
    listener = socket.create_server((address, port))
    threading.Thread(target=_answer, args=(listener, word), daemon=True).start()
    return listener.getsockname()[1]


def _answer(listener: socket.socket, word: str) -> None:
    while True:
        connection, _ = listener.accept()
        with connection, suppress(OSError):  # whoever it was may have gone
            _greet(connection, word)


def _greet(connection: socket.socket, word: str) -> None:
    connection.settimeout(_HEARD_S)
    if _receive(connection, len(word)) == word:
        connection.sendall(word[::-1].encode())


def _receive(connection: socket.socket, count: int) -> str:
    """So many characters, or fewer if that is all that comes."""
    heard = b""
    while len(heard) < count and (more := connection.recv(count - len(heard))):
        heard += more
    return heard.decode(errors="replace")
