"""What the ranks of a test ring do: `python -m tests.engine.jobs JOB RANK OUT ADDRESSES PARAMS`."""

import json
import os
import random
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import mlx.core as mx
import numpy as np

from dsv4_tp import demo
from dsv4_tp.core import (
    AttentionSplit,
    DType,
    Event,
    ExpertSplit,
    Part,
    Request,
    Sampling,
    ScoreRequest,
    TokenEvent,
)
from dsv4_tp.engine import Collectives, Pace, Team, TokenShares, attention_sum, join
from dsv4_tp.errors import RankFailure
from dsv4_tp.layouts import catalog, read_headers
from dsv4_tp.model import Model
from dsv4_tp.modelspec import read_spec
from dsv4_tp.parallel import load_rank
from dsv4_tp.plan import make_plan
from dsv4_tp.worker.guides import Guides
from tests.engine.drive import answer, finish, greedy_text, play, request, scores, tokens
from tests.engine.many import script, some_requests
from tests.model.golden import ROOT

PREFILL, ANSWER = 40, 10
END = 1  # of the demo model's texts
SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "pattern": "^[A-Z][a-z]{1,5}$"},
        "age": {"type": "integer", "minimum": 1, "maximum": 99},
        "likes": {"type": "array", "items": {"enum": ["rope", "mill"]}, "maxItems": 1},
    },
    "required": ["name", "age", "likes"],
    "additionalProperties": False,
}
WAYS = {
    "greedy": Sampling(temperature=0),
    "drawn": Sampling(temperature=1.0, seed=2**63 + 5),
    "nucleus": Sampling(temperature=0.8, top_p=0.9, seed=4),
    "top": Sampling(temperature=1.3, top_k=7, top_p=0.7, seed=9),
    "flat": Sampling(temperature=50.0, top_p=0.99, seed=6),  # needs the logits of all ranks
    "told": Sampling(temperature=0, logprobs=20),
    "rare": Sampling(
        temperature=1.1,
        min_p=0.02,
        seed=8,
        repetition_penalty=1.2,
        presence_penalty=0.5,
        frequency_penalty=0.3,
        logit_bias=((3, 4.0), (60, -100.0)),
        logprobs=5,
    ),
}


def agree(collectives: Collectives, out: Path) -> None:
    """Every collective once, and many independent ones in one evaluation."""
    rank, size = collectives.rank, collectives.size
    results = {
        "sum": collectives.all_sum(mx.array([1.5 * rank, 2.0])),
        "gathered": collectives.gather(mx.array([[rank, 7]])),
        "columns": collectives.gather_columns(mx.full([2, rank], rank), list(range(size))),
        "agreed": mx.array(collectives.agree(10 - rank)),
        "together": collectives.put_together(
            mx.array([2**31 + rank if at == rank else 0 for at in range(size)], mx.uint32)
        ),
    }
    # Asked for in another order on every rank, and still sent in the order of the calls.
    chain = [collectives.all_sum(mx.array([float(number)])) for number in range(20)]
    mx.eval(chain[:: 1 if rank % 2 else -1])
    results["chain"] = mx.concatenate(chain)
    traffic = collectives.ledger.traffic
    results["traffic"] = mx.array([traffic.collectives, traffic.wire_bytes])
    np.savez(out / f"{rank}.npz", **{key: np.array(value) for key, value in results.items()})


def add(collectives: Collectives, out: Path) -> None:
    """Sums of rows [12, 1, D] together, of each alone, and what they are."""
    noise = mx.random.normal((12, 1, 96), key=mx.random.key(collectives.rank)) * 100
    together = collectives.all_sum(noise)
    alone = mx.concatenate([collectives.all_sum(noise[n : n + 1]) for n in range(12)])
    mx.eval(together, alone)
    np.savez(out / f"{collectives.rank}.npz", together=together, alone=alone, noise=noise)


