"""The doctor at work: evidence, rows, and a trial of the ring where nothing speaks against it."""

from collections.abc import Mapping
from dataclasses import dataclass

from dsv4_tp.config import ClusterConfig
from dsv4_tp.doctor.checks.fabric import NOT_TRIED, rdma_asked
from dsv4_tp.doctor.evidence import Case, Found
from dsv4_tp.doctor.gather import Needs, gather, look, sessions_with, try_ring
from dsv4_tp.doctor.ladder import Row, climb
from dsv4_tp.doctor.rungs import LADDER
from dsv4_tp.errors import PreflightError
from dsv4_tp.macs.links import Fabric, choose_fabric, find_cables


@dataclass(frozen=True, slots=True)
class Examination:
    """What was found, and what it means."""

    case: Case
    rows: tuple[Row, ...]


async def examine(config: ClusterConfig, needs: Needs) -> Examination:
    """Look at every host of `config`; nothing is left there, and nothing was changed.

    `needs` tells the bytes that each host's ranks need on such devices; empty if nobody knows.
    """
    async with sessions_with(config) as (sessions, refused):
        case = await gather(config, sessions, refused, needs)
        rows = climb(case, LADDER)
        if any(row.evidence == NOT_TRIED for row in rows):  # and nothing speaks against it
            case = await try_ring(case, sessions, rdma_asked(case))
            rows = climb(case, LADDER)
    return Examination(case, rows)


async def find_fabric(config: ClusterConfig) -> Fabric:
    """How JACCL could join the hosts, by what their Macs say of cables and devices now.

    Raises:
        PreflightError: a host does not answer or is no Mac, or cables are missing.
    """
    async with sessions_with(config) as (sessions, refused):
        return fabric_of(await look(config, sessions, refused))


def fabric_of(found: Mapping[str, Found]) -> Fabric:
    """How JACCL could join these hosts, ranks in their order; see `find_fabric`."""
    for name, one in found.items():
        if one.refusal is not None:
            raise PreflightError(f"{name}: {one.refusal.words}; try: dsv4-tp doctor")
        if one.mac is None:
            raise PreflightError(f"{name}: no Mac, so it has no RDMA over Thunderbolt")
    macs = {name: one.mac for name, one in found.items() if one.mac}
    return choose_fabric(tuple(macs), find_cables(macs))
