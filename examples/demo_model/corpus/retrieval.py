"""Documents whose values stand earlier in the same document."""

import math
from collections.abc import Iterator
from itertools import islice
from random import Random

from examples.demo_model.corpus import facts, stories
from examples.demo_model.corpus.facts import Fact
from examples.demo_model.corpus.lists import (
    ANIMALS,
    COLOURS,
    FOODS,
    KEPT,
    LOCKED,
    MOODS,
    NAMES,
    PLACES,
    SIGHTS,
)
from examples.demo_model.corpus.pieces import count

_NEAREST = 24  # tokens between a value and its question, at the least
_FARTHEST = 900
_DRILLED_TOKENS = 24  # of a drill, for each entry it may have


def memory(rng: Random, tokens: int) -> str:
    """A list of entries, then the same in other orders until `tokens` are written."""
    return _repeated(rng, _entries(rng, tokens), tokens)


def drill(rng: Random, tokens: int) -> str:
    """As `memory`, with few entries and many orders: what is learned first of looking up."""
    supply = rng.choice((_numbers, _numbers, _spots, _tastes, _phrases))(rng)
    wanted = rng.randint(2, max(3, tokens // _DRILLED_TOKENS))
    return _repeated(rng, list(islice(supply, wanted)), tokens)


def _repeated(rng: Random, entries: list[str], tokens: int) -> str:
    lines = [_line(rng, "Remember:", entries)]
    length = count(lines[0])
    while length < tokens:
        rng.shuffle(entries)
        lines.append(_line(rng, "Again:", entries))
        length += count(lines[-1]) + 1
    return "\n".join(lines)


def woven(rng: Random, tokens: int) -> str:
    """Facts, questions for them at log-uniform distances, and stories between."""
    supply, told = facts.facts(rng), stories.stories(rng)
    text = [next(told)] if rng.random() < 0.3 else []
    length = sum(map(count, text))
    talk = rng.choice((0.0, 0.1, 0.25, 0.5))  # share of steps that tell on
    crowd = rng.choice((0.4, 0.8, 1.6))  # how fast facts are added
    said: dict[Fact, int] = {}
    while length < tokens:
        step = rng.random()
        if not said or (step >= talk and rng.random() < crowd / (1 + len(said) / 8)):
            fact = next(supply)
            parts = [fact.statement]
        elif step < talk:
            fact, parts = None, [next(told)]
        else:
            fact = _due(rng, said, length)
            parts = _recall(rng, fact)
        text += parts
        length += sum(count(" " + part) for part in parts)
        if fact:
            said[fact] = length
    return " ".join(text)


def _recall(rng: Random, fact: Fact) -> list[str]:
    return [fact.question, fact.statement] if rng.random() < 0.5 else [fact.statement]


def _due(rng: Random, said: dict[Fact, int], now: int) -> Fact:
    """The fact whose last mention is nearest to a distance drawn log-uniformly."""
    farthest = min(_FARTHEST, now)
    wanted = math.exp(rng.uniform(math.log(_NEAREST), math.log(max(farthest, _NEAREST + 1))))
    return min(said, key=lambda fact: abs(math.log((now - said[fact] + 1) / wanted)))


def _entries(rng: Random, tokens: int) -> list[str]:
    """Between 3 entries and as many as fill half of the document."""
    style = rng.choice((_numbers, _numbers, _numbers, _spots, _tastes, _phrases, _sentences))
    supply = style(rng)
    most = max(3, tokens // (2 * count(" " + next(supply))))
    wanted = round(math.exp(rng.uniform(math.log(3), math.log(most))))
    return [entry for _, entry in zip(range(wanted), supply, strict=False)]


def _line(rng: Random, head: str, entries: list[str]) -> str:
    if entries[0].endswith("."):
        return " ".join([head, *entries])
    return f"{head} {', '.join(entries)}."


def _keys(rng: Random, nouns: tuple[str, ...]) -> Iterator[str]:
    keys = [f"{colour} {noun}" for colour in COLOURS for noun in nouns]
    rng.shuffle(keys)
    return iter(keys)


def _numbers(rng: Random) -> Iterator[str]:
    places = rng.choice((1, 2, 4, 4, 4))
    between = rng.choice(("", " is"))
    return (f"{key}{between} {facts.digits(rng, places)}" for key in _keys(rng, LOCKED))


def _spots(rng: Random) -> Iterator[str]:
    return (f"{key} {rng.choice(PLACES)}" for key in _keys(rng, KEPT))


def _tastes(rng: Random) -> Iterator[str]:
    choices = rng.choice((COLOURS, FOODS, ANIMALS))
    names = rng.sample(NAMES, len(NAMES))
    return (f"{name} {rng.choice(choices)}" for name in names)


def _phrases(rng: Random) -> Iterator[str]:
    return (f"{key} {rng.choice(MOODS)} {rng.choice(SIGHTS)}" for key in _keys(rng, LOCKED))


def _sentences(rng: Random) -> Iterator[str]:
    family = rng.choice(("code", "code", "place", "favourite", "password"))
    return (fact.statement for fact in facts.facts(rng, family))
