"""The least an agent does, so that workers can be tested without one."""

import queue
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import grpc

from dsv4_tp.config.environment import worker_environment
from dsv4_tp.core import Command, RankReport, StepEvent
from dsv4_tp.rpc.channel import LOCAL_OPTIONS
from dsv4_tp.rpc.convert import command_to_proto
from dsv4_tp.rpc.convert_events import event_from_proto
from dsv4_tp.rpc.progress import read_report
from dsv4_tp.v1.worker_pb2 import Join, RunRequest, RunResponse, StartRank
from dsv4_tp.v1.worker_pb2_grpc import WorkerServiceStub

PATIENCE_S = 60


class Rank:
    """One worker process and the stream to it."""

    def __init__(self, folder: Path, start: StartRank | None, *, joins: bool = True) -> None:
        folder.mkdir()
        self.rank = start.rank if start else 0
        self.steps: list[StepEvent] = []
        self.facts: dict[str, str] = {}
        self.progress = folder / "progress"
        self._requests: queue.SimpleQueue[RunRequest | None] = queue.SimpleQueue()
        self._stderr = folder / "stderr"
        socket = folder / "socket"
        argv, environment = worker_argv(socket, self.progress), worker_environment(folder)
        with self._stderr.open("wb") as stderr:
            self.process = subprocess.Popen(argv, env=environment, stderr=stderr)
        self.channel = grpc.insecure_channel(f"unix:{socket}", options=LOCAL_OPTIONS)
        if start:
            self._requests.put(RunRequest(start=start))
            if joins:
                self._requests.put(RunRequest(join=Join(nonce=b"n")))
            stub = WorkerServiceStub(self.channel)
            self._call = stub.Run(self._asked(), wait_for_ready=True, timeout=PATIENCE_S)

    def tell(self, *commands: Command) -> None:
        for command in commands:
            self._requests.put(RunRequest(command=command_to_proto(command)))

    def hear(self, kind: str) -> RunResponse:
        """The next response, which must be of this kind."""
        response = next(self._told(), None)
        assert response is not None, self.stderr()
        assert response.WhichOneof("kind") == kind, response
        return response

    def events(self, until: Callable[[object], bool]) -> list[object]:
        """The events up to the first one that `until` accepts."""
        heard: list[object] = []
        while not heard or not until(heard[-1]):
            heard.append(event_from_proto(self.hear("event").event))
        return heard

    def rest(self) -> list[RunResponse]:
        return list(self._told())

    def report(self) -> RankReport:
        return read_report(self.progress, rank=self.rank)

    def exit_code(self) -> int:
        return self.process.wait(timeout=PATIENCE_S)

    def stderr(self) -> str:
        return self._stderr.read_text()

    def close(self) -> None:
        self._requests.put(None)
        self.channel.close()
        self.process.kill()
        self.process.wait(timeout=PATIENCE_S)

    def _told(self) -> Iterator[RunResponse]:
        """What it says, but for its facts and its steps, which are kept."""
        for response in self._call:
            if response.HasField("prepared"):
                self.facts = dict(response.prepared.facts)
            elif response.event.HasField("step"):
                self.steps.append(event_from_proto(response.event))
            else:
                yield response

    def _asked(self) -> Iterator[RunRequest]:
        while (request := self._requests.get()) is not None:
            yield request


def worker_argv(socket: Path, progress: Path) -> list[str]:
    argv = [sys.executable, "-m", "dsv4_tp", "worker"]
    return [*argv, "--socket", str(socket), "--progress", str(progress)]
