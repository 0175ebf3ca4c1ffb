"""What can happen to a cluster over ssh, and where it is when it does. Root only; see `netns`."""

import json
import os
import random
import signal
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from dsv4_tp.rpc.progress import read_report
from tests.cluster import clusters
from tests.cluster.clusters import rank_of
from tests.cluster.netns import Network
from tests.cluster.watching import Watch

HOSTS = ("hostA", "hostB")
WAY_IN = clusters.HERE / "way_in"
CHUNK = 32
PROMPT = "Once upon a time there was a lamp that did not want to burn. " * 12
ASKED = ("--prompt", PROMPT, "--max-tokens", 40, "--temperature", 0, "--json")


def patience():
    """How much slower than by itself everything is on this machine now, at most 4."""
    return round(min(4.0, max(1.0, os.getloadavg()[0] / os.cpu_count())), 1)


@dataclass(frozen=True)
class Rank:
    """A rank's process, and what it says of its progress."""

    process: psutil.Process
    number: int
    page: Path

    def report(self):
        return read_report(self.page, rank=self.number)


class Harmed:
    """A cluster of two hosts, watched, one of which is to be harmed; gone after the block."""

    def __init__(self, folder, model_dir, seed):
        self.rng = random.Random(seed)
        self.victim = self.rng.randrange(len(HOSTS))
        self.host = HOSTS[self.victim]
        self.slowness = patience()
        self.folder, self.model_dir = folder, model_dir
        self.state_dir = folder / "state"
        self.network = Network(folder, *HOSTS)
        self.clients = []

    def __enter__(self):
        self.state_dir.mkdir(parents=True)
        self.network.__enter__()
        self.inside = self.network.inside("launch")
        self.launched_s = time.monotonic()
        self.launch = clusters.launch(
            "-f", self._config(), state_dir=self.state_dir, inside=self.inside
        )
        self.watch = Watch(self.state_dir, inside=self.inside).__enter__()
        return self

    def __exit__(self, *_):
        try:
            for client in self.clients:
                client.kill()
                client.communicate()
            self.watch.__exit__()
            clusters.sweep(self.launch)
        finally:
            self.network.__exit__()

    def ask(self):
        """A client's text is under way."""
        client = self.popen("generate", *ASKED)
        self.clients.append(client)
        return client

    def popen(self, *arguments):
        return clusters.popen(*arguments, state_dir=self.state_dir, inside=self.inside)

    def ranks(self):
        """By number, those whose process lives."""
        found = {}
        for process in self.network.workers():
            with suppress(psutil.NoSuchProcess):  # it has ended meanwhile
                words = process.cmdline()
                page = Path(words[words.index("--progress") + 1])
                found[rank_of(process)] = Rank(process, rank_of(process), page)
        return found

    def wait(self, holds, what, within_s=60):
        """What `holds` returns as soon as it is something."""
        ends_s = time.monotonic() + within_s * self.slowness
        while not (found := holds()):
            assert self.launch.process.poll() is None, self.launch.finish()
            assert time.monotonic() < ends_s, f"{what} did not happen; {self.watch.last}"
            time.sleep(0.01)
        return found

    def reach(self, phase):
        """Come to this phase; the client that waits for its text by then, if there is one."""
        if phase in ("init", "load"):
            self._started(self.rng.choice(["starting", "prepared", "joining"]), phase)
            return None
        self.wait(lambda: self.watch.last.serving, "ready")
        ranks = self.ranks()
        assert set(ranks) == {0, 1}, ranks
        if phase == "idle":
            return None
        client = self.ask()
        self._busy(ranks[self.victim], "prefill" if phase == "prefill" else "decode")
        if phase == "drain":
            self.clients.append(self.popen("down"))
            self.wait(lambda: self.watch.last.phase == "draining", "draining")
        return client

    def _started(self, page_phase, phase):
        rank = self.wait(lambda: self.ranks().get(self.victim), "a process of the rank")
        if phase == "init":
            self.wait(lambda: rank.report().phase == page_phase, page_phase)
            return
        self.wait(lambda: rank.report().bytes_loaded > 0, "loading")

    def _busy(self, rank, page_phase):
        """Some steps into it, no two times as many."""
        chunks, steps = self.rng.randint(1, 6), self.rng.randint(2, 15)
        before = rank.report()

        def far_enough():
            now = rank.report()
            fed = now.prefill_tokens - before.prefill_tokens >= chunks * CHUNK
            return (
                fed if page_phase == "prefill" else now.decode_steps - before.decode_steps >= steps
            )

        self.wait(far_enough, page_phase)

    def _config(self):
        python = self.folder / "python"
        words = f"PYTHONPATH={WAY_IN} HARM={self.folder} exec {sys.executable}"
        python.write_text(f'#!/bin/sh\n{words} "$@"\n')
        python.chmod(0o755)
        scale = self.slowness
        config = {
            "version": 1,
            "model": {"path": str(self.model_dir)},
            "hosts": [{"name": host, "python": str(python)} for host in HOSTS],
            "prefill_chunk": CHUNK,
            "timeouts": {
                "beat_s": 0.25 * scale,
                "fence_s": 3 * scale,
                "join_s": 10 * scale,
                "load_s": 3 * scale,
                "step_s": 3 * scale,
            },
            "restart": {"backoff_s": [0.5, 2]},
        }
        file = self.folder / "cluster.yaml"
        file.write_text(json.dumps(config))
        return file


