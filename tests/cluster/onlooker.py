"""Somebody outside of a cluster: looks at it twenty times a second, and asks it for texts.

    python -m tests.cluster.onlooker

To be run where the launch is, since a cluster is found there only; `watching` does so. It hears
and says lines of JSON:

    {"at": FOLDER}                              the state directory of what it is to look at
    {"ask": 1, "by": "http", "words": {...}}    a text, by HTTP or gRPC, as `Ask` has it
    {"down": 2} {"restart": 3}                  as the commands of that name

    {"look": {...}, "of": FOLDER}               see `Look`
    {"piece": 1, "at_s": 7.5, "tokens": [], "text": "..."}      no tokens by HTTP
    {"end": 1, "at_s": 7.6, "error": ""}        of a text or a command; "TYPE: message"
"""

import asyncio
import json
import sys
import time
from contextlib import aclosing, suppress
from pathlib import Path
from urllib.parse import urlsplit

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from dsv4_tp.client import Ask, AsyncClient
from dsv4_tp.errors import Dsv4Error

PERIOD_S = 0.05
ANSWER_S = 2.0
LOST = "ConnectionLost"  # what an HTTP client has if the other end is gone


class Onlooker:
    def __init__(self):
        self.folder = None
        self.address = ""
        self.endpoint = ""  # of HTTP
        self.known = asyncio.Event()  # that is
        self.client = self.channel = None
        self.tasks = set()

    def obey(self, order):
        if "at" in order:
            self.folder = Path(order["at"])
            return
        if "ask" in order:
            number, work = order["ask"], self._ask(order["ask"], order["by"], order["words"])
        elif "down" in order:
            number, work = order["down"], self._call("down")
        else:
            number, work = order["restart"], self._call("restart")
        task = asyncio.create_task(ended(number, work))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def look_on(self):
        while True:
            began_s, folder = time.monotonic(), self.folder
            if folder:
                say(of=str(folder), look={"at_s": began_s, **await self._look()})
            await asyncio.sleep(max(0.01, began_s + PERIOD_S - time.monotonic()))

    async def _look(self):
        await self._turn(found(self.folder))
        if not self.address:
            return {}
        looks = await asyncio.gather(self._status(), self._health(), self._ready())
        return {name: value for look in looks for name, value in look.items()}

    async def _turn(self, address):
        """To the cluster at this address, of which there is one at a time."""
        if address == self.address:
            return
        self.address = address
        self.known.clear()
        if self.client:
            await self.client.close()
            await self.channel.close()
        self.client = AsyncClient(address) if address else None
        self.channel = grpc.aio.insecure_channel(address) if address else None

    async def _status(self):
        try:
            status = await asyncio.wait_for(self.client.status(), ANSWER_S)
        except (Dsv4Error, TimeoutError):
            return {}
        self.endpoint = status.endpoint
        self.known.set()
        reports = [rank.report for host in status.hosts for rank in host.ranks]
        return {
            "phase": status.phase,
            "epoch": status.epoch,
            "failure": status.failure,
            "running": status.totals.running + status.totals.waiting,
            "done": sum(report.prefill_tokens + report.decode_steps for report in reports),
        }

    async def _health(self):
        stub = health_pb2_grpc.HealthStub(self.channel)
        with suppress(grpc.aio.AioRpcError):
            said = await stub.Check(health_pb2.HealthCheckRequest(), timeout=ANSWER_S)
            return {"serving": said.status == health_pb2.HealthCheckResponse.SERVING}
        return {}

    async def _ready(self):
        if not self.known.is_set():
            return {}
        with suppress(OSError, TimeoutError, EOFError):
            async with asyncio.timeout(ANSWER_S):
                status, reader, writer = await http(self.endpoint, "GET", "/health/ready")
                with suppress(OSError):
                    await reader.read()
                writer.close()
            return {"ready": status == 200}
        return {}

    async def _ask(self, number, by, words):
        if by == "http":
            await self._post(number, words)
            return
        async with (
            AsyncClient(found(self.folder)) as client,
            aclosing(client.stream(Ask(**words))) as pieces,
        ):
            async for piece in pieces:
                tell(number, piece.text, piece.tokens)

    async def _post(self, number, words):
        """A stream of events, ended by [DONE]; what ends otherwise is lost."""
        await self.known.wait()
        body = json.dumps(words | {"stream": True}).encode()
        status, reader, writer = await http(self.endpoint, "POST", "/v1/completions", body)
        try:
            if status != 200:
                raise Told(json.loads(await reader.read())["error"])
            while line := await reader.readline():
                if line == b"data: [DONE]\n":
                    return
                if line.startswith(b"data: "):
                    chunk = json.loads(line.removeprefix(b"data: "))
                    if "error" in chunk:
                        raise Told(chunk["error"])
                    tell(number, chunk["choices"][0]["text"])
        finally:
            writer.close()
        raise ConnectionError("the stream just ended")

    async def _call(self, name):
        async with AsyncClient(found(self.folder)) as client:
            await getattr(client, name)()


class Told(Exception):
    """An error in OpenAI's words."""

    def __init__(self, words):
        super().__init__(words["message"])
        self.kind = words["type"]


async def http(endpoint, method, path, body=b""):
    """The status, and what follows the head: as HTTP/1.0 has it, until the other end closes."""
    place = urlsplit(endpoint)
    reader, writer = await asyncio.open_connection(place.hostname, place.port)
    head = (
        f"{method} {path} HTTP/1.0\r\nHost: {place.netloc}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    writer.write(head.encode() + body)
    status, *_ = (await reader.readuntil(b"\r\n\r\n")).split(b" ", 2)[1:]
    return int(status), reader, writer


def found(folder):
    """The address of the cluster there; empty: there is none yet."""
    for file in folder.glob("*.json"):
        with suppress(OSError, ValueError):  # it is just being written, or removed
            return json.loads(file.read_text())["address"]
    return ""


async def ended(number, work):
    """Say what became of this work."""
    try:
        await work
        error = ""
    except Told as told:
        error = f"{told.kind}: {told}"
    except (OSError, EOFError) as lost:
        error = f"{LOST}: {lost}"
    except Dsv4Error as known:
        error = f"{type(known).__name__}: {known}"
    except Exception as unknown:  # which is what a test wants to know
        error = f"UNTYPED {unknown!r}"
    say(end=number, at_s=time.monotonic(), error=error)


def tell(number, text, tokens=()):
    say(piece=number, at_s=time.monotonic(), tokens=list(tokens), text=text)


def say(**words):
    print(json.dumps(words), flush=True)


async def main():
    onlooker, orders = Onlooker(), asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    async with asyncio.TaskGroup() as group:
        looking = group.create_task(onlooker.look_on())
        while line := await orders.readline():
            onlooker.obey(json.loads(line))
        looking.cancel()


if __name__ == "__main__":
    asyncio.run(main())
