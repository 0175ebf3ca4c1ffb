"""Which boot of this machine this is; only a Mac proves what a Mac says."""

import shutil
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import psutil

from dsv4_tp.rpc.lives import SLACK_S

_LINUX = Path("/proc/sys/kernel/random/boot_id")
_MAC = "kern.bootsessionuuid"
_PLACES = "/usr/sbin:/sbin"
_ASK_S = 5.0


@dataclass(frozen=True, slots=True)
class Boot:
    """One boot."""

    at_s: float  # which moves when the clock is set
    id: str = ""  # empty: the system gives it none

    def is_same(self, other: "Boot") -> bool:
        """Whether no boot lies between them."""
        if self.id and other.id:
            return self.id == other.id
        return abs(self.at_s - other.at_s) <= SLACK_S


def this_boot() -> Boot:
    """The last one."""
    return Boot(psutil.boot_time(), _id())


@cache
def _id() -> str:
    with suppress(OSError, subprocess.SubprocessError):
        return _of_mac() if sys.platform == "darwin" else _LINUX.read_text().strip()
    return ""


def _of_mac() -> str:
    program = shutil.which("sysctl", path=_PLACES)
    if program is None:
        return ""
    done = subprocess.run(
        [program, "-n", _MAC], capture_output=True, text=True, timeout=_ASK_S, check=True
    )
    return done.stdout.strip()
