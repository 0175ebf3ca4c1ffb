"""The loop: a line, what it means, what is done about it."""

import asyncio
import sys
from collections.abc import Callable
from contextlib import aclosing
from functools import partial
from typing import Any

from dsv4_tp.cli.chat.heard import Heard, pieces
from dsv4_tp.cli.chat.lines import piped, typed, write_own
from dsv4_tp.cli.chat.orders import Leave, Put, Save, Tell, obey, order_names
from dsv4_tp.cli.chat.talk import Talk, Think
from dsv4_tp.cli.chat.voices import Lines, Plain, Stage, Terminal
from dsv4_tp.cli.reach import address_of
from dsv4_tp.client import Ask, AsyncClient, ClusterStatus
from dsv4_tp.config.environment import state_dir
from dsv4_tp.errors import Dsv4Error

_HISTORY = "chat-history"


def run(
    *,
    name: str | None,
    address: str | None,
    system: str | None,
    think: str,
    as_json: bool,
    **wishes: Any,
) -> None:
    """Talk with the cluster that the options name, by the terminal, or line by line."""
    talk = Talk(system or "", Think(think))
    reach = partial(address_of, name, address)
    if as_json or not (sys.stdin.isatty() and sys.stdout.isatty()):
        chat = Chat(reach, talk, wishes, Lines() if as_json else Plain())
        for line in piped():
            if not chat.take(line):
                return
        return
    terminal = Terminal()
    terminal.note(_greeting(asyncio.run(_status(reach()))))
    chat = Chat(reach, talk, wishes, terminal)
    for line in typed(state_dir() / _HISTORY, order_names()):
        if not chat.take_from_somebody(line):
            return


class Chat:
    """A conversation with a cluster, which is looked for anew with every question."""

    def __init__(
        self, reach: Callable[[], str], talk: Talk, wishes: dict[str, Any], stage: Stage
    ) -> None:
        self.talk = talk
        self._reach = reach
        self._wishes = wishes
        self._stage = stage

    def take(self, line: str) -> bool:
        """Do what a line says; whether the conversation goes on. Raises Dsv4Error."""
        change = obey(self.talk, line)
        if change is None:
            return True
        self.talk, act = change
        match act:
            case Put(question):
                self._ask(question)
            case Tell(text):
                self._stage.note(text)
            case Save(file, text):
                write_own(file, text)
                self._stage.note(f"saved in {file}")
            case Leave():
                return False
        return True

    def take_from_somebody(self, line: str) -> bool:
        """The same; what goes wrong is told, and Ctrl-C stops an answer. Neither ends anything."""
        try:
            return self.take(line)
        except Dsv4Error as error:
            self._stage.note(f"error: {error}")
        except KeyboardInterrupt:
            pass  # said where the answer was stopped
        return True

    def _ask(self, question: str) -> None:
        heard = Heard(self.talk, question, self._stage)
        ask = Ask(self.talk.asking(question), **self._wishes)
        try:
            asyncio.run(_hear(self._reach(), ask, heard, self._stage))
        except KeyboardInterrupt:
            self._stage.end(heard.turn)
            raise
        finally:
            self.talk = self.talk.with_turn(heard.turn)  # whatever there is of it was said
        self._stage.end(heard.turn)


async def _hear(address: str, ask: Ask, heard: Heard, stage: Stage) -> None:
    async with AsyncClient(address) as client, aclosing(pieces(client, ask, stage.note)) as coming:
        async for piece in coming:
            heard.add(piece)


async def _status(address: str) -> ClusterStatus:
    async with AsyncClient(address) as client:
        return await client.status()


def _greeting(found: ClusterStatus) -> str:
    ranks = sum(len(host.ranks) for host in found.hosts)
    count = "1 rank" if ranks == 1 else f"{ranks} ranks"
    return f"{found.name}: {found.model_path} on {count}, {found.phase}; /help, Ctrl-D leaves"
