"""Between callers and an engine in one process: requests go in, each gets its events back.

What a coordinator is to a cluster, in threads: the same decisions (`coordinator.requests`), done
by a queue of commands and a queue for each request.
"""

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from dsv4_tp.coordinator import events, requests
from dsv4_tp.coordinator.requests import Change, Requests
from dsv4_tp.core import Command, Drain, Event, FinishEvent, FinishReason, Request, Told
from dsv4_tp.errors import Dsv4Error

_TICK_S = 0.25

_Stream = queue.SimpleQueue[Told | Dsv4Error]


class Desk:
    """The `Inbox` of an engine, and where its events go. Any thread may call it."""

    def __init__(self, none_yet: Requests) -> None:
        self._requests = none_yet
        self._commands: queue.SimpleQueue[Command] = queue.SimpleQueue()
        self._streams: dict[str, _Stream] = {}
        self._over: Dsv4Error | None = None
        self._lock = threading.RLock()

    def wait(self) -> Sequence[Command]:
        """At least one command."""
        return [self._commands.get(), *self.poll()]

    def poll(self) -> Sequence[Command]:
        """The commands that are there; maybe none."""
        return [self._commands.get_nowait() for _ in range(self._commands.qsize())]

    def emit(self, event: Event) -> None:
        """The engine tells."""
        self._do(lambda state: requests.said(state, event, time.monotonic()))
        self._tick()

    def serve(self, request: Request, time_limit_s: float | None) -> Iterator[Told]:
        """The events of one request, the last of them a FinishEvent.

        Raises BusyError if too many wait, Dsv4Error if the engine has ended.
        """
        stream = self._open(request, time_limit_s)
        try:
            while not isinstance(event := self._next(stream), FinishEvent):
                yield event
            yield event
        finally:
            del self._streams[request.id]
            self.cancel(request.id)

    def cancel(self, request_id: str, reason: FinishReason = FinishReason.CANCELLED) -> None:
        """End a request at the next step border; one that has ended already is left alone."""
        gone = events.Abandoned(request_id, reason)
        self._do(lambda state: requests.abandoned(state, gone))

    def close(self) -> None:
        """End every request, and then the engine."""
        for request_id in tuple(self._requests.open):
            self.cancel(request_id)
        self._do(lambda state: requests.broadcast(state, Drain()))

    def end(self, error: Dsv4Error) -> None:
        """The engine is gone; whoever waits, and whoever comes, hears why."""
        with self._lock:
            self._over = error
            for stream in self._streams.values():
                stream.put(error)

    def _open(self, request: Request, time_limit_s: float | None) -> _Stream:
        asked = events.Asked(request, time_limit_s)
        with self._lock:
            if error := self._over or requests.busy(self._requests):
                raise error
            stream = self._streams[request.id] = _Stream()
            self._do(lambda state: requests.asked(state, asked, time.monotonic()))
        return stream

    def _next(self, stream: _Stream) -> Told:
        while True:
            try:
                event = stream.get(timeout=_TICK_S)
            except queue.Empty:
                self._tick()
                continue
            if isinstance(event, Dsv4Error):
                raise event
            return event

    def _tick(self) -> None:
        """Cancels those whose time is over."""
        self._do(lambda state: requests.overdue(state, time.monotonic()))

    def _do(self, decide: Callable[[Requests], Change]) -> None:
        # Within the lock, so that commands stand in the queue as they are numbered.
        with self._lock:
            self._requests, actions = decide(self._requests)
            for action in actions:
                match action:
                    case events.Broadcast(command=command):
                        self._commands.put(command)
                    case events.Deliver(event=event) if event.request_id in self._streams:
                        self._streams[event.request_id].put(event)
                    case _:
                        pass
