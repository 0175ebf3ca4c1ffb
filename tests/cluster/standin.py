"""A rank without MLX, for quick tests of everything around it.

Speaks WorkerService and keeps a progress page like a real worker; tokens are numbers. What
goes wrong with it is read from the JSON file that STANDIN names: by rank, e.g.

    {"1": {"hang": "decode"}}       stops making progress in that phase
    {"1": {"exit": "loading"}}      leaves with code 3 and a line on stderr
    {"0": {"refuse": "bad file"}}   says it cannot run as asked
    {"1": {"dtype": "bfloat16"}}    holds another dtype than the others
    {"1": {"stubborn": true}}       ignores SIGTERM
    {"1": {"wedge": "decode"}}      holds the lock of its interpreter in that phase
    {"1": {"longest": 20}}          leaves with code 3 when it is fed more tokens than that
    {"all": {"token_s": 0.01}}      for every rank
    {"1": {"exit": "decode", "epochs": 1}}      so in the first epoch only
"""

import argparse
import asyncio
import ctypes
import faulthandler
import json
import os
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path

import grpc

from dsv4_tp.rpc.progress import ProgressPage
from dsv4_tp.v1 import types_pb2, worker_pb2
from dsv4_tp.v1.worker_pb2_grpc import WorkerServiceServicer, add_WorkerServiceServicer_to_server

BYTES = 1000


class StandIn(WorkerServiceServicer):
    def __init__(self, page, done):
        self.page, self.done = page, done
        self.rank, self.script = 0, {}
        self.cancelled = set()

    async def Run(self, request_iterator, context):
        start = (await anext(request_iterator)).start
        self.rank = start.rank
        script = read_script()
        own = script.get(str(start.rank), {})
        self.script = script.get("all", {}) | (own if start.epoch <= own.get("epochs", 99) else {})
        if self.script.get("stubborn"):
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
        with listening(start.ring[start.rank]):
            async for response in self.live(request_iterator):
                yield response
        self.done.set()

    async def live(self, requests):
        await self.enter("starting")
        facts = {"dtype": self.script.get("dtype", "float32")}
        await self.enter("prepared")
        yield worker_pb2.RunResponse(prepared=worker_pb2.Prepared(facts=facts))
        beating = asyncio.create_task(self.beat())
        assert (await anext(requests)).HasField("join")
        beating.cancel()
        await self.enter("joining")
        yield worker_pb2.RunResponse(joined=worker_pb2.Joined())
        await self.enter("loading")
        if message := self.script.get("refuse"):
            yield worker_pb2.RunResponse(refused=worker_pb2.Refused(message=message))
            return
        for done in range(0, BYTES + 1, BYTES // 4):
            self.page.loaded(done, BYTES)
            await asyncio.sleep(0.01)
        await self.enter("ready")
        ready = worker_pb2.Ready(weight_bytes=BYTES, bytes_read=BYTES)
        yield worker_pb2.RunResponse(ready=ready)
        async for event in self.serve(requests):
            yield worker_pb2.RunResponse(event=event)
        await self.enter("leaving")

    async def beat(self):
        while True:
            await asyncio.sleep(0.5)
            self.page.beat()

    async def serve(self, requests):
        jobs = asyncio.Queue()
        receiving = asyncio.create_task(self.receive(requests, jobs))
        while job := await jobs.get():
            async for event in self.work(job):
                yield event
            await self.enter("ready")
        receiving.cancel()

    async def receive(self, requests, jobs):
        async for request in requests:
            command = request.command
            if command.HasField("generate"):
                jobs.put_nowait(command.generate)
            elif command.HasField("cancel"):
                self.cancelled.add(command.cancel.request_id)
            elif command.HasField("drain"):
                jobs.put_nowait(None)

    async def work(self, job):
        await self.enter("prefill")
        if len(job.prompt) > self.script.get("longest", 1000):
            self.fall()
        self.page.prefilled(len(job.prompt))
        await self.enter("decode")
        reason = types_pb2.FINISH_REASON_LENGTH
        index = len(job.told)
        for index in range(len(job.told), job.max_tokens):
            await asyncio.sleep(self.script.get("token_s", 0.01))
            self.page.decoded()
            if self.rank == 0:
                token = types_pb2.TokenEvent(request_id=job.id, index=index, token=100 + index % 50)
                yield types_pb2.Event(token=token)
            if job.id in self.cancelled:
                reason = types_pb2.FINISH_REASON_CANCELLED
                break
        finish = types_pb2.FinishEvent(
            request_id=job.id, reason=reason, prompt_tokens=len(job.prompt), generated_tokens=index
        )
        yield types_pb2.Event(finish=finish)

    async def enter(self, phase):
        self.page.phase(phase)
        if self.script.get("exit") == phase:
            self.fall()
        while self.script.get("wedge") == phase:
            ctypes.PyDLL(None).sleep(600)
        if self.script.get("hang") == phase:
            await asyncio.Event().wait()

    def fall(self):
        print("Oops: as the script says", file=sys.stderr, flush=True)
        os._exit(3)


def read_script():
    return json.loads(Path(os.environ["STANDIN"]).read_text())


def listening(address):
    """The rank's port, held like the ring holds it."""
    host, _, port = address.rpartition(":")
    return socket.create_server((host, int(port)))


async def main():
    faulthandler.register(signal.SIGUSR2, all_threads=True)
    parser = argparse.ArgumentParser()
    parser.add_argument("--socket")
    parser.add_argument("--progress", type=Path)
    given = parser.parse_args()
    done = asyncio.Event()
    server = grpc.aio.server()
    page = ProgressPage(given.progress, pid=os.getpid())
    add_WorkerServiceServicer_to_server(StandIn(page, done), server)
    server.add_insecure_port(f"unix:{given.socket}")
    await server.start()
    await done.wait()
    await server.stop(1)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(main())
