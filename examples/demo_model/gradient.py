"""The gradient of one batch, by one thread per core."""

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from random import Random
from threading import Barrier, Lock
from typing import Any, cast

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import psutil
from numpy.typing import NDArray

from dsv4_tp.model import Model
from dsv4_tp.modelspec import ModelSpec
from examples.demo_model.trees import Tree, mean
from examples.demo_model.twins import trainable

MTP_WEIGHT = 0.3
_TRACE_DEADLINE_S = 300
_CLOSE_DEADLINE_S = 1.0

Ids = NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class Outcome:
    """Means over one batch, and the gradient's tree."""

    loss: float  # nats per token
    mtp_loss: float
    index_loss: float
    loads: list[NDArray[np.float32]]  # of each gate with a bias, the experts' shares [E]
    gradient: Tree


class Team:
    """Threads that share a batch. MLX's streams belong to threads, so each has its own model."""

    def __init__(self, spec: ModelSpec, size: int) -> None:
        self._others = psutil.Process().num_threads()
        self._threads = [ThreadPoolExecutor(1) for _ in range(size)]
        self._models = [thread.submit(_fresh, spec).result() for thread in self._threads]
        # MLX keeps one flag for the whole process while it traces: an evaluation beside a trace
        # would keep its graph. So one traces at a time, and all evaluate afterwards.
        self._tracing, self._traced = Lock(), Barrier(size)

    def gradient(self, parameters: Tree, ids: Ids, *, select: bool, seed: int) -> Outcome:
        """The batch's mean losses and gradient.

        Args:
            parameters: all of a model, evaluated, those without gradients too.
            ids: [B, L + 2], B a multiple of the team's size.
            select: whether the indexer chooses rows; else every visible row is read.
            seed: of where the indexer learns.
        """
        size = len(self._threads)
        futures = [
            thread.submit(self._share, model, parameters, ids[k::size], select, seed)
            for k, (thread, model) in enumerate(zip(self._threads, self._models, strict=True))
        ]
        return _mean([future.result() for future in futures])

    def close(self) -> None:
        """End the threads, those of MLX too: one that still ends at exit aborts the program."""
        for thread in self._threads:
            thread.shutdown()
        self._models.clear()
        ends_s = time.monotonic() + _CLOSE_DEADLINE_S
        while psutil.Process().num_threads() > self._others and time.monotonic() < ends_s:
            time.sleep(0.01)

    def _share(self, model: Model, parameters: Tree, ids: Ids, select: bool, seed: int) -> Outcome:
        with self._tracing:
            model.update(parameters)
            for block in (*model.layers, *model.mtp):
                block.attn.select, block.attn.draw = select, Random(seed)
            traced = _traced(model, mx.array(ids))
        self._traced.wait(_TRACE_DEADLINE_S)
        return _evaluated(*traced)


Traced = tuple[mx.array, list[mx.array], Tree]


def _traced(model: Model, ids: mx.array) -> Traced:
    """The losses [3], the gates' loads and the gradient, not yet computed."""

    def total() -> tuple[mx.array, mx.array, list[mx.array]]:
        losses = _losses(model, ids)
        loads = [block.ffn.gate.load for block in biased(model)]
        return losses[0] + MTP_WEIGHT * losses[1] + losses[2], losses, loads

    (_, losses, loads), gradient = cast(
        tuple[tuple[mx.array, mx.array, list[mx.array]], Tree], nn.value_and_grad(model, total)()
    )
    return losses, loads, gradient


def _evaluated(losses: mx.array, loads: list[mx.array], gradient: Tree) -> Outcome:
    mx.eval(losses, loads, gradient)
    loss, mtp_loss, index_loss = (float(value) for value in np.array(losses))
    return Outcome(loss, mtp_loss, index_loss, [np.array(load) for load in loads], gradient)


def _losses(model: Model, ids: mx.array) -> mx.array:
    """Of the model, its MTP stage and its indexers for ids [B, L + 2], [3]."""
    length = ids.shape[1] - 2
    now, after, later = (ids[:, i : i + length] for i in range(3))
    streams = model.streams(now, model.make_cache())
    loss = _cross_entropy(model.logits(streams), after)
    mtp = _cross_entropy(model.mtp_logits(streams, after, model.make_mtp_cache()), later)
    index = sum((cast(mx.array, b.attn.index_loss) for b in model.layers), mx.zeros(()))
    return mx.stack([loss, mtp, index])


def biased(model: Model) -> list[Any]:
    """The blocks whose gates have a bias, MTP stages last."""
    return [block for block in (*model.layers, *model.mtp) if "bias" in block.ffn.gate]


def _cross_entropy(logits: mx.array, ids: mx.array) -> mx.array:
    return nn.losses.cross_entropy(logits, ids, reduction="mean")


def _mean(outcomes: Sequence[Outcome]) -> Outcome:
    share = 1 / len(outcomes)
    return Outcome(
        loss=share * sum(o.loss for o in outcomes),
        mtp_loss=share * sum(o.mtp_loss for o in outcomes),
        index_loss=share * sum(o.index_loss for o in outcomes),
        loads=[
            share * np.sum(loads, axis=0)
            for loads in zip(*(o.loads for o in outcomes), strict=True)
        ],
        gradient=mean([o.gradient for o in outcomes]),
    )


def _fresh(spec: ModelSpec) -> Model:
    model = trainable(spec)
    freeze(model)
    mx.eval(model.parameters())
    return model


def freeze(model: Model) -> None:
    """Takes what has no gradient from the trainable parameters: gate biases and hash tables."""
    model.apply_to_modules(lambda _, m: m.freeze(keys=["bias", "tid2eid"], recurse=False))
