"""`dsv4-tp debug-bundle`: one file that explains what became of a cluster.

What cannot be had within a few seconds is left out, and named in the bundle's manifest.
"""

import asyncio
import gzip
import io
import json
import os
import platform
import tarfile
import time
from collections.abc import Coroutine
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dsv4_tp import __version__
from dsv4_tp.cli.logs import Wanted, parts_here
from dsv4_tp.cli.reach import address_or_history
from dsv4_tp.cli.redact import scrub, scrubbed
from dsv4_tp.cli.tables import note
from dsv4_tp.client import AsyncClient, LogPart
from dsv4_tp.config.environment import state_dir
from dsv4_tp.errors import ConfigError, Dsv4Error
from dsv4_tp.history import (
    EVENTS,
    LAUNCH_FILE,
    Entry,
    Source,
    launch_folder,
    read_entries,
)

_WITHIN_S = 8.0  # for everything that a cluster is asked
_LOG_BYTES = 512 << 10  # the last ones of each


@dataclass(slots=True)
class Bundle:
    """The files of a bundle in the making, and what is missing from it."""

    launch: str = ""
    files: dict[str, str] = field(default_factory=dict[str, str])
    missing: list[str] = field(default_factory=list[str])

    def add_json(self, name: str, value: object) -> None:
        """A file of one JSON value."""
        self.files[name] = json.dumps(scrubbed(value), indent=1)

    def add_events(self, entries: list[Entry]) -> None:
        """A line of JSON for each."""
        lines = (json.dumps(scrubbed(asdict(entry))) for entry in entries)
        self.files["events.jsonl"] = "".join(f"{line}\n" for line in lines)

    def add_logs(self, parts: list[LogPart]) -> None:
        """A file for each log; secrets may lie across pieces, so they are joined first."""
        logs: dict[str, bytes] = {}
        for part in parts:
            if part.error:
                self.missing.append(f"logs of {part.host}: {part.error}")
                continue
            name = f"logs/{part.host}/{Source(part.epoch, part.rank).stem}.log"
            logs[name] = logs.get(name, b"") + part.data
        for name, data in logs.items():
            self.files[name] = scrub(data[-_LOG_BYTES:].decode(errors="replace"))


def run(*, name: str | None, address: str | None, out: Path | None, as_json: bool) -> None:
    """Write the bundle of the cluster the options name, running or not."""
    place, bundle = address_or_history(name, address), Bundle()
    if isinstance(place, Path):
        bundle.launch = place.name
        bundle.missing.append("status and logs of other hosts: the cluster is down")
        _from_folder(bundle, place, logs=True)
    else:
        asyncio.run(_from_cluster(bundle, place))
    out = out or Path(f"dsv4-tp-{bundle.launch or 'unknown'}.tar.gz")
    files = _write(bundle, out)
    for missing in bundle.missing:
        note(f"left out: {missing}")
    if as_json:
        print(json.dumps({"file": str(out), "files": files, "missing": bundle.missing}))
    else:
        print(out)


async def _from_cluster(bundle: Bundle, address: str) -> None:
    """Ask for everything at once; each answer counts, whatever becomes of the others."""
    async with AsyncClient(address) as client:
        work = {
            "status": _status(bundle, client),
            "events": _events(bundle, client),
            "logs": _logs(bundle, client),
        }
        await asyncio.gather(*(_in_time(bundle, what, each) for what, each in work.items()))
    if bundle.launch:
        _from_folder(bundle, launch_folder(state_dir(), bundle.launch), logs=False)


async def _in_time(bundle: Bundle, what: str, work: Coroutine[Any, Any, None]) -> None:
    try:
        await asyncio.wait_for(work, _WITHIN_S)
    except TimeoutError:
        bundle.missing.append(f"some of the {what}: not had within {_WITHIN_S:g} s")
    except Dsv4Error as error:
        bundle.missing.append(f"{what}: {error}")


async def _status(bundle: Bundle, client: AsyncClient) -> None:
    found = await client.status()
    bundle.launch = found.launch
    bundle.add_json("status.json", asdict(found))


async def _events(bundle: Bundle, client: AsyncClient) -> None:
    bundle.add_events([entry async for _, entry in client.events()])


async def _logs(bundle: Bundle, client: AsyncClient) -> None:
    parts: list[LogPart] = []
    try:
        async for part in client.logs(most_bytes=_LOG_BYTES):
            parts.append(part)  # noqa: PERF401  those that came count when time is over
    finally:
        bundle.add_logs(parts)


def _from_folder(bundle: Bundle, folder: Path, *, logs: bool) -> None:
    """What this machine remembers of the launch."""
    try:
        bundle.add_json(LAUNCH_FILE, json.loads((folder / LAUNCH_FILE).read_text()))
    except (OSError, ValueError) as error:
        bundle.missing.append(f"{LAUNCH_FILE}: {error}")
    if "events.jsonl" not in bundle.files:
        bundle.add_events(read_entries(folder, EVENTS, 0)[1])
    if logs:
        bundle.add_logs([*parts_here(folder, Wanted())])


def _write(bundle: Bundle, out: Path) -> list[str]:
    """The bundle as a file for its owner only; the names in it.

    Raises:
        ConfigError: it cannot be written there.
    """
    manifest = {
        "launch": bundle.launch,
        "written_s": time.time(),
        "version": __version__,
        "python": platform.python_version(),
        "system": platform.platform(),
        "missing": bundle.missing,
    }
    bundle.add_json("manifest.json", manifest)
    root = f"dsv4-tp-{bundle.launch or 'unknown'}"
    try:
        handle = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "wb") as raw, gzip.GzipFile(fileobj=raw, mode="wb") as packed:
            _pack(bundle.files, packed, root)
    except OSError as error:
        raise ConfigError(f"--out {out}: {error.strerror}; give another place") from error
    return sorted(bundle.files)


def _pack(files: dict[str, str], packed: gzip.GzipFile, root: str) -> None:
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, text in sorted(files.items()):
            data = text.encode()
            member = tarfile.TarInfo(f"{root}/{name}")
            member.size, member.mode, member.mtime = len(data), 0o600, time.time()
            tar.addfile(member, io.BytesIO(data))
