import asyncio

import pytest

from dsv4_tp.agent.records import Records
from dsv4_tp.errors import PreflightError
from dsv4_tp.history import host_folder
from dsv4_tp.v1.types_pb2 import LogChoice

LAUNCH = "20260101T000000Z-lab"


@pytest.fixture
def records(tmp_path, monkeypatch):
    monkeypatch.setenv("DSV4TP_STATE_DIR", str(tmp_path / "state"))
    (tmp_path / "own").mkdir()
    return Records(tmp_path / "own")


async def read(records, **choice):
    left = asyncio.Event()
    return [
        (piece.place.epoch, piece.place.rank if piece.place.HasField("rank") else None, piece.data)
        async for piece in records.tail(LogChoice(**choice), left)
    ]


def test_logs_outlive_the_agent_once_it_knows_the_launch(records, tmp_path):
    records.rank(1, 0).write(b"early\n")
    records.settle(LAUNCH, "mac-b")
    records.settle(LAUNCH, "mac-b")
    records.rank(2, 0).write(b"two\nlines\n")
    records.rank(2, 1).write(b"one\n")
    assert asyncio.run(read(records)) == [(2, 0, b"two\nlines\n"), (2, 1, b"one\n")]
    assert asyncio.run(read(records, rank=1)) == [(2, 1, b"one\n")]
    assert asyncio.run(read(records, epoch=1)) == []
    assert asyncio.run(read(records, rank=0, most_bytes=3)) == [(2, 0, b"es\n")]
    folder = host_folder(tmp_path / "state", LAUNCH, "mac-b")
    assert (folder.stat().st_mode & 0o777, (folder / "epoch-2.rank-0.0").exists()) == (0o700, True)
    with pytest.raises(PreflightError):
        records.settle("../../etc", "mac-b")


def test_epochs_of_long_ago_are_dropped(records):
    for epoch in range(1, 21):
        records.rank(epoch, 0).write(b"x")
    kept = [epoch for epoch, _, _ in asyncio.run(read(records))]
    assert kept == list(range(kept[0], 21))
    assert 4 <= len(kept) <= 10


def test_a_follower_gets_the_last_words_too(records):
    async def run():
        log, left = records.rank(1, 0), asyncio.Event()
        log.write(b"first\n")
        pieces = records.tail(LogChoice(follow=True), left)
        first = await asyncio.wait_for(anext(pieces), 10)
        log.write(b"last\n")
        left.set()
        return [first.data, *[piece.data async for piece in pieces]]

    assert asyncio.run(run()) == [b"first\n", b"last\n"]
