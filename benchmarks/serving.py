"""What serving costs beside the ranks: coordinator, agents, HTTP, and starting the command.

    python -m benchmarks.serving          a table
    python -m benchmarks.serving --json   the same as one JSON object

The demo model, on real clusters on this machine, asked by OpenAI's client. Seconds of CPU are
counted by the kernel, for each process; all else is a ratio of one run.

- `overhead`: two ranks, so many clients that stream at once: microseconds of CPU per token in the
  coordinator and in the agents, and the share that is of the time a token has at 200 a second, all
  clients together (5 ms). `idle` is what both take of one core while nothing is asked.
- `server`: one rank, our endpoint beside mlx_lm.server, which runs the same model by our plug-in.
  They get the same prompts in turn, each prompt once, so that no cache has it: time to the first
  piece and to the end, ours over theirs, the median of the pairs.
- `startup`: `--help` and `plan`, over an interpreter that imports click alone.
"""

import argparse
import json
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Generator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass

import psutil
from openai import OpenAI

from dsv4_tp import demo, launch

CLIENTS, TOKENS = (1, 4, 8), 100
TOKEN_S = 1 / 200
IDLE_S = 10.0
PAIRS, PAIR_TOKENS = 12, 64
STARTS = 5
_READY_S = 120.0
_PROMPT = "{} friends were in the forest. It was a cold morning, and Lena had lost her rope."
_COMMAND = (sys.executable, "-m", "dsv4_tp")
_STARTS = {
    "--help": ("--help",),
    "plan": ("plan", "--model", "demo", "--hosts", "localhost,localhost"),
}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Somebody who makes texts."""

    client: OpenAI
    model: str


@dataclass(frozen=True, slots=True)
class Overhead:
    """CPU of one token, beside the ranks."""

    clients: int
    coordinator_us: float
    agents_us: float
    share: float  # both, of the time that a token has
    tokens: int


@dataclass(frozen=True, slots=True)
class Ratio:
    """Of one time to another, in pairs."""

    what: str
    ratio: float  # the median
    lowest: float
    highest: float


@dataclass(frozen=True, slots=True)
class Found:
    """All that is measured."""

    idle: float  # of a core
    overhead: list[Overhead]
    server: list[Ratio]
    startup: list[Ratio]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure everything and print it."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--json", action="store_true")
    chosen = parser.parse_args(arguments)
    idle, overhead = measure_overhead()
    found = Found(idle, overhead, measure_server(), measure_startup())
    print(json.dumps(asdict(found), indent=1) if chosen.json else table(found))


def table(found: Found) -> str:
    """For people."""
    lines = [
        f"idle: {found.idle:.2%} of a core",
        "clients  coordinator µs  agents µs  of 5 ms",
        *(
            f"{it.clients:7}  {it.coordinator_us:14.0f}  {it.agents_us:9.0f}  {it.share:9.1%}"
            for it in found.overhead
        ),
        *(
            f"{it.what}: {it.ratio:.2f} ({it.lowest:.2f} to {it.highest:.2f})"
            for it in (*found.server, *found.startup)
        ),
    ]
    return "\n".join(lines)


def measure_overhead() -> tuple[float, list[Overhead]]:
    """What the idle cluster takes of a core, and what each token takes."""
    most = max(CLIENTS)
    with launch(
        "demo", hosts=["localhost"] * 2, options=("--batch", str(most), "--http", "0")
    ) as it:
        asked = _asked(it.status().endpoint, "demo")
        before = cpu_s()
        time.sleep(IDLE_S)
        idle = sum(since(before).values()) / IDLE_S
        return idle, [_overhead(asked, clients) for clients in CLIENTS]


def _overhead(asked: Endpoint, clients: int) -> Overhead:
    with ThreadPoolExecutor(clients) as pool:
        before = cpu_s()
        prompts = [_PROMPT.format(number) for number in range(clients)]
        told = [pool.submit(_stream, asked, prompt, TOKENS) for prompt in prompts]
        tokens = sum(each.result()[2] for each in told)
        spent = since(before)
    each = {who: s / tokens for who, s in spent.items()}
    share = sum(each.values()) / TOKEN_S
    return Overhead(clients, each["coordinator"] * 1e6, each["agents"] * 1e6, share, tokens)


def cpu_s() -> dict[str, float]:
    """Seconds of CPU that the coordinator and the agents of our cluster have had."""
    spent = {"coordinator": 0.0, "agents": 0.0}
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            words, times = process.cmdline(), process.cpu_times()
            if "worker" not in words:
                who = "agents" if {"agent", "guard"} & {*words} else "coordinator"
                spent[who] += times.user + times.system
    return spent


def since(before: Mapping[str, float]) -> dict[str, float]:
    """What they had since then."""
    return {who: now - before[who] for who, now in cpu_s().items()}


def measure_server() -> list[Ratio]:
    """Ours over mlx_lm.server's, by pairs of the same prompt."""
    options = ("--http", "0", "--prefix-cache-gb", "0")
    with launch("demo", hosts=["localhost"], options=options) as it, mlx_lm_server() as url:
        ours, theirs = _asked(it.status().endpoint, "demo"), _asked(url, "default_model")
        pairs = [_pair(ours, theirs, number) for number in range(PAIRS + 1)]
    firsts, wholes = zip(*pairs[1:], strict=True)  # the first warms up
    return [ratio("first piece", firsts), ratio("whole text", wholes)]


