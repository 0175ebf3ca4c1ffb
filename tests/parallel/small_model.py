"""A small random model in the released layout, unquantised, with every structural feature."""

import json
from pathlib import Path

import mlx.core as mx
from mlx.utils import tree_flatten

from dsv4_tp.layouts.names import Reading
from dsv4_tp.layouts.tables import OFFICIAL
from dsv4_tp.modelspec import contract
from dsv4_tp.rules import cuts
from tests.model.tiny import tiny_model
from tests.storage_files import PLAIN

# One layer of each kind, the first with hash routing; 8 heads in 4 groups, 6 experts of width 16,
# 5 blocks of words, sinks and gate biases that matter.
CHANGES = {
    "num_hidden_layers": 3,
    "compress_ratios": (0, 4, 128),
    "num_hash_layers": 1,
    "num_nextn_predict_layers": 0,
    "hc_sinkhorn_iters": 4,
}


def write_small_model(model_dir: Path, *, seed: int = 0, **more: object) -> Path:
    """config.json and model.safetensors, float32; `more` changes the config further."""
    changes = CHANGES | more
    model = tiny_model(seed, **changes)
    held = dict(tree_flatten(model.parameters()))
    reading = Reading(OFFICIAL, (0,) * len(OFFICIAL.rows))
    stored: dict[str, mx.array] = {}
    for tensor in contract(model.spec, mtp=False):
        (cut,) = cuts(tensor, model.spec.whole, model.spec)
        names, array = reading.names(tensor, model.spec).weights, held[cut.name]
        stored |= zip(names, array if len(tensor.shape) == 3 else [array], strict=True)
    mx.save_safetensors(str(model_dir / "model.safetensors"), stored)
    config = json.loads((PLAIN / "config.json").read_text()) | changes
    (model_dir / "config.json").write_text(json.dumps(config))
    return model_dir
