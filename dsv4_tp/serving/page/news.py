"""/v2/cluster: the cluster as it is now; /v2/cluster/events: that again and again, and events."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import asdict
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from dsv4_tp.coordinator.coordinator import Coordinator
from dsv4_tp.serving.answers import Wire
from dsv4_tp.serving.page.view import look
from dsv4_tp.serving.replies import Events, beating

_LOOK_S = 1.0
_FIRST_EVENTS = 50  # that a reader is told of what was before

Json = dict[str, Any]


class News:
    """Tells what is known of the ranks, and never asks them."""

    def __init__(self, coordinator: Coordinator, *, look_s: float = _LOOK_S) -> None:
        """So long after a look there is another one, if no event comes before."""
        self._coordinator = coordinator
        self._look_s = look_s

    def routes(self) -> list[Route]:
        """Their paths."""
        return [Route("/v2/cluster", self._now), Route("/v2/cluster/events", self._always)]

    async def _now(self, _request: Request) -> Response:
        return JSONResponse(self._look(), headers={"cache-control": "no-store"})

    async def _always(self, _request: Request) -> Response:
        return Events(Wire(), self._told())

    async def _told(self) -> AsyncGenerator[Json]:
        """`cluster` at once and with whatever happens; `events` as they come, oldest first."""
        yield {"cluster": self._look()}
        witness = self._coordinator.witness
        entries = witness.entries(max(0, witness.last_seq - _FIRST_EVENTS), follow=True)
        async with aclosing(beating(entries, self._look_s)) as coming:
            async for each in coming:
                if each:
                    missed, events = each
                    yield {"missed": missed, "events": [asdict(event) for event in events]}
                yield {"cluster": self._look()}

    def _look(self) -> Json:
        return asdict(look(self._coordinator))
