"""Soak: many clients over HTTP, some of whom leave, and a rank that is killed among them.

    python -m tests.soak.clients [ROUNDS]

A round is 500 requests from 32 clients, on two ranks of the demo model on this machine: chats and
completions, streamed and whole, greedy and seeded. Some leave, in the middle of a stream or before
a whole text is there. Rank 1 is killed when half of the requests are over. Each has to end with its
tokens, which are those that the same request gets at any other time, or with an error object; who
is refused with 429 or 503 asks again. Then no place may be taken, and what `/metrics` and `status`
count has to be what the clients have had. A round is one line of results/clients.csv, its number is
its seed, and a run goes on after the last line. Ends with 1 if a line says WRONG.
"""

import asyncio
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import openai
from openai import AsyncOpenAI
from prometheus_client.parser import text_string_to_metric_families

from tests.cluster import clusters
from tests.soak.lines import Results

COLUMNS = (
    *("round", "outcome", "requests", "clients", "whole", "left", "errors", "refused", "texts"),
    *("tokens", "ended", "epoch", "seconds", "commit"),
)
RESULTS = Results("clients.csv", COLUMNS)
ROUNDS, REQUESTS, CLIENTS = 4, 500, 32
DEADLINE_S, SOON_S = 3600.0, 60.0
AGAIN_S = 0.5  # after a refusal
CONFIG = {
    "version": 1,
    "model": {"path": "demo"},
    "hosts": [{"name": "localhost"}] * 2,
    "batch": 8,
    "queue": 16,
    "restart": {"backoff_s": [0.1, 1]},
}
PROMPTS = (
    "It was a cold morning.",
    "Once upon a time there was a lamp. " * 6,
    "The code of the red door is 4182. What is the code of the red door?",
)
ERROR = {"message", "type", "param", "code"}


@dataclass(frozen=True)
class Wanted:
    """What one client asks for."""

    number: int
    chat: bool
    streamed: bool
    prompt: int
    max_tokens: int
    seed: int | None  # None: greedy
    leaves: int | None  # after so many pieces of a stream, or tenths of a second

    @property
    def text(self) -> tuple[object, ...]:
        """Those with the same one get the same text."""
        return self.chat, self.prompt, self.max_tokens, self.seed

    def words(self) -> dict[str, Any]:
        """As it is asked for."""
        content = PROMPTS[self.prompt]
        said = {"messages": [{"role": "user", "content": content}]} if self.chat else {}
        chosen = {"temperature": 0} if self.seed is None else {"temperature": 1, "seed": self.seed}
        stream = {"stream": True, "stream_options": {"include_usage": True}}
        return {
            **(said or {"prompt": content}),
            **chosen,
            **(stream if self.streamed else {}),
            "model": "demo",
            "max_tokens": self.max_tokens,
        }


@dataclass
class Had:
    """What became of it."""

    wanted: Wanted
    text: str = ""
    pieces: int = 0
    tokens: int | None = None
    reason: str | None = None  # why the text ended
    error: str = ""  # by its type
    wrong: str = ""
    left: bool = False
    refused: int = 0


@dataclass
class Round:
    """All of them, and what the cluster says afterwards."""

    requests: int
    had: list[Had] = field(default_factory=list)
    ended: dict[str, int] = field(default_factory=dict)  # by `status`
    counted: dict[str, int] = field(default_factory=dict)  # by /metrics
    open: int = 0
    epoch: int = 0


def wanted(seed: int, number: int) -> Wanted:
    """Always the same one."""
    rng = random.Random(f"{seed} {number}")
    return Wanted(
        number,
        chat=rng.random() < 0.5,
        streamed=rng.random() < 0.6,
        prompt=rng.randrange(len(PROMPTS)),
        max_tokens=rng.choice([4, 16, 48]),
        seed=rng.choice([None, 1, 2]),
        leaves=rng.randint(1, 6) if rng.random() < 0.2 else None,
    )


async def ask(client: AsyncOpenAI, one: Wanted) -> Had:
    """Until it has an end, or its client has left."""
    had = Had(one)
    while True:
        try:
            await _hear(client, had)
        except openai.APIStatusError as error:
            if error.status_code in (429, 503):
                had.refused += 1
                await asyncio.sleep(AGAIN_S)
                continue
            _note(had, error)
        except openai.APIError as error:  # on the way, or of the connection
            _note(had, error)
        return had


def _note(had: Had, error: openai.APIError) -> None:
    body = error.body
    if isinstance(body, dict) and set(body) == ERROR:
        had.error = str(body["type"])
    else:
        had.wrong = f"no error object: {error!r:.100}"


async def _hear(client: AsyncOpenAI, had: Had) -> None:
    one = had.wanted
    create: Any = client.chat.completions.create if one.chat else client.completions.create
    if one.streamed:
        await _hear_stream(create, had)
        return
    try:
        async with asyncio.timeout(None if one.leaves is None else one.leaves / 10):
            answer = await create(**one.words())
    except TimeoutError:
        had.left = True
        return
    choice = answer.choices[0]
    had.text = said(choice.message) if one.chat else choice.text
    had.reason, had.tokens = choice.finish_reason, answer.usage.completion_tokens


async def _hear_stream(create: Any, had: Had) -> None:
    one = had.wanted
    async with await create(**one.words()) as stream:
        async for chunk in stream:
            if chunk.usage:
                had.tokens = chunk.usage.completion_tokens
            for choice in chunk.choices:
                had.text += said(choice.delta) if one.chat else choice.text
                had.reason = choice.finish_reason or had.reason
                had.pieces += 1
            if one.leaves is not None and had.pieces >= one.leaves and not had.reason:
                had.left = True
                return


