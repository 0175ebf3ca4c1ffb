"""The same numbers by vLLM's names, for dashboards that know those."""

from collections.abc import Iterator

from prometheus_client import Metric

from dsv4_tp.core import FinishReason
from dsv4_tp.serving.metrics.families import counter, gauge, histogram
from dsv4_tp.serving.metrics.look import Look

_ENDED = (
    (FinishReason.STOP, "stop"),
    (FinishReason.LENGTH, "length"),
    (FinishReason.CANCELLED, "abort"),
)


def vllm_families(look: Look) -> Iterator[Metric]:
    """Those that mean the same here; what vLLM has and we do not know is left out."""
    yield from _counts(look)
    yield from _times(look)


def _counts(look: Look) -> Iterator[Metric]:
    totals, tokens = look.totals, look.totals.tokens
    gauges = (("num_requests_running", totals.running), ("num_requests_waiting", look.waiting))
    for name, number in gauges:
        yield gauge(f"vllm:{name}", "As vLLM tells it", {(look.model,): number}, ("model_name",))
    ended = {
        (look.model, word): float(totals.ended.get(reason.value, 0)) for reason, word in _ENDED
    }
    labels = ("model_name", "finished_reason")
    yield counter("vllm:request_success_total", "As vLLM tells it", ended, labels)
    counts = (
        ("prompt_tokens", tokens.prompt),
        ("generation_tokens", totals.generated),
        ("prefix_cache_queries", tokens.prompt),
        ("prefix_cache_hits", tokens.cached),
        ("spec_decode_num_draft_tokens", tokens.drafted),
        ("spec_decode_num_accepted_tokens", tokens.accepted),
    )
    for name, number in counts:
        rows = {(look.model,): float(number)}
        yield counter(f"vllm:{name}_total", "As vLLM tells it", rows, ("model_name",))


def _times(look: Look) -> Iterator[Metric]:
    totals, times = look.totals, look.totals.times
    told = (
        ("time_to_first_token", times.first_token),
        ("inter_token_latency", totals.between_tokens),
        ("e2e_request_latency", times.whole),
        ("request_queue_time", times.queue),
        ("request_prefill_time", times.prefill),
        ("request_decode_time", times.decode),
    )
    for name, found in told:
        labels = {"model_name": look.model}
        yield histogram(f"vllm:{name}_seconds", "As vLLM tells it", found, labels)
