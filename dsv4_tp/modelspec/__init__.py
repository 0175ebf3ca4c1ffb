"""config.json, parsed once into a frozen ModelSpec, and every tensor such a model has."""

from dsv4_tp.modelspec.contract import Stored, Tensor, contract
from dsv4_tp.modelspec.parse import parse_spec, read_spec
from dsv4_tp.modelspec.quantization import MlxQuantization, MlxSetting
from dsv4_tp.modelspec.spec import ModelSpec, Yarn

__all__ = [
    "MlxQuantization",
    "MlxSetting",
    "ModelSpec",
    "Stored",
    "Tensor",
    "Yarn",
    "contract",
    "parse_spec",
    "read_spec",
]
