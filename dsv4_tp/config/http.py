"""Where OpenAI's API listens, and for whom: the section `http` of cluster.yaml, and --http."""

import re
from dataclasses import replace
from ipaddress import AddressValueError, IPv4Address
from pathlib import Path

from dsv4_tp.config.cluster import LOCALHOST, LOOPBACK, Http, MetricsAlias
from dsv4_tp.config.nodes import Section
from dsv4_tp.errors import ConfigError

_MAX_PORT = 65535
_ADDRESS = f"an IPv4 address of this machine, or {LOCALHOST}"
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^\s/*?#@]+")


def read_http(section: Section) -> Http:
    """What the file says; paths are relative to it."""
    section.only(("bind", "port", "api_keys_file", "origins", "metrics_alias"))
    host = _address(section.text("bind") or LOOPBACK)
    if host is None:
        raise section.wrong("bind", _ADDRESS)
    keys = section.text("api_keys_file")
    return Http(
        host,
        section.integer("port", least=0, most=_MAX_PORT),
        None if keys is None else str((section.file.parent / Path(keys).expanduser()).absolute()),
        _origins(section),
        section.choice("metrics_alias", MetricsAlias),
    )


def parse_http(text: str, http: Http) -> Http:
    """`http` where `--http [HOST:]PORT` says.

    Raises:
        ConfigError: no port, or no address.
    """
    name, colon, port = text.rpartition(":")
    host = _address(name) if colon else LOOPBACK
    if not (port.isascii() and port.isdecimal() and int(port) <= _MAX_PORT):
        raise ConfigError(f"--http {text!r}: expected [HOST:]PORT, such as 8000")
    if host is None:
        raise ConfigError(f"--http {text!r}: expected HOST to be {_ADDRESS}")
    return replace(http, bind=host, port=int(port))


def check_http(http: Http) -> None:
    """Whoever reaches the endpoint from elsewhere has to show a key.

    Raises:
        ConfigError: others reach it, and there are no keys.
    """
    if http.is_open and http.api_keys_file is None:
        raise ConfigError(
            f"http: {http.bind} is reached from other machines, so clients need keys: say "
            "--api-keys FILE, or http.api_keys_file in cluster.yaml; "
            "make one: (umask 077; openssl rand -hex 32 > FILE)"
        )


def _origins(section: Section) -> tuple[str, ...]:
    """Exact ones: a pattern lets in more pages than anybody thinks of."""
    origins = section.texts("origins")
    if not all(map(_ORIGIN.fullmatch, origins)):
        raise section.wrong("origins", "origins such as [https://chat.example:8443], without paths")
    return origins


def _address(text: str) -> str | None:
    if text == LOCALHOST:
        return LOOPBACK
    try:
        return str(IPv4Address(text))
    except AddressValueError:
        return None
