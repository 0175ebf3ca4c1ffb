"""A talk with the examiner on one host, for as long as the doctor looks."""

import asyncio
import json
import shlex
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress

from dsv4_tp.config import Host
from dsv4_tp.config.remote import SSH_FAILED, Words, command_on, end, heard, last_words
from dsv4_tp.doctor.evidence import Refusal
from dsv4_tp.errors import DeadlineError, Dsv4Error

_LONGEST_LINE = 1 << 24


class NoSession(Dsv4Error):
    """There is nobody to ask on this host."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.words)
        self.refusal = refusal


class Session:
    """The examiner of one host. One question at a time; others wait in line."""

    def __init__(self, host: Host, process: Process) -> None:
        self._host = host
        self._process = process
        self._line = asyncio.Lock()

    async def ask(self, op: str, *, patience_s: float, **words: object) -> Words:
        """What the examiner answers; `error` in it is what it could not do.

        Raises:
            DeadlineError: it says nothing for `patience_s`, or has gone.
        """
        assert self._process.stdin is not None
        async with self._line:
            with suppress(ConnectionError):  # then there is no answer either
                self._process.stdin.write(json.dumps({"op": op, **words}).encode() + b"\n")
                await self._process.stdin.drain()
            try:
                answer = await asyncio.wait_for(heard(self._process), patience_s)
            except TimeoutError as error:
                said = f"no answer to `{op}` within {patience_s:g} s"
                raise DeadlineError(f"{self._host.name}: {said}") from error
        if answer is None:
            said = (await self._refusal()).words
            raise DeadlineError(f"{self._host.name}: it broke off during `{op}`: {said}")
        return answer

    async def greet(self, *, patience_s: float) -> None:
        """Wait until it is there; NoSession if it does not come."""
        try:
            answer = await asyncio.wait_for(heard(self._process), patience_s)
        except TimeoutError as error:
            raise NoSession(Refusal(False, f"no answer within {patience_s:g} s")) from error
        if answer is None:
            raise NoSession(await self._refusal())

    async def end(self) -> None:
        """It ends with its stdin; if it does not, it is made to."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        await end(self._process)

    async def _refusal(self) -> Refusal:
        said = await last_words(self._process)
        by_ssh = await self._process.wait() == SSH_FAILED and not self._host.is_local
        return Refusal(by_ssh, said)


@asynccontextmanager
async def open_session(host: Host, *, start_s: float) -> AsyncGenerator[Session]:
    """The examiner of `host`, which has so long to start, within the block.

    Raises:
        NoSession: it could not be started; says whose fault that was.
    """
    command = command_on(host, [host.python, "-m", "dsv4_tp", "examine"])
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=PIPE,
            stdout=PIPE,
            stderr=PIPE,
            limit=_LONGEST_LINE,
            cwd=host.workdir if host.is_local else None,
            start_new_session=True,  # a terminal's Ctrl-C is for us alone
        )
    except OSError as error:
        said = f"{shlex.join(command[:1])}: {error.strerror}"
        raise NoSession(Refusal(not host.is_local, said)) from error
    session = Session(host, process)
    try:
        await session.greet(patience_s=start_s)
        yield session
    finally:
        await session.end()
