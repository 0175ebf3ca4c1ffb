"""What Macs' chips and the links between them are known to do: figures from others, with sources.

    bandwidth  of memory, as Apple states it; a Max with fewer cores has less than is told here
    products   floating-point operations a second in long prompts: the best published prefill of
               DeepSeek-V4-Flash on one such Mac, times the operations of a token (`work.py`)

The M4 Max has no such figure; it is put down by its published peak beside the M3 Ultra's, 18.4 to
28.4 TFLOP/s. docs/speed.md names where each figure is from.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

from dsv4_tp.errors import ConfigError

_GB_S, _TFLOP_S, _US = 1e9, 1e12, 1e-6
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Chip:
    """A chip, or a part of one."""

    bandwidth_bytes_s: float
    products_flop_s: float

    def shared_by(self, ranks: int) -> "Chip":
        """What each of so many ranks on it has."""
        return Chip(self.bandwidth_bytes_s / ranks, self.products_flop_s / ranks)


@dataclass(frozen=True, slots=True)
class Link:
    """What joins each two hosts."""

    hop_s: float  # for a sum of a few KB over two hosts
    bytes_s: float  # of a long message, one way
    ring: bool  # from each to the next, so that a sum takes a hop more with each host


CHIPS: Mapping[str, Chip] = {
    "m1-ultra": Chip(800 * _GB_S, 6.1 * _TFLOP_S),
    "m2-ultra": Chip(800 * _GB_S, 11.1 * _TFLOP_S),
    "m3-ultra": Chip(819 * _GB_S, 17.8 * _TFLOP_S),
    "m4-max": Chip(546 * _GB_S, 11.5 * _TFLOP_S),
    "m5-max": Chip(614 * _GB_S, 21.3 * _TFLOP_S),
}
LINKS: Mapping[str, Link] = {
    "rdma": Link(36 * _US, 6.2 * _GB_S, ring=False),
    "tcp": Link(300 * _US, 2.0 * _GB_S, ring=True),
}


def chip_named(name: str) -> Chip:
    """The chip; ConfigError if there are no figures of it."""
    return _named("--chips", CHIPS, name)


def link_named(name: str) -> Link:
    """The link; ConfigError if there are no figures of it."""
    return _named("--link", LINKS, name)


def _named(option: str, known: Mapping[str, _T], name: str) -> _T:
    if name in known:
        return known[name]
    alike = difflib.get_close_matches(name.lower(), known, n=1)
    hint = f"; did you mean {alike[0]}?" if alike else ""
    raise ConfigError(f"{option} {name!r}: there are figures of {', '.join(known)} only{hint}")
