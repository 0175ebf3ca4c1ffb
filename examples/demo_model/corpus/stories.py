"""Short stories of a small grammar: who finds, loses or meets something keeps it in mind."""

from collections.abc import Callable, Iterator
from random import Random

from examples.demo_model.corpus.lists import (
    ANIMALS,
    BOYS,
    COLOURS,
    FOODS,
    GIRLS,
    NAMES,
    PLACES,
    TREASURES,
)

Words = dict[str, str]
_Plot = Callable[[Random, Words], Iterator[str]]
_OPENINGS = (
    "One day {N} was in the {p}.",
    "One morning {N} went to the {p}.",
    "Once {N} and {F} lived near the {p}.",
    "It was a {w} day and {N} was in the {p}.",
    "It was a {w} morning. {N} was in the {p}.",
)
_WEATHER = {
    "cold": ("The wind was cold.", "There was snow on the road.", "{S} had a warm coat."),
    "warm": ("The sun was warm.", "The sky was blue.", "There was no wind."),
    "wet": ("Then it began to rain.", "The road was wet.", "There were grey clouds in the sky."),
    "quiet": ("All was quiet.", "A bird sat in a tree.", "There was no wind in the trees."),
}
_ENDINGS = (
    "That night {N} slept well.",
    "{N} was very happy.",
    "In the evening {s} went home and ate {f}.",
)
_ENDINGS_OF_TWO = (
    "In the evening they went home and ate {f}.",
    "Then {N} and {F} went home together.",
    "From that day on {N} and {F} were good friends.",
)
_SEARCH = (
    "{S} looked in the {q}, but it was not there.",
    "{S} went to the {q}, but there was only an old {a}.",
    "{S} looked in the {q} and found nothing.",
)


def story(rng: Random) -> Iterator[str]:
    """The sentences of one story, the first of which begins with one of few words."""
    words = _cast(rng)
    opening = [rng.choice(_OPENINGS)]
    if rng.random() < 0.6:
        opening.append(rng.choice(_WEATHER[words["w"]]))
    yield from _told(rng, words, opening, rng.choice(_PLOTS))
    if rng.random() < 0.3:
        yield "The end."


def stories(rng: Random) -> Iterator[str]:
    """Sentences of one story after the other, without end."""
    while True:
        yield from story(rng)


def about(rng: Random) -> tuple[str, str]:
    """What a story may be about, and a story about it in two or more sentences."""
    name = rng.choice(NAMES)
    words = _cast(rng, name)
    plot, subject = rng.choice(
        (
            (_lost, "{N} and a {c} {t}"),
            (_box, "{N} and a {c} box"),
            (_animal, "{N} and a {a}"),
            (_trade, "{N} and {F}"),
        )
    )
    lines = _told(rng, words, [rng.choice(_OPENINGS[:2])], plot)
    return subject.format(**words), " ".join(lines)


def _told(rng: Random, words: Words, opening: list[str], plot: _Plot) -> list[str]:
    """Opening, plot and an ending that knows whether the hero was alone."""
    lines = [*opening, *plot(rng, words)]
    together = any("{F}" in line for line in lines)
    lines.append(rng.choice(_ENDINGS + _ENDINGS_OF_TWO if together else _ENDINGS))
    return [line.format(**words).replace(" a orange", " an orange") for line in lines]


def _cast(rng: Random, name: str | None = None) -> Words:
    hero = name or rng.choice(NAMES)
    friend = rng.choice([other for other in NAMES if other != hero])
    places = rng.sample(PLACES, 4)
    things = rng.sample(TREASURES[:-2], 2)
    return {
        "N": hero,
        "F": friend,
        **_pronouns(hero),
        "T": "She" if friend in GIRLS else "He",
        "p": places[0],
        "q": places[1],
        "r": places[2],
        "x": places[3],
        "c": rng.choice(COLOURS),
        "k": rng.choice(COLOURS),
        "t": things[0],
        "v": things[1],
        "a": rng.choice(ANIMALS),
        "f": rng.choice(FOODS),
        "w": rng.choice(tuple(_WEATHER)),
        "n": rng.choice(("two", "three", "four", "five", "six")),
    }


def _pronouns(name: str) -> Words:
    if name in BOYS:
        return {"S": "He", "s": "he", "o": "him", "h": "his"}
    return {"S": "She", "s": "she", "o": "her", "h": "her"}