def said(part: Any) -> str:
    """Thinking and text, one behind the other."""
    return (getattr(part, "reasoning_content", None) or "") + (part.content or "")


async def all_ask(url: str, seed: int, requests: int, count: int, harm: Any) -> list[Had]:
    """So many requests by so many clients; `harm()` is done when half of them are over."""
    todo = iter([wanted(seed, number) for number in range(requests)])
    had: list[Had] = []

    async def one_client() -> None:
        async with AsyncOpenAI(base_url=url, api_key="-", max_retries=0, timeout=300) as client:
            for one in todo:
                had.append(await ask(client, one))
                if len(had) == requests // 2:
                    harm()

    with suppress(TimeoutError):
        async with asyncio.timeout(DEADLINE_S):
            await asyncio.gather(*(one_client() for _ in range(count)))
    return had


def problems(found: Round) -> Iterator[str]:
    """All that was not as promised."""
    if len(found.had) < found.requests:
        yield f"{found.requests - len(found.had)} requests hang"
    yield from sorted({had.wrong for had in found.had if had.wrong})
    over = [had for had in found.had if not (had.left or had.error or had.wrong)]
    for had in over:
        most = had.wanted.max_tokens
        if had.reason not in ("stop", "length") or not had.tokens or had.tokens > most:
            yield f"request {had.wanted.number}: {had.tokens} tokens of {most}, {had.reason}"
    yield from _differing(found.had, over)
    if found.open:
        yield f"{found.open} places are taken"
    if found.ended != found.counted:
        yield f"status counts {found.ended}, /metrics {found.counted}"
    yield from _uncounted(found, over)
    if found.epoch != 2:
        yield f"the epoch is {found.epoch}"


def _differing(all_had: Sequence[Had], over: Sequence[Had]) -> Iterator[str]:
    texts = {had.wanted.text: had.text for had in over}
    for had in all_had:
        whole = texts.get(had.wanted.text)
        if whole is None or had.wrong:
            continue
        if had.text != whole and not ((had.left or had.error) and whole.startswith(had.text)):
            yield f"request {had.wanted.number}: another text"


def _uncounted(found: Round, over: Sequence[Had]) -> Iterator[str]:
    """A text that was left was either cancelled, or had ended before that was known."""
    more = Counter(found.ended)
    more.subtract(Counter(str(had.reason) for had in over))
    begun = sum(had.left and had.pieces > 0 for had in found.had)
    left = sum(had.left or bool(had.error) for had in found.had)
    if min(more.values(), default=0) < 0 or not begun <= more.total() <= left:
        yield f"beyond what was heard: {dict(more)}; {begun} to {left} were left"


def run_round(seed: int, requests: int = REQUESTS, count: int = CLIENTS) -> dict[str, object]:
    """One line of the results."""
    began_s = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="dsv4-tp-clients-") as folder:
        found = _on_a_cluster(Path(folder), seed, requests, count)
    wrong = [*problems(found)]
    over = [had for had in found.had if had.tokens is not None]
    return {
        "round": seed,
        "outcome": f"WRONG: {'; '.join(wrong[:5])}" if wrong else "all ended",
        "requests": len(found.had),
        "clients": count,
        "whole": len(over),
        "left": sum(had.left for had in found.had),
        "errors": " ".join(sorted({had.error for had in found.had if had.error})),
        "refused": sum(had.refused for had in found.had),
        "texts": len({had.wanted.text for had in over}),
        "tokens": sum(had.tokens or 0 for had in over),
        "ended": " ".join(f"{reason}={many}" for reason, many in sorted(found.ended.items())),
        "epoch": found.epoch,
        "seconds": f"{time.monotonic() - began_s:.0f}",
    }


def _on_a_cluster(folder: Path, seed: int, requests: int, count: int) -> Round:
    config = folder / "cluster.yaml"
    config.write_text(json.dumps(CONFIG))
    with (folder / "log").open("w") as log:
        cluster = clusters.launch("-f", config, state_dir=folder, stderr=log)
        try:
            cluster.wait_ready(ranks=2)
            url = cluster.status()["endpoint"]
            victim = cluster.workers()[1]
            had = asyncio.run(all_ask(url, seed, requests, count, lambda: cluster.kill(victim)))
            return _looked(cluster, url, requests, had)
        finally:
            clusters.sweep(cluster)


def _looked(cluster: clusters.Launch, url: str, requests: int, had: list[Had]) -> Round:
    """What the cluster says when everybody is gone."""
    end_s = time.monotonic() + SOON_S
    while time.monotonic() < end_s:
        totals = cluster.status()["totals"]
        if not (totals["running"] or totals["waiting"]):
            break
        time.sleep(0.2)
    status = cluster.status()
    totals = status["totals"]
    with urlopen(url.removesuffix("/v1") + "/metrics", timeout=SOON_S) as answer:
        text = answer.read().decode()
    counted = {
        sample.labels["reason"]: int(sample.value)
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == "dsv4tp_requests_finished_total" and sample.value
    }
    taken = totals["running"] + totals["waiting"]
    return Round(requests, had, dict(totals["ended"]), counted, taken, status["epoch"])


def main() -> int:
    """As many rounds as the command line says, those of earlier runs included."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    for seed in range(len(RESULTS.lines()), rounds):
        RESULTS.add(run_round(seed))
    return RESULTS.status("WRONG")


if __name__ == "__main__":
    sys.exit(main())