def sent(number):
    """The rank gets this signal."""

    def harm(cluster):
        cluster.ranks()[cluster.victim].process.send_signal(number)

    return harm


def ordered(order):
    """The rank's main thread does this itself."""

    def harm(cluster):
        (cluster.folder / "order").write_text(order)
        process = cluster.ranks()[cluster.victim].process
        cluster.wait(lambda: _obeys(process), "a rank that obeys")
        process.send_signal(signal.SIGUSR1)

    return harm


def _obeys(process):
    """Whether it catches SIGUSR1 by now."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    caught = int(status.split("SigCgt:")[1].split()[0], 16)
    return caught >> (signal.SIGUSR1 - 1) & 1


def kill_agent(cluster):
    found = [p for p in cluster.network.processes(cluster.host) if "--port=0" in p.cmdline()]
    for process in found:
        process.kill()


def kill_coordinator(cluster):
    cluster.launch.process.kill()


def flap(cluster):
    """Unplugged and plugged in again, twice, for less than anybody's patience."""
    for _ in range(2):
        cluster.network.cut(cluster.host)
        time.sleep(0.3)  # gRPC's patience with the network is not scaled
        cluster.network.join(cluster.host)
        time.sleep(0.3)


def nothing(cluster):
    pass


@dataclass(frozen=True)
class Fault:
    """What happens, and what somebody does about it when it has been noticed."""

    harm: object
    mend: object = nothing


FAULTS = {
    "KILL": Fault(sent(signal.SIGKILL)),
    "STOP": Fault(sent(signal.SIGSTOP)),
    "exit 1": Fault(ordered("exit 1")),
    "exit 0": Fault(ordered("exit 0")),
    "SEGV": Fault(ordered("segv")),
    "GIL held": Fault(ordered("hold")),
    "exception on one rank": Fault(ordered("raise")),
    "data link down": Fault(
        lambda cluster: cluster.network.part(*HOSTS), lambda cluster: cluster.network.mend(*HOSTS)
    ),
    "control link down": Fault(
        lambda cluster: cluster.network.part("launch", cluster.host),
        lambda cluster: cluster.network.mend("launch", cluster.host),
    ),
    "link flap": Fault(flap),
    "slow link": Fault(
        lambda cluster: cluster.network.slow(cluster.host, "2mbit"),
    ),
    "host gone": Fault(
        lambda cluster: cluster.network.kill(cluster.host),
        lambda cluster: cluster.network.boot(cluster.host),
    ),
    "agent killed": Fault(kill_agent),
    "coordinator killed": Fault(kill_coordinator),
}
PHASES = ("decode", "init", "load", "prefill", "idle", "drain")
