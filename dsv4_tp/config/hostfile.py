"""MLX's hostfiles, as `mlx.launch` reads them, to cluster.yaml and back.

What one side knows and the other has no word for is named, never dropped in silence.
"""

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, fields
from ipaddress import AddressValueError, IPv4Address
from pathlib import Path
from typing import Any, cast

import yaml

from dsv4_tp.config.cluster import LOCALHOST, ClusterConfig, Host, Rank
from dsv4_tp.config.rdma import given_rdma
from dsv4_tp.core import Backend, Row
from dsv4_tp.errors import ConfigError

_RDMA = (Backend.JACCL, Backend.JACCL_RING)
_LOCAL = (LOCALHOST, "127.0.0.1")
_TOP = ("backend", "envs", "hosts")
_HOST = ("ssh", "ips", "rdma")
_PLACES = ("hosts", "ranks", "model")  # of ClusterConfig, each with words of its own here


@dataclass(frozen=True, slots=True)
class Translation:
    """A file's text in the other format, and what of the first one is not in it."""

    text: str
    lost: tuple[str, ...]  # one line each


@dataclass(frozen=True, slots=True)
class Entry:
    """One rank of a hostfile."""

    ssh: str
    ips: tuple[str, ...] = ()
    rdma: tuple[object, ...] = ()


@dataclass(frozen=True, slots=True)
class Hostfile:
    """A hostfile; `unknown` are keys that MLX does not read either."""

    hosts: tuple[Entry, ...]
    backend: str = ""  # empty: MLX's choice
    envs: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()


def read_hostfile(file: Path) -> Hostfile:
    """The hostfile: a list of hosts, or an object with `hosts`.

    Raises:
        ConfigError: it cannot be read or is none; names file, place and value.
    """
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{file}: not JSON: {error}") from error
    top = cast("dict[str, Any]", data if isinstance(data, dict) else {"hosts": data})
    hosts = top.get("hosts")
    if not isinstance(hosts, list) or not hosts:
        raise ConfigError(f"{file}: hosts: {hosts!r:.60}; expected a list of hosts")
    entries = cast("list[object]", hosts)
    backend = top.get("backend", "")
    if not isinstance(backend, str):
        raise ConfigError(f"{file}: backend: {backend!r:.60}; expected text")
    return Hostfile(
        hosts=tuple(_entry(f"{file}: hosts[{n}]", entry) for n, entry in enumerate(entries)),
        backend=backend,
        envs=_texts(f"{file}: envs", top.get("envs", [])),
        unknown=tuple(_unknown(top, entries)),
    )


def cluster_of_hostfile(found: Hostfile, model: str) -> Translation:
    """cluster.yaml for the hosts of a hostfile, which names no model."""
    by_rdma = found.backend in _RDMA
    words = {
        "version": 1,
        "model": {"path": model},
        **({"backend": found.backend} if by_rdma else {}),
        "hosts": [_host_words(entry, by_rdma=by_rdma) for entry in found.hosts],
    }
    return Translation(yaml.safe_dump(words, sort_keys=False), tuple(_lost_in_yaml(found)))


def hostfile_of_cluster(
    config: ClusterConfig, *, backend: str = "", rdma: Mapping[str, Row] | None = None
) -> Translation:
    """The hostfile of a cluster, one entry for each rank.

    `rdma` holds the rows of the device matrix by host, in the order in which ranks are to be; and
    `backend` is what they are for. Without it they are those of the cluster, if it has any.

    Raises:
        ConfigError: those do not fit together.
    """
    ranks, given = list(config.ranks), given_rdma(config)
    if rdma:
        ranks.sort(key=lambda rank: list(rdma).index(rank.host.name))
    hosts = [
        {
            "ssh": rank.host.ssh,
            "ips": [rank.host.data_ip] if rank.host.data_ip else [],
            "rdma": list(rdma.get(rank.host.name, ()) if rdma else rank.rdma if given else ()),
        }
        for rank in ranks
    ]
    own = _RDMA[given.ring] if given else Backend.RING
    text = json.dumps({"backend": backend or own, "envs": [], "hosts": hosts}, indent=2)
    return Translation(f"{text}\n", tuple(_lost_in_hostfile(config, by_rdma=bool(rdma or given))))


