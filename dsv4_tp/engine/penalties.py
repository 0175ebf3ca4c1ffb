"""Bias and penalties: what the history of a sequence does to the logits of its next token.

In this order, for every id, each rank for its own ids only:

1. bias: logit + b, before the penalties as in vLLM.
2. repetition r, for ids of the prompt and the generated text (Hugging Face, vLLM): a logit above
   0 is divided by r, any other multiplied by it.
3. presence p and frequency f, for ids generated so far, not those of the prompt (OpenAI, vLLM):
   logit - (f * count + p).
"""

from collections.abc import Sequence
from functools import lru_cache

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from dsv4_tp.core import Span
from dsv4_tp.engine.draws import Draw

_Ids = NDArray[np.int64]
_Values = NDArray[np.float64]


def adjusted(logits: mx.array, draws: Sequence[Draw], span: Span) -> mx.array:
    """The logits [B, len(span)] with each row's bias and penalties, float32 like them."""
    changes = [(row, *_changes(draw, span)) for row, draw in enumerate(draws) if _has_any(draw)]
    if not any(ids.size for _, ids, _ in changes):
        return logits
    places = np.concatenate([row * len(span) + ids for row, ids, _ in changes])
    how = np.concatenate([values for *_, values in changes], axis=1)
    at, (bias, factor, less) = mx.array(places), mx.array(how.astype(np.float32))
    picked = logits.flatten()[at] + bias
    picked = mx.where(picked > 0, picked / factor, picked * factor) - less
    return mx.put_along_axis(logits.flatten(), at, picked, axis=0).reshape(logits.shape)


def _has_any(draw: Draw) -> bool:
    wish = draw.sampling
    penalties = (wish.repetition_penalty - 1, wish.presence_penalty, wish.frequency_penalty)
    return bool(wish.logit_bias) or any(penalties)


def _changes(draw: Draw, span: Span) -> tuple[_Ids, _Values]:
    """The ids of the span that change, counted from its start, and how, [3, ids].

    That is what is added first, the factor of repetition, and what is subtracted in the end.
    """
    wish, history = draw.sampling, draw.history
    biased = np.array(wish.logit_bias, dtype=np.float64).reshape(-1, 2)
    told = _distinct(history.prompt if wish.repetition_penalty != 1 else ())
    made, times = np.unique(np.array(history.generated, dtype=np.int64), return_counts=True)
    ids = np.unique(np.concatenate([biased[:, 0].astype(np.int64), told, made]))
    ids = ids[(ids >= span.start) & (ids < span.stop)]
    count = _spread(times, made, ids)
    repeated = (count > 0) | np.isin(ids, told)
    how = [
        _spread(biased[:, 1], biased[:, 0], ids),
        np.where(repeated, wish.repetition_penalty, 1.0),
        wish.frequency_penalty * count + wish.presence_penalty * (count > 0),
    ]
    return ids - span.start, np.stack(how)


def _spread(values: _Values | _Ids, of: _Values | _Ids, ids: _Ids) -> _Values:
    """The values of some ids, put where these are among the sorted `ids`; 0 elsewhere."""
    held = np.isin(of, ids)
    spread = np.zeros(len(ids))
    spread[np.searchsorted(ids, of[held])] = values[held]
    return spread


@lru_cache(maxsize=64)
def _distinct(prompt: tuple[int, ...]) -> _Ids:
    """The ids of a prompt, each once; kept, for a long one is asked about at every token."""
    return np.unique(np.array(prompt, dtype=np.int64))
