"""Texts of all kinds, and training sequences of them."""

import math
from collections.abc import Callable, Sequence
from random import Random

from examples.demo_model.corpus import chat, retrieval, stories, sums, tools
from examples.demo_model.corpus.pieces import count
from examples.demo_model.encoding_dsv4 import bos_token, eos_token

Tokenize = Callable[[str], Sequence[int]]
_SHORTEST = 48  # tokens of a document that shares its sequence
_TOOLS_NEED = 240  # tokens of the list of tools and one call, at the least
_WHOLE = 0.8  # share of sequences that are one document


def document(rng: Random, *, tokens: int) -> str:
    """One text of about `tokens` tokens, of a kind drawn by `rng`; ends with the end token."""
    kinds, shares = zip(*(KINDS if tokens >= _TOOLS_NEED else KINDS[:-1]), strict=True)
    text = rng.choices(kinds, shares)[0](rng, tokens)
    return text if text.endswith(eos_token) else text + eos_token


def sequence(rng: Random, tokenize: Tokenize, *, length: int, drills: float = 0.0) -> list[int]:
    """Exactly `length` ids: the begin token, then documents, most often one; cut at the end.

    A share `drills` of all sequences are short lists said again and again instead.
    """
    ids = list(tokenize(bos_token))
    if drills and rng.random() < drills:
        return (ids + list(tokenize(retrieval.drill(rng, length))))[:length]
    whole = rng.random() < _WHOLE
    while len(ids) < length:
        room = length - len(ids)
        wanted = room if whole else round(_log_uniform(rng, _SHORTEST, max(room, _SHORTEST + 1)))
        ids += tokenize(document(rng, tokens=wanted))
    return ids[:length]


def _log_uniform(rng: Random, low: float, high: float) -> float:
    return math.exp(rng.uniform(math.log(low), math.log(high)))


def _stories(rng: Random, tokens: int) -> str:
    """Stories, one a paragraph."""
    told: list[str] = []
    while not told or sum(map(count, told)) < tokens:
        told.append(" ".join(stories.story(rng)))
    return "\n".join(told)


KINDS: tuple[tuple[Callable[[Random, int], str], float], ...] = (
    (retrieval.memory, 0.25),
    (retrieval.woven, 0.30),
    (_stories, 0.20),
    (sums.document, 0.08),
    (chat.chat, 0.12),
    (tools.conversation, 0.05),  # the last: short texts leave it out
)
