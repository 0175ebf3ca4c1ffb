"""`sw_vers`, `sysctl`, `vm_stat` and `pmset -g`."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

WIRED_LIMIT = "iogpu.wired_limit_mb"  # what the GPU may hold; 0: the system's default
MEMORY = "hw.memsize"


@dataclass(frozen=True, slots=True)
class System:
    """Which macOS."""

    version: str
    build: str


@dataclass(frozen=True, slots=True)
class Sleep:
    """When a Mac goes to sleep by itself."""

    minutes: int  # without use; 0: never
    disabled: bool  # not even with the lid closed

    @property
    def never(self) -> bool:
        """Whether it stays awake."""
        return self.disabled or self.minutes == 0


def parse_sw_vers(text: str) -> System:
    """The system's release.

    Raises:
        ValueError: version or build are missing.
    """
    words = dict(re.findall(r"^(\w+):\s*(\S.*?)\s*$", text, flags=re.MULTILINE))
    return System(_named(words, "ProductVersion"), _named(words, "BuildVersion"))


def parse_sysctl(text: str) -> Mapping[str, int]:
    """The values that are numbers, by name.

    Raises:
        ValueError: there are none.
    """
    found = re.findall(r"^([\w.]+): (\d+)$", text, flags=re.MULTILINE)
    if not found:
        raise ValueError("no `name: number` in it")
    return {name: int(value) for name, value in found}


def parse_vm_stat(text: str) -> int:
    """The bytes of memory that are wired down.

    Raises:
        ValueError: it does not say.
    """
    page = re.search(r"page size of (\d+) bytes", text)
    wired = re.search(r"^Pages wired down:\s+(\d+)\.", text, flags=re.MULTILINE)
    if page is None or wired is None:
        raise ValueError("no page size, or no `Pages wired down`")
    return int(page[1]) * int(wired[1])


def parse_pmset(text: str) -> Sleep:
    """The settings in use.

    Raises:
        ValueError: it does not say when the Mac sleeps.
    """
    sleep = re.search(r"^\s*sleep\s+(\d+)", text, flags=re.MULTILINE)
    disabled = re.search(r"^\s*SleepDisabled\s+1\b", text, flags=re.MULTILINE)
    if sleep is None:
        raise ValueError("no `sleep` in it")
    return Sleep(int(sleep[1]), disabled is not None)


def _named(words: Mapping[str, str], name: str) -> str:
    if name not in words:
        raise ValueError(f"no {name} in it")
    return words[name]
