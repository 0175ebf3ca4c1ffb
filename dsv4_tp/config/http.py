"""Where OpenAI's API listens: the section `http` of cluster.yaml, and --http."""

from ipaddress import AddressValueError, IPv4Address

from dsv4_tp.config.cluster import LOCALHOST, LOOPBACK, Http
from dsv4_tp.config.nodes import Section
from dsv4_tp.errors import ConfigError

_MAX_PORT = 65535
_KEYLESS = (
    f"{LOOPBACK}: there are no API keys yet, so the endpoint stays on this machine "
    "(from another one: ssh -L 8000:127.0.0.1:8000 THIS_ONE)"
)


def read_http(section: Section) -> Http:
    """What the file says; ConfigError for an address that others reach."""
    section.only(("bind", "port"))
    host = _loopback(section.text("bind") or LOOPBACK)
    if host is None:
        raise section.wrong("bind", _KEYLESS)
    return Http(host, section.integer("port", least=0, most=_MAX_PORT))


def parse_http(text: str) -> Http:
    """What `--http [HOST:]PORT` says.

    Raises:
        ConfigError: no port, or an address that others reach.
    """
    name, colon, port = text.rpartition(":")
    host = _loopback(name) if colon else LOOPBACK
    if not (port.isascii() and port.isdecimal() and int(port) <= _MAX_PORT):
        raise ConfigError(f"--http {text!r}: expected [HOST:]PORT, such as 8000")
    if host is None:
        raise ConfigError(f"--http {text!r}: expected {_KEYLESS}")
    return Http(host, int(port))


def _loopback(text: str) -> str | None:
    """The address, if only this machine reaches it."""
    if text == LOCALHOST:
        return LOOPBACK
    try:
        address = IPv4Address(text)
    except AddressValueError:
        return None
    return str(address) if address.is_loopback else None
