"""What drafts save: passes of the model for each token it tells.

    python -m benchmarks.drafts          a table
    python -m benchmarks.drafts --json   the same as one JSON object

The demo model goes on greedily with texts that it was not trained on, one after the other on one
rank, with so many drafts in each step. Passes are counted by the engine. Where two words are nearly
as likely another machine may take the other, and then its drafts are right as often, but for some
in a hundred.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from benchmarks.batching import WAYS, on_ring, told
from dsv4_tp import demo
from dsv4_tp.cli.tables import table
from dsv4_tp.core import Event, FinishEvent, Request, StepEvent, Work
from dsv4_tp.engine import Collectives, Pace, Team
from dsv4_tp.model import Model
from dsv4_tp.text import Text
from examples.demo_model import corpus

DEPTHS = (1, 2, 3, 4)
TEXTS, TOKENS = 8, 12


@dataclass(frozen=True, slots=True)
class Drafted:
    """Texts told with so many drafts in each step."""

    depth: int
    passes: float  # for each token
    right: float  # of the drafts


def texts(count: int) -> list[Request]:
    """Prompts of 12 to 44 tokens, of which none was trained on."""
    tokenizer = Text.load(demo.path()).tokenizer

    def ids(text: str) -> list[int]:
        return tokenizer.encode(text, add_special_tokens=False).ids

    drawn = (corpus.sequence(corpus.rng_for("held-out", n), ids, length=64) for n in range(count))
    return [
        Request(str(n), tuple(each[: 12 + 19 * n % 33]), TOKENS, WAYS["greedy"])
        for n, each in enumerate(drawn)
    ]


def drafted(model: Model, team: Team, asked: Sequence[Request], depth: int) -> Drafted:
    """The same texts, each told alone, with `depth` drafts in every step."""
    pace = Pace(depth, steady=True, depth=depth)
    events = [event for one in asked for _, event in told(model, team, [one], pace=pace)]
    return figures(depth, events)


def figures(depth: int, events: Sequence[Event]) -> Drafted:
    """Of what an engine told."""
    steps = (each.work for each in events if isinstance(each, StepEvent) and each.phase == "decode")
    ends = [each for each in events if isinstance(each, FinishEvent)]
    guessed, right = (
        sum(getattr(end, name) for end in ends) for name in ("drafted_tokens", "accepted_tokens")
    )
    work = sum(steps, Work())
    return Drafted(depth, work.steps / work.tokens, right / guessed)


def measure(count: int = TEXTS) -> list[Drafted]:
    """All depths."""
    alone, asked = on_ring(Collectives(), mtp=True), texts(count)
    return [drafted(*alone, asked, depth) for depth in DEPTHS]


def as_table(found: Sequence[Drafted]) -> str:
    """A line for each."""
    rows = [
        [str(each.depth), f"{each.right:.0%}", f"{1 / each.passes:.2f}", f"{1 - each.passes:.0%}"]
        for each in found
    ]
    return table(["drafts", "right", "tokens a pass", "passes saved"], rows)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Measure what drafts save.")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    given, found = parser.parse_args(), measure()
    print(json.dumps([asdict(each) for each in found]) if given.json else as_table(found))


if __name__ == "__main__":
    main()
