"""The metrics of a cluster, by our own names."""

from collections.abc import Callable, Iterator

from prometheus_client import Metric
from prometheus_client.metrics_core import InfoMetricFamily

from dsv4_tp import core
from dsv4_tp.coordinator.cluster import CAUSES, Phase
from dsv4_tp.coordinator.members import Rank
from dsv4_tp.coordinator.requests import LOST, REFUSED
from dsv4_tp.serving.metrics.families import Rows, counter, gauge, histogram
from dsv4_tp.serving.metrics.look import Look

_REASONS = (*(reason.value for reason in core.FinishReason), REFUSED, LOST)
_RANK = ("rank", "host")


def own_families(look: Look) -> Iterator[Metric]:
    """All there are."""
    for part in (_cluster, _requests, _tokens, _times, _steps, _ranks, _hosts, _links):
        yield from part(look)


def _cluster(look: Look) -> Iterator[Metric]:
    state = look.state
    build = {"version": look.version, "model": look.model}
    yield InfoMetricFamily("dsv4tp_build", "What runs here", build)
    yield gauge("dsv4tp_ready", "1 if requests are taken, as /health/ready says", look.ready)
    phases = {(phase.value,): float(phase is state.phase) for phase in Phase}
    yield gauge("dsv4tp_phase", "1 for the phase that the cluster is in", phases, ("phase",))
    yield gauge("dsv4tp_epoch", "The epoch that runs, or ran last", state.epoch)
    restarts = {(cause,): float(look.restarts.get(cause, 0)) for cause in CAUSES}
    about = "Epochs that were started after another one, by what that one has failed of"
    yield counter("dsv4tp_restarts_total", about, restarts, ("cause",))
    answers = {(str(status),): float(count) for status, count in sorted(look.answers.items())}
    yield counter("dsv4tp_http_answers_total", "Answers over HTTP", answers, ("status",))


def _requests(look: Look) -> Iterator[Metric]:
    totals, requests = look.totals, look.state.requests
    yield gauge("dsv4tp_requests_running", "Requests that have a place", totals.running)
    yield gauge("dsv4tp_requests_waiting", "Requests in line", look.waiting)
    yield gauge("dsv4tp_requests_running_limit", "Places", requests.batch)
    yield gauge("dsv4tp_requests_waiting_limit", "Most in line; more are refused", requests.queue)
    ended = {(reason,): float(totals.ended.get(reason, 0)) for reason in _REASONS}
    about = "Requests that have ended; refused: by the ranks, lost: with them"
    yield counter("dsv4tp_requests_finished_total", about, ended, ("reason",))
    about = "Requests that went on in another epoch, each time"
    yield counter("dsv4tp_replayed_requests_total", about, totals.replayed)


def _tokens(look: Look) -> Iterator[Metric]:
    totals, tokens = look.totals, look.totals.tokens
    yield counter("dsv4tp_prompt_tokens_total", "Of requests that have ended", tokens.prompt)
    about = "Prompt tokens that an earlier prompt had begun with"
    yield counter("dsv4tp_cached_prompt_tokens_total", about, tokens.cached)
    yield counter("dsv4tp_generated_tokens_total", "As they come", totals.generated)
    yield counter("dsv4tp_drafted_tokens_total", "Guessed by the MTP stage", tokens.drafted)
    yield counter("dsv4tp_accepted_tokens_total", "Guessed right", tokens.accepted)


def _times(look: Look) -> Iterator[Metric]:
    totals, times = look.totals, look.totals.times
    told = (
        ("time_to_first_token", "From a request's arrival to its first token", times.first_token),
        ("inter_token", "Between two tokens of a text", totals.between_tokens),
        ("request_queue", "From a request's arrival to its start", times.queue),
        ("request_prefill", "Feeding a prompt", times.prefill),
        ("request_decode", "From the first token to the last", times.decode),
        ("request", "From a request's arrival to its end", times.whole),
    )
    for name, about, found in told:
        yield histogram(f"dsv4tp_{name}_seconds", about, found)


def _steps(look: Look) -> Iterator[Metric]:
    work = look.totals.work
    told: tuple[tuple[str, str, Callable[[core.Work], float]], ...] = (
        ("steps", "Steps of all ranks", lambda done: done.steps),
        ("step_seconds", "Time in steps", lambda done: done.time_s),
        ("step_rows", "Sequences in steps, in each anew", lambda done: done.rows),
        ("step_tokens", "Tokens fed of prompts, or told by decode steps", lambda done: done.tokens),
        ("collectives", "Exchanges between ranks", lambda done: done.collectives),
        ("wire_bytes", "Payload that the first rank has sent", lambda done: done.wire_bytes),
    )
    for name, about, of in told:
        rows = {(phase,): float(of(done)) for phase, done in work.items()}
        yield counter(f"dsv4tp_{name}_total", about, rows, ("phase",))


def _ranks(look: Look) -> Iterator[Metric]:
    def rows(of: Callable[[int, Rank], float]) -> Rows:
        ranks = sorted(look.state.ranks.items())
        return {(str(number), rank.host): of(number, rank) for number, rank in ranks}

    steps = rows(lambda _, rank: rank.report.decode_steps)
    yield counter("dsv4tp_rank_steps_total", "Decode steps in this epoch", steps, _RANK)
    fed = rows(lambda _, rank: rank.report.prefill_tokens)
    yield counter("dsv4tp_rank_prefill_tokens_total", "Tokens fed in this epoch", fed, _RANK)
    idle = rows(lambda number, _: look.idle_s.get(number, 0.0))
    about = "Since a rank's counters last moved; it grows while there is no work, too"
    yield gauge("dsv4tp_rank_progress_age_seconds", about, idle, _RANK)
    held = rows(lambda _, rank: rank.report.active_bytes)
    yield gauge("dsv4tp_rank_memory_bytes", "Memory that MLX holds", held, _RANK)
    peak = rows(lambda _, rank: rank.report.peak_bytes)
    yield gauge("dsv4tp_rank_memory_peak_bytes", "The most it has held", peak, _RANK)
    weights = rows(lambda _, rank: rank.weight_bytes or 0)
    yield gauge("dsv4tp_rank_weight_bytes", "Weights, as loaded", weights, _RANK)


def _hosts(look: Look) -> Iterator[Metric]:
    hosts = look.state.hosts
    up = {(name,): float(host.spoke and not host.lost) for name, host in hosts.items()}
    yield gauge("dsv4tp_host_up", "1 if the host's agent speaks", up, ("host",))
    ages = {(name,): look.now_s - host.seen_s for name, host in hosts.items()}
    yield gauge("dsv4tp_host_beat_age_seconds", "Since it spoke last", ages, ("host",))


def _links(look: Look) -> Iterator[Metric]:
    """Those that are watched, as each end hears the other."""
    links = {
        (name, link.host): float(not link.silent)
        for name, host in look.state.hosts.items()
        for link in host.links
        if link.quiet_s is not None
    }
    yield gauge("dsv4tp_link_up", "1 if the host hears its peer", links, ("host", "peer"))
