"""Clusters under test: launched by the command line, looked at from outside, never left behind."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil

from dsv4_tp.client import AsyncClient
from dsv4_tp.errors import Dsv4Error

HERE = Path(__file__).parent
FOREVER = ("--prompt", "Hello", "--max-tokens", 100000)
COMMAND = (sys.executable, "-m", "dsv4_tp")


@dataclass
class Launch:
    """One `dsv4-tp launch` and all it started."""

    process: subprocess.Popen
    state_dir: Path
    inside: tuple[str, ...] = ()  # a command that runs another one where the launch is
    ports: set[int] = field(default_factory=set)
    pids: set[int] = field(default_factory=set)

    def entry(self):
        files = list(self.state_dir.glob("*.json"))
        return json.loads(files[0].read_text()) if files else None

    def wait_for(self, holds, *, within_s=60, what="what was waited for"):
        """Poll until `holds()`; fails if the launch has ended before."""
        ends = time.monotonic() + within_s
        while not (found := holds()):
            assert time.monotonic() < ends, f"{what} did not happen within {within_s} s"
            time.sleep(0.1)
        return found

    def wait_ready(self, *, ranks):
        self.wait_for(lambda: self.status().get("phase") == "ready", what="ready")
        self.look()
        assert len(self.workers()) == ranks, self.tree()
        return self

    def status(self):
        if not self.entry():
            assert self.process.poll() is None, self.finish()
            return {}
        if self.inside:
            done = self.run("status", "--json")
            return json.loads(done.stdout) if done.returncode == 0 else {}
        try:
            return asdict(asyncio.run(_status(self.entry()["address"])))
        except Dsv4Error:
            return {}

    def run(self, *arguments, timeout_s=60):
        return run(*arguments, state_dir=self.state_dir, timeout_s=timeout_s, inside=self.inside)

    def popen(self, *arguments):
        return popen(*arguments, state_dir=self.state_dir)

    def tree(self):
        me = psutil.Process(self.process.pid)
        return [me, *me.children(recursive=True)]

    def look(self):
        """Remember every process and every listening port of the cluster as it is now."""
        for process in self.tree():
            self.pids.add(process.pid)
            for connection in process.net_connections("tcp"):
                if connection.status == psutil.CONN_LISTEN:
                    self.ports.add(connection.laddr.port)

    def find(self, word):
        """Processes by a word of their command line."""
        return [p for p in self.tree() if any(word in part for part in p.cmdline()[1:])]

    def workers(self):
        return sorted(
            (p for p in self.tree() if "--progress" in p.cmdline()), key=lambda p: rank_of(p)
        )

    def agents(self):
        return [p for p in self.tree() if "--port=0" in p.cmdline()]

    def kill(self, process, number=signal.SIGKILL):
        self.look()
        os.kill(process.pid, number)

    def leftovers(self):
        """What of the remembered still lives or listens."""
        alive = [pid for pid in self.pids if is_alive(pid)]
        listening = {
            c.laddr.port for c in psutil.net_connections("tcp") if c.status == psutil.CONN_LISTEN
        }
        return alive, self.ports & listening

    def wait_gone(self, *, within_s):
        self.wait_for(lambda: self.leftovers() == ([], set()), within_s=within_s, what="the end")

    def finish(self, *, timeout_s=60):
        """Exit code, stdout and stderr."""
        out, err = self.process.communicate(timeout=timeout_s)
        return self.process.returncode, out, err


async def _status(address):
    async with AsyncClient(address) as client:
        return await client.status()


def decoding(cluster):
    """Wait until every rank has decoded something."""

    def under_way():
        hosts = cluster.status().get("hosts", [])
        steps = [rank["report"]["decode_steps"] for host in hosts for rank in host["ranks"]]
        return min(steps, default=0) > 2

    cluster.wait_for(under_way, what="decoding")
    cluster.look()
    return cluster


def launch(*arguments, state_dir, env=None, inside=(), stderr=subprocess.PIPE):
    """One that serves gets a port of its own, which no other launch takes when it ends."""
    http = () if {"--prompt", "--http"} & set(arguments) else ("--http", 0)
    how = {"state_dir": state_dir, "env": env, "inside": inside, "stderr": stderr}
    process = popen("launch", *arguments, *http, **how)
    return Launch(process, state_dir, inside=inside)


def popen(*arguments, state_dir, env=None, inside=(), stderr=subprocess.PIPE):
    return subprocess.Popen(
        [*inside, *COMMAND, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=stderr,
        text=True,
        env=environment(state_dir) | (env or {}),
    )


def run(*arguments, state_dir, timeout_s=60, inside=()):
    return subprocess.run(
        [*inside, *COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        env=environment(state_dir),
    )


def environment(state_dir):
    return dict(os.environ) | {"DSV4TP_STATE_DIR": str(state_dir)}


def is_alive(pid):
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def rank_of(process):
    """The rank of a worker, by the name of its directory."""
    command = process.cmdline()
    return int(command[command.index("--progress") + 1].split("-rank-")[1].split("/")[0])


def sweep(cluster):
    """Leave nothing, however the test went."""
    cluster.process.terminate()
    with suppress(subprocess.TimeoutExpired):
        cluster.process.communicate(timeout=20)
    for pid in (cluster.process.pid, *cluster.pids):
        if is_alive(pid):
            os.kill(pid, signal.SIGKILL)
    cluster.process.communicate(timeout=30)
