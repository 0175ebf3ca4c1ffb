"""What the ranks of a soak do: as `tests.engine.jobs`, on the demo model."""

import gc
import hashlib
import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import mlx.core as mx
import numpy as np

from dsv4_tp import demo
from dsv4_tp.core import (
    Command,
    DType,
    Event,
    ExpertSplit,
    FinishEvent,
    FinishReason,
    Request,
    Sampling,
)
from dsv4_tp.engine import Collectives, Engine, Limits, Pace, Team
from dsv4_tp.model import Model
from dsv4_tp.parallel import load_rank
from dsv4_tp.prefixes import Shelf
from tests.engine.drive import GREEDY, Record, Script, answer, finish, log, play, request, tokens
from tests.engine.jobs import main, parts_of
from tests.soak.traffic import batches, brief_request, held_out, random_request, schedule

CHUNK = 32
ADAPTIVE = -1  # depth: as many drafts as pay
TIE = 1e-4  # of two logits


class Telling(Team):
    """Every rank tells what it chose."""

    leads = True


def on_ring(collectives: Collectives, *, mtp: bool) -> tuple[Model, Team]:
    """This rank's part of the demo model, and its team."""
    parts = parts_of(demo.path(), [1] * collectives.size, ExpertSplit.WIDTH)
    own, sums = parts[collectives.rank], collectives.all_sum
    loaded = load_rank(demo.path(), own, dtype=DType.FLOAT32, mtp=mtp, all_sum=sums)
    return loaded.model, Telling(collectives, tuple(part.vocab for part in parts))


def pace_of(depth: int) -> Pace:
    return Pace(4) if depth == ADAPTIVE else Pace(depth, steady=True, depth=depth)


def together(
    collectives: Collectives,
    out: Path,
    *,
    case: int,
    count: int,
    cancels: int,
    batch: int,
    depth: int,
    shelf_bytes: int,
) -> None:
    """Requests that come and go, at other looks on each rank; then one after the other alone."""
    model, team = on_ring(collectives, mtp=depth != 0)
    rng, late = random.Random(case), random.Random(f"{case} {collectives.rank}")
    asked = [random_request(rng, str(number)) for number in range(count)]
    plan = schedule(rng, asked, cancels, steps=2 * count)
    how = {"team": team, "prefill_chunk": CHUNK}
    inbox = Script(*batches(plan, 1, late))
    more = {"batch": batch, "pace": pace_of(depth), "shelf_bytes": shelf_bytes}
    events, record = play(model, inbox, **how, **more)
    alone = answer(model, *asked, **how)
    ends = [finish(events, one.id) for one in asked]
    told = {
        "digest": digest(events, asked),
        "tokens": sum(end.generated_tokens for end in ends),
        "cancelled": sum(end.reason is FinishReason.CANCELLED for end in ends),
        "drafted": sum(end.drafted_tokens for end in ends),
        "right": sum(end.accepted_tokens for end in ends),
        "cached": sum(end.cached_tokens for end in ends),
        "steps": len(record.steps),
        "differing": [one.id for one in asked if not equal(events, alone, one)],
    }
    (out / f"{collectives.rank}.json").write_text(json.dumps(told))


def digest(events: Sequence[Event], asked: Sequence[Request]) -> str:
    """Of all token histories, and how they ended."""
    ends = [finish(events, one.id) for one in asked]
    histories = [
        (end.request_id, end.reason.value, tokens(events, end.request_id), end.error)
        for end in ends
    ]
    return hashlib.sha256(json.dumps(histories).encode()).hexdigest()[:16]


def equal(events: Sequence[Event], alone: Sequence[Event], one: Request) -> bool:
    """Whether a request was told what it is told alone, or the beginning if it was cancelled."""
    said, whole = tokens(events, one.id), tokens(alone, one.id)
    end, other = finish(events, one.id), finish(alone, one.id)
    if end.reason is FinishReason.CANCELLED and not end.error:
        return said == whole[: len(said)]
    return (said, end.reason) == (whole, other.reason)


class Waves(Script):
    """Commands in waves: the next one comes when the engine is at rest, and is looked at."""

    def __init__(self, waves: Iterator[list[list[Command]]], look: object) -> None:
        super().__init__()
        self.waves, self.look = waves, look

    def wait(self) -> Sequence[Command]:
        if not self.batches:
            self.look()
            self.batches = next(self.waves, [])
        return super().wait()


