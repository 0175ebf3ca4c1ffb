"""Soak: whatever the schema, every text that comes to its end validates.

    python -m tests.soak.structured [CASES]

Two ranks of the demo model on this machine serve 64 texts at a time. Each case is one line of
results/structured.csv, and its number is its seed: a run goes on after the last line, so it may be
interrupted at any time. A case is a random schema and two texts held to it, one greedy, one drawn
with random settings, with drafts or without; jsonschema judges them. Ends with 1 if one is against
its schema, or if it has not come to an end in so many tokens that it should have.
"""

import asyncio
import json
import random
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jsonschema import Draft202012Validator

from dsv4_tp.client import Ask, AsyncClient
from tests.cluster.clusters import launch, sweep
from tests.soak.lines import DIFFERENT, Line, soak
from tests.soak.schemas import random_schema

RESULTS = Path(__file__).parent / "results" / "structured.csv"
COLUMNS = ("case", "outcome", "tokens", "texts", "schema", "setting")
AT_ONCE = 32  # cases
MOST_TOKENS = 600
PROMPTS = ("It was a cold morning.", "Tom had a red ball.", "The code of the door is")


def random_setting(rng: random.Random) -> dict[str, float]:
    """How a text is drawn."""
    setting = {"temperature": rng.choice([0.5, 1.0, 1.5, 3.0]), "seed": rng.getrandbits(64)}
    some = {
        "top_p": rng.choice([0.5, 0.9]),
        "top_k": rng.choice([1, 5, 40]),
        "min_p": 0.05,
        "repetition_penalty": 1.2,
        "presence_penalty": 0.5,
        "logprobs": 3,
    }
    return setting | {name: value for name, value in some.items() if rng.random() < 0.3}


def fault(text: str, schema: dict) -> str:
    """What is wrong with a text; empty if nothing is."""
    try:
        found = json.loads(text)
    except ValueError as error:
        return str(error)
    judge = Draft202012Validator(schema, format_checker=Draft202012Validator.FORMAT_CHECKER)
    return next((error.message for error in judge.iter_errors(found)), "")


async def write(client: AsyncClient, ask: Ask) -> tuple[str, int, str]:
    """The text, its tokens and why it ended."""
    pieces = [piece async for piece in client.stream(ask)]
    finish = pieces[-1].finish
    return "".join(p.text for p in pieces), finish.stats.generated_tokens, finish.reason.value


async def run_case(client: AsyncClient, case: int) -> Line:
    """One line of the results."""
    rng = random.Random(case)
    schema, setting = random_schema(rng), random_setting(rng)
    how = {"max_tokens": MOST_TOKENS, "json_schema": json.dumps(schema), "mtp": rng.choice([0, 4])}
    asks = [Ask(rng.choice(PROMPTS), **each, **how) for each in ({"temperature": 0}, setting)]
    told = await asyncio.gather(*(write(client, ask) for ask in asks))
    faults = [fault(text, schema) if end == "stop" else end for text, _, end in told]
    return {
        "case": case,
        "outcome": f"{DIFFERENT}: {faults}" if any(faults) else "valid",
        "tokens": [tokens for _, tokens, _ in told],
        "texts": json.dumps([text for text, _, _ in told], ensure_ascii=False),
        "schema": json.dumps(schema, ensure_ascii=False),
        "setting": setting | {"mtp": how["mtp"]},
    }


class Cases:
    """The lines of a cluster at this address, which are made several at a time."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.lines: dict[int, Line] = {}

    def line(self, case: int) -> Line:
        if case not in self.lines:
            self.lines = asyncio.run(self._group(case))
        return self.lines[case]

    async def _group(self, case: int) -> dict[int, Line]:
        cases = range(case, case + AT_ONCE)
        async with AsyncClient(self.address) as client:
            lines = await asyncio.gather(*(run_case(client, each) for each in cases))
        return dict(zip(cases, lines, strict=True))


@contextmanager
def cluster() -> Iterator[str]:
    """The address of two ranks of the demo model."""
    with tempfile.TemporaryDirectory() as folder:
        hosts = ("--hosts", "localhost,localhost", "--model", "demo", "--mtp")
        launched = launch(*hosts, "--batch", 2 * AT_ONCE, state_dir=Path(folder))
        try:
            launched.wait_ready(ranks=2)
            yield launched.entry()["address"]
        finally:
            sweep(launched)


if __name__ == "__main__":
    with cluster() as address:
        sys.exit(soak(RESULTS, COLUMNS, Cases(address).line))
