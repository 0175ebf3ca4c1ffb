"""mlx-lm's protocol for a model file: `Model`, `ModelArgs`, `sanitize`, predicates."""

import importlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from dsv4_tp import model
from dsv4_tp.checkpoint import adopt
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
    """Makes mlx-lm find this model under `deepseek_v4`, which it does not ship itself."""
    models = importlib.import_module("mlx_lm.models")
    plugin = sys.modules[__name__]
    sys.modules["mlx_lm.models.deepseek_v4"] = plugin
    models.deepseek_v4 = plugin  # pyright: ignore[reportAttributeAccessIssue]


def _as_released(spec: ModelSpec) -> ModelSpec:
    """The same model as DeepSeek stores it, whatever these files are."""
    return replace(spec, linear_format="fp8", expert_format="fp4")
