"""cluster.yaml (schema version 1) or a list of hosts -> ClusterConfig."""

import re
import sys
from dataclasses import fields, replace
from enum import StrEnum
from ipaddress import AddressValueError, IPv4Address
from pathlib import Path

from dsv4_tp.config.cluster import (
    BATCH,
    DEMO,
    LOCALHOST,
    MAX_RANKS,
    MOST_BATCH,
    MOST_DRAFTS,
    QUEUE,
    ClusterConfig,
    Host,
    ModelConfig,
    Ports,
    PrefixCache,
    Rank,
    Restart,
    RestartPolicy,
    Timeouts,
    check_ranks,
)
from dsv4_tp.config.http import read_http
from dsv4_tp.config.nodes import Section, read_yaml
from dsv4_tp.config.rdma import read_row
from dsv4_tp.core import AttentionSplit, Backend, CacheRows, DType, ExpertSplit, Kernels
from dsv4_tp.errors import ConfigError

_VERSION = 1
_GB = 10**9
_MAX_PORT = 65535
_LOCAL_NAMES = (LOCALHOST, "127.0.0.1")
_NO_DASH = "an ssh destination, which no dash begins"  # ssh would take it for an option
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_TOP = ("version", "name", "model", "hosts", "backend", "ports", "split", "timeouts")
_REQUESTS = ("prefill_chunk", "context", "batch", "mtp", "queue", "time_limit_s")
_HOST = ("name", "ssh", "address", "fabric", "python", "workdir", "model_path", "weight", "rdma")


class DTypeChoice(StrEnum):
    """What a user may say of the dtype."""

    AUTO = "auto"
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"

    @property
    def dtype(self) -> DType | None:
        """The dtype; None for auto."""
        return None if self is DTypeChoice.AUTO else DType(self)


def read_cluster(file: Path) -> ClusterConfig:
    """The cluster that `file` describes.

    Raises:
        ConfigError: names file, line, path and value of what is wrong.
    """
    top = read_yaml(file)
    top.only((*_TOP, *_REQUESTS, "cache_rows", "kernels", "prefix_cache", "restart", "http"))
    _check_version(top)
    queue = top.integer("queue", least=0)
    ranks = tuple(_rank(section) for section in top.sections("hosts"))
    experts, attention = _split(top.section("split"))
    return ClusterConfig(
        hosts=check_ranks(ranks, f"{file}: hosts"),
        ranks=ranks,
        model=_model(top.section("model")),
        name=_name(top),
        backend=top.choice("backend", Backend) or Backend.RING,
        experts=experts,
        attention=attention,
        ports=_ports(top.section("ports")),
        http=read_http(top.section("http")),
        timeouts=_timeouts(top.section("timeouts")),
        prefill_chunk=top.integer("prefill_chunk"),
        context=top.integer("context"),
        cache_rows=top.choice("cache_rows", CacheRows) or CacheRows.EXACT,
        kernels=top.choice("kernels", Kernels) or Kernels.PLAIN,
        batch=top.integer("batch", most=MOST_BATCH) or BATCH,
        mtp=top.integer("mtp", most=MOST_DRAFTS) or 0,
        queue=QUEUE if queue is None else queue,
        time_limit_s=top.seconds("time_limit_s"),
        prefix_cache=_prefix_cache(top.section("prefix_cache")),
        restart=_restart(top.section("restart")),
    )


def cluster_of_hosts(hosts: str, model: ModelConfig) -> ClusterConfig:
    """The cluster of `--hosts a,b`: one rank per mention, all settings at their defaults.

    Raises:
        ConfigError: an empty name, a remote host named twice, too many ranks.
    """
    names = [name.strip() for name in hosts.split(",")]
    if not all(names):
        raise ConfigError(f"--hosts {hosts!r}: a host has no name; expected a,b")
    if any(name.startswith("-") for name in names):
        raise ConfigError(f"--hosts {hosts!r}: expected {_NO_DASH}")
    ranks = tuple(Rank(_host(name)) for name in names)
    return ClusterConfig(hosts=check_ranks(ranks, "--hosts"), ranks=ranks, model=model)


def parse_weights(text: str) -> tuple[int, ...]:
    """The ranks' weights of `--split 3:5`.

    Raises:
        ConfigError: not positive integers joined by colons, or too many.
    """
    words = text.split(":")
    if not all(word.isascii() and word.isdecimal() and int(word) > 0 for word in words):
        raise ConfigError(f"--split {text!r}: expected positive integers such as 3:5")
    if len(words) > MAX_RANKS:
        raise ConfigError(f"--split {text!r}: {len(words)} ranks; a cluster has 1 to {MAX_RANKS}")
    return tuple(int(word) for word in words)


