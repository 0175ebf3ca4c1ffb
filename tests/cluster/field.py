"""Two hosts in network namespaces, and clusters on them that are to be harmed. Root only."""

import json
import os
import random
import shutil
import sys
import time
from contextlib import ExitStack, suppress
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
ASKED = {
    "prompt": "Once upon a time there was a lamp that did not want to burn. " * 20,
    "max_tokens": 32,
    "temperature": 0,
}
MOST = 6.0
# Seconds on an idle machine. Agents take three to call a way silent, before ranks are called slow.
TIMEOUTS = {"beat_s": 0.25, "fence_s": 3, "join_s": 6, "load_s": 5, "step_s": 5}


def patience():
    """How much slower than by itself everything is on this machine now."""
    return round(min(MOST, max(1.0, os.getloadavg()[0] / os.cpu_count())), 1)


@dataclass(frozen=True)
class Rank:
    """A rank's process, and what it says of its progress."""

    process: psutil.Process
    number: int
    page: Path

    def report(self):
        return read_report(self.page, rank=self.number)


class Field:
    """The hosts, with somebody who looks on; for one cluster after the other."""

    def __init__(self, folder, model_dir):
        self.folder, self.model_dir = folder, model_dir
        self.network = Network(folder, *HOSTS, fabric=True)
        self.count = 0

    def __enter__(self):
        self.folder.mkdir(parents=True)
        with ExitStack() as stack:
            stack.enter_context(self.network)
            self.watch = stack.enter_context(Watch(inside=self.network.inside("launch")))
            self.stack = stack.pop_all()
        return self

    def __exit__(self, *_):
        self.stack.close()

    def cluster(self, **config):
        """A new one; `config` is what cluster.yaml says beside what it says here."""
        self.count += 1
        return Cluster(self, self.folder / f"cluster{self.count}", config)


class Cluster:
    """One of two ranks, and what it is like; gone after the block, and the field as it was."""

    chunk = 32

    def __init__(self, field, folder, config):
        self.field, self.folder = field, folder
        self.network, self.watch = field.network, field.watch
        self.state_dir = folder / "state"
        self.slowness = patience()
        self.config = self._config() | config
        self.launches = 0
        self.killed = False  # by us, and not launched again yet
        self.aim("")

    def __enter__(self):
        self.state_dir.mkdir(parents=True)
        (self.folder / "cluster.yaml").write_text(json.dumps(self.config))
        self._launch()
        return self

    def __exit__(self, *_):
        self.launch.process.kill()
        self.launch.process.communicate()
        for process in self.processes():
            with suppress(psutil.NoSuchProcess):
                clean_up(process)
        self.network.restore()

    def aim(self, seed):
        """Choose whom to harm, the same for the same seed."""
        self.rng = random.Random(seed)
        self.victim = self.rng.randrange(len(HOSTS))
        self.host = HOSTS[self.victim]

    def kill(self):
        """The coordinator is gone, and with it everything that stands between clients and ranks."""
        self.killed = True
        self.launch.process.kill()

    def launch_again(self):
        """Somebody, or launchd, types the same command once more."""
        self.launch.process.communicate()
        self._launch()
        self.killed = False

    @property
    def ended(self):
        """Whether it has ended by itself."""
        return not self.killed and self.launch.process.poll() is not None

    @property
    def last(self):
        return self.watch.last

    @property
    def said(self):
        """All that its launches wrote to stderr."""
        logs = [self.folder / f"launch{number}" for number in range(self.launches)]
        return "".join(log.read_text(errors="replace") for log in logs)

    @property
    def story(self):
        """The last of that, without the stacks of ranks."""
        lines = [line for line in self.said.splitlines() if " stderr line=" not in line]
        return "\n".join(lines[-20:])

    def ask(self, by="grpc", **words):
        """Somebody wants a text."""
        return self.watch.ask(by, **ASKED | words)

    def text(self, by="grpc", **words):
        """One that nothing happens to, whole."""
        self.wait(lambda: self.last.ready, "ready")
        wish = self.ask(by, **words)
        self.wait(lambda: wish.ended_s, "a text")
        assert wish.whole, wish
        return wish

    def processes(self):
        """All that run on the hosts and beside the launch."""
        found = self.network.processes("launch", *HOSTS)
        return [process for process in found if process.pid != self.watch.process.pid]

    def ranks(self):
        """By number, those whose process lives."""
        found = {}
        for process in self.network.workers():
            with suppress(psutil.NoSuchProcess):  # it has ended meanwhile
                page = page_of(process)
                found[rank_of(process)] = Rank(process, rank_of(process), page)
        return found

    def wait(self, holds, what, within_s=60):
        """What `holds` returns as soon as it is something."""
        ends_s = time.monotonic() + within_s * self.slowness
        while not (found := holds()):
            assert not self.ended, f"{self.launch.process.returncode}: {self.story}"
            assert self.watch.process.poll() is None, "nobody looks on"
            assert time.monotonic() < ends_s, f"{what} did not happen; {self.last}"
            time.sleep(0.02)
        return found

    def _launch(self):
        with (self.folder / f"launch{self.launches}").open("w") as log:
            self.launch = clusters.launch(
                *("-f", self.folder / "cluster.yaml"),
                state_dir=self.state_dir,
                inside=self.network.inside("launch"),
                stderr=log,
            )
        self.launches += 1
        self.watch.at(self.state_dir)

    def _config(self):
        return {
            "version": 1,
            "model": {"path": str(self.field.model_dir)},
            "hosts": [self._host(host) for host in HOSTS],
            "prefill_chunk": self.chunk,
            "prefix_cache": {"gb": 0},  # the same prompt takes as long every time
            "timeouts": {name: s * self.slowness for name, s in TIMEOUTS.items()},
            "restart": {"backoff_s": [0.3, 2], "most": 1000},
        }

    def _host(self, host):
        python = self.folder / "python"
        if not python.exists():
            python.parent.mkdir(exist_ok=True)
            words = f"PYTHONPATH={WAY_IN} HARM={self.folder} exec {sys.executable}"
            python.write_text(f'#!/bin/sh\n{words} "$@"\n')
            python.chmod(0o755)
        fabric = self.network.address(host, "eth1")
        return {"name": host, "python": str(python), "fabric": fabric}


def page_of(process):
    """Where a rank tells of its progress."""
    words = process.cmdline()
    return Path(words[words.index("--progress") + 1])


def clean_up(process):
    """End a process that should have ended; a rank's agent leaves its folder then."""
    folder = page_of(process).parents[1] if "--progress" in process.cmdline() else None
    process.kill()
    if folder:
        shutil.rmtree(folder, ignore_errors=True)
