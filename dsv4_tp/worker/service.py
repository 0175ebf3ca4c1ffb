"""The agent's one stream, as an inbox and an outbox for the thread that computes.

Owns gRPC's threads. It knows no MLX and decides nothing, but for one thing: a rank whose agent
is gone ends at once, whatever it does.
"""

import os
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import grpc

from dsv4_tp.core import Command, Event
from dsv4_tp.errors import DeadlineError, PreflightError
from dsv4_tp.rpc.channel import LOCAL_OPTIONS
from dsv4_tp.rpc.convert import command_from_proto
from dsv4_tp.rpc.convert_events import event_to_proto
from dsv4_tp.v1.worker_pb2 import RunRequest, RunResponse, StartRank
from dsv4_tp.v1.worker_pb2_grpc import WorkerServiceServicer, add_WorkerServiceServicer_to_server

_AGENT_GONE = 1  # exit code; nobody is left to read it
_CLOSE_S = 5.0
_BEAT_S = 0.5  # an agent takes a rank that does not beat for lost after ten of them


class AgentLink(WorkerServiceServicer):
    """The worker's side of the stream; all but `Run` is called by the computing thread."""

    def __init__(self, socket: Path) -> None:
        """Serves on the Unix socket from now on."""
        self._requests: queue.SimpleQueue[RunRequest] = queue.SimpleQueue()
        self._responses: queue.SimpleQueue[RunResponse | None] = queue.SimpleQueue()
        self._taken = threading.Lock()
        self._leaving = threading.Event()
        self._server = grpc.server(ThreadPoolExecutor(max_workers=2), options=LOCAL_OPTIONS)
        add_WorkerServiceServicer_to_server(self, self._server)
        self._server.add_insecure_port(f"unix:{socket}")
        self._server.start()

    def start(self, *, deadline_s: float) -> StartRank:
        """What the agent wants this process to be; DeadlineError if it does not say so in time."""
        first = self._next(deadline_s)
        if first is None:
            raise DeadlineError(f"no agent spoke to this worker in {deadline_s:.0f} s")
        if not first.HasField("start"):
            raise PreflightError("the agent sent a command before it said what to start")
        return first.start

    def nonce(self, beat: Callable[[], None]) -> bytes:
        """That of the epoch, which comes when every rank is prepared; beats while it waits."""
        # No deadline: the coordinator, which sees all ranks, has one.
        while (request := self._next(_BEAT_S)) is None:
            beat()
        if not request.HasField("join"):
            raise PreflightError("the agent sent a command before the ranks were to meet")
        return request.join.nonce

    def wait(self) -> Sequence[Command]:
        """At least one command, in the order they came."""
        # No deadline: an idle rank waits as long as it has an agent.
        first = self._requests.get()
        return [command_from_proto(first.command), *self.poll()]

    def poll(self) -> Sequence[Command]:
        """The commands that have come since; maybe none."""
        waiting = [self._requests.get_nowait() for _ in range(self._requests.qsize())]
        return [command_from_proto(request.command) for request in waiting]

    def say(self, response: RunResponse) -> None:
        """Send this to the agent, after all that was said before."""
        self._responses.put(response)

    def emit(self, event: Event) -> None:
        """Send an event to the agent."""
        self.say(RunResponse(event=event_to_proto(event)))

    def close(self) -> None:
        """Ends the stream after the last word, and the server."""
        self._leaving.set()
        self._responses.put(None)
        self._server.stop(grace=_CLOSE_S).wait(_CLOSE_S)

    def Run(  # noqa: N802
        self, request_iterator: Iterator[RunRequest], context: grpc.ServicerContext
    ) -> Iterator[RunResponse]:
        """The life of a rank; see the proto."""
        if not self._taken.acquire(blocking=False):
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, "this worker has an agent already")
        threading.Thread(target=self._read, args=(request_iterator,), daemon=True).start()
        while (response := self._responses.get()) is not None:
            yield response

    def _next(self, patience_s: float) -> RunRequest | None:
        """What the agent says next; None if it says nothing for so long."""
        try:
            return self._requests.get(timeout=patience_s)
        except queue.Empty:
            return None

    def _read(self, requests: Iterator[RunRequest]) -> None:
        with suppress(grpc.RpcError):
            for request in requests:
                self._requests.put(request)
        if not self._leaving.is_set():
            # The computing thread may hang in a collective; nothing else would end it.
            os._exit(_AGENT_GONE)