def measure(
    collectives: Collectives,
    out: Path,
    *,
    folder: str,
    steps: int,
    split: str = "width",
    attention: str = "split",
    weights: list[int] | None = None,
    deaf: int | None = None,
) -> None:
    """What this rank's model says in `measurements`; rank `deaf` keeps its own partial sums."""
    how = (ExpertSplit(split), AttentionSplit(attention))
    parts = parts_of(ROOT / folder, weights or [1] * collectives.size, *how)

    def all_sum(x: mx.array) -> mx.array:
        total = collectives.all_sum(x)
        # The sum still runs, or the others would wait for ever.
        return mx.depends([x], [total])[0] if collectives.rank == deaf else total

    own, whole = parts[collectives.rank], how[1] is AttentionSplit.WHOLE
    attn_sum = attention_sum(collectives, parts) if whole else all_sum
    how_joined = {"all_sum": all_sum, "attn_sum": attn_sum, "begin": collectives.begin}
    loaded = load_rank(ROOT / folder, own, dtype=DType.FLOAT32, **how_joined)
    team = Team(collectives, tuple(part.vocab for part in parts))
    collectives.ledger.calls.clear()
    collectives.turns = turns = Counted()
    measured = measurements(loaded.model, team, steps) | {"packets": packets(collectives)}
    np.savez(out / f"{collectives.rank}.npz", **measured, waits=turns.waits, calls=turns.calls)


def halved(collectives: Collectives, out: Path, *, folder: str, length: int, weights: list[int]):
    """Logits of a prompt that is fed at once, in two halves; and how many sums that took."""
    parts = parts_of(ROOT / folder, weights, ExpertSplit.WIDTH)
    joined = {"all_sum": collectives.all_sum, "begin": collectives.begin, "halves_from": length}
    shares = {"division": TokenShares(collectives, parts), **joined}
    loaded = load_rank(ROOT / folder, parts[collectives.rank], dtype=DType.FLOAT32, **shares)
    team = Team(collectives, tuple(part.vocab for part in parts))
    collectives.ledger.calls.clear()
    logits = team.whole(loaded.model(mx.array(random_ids(length, loaded.spec.vocab_size))))
    collectives.evaluate(logits)
    sums = sum(n for payload, n in collectives.ledger.calls.items() if payload.dtype == "float32")
    np.savez(out / f"{collectives.rank}.npz", logits=np.array(logits), sums=sums)


def random_ids(length: int, vocab: int) -> np.ndarray:
    """int32 [1, length]."""
    return np.random.default_rng(5).integers(0, vocab, (1, length), dtype=np.int32)


class Counted:
    """How often a rank turned, and called."""

    waits = calls = 0

    def turned(self) -> None:
        self.waits += 1

    def called(self) -> None:
        self.calls += 1


def half_built(collectives: Collectives, out: Path) -> None:
    """Rank 1 begins a step, and ends it only when the other one was seen to wait for it."""
    collectives.turns = turns = Counted()
    mine, theirs = (out / f"{rank}.txt" for rank in (collectives.rank, 1 - collectives.rank))
    if collectives.rank == 0:
        threading.Thread(target=_note_when_still, args=(turns, mine, theirs)).start()
    x = mx.ones(8)
    for layer in range(20):
        x = collectives.all_sum(x) / collectives.size
        collectives.begin(x)
        if (collectives.rank, layer) == (1, 4):
            mine.write_text(f"{turns.waits} {turns.calls}")
            _wait_for(theirs.exists)
    collectives.evaluate(x)
    (out / f"{collectives.rank}-done.txt").write_text(f"{turns.waits} {turns.calls} {x.sum()}")


def _note_when_still(turns: Counted, mine: Path, theirs: Path) -> None:
    _wait_for(theirs.exists)

    def still() -> bool:
        before = turns.calls
        time.sleep(0.5)
        return before == turns.calls

    _wait_for(still)
    mine.write_text(f"{turns.waits} {turns.calls}")


def _wait_for(holds: Callable[[], bool], within_s: float = 60) -> None:
    ends = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < ends, f"not within {within_s} s"
        time.sleep(0.01)


def packets(collectives: Collectives) -> np.ndarray:
    """The packets that tokens were chosen from: their bytes, and how many there were."""
    calls = collectives.ledger.calls.items()
    sent = [(p.nbytes, n) for p, n in calls if (p.kind, p.dtype) == ("all_gather", "int32")]
    return np.array(sorted(sent))


def write(
    collectives: Collectives, out: Path, *, prompt: list[int], count: int, chunks: list[int]
) -> None:
    """What the demo model goes on with, fed in chunks of each size; rank 0 knows."""
    parts = parts_of(demo.path(), [1] * collectives.size, ExpertSplit.WIDTH)
    own = parts[collectives.rank]
    joined = {"all_sum": collectives.all_sum, "begin": collectives.begin}
    loaded = load_rank(demo.path(), own, dtype=DType.FLOAT32, **joined)
    team = Team(collectives, tuple(part.vocab for part in parts))
    texts = {
        str(chunk): np.array(
            greedy_text(loaded.model, prompt, count, team=team, prefill_chunk=chunk)
        )
        for chunk in chunks
    }
    np.savez(out / f"{collectives.rank}.npz", **texts)


