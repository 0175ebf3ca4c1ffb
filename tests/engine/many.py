"""Requests of all kinds that arrive and are cancelled at random steps."""

import random

from dsv4_tp.core import Cancel, Request, Sampling, Submit
from tests.engine.drive import Script, log, request
from tests.model.tiny import random_ids

WAYS = (
    Sampling(temperature=0),
    Sampling(temperature=1.0, seed=5),
    Sampling(temperature=0.8, top_p=0.9, seed=6),
    Sampling(temperature=1.2, top_k=7, seed=7),
    Sampling(temperature=0, presence_penalty=1.5, repetition_penalty=1.2),
)


def some_requests(rng: random.Random, count: int) -> list[Request]:
    """Prompts and answers of many lengths, chosen in every way."""
    asked = []
    for number in range(count):
        length = rng.choice([1, 2, 5, 17, 40, 131, 150])
        prompt = random_ids(1, length, 64, seed=rng.randrange(1 << 20))[0].tolist()
        how = rng.choice(WAYS)
        asked.append(request(str(number), prompt, rng.randint(1, 12), sampling=how))
    return asked


def script(rng: random.Random, asked: list[Request], cancelled: list[Request]) -> Script:
    """They arrive at random steps, and some are cancelled a while later."""
    plan = [(rng.randrange(40), n, Submit(one)) for n, one in enumerate(asked)]
    plan += [(rng.randrange(40, 60), n, Cancel(one.id)) for n, one in enumerate(cancelled)]
    commands = log(*(action for _, _, action in sorted(plan, key=lambda each: each[:2])))
    batches = [[] for _ in range(60)]
    for (step, *_), command in zip(sorted(plan, key=lambda e: e[:2]), commands, strict=True):
        batches[step].append(command)
    return Script(*batches)
