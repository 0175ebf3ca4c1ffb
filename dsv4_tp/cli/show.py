"""A cluster's status, and what a text cost, as people read it."""

from dsv4_tp.cli.tables import gigabytes, table
from dsv4_tp.client import ClusterStatus, Finish, HostStatus, RankStatus, Stats, Totals
from dsv4_tp.core import FinishReason, Work

_HEAD = ("host", "rank", "phase", "loaded", "GB planned", "GB held", "GB peak", "prefill", "steps")
_LONG_S = 0.2  # in line; less is not worth a word


def status_page(found: ClusterStatus) -> str:
    """The cluster in a line, what failed if anything did, then a row for each rank."""
    words = f"{found.name}: {found.phase}, epoch {found.epoch}, {found.dtype}, {found.model_path}"
    endpoint = [f"openai endpoint: {found.endpoint}"] if found.endpoint else []
    return "\n".join(
        [words, *_failures(found), *endpoint, *_totals(found.totals), rank_table(found)]
    )


def _failures(found: ClusterStatus) -> list[str]:
    if found.phase == "failed":
        return [f"failed: {found.failure}"]
    times = "once" if found.restarts == 1 else f"{found.restarts} times"
    restarts = [f"restarted {times}"] if found.restarts else []
    last = [f"last failure: {found.failure}"] if found.failure else []
    return [*restarts, *last]


def _totals(totals: Totals) -> list[str]:
    """Requests in a line, and a line for each kind of step that there was."""
    ended = ", ".join(f"{count} {reason}" for reason, count in sorted(totals.ended.items()))
    words = f"requests: {totals.running} running, {totals.waiting} waiting, ended: {ended or 0}"
    kinds = (("prefill", totals.prefill), ("decode", totals.decode))
    return [words, *(f"{name}: {_work(work)}" for name, work in kinds if work.steps)]


def _work(work: Work) -> str:
    return (
        f"{work.tokens} tokens in {work.steps} steps of {work.rows / work.steps:.1f} sequences, "
        f"{work.tokens / work.time_s:.1f} tokens/s; "
        f"each step {work.collectives / work.steps:.1f} collectives, "
        f"{work.wire_bytes / work.steps:,.0f} bytes sent by each rank"
    )


def rank_table(found: ClusterStatus) -> str:
    """A row for each rank, in order of ranks."""
    placed = [(rank, host) for host in found.hosts for rank in host.ranks]
    placed.sort(key=lambda pair: pair[0].report.rank)
    return table(_HEAD, [_row(rank, host) for rank, host in placed])


def _row(rank: RankStatus, host: HostStatus) -> list[str]:
    report = rank.report
    loaded = report.bytes_loaded / report.bytes_total if report.bytes_total else 0.0
    memory = (rank.planned_bytes, report.active_bytes, report.peak_bytes)
    counters = (report.prefill_tokens, report.decode_steps)
    return [
        host.name,
        str(report.rank),
        report.phase,
        f"{loaded:.0%}",
        *map(gigabytes, memory),
        *map(str, counters),
    ]


def cost(finish: Finish) -> str:
    """What a text cost, in a line."""
    stats = finish.stats
    cached = f", {stats.cached_tokens} of them known," if stats.cached_tokens else ""
    waited = f"waited {stats.queue_s:.2f} s; " if stats.queue_s >= _LONG_S else ""
    again = f"{_again(stats)}; " if stats.restarts else ""
    return (
        f"{waited}{again}"
        f"prompt: {stats.prompt_tokens} tokens{cached} in {stats.prefill_s:.2f} s; "
        f"text: {stats.generated_tokens} tokens in {stats.decode_s:.2f} s, "
        f"{stats.tokens_per_s:.1f} tokens/s, ended by {finish.reason}"
    )


def brief(finish: Finish) -> str:
    """The same in a few words, for a text like most."""
    stats = finish.stats
    first = "" if stats.first_token_s is None else f", the first after {stats.first_token_s:.2f} s"
    early = "" if finish.reason is FinishReason.STOP else f"; ended by {finish.reason}"
    again = f"; {_again(stats)}" if stats.restarts else ""
    return (
        f"{stats.generated_tokens} tokens, {stats.tokens_per_s:.1f} tokens/s{first}{early}{again}"
    )


def _again(stats: Stats) -> str:
    times = "once" if stats.restarts == 1 else f"{stats.restarts} times"
    return f"went on {times} with ranks that were started again"
