"""mlx-lm's protocol for a model file: `Model`, `ModelArgs`, `sanitize`, predicates."""

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, cast

import mlx.core as mx
import mlx.nn as nn

from dsv4_tp import model
from dsv4_tp.checkpoint import adopt
from dsv4_tp.errors import RequestError
from dsv4_tp.mlx_lm.cache import Dsv4LayerCache
from dsv4_tp.mlx_lm.identity import identity
from dsv4_tp.modelspec import ModelSpec, Stored, contract, parse_spec
from dsv4_tp.parallel import quantise_as_stored

# A conversion by mlx-lm keeps our names; this one is in no other layout.
_OWN_NAME = "hc_head.fn"


@dataclass(frozen=True, slots=True)
class ModelArgs:
    """What mlx-lm builds from config.json."""

    spec: ModelSpec
    model_type: str = "deepseek_v4"

    @classmethod
    def from_dict(cls, params: Mapping[str, Any]) -> "ModelArgs":
        """Parses config.json; raises ModelError with the key and value that are wrong."""
        return cls(parse_spec(params))


class Model(model.Model):
    """The whole model on one device, without the MTP stages, which mlx-lm has no use for."""

    def __init__(self, args: ModelArgs) -> None:
        super().__init__(args.spec)
        self.args = args
        self.model_type = args.model_type

    @cached_property
    def identity(self) -> str:
        """Tells this model's caches from those of others."""
        return identity(self, self.spec)

    def make_cache(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
    ) -> list[Dsv4LayerCache]:
        """An empty memory as mlx-lm's tools handle it, an object for each layer."""
        return [Dsv4LayerCache(memory, self.identity) for memory in super().make_cache()]

    def __call__(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, ids: mx.array, cache: Sequence[Dsv4LayerCache] | None = None
    ) -> mx.array:
        """Appends ids [B, L] to the cache -> float32 logits [B, L, V]; of padding they are 0.

        Raises:
            RequestError: the cache is of other software or of another model.
        """
        if cache is None:
            return super().__call__(ids, super().make_cache())
        self._check(cache)
        for layer in cache:
            layer.begin(ids.shape[0])
        if cache[0].padded:
            logits = self._apart(ids, cache)
        else:
            logits = super().__call__(ids, model.Cache(layer.memory for layer in cache))
        # mlx-lm evaluates tokens. What no token depends on yet would wait, and grow, for long.
        held = [array for layer in cache for array in layer.arrays]
        return cast(mx.array, mx.depends(logits, held))

    def _check(self, cache: Sequence[Dsv4LayerCache]) -> None:
        kinds = sorted({type(layer).__name__ for layer in cache})
        if kinds != [Dsv4LayerCache.__name__] or len(cache) != len(self.layers):
            raise RequestError(
                f"the prompt cache has {len(cache)} layers of {', '.join(kinds)}, not"
                f" {len(self.layers)} of {Dsv4LayerCache.__name__}: make it with this model"
            )
        if any(layer.model != self.identity for layer in cache):
            raise RequestError(
                f"the prompt cache was made with another model ({cache[0].model}), this one is"
                f" {self.identity}: other weights, another format or dtype, or another config.json"
            )

    def _apart(self, ids: mx.array, cache: Sequence[Dsv4LayerCache]) -> mx.array:
        """Feeds of each row of ids [B, L], one after the other, what is no padding."""
        length, rows = ids.shape[1], list[mx.array]()
        counts = cache[0].own(length)
        if not any(counts):
            raise RequestError("the prompts are fed: a prompt cache needs finalize() to go on")
        for number, count in enumerate(counts):
            alone = model.Cache(layer.memory.of(number) for layer in cache)
            row = mx.zeros((1, 0, self.spec.vocab_size))
            if count:
                row = super().__call__(ids[number : number + 1, :count], alone)
                mx.eval(alone.arrays())
            rows.append(mx.pad(row, [(0, 0), (0, length - count), (0, 0)]))
        return mx.concatenate(rows)

    def sanitize(self, weights: dict[str, mx.array]) -> dict[str, mx.array]:
        """The tensors of any layout as this model's parameters, quantised ones kept bit for bit.

        Modules whose weights are packed become quantised ones here: mlx-lm itself knows neither
        DeepSeek's formats nor the names that other conversions gave theirs. Raises
        CheckpointError for a name left over or unfilled.
        """
        if _OWN_NAME in weights:
            return weights
        adopted = adopt(self.spec, weights)
        quantise_as_stored(self, adopted.catalog)
        return adopted.parameters

    @property
    def cast_predicate(self) -> Callable[[str], bool]:
        """Whether a parameter may be held in another dtype; what the reference keeps may not."""
        exact = {t.name for t in contract(self.spec, mtp=False) if t.stored is Stored.F32}
        return lambda path: path not in exact

    @property
    def quant_predicate(self) -> Callable[[str, nn.Module], bool]:
        """Whether a module may be quantised: those the release quantises."""
        small = (Stored.FP8, Stored.FP4)
        formats = {t.name: t.stored for t in contract(_as_released(self.spec), mtp=False)}

        def predicate(path: str, _: nn.Module) -> bool:
            name = path.replace(".wo_a.0", ".wo_a") + ".weight"
            return formats.get(name) in small

        return predicate


def register() -> None:
    """Makes mlx-lm find this model under `deepseek_v4`, which it does not ship itself.

    And its caches by their name, which is how files of prompt caches are read.
    """
    models = importlib.import_module("mlx_lm.models")
    plugin = sys.modules[__name__]
    sys.modules["mlx_lm.models.deepseek_v4"] = plugin
    models.deepseek_v4 = plugin  # pyright: ignore[reportAttributeAccessIssue]
    caches = importlib.import_module("mlx_lm.models.cache")
    setattr(caches, Dsv4LayerCache.__name__, Dsv4LayerCache)


def _as_released(spec: ModelSpec) -> ModelSpec:
    """The same model as DeepSeek stores it, whatever these files are."""
    return replace(spec, linear_format="fp8", expert_format="fp4")
