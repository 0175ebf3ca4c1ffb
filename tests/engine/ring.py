"""Starting one process per rank on a real ring of this machine, and never leaving one behind."""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from dsv4_tp.config.environment import worker_environment
from dsv4_tp.native import shim_path

JOBS = "tests.engine.jobs"
_MOURNING_S = 5.0


@dataclass(frozen=True)
class Done:
    """How one rank's process ended."""

    code: int
    stderr: str


def free_addresses(count: int) -> list[str]:
    """Addresses of this machine that nobody listens on now."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]


def run_ranks(
    job: str,
    size: int,
    out: Path,
    *,
    deadline_s: float = 90,
    jobs: str = JOBS,
    **params: object,
) -> None:
    """Runs `job` of the module `jobs` on a ring of `size` ranks; each must end well."""
    out.mkdir(parents=True, exist_ok=True)
    addresses = free_addresses(size)
    ranks = [(job, rank, addresses, params) for rank in range(size)]
    ended = run_processes(ranks, out, deadline_s, jobs=jobs)
    failed = [f"rank {rank}: {e.code}\n{e.stderr}" for rank, e in enumerate(ended) if e.code]
    assert not failed, "\n".join(failed)


def run_processes(
    ranks: Sequence[tuple[str, int, list[str], dict[str, object]]],
    out: Path,
    deadline_s: float,
    *,
    jobs: str = JOBS,
) -> list[Done]:
    """Runs one process for each (job, rank, addresses, params) and waits for all of them."""
    running: list[subprocess.Popen[bytes]] = []
    try:
        for job, rank, addresses, params in ranks:
            running.append(_start([jobs, job, str(rank), str(out)], rank, addresses, params, out))
        _wait(running, deadline_s)
        return [
            Done(each.wait(), (out / f"stderr.{rank}").read_text())
            for (_, rank, _, _), each in zip(ranks, running, strict=True)
        ]
    finally:
        for each in running:
            each.kill()
            each.wait(timeout=10)


def _start(
    words: list[str], rank: int, addresses: list[str], params: dict[str, object], out: Path
) -> subprocess.Popen[bytes]:
    tmp = out / f"tmp.{rank}"
    tmp.mkdir(exist_ok=True)
    # Stock BLAS, which gives equal bits for equal rows; the shim only yields the core.
    environment = worker_environment(tmp) | {"LD_PRELOAD": str(shim_path() or "")}
    command = [sys.executable, "-m", *words]
    with (out / f"stderr.{rank}").open("wb") as stderr:
        return subprocess.Popen(
            [*command, json.dumps(addresses), json.dumps(params)], env=environment, stderr=stderr
        )


def _wait(running: Sequence[subprocess.Popen[bytes]], deadline_s: float) -> None:
    """Until all ended or time is up; what still runs is killed then."""
    end = time.monotonic() + deadline_s
    while any(each.poll() is None for each in running) and time.monotonic() < end:
        if any(each.poll() for each in running):
            # The others may hang in a collective now.
            end = min(end, time.monotonic() + _MOURNING_S)
        time.sleep(0.02)
    for each in running:
        if each.poll() is None:
            each.kill()
