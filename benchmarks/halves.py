"""A prompt's chunk in two halves beside the same in one piece, over links of several speeds.

    python -m benchmarks.halves          a table; root on Linux only

Two ranks, each in a network namespace of its own, with a cable between them that sends no more than
its rate. They feed the demo model a chunk, in halves and in one piece, in turns, timed on rank 0. A
CPU computes far more slowly than a GPU, so the links are slow as well: what counts is which part of
the time in one piece goes to sending, beyond the first link's, which is told too.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from statistics import median, quantiles
from tempfile import TemporaryDirectory

import mlx.core as mx
import numpy as np

from dsv4_tp import demo
from dsv4_tp.cli.tables import table
from dsv4_tp.config.environment import worker_environment
from dsv4_tp.core import DType, ExpertSplit
from dsv4_tp.engine import HALVES_FROM, TokenShares, join
from dsv4_tp.modelspec import read_spec
from dsv4_tp.parallel import load_rank
from dsv4_tp.plan import make_plan
from dsv4_tp.prepared import read_catalog

RATES = ("", "40mbit", "20mbit", "10mbit")
TOKENS, TURNS = 1024, 5
_DEADLINE_S = 300


def rank(number: int, addresses: Sequence[str]) -> None:
    """Be one of them; rank 0 prints the seconds of each turn, in halves and in one piece."""
    model_dir = demo.path()
    spec = read_spec(model_dir)
    found = read_catalog(model_dir, spec, mtp=False)
    parts = make_plan(spec, found, [1] * len(addresses), expert_split=ExpertSplit.WIDTH).parts
    collectives = join(addresses, rank=number, deadline_s=30, facts={})
    load = partial(
        load_rank,
        model_dir,
        parts[number],
        dtype=DType.FLOAT32,
        division=TokenShares(collectives, parts),
        all_sum=collectives.all_sum,
        begin=collectives.begin,
    )
    ways = [load(halves_from=least).model for least in (HALVES_FROM, None)]
    ids = mx.array(np.random.default_rng(0).integers(3, 97, (1, TOKENS), dtype=np.int32))
    turns: list[list[float]] = []
    for _ in range(TURNS + 1):
        turns.append([])
        for model in ways:
            cache = model.make_cache()
            collectives.agree(1)  # all begin together
            began_s = time.perf_counter()
            collectives.evaluate(model.streams(ids, cache), cache.arrays())
            turns[-1].append(time.perf_counter() - began_s)
    if number == 0:
        print(json.dumps(turns[1:]))  # the first turn takes memory that later ones have


@contextmanager
def cabled(rate: str) -> Generator[list[str]]:
    """Two namespaces with a cable of that rate between them; their names."""
    names = [f"dsv{os.getpid()}{end}" for end in "ab"]
    with ExitStack() as stack:
        for name in names:
            _run("ip", "netns", "add", name)
            stack.callback(_run, "ip", "netns", "del", name)
        one, other = names
        _run("ip", "-n", one, "link", "add", "eth0", "type", "veth", "peer", "eth0", "netns", other)
        for end, name in enumerate(names, 1):
            _run("ip", "-n", name, "addr", "add", f"10.79.0.{end}/24", "dev", "eth0")
            for way in ("lo", "eth0"):
                _run("ip", "-n", name, "link", "set", way, "up")
            if rate:
                shape = ("root", "tbf", "rate", rate, "burst", "64kb", "latency", "2s")
                _run("tc", "-n", name, "qdisc", "add", "dev", "eth0", *shape)
        yield names


def measured(rate: str) -> list[list[float]]:
    """What rank 0 says."""
    addresses = ["10.79.0.1:5000", "10.79.0.2:5000"]
    with cabled(rate) as names, ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        ranks: list[subprocess.Popen[bytes]] = []
        for number, name in enumerate(names):
            (tmp := folder / name).mkdir()
            within = ("ip", "netns", "exec", name, sys.executable, "-m", "benchmarks.halves")
            command = [*within, "--rank", str(number), *addresses]
            process = subprocess.Popen(command, env=worker_environment(tmp), stdout=subprocess.PIPE)
            stack.callback(process.kill)
            ranks.append(process)
        said = [each.communicate(timeout=_DEADLINE_S)[0] for each in ranks]
    if any(each.returncode for each in ranks):
        sys.exit("a rank has failed; see above")
    return json.loads(said[0])


def _run(*command: str) -> None:
    subprocess.run(command, check=True)


def main() -> None:
    """A table, or one of the ranks."""
    parser = argparse.ArgumentParser(description="Measure a chunk in two halves.")
    parser.add_argument("--rank", type=int, help=argparse.SUPPRESS)
    parser.add_argument("addresses", nargs="*", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.rank is not None:
        rank(given.rank, given.addresses)
        return
    rows: list[list[str]] = []
    plain_s = 0.0
    for rate in RATES:
        turns = measured(rate)
        low, middle, high = quantiles([halves / whole for halves, whole in turns], n=4)
        whole_s = median(whole for _, whole in turns)
        plain_s = plain_s or whole_s
        sending = f"{max(0.0, 1 - plain_s / whole_s):.0%}"
        rows.append([rate or "as it is", sending, f"{middle:.2f} ({low:.2f} to {high:.2f})"])
    print(table(["link", "of its time for sending", "halves over one piece"], rows))


if __name__ == "__main__":
    main()
