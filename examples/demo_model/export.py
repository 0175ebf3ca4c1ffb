"""The trained weights as two checkpoints: the master in bf16, and the release's FP8 and FP4."""

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from dsv4_tp.model import Model
from dsv4_tp.modelspec import Stored, contract, parse_spec
from examples.demo_model import encoding_dsv4
from examples.demo_model.files import Stock, stored, write_checkpoint
from examples.demo_model.rounding import parameter_name
from examples.demo_model.settings import CONFIG, GENERATION
from examples.demo_model.tokenizer import tokenizer_config, tokenizer_json
from examples.demo_model.trees import flat

_SHARDS = 2
# The same model without quantisation: what a training in bf16 would have saved.
MASTER_CONFIG: Mapping[str, Any] = {
    key: value
    for key, value in CONFIG.items()
    if key not in ("quantization_config", "expert_dtype")
}


def export(model: Model, out: Path) -> None:
    """Write `out/master` and `out/native` from a whole model with MTP stages."""
    for name, config in (("master", MASTER_CONFIG), ("native", CONFIG)):
        write_model(model, config, out / name)


def write_model(model: Model, config: Mapping[str, Any], where: Path) -> None:
    """One checkpoint: the weights as `config` says, tokenizer and prompt encoding."""
    json_files = {
        "config.json": config,
        "generation_config.json": GENERATION,
        "tokenizer.json": tokenizer_json(config["vocab_size"]),
        "tokenizer_config.json": tokenizer_config(config["max_position_embeddings"]),
    }
    stocks = list(_stocks(model, config))
    write_checkpoint(where, stocks, shards=_SHARDS, json_files=json_files)
    (where / "encoding").mkdir(exist_ok=True)
    shutil.copyfile(encoding_dsv4.__file__, where / "encoding" / "encoding_dsv4.py")


def _stocks(model: Model, config: Mapping[str, Any]) -> Iterator[Stock]:
    parameters = flat(model.parameters())
    for tensor in contract(parse_spec(config, where="the demo model's config"), mtp=True):
        values = cast(NDArray[Any], np.array(parameters[parameter_name(tensor.name)]))
        kind = np.int64 if tensor.stored is Stored.INT else np.float32
        yield from stored(tensor, values.astype(kind))
