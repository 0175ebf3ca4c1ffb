"""Looks at a cluster ten times a second, as a load balancer and an operator do.

    python -m tests.cluster.watching STATE_DIR

prints one line of JSON for each look, until it is ended. Run beside the launch, for the cluster is
found there only; `Watch` does so.
"""

import asyncio
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from threading import Thread

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from dsv4_tp.client import AsyncClient
from dsv4_tp.errors import Dsv4Error

PERIOD_S = 0.1
ANSWER_S = 2.0
GONE = "gone"


@dataclass(frozen=True)
class Look:
    """What was seen at `at_s`, by the clock that all processes of a machine share."""

    at_s: float
    serving: bool
    phase: str = GONE  # or the cluster's
    epoch: int = 0
    failure: str = ""


class Watch:
    """All looks at a cluster while the block lasts."""

    def __init__(self, state_dir, *, inside=()):
        command = [*inside, sys.executable, "-m", "tests.cluster.watching", str(state_dir)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        self.looks = []
        self.thread = Thread(target=self._read)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.thread.join()
        self.process.stdout.close()

    def first(self, holds, *, since_s=0.0):
        """The first look that `holds`, if there is one."""
        later = (look for look in [*self.looks] if look.at_s >= since_s)
        return next((look for look in later if holds(look)), None)

    @property
    def last(self):
        return self.looks[-1] if self.looks else Look(0.0, serving=False)

    def _read(self):
        for line in self.process.stdout:
            self.looks.append(Look(**json.loads(line)))


async def look_on(address):
    async with AsyncClient(address) as client, grpc.aio.insecure_channel(address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        while True:
            began_s = time.monotonic()
            print(json.dumps({"at_s": began_s, **await look(client, health)}), flush=True)
            await asyncio.sleep(max(0.0, began_s + PERIOD_S - time.monotonic()))


def found(state_dir):
    """The address of the cluster, as soon as there is one."""
    while not (files := list(state_dir.glob("*.json"))):
        time.sleep(PERIOD_S)
    return json.loads(files[0].read_text())["address"]


async def look(client, health):
    try:
        said = await health.Check(health_pb2.HealthCheckRequest(), timeout=ANSWER_S)
        status = await asyncio.wait_for(client.status(), ANSWER_S)
    except (grpc.aio.AioRpcError, Dsv4Error, TimeoutError):
        return {"serving": False}
    return {
        "serving": said.status == health_pb2.HealthCheckResponse.SERVING,
        "phase": status.phase,
        "epoch": status.epoch,
        "failure": status.failure,
    }


if __name__ == "__main__":
    asyncio.run(look_on(found(Path(sys.argv[1]))))
