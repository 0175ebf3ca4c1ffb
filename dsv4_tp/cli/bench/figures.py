"""From when tokens came to rates and percentiles. Pure."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain


@dataclass(frozen=True, slots=True)
class Timed:
    """One text, in seconds from the moment when all of its round were asked for."""

    prompt_tokens: int
    tokens_s: tuple[float, ...]  # when each token came
    cached_tokens: int = 0  # of the prompt, that need not be fed


@dataclass(frozen=True, slots=True)
class Spread:
    """A rate in several rounds."""

    median: float
    least: float
    most: float


@dataclass(frozen=True, slots=True)
class Waits:
    """Seconds to the first token, of all requests."""

    p50: float
    p95: float
    p99: float
    most: float


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured with so many requests at a time, and prompts of so many tokens."""

    batch: int
    prompt_tokens: int
    requests: int
    fed_tokens: int
    generated_tokens: int
    prefill_tokens_per_s: Spread
    decode_tokens_per_s: Spread | None  # None: they were never all decoding
    first_token_s: Waits


def figures(batch: int, prompt_tokens: int, rounds: Sequence[Sequence[Timed]]) -> Figures:
    """Of some rounds, each with at least one text, and each text with at least one token."""
    texts = [*chain.from_iterable(rounds)]
    decoded = [rate for each in rounds if (rate := decode_rate(each)) is not None]
    return Figures(
        batch,
        prompt_tokens,
        requests=len(texts),
        fed_tokens=sum(text.prompt_tokens - text.cached_tokens for text in texts),
        generated_tokens=sum(len(text.tokens_s) for text in texts),
        prefill_tokens_per_s=_spread([prefill_rate(each) for each in rounds]),
        decode_tokens_per_s=_spread(decoded) if decoded else None,
        first_token_s=_waits([text.tokens_s[0] for text in texts]),
    )


def prefill_rate(texts: Sequence[Timed]) -> float:
    """Tokens of all prompts per second, until the last of them has its first token."""
    fed = sum(text.prompt_tokens - text.cached_tokens for text in texts)
    return fed / max(text.tokens_s[0] for text in texts)


def decode_rate(texts: Sequence[Timed]) -> float | None:
    """Tokens of all texts per second, while all of them are decoding; None: they never were."""
    begins_s = max(text.tokens_s[0] for text in texts)
    ends_s = min(text.tokens_s[-1] for text in texts)
    if ends_s <= begins_s:
        return None
    came = sum(begins_s < at_s <= ends_s for text in texts for at_s in text.tokens_s)
    return came / (ends_s - begins_s)


def percentile(values: Sequence[float], percent: float) -> float:
    """The least of the values that so many percent of them do not exceed."""
    place = math.ceil(len(values) * percent / 100)
    return sorted(values)[max(place, 1) - 1]


def _spread(rates: Sequence[float]) -> Spread:
    return Spread(statistics.median(rates), min(rates), max(rates))


def _waits(waits_s: Sequence[float]) -> Waits:
    p50, p95, p99 = (percentile(waits_s, percent) for percent in (50, 95, 99))
    return Waits(p50, p95, p99, max(waits_s))
