"""Soak: a text that a rank was killed under goes on as if nothing had happened.

    python -m tests.soak.replay [CASES]

Two hosts in network namespaces, root on Linux only. Two clients want the same text, one by gRPC
and one by HTTP; a rank is killed when the first of them has K tokens (0: while the prompt is read).
Each must get what the same cluster has told it before, of the tokens and of the words. A case is
one line of results/replay.csv: chosen greedily or with a seed, with and without drafts. `had` is
what the clients had when the rank was killed, in tokens and in pieces of text. Ends with 1 if a
text differs.
"""

import signal
import sys
import tempfile
from itertools import product
from pathlib import Path

from tests.cluster.conftest import endless
from tests.cluster.field import Cluster, Field
from tests.soak.lines import DIFFERENT, commit, soak

RESULTS = Path(__file__).parent / "results" / "replay.csv"
COLUMNS = (
    *("case", "outcome", "killed_at", "chosen", "drafts", "victim", "had", "had_pieces"),
    *("tokens", "epoch", "slowness", "commit"),
)
CHOSEN = {"greedy": {"temperature": 0}, "seeded": {"temperature": 1, "seed": 11}}
CASES = [*product((0, 1, 37), CHOSEN, (0, 2))]
ASKED = {"prompt": "Once upon a time there was a lamp. " * 10, "max_tokens": 50}


def run_case(case: int) -> dict[str, object]:
    """One line of the results."""
    killed_at, chosen, drafts = CASES[case]
    with tempfile.TemporaryDirectory(prefix="dsv4-tp-replay-") as folder:
        model_dir = endless(Path(folder) / "model")
        with (
            Field(Path(folder) / "field", model_dir) as field,
            field.cluster(**({"mtp": drafts} if drafts else {})) as cluster,
        ):
            cluster.aim(case)
            found = broken(cluster, killed_at, {**ASKED, **CHOSEN[chosen]})
            known = {"victim": cluster.victim, "slowness": cluster.slowness, "commit": commit()}
    asked = {"case": case, "killed_at": killed_at, "chosen": chosen, "drafts": drafts}
    return asked | known | found


def broken(cluster: Cluster, killed_at: int, words: dict[str, object]) -> dict[str, object]:
    """A text without a fault, and the same one with it."""
    whole = cluster.text(**words)
    rank = cluster.ranks()[cluster.victim]
    fed = rank.report().prefill_tokens
    wishes = {by: cluster.ask(by, **words) for by in ("grpc", "http")}
    if killed_at:
        cluster.wait(lambda: len(wishes["grpc"].tokens) >= killed_at, "a token")
    else:
        cluster.wait(lambda: rank.report().prefill_tokens > fed, "the prompt")
    rank.process.send_signal(signal.SIGKILL)
    had = {by: (len(wish.tokens), wish.pieces) for by, wish in wishes.items()}
    cluster.wait(lambda: all(wish.ended_s for wish in wishes.values()), "both texts")
    same = all(wish.whole and wish.text == whole.text for wish in wishes.values())
    same = same and wishes["grpc"].tokens == whole.tokens  # HTTP tells none
    harmed = cluster.last.epoch == 2 and had["grpc"][0] < len(whole.tokens)
    return {
        "outcome": "equal" if same and harmed else DIFFERENT,
        "had": had["grpc"][0],
        "had_pieces": had["http"][1],
        "tokens": len(wishes["grpc"].tokens),
        "epoch": cluster.last.epoch,
    }


if __name__ == "__main__":
    sys.exit(soak(RESULTS, COLUMNS, run_case, cases=len(CASES)))
