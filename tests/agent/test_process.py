"""The process of a rank, here any command at all: it starts, is killed, and is never missed."""

import asyncio
import re
import sys
import time

import psutil
import pytest

from dsv4_tp.agent import process
from dsv4_tp.agent.ladder import longest_s
from dsv4_tp.agent.process import Ears, RankProcess
from dsv4_tp.history import Segments
from dsv4_tp.v1.worker_pb2 import StartRank

# Ignores SIGTERM and starts a child; tells both pids.
STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen(["sleep", "600"])
print(os.getpid(), child.pid, file=sys.stderr, flush=True)
time.sleep(600)
"""

# Ignores SIGTERM and holds the lock of the interpreter.
WEDGED = """
import ctypes, faulthandler, signal, sys
faulthandler.register(signal.SIGUSR2, all_threads=True)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
def wedge():
    while True:
        ctypes.PyDLL(None).sleep(600)  # until the next signal
print("ready", file=sys.stderr, flush=True)
wedge()
"""


# Serves as a worker does, and is gone when it hears the first word.
FRAIL = """
import os, sys, threading
from concurrent.futures import ThreadPoolExecutor
import grpc
from dsv4_tp.v1.worker_pb2_grpc import WorkerServiceServicer, add_WorkerServiceServicer_to_server
class Frail(WorkerServiceServicer):
    def Run(self, requests, context):
        next(requests)
        os._exit(3)
server = grpc.server(ThreadPoolExecutor(1))
add_WorkerServiceServicer_to_server(Frail(), server)
server.add_insecure_port("unix:" + sys.argv[2])
server.start()
threading.Event().wait()
"""


@pytest.fixture
def rank(tmp_path):
    """Makes a rank of a command; `rank.exits` is what it told."""

    def make(*argv):
        exits = []
        ears = Ears(
            said=lambda _: None,
            muted=lambda: None,
            exited=lambda code, last_stderr: exits.append((code, last_stderr)),
        )
        record = Segments(tmp_path, "rank", limit_bytes=1 << 20)
        made = RankProcess(
            StartRank(rank=3), argv=argv, folder=tmp_path / "rank", record=record, ears=ears
        )
        made.exits = exits
        return made

    return make


def nothing(_pid):
    pass


def test_a_command_that_is_not_there_is_told_as_an_exit(rank):
    made = rank("/none/worker")
    asyncio.run(made.run(nothing, nothing))
    ((code, last_stderr),) = made.exits
    assert code == 127
    assert "No such file or directory: '/none/worker'" in last_stderr


def test_the_end_of_what_it_said_is_kept(rank):
    made = rank(
        sys.executable, "-c", "import sys; sys.stderr.write('x' * 9000 + 'end'); sys.exit(4)"
    )
    watched = []
    asyncio.run(made.run(watched.append, watched.remove))
    ((code, last_stderr),) = made.exits
    assert code == 4
    assert last_stderr.endswith("xend")
    assert len(last_stderr) == 8192
    assert watched == []


def test_nobody_waits_for_words_of_one_that_never_came_to_speak(rank, monkeypatch):
    monkeypatch.setattr(process, "_LAST_WORDS_S", 600.0)
    made = rank(sys.executable, "-c", "import os; os.abort()")
    asyncio.run(asyncio.wait_for(made.run(nothing, nothing), 60))
    assert [code for code, _ in made.exits] == [-6]


def test_nobody_speaks_to_it_any_more_when_it_is_gone(rank):
    made = rank(sys.executable, "-c", FRAIL)

    async def life():
        await made.run(nothing, nothing)
        for _ in range(100):
            if not (left := asyncio.all_tasks() - {asyncio.current_task()}):
                break
            await asyncio.sleep(0.02)
        return left

    assert asyncio.run(life()) == set()
    assert made.exits[0][0] == 3


def test_it_is_killed_with_all_it_started(rank):
    made = rank(sys.executable, "-c", STUBBORN)

    async def life():
        living = asyncio.create_task(made.run(nothing, nothing))
        while not made._tail.endswith(b"\n"):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        gone = await made.kill()
        await living
        return gone

    assert asyncio.run(asyncio.wait_for(life(), 30))
    ((code, pids),) = made.exits
    assert code == -9
    ends = time.monotonic() + 5
    while any(psutil.pid_exists(int(pid)) for pid in pids.split()):
        assert time.monotonic() < ends
        time.sleep(0.02)


def test_it_tells_where_it_hangs_though_it_holds_the_gil_and_ignores_sigterm(rank):
    made = rank(sys.executable, "-c", WEDGED)

    async def life():
        living = asyncio.create_task(made.run(nothing, nothing))
        while not made._tail.endswith(b"\n"):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        stacks = await made.dump()
        gone = await made.kill()
        await living
        return stacks, gone

    stacks, gone = asyncio.run(asyncio.wait_for(life(), 30))
    assert gone
    assert re.search(r"most recent call first.*\n.* in wedge\n", stacks)
    assert [code for code, _ in made.exits] == [-9]


def test_one_that_is_stopped_is_killed_though_it_ignores_everything_else(rank):
    made = rank("/bin/sh", "-c", "kill -STOP $$")

    async def life():
        living = asyncio.create_task(made.run(nothing, nothing))
        while not made.is_stopped():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        gone = await made.kill()
        await living
        return gone

    assert asyncio.run(asyncio.wait_for(life(), 30))
    assert made.exits == [(-9, "")]


def test_the_whole_ladder_is_within_its_budget():
    assert longest_s() <= 10 - 2  # what is left is for the coordinator to hear of it, and to tell


def test_it_can_be_killed_before_it_has_started(rank):
    made = rank(sys.executable, "-c", "import time; time.sleep(600)")

    async def life():
        killing = asyncio.create_task(made.kill())
        await asyncio.sleep(0)
        await made.run(nothing, nothing)
        return await killing

    assert asyncio.run(asyncio.wait_for(life(), 30))
    assert made.exits == [(-15, "")]