def _pair(ours: Endpoint, theirs: Endpoint, number: int) -> tuple[float, float]:
    """Their ratios of time; who begins, changes."""
    both = (ours, theirs) if number % 2 else (theirs, ours)
    took = [_stream(each, _PROMPT.format(number) * 8, PAIR_TOKENS) for each in both]
    (own_first, own_all, _), (first, all_s, _) = took if number % 2 else reversed(took)
    return own_first / first, own_all / all_s


def ratio(what: str, found: Sequence[float]) -> Ratio:
    """The median, and between what all are."""
    return Ratio(what, statistics.median(found), min(found), max(found))


def _stream(asked: Endpoint, prompt: str, tokens: int) -> tuple[float, float, int]:
    """Seconds to the first piece and to the end, and how many tokens there were."""
    began_s, first_s, made = time.perf_counter(), None, 0
    chunks = asked.client.completions.create(
        model=asked.model,
        prompt=prompt,
        max_tokens=tokens,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    )
    for chunk in chunks:
        first_s = first_s or time.perf_counter() - began_s
        made = chunk.usage.completion_tokens if chunk.usage else made
    assert first_s, "a stream without an event"
    return first_s, time.perf_counter() - began_s, made


def measure_startup() -> list[Ratio]:
    """Of whole processes, in turn with the one they are compared with."""
    bare = (sys.executable, "-c", "import click")
    return [
        ratio(f"dsv4-tp {what}", [_took((*_COMMAND, *words)) / _took(bare) for _ in range(STARTS)])
        for what, words in _STARTS.items()
    ]


def _took(command: Sequence[str]) -> float:
    began_s = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=_READY_S)
    return time.perf_counter() - began_s


@contextmanager
def mlx_lm_server() -> Generator[str]:
    """mlx-lm's own server on the demo model; its URL."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = ("dsv4_tp.mlx_lm", "server", "--model", str(demo.path()), "--port", str(port))
    child = subprocess.Popen(
        [sys.executable, "-m", *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _wait_healthy(f"http://127.0.0.1:{port}/health", child)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        child.kill()
        child.wait(timeout=_READY_S)


def _wait_healthy(url: str, child: "subprocess.Popen[bytes]") -> None:
    ends_s = time.monotonic() + _READY_S
    while time.monotonic() < ends_s and child.poll() is None:
        with suppress(OSError), urllib.request.urlopen(url, timeout=5):
            return
        time.sleep(0.2)
    raise TimeoutError(f"mlx_lm.server was not ready within {_READY_S:.0f} s")


def _asked(url: str, model: str) -> Endpoint:
    return Endpoint(OpenAI(base_url=url, api_key="-", max_retries=0, timeout=_READY_S), model)


if __name__ == "__main__":
    main()