def _lost(rng: Random, words: Words) -> Iterator[str]:
    yield rng.choice(
        (
            "{N} had lost {h} {c} {t}.",
            "{N} could not find {h} {c} {t}.",
            "{S} had a {c} {t}, but now it was lost.",
        )
    )
    for _ in range(rng.randrange(3)):
        yield rng.choice(_SEARCH).replace("{q}", rng.choice(PLACES))
    yield "Then {s} met {F}."
    yield rng.choice(
        (
            '"Where is my {t}?" asked {N}.',
            '"Did you see my {c} {t}?" asked {N}.',
        )
    )
    yield rng.choice(
        (
            '"I saw it in the {r}," said {F}.',
            '"It is in the {r}," said {F}.',
            '"A {a} took it to the {r}," said {F}.',
        )
    )
    yield "So they went to the {r}."
    yield rng.choice(
        (
            "There was the {c} {t}, under a tree.",
            "There {N} found the {t} under a big stone.",
            "A {a} was there and it had the {t}.",
        )
    )
    if rng.random() < 0.6:
        yield '"Thank you," said {N}, and gave {F} some {f}.'


def _box(rng: Random, words: Words) -> Iterator[str]:
    yield rng.choice(
        (
            "There {s} found a {c} key.",
            "{S} saw a {c} key under a stone.",
            "A {a} gave {o} a {c} key.",
        )
    )
    yield rng.choice(
        (
            '"What can I open with it?" asked {N}.',
            "{N} took the key and went on.",
            "{S} put the key in {h} bag.",
        )
    )
    if rng.random() < 0.5:
        yield "In the {q} {s} tried a door, but the key did not open it."
    yield "In the {r} there was a {c} box."
    yield rng.choice(
        (
            "{N} opened the {c} box with the {c} key.",
            "{S} tried the key and the box opened.",
        )
    )
    yield rng.choice(
        (
            "In the box there was a {k} {v}.",
            "There was a {k} {v} in it.",
        )
    )
    yield rng.choice(
        (
            "{N} gave the {v} to {F}, and {F} was happy.",
            "{S} took the {k} {v} home and showed it to {F}.",
            '"This is my {v}!" said {F}. {T} had lost it in the {q}.',
        )
    )


def _animal(rng: Random, words: Words) -> Iterator[str]:
    yield "{S} saw a small {a}."
    yield rng.choice(
        (
            "The {a} was hungry.",
            "The {a} could not find its home.",
            '"I am hungry," said the {a}.',
        )
    )
    yield rng.choice(
        (
            "{N} gave it some {f}.",
            "{N} had some {f} in {h} bag, and the {a} ate it.",
        )
    )
    if rng.random() < 0.7:
        yield rng.choice(
            (
                '"Thank you," said the {a}. "I will help you."',
                '"Thank you. You are my friend," said the {a}.',
            )
        )
    yield "The next day {N} lost {h} way in the {r}."
    yield rng.choice(
        (
            "Then the {a} came and showed {o} the way home.",
            "But the {a} was there, and they found the road to the {p}.",
        )
    )
    if rng.random() < 0.6:
        yield "{N} told {F} about the {a}."


def _trade(rng: Random, words: Words) -> Iterator[str]:
    yield "{N} had a {c} {t} and {F} had a {k} {v}."
    yield rng.choice(
        (
            '"Give me your {v} and you can have my {t}," said {N}.',
            '"I like your {v}," said {N}. "Do you like my {t}?"',
        )
    )
    yes = rng.random() < 0.6
    if yes:
        yield '"Yes," said {F}.'
        yield "So {N} had the {k} {v}, and {F} had the {c} {t}."
    else:
        yield '"No," said {F}. "The {v} is for my friend."'
        yield "So {N} still had the {c} {t}."
    yield "They went to the {q} and saw {n} birds."
    if yes and rng.random() < 0.5:
        yield "There {N} put the {k} {v} under a stone."


def _trip(rng: Random, words: Words) -> Iterator[str]:
    yield '"Come with me to the {q}," said {N} to {F}.'
    yield rng.choice(
        ("They walked for a long time.", "They took some {f} and went.", "They walked on and on.")
    )
    yield "On the road they met a {a}."
    yield rng.choice(
        (
            '"Where are you going?" asked the {a}. "We are going to the {q}," said {F}.',
            "The {a} came with them to the {q}.",
            "The {a} was very old and slow, so they helped it.",
        )
    )
    if rng.random() < 0.6:
        yield "Then it began to rain, and they ran into the {r}."
        yield "There they sat by the fire and ate {f}."
    yield "In the {q} {N} found {n} {c} stones."
    if rng.random() < 0.6:
        yield "{S} gave one of the stones to {F} and one to the {a}."


def _rich(rng: Random, words: Words) -> Iterator[str]:
    yield "An old king lived near the {r}, and he had {n} {a} friends."
    yield 'One night the king said: "Who can find my {c} {t}?"'
    yield "{N} wanted to help the king."
    for _ in range(1 + rng.randrange(2)):
        yield rng.choice(_SEARCH).replace("{q}", rng.choice(PLACES))
    yield "In the {q} {s} saw the {c} {t} by the door."
    yield "{N} brought the {t} to the king."
    yield '"Thank you, {N}," said the king, and he gave {o} a {k} {v}.'


_PLOTS: tuple[_Plot, ...] = (
    _lost,
    _box,
    _animal,
    _trade,
    _trip,
    _rich,
)