def many(collectives: Collectives, out: Path, *, count: int, batch: int, depth: int = 0) -> None:
    """Requests that come and go together, with drafts if `depth`; then each of them alone."""
    folder = demo.path() if depth else ROOT / "public/a6_odd_scalars"
    parts = parts_of(folder, [1] * collectives.size, ExpertSplit.WIDTH)
    own = parts[collectives.rank]
    joined = {"all_sum": collectives.all_sum, "begin": collectives.begin}
    model = load_rank(folder, own, dtype=DType.FLOAT32, mtp=depth > 0, **joined).model
    pace = Pace(depth, steady=True, depth=depth)
    how = {"team": Team(collectives, tuple(part.vocab for part in parts)), "prefill_chunk": 16}
    rng = random.Random(0)
    asked = some_requests(rng, count)
    cancelled = rng.sample(asked, 4)
    events, _ = play(model, script(rng, asked, cancelled), batch=batch, pace=pace, **how)
    together, alone, ends, right = [], [], [], 0
    for number, one in enumerate(asked):
        said, whole = tokens(events, one.id), tokens(answer(model, one, **how), one.id)
        together += [(number, token) for token in said]
        alone += [(number, token) for token in whole[: len(said)]]
        end = finish(events, one.id)
        ends.append((end.generated_tokens, end.reason.value))
        right += end.accepted_tokens
    told = {"together": together, "alone": alone, "ends": ends, "right": right}
    np.savez(out / f"{collectives.rank}.npz", **told)


def faulty(collectives: Collectives, out: Path, *, halves_from: int | None) -> None:
    """Rank 1 comes to hold an expert without numbers, which two of three requests meet."""
    folder = ROOT / "public/a1_flash_mini"
    parts = parts_of(folder, [1] * collectives.size, ExpertSplit.WIDTH)
    own = parts[collectives.rank]
    joined = {"all_sum": collectives.all_sum, "halves_from": halves_from}
    model = load_rank(folder, own, dtype=DType.FLOAT32, **joined).model
    team = Team(collectives, tuple(part.vocab for part in parts))
    asked = fault_requests(model)
    whole = [tokens(answer(model, one, team=team), one.id) for one in asked]
    if collectives.rank == 1:
        spoil(model)
    events = answer(model, *asked, team=team, batch=3)
    told = {
        "whole": whole,
        "texts": [tokens(events, one.id) for one in asked],
        "errors": [finish(events, one.id).error for one in asked],
        "reasons": [finish(events, one.id).reason for one in asked],
    }
    (out / f"{collectives.rank}.json").write_text(json.dumps(told))


FAULTY = 1  # layer, which routes by token
BAD = 3  # expert


def fault_requests(model: Model) -> list[Request]:
    """Greedy ones: none meets the bad expert, the prompt does, the first token does."""
    table = np.array(model.layers[FAULTY].ffn.gate.tid2eid).tolist()
    good = [token for token, experts in enumerate(table) if BAD not in experts]
    bad = next(token for token, experts in enumerate(table) if BAD in experts)
    healthy = Sampling(temperature=0, logit_bias=tuple((token, 100.0) for token in good))
    doomed = Sampling(temperature=0, logit_bias=((bad, 100.0),))
    return [
        request("healthy", good[:20], 9, sampling=healthy),
        request("prompt", [*good[5:25], bad, *good[:9]], 9, sampling=healthy),
        request("token", good[9:40], 9, sampling=doomed),
    ]


def spoil(model: Model) -> None:
    """The bad expert has no numbers from here on."""
    experts = model.layers[FAULTY].ffn.experts
    experts.w2.weight[BAD] = np.nan


def guided_requests() -> list[Request]:
    """Chosen in several ways, of the demo model."""
    ways = {
        "greedy": {"temperature": 0},
        "drawn": {"seed": 5},
        "flat": {"temperature": 9, "top_p": 0.9},
    }
    how = {"form": json.dumps(SCHEMA), "stop_ids": (END,)}
    prompt = (0, *range(300, 340))
    return [
        request(name, prompt, 90, sampling=Sampling(**way), **how) for name, way in ways.items()
    ]


