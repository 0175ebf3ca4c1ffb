"""The logs of all hosts in one stream: those of hosts that fall silent or come back, too."""

import asyncio

from dsv4_tp.coordinator import relay as relay_module
from dsv4_tp.coordinator.relay import relay
from dsv4_tp.errors import Dsv4Error
from dsv4_tp.v1.types_pb2 import LogChoice, LogPiece, LogPlace


def piece(data, offset=0):
    return LogPiece(place=LogPlace(epoch=1, rank=0, offset=offset), data=data)


async def read(hosts, tail, choice, *, most=100):
    over, found = asyncio.Event(), []
    async for response in relay(hosts, tail, choice, over):
        found.append((response.host, response.piece.data, response.error))
        if len(found) == most:
            over.set()
            break
    return found


def test_a_host_that_is_gone_or_silent_is_named_and_the_others_are_whole(monkeypatch):
    monkeypatch.setattr(relay_module, "_SILENT_S", 0.05)

    async def tail(host, choice):
        if host == "gone":
            raise Dsv4Error("its agent: nobody there")
        yield piece(b"words\n")
        if host == "silent":
            await asyncio.sleep(60)

    found = asyncio.run(asyncio.wait_for(read(["a", "gone", "silent"], tail, LogChoice()), 10))
    assert sorted(found) == [
        ("a", b"words\n", ""),
        ("gone", b"", "its agent: nobody there"),
        ("silent", b"", "it told nothing for 0.05 s"),
        ("silent", b"words\n", ""),
    ]


def test_a_host_that_comes_back_goes_on_behind_what_it_told(monkeypatch):
    monkeypatch.setattr(relay_module, "_AGAIN_S", 0.01)
    asked = []

    async def tail(host, choice):
        asked.append([(place.epoch, place.rank, place.offset) for place in choice.after])
        yield piece(b"12345", offset=5 * (len(asked) - 1))
        raise Dsv4Error("its agent is gone")

    found = asyncio.run(read(["a"], tail, LogChoice(follow=True), most=4))
    assert asked == [[], [(1, 0, 5)], [(1, 0, 10)]]
    assert [error for _, _, error in found] == ["", "its agent is gone", "", ""]
