"""One answer as it comes: thinking and text apart; where nothing comes, why."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Protocol

from dsv4_tp.cli.chat.talk import Talk, Turn
from dsv4_tp.client import Ask, AsyncClient, Finish, Piece
from dsv4_tp.errors import Dsv4Error, NotReadyError
from dsv4_tp.prompts import BUILT_IN, Content, Delta, Reading, Reasoning

_QUIET_S = 1.0  # without a word; then it is asked what the cluster is doing
_RETRY_S = 1.0
_READY = "ready"
_ENDING = ("draining", "failed")


class Voice(Protocol):
    """Where an answer is shown."""

    def thought(self, text: str) -> None:
        """The next of the thinking."""
        ...

    def said(self, text: str) -> None:
        """The next of the answer."""
        ...

    def note(self, text: str) -> None:
        """A line that is no part of it."""
        ...


class Heard:
    """An answer in the making."""

    def __init__(self, talk: Talk, question: str, voice: Voice) -> None:
        # No tools are offered, so the end of the thinking is the only tag there is, and that is
        # the same in every checkpoint.
        self._reading = Reading(BUILT_IN, thinking=talk.thinks, calls=False)
        self._question = question
        self._voice = voice
        self._reasoning, self._content = "", ""
        self._finish: Finish | None = None

    @property
    def turn(self) -> Turn:
        """What there is of it."""
        return Turn(self._question, self._content, self._reasoning, self._finish)

    def add(self, piece: Piece) -> None:
        """Show the next of it."""
        for delta in self._reading.add(piece.text):
            self._show(delta)
        if piece.finish:
            self._finish = piece.finish
            for delta in self._reading.finish():
                self._show(delta)

    def _show(self, delta: Delta) -> None:
        match delta:
            case Reasoning(text):
                self._reasoning += text
                self._voice.thought(text)
            case Content(text):
                self._content += text
                self._voice.said(text)
            case _:
                raise AssertionError("calls are not looked for")


async def pieces(
    client: AsyncClient, ask: Ask, tell: Callable[[str], None]
) -> AsyncGenerator[Piece]:
    """The text as it comes, from a cluster that may be away for a while; `tell` hears of that.

    Closing this before its end cancels the request on all ranks.
    """
    watch = _Watch(client, tell)
    while True:
        coming = _watched(client.stream(ask), watch)
        try:
            async for piece in coming:
                yield piece
            return
        except NotReadyError:  # comes before any piece
            if await watch.look() in _ENDING:
                raise
        finally:
            await coming.aclose()
        await asyncio.sleep(_RETRY_S)


class _Watch:
    """Tells of each phase of the cluster that keeps an answer waiting, once."""

    def __init__(self, client: AsyncClient, tell: Callable[[str], None]) -> None:
        self._client = client
        self._tell = tell
        self._phase = _READY

    async def look(self) -> str:
        """The phase now."""
        try:
            found = await self._client.status()
        except Dsv4Error:
            return self._phase  # the answer's own stream says what is wrong
        self.is_now(found.phase, found.failure)
        return found.phase

    def is_now(self, phase: str, failure: str = "") -> None:
        """The cluster was seen in this phase."""
        if phase != self._phase:
            self._phase = phase
            self._tell(_words(phase, failure))


def _words(phase: str, failure: str) -> str:
    if phase == _READY:
        return "the cluster is back"
    if phase in _ENDING:
        return f"the cluster is {phase}"
    why = f" ({failure})" if failure else ""
    return f"the cluster is {phase}; the answer comes when it is ready{why}"


async def _watched(stream: AsyncGenerator[Piece], watch: _Watch) -> AsyncGenerator[Piece]:
    """The pieces; where none comes for a while, the cluster is looked at."""
    async with aclosing(stream):
        while piece := await _next(stream, watch):
            watch.is_now(_READY)  # it may have come back between two looks
            yield piece


async def _next(stream: AsyncGenerator[Piece], watch: _Watch) -> Piece | None:
    coming = asyncio.ensure_future(anext(stream, None))
    try:
        while not (await asyncio.wait({coming}, timeout=_QUIET_S))[0]:
            await watch.look()
        return coming.result()
    finally:
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)