def check_name(text: str) -> str:
    """The cluster's name, which is a file's name too.

    Raises:
        ConfigError: not letters, digits, dots, dashes and underscores.
    """
    if not _NAME.fullmatch(text):
        raise ConfigError(f"name {text!r}: expected letters, digits, dots, dashes, underscores")
    return text


def model_path(text: str, base: Path) -> str:
    """The path of a model as written by a user in directory `base`; DEMO stays as it is."""
    return text if text == DEMO else str((base / Path(text).expanduser()).absolute())


def _check_version(top: Section) -> None:
    version = top.integer("version")
    if version is None:
        raise top.missing("version", f"write `version: {_VERSION}`")
    if version != _VERSION:
        raise top.wrong("version", str(_VERSION))


def _name(top: Section) -> str | None:
    text = top.text("name")
    if text is not None and not _NAME.fullmatch(text):
        raise top.wrong("name", "letters, digits, dots, dashes, underscores")
    return text


def _model(section: Section) -> ModelConfig:
    section.only(("path", "dtype"))
    path = section.text("path")
    if path is None:
        raise section.missing("path", f"it names a checkpoint's directory, or {DEMO}")
    dtype = section.choice("dtype", DTypeChoice) or DTypeChoice.AUTO
    return ModelConfig(model_path(path, section.file.parent), dtype.dtype)


def _rank(section: Section) -> Rank:
    section.only(_HOST)
    name = section.text("name")
    if name is None:
        raise section.missing("name", f"it is {LOCALHOST} or a name for logs and tables")
    ssh = section.text("ssh") or name
    if ssh.startswith("-"):
        raise section.wrong("ssh" if section.text("ssh") else "name", _NO_DASH)
    host = _host(
        ssh,
        name=name,
        address=_address(section, "address"),
        fabric=_address(section, "fabric"),
        python=section.text("python"),
        workdir=_absolute(section, "workdir"),
        model_path=_absolute(section, "model_path"),
    )
    return Rank(host, section.integer("weight") or 1, read_row(section, "rdma"))


def _host(
    ssh: str,
    *,
    name: str | None = None,
    address: str | None = None,
    fabric: str | None = None,
    python: str | None = None,
    workdir: str | None = None,
    model_path: str | None = None,
) -> Host:
    ssh = LOCALHOST if ssh in _LOCAL_NAMES else ssh
    return Host(
        name=name or ssh,
        ssh=ssh,
        address=address,
        fabric=fabric,
        python=python or sys.executable,
        workdir=workdir,
        model_path=model_path,
    )


def _address(section: Section, key: str) -> str | None:
    text = section.text(key)
    try:
        return None if text is None else str(IPv4Address(text))
    except AddressValueError as error:
        raise section.wrong(key, "an IPv4 address") from error


def _absolute(section: Section, key: str) -> str | None:
    text = section.text(key)
    if text is not None and not text.startswith("/"):
        raise section.wrong(key, "an absolute path on that host")
    return text


def _split(section: Section) -> tuple[ExpertSplit, AttentionSplit]:
    section.only(("experts", "attention"))
    experts = section.choice("experts", ExpertSplit) or ExpertSplit.WIDTH
    return experts, section.choice("attention", AttentionSplit) or AttentionSplit.SPLIT


def _ports(section: Section) -> Ports:
    section.only(("control", "data"))
    last_data = _MAX_PORT - MAX_RANKS
    return Ports(
        control=section.integer("control", most=_MAX_PORT),
        data=section.integer("data", most=last_data),
    )


def _prefix_cache(section: Section) -> PrefixCache:
    section.only(("gb", "on_disk"))
    size = section.not_negative("gb")
    nbytes = None if size is None else int(size * _GB)
    return PrefixCache(nbytes, on_disk=section.flag("on_disk") or False)


def _restart(section: Section) -> Restart:
    section.only(field.name for field in fields(Restart))
    given = {
        "policy": section.choice("policy", RestartPolicy),
        "backoff_s": section.growing_seconds("backoff_s"),
        "most": section.integer("most"),
        "window_s": section.seconds("window_s"),
        "replay_s": section.seconds("replay_s"),
    }
    return replace(Restart(), **{name: value for name, value in given.items() if value is not None})


def _timeouts(section: Section) -> Timeouts:
    names = [field.name for field in fields(Timeouts)]
    section.only(names)
    given = {name: section.seconds(name) for name in names}
    timeouts = Timeouts(**{name: value for name, value in given.items() if value is not None})
    if timeouts.beat_s * 2 > timeouts.fence_s:
        key = "fence_s" if given["fence_s"] else "beat_s"
        raise section.wrong(key, "fence_s to be at least twice beat_s")
    return timeouts
