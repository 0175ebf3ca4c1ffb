"""What is to be measured, and in which order. Pure."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from dsv4_tp.errors import ConfigError

BATCHES, PROMPTS = (1, 2, 4, 8), (128, 1024)  # where nothing is asked for, as far as they fit


@dataclass(frozen=True, slots=True)
class Cell:
    """So many requests at a time, with prompts of so many tokens."""

    batch: int
    prompt_tokens: int


@dataclass(frozen=True, slots=True)
class Sweep:
    """All cells, each in so many rounds, with texts of so many tokens."""

    cells: tuple[Cell, ...]
    tokens: int
    rounds: int

    def order(self) -> Iterator[Cell]:
        """Round by round, there and back, so that what drifts on the machines hits all alike."""
        for number in range(self.rounds):
            yield from self.cells[:: -1 if number % 2 else 1]


def sweep_of(
    batches: str | None, prompts: str | None, *, tokens: int, rounds: int, batch: int, context: int
) -> Sweep:
    """What the options ask for, of a cluster that runs `batch` at a time, of a `context`.

    Raises:
        ConfigError: they are no numbers, or the cluster cannot do it.
    """
    room = context - tokens
    if room < 1:
        raise ConfigError(f"--tokens {tokens}: the cluster's context is {context}; take fewer")
    sizes = _numbers("--batches", batches, batch, "requests at a time (batch)", BATCHES)
    lengths = _numbers("--prompts", prompts, room, f"tokens beside {tokens} of text", PROMPTS)
    return Sweep(tuple(Cell(*each) for each in product(sizes, lengths)), tokens, rounds)


def prompt_ids(chance: random.Random, count: int, vocab_size: int) -> tuple[int, ...]:
    """Ids at random: no prompt begins like another, and none is known to the cluster."""
    return tuple(chance.randrange(vocab_size) for _ in range(count))


def _numbers(
    option: str, text: str | None, most: int, what: str, usual: Sequence[int]
) -> tuple[int, ...]:
    if text is None:
        return tuple(number for number in usual if number <= most) or (most,)
    words = text.split(",")
    if not all(word.isascii() and word.isdecimal() and int(word) for word in words):
        raise ConfigError(f"{option} {text!r}: expected whole numbers above 0, such as 1,4")
    numbers = tuple(dict.fromkeys(map(int, words)))
    if max(numbers) > most:
        raise ConfigError(f"{option} {text}: {max(numbers)}, and the cluster has {most} {what}")
    return numbers
