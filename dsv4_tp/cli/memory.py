"""What a user says of the hosts' memory: `--memory` and `--bandwidth` of `dsv4-tp plan`."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from dsv4_tp.cli.tables import GB
from dsv4_tp.cli.wish import Wish
from dsv4_tp.errors import ConfigError
from dsv4_tp.plan import Room


@dataclass(frozen=True, slots=True)
class Memory:
    """One number for each host, or for each rank where nothing is said of hosts."""

    sizes: tuple[float, ...]  # GB
    bandwidths: tuple[float, ...] | None  # GB/s

    def rooms(self, asked: Wish) -> tuple[Room, ...]:
        """What the hosts of the plan have.

        Raises:
            ConfigError: there are more or fewer hosts than numbers.
        """
        homes = _homes(asked)
        if len(homes) != len(self.sizes):
            what = "hosts" if asked.hosts else "ranks"
            raise ConfigError(f"--memory has {len(self.sizes)} values for {len(homes)} {what}")
        sizes = zip(homes, self.sizes, strict=True)
        return tuple(Room(name, ranks, int(size * GB)) for (name, ranks), size in sizes)

    def speeds(self, asked: Wish) -> tuple[float, ...] | None:
        """By rank; those of one host share its bandwidth."""
        if self.bandwidths is None:
            return None
        hosts = zip(_homes(asked), self.bandwidths, strict=True)
        speed = {rank: width / len(ranks) for (_, ranks), width in hosts for rank in ranks}
        return tuple(speed[rank] for rank in sorted(speed))


def read_memory(memory: str | None, bandwidth: str | None) -> Memory | None:
    """What the options say; None if they say nothing.

    Raises:
        ConfigError: not positive numbers, or not equally many.
    """
    if memory is None:
        if bandwidth is not None:
            raise ConfigError("--bandwidth needs --memory")
        return None
    sizes = positive_numbers("--memory", memory)
    speeds = None if bandwidth is None else positive_numbers("--bandwidth", bandwidth)
    if speeds is not None and len(speeds) != len(sizes):
        counts = f"--memory has {len(sizes)} values, --bandwidth {len(speeds)}"
        raise ConfigError(f"{counts}; give one of each for every host")
    return Memory(sizes, speeds)


def _homes(asked: Wish) -> Sequence[tuple[str, tuple[int, ...]]]:
    return asked.hosts or [("", (rank,)) for rank in range(len(asked.weights))]


def positive_numbers(option: str, text: str) -> tuple[float, ...]:
    """What such an option lists; ConfigError for anything else."""
    try:
        numbers = tuple(map(float, text.split(",")))
    except ValueError:
        numbers = (math.nan,)
    if not all(math.isfinite(number) and number > 0 for number in numbers):
        raise ConfigError(f"{option} {text!r}: expected positive numbers such as 128,96")
    return numbers
