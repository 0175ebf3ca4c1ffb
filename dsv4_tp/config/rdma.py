"""JACCL's device matrix where cluster.yaml gives it: a row for each rank, and whether they fit."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations
from typing import cast

from dsv4_tp.config.cluster import ClusterConfig
from dsv4_tp.config.nodes import Section
from dsv4_tp.core import MOST_IN_MESH, Backend, Devices, Rdma, Row
from dsv4_tp.errors import ConfigError

_ROW = "for each rank the device towards it, such as rdma_en2, a list of them, or null for itself"


def read_row(section: Section, key: str) -> Row:
    """One rank's devices; none if the file names none."""
    if key not in section.values:
        return ()
    found = section.plain(key)
    cells = [*map(_cell, cast(list[object], found))] if isinstance(found, list) else []
    if not cells or "" in cells:
        raise section.wrong(key, _ROW)
    return tuple(cells)


def given_rdma(config: ClusterConfig) -> Rdma | None:
    """How JACCL is to join the ranks, as the hosts' rows say; None: they say nothing, or need not.

    Raises:
        ConfigError: the rows do not fit together; names the ranks and what is missing.
    """
    rows = tuple(rank.rdma for rank in config.ranks)
    if config.backend is Backend.RING or len(rows) == 1 or not any(rows):
        return None
    names = [f"rank {number} on {rank.host.name}" for number, rank in enumerate(config.ranks)]
    _refuse(_misshapen(rows, names))
    gaps = [*_gaps(rows, names, combinations(range(len(rows)), 2))]
    if len(rows) > MOST_IN_MESH:
        gaps.append(f"{len(rows)} ranks; `jaccl` joins at most {MOST_IN_MESH}: use `jaccl-ring`")
    if config.backend is Backend.JACCL:
        _refuse(gaps)
    if config.backend is not Backend.JACCL_RING and not gaps:
        return Rdma(False, rows)
    _refuse(_gaps(rows, names, [(rank, (rank + 1) % len(rows)) for rank in range(len(rows))]))
    return Rdma(True, rows)


def _cell(value: object) -> Devices:
    """One cell; an empty text for what is none."""
    if value is None:
        return None
    names = cast(list[object], value if isinstance(value, list) else [value])
    if not names or not all(isinstance(name, str) and name for name in names):
        return ""
    texts = tuple(cast(list[str], names))
    return texts[0] if len(texts) == 1 else texts


def _misshapen(rows: Sequence[Row], names: Sequence[str]) -> Iterator[str]:
    for number, (row, name) in enumerate(zip(rows, names, strict=True)):
        if not row:
            advice = "give one to every host, or to none and they are found at each start"
            yield f"{name} has no `rdma`; {advice}"
        elif len(row) != len(rows):
            yield f"`rdma` of {name} names {len(row)} ranks, and there are {len(rows)}"
        elif row[number] is not None:
            yield f"`rdma` of {name}: {row[number]} is towards itself; write null there"
        devices = [device for cell in row for device in _names(cell)]
        if twice := [device for device in devices if devices.count(device) > 1]:
            yield f"`rdma` of {name} names {twice[0]} twice, and a port has one cable"


def _gaps(
    rows: Sequence[Row], names: Sequence[str], pairs: Iterable[tuple[int, int]]
) -> Iterator[str]:
    """What speaks against joining these pairs."""
    ways = [way for one, other in pairs for way in ((one, other), (other, one))]
    counts = {(near, far): len(_names(rows[near][far])) for near, far in ways}
    for (near, far), count in counts.items():
        if not count:
            yield f"`rdma` of {names[near]} names no device towards {names[far]}"
    if len({*counts.values()}) > 1:  # cables are paired by their order
        near, far = min(counts, key=lambda way: counts[way])
        fewer = f"{names[near]} towards {names[far]}"
        yield f"`rdma` names fewer devices of {fewer} than of other pairs; name as many of each"


def _names(devices: Devices) -> tuple[str, ...]:
    return (devices,) if isinstance(devices, str) else devices or ()


def _refuse(problems: Iterable[str]) -> None:
    if first := next(iter(problems), None):
        raise ConfigError(f"hosts: {first}")
