"""One client's connection: how long it may take to send and to read, and what it hears of HTTP.

Uvicorn waits for ever for a request that was begun, and for a client that does not read.
"""

import asyncio
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import h11
import uvicorn
from starlette.responses import JSONResponse
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from dsv4_tp.serving.failures import BAD, error_object

_IDLE_S = 75  # for a connection that may be used again; longer than clients keep theirs
_GRACE_S = 1  # for last words when the cluster ends
_LINGER_S = 2.0  # in which a client that was refused may say more, which nobody looks at
_ANSWERS = (h11.IDLE, h11.SEND_RESPONSE)  # states in which no answer was begun


@dataclass(frozen=True, slots=True)
class Patience:
    """How long we wait for a client."""

    request_s: float = 60.0  # from the first byte of a request to its last
    unread_s: float = 60.0  # in which none of an answer is read


class Config(uvicorn.Config):
    """Of a server whose clients are waited for so long."""

    def __init__(self, app: ASGIApp, patience: Patience) -> None:
        super().__init__(
            app,
            http=Connection,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=_IDLE_S,
            timeout_graceful_shutdown=_GRACE_S,
        )
        self.patience = patience


class Connection(H11Protocol):
    """Ends with a client that does not send what it has begun, or does not read what it wanted.

    What is over for the connection is over for its request: its place on the ranks becomes free.
    """

    def __init__(self, config: Config, *args: Any, **options: Any) -> None:
        super().__init__(config, *args, **options)
        self._patience = config.patience
        self._request: asyncio.TimerHandle | None = None  # until all of one is here
        self._unread: asyncio.TimerHandle | None = None  # until nothing is left to be sent
        self._over = False  # all is said

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """From now on the client may send."""
        super().connection_made(transport)
        transport.set_write_buffer_limits(0)  # one piece is kept here, and no more
        self._request = self.loop.call_later(self._patience.request_s, self._too_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over, whoever ended it."""
        self._stop_waiting()
        self._read()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Some of a request, or of several."""
        if self._over:
            return
        super().data_received(data)
        if self._over:
            return
        if not self._is_half():
            self._stop_waiting()
        elif self._request is None:
            self._request = self.loop.call_later(self._patience.request_s, self._too_slow)

    def pause_writing(self) -> None:
        """The client has not read all that was sent."""
        super().pause_writing()
        self._wait_for_reader(self.transport.get_write_buffer_size())

    def resume_writing(self) -> None:
        """It has."""
        super().resume_writing()
        self._read()

    def send_400_response(self, msg: str) -> None:
        """Uvicorn calls this for what is no HTTP; in OpenAI's words."""
        self._refuse(400, "this is no HTTP/1.1 request, or its head is too large", None)

    def _is_half(self) -> bool:
        if self.conn.their_state is h11.IDLE:
            return bool(self.conn.trailing_data[0])
        return self.conn.their_state is h11.SEND_BODY

    def _too_slow(self) -> None:
        if self.cycle and not self.cycle.response_complete:  # it has a deadline of its own
            self._request = self.loop.call_later(self._patience.request_s, self._too_slow)
        elif self._is_half() and self.conn.our_state in _ANSWERS:
            late = f"the request was not here within {self._patience.request_s:g} s; send it again"
            self._refuse(408, late, "request_timeout")
        else:
            self.transport.abort()

    def _stop_waiting(self) -> None:
        if self._request:
            self._request.cancel()
            self._request = None

    def _wait_for_reader(self, left_bytes: int) -> None:
        self._unread = self.loop.call_later(self._patience.unread_s, self._look, left_bytes)

    def _look(self, left_bytes: int) -> None:
        """A large answer may take long, as long as some of it is read."""
        now_bytes = self.transport.get_write_buffer_size()
        if now_bytes < left_bytes:
            self._wait_for_reader(now_bytes)
        else:
            self.transport.abort()

    def _read(self) -> None:
        if self._unread:
            self._unread.cancel()
            self._unread = None

    def _refuse(self, status: int, message: str, code: str | None) -> None:
        """The last answer of this connection, unless one is on its way."""
        if self.conn.our_state in _ANSWERS:
            answer = JSONResponse(error_object(message, BAD, code=code))
            headers = [*answer.raw_headers, (b"connection", b"close")]
            reason = HTTPStatus(status).phrase.encode()
            head = h11.Response(status_code=status, headers=headers, reason=reason)
            for event in (head, h11.Data(data=bytes(answer.body)), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self._linger()

    def _linger(self) -> None:
        """Closed at once, with something unread, the client would be cut off from the answer."""
        self._over = True
        self._stop_waiting()
        self._request = self.loop.call_later(_LINGER_S, self.transport.abort)
        self.flow.resume_reading()
        self.transport.write_eof()
