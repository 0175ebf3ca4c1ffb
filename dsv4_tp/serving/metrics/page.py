"""What /metrics answers: the text format of Prometheus, or OpenMetrics if that is accepted."""

from collections.abc import Iterator
from typing import cast

from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, Metric, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector
from starlette.responses import Response

from dsv4_tp.config.cluster import MetricsAlias
from dsv4_tp.serving.metrics.look import Look
from dsv4_tp.serving.metrics.own import own_families
from dsv4_tp.serving.metrics.vllm import vllm_families

_OPEN = "application/openmetrics-text"
PLAIN = CONTENT_TYPE_PLAIN_0_0_4


def page(look: Look, alias: MetricsAlias | None, accept: str) -> Response:
    """Everything, by our names, and by those of `alias`."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(look, alias))
    if _OPEN in accept:
        # All names are plain ones; the other ways to escape them change the colon of vLLM's.
        text = cast(bytes, openmetrics.generate_latest(registry, escaping=openmetrics.ALLOWUTF8))
        return Response(text, headers={"content-type": openmetrics.CONTENT_TYPE_LATEST})
    return Response(generate_latest(registry), headers={"content-type": PLAIN})


class _Collector(Collector):
    def __init__(self, look: Look, alias: MetricsAlias | None) -> None:
        self._look = look
        self._alias = alias

    def collect(self) -> Iterator[Metric]:
        """The families."""
        yield from own_families(self._look)
        if self._alias is MetricsAlias.VLLM:
            yield from vllm_families(self._look)
