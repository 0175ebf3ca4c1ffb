"""Health and metrics: what those ask who watch over a cluster."""

import time
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from dsv4_tp import __version__
from dsv4_tp.config.cluster import MetricsAlias
from dsv4_tp.coordinator.cluster import refused
from dsv4_tp.coordinator.coordinator import Coordinator
from dsv4_tp.errors import BusyError, Dsv4Error
from dsv4_tp.serving.entrance import HEALTH, is_known
from dsv4_tp.serving.failures import RETRY_S
from dsv4_tp.serving.metrics.look import Look
from dsv4_tp.serving.metrics.page import PLAIN, page
from dsv4_tp.serving.paths import Path
from dsv4_tp.serving.shapes import Health, Live

METRICS = "/metrics"
PROBES = (*HEALTH, METRICS)


class Probes:
    """They look at what is known of the ranks, and never ask them."""

    def __init__(
        self, coordinator: Coordinator, answers: Mapping[int, int], alias: MetricsAlias | None
    ) -> None:
        """`answers` over HTTP are counted by status, elsewhere."""
        self._coordinator = coordinator
        self._answers = answers
        self._alias = alias

    def paths(self) -> list[Path]:
        """Their rows."""
        ready, live, ready_too = HEALTH
        says = "Whether the cluster takes requests."
        return [
            Path("GET", ready, self._ready, says, Health, unready=Health),
            Path("GET", live, self._live, "The process answers.", Live),
            Path("GET", ready_too, self._ready, says, Health, unready=Health),
            Path("GET", METRICS, self._metrics, "For Prometheus.", PLAIN),
        ]

    async def _live(self, _request: Request) -> Response:
        return JSONResponse({"state": "live"})

    async def _ready(self, request: Request) -> Response:
        """Who has no key learns no hosts and no reasons."""
        state = self._coordinator.state
        error = self._refusal()
        body: dict[str, Any] = {"state": state.phase.value, "epoch": state.epoch}
        if is_known(request.scope):
            ranks = [
                {"rank": number, "host": rank.host, "phase": rank.report.phase}
                for number, rank in sorted(state.ranks.items())
            ]
            body |= {"ranks": ranks, "reason": error and str(error)}
        if error is None:
            return JSONResponse(body)
        return JSONResponse(body, 503, {"retry-after": str(RETRY_S)})

    async def _metrics(self, request: Request) -> Response:
        return page(self._look(), self._alias, request.headers.get("accept", ""))

    def _refusal(self) -> Dsv4Error | None:
        """Why the cluster is not ready, if it is not; busy is ready."""
        error = refused(self._coordinator.state)
        return None if isinstance(error, BusyError) else error

    def _look(self) -> Look:
        coordinator, now_s = self._coordinator, time.monotonic()
        witness, state = coordinator.witness, coordinator.state
        return Look(
            state=state,
            ready=self._refusal() is None,
            now_s=now_s,
            idle_s={number: witness.idle_s(number, now_s) for number in state.ranks},
            restarts=witness.restarts,
            answers=self._answers,
            model=coordinator.setup.model_name,
            version=__version__,
        )
