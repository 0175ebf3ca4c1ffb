"""One question about one fact, an exact number of tokens after it."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from random import Random

from examples.demo_model.corpus import facts, stories
from examples.demo_model.corpus.chat import opening, user
from examples.demo_model.corpus.documents import Tokenize
from examples.demo_model.corpus.facts import Fact

_SLACK = 3  # tokens by which the distance may miss
_TOLD = 0.75  # share of story sentences among what stands between
_LEAD = 32  # tokens before the fact, about, at the most


@dataclass(frozen=True, slots=True)
class Lookup:
    """A prompt that ends right where `answer` begins, `distance` tokens after the stated value."""

    prompt: str
    answer: str
    distance: int


def lookup(
    rng: Random, tokenize: Tokenize, *, distance: int, chat: bool = False, between: int = 3
) -> Lookup:
    """A question whose answer stands about `distance` tokens back, within 3.

    As plain text the prompt ends with the start of the answering sentence, and the answer is the
    value: digits without a space before them, words with one. As a chat the answer is the whole
    sentence. At least `between` other facts and, if there is room, story sentences stand between.
    """
    supply = facts.facts(rng)
    fact = next(supply)
    ending, answer = _ending(fact, chat=chat)
    room = distance - len(tokenize("." + ending))
    middle = _middle(rng, tokenize, supply, room, between)
    if middle is None:
        raise ValueError(
            f"distance is {distance}: too short for the question and {between} other facts; "
            "ask for a longer distance or fewer facts between"
        )
    tail = " ".join([".", *middle]) + ending
    text = " ".join([*_lead(rng, tokenize), fact.lead]) + fact.value
    prompt = (user(text) if chat else text) + tail
    return Lookup(prompt, answer, len(tokenize(tail)))


def _middle(
    rng: Random, tokenize: Tokenize, supply: Iterator[Fact], room: int, between: int
) -> list[str] | None:
    """Sentences of `room` tokens, within the slack, of which `between` or more are facts."""
    others = [fact.statement for fact in islice(supply, 8 * between)]
    needed = others[:between]
    if _length(tokenize, needed) > room:
        needed = sorted(others, key=lambda text: len(tokenize(" " + text)))[:between]
    left = room - _length(tokenize, needed)
    if left < -_SLACK:
        return None
    text: list[str] = []
    told = stories.stories(rng)
    while left > _SLACK:
        line = next(told) if rng.random() < _TOLD else next(supply, None)
        if line is None:
            continue
        line = line if isinstance(line, str) else line.statement
        length = _length(tokenize, [line])
        if length <= left + _SLACK:
            text.append(line)
            left -= length
    for line in needed:
        text.insert(rng.randrange(len(text) + 1), line)
    return text


def _length(tokenize: Tokenize, lines: list[str]) -> int:
    return len(tokenize("".join(" " + line for line in lines)))


def _ending(fact: Fact, *, chat: bool) -> tuple[str, str]:
    """What follows the text up to where the answer begins, and the answer."""
    if chat:
        return f" {fact.question}{opening(thinking=False)}", fact.statement
    start, value = fact.lead, fact.value
    if value[1].isdigit():  # the space before a digit is a token of its own
        start, value = start + " ", value[1:]
    return f" {fact.question} {start}", value


def _lead(rng: Random, tokenize: Tokenize) -> list[str]:
    """The first sentences of a story, of at most `_LEAD` tokens; often none."""
    lines: list[str] = []
    left = rng.randrange(_LEAD)
    for line in stories.stories(rng):
        left -= _length(tokenize, [line])
        if left < 0:
            return lines
        lines.append(line)
    return lines
