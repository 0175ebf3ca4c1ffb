"""What the memory of the hosts allows: the roofline of decoding. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dsv4_tp.client import HostStatus
from dsv4_tp.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Bound:
    """Of the decode steps of one cell."""

    rank_bytes: tuple[int, ...]  # that each rank reads for a step
    tokens_per_s: float | None  # that the slowest rank could read for; None: not known
    share: float | None  # of that, that was measured


def bound(
    rank_bytes: Sequence[int], speeds: Sequence[float] | None, batch: int, measured: float | None
) -> Bound:
    """The roofline of steps for which ranks read so many bytes, at `speeds` in bytes per second."""
    if speeds is None:
        return Bound(tuple(rank_bytes), None, None)
    step_s = max(size / speed for size, speed in zip(rank_bytes, speeds, strict=True))
    possible = batch / step_s
    return Bound(tuple(rank_bytes), possible, None if measured is None else measured / possible)


def speeds_of(bandwidths: Sequence[float], hosts: Sequence[HostStatus]) -> tuple[float, ...]:
    """By rank, of one number for each host; those of one host share its bandwidth.

    Raises:
        ConfigError: there are more or fewer hosts than numbers.
    """
    if len(bandwidths) != len(hosts):
        counts = f"{len(bandwidths)} values for {len(hosts)} hosts"
        names = ", ".join(host.name for host in hosts)
        raise ConfigError(f"--bandwidth has {counts}; give one for each of {names}")
    speeds: Mapping[int, float] = {
        rank.report.rank: width / len(host.ranks)
        for host, width in zip(hosts, bandwidths, strict=True)
        for rank in host.ranks
    }
    return tuple(speeds[rank] for rank in sorted(speeds))