def guided(collectives: Collectives, out: Path) -> None:
    """The demo model's texts that are held to a schema; then one where a rank has no tokenizer."""
    parts = parts_of(demo.path(), [1] * collectives.size, ExpertSplit.WIDTH)
    own = parts[collectives.rank]
    model = load_rank(demo.path(), own, dtype=DType.FLOAT32, all_sum=collectives.all_sum).model
    team = Team(collectives, tuple(part.vocab for part in parts))
    asked = guided_requests()

    def events(tokenizer: Path) -> list[Event]:
        guides = Guides(tokenizer, model.spec.vocab_size, collectives)
        return answer(model, *asked, team=team, batch=len(asked), guide_for=guides.guide)

    whole = events(demo.path())
    texts = [tokens(whole, one.id) for one in asked]
    lacking = finish(events(demo.path() if team.leads else out), asked[0].id).error
    told = json.dumps({"texts": texts, "lacking": lacking})
    (out / f"{collectives.rank}.json").write_text(told)


def parts_of(
    folder: Path,
    weights: list[int],
    split: ExpertSplit,
    attention: AttentionSplit = AttentionSplit.SPLIT,
) -> tuple[Part, ...]:
    spec = read_spec(folder)
    found = catalog(spec, read_headers(folder), mtp=False)
    return make_plan(spec, found, weights, expert_split=split, attention=attention).parts


def measurements(model: Model, team: Team, steps: int) -> dict[str, np.ndarray]:
    """Logits of a prefill and then single steps, answers by every way to choose, a score."""
    length, vocab = PREFILL + steps, model.spec.vocab_size
    ids = np.random.default_rng(3).integers(0, vocab, (1, length), dtype=np.int32)
    prompt = ids[0, :PREFILL].tolist()
    asked = [request(name, prompt, ANSWER, sampling=way) for name, way in WAYS.items()]
    rows = ScoreRequest("score", tuple(map(tuple, ids.tolist())), chunk=50)
    events = answer(model, *asked, rows, team=team)
    ends = [finish(events, name) for name in WAYS]
    return {
        "logits": forced_logits(model, team, ids),
        "nll": np.array([event.nll for event in scores(events)]),
        "decode": np.array([[end.collectives, end.decode_steps] for end in ends]),
        "likely": np.array([row for name in ("told", "rare") for row in logprobs(events, name)]),
        **{name: np.array(tokens(events, name)) for name in WAYS},
    }


def logprobs(events: list[Event], name: str) -> list[list[float]]:
    """Of each token: its own, then ids and theirs of the likeliest."""
    found = [e for e in events if isinstance(e, TokenEvent) and e.request_id == name]
    rows = [[e.logprob, *(number for each in e.top[:5] for number in each)] for e in found]
    return rows


def forced_logits(model: Model, team: Team, ids: np.ndarray) -> np.ndarray:
    """Logits [L, V] of a prefill and then one token after the other, through one cache."""
    cache, rows = model.make_cache(), []
    for start, stop in [(0, PREFILL), *((at, at + 1) for at in range(PREFILL, ids.shape[1]))]:
        whole = team.whole(model(mx.array(ids[:, start:stop]), cache))
        team.collectives.evaluate(whole, cache.arrays())
        rows.append(np.array(whole)[0])
    return np.concatenate(rows)


def bereft(collectives: Collectives, out: Path) -> None:
    """Rank 1 is gone after a while; the others say of what they fail."""
    for _ in range(20):
        collectives.agree(1)
    if collectives.group.rank == 1:
        os._exit(0)
    try:
        while True:
            collectives.agree(1)
    except RankFailure as error:
        (out / f"{collectives.group.rank}.txt").write_text(str(error))


def nothing(collectives: Collectives, out: Path) -> None:
    """Only meets the others."""


JOBS: dict[str, Callable[..., None]] = {
    "add": add,
    "agree": agree,
    "measure": measure,
    "write": write,
    "many": many,
    "faulty": faulty,
    "guided": guided,
    "bereft": bereft,
    "half_built": half_built,
    "halved": halved,
    "nothing": nothing,
}


def main(jobs: Mapping[str, Callable[..., None]]) -> None:
    job, rank, out, addresses, params = sys.argv[1:]
    rest = json.loads(params)
    facts, deadline_s = rest.pop("facts", {}), rest.pop("deadline_s", 30)
    collectives = join(json.loads(addresses), rank=int(rank), deadline_s=deadline_s, facts=facts)
    jobs[job](collectives, Path(out), **rest)


if __name__ == "__main__":
    main(JOBS)
