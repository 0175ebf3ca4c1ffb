"""The soak of clients sees what it is to see; a small round of it runs when there is time."""

from dataclasses import replace

import pytest

from tests.soak.clients import Had, Round, problems, run_round, wanted

ONE = replace(wanted(0, 0), max_tokens=4, leaves=None)
OVER = Had(ONE, "abcd", 4, 4, "length")
LEFT = Had(replace(ONE, number=1), "ab", 2, left=True)
ENDED = {"length": 1, "cancelled": 1}


def after(*had: Had, **said: object) -> list[str]:
    usual = {"requests": len(had), "ended": ENDED, "counted": ENDED, "epoch": 2}
    return [*problems(Round(had=[*had], **(usual | said)))]


def test_requests_are_always_the_same_and_of_every_kind():
    all_of_them = [wanted(7, number) for number in range(500)]
    assert all_of_them == [wanted(7, number) for number in range(500)]
    kinds = {(one.chat, one.streamed, one.leaves is None, one.seed) for one in all_of_them}
    assert len(kinds) == 2 * 2 * 2 * 3
    assert wanted(8, 0) != wanted(7, 0)


def test_a_round_in_order_has_no_problem():
    assert after(OVER, LEFT) == []
    refused = Had(ONE, error="server_error")
    assert after(OVER, LEFT, refused, ended=ENDED, counted=ENDED) == []
    too_late = {"length": 2}  # who left had it all, and did not know
    assert after(OVER, LEFT, ended=too_late, counted=too_late) == []


@pytest.mark.parametrize(
    ("had", "said", "says"),
    [
        (replace(OVER, tokens=5), {}, "5 tokens of 4"),
        (replace(OVER, tokens=None), {}, "None tokens of 4"),
        (replace(OVER, reason=None), {}, "4, None"),
        (replace(OVER, wrong="no error object"), {}, "no error object"),
        (OVER, {"requests": 3}, "1 requests hang"),
        (OVER, {"open": 1}, "1 places are taken"),
        (OVER, {"counted": {"length": 1}}, "/metrics {'length': 1}"),
        (OVER, {"ended": {"length": 1}, "counted": {"length": 1}}, "1 to 1 were left"),
        (OVER, {"ended": ENDED | {"stop": 1}, "counted": ENDED | {"stop": 1}}, "beyond"),
        (OVER, {"epoch": 1}, "the epoch is 1"),
    ],
)
def test_what_is_not_in_order_is_seen(had: Had, said: dict[str, object], says: str):
    assert any(says in each for each in after(had, LEFT, **said)), after(had, LEFT, **said)


def test_another_text_is_seen():
    assert after(OVER, replace(LEFT, text="ax")) == ["request 1: another text"]
    again = replace(OVER, text="abcx")
    twice = {"length": 2, "cancelled": 1}
    assert after(OVER, LEFT, again, ended=twice, counted=twice) == ["request 0: another text"]


@pytest.mark.slow
@pytest.mark.cluster
def test_a_few_clients_and_a_killed_rank():
    line = run_round(0, requests=40, count=8)
    assert line["outcome"] == "all ended"
    assert line["left"]
