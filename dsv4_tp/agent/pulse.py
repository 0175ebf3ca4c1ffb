"""Whether the ways to the other hosts work: agents pulse each other there, by UDP, and listen.

Ranks show it themselves while they meet. When they stand still, rest or load, only this does: a way
that is gone tells nobody, and what is sent over TCP waits for it to come back. A peer that was
never heard is not watched, for there are networks that UDP does not pass.
"""

import asyncio
import hmac
import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

from dsv4_tp.core import Link
from dsv4_tp.log import log
from dsv4_tp.v1 import agent_pb2 as pb

PULSE_S = 0.5
SILENT_S = 3.0  # two seconds without a way are survived, and four are told
_OWN_STALL_S = 0.5  # of a look that was late
_COUNTER_BYTES = 8
_TAG_BYTES = 16


@dataclass(frozen=True, slots=True)
class Hearing:
    """When each of the peers was heard last; None: never. Pure."""

    heard_s: Mapping[str, float | None] = field(default_factory=dict[str, float | None])
    since_s: float = 0.0  # silence counts from here on
    looked_s: float = 0.0


def begun(hearing: Hearing, hosts: Iterable[str], now_s: float) -> Hearing:
    """These are the peers from now on; one that was heard before may not fall silent."""
    return Hearing({host: hearing.heard_s.get(host) for host in hosts}, now_s, now_s)


def heard(hearing: Hearing, host: str, now_s: float) -> Hearing:
    """A pulse of that peer."""
    return replace(hearing, heard_s={**hearing.heard_s, host: now_s})


def looked(hearing: Hearing, now_s: float) -> Hearing:
    """A look at the clock, due every `PULSE_S`: if we have slept, that time does not count."""
    slept_s = now_s - hearing.looked_s - PULSE_S
    hearing = replace(hearing, looked_s=now_s)
    if slept_s < _OWN_STALL_S:
        return hearing
    later = {host: s if s is None else s + slept_s for host, s in hearing.heard_s.items()}
    return replace(hearing, heard_s=later, since_s=hearing.since_s + slept_s)


def links(hearing: Hearing, now_s: float, *, met_s: float = -math.inf) -> tuple[Link, ...]:
    """How it stands with each peer; `met_s`: when a rank here met others last."""
    since_s = max(met_s, hearing.since_s)
    # Up to the last look only: if there was none for long, it was us who slept.
    return tuple(
        Link(host)
        if at_s is None
        else Link(host, now_s - at_s, silent=hearing.looked_s - max(at_s, since_s) >= SILENT_S)
        for host, at_s in hearing.heard_s.items()
    )


class Pulse(asyncio.DatagramProtocol):
    """The socket of one agent. What it sends can be made, and made again, by nobody else."""

    def __init__(self) -> None:
        self._hearing = Hearing()
        self._transport: asyncio.DatagramTransport | None = None
        self._beating: asyncio.Task[None] | None = None
        self._ip = ""
        self._host = b""  # our name
        self._key = b""
        self._peers: dict[str, tuple[str, int]] = {}
        self._names: dict[bytes, str] = {}  # of the peers, as they are sent
        self._sent = count(1)
        self._last: dict[str, int] = {}  # numbers of the pulses that came last, by peer

    async def open(self, ip: str) -> int:
        """Listen there, if that is not done yet; the port, or 0 if it cannot be."""
        if self._transport is None or self._ip != ip:
            self.close()
            loop = asyncio.get_running_loop()
            try:
                self._transport, _ = await loop.create_datagram_endpoint(
                    lambda: self, local_addr=(ip, 0)
                )
            except OSError as error:
                log("no-pulse", address=ip, error=error)
                return 0
            self._ip = ip
            self._beating = asyncio.create_task(self._beat())
            self._beating.add_done_callback(self._beaten)
        return self._transport.get_extra_info("sockname")[1]

    def begin(self, host: str, message: pb.Pulses) -> None:
        """We are `host`; these peers are heard from now on, and hear us."""
        self._host, self._key, self._last = host.encode(), message.key, {}
        self._peers = {peer.host: _place(peer.address) for peer in message.peers}
        self._names = {host.encode(): host for host in self._peers}
        self._hearing = begun(self._hearing, self._peers, time.monotonic())

    def links(self, *, met_s: float) -> tuple[Link, ...]:
        """How it stands with each peer; see `links`."""
        return links(self._hearing, time.monotonic(), met_s=met_s)

    def close(self) -> None:
        """Be silent and deaf."""
        if self._transport and self._beating:
            self._transport.close()
            self._beating.cancel()
        self._transport = self._beating = None

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        """A peer lives, unless somebody else says so."""
        number, tag = data[:_COUNTER_BYTES], data[_COUNTER_BYTES:][:_TAG_BYTES]
        sender = data[_COUNTER_BYTES + _TAG_BYTES :]
        host = self._names.get(sender)
        # Without a key anybody could make a tag.
        if host is None or not self._key:
            return
        if not hmac.compare_digest(tag, self._tag(number, sender, self._host)):
            return
        at = int.from_bytes(number)
        if at > self._last.get(host, 0):
            self._last[host] = at
            self._hearing = heard(self._hearing, host, time.monotonic())

    def error_received(self, exc: Exception) -> None:
        """There is no way now, which is what the silence at the other end is for."""

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is closed, or has failed."""
        if exc:
            self._fall_out(exc)

    def _beaten(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()):
            self._fall_out(error)

    def _fall_out(self, error: BaseException) -> None:
        """Who watches nobody is not missed: it is our bug, and no way that is down."""
        log("no-pulse", address=self._ip, error=repr(error))
        self.close()
        self._peers, self._names, self._hearing = {}, {}, Hearing()

    async def _beat(self) -> None:
        while True:
            self._hearing = looked(self._hearing, time.monotonic())
            for host, place in self._peers.items():
                number = next(self._sent).to_bytes(_COUNTER_BYTES)
                tag = self._tag(number, self._host, host.encode())
                assert self._transport is not None
                self._transport.sendto(number + tag + self._host, place)
            await asyncio.sleep(PULSE_S)

    def _tag(self, number: bytes, sender: bytes, receiver: bytes) -> bytes:
        told = number + sender + b"\0" + receiver
        return hmac.digest(self._key, told, "sha256")[:_TAG_BYTES]


def _place(address: str) -> tuple[str, int]:
    ip, _, port = address.rpartition(":")
    return ip, int(port)
