"""What is told of a cluster's life: by the steps of its state, and to readers of any speed."""

import asyncio

from dsv4_tp import core
from dsv4_tp.coordinator import events
from dsv4_tp.coordinator.chronicle import Chronicle, Note
from dsv4_tp.coordinator.narrate import notes
from dsv4_tp.coordinator.state import step
from dsv4_tp.coordinator.witness import Witness
from dsv4_tp.core import FinishEvent, FinishReason, Loss
from dsv4_tp.history import EVENTS, read_entries
from tests.coordinator.test_state import (
    HEALS,
    HOSTS,
    back,
    beat,
    failed,
    finish,
    fresh,
    joins,
    loads,
    lost,
    prepares,
    ready,
    request,
    said,
    stopped,
)


def told(state, *happened, now_s=0.0):
    """The kinds of what is told of these events, with host and rank."""
    found = []
    for event in happened:
        before = state
        state, actions = step(before, event, now_s)
        found += notes(before, event, state, actions)
    return found


def kinds(found):
    return [(note.kind, note.host, note.rank) for note in found]


def test_a_start_is_told_rank_by_rank():
    start = (beat("a"), beat("b"), *prepares(*HOSTS), *joins(*HOSTS), *loads(*HOSTS))
    assert kinds(told(fresh(), *start)) == [
        ("host-there", "a", None),
        ("host-there", "b", None),
        ("epoch-started", "", None),
        *(("rank-prepared", host, rank) for rank, host in HOSTS.items()),
        ("epoch-joins", "", None),
        *(("rank-joined", host, rank) for rank, host in HOSTS.items()),
        *(("rank-loaded", host, rank) for rank, host in HOSTS.items()),
        ("ready", "", None),
    ]


def test_a_lost_rank_is_told_with_its_evidence_and_beats_and_tokens_are_not():
    beats = [beat("a", core.RankReport(0, "decode", decode_steps=step)) for step in range(5)]
    tokens = [said(0, core.TokenEvent("r", index, 1)) for index in range(5)]
    gone = lost(2, Loss.KILLED, "killed by SIGKILL while decoding", "Boom")
    found = told(ready(), events.Asked(request()), *beats, *tokens, gone)
    assert kinds(found) == [("rank-lost", "b", 2), ("epoch-stopped", "", None)]
    assert found[0].text == "rank 2 on b: killed by SIGKILL while decoding"
    assert found[0].fields == {"loss": "killed", "last_stderr": "Boom"}


def test_a_cluster_that_heals_tells_how():
    asked, token = events.Asked(request()), said(0, core.TokenEvent("r", 0, 1))
    fault = lost(2, Loss.KILLED)
    again = (
        *(beat(host, epoch=1) for host in "ab"),
        events.Ticked(),
        *prepares(*HOSTS, epoch=2),
        *joins(*HOSTS, epoch=2),
        *loads(*HOSTS, epoch=2),
    )
    state, found = ready(HEALS), []
    for now_s, happened in ((0.0, (asked, token, fault, *stopped("a", "b"))), (8.0, again)):
        for event in happened:
            before = state
            state, actions = step(before, event, now_s)
            found += notes(before, event, state, actions)
    usual = {"rank-prepared", "rank-joined", "rank-loaded", "host-there"}
    assert [note.kind for note in found if note.kind not in usual] == [
        "rank-lost",
        "epoch-stopped",
        "host-clear",
        "host-clear",
        "restart-planned",
        "epoch-started",
        "epoch-joins",
        "ready",
        "request-replayed",
    ]
    assert found[-1].text == "goes on; tokens so far: 1"


def test_an_epoch_that_was_asked_for_is_told_without_the_failures_it_crosses_out():
    state, _ = back(failed()[0], 2.0)
    token = said(0, core.TokenEvent("r", 0, 7), epoch=2)
    renewed = events.Asked(request()), token, events.Renewed(), *stopped("a", "b", epoch=2)
    (planned,) = [note for note in told(state, *renewed) if note.kind == "restart-planned"]
    assert "verdict" not in planned.fields


def test_requests_are_told_that_end_badly():
    def ended(reason, error=""):
        return said(0, FinishEvent("r", reason, 1, 4, 0, 0, 0, 0, error=error))

    asked = events.Asked(request())
    assert told(ready(), asked, said(0, finish())) == []
    (late,) = told(ready(), asked, ended(FinishReason.TIMEOUT))
    assert (late.kind, late.fields) == ("request-timed-out", {"request": "r"})
    (bad,) = told(ready(), asked, ended(FinishReason.CANCELLED, "too long"))
    assert (bad.kind, bad.text) == ("request-refused", "too long")


def test_a_reader_that_comes_late_is_told_what_it_missed():
    ring = Chronicle(most=3)
    assert ring.since(0) == (0, [])
    for number in range(1, 8):
        assert ring.add(Note("k", "t"), epoch=1, time_s=0.0).seq == number
    missed, kept = ring.since(2)
    assert (missed, [entry.seq for entry in kept]) == (2, [5, 6, 7])
    assert ring.since(4)[0] == 0
    assert ring.since(7) == (0, [])


def test_followers_hear_all_of_it_until_the_end_and_the_file_keeps_it(tmp_path):
    async def run():
        witness = Witness(tmp_path)
        witness.tell(Note("first", "t"), epoch=1)

        async def follow():
            told = witness.entries(0, follow=True)
            return [entry.kind async for _, entries in told for entry in entries]

        following = [asyncio.create_task(follow()) for _ in range(2)]
        await asyncio.sleep(0)
        witness.tell(Note("second", "t"), epoch=1)
        await asyncio.sleep(0)
        witness.tell(Note("third", "t"), epoch=2)
        witness.close()
        return await asyncio.wait_for(asyncio.gather(*following), 10)

    assert asyncio.run(run()) == [["first", "second", "third"]] * 2
    assert [entry.seq for entry in read_entries(tmp_path, EVENTS, 1)[1]] == [2, 3]


def test_waits_and_ages_are_those_of_the_last(tmp_path):
    witness, state = Witness(tmp_path), ready()
    assert witness.first_token_s(0.5, 0.95) == ()
    for tenths in range(1, 11):
        end = FinishEvent("r", FinishReason.STOP, 1, 4, 0, 0, 0, 0, first_token_s=tenths / 10)
        witness.saw(state, events.Ticked(), state, (events.Deliver(end),))
    assert witness.first_token_s(0.5, 0.95) == (0.6, 1.0)
    assert witness.idle_s(0, 100.0) == 0.0
