"""From what is asked to what is heard, whichever way it came: the one path of every text."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

from dsv4_tp.asks import Ask, Conversation, Piece
from dsv4_tp.coordinator.answer import Answer
from dsv4_tp.coordinator.coordinator import Coordinator
from dsv4_tp.coordinator.prompts import Prompts
from dsv4_tp.core import FinishEvent, FinishReason, Request, ScoreEvent, TokenEvent, Told
from dsv4_tp.errors import ContextError
from dsv4_tp.prompts import Reading


class Texts:
    """The texts of one cluster."""

    def __init__(self, coordinator: Coordinator, prompts: Prompts) -> None:
        self._coordinator = coordinator
        self._prompts = prompts

    def word(self, token: int) -> str:
        """A token by itself."""
        return self._prompts.word(token)

    def count(self, talk: Conversation) -> int:
        """How many tokens it has; RequestError for one that cannot be written."""
        return self._prompts.count(talk)

    def thinks(self, talk: Conversation) -> bool:
        """Whether the answer begins with its thinking; RequestError for an unknown effort."""
        return self._prompts.thinks(talk)

    def reading(self, *, thinking: bool, calls: bool) -> Reading:
        """Takes the text of an answer apart."""
        return self._prompts.reading(thinking=thinking, calls=calls)

    @property
    def closing(self) -> int:
        """The token that ends the thinking."""
        return self._prompts.closing

    async def stream(self, ask: Ask, *, request_id: str | None = None) -> AsyncGenerator[Piece]:
        """The text as it comes; closing this before its end cancels the request on the ranks.

        `request_id` is what it is called here and on the ranks, unlike any other; None: a new one.
        Raises RequestError for what cannot be served, of which ContextError is what is too long,
        and all that `Coordinator.serve` raises.
        """
        answer, limit_s = self._prompts.answer(ask), self._prompts.time_limit_s(ask)
        # Beside the loop: a long prompt takes seconds, and hosts without a beat end their ranks.
        wanted = await asyncio.to_thread(self._prompts.request, ask, request_id)
        self._check_room(ask, wanted)
        async with aclosing(self._coordinator.serve(wanted, time_limit_s=limit_s)) as events:
            async for event in events:
                if piece := self._heard(answer, event):
                    yield piece

    def _check_room(self, ask: Ask, wanted: Request) -> None:
        context = self._coordinator.setup.context
        if len(wanted.prompt) < context:
            return
        what = "messages have" if isinstance(ask.prompt, Conversation) else "prompt has"
        raise ContextError(
            f"the {what} {len(wanted.prompt)} tokens and the context is {context}; "
            "shorten it so that room for an answer is left"
        )

    def _heard(self, answer: Answer, event: Told) -> Piece | None:
        match event:
            case TokenEvent():
                piece = answer.token(event)
                if answer.stopped:
                    self._coordinator.cancel(event.request_id, FinishReason.STOP)
                return piece
            case FinishEvent():
                return answer.finish(event)
            case ScoreEvent():
                return None
