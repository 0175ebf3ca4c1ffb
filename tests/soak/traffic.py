"""Requests of every kind for the demo model, and when they come and go: all of it seeded."""

import random
from collections.abc import Sequence
from functools import cache

from tokenizers import Tokenizer

from dsv4_tp import demo
from dsv4_tp.core import Cancel, Command, Request, Sampling, Submit
from dsv4_tp.text import Text
from examples.demo_model import corpus
from tests.engine.drive import request

VOCAB, END = 640, 1  # of the demo model; what ends its texts
Action = Submit | Cancel


@cache
def _words() -> Tokenizer:
    return Text.load(demo.path()).tokenizer


def held_out(number: int, length: int) -> list[int]:
    """So many ids of a text that the demo model was not trained on."""

    def ids(text: str) -> list[int]:
        return _words().encode(text, add_special_tokens=False).ids

    rng = corpus.rng_for("held-out", number)
    return corpus.sequence(rng, ids, length=max(length, 64))[:length]


def random_sampling(rng: random.Random) -> Sampling:
    """Any way to choose a token; every third one is greedy."""
    return Sampling(
        temperature=rng.choice([0, 0, 0.3, 0.8, 1.0, 2.0]),
        top_k=rng.choice([0, 0, 1, 7, 64, 200]),
        top_p=rng.choice([1, 1, 0.9, 0.5]),
        min_p=rng.choice([0, 0, 0.05]),
        seed=rng.getrandbits(64),
        repetition_penalty=rng.choice([1, 1, 1, 1.3, 0.9]),
        presence_penalty=rng.choice([0, 0, 0, 1.5, -1]),
        frequency_penalty=rng.choice([0, 0, 0, 0.7]),
        logit_bias=tuple((rng.randrange(VOCAB), rng.uniform(-9, 9)) for _ in range(_few(rng))),
        logprobs=rng.choice([None, None, 0, 5, 20]),
    )


def random_request(
    rng: random.Random, name: str, *, longest: int = 128, answer: int = 16
) -> Request:
    """A prompt of 1 to `longest` tokens, most of them short, and an answer of up to `answer`."""
    prompt = held_out(rng.randrange(1 << 20), int(longest ** rng.random()))
    stops = rng.choice([(), (END,), (END, *(rng.randrange(VOCAB) for _ in range(8)))])
    return request(
        name,
        prompt,
        rng.randint(1, answer),
        sampling=random_sampling(rng),
        stop_ids=stops,
        mtp=rng.choice([None, None, 0, 1, 2, 4]),
    )


def brief_request(rng: random.Random, name: str) -> Request:
    """The same, but most are over soon."""
    longest, answer = rng.choices([(24, 4), (128, 16)], [12, 1])[0]
    return random_request(rng, name, longest=longest, answer=answer)


def schedule(
    rng: random.Random, asked: Sequence[Request], cancels: int, steps: int, patience: int = 60
) -> list[tuple[int, Action]]:
    """They come at random steps; so many are cancelled within the next ones, if they still run."""
    comes = {one.id: rng.randrange(steps) for one in asked}
    plan: list[tuple[int, Action]] = [(comes[one.id], Submit(one)) for one in asked]
    given_up = rng.sample(asked, cancels)
    plan += [(comes[one.id] + rng.randrange(patience), Cancel(one.id)) for one in given_up]
    return sorted(plan, key=lambda each: each[0])


def batches(
    plan: Sequence[tuple[int, Action]], first: int, late: random.Random | None = None
) -> list[list[Command]]:
    """What arrives at each look, numbered from `first` on; by `late` up to three looks later."""
    arrivals: list[list[Command]] = []
    for number, (step, action) in enumerate(plan, start=first):
        at = step + (late.randrange(4) if late else 0)
        arrivals += [[] for _ in range(at + 1 - len(arrivals))]
        arrivals[-1].append(Command(number, action))  # never before the one that it follows
    return arrivals


def _few(rng: random.Random) -> int:
    return rng.choice([0, 0, 1, 3])