def _entry(where: str, entry: object) -> Entry:
    if not isinstance(entry, dict):
        raise ConfigError(f"{where}: {entry!r:.60}; expected an object with `ssh`")
    words = cast("dict[str, Any]", entry)
    ssh = words.get("ssh")
    if not isinstance(ssh, str) or not ssh or ssh.startswith("-"):
        raise ConfigError(f"{where}.ssh: {ssh!r:.60}; expected an ssh destination")
    rdma = words.get("rdma", [])
    if not isinstance(rdma, list):
        raise ConfigError(f"{where}.rdma: {rdma!r:.60}; expected a list")
    ips = _texts(f"{where}.ips", words.get("ips", []))
    return Entry(ssh, ips, tuple(cast("list[object]", rdma)))


def _texts(where: str, value: object) -> tuple[str, ...]:
    if isinstance(value, list):
        texts = cast("list[object]", value)
        if all(isinstance(text, str) for text in texts):
            return tuple(cast("list[str]", texts))
    raise ConfigError(f"{where}: {value!r:.60}; expected a list of texts")


def _unknown(top: Mapping[str, Any], entries: Sequence[object]) -> Iterator[str]:
    yield from (key for key in top if key not in _TOP)
    for number, entry in enumerate(entries):
        words = cast("dict[str, Any]", entry)
        yield from (f"hosts[{number}].{key}" for key in words if key not in _HOST)


def _host_words(entry: Entry, *, by_rdma: bool) -> Mapping[str, object]:
    """Rows of devices are not looked at: reading cluster.yaml does that."""
    ssh = LOCALHOST if entry.ssh in _LOCAL else entry.ssh
    name = ssh.rpartition("@")[2]
    address = {"address": entry.ips[0]} if _is_address(entry) else {}
    rdma = {"rdma": [*entry.rdma]} if by_rdma and any(entry.rdma) else {}
    return {"name": name} | ({"ssh": ssh} if ssh != name else {}) | address | rdma


def _is_address(entry: Entry) -> bool:
    """Whether its first address is one that cluster.yaml takes."""
    try:
        return bool(entry.ips) and bool(IPv4Address(entry.ips[0]))
    except AddressValueError:
        return False


def _lost_in_yaml(found: Hostfile) -> Iterator[str]:
    if found.backend not in ("", Backend.RING, *_RDMA):
        yield f"backend {found.backend}: the ranks will be joined by ring, over TCP"
    for env in found.envs:
        yield f"envs {env}: cluster.yaml sets no variables"
    for entry in found.hosts:
        left = entry.ips[1:] if _is_address(entry) else entry.ips
        if left:
            yield f"{entry.ssh}: ips {', '.join(left)}: a host has one IPv4 `address`"
        if any(entry.rdma) and found.backend not in _RDMA:
            yield f"{entry.ssh}: rdma: the ranks will be joined by ring, over TCP"
    yield from (f"{key}: MLX does not know it either" for key in found.unknown)


def _lost_in_hostfile(config: ClusterConfig, *, by_rdma: bool) -> Iterator[str]:
    yield f"model.path {config.model.path}: it is for the command that mlx.launch is given"
    for host in config.hosts:
        if host.data_ip is None:
            yield f"{host.name}: no address, which MLX's ring needs"
        elif host.address not in (None, host.data_ip):
            yield f"{host.name}: address {host.address}: ips has that of the fabric"
        yield from (f"{host.name}: {word}: mlx.launch takes one for all" for word in _own(host))
    for number, rank in enumerate(config.ranks):
        if rank.weight != Rank(rank.host).weight:
            yield f"rank {number}: weight {rank.weight}: MLX knows no shares"
    if config.ports.data is not None:
        yield f"ports.data {config.ports.data}: give mlx.launch --starting-port"
    if config.backend is not Backend.RING and not by_rdma:
        yield f"backend {config.backend}: give --rdma, and the cables are looked at"
    for field in fields(config):
        if field.name not in (*_PLACES, "ports", "backend") and _is_set(config, field):
            yield f"{field.name}: a hostfile has no such setting"


def _own(host: Host) -> Iterator[str]:
    """What is said of this host alone."""
    if host.python != sys.executable:
        yield f"python {host.python}"
    if host.workdir is not None:
        yield f"workdir {host.workdir}"
    if host.model_path is not None:
        yield f"model_path {host.model_path}"


def _is_set(config: ClusterConfig, field: Field[Any]) -> bool:
    return field.default is not MISSING and getattr(config, field.name) != field.default
