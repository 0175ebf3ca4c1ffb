"""The demo model as mlx-lm loads it, prompts of unequal lengths, and each one's text alone."""

import functools

import mlx.core as mx
import mlx_lm
from mlx_lm.generate import generate_step

from dsv4_tp import demo
from dsv4_tp.mlx_lm import Model, register

CODES = {
    "red door": 4182,
    "blue box": 3517,
    "green room": 9064,
    "brown door": 8799,
    "red box": 5406,
    "blue door": 2447,
    "pink box": 3193,
    "black gate": 6025,
}
FILLER = (
    "It was a quiet morning.",
    "The favourite animal of Emma is the goat.",
    "She looked in the kitchen and found nothing.",
    "In the evening they went home and ate honey.",
)
MORE = 12  # tokens, with which an answer is complete


def question(number: int) -> str:
    """About a code that was told some sentences before, after `number` others."""
    names = list(CODES)[: number + 1]
    told = [f"The code of the {name} is {CODES[name]}." for name in names]
    between = [FILLER[place % len(FILLER)] for place in range(2 * number)]
    story = " ".join([*told, *between])
    return f"<｜User｜>{story} What is the code of the {names[-1]}?<｜Assistant｜></think>"


# Their answers are far more likely than any others, so rounding does not change them.
TEXTS = tuple(map(question, range(len(CODES))))
# What may follow an answer.
TURN = ".<｜end▁of▁sentence｜><｜User｜>What is the code of the red door?<｜Assistant｜></think>"


@functools.cache
def loaded(dtype: mx.Dtype = mx.float32) -> tuple[Model, object]:
    """The model and its tokenizer. By itself mlx-lm loads bfloat16, which is slow on a CPU."""
    register()
    model, tokenizer = mlx_lm.load(str(demo.path()))
    model.set_dtype(dtype)
    return model, tokenizer


def encoded(text: str) -> list[int]:
    return [0, *loaded()[1].encode(text, add_special_tokens=False)]


def prompts() -> list[list[int]]:
    """Of 26 to 240 tokens; windows are of 32 and pools of 4 and 128."""
    return [encoded(text) for text in TEXTS]


def steps(prompt: list[int], count: int = MORE, **options) -> list[tuple[int, mx.array]]:
    """The most likely `count` tokens after `prompt` and their logprobs, by mlx-lm's generator."""
    model, _ = loaded(options.pop("dtype", mx.float32))
    return list(generate_step(mx.array(prompt), model, max_tokens=count, **options))


def alone(prompt: list[int], count: int = MORE, **options) -> list[int]:
    """Those tokens only."""
    return [token for token, _ in steps(prompt, count, **options)]
