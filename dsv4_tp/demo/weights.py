"""Random values for every tensor of a model, and how the release names and stores them."""

import hashlib
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsv4_tp.demo.formats import Floats, pack_bf16, pack_fp4, pack_fp8
from dsv4_tp.demo.tokenizer import printable_ids
from dsv4_tp.modelspec import ModelSpec, Stored, Tensor, contract

# Mean and spread by the end of a name; a matrix without a row has mean 0, spread 1 / sqrt(inputs).
_SHAPES: tuple[tuple[str, float, float], ...] = (
    ("norm.weight", 1.0, 0.2),
    ("embed.weight", 0.0, 1.0),
    ("attn_sink", 0.0, 1.0),
    ("gate.bias", 0.0, 0.1),
    (".ape", 0.0, 0.5),
    (".base", 0.0, 0.5),
    (".scale", 1.0, 0.2),
)
_ATTENTION_GAIN = 3.0  # an average of random rows is small; a mistake in it should show
_LOGIT_SPREAD = 4.0  # of the likely tokens, a quarter of all: 2 over the whole vocabulary
# Unlikely tokens: bytes that would upset a terminal, and tokens that are no text.
_UNLIKELY = 0.1


@dataclass(frozen=True, slots=True)
class Stock:
    """One tensor as it lies in a safetensors file; `dtype` in that format's words."""

    name: str
    dtype: str
    data: NDArray[Any]


def release(spec: ModelSpec) -> Iterator[Stock]:
    """Every tensor of the model, MTP included, in the release's names and formats."""
    for tensor in contract(spec, mtp=True):
        yield from _stored(tensor, _values(tensor, spec))


def _stored(tensor: Tensor, values: NDArray[Any]) -> Iterator[Stock]:
    name = re.sub(r"(hc_\w+)\.(fn|base|scale)$", r"\1_\2", tensor.name)
    match tensor.stored:
        case Stored.FP8:
            yield from _scaled(name, "F8_E4M3", *pack_fp8(values))
        case Stored.FP4:
            # The model stacks experts; the release has a pair of tensors for each.
            for expert, matrix in enumerate(values):
                one = name.replace(".experts.", f".experts.{expert}.")
                packed, scales = pack_fp4(matrix)
                yield from _scaled(one, "I8", packed.view(np.int8), scales)
        case Stored.BF16:
            yield Stock(name, "BF16", pack_bf16(values))
        case Stored.F32:
            yield Stock(name, "F32", values)
        case Stored.INT:
            yield Stock(name, "I64", values)


def _scaled(name: str, dtype: str, codes: NDArray[Any], scales: NDArray[Any]) -> Iterator[Stock]:
    yield Stock(name, dtype, codes)
    yield Stock(name.removesuffix("weight") + "scale", "F8_E8M0", scales)


def _values(tensor: Tensor, spec: ModelSpec) -> NDArray[Any]:
    if tensor.stored is Stored.INT:
        return _expert_choice(tensor, spec)
    bell = _bell(tensor.name, tensor.shape)
    if tensor.name == "head.weight":
        return bell * _logit_spreads(spec)
    for end, mean, spread in _SHAPES:
        if tensor.name.endswith(end):
            return np.float32(mean) + np.float32(spread) * bell
    gain = _ATTENTION_GAIN if tensor.name.endswith("wo_b.weight") else 1.0
    return bell * np.float32(gain / math.sqrt(tensor.shape[-1]))


def _logit_spreads(spec: ModelSpec) -> Floats:
    """How far the head's rows reach, [V, 1]: the spread of a logit of a normalised vector."""
    spreads = np.full((spec.vocab_size, 1), _UNLIKELY, dtype=np.float32)
    spreads[printable_ids()] = 1.0
    return spreads * np.float32(_LOGIT_SPREAD / math.sqrt(spec.hidden_size))


def _expert_choice(tensor: Tensor, spec: ModelSpec) -> NDArray[np.int64]:
    """tid2eid [V, top-k]: for every token so many different experts."""
    keys = _raw(tensor.name, (spec.vocab_size, spec.n_routed_experts))
    return np.argsort(keys, axis=1)[:, : spec.num_experts_per_tok].astype(np.int64)


def _bell(name: str, shape: tuple[int, ...]) -> Floats:
    """Random numbers of mean 0 and spread 1, almost normal.

    A sum of four uniform integers: unlike a normal generator it calls no mathematical library, so
    it is the same on every machine.
    """
    uniform = _raw(name, shape).astype("<u8").view("<u2").reshape(*shape, 4)
    centred = uniform.astype(np.int32).sum(axis=-1, dtype=np.int32) - np.int32(2 * 65535)
    return centred.astype(np.float32) / np.float32(65536 / math.sqrt(3))


def _raw(name: str, shape: tuple[int, ...]) -> NDArray[np.uint64]:
    """64 random bits per element, a stream of its own for every name."""
    # NumPy promises that a bit generator's stream never changes; its distributions may.
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
    return np.random.PCG64(seed).random_raw(math.prod(shape)).reshape(shape)
