"""Numbers that are none: they end the request that meets them, and no other."""

import json
from pathlib import Path

import numpy as np
import pytest

from dsv4_tp.core import FinishReason, Sampling
from dsv4_tp.engine import Collectives, Team
from dsv4_tp.model import Model
from tests.engine.drive import Script, answer, finish, log, play, request, tokens
from tests.engine.jobs import BAD, FAULTY, fault_requests, spoil
from tests.engine.ring import run_ranks
from tests.model.tiny import random_ids, randomise, tiny_spec

PLACE = f"no numbers: rank 1, layer {FAULTY}, experts"


def whole() -> tuple[Model, Team]:
    """A model whose sums its team sees."""
    collectives = Collectives()
    model = randomise(Model(tiny_spec(), all_sum=collectives.all_sum))
    return model, Team(collectives, (model.part.vocab,))


@pytest.mark.ranks
@pytest.mark.parametrize("halves_from", [None, 14])
def test_the_rank_and_the_layer_are_named_and_the_others_go_on(
    tmp_path: Path, halves_from: int | None
) -> None:
    run_ranks("faulty", 2, tmp_path, halves_from=halves_from)
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(2))
    assert first["reasons"] == second["reasons"] == ["length", "failed", "failed"]
    healthy, prompt, token = first["errors"]
    assert healthy == ""
    assert first["errors"] == second["errors"]
    assert prompt.startswith(f"{PLACE}, at tokens 16 to 29;")
    assert token.startswith(f"{PLACE}, at tokens 16 to 31;")
    assert first["texts"][0] == first["whole"][0]
    assert [len(text) for text in first["texts"]] == [9, 0, 1]


@pytest.mark.parametrize("setting", [Sampling(temperature=0), Sampling(), Sampling(top_p=0.5)])
def test_a_head_without_numbers_is_named(setting: Sampling) -> None:
    model, team = whole()
    model.norm.weight = model.norm.weight * np.nan
    events = answer(model, request("a", range(20), 3, sampling=setting), team=team)
    assert "rank 0, head, at tokens 0 to 15" in finish(events, "a").error
    assert finish(events, "a").reason is FinishReason.FAILED


def test_what_cannot_be_found_again_is_said(monkeypatch) -> None:
    model, team = whole()
    right = Model.logits
    calls = iter(range(99))

    def once(self: Model, streams):
        return right(self, streams) * (np.nan if next(calls) == 1 else 1)

    monkeypatch.setattr(Model, "logits", once)
    events = answer(model, request("a", range(20), 5), request("b", range(5), 5), team=team)
    assert finish(events, "a").error.endswith("fed once more, all were")
    assert finish(events, "a").generated_tokens == len(tokens(events, "a")) == 1
    assert finish(events, "b").generated_tokens == 5


def test_no_snapshot_of_it_is_left() -> None:
    """A prompt that was fed without numbers leaves none behind; another one's stays."""
    model, team = whole()
    spoil(model)
    _, doomed, _ = fault_requests(model)
    bad, good = doomed.prompt[20], doomed.prompt[0]
    text = [token if token != bad else good for token in random_ids(1, 1100, 64)[0].tolist()]
    table = np.array(model.layers[FAULTY].ffn.gate.tid2eid)
    text = [token for token in text if BAD not in table[token]]
    sick, well = request("sick", [bad, *text], 1), request("well", text[:200], 1)
    again = [request(f"{one.id} again", one.prompt, 1) for one in (sick, well)]
    inbox = Script(log(sick, well), *[[]] * 300, log(sick, well, *again)[2:])
    how = {"prefill_chunk": 128, "shelf_bytes": 1 << 30, "team": team}
    events, _ = play(model, inbox, **how)
    cached = [finish(events, one.id).cached_tokens for one in (sick, well, *again)]
    assert cached[:3] == [0, 0, 0]
    assert cached[3] == 199
