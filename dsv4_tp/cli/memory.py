"""What a user says of the hosts' memory: `--memory` and `--bandwidth` of `dsv4-tp plan`."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from dsv4_tp.cli.tables import GB
from dsv4_tp.cli.wish import Wish
from dsv4_tp.errors import ConfigError
from dsv4_tp.plan import Room
from dsv4_tp.plan.chips import Chip


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
        sizes = zip(homes(asked, "--memory", len(self.sizes)), self.sizes, strict=True)
        return tuple(Room(name, ranks, int(size * GB)) for (name, ranks), size in sizes)

    def speeds(self, asked: Wish) -> tuple[float, ...] | None:
        """By rank; those of one host share its bandwidth."""
        if self.bandwidths is None:
            return None
        widths = self.bandwidths
        hosts = zip(homes(asked, "--bandwidth", len(widths)), widths, strict=True)
        speed = {rank: width / len(ranks) for (_, ranks), width in hosts for rank in ranks}
        return tuple(speed[rank] for rank in sorted(speed))


def read_memory(
    memory: str | None, bandwidth: str | None, chips: Sequence[Chip] = ()
) -> Memory | None:
    """What the options say; None if they say nothing. Chips say the bandwidths that are not said.

    Raises:
        ConfigError: not positive numbers, or not equally many.
    """
    if memory is None:
        if bandwidth is not None:
            raise ConfigError("--bandwidth needs --memory")
        return None
    sizes = positive_numbers("--memory", memory)
    speeds = tuple(chip.bandwidth_bytes_s / GB for chip in chips)
    option = "--chips" if bandwidth is None else "--bandwidth"
    if bandwidth is not None:
        speeds = positive_numbers(option, bandwidth)
    if speeds and len(speeds) != len(sizes):
        counts = f"--memory has {len(sizes)} values, {option} {len(speeds)}"
        raise ConfigError(f"{counts}; give one of each for every host")
    return Memory(sizes, speeds or None)


def homes(asked: Wish, option: str, given: int) -> Sequence[tuple[str, tuple[int, ...]]]:
    """Names of hosts, and which ranks each has.

    Raises:
        ConfigError: they are more or fewer than the values `given` to this option.
    """
    found = asked.hosts or [("", (rank,)) for rank in range(len(asked.weights))]
    if len(found) != given:
        what = "hosts" if asked.hosts else "ranks"
        raise ConfigError(f"{option} has {given} values for {len(found)} {what}")
    return found


def positive_numbers(option: str, text: str) -> tuple[float, ...]:
    """What such an option lists; ConfigError for anything else."""
    try:
        numbers = tuple(map(float, text.split(",")))
    except ValueError:
        numbers = (math.nan,)
    if not all(math.isfinite(number) and number > 0 for number in numbers):
        raise ConfigError(f"{option} {text!r}: expected positive numbers such as 128,96")
    return numbers
