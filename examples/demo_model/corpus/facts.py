"""Facts with a random value: stated in one sentence, asked for in another."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

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

_Key = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Fact:
    """`lead` + `value` + "." states it; `value` begins with a space."""

    lead: str
    value: str
    question: str

    @property
    def statement(self) -> str:
        """The sentence that says it; also the answer to its question."""
        return f"{self.lead}{self.value}."


_FAMILIES = ("code", "code", "place", "favourite", "password")  # as often as drawn
_LIKED = {"colour": ("", COLOURS), "food": ("", FOODS), "animal": (" the", ANIMALS)}


def facts(rng: Random, family: str | None = None) -> Iterator[Fact]:
    """Facts that never share a key: of one family, or of all in random order, till keys run out."""
    names: list[str] = [family] if family else list(_FAMILIES)
    locked = _shuffled(rng, COLOURS, LOCKED)  # a door has a code or a password, never both
    keys = {
        "code": locked,
        "password": locked,
        "place": _shuffled(rng, COLOURS, KEPT),
        "favourite": _shuffled(rng, tuple(_LIKED), NAMES),
    }
    while names:
        name = rng.choice(names)
        key = next(keys[name], None)
        if key:
            yield _MAKERS[name](rng, key)
        else:
            names = [other for other in names if other != name]


def digits(rng: Random, count: int = 4) -> str:
    """`count` random digits; the first may be 0."""
    return "".join(rng.choice("0123456789") for _ in range(count))


def _code(rng: Random, key: _Key) -> Fact:
    return _named("code of the {} {}".format(*key), f" {digits(rng)}")


def _password(rng: Random, key: _Key) -> Fact:
    value = f" {rng.choice(MOODS)} {rng.choice(SIGHTS)}"
    return _named("password of the {} {}".format(*key), value)


def _place(rng: Random, key: _Key) -> Fact:
    thing = " ".join(key)
    return Fact(f"The {thing} is in the", f" {rng.choice(PLACES)}", f"Where is the {thing}?")


def _favourite(rng: Random, key: _Key) -> Fact:
    article, choices = _LIKED[key[0]]
    return _named("favourite {} of {}".format(*key), f" {rng.choice(choices)}", article)


def _named(what: str, value: str, article: str = "") -> Fact:
    return Fact(f"The {what} is{article}", value, f"What is the {what}?")


def _shuffled(rng: Random, first: tuple[str, ...], second: tuple[str, ...]) -> Iterator[_Key]:
    keys = [(left, right) for left in first for right in second]
    rng.shuffle(keys)
    return iter(keys)


_MAKERS: dict[str, Callable[[Random, _Key], Fact]] = {
    "code": _code,
    "password": _password,
    "place": _place,
    "favourite": _favourite,
}
