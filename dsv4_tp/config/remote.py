"""How a program runs on a host, by ssh that never asks anything or as it is: it is started with
pipes, says JSON in lines of its own, and is ended.
"""

import asyncio
import json
import shlex
from asyncio.subprocess import Process
from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import Any, Protocol, cast

from dsv4_tp.config.cluster import Host

SSH_FAILED = 255  # ssh's own failures, not those of the remote command
_SSH = (
    "ssh",
    "-4",  # the ring knows IPv4 only, and takes the address we came by
    "-T",
    *("-o", "BatchMode=yes"),
    *("-o", "ConnectTimeout=8"),
    *("-o", "ServerAliveInterval=2"),
    *("-o", "ServerAliveCountMax=3"),
)
_MOST_LINES = 50  # of what a login shell may say before the program does
_END_S = 2.0

Words = dict[str, Any]


class Running(Protocol):
    """A process that somebody has started."""

    async def wait(self) -> object:
        """Return when it is gone."""
        ...

    def terminate(self) -> None:
        """Ask it to end."""
        ...

    def kill(self) -> None:
        """Make it end."""
        ...


def command_on(host: Host, command: Sequence[str]) -> list[str]:
    """The command line that runs `command` on `host`; here, its directory is the caller's care."""
    if host.is_local:
        return [*command]
    remote = shlex.join(command)
    if host.workdir:
        remote = f"cd {shlex.quote(host.workdir)} && {remote}"
    return [*_SSH, "--", host.ssh, remote]


async def heard(process: Process, keys: Collection[str] = ()) -> Words | None:
    """The next object with these keys that it says; None if it ends, or says too much else.

    Raises ValueError for a line without an end.
    """
    assert process.stdout is not None
    for _ in range(_MOST_LINES):
        line = await process.stdout.readline()
        with suppress(ValueError):  # a login shell may say anything
            words = json.loads(line)
            if isinstance(words, dict) and words.keys() >= set(keys):
                return cast(Words, words)
        if not line:
            break
    return None


async def last_words(process: Process) -> str:
    """The last line of its stderr, when it has ended."""
    assert process.stderr is not None
    lines = (await process.stderr.read()).decode(errors="replace").strip().splitlines()
    return lines[-1].strip() if lines else "it said nothing"


async def end(process: Running) -> None:
    """Wait until it has ended; help if it does not."""
    for push in (process.terminate, process.kill):
        with suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), _END_S)
            return
        with suppress(ProcessLookupError):
            push()
    await process.wait()
