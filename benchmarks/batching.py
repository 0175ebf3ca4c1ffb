"""What sharing steps saves, what a long prompt delays, and what choosing a token sends.

    python -m benchmarks.batching          a table
    python -m benchmarks.batching --json   the same as one JSON object

The demo model, on rings of processes on this machine. Passes, collectives, bytes and steps are
counted by the engine and are the same everywhere. Times are given as ratios of one run; on a CPU,
whose products take as long as they have rows, sharing saves only what a step costs beside them.

- `batches`: two ranks, so many sequences that decode together; of the steps that all of them
  share, per token. Throughput is that of tokens, to one sequence alone.
- `stalls`: one rank; a prompt of 4,000 tokens comes while another text is told. How many chunks and
  how many of its tokens are fed between two tokens of that text at most, the longest time between
  two over the usual one, and how long all of it takes; with chunks, and with the prompt as one.
- `packets`: bytes that a rank sends to choose one token, beside the model's own.
"""

import argparse
import json
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import Any

from benchmarks.rings import said_by_leader
from dsv4_tp import demo
from dsv4_tp.core import (
    Command,
    Drain,
    DType,
    Event,
    ExpertSplit,
    Request,
    Sampling,
    StepEvent,
    Submit,
    TokenEvent,
    Work,
)
from dsv4_tp.engine import Collectives, Engine, Limits, Pace, Team, join
from dsv4_tp.model import Model
from dsv4_tp.modelspec import read_spec
from dsv4_tp.parallel import load_rank
from dsv4_tp.plan import make_plan
from dsv4_tp.prepared import read_catalog

BATCHES = (1, 2, 4, 8)
SHARED_STEPS, ROUNDS = 12, 2
LONG, CHUNK = 4000, 512
WAYS = {"greedy": Sampling(temperature=0), "top-k 64": Sampling(top_k=64)}
RANKS = (2, 3)  # that packets are counted for


@dataclass(frozen=True, slots=True)
class Batched:
    """What one token costs among so many sequences."""

    batch: int
    passes: float
    collectives: float
    wire_bytes: float
    throughput: float  # to a batch of one


@dataclass(frozen=True, slots=True)
class Stalled:
    """What a text waits for while a long prompt comes."""

    chunk: int
    chunks: int  # between two of its tokens, at most
    tokens: int  # of the prompt, in those
    longest: float  # time between two tokens, over the usual
    whole: float  # time until both are done, to that of the first line


class _Script:
    """All commands at once; then a drain."""

    def __init__(self, requests: Sequence[Request]) -> None:
        self._commands = [Command(n, Submit(each)) for n, each in enumerate(requests, start=1)]
        self._last = len(requests) + 1

    def poll(self) -> Sequence[Command]:
        commands, self._commands = self._commands, []
        return commands

    def wait(self) -> Sequence[Command]:
        return self.poll() or [Command(self._last, Drain())]


class _Nobody:
    """Is told how far the engine is, and does not mind."""

    def phase(self, phase: str) -> None: ...
    def prefilled(self, tokens: int) -> None: ...
    def decoded(self) -> None: ...


def on_ring(collectives: Collectives, *, mtp: bool = False) -> tuple[Model, Team]:
    """This rank's part of the demo model, and its team; `mtp`: one that can draft."""
    spec, folder = read_spec(demo.path()), demo.path()
    shares = (1,) * collectives.size
    found = read_catalog(folder, spec, mtp=False)
    parts = make_plan(spec, found, shares, expert_split=ExpertSplit.WIDTH).parts
    own, sums = parts[collectives.rank], collectives.all_sum
    model = load_rank(folder, own, dtype=DType.FLOAT32, mtp=mtp, all_sum=sums).model
    return model, Team(collectives, tuple(part.vocab for part in parts))


def told(
    model: Model,
    team: Team,
    requests: Sequence[Request],
    *,
    chunk: int = CHUNK,
    pace: Pace | None = None,
) -> list[tuple[float, Event]]:
    """The events of requests that come at once, and when they came, in seconds."""
    events: list[tuple[float, Event]] = []
    Engine(
        model,
        team,
        limits=replace(Limits.of(model.spec), batch=len(requests)),
        prefill_chunk=chunk,
        inbox=_Script(requests),
        progress=_Nobody(),
        emit=lambda event: events.append((time.monotonic(), event)),
        pace=pace,
    ).run()
    return events


def text(name: str, prompt: int, tokens: int, how: Sampling = WAYS["greedy"]) -> Request:
    """A request with a prompt of so many printable bytes, for so many tokens."""
    return Request(name, tuple(3 + at * at % 94 for at in range(prompt)), tokens, how)


