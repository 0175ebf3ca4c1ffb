"""A cluster's status as people read it."""

from dsv4_tp.cli.tables import gigabytes, table
from dsv4_tp.client import ClusterStatus, HostStatus, RankStatus

_HEAD = ("host", "rank", "phase", "loaded", "GB planned", "GB held", "GB peak", "prefill", "steps")


def status_page(found: ClusterStatus) -> str:
    """The cluster in a line, why it failed if it did, then a row for each rank."""
    words = f"{found.name}: {found.phase}, epoch {found.epoch}, {found.dtype}, {found.model_path}"
    failure = [f"failed: {found.failure}"] if found.failure else []
    return "\n".join([words, *failure, rank_table(found)])


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
