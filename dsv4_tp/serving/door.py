"""The socket that HTTP comes in by, had before anything is started for it."""

import socket

from dsv4_tp.errors import PreflightError

_PORT = 8000  # unless another is asked for, or something else has it


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
    return f"http://{host}:{port}/v1"


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
