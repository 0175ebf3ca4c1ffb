"""The soaks of requests see what they are to see; the engine itself runs in the soaks."""

import random

import pytest

from dsv4_tp.core import FinishEvent, FinishReason, Submit, TokenEvent
from tests.soak.jobs import digest, equal
from tests.soak.leaks import SLACK_BYTES, holds
from tests.soak.speculation import SETTINGS, figures
from tests.soak.traffic import batches, random_request, schedule


def test_commands_keep_their_order_however_late_they_come() -> None:
    rng = random.Random(0)
    asked = [random_request(rng, str(number)) for number in range(8)]
    plan = schedule(rng, asked, 4, steps=9)
    early, late = batches(plan, 7), batches(plan, 7, random.Random(1))
    whole = [command for batch in early for command in batch]
    assert [command.number for command in whole] == list(range(7, 19))
    assert [command for batch in late for command in batch] == whole
    assert early != late
    submitted = [command.action for command in whole if isinstance(command.action, Submit)]
    assert {action.request for action in submitted} == set(asked)


def told(texts: dict[str, list[int]], reason: FinishReason) -> list[object]:
    said = [TokenEvent(name, at, t) for name, text in texts.items() for at, t in enumerate(text)]
    ends = [FinishEvent(name, reason, 1, len(text), 0, 0, 0, 0) for name, text in texts.items()]
    return [*said, *ends]


def test_another_text_is_seen() -> None:
    one = random_request(random.Random(0), "a")
    alone = told({"a": [1, 2, 3]}, FinishReason.LENGTH)
    assert equal(alone, alone, one)
    cut = [told({"a": [1, 2]}, why) for why in (FinishReason.CANCELLED, FinishReason.STOP)]
    assert [equal(each, alone, one) for each in cut] == [True, False]
    assert not equal(told({"a": [1, 3]}, FinishReason.CANCELLED), alone, one)
    assert digest(cut[0], [one]) != digest(cut[1], [one]) != digest(alone, [one])


@pytest.mark.parametrize("leak", [{}, {"turns": 1}, {"bytes": SLACK_BYTES + 1}, {"arrays": 1}])
def test_a_leak_is_seen(leak: dict[str, int]) -> None:
    rest = {"ended": 100, "turns": 0, "bytes": 0, "arrays": 0}
    held = [rest | {"ended": 0}, rest, rest | leak | {"ended": 200}]
    assert holds(held, 200) == (not leak)
    assert not holds(held[:2], 200)


def test_every_setting_meets_a_group_of_prompts() -> None:
    assert len(SETTINGS) * 25 == 500
    half = {"tokens": 60, "drafted": 40, "right": 30, "passes": [60, 30], "time_s": [4, 3]}
    found = figures([half | {"collectives": [0, 0]}] * 2)
    assert (found["acceptance"], found["tokens_per_pass"]) == ("0.750", "2.00")
    assert (found["passes_saved"], found["time_ratio"]) == ("0.500", "0.75")
