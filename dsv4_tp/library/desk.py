"""Between callers and an engine in one process: requests go in, each gets its events back.

What a coordinator is to a cluster, in threads: the same decisions (`coordinator.requests`), done
by the engine's thread alone. The others put jobs into a queue, and each request has one for its
events.
"""

import queue
import time
from collections.abc import Callable, Iterator, Sequence

from dsv4_tp.coordinator import events, requests
from dsv4_tp.coordinator.requests import Change, Requests
from dsv4_tp.core import Command, Drain, Event, FinishEvent, FinishReason, Request, Told
from dsv4_tp.errors import Dsv4Error

_Stream = queue.SimpleQueue[Told | Dsv4Error]


class Desk:
    """The `Inbox` of an engine, and where its events go.

    `serve`, `cancel` and `close` are for any thread; the rest is for the engine's.
    """

    def __init__(self, none_yet: Requests) -> None:
        # The one thing that threads share. The garbage collector may end a stream at any moment,
        # in any thread, and nothing but a `put` is safe then.
        self._jobs: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._requests = none_yet
        self._commands: list[Command] = []
        self._streams: dict[str, _Stream] = {}
        self._over: Dsv4Error | None = None

    def wait(self) -> Sequence[Command]:
        """At least one command."""
        while not (commands := self.poll()):
            self._jobs.get()()
        return commands

    def poll(self) -> Sequence[Command]:
        """The commands that are there; maybe none."""
        self._work()
        self._do(requests.overdue(self._requests, time.monotonic()))
        commands, self._commands = self._commands, []
        return commands

    def emit(self, event: Event) -> None:
        """The engine tells."""
        self._do(requests.said(self._requests, event, time.monotonic()))

    def end(self, error: Dsv4Error) -> None:
        """The engine is gone; whoever waits, and whoever comes, hears why."""
        self._over = error
        self._work()
        for stream in self._streams.values():
            stream.put(error)

    def serve(self, request: Request, time_limit_s: float | None) -> Iterator[Told]:
        """The events of one request, the last of them a FinishEvent.

        Raises BusyError if too many wait, Dsv4Error if the engine has ended.
        """
        stream: _Stream = queue.SimpleQueue()
        asked, now_s = events.Asked(request, time_limit_s), time.monotonic()
        self._jobs.put(lambda: self._open(asked, now_s, stream))
        try:
            if self._over:  # looked at after the `put`: `end` does what was put before
                raise self._over
            while not isinstance(event := _next(stream), FinishEvent):
                yield event
            yield event
        finally:
            self._jobs.put(lambda: self._leave(request.id))

    def cancel(self, request_id: str, reason: FinishReason = FinishReason.CANCELLED) -> None:
        """End a request at the next step border; one that has ended already is left alone."""
        gone = events.Abandoned(request_id, reason)
        self._jobs.put(lambda: self._abandon(gone))

    def close(self) -> None:
        """End every request, and then the engine."""
        self._jobs.put(self._close)

    def _open(self, asked: events.Asked, now_s: float, stream: _Stream) -> None:
        if error := self._over or requests.busy(self._requests):
            stream.put(error)
            return
        self._streams[asked.request.id] = stream
        self._do(requests.asked(self._requests, asked, now_s))

    def _leave(self, request_id: str) -> None:
        self._streams.pop(request_id, None)  # a refused one has none
        self._abandon(events.Abandoned(request_id))

    def _close(self) -> None:
        for request_id in self._requests.open:
            self._abandon(events.Abandoned(request_id))
        self._do(requests.broadcast(self._requests, Drain()))

    def _abandon(self, gone: events.Abandoned) -> None:
        self._do(requests.abandoned(self._requests, gone, time.monotonic()))

    def _work(self) -> None:
        for _ in range(self._jobs.qsize()):
            self._jobs.get_nowait()()

    def _do(self, change: Change) -> None:
        self._requests, actions = change
        for action in actions:
            match action:
                case events.Broadcast(command=command):
                    self._commands.append(command)
                case events.Deliver(event=event) if event.request_id in self._streams:
                    self._streams[event.request_id].put(event)
                case _:
                    pass


def _next(stream: _Stream) -> Told:
    event = stream.get()
    if isinstance(event, Dsv4Error):
        raise event
    return event
