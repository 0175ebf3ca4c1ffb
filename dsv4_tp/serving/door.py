"""What HTTP comes in by, had before anything is started for it: a socket, and the keys to it."""

import socket
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dsv4_tp.config import Http
from dsv4_tp.config.http import check_http
from dsv4_tp.errors import PreflightError
from dsv4_tp.serving.keys import Keys, read_keys

_ANY = "0.0.0.0"  # no address that a client could call
_PORT = 8000  # unless another is asked for, or something else has it


@dataclass(frozen=True, slots=True)
class Door:
    """Where clients come in, and with what."""

    sock: socket.socket
    http: Http
    keys: Keys | None  # None: whoever gets here is let in

    @property
    def url(self) -> str:
        """What clients call the base URL."""
        return url(self.sock)

    @property
    def page(self) -> str:
        """What people open in a browser."""
        return self.url.removesuffix("v1")


@contextmanager
def door(http: Http) -> Generator[Door]:
    """The door that is asked for, until the end of the block.

    Raises:
        ConfigError: others could get here, and there are no keys.
        PreflightError: the keys cannot be read, or the port cannot be had.
    """
    check_http(http)
    keys = read_keys(Path(http.api_keys_file)) if http.api_keys_file else None
    with listen(http.bind, http.port) as sock:
        yield Door(sock, http, keys)


def listen(host: str, port: int | None) -> socket.socket:
    """A socket at `port`; None: at 8000, or at a free one if something else is there.

    Raises PreflightError if it cannot be had.
    """
    try:
        return _bound(host, _PORT if port is None else port)
    except OSError as error:
        if port is None:
            return _bound(host, 0)
        raise PreflightError(f"http: cannot listen on {host}:{port}: {error.strerror}") from error


def url(sock: socket.socket) -> str:
    """What clients call the base URL."""
    host, port = sock.getsockname()
    return f"http://{socket.gethostname() if host == _ANY else host}:{port}/v1"


def _bound(host: str, port: int) -> socket.socket:
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((host, port))
        sock.listen()
    except OSError:
        sock.close()
        raise
    return sock
