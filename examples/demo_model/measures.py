"""What the demo model is measured by: functions of a model and of ids it was not trained on."""

import math
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import fmean
from typing import Any, cast

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from dsv4_tp.model import Cache, Model
from examples.demo_model.trees import flat

_CHUNK = 128  # tokens fed at a time: what attention costs grows with this number's square

Ids = Sequence[int]


@dataclass(frozen=True, slots=True)
class Question:
    """A prompt, and the answer that should follow it; ids of both, the begin token among them."""

    prompt: Ids
    answer: Ids


def perplexity(model: Model, sequences: Iterable[Ids]) -> float:
    """e to the mean nats per token; a sequence's first token is given, and not counted."""
    nats = [loss for ids in sequences for loss in _nats(model, ids)]
    return math.exp(fmean(nats))


def unigram_perplexity(training: Iterable[Ids], held_out: Iterable[Ids], words: int) -> float:
    """The perplexity of guessing by how often each of so many tokens came in training, plus one.

    Of `held_out` the same tokens are counted as by `perplexity`.
    """
    counts = np.bincount(np.concatenate(list(training)), minlength=words) + 1
    nats = -np.log(counts / counts.sum())
    return math.exp(nats[np.concatenate([ids[1:] for ids in held_out])].mean())


def retrieval(model: Model, questions: Iterable[Question]) -> float:
    """The share of questions whose whole answer greedy decoding would write, token for token."""
    return fmean(_answers(model, question) for question in questions)


def acceptance(model: Model, prompts: Iterable[Ids], tokens: int) -> float:
    """The share of first MTP drafts that greedy decoding confirms, so many tokens per prompt."""
    return fmean(hit for prompt in prompts for hit in _drafts(model, prompt, tokens))


@contextmanager
def index_topk(model: Model, rows: int) -> Generator[None]:
    """Within, the indexers choose so many rows."""
    indexers = [layer.attn.indexer for layer in model.layers if "indexer" in layer.attn]
    before = [indexer.topk for indexer in indexers]
    try:
        for indexer in indexers:
            indexer.topk = rows
        yield
    finally:
        for indexer, topk in zip(indexers, before, strict=True):
            indexer.topk = topk


def plain(model: Model) -> Model:
    """A whole model with every packed matrix written out in float32.

    Each weight is the number that its code stands for, so the model is the same. On a CPU it is
    several times faster.
    """
    arrays = flat(model.parameters())
    for path, module in cast(list[tuple[str, Any]], model.named_modules()):
        if "scales" in module:
            weight, scales = (arrays.pop(f"{path}.{name}") for name in ("weight", "scales"))
            arrays[f"{path}.weight"] = _unpacked(module, weight, scales)
    twin = Model(model.spec, mtp="mtp" in model)
    twin.load_weights([(path, _single(array)) for path, array in arrays.items()])
    mx.eval(twin.parameters())
    return twin


def _unpacked(module: Any, weight: mx.array, scales: mx.array) -> mx.array:
    return mx.dequantize(
        weight,
        scales,
        group_size=module.group_size,
        bits=module.bits,
        mode=module.mode,
        dtype=mx.float32,
    )


def _single(array: mx.array) -> mx.array:
    return array.astype(mx.float32) if mx.issubdtype(array.dtype, mx.floating) else array


def _nats(model: Model, ids: Ids) -> list[float]:
    """The loss of each token but the first."""
    logits = model.logits(_fed(model, ids[:-1], model.make_cache()))
    following = mx.array([list(ids[1:])])
    losses = nn.losses.cross_entropy(logits, following, reduction="none")
    return cast(list[float], losses[0].tolist())


def _answers(model: Model, question: Question) -> bool:
    """Whether each token of the answer is the likeliest after what stands before it.

    As long as it is, greedy decoding is at the same place: one pass tells, without decoding.
    """
    prompt, answer = list(question.prompt), list(question.answer)
    streams = _fed(model, prompt + answer[:-1], model.make_cache())
    likeliest = mx.argmax(model.logits(streams[:, len(prompt) - 1 :]), axis=-1)
    return likeliest[0].tolist() == answer


def _drafts(model: Model, prompt: Ids, tokens: int) -> Iterator[bool]:
    """For so many greedy tokens, whether the MTP stage had drafted each one."""
    cache, mtp_cache = model.make_cache(), model.make_mtp_cache()
    streams = _fed(model, prompt, cache)
    token = _likeliest(model.logits(streams[:, -1:]))
    following = [*prompt[1:], token]
    for _ in range(tokens):
        draft = _likeliest(model.mtp_logits(streams, mx.array([following]), mtp_cache))
        streams = model.streams(mx.array([[token]]), cache)
        token = _likeliest(model.logits(streams))
        following = [token]
        mx.eval(cache.arrays(), mtp_cache.arrays())
        yield draft == token


def _fed(model: Model, ids: Ids, cache: Cache) -> mx.array:
    """The streams [1, L, hc_mult, D] of ids appended to the cache."""
    pieces: list[mx.array] = []
    for start in range(0, len(ids), _CHUNK):
        piece = mx.array([list(ids[start : start + _CHUNK])])
        pieces.append(model.streams(piece, cache))
        mx.eval(pieces[-1], cache.arrays())
    return mx.concatenate(pieces, axis=1)


def _likeliest(logits: mx.array) -> int:
    return cast(int, mx.argmax(logits[0, -1]).item())
