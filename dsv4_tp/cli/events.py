"""`dsv4-tp events`: what happened to a cluster, also when it is down."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

from dsv4_tp.cli.reach import address_or_history
from dsv4_tp.cli.tables import note
from dsv4_tp.client import AsyncClient
from dsv4_tp.history import EVENTS, Entry, entry_to_json, name_of, read_entries

_KIND_WIDTH = 17


def run(*, name: str | None, address: str | None, since: int, follow: bool, as_json: bool) -> None:
    """Print the events after number `since`, and with `follow` those to come."""
    asyncio.run(_run(address_or_history(name, address), since, follow=follow, as_json=as_json))


async def _run(place: str | Path, since: int, *, follow: bool, as_json: bool) -> None:
    told = _past(place, since) if isinstance(place, Path) else _present(place, since, follow=follow)
    async for missed, entry in told:
        if missed:
            print(json.dumps({"missed": missed}) if as_json else _gap(missed), flush=True)
        print(entry_to_json(entry) if as_json else event_line(entry), flush=True)


async def _past(folder: Path, since: int) -> AsyncIterator[tuple[int, Entry]]:
    """The last launch of a cluster that is down."""
    note(f"{name_of(folder.name)} is down; this was its last launch, {folder.name}")
    missed, entries = read_entries(folder, EVENTS, since)
    for place, entry in enumerate(entries):
        yield (0 if place else missed), entry


async def _present(address: str, since: int, *, follow: bool) -> AsyncIterator[tuple[int, Entry]]:
    async with (
        AsyncClient(address) as client,
        aclosing(client.events(since, follow=follow)) as told,
    ):
        async for each in told:
            yield each


def event_line(entry: Entry) -> str:
    """An entry as people read it; what a rank said last stands below it."""
    clock = time.strftime("%H:%M:%S", time.localtime(entry.time_s))
    thousandths = int(entry.time_s % 1 * 1000)
    head = f"{clock}.{thousandths:03d} {entry.seq:>4} epoch {entry.epoch}"
    stderr = entry.fields.get("last_stderr", "").splitlines()
    line = f"{head} {entry.kind:<{_KIND_WIDTH}} {entry.text}"
    return "\n".join([line, *(f"    {said}" for said in stderr)])


def _gap(missed: int) -> str:
    return f"... {missed} events are no longer kept ..."