def endure(
    collectives: Collectives,
    out: Path,
    *,
    case: int,
    count: int,
    wave: int,
    batch: int,
    depth: int,
    shelf_bytes: int,
) -> None:
    """Waves of requests through one engine; what it holds before, between and after them."""
    model, team = on_ring(collectives, mtp=depth != 0)
    rng, shelf, ends, held = random.Random(case), Shelf(), [], []

    def waves() -> Iterator[list[list[Command]]]:
        number = 1
        for first in range(0, count, wave):
            asked = [brief_request(rng, str(first + n)) for n in range(wave)]
            plan = schedule(rng, asked, wave // 5, steps=2 * wave, patience=8)
            yield batches(plan, number)
            number += len(plan)

    def look() -> None:
        gc.collect()
        mx.clear_cache()
        alive = sum(isinstance(each, mx.array) for each in gc.get_objects())
        held.append(
            {
                "ended": len(ends),
                "turns": len(engine._turns),
                "bytes": mx.get_active_memory() - shelf.nbytes,
                "arrays": alive - shelf_arrays(shelf),
            }
        )

    def emit(event: Event) -> None:
        if isinstance(event, FinishEvent):
            ends.append(event.reason)

    engine = Engine(
        model,
        team,
        limits=replace(Limits.of(model.spec), batch=batch),
        prefill_chunk=CHUNK,
        inbox=Waves(waves(), look),
        progress=Record(),
        emit=emit,
        shelf=shelf,
        shelf_bytes=shelf_bytes,
        pace=pace_of(depth),
    )
    engine.run()
    told = {"held": held, "cancelled": ends.count(FinishReason.CANCELLED)}
    (out / f"{collectives.rank}.json").write_text(json.dumps(told))


def shelf_arrays(shelf: Shelf) -> int:
    pieces = [*shelf._rest.values(), *(rows.arrays for rows in shelf._rows.values())]
    return sum(map(len, pieces))


def speculate(
    collectives: Collectives,
    out: Path,
    *,
    group: int,
    prompts: int,
    length: int,
    batch: int,
    depth: int,
    heat: float,
) -> None:
    """Answers without and with drafts, in turns, so that other work hits both alike."""
    model, team = on_ring(collectives, mtp=True)
    asked = [speculated(group, number, length, heat) for number in range(prompts)]
    told: list[dict[str, object]] = []
    for some in (asked[: prompts // 2], asked[prompts // 2 :]):
        runs = [
            play(
                model,
                Script(log(*some)),
                team=team,
                batch=batch,
                pace=pace_of(each),
                prefill_chunk=2 * CHUNK,
            )
            for each in (0, depth)
        ]
        told.append(compared(model, team, some, runs))
    (out / f"{collectives.rank}.json").write_text(json.dumps(told))


def speculated(group: int, number: int, length: int, heat: float) -> Request:
    """Of 12 to 44 tokens; no text is used twice."""
    at = 1000 * group + number
    how = Sampling(temperature=heat, seed=at) if heat else GREEDY
    return request(str(number), held_out(at, 12 + 19 * number % 33), length, sampling=how)


def compared(
    model: Model,
    team: Team,
    asked: Sequence[Request],
    runs: Sequence[tuple[list[Event], Record]],
) -> dict[str, object]:
    (plain, slow), (drafted, quick) = runs
    differing = []
    for one in asked:
        before, after = tokens(plain, one.id), tokens(drafted, one.id)
        if before != after:
            at = next(n for n, token in enumerate(before) if [token] != after[n : n + 1])
            gap = gap_at(model, team, (*one.prompt, *before[:at]))
            differing.append({"prompt": one.id, "at": at, "gap": gap})
    ends = [finish(drafted, one.id) for one in asked]
    steps = [[e.work for e in run.steps if e.phase == "decode"] for run in (slow, quick)]
    return {
        "tokens": sum(work.tokens for work in steps[1]),
        "drafted": sum(end.drafted_tokens for end in ends),
        "right": sum(end.accepted_tokens for end in ends),
        "passes": [len(works) for works in steps],
        "time_s": [sum(work.time_s for work in works) for works in steps],
        "collectives": [sum(work.collectives for work in works) for works in steps],
        "wire_bytes": [sum(work.wire_bytes for work in works) for works in steps],
        "differing": differing,
    }


def gap_at(model: Model, team: Team, ids: Sequence[int]) -> float:
    """Between the two highest logits behind these ids."""
    logits = team.whole(model(mx.array([ids]))[:, -1])
    low, high = np.sort(np.array(logits)[0])[-2:]
    return float(high - low)


if __name__ == "__main__":
    main({"together": together, "endure": endure, "speculate": speculate})
