"""`dsv4-tp logs`: what agents and ranks wrote, on all hosts."""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path

from dsv4_tp.cli.reach import address_or_history
from dsv4_tp.cli.tables import note
from dsv4_tp.client import AsyncClient, LogPart
from dsv4_tp.history import Source, name_of, read_piece, sources

_PIECE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which logs; None: all."""

    host: str | None = None
    rank: int | None = None
    epoch: int | None = None

    def holds(self, host: str, source: Source) -> bool:
        """Whether this one is meant; the agents' only where no rank and no epoch is named."""
        return (
            self.host in (None, host)
            and self.rank in (None, source.rank)
            and (self.epoch is None or (source.epoch == self.epoch and source.rank is not None))
        )


@dataclass(slots=True)
class Lines:
    """Whole lines of several logs, from pieces that end anywhere."""

    as_json: bool
    _rests: dict[tuple[str, Source], LogPart] = field(
        default_factory=dict[tuple[str, Source], LogPart]
    )

    def add(self, part: LogPart) -> Iterator[str]:
        """What can be printed with this piece."""
        if part.error:
            yield self._say(part, error=part.error)
            return
        key = part.host, Source(part.epoch, part.rank)
        rest = self._rests.pop(key, None)
        data, offset = part.data, part.offset
        if part.missed:
            yield self._say(part, missed_bytes=part.missed)
        elif rest:
            data, offset = rest.data + data, rest.offset
        *lines, left = data.split(b"\n")
        for line in lines:
            yield self._say(part, offset=offset, line=line.decode(errors="replace"))
            offset += len(line) + 1
        if left:
            self._rests[key] = LogPart(part.host, part.epoch, part.rank, offset, left)

    def finish(self) -> Iterator[str]:
        """The lines that nobody has ended."""
        for rest in self._rests.values():
            yield self._say(rest, offset=rest.offset, line=rest.data.decode(errors="replace"))

    def _say(self, part: LogPart, **what: str | int) -> str:
        if self.as_json:
            return json.dumps({"host": part.host, "epoch": part.epoch, "rank": part.rank} | what)
        who = "agent" if part.rank is None else f"rank {part.rank} epoch {part.epoch}"
        match what:
            case {"line": line}:
                return f"{part.host} {who} | {line}"
            case {"missed_bytes": count}:
                return f"{part.host} {who} | ... {count} bytes are no longer kept ..."
            case _:
                return f"{part.host} | ... nothing more from there: {part.error}"


def run(
    *,
    name: str | None,
    address: str | None,
    host: str | None,
    rank: int | None,
    epoch: int | None,
    follow: bool,
    as_json: bool,
) -> None:
    """Print the logs that the options name, and with `follow` what is written to them."""
    place, wanted = address_or_history(name, address), Wanted(host, rank, epoch)
    parts = _past(place, wanted) if isinstance(place, Path) else _present(place, wanted, follow)
    asyncio.run(_print(parts, Lines(as_json)))


async def _print(parts: AsyncIterator[LogPart], lines: Lines) -> None:
    async for part in parts:
        for line in lines.add(part):
            print(line, flush=True)
    for line in lines.finish():
        print(line, flush=True)


async def _present(address: str, wanted: Wanted, follow: bool) -> AsyncIterator[LogPart]:
    async with AsyncClient(address) as client:
        told = client.logs(
            rank=wanted.rank, epoch=wanted.epoch, host=wanted.host or "", follow=follow
        )
        async with aclosing(told):
            async for part in told:
                yield part


async def _past(folder: Path, wanted: Wanted) -> AsyncIterator[LogPart]:
    note(f"{name_of(folder.name)} is down; these are the logs of this machine for {folder.name}")
    for part in parts_here(folder, wanted):
        yield part


def parts_here(folder: Path, wanted: Wanted) -> Iterator[LogPart]:
    """The logs of a launch that lie on this machine."""
    for host in sorted(each for each in folder.glob("*") if each.is_dir()):
        for source in sources(host):
            if wanted.holds(host.name, source):
                yield from _whole(host, source)


def _whole(host: Path, source: Source) -> Iterator[LogPart]:
    offset = 0
    while (piece := read_piece(host, source.stem, offset, _PIECE_BYTES)).data:
        offset = piece.end
        yield LogPart(host.name, source.epoch, source.rank, piece.offset, piece.data, piece.missed)