def batched(model: Model, team: Team, batch: int) -> Work:
    """The steps that so many sequences shared."""
    requests = [text(str(n), 8, SHARED_STEPS + batch) for n in range(batch)]
    events = [event for _, event in told(model, team, requests)]
    steps = [each for each in events if isinstance(each, StepEvent) and each.phase == "decode"]
    return sum((each.work for each in steps if each.work.rows == batch), Work())


def batches(model: Model, team: Team, sizes: Sequence[int] = BATCHES) -> list[Batched]:
    """Of each size; in turns, so that other work on the machine hits all alike."""
    works = dict.fromkeys(sizes, Work())
    batched(model, team, 1)  # whatever comes first takes longer
    for _ in range(ROUNDS):
        works |= {size: works[size] + batched(model, team, size) for size in sizes}
    if not team.leads:
        return []
    speeds = {size: work.tokens / work.time_s for size, work in works.items()}
    return [
        Batched(
            size,
            passes=work.steps / work.tokens,
            collectives=work.collectives / work.tokens,
            wire_bytes=work.wire_bytes / work.tokens,
            throughput=round(speeds[size] / speeds[sizes[0]], 2),
        )
        for size, work in works.items()
    ]


def stalls(model: Model, team: Team, *, long: int = LONG, chunk: int = CHUNK) -> list[Stalled]:
    """With chunks, and where they may be as long as the prompt."""
    found = [stalled(model, team, long, each) for each in (chunk, long)]
    return [replace(each, whole=round(each.whole / found[0].whole, 2)) for each in found]


def stalled(model: Model, team: Team, long: int, chunk: int) -> Stalled:
    """A text, and right behind it a long prompt; `whole` is in seconds."""
    requests = [text("told", 8, 2 * (long // chunk) + 16), text("long", long, 2)]
    began_s = time.monotonic()
    events = told(model, team, requests, chunk=chunk)
    at = [
        n for n, (_, e) in enumerate(events) if isinstance(e, TokenEvent) and e.request_id == "told"
    ]
    chunks = [[_fed(event) for _, event in events[one:two]] for one, two in pairwise(at)]
    gaps = [events[two][0] - events[one][0] for one, two in pairwise(at)]
    return Stalled(
        chunk,
        chunks=max(sum(fed > 0 for fed in each) for each in chunks[1:]),
        tokens=max(map(sum, chunks[1:])),
        longest=round(max(gaps) / statistics.median(gaps), 1),
        whole=events[-1][0] - began_s,
    )


def _fed(event: Event) -> int:
    """Tokens of a prompt, if the event is of a chunk."""
    return event.work.tokens if isinstance(event, StepEvent) and event.phase == "prefill" else 0


def packets(model: Model, team: Team) -> dict[str, int]:
    """Bytes of this rank's packet for one token, by how it is chosen."""
    found: dict[str, int] = {}
    for name, how in WAYS.items():
        calls = team.collectives.ledger.calls
        calls.clear()
        told(model, team, [text("one", 8, 4, how)])
        found[name] = max(p.nbytes for p in calls if (p.kind, p.dtype) == ("all_gather", "int32"))
    return found


def rank_main(rank: int, addresses: Sequence[str], part: str) -> None:
    """One process of a ring; rank 0 prints what it found."""
    collectives = join(addresses, rank=rank, deadline_s=60, facts={})
    model, team = on_ring(collectives)
    if part == "batches":
        found = [asdict(each) for each in batches(model, team)]
    else:
        found = packets(model, team)
    if team.leads:
        print(json.dumps(found))


def on_ranks(count: int, part: str) -> Any:
    """What rank 0 of a ring of so many processes finds of a part."""
    return json.loads(said_by_leader("benchmarks.batching", count, part))


def measure() -> dict[str, object]:
    """All figures."""
    alone = on_ring(Collectives())
    return {
        "batches": on_ranks(2, "batches"),
        "stalls": [asdict(each) for each in stalls(*alone)],
        "packets": {str(ranks): on_ranks(ranks, "packets") for ranks in RANKS},
    }


def table(figures: Mapping[str, object]) -> str:
    """For a person: a line for each part."""
    return "\n".join(f"{part}: {json.dumps(found)}" for part, found in figures.items())


def main() -> None:
    """Measure and print; with a part, a rank and addresses: be that rank."""
    parser = argparse.ArgumentParser(description="Measure what sharing steps saves.")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("ring", nargs="*", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.ring:
        part, rank, *addresses = given.ring
        return rank_main(int(rank), addresses, part)
    figures = measure()
    print(json.dumps(figures, indent=1) if given.json else table(figures))


if __name__ == "__main__":
    main()
