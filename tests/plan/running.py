"""Models of a dtype that run here, for what a plan says of memory."""

import mlx.core as mx
from mlx.utils import tree_map_with_path

from dsv4_tp.core import DType, Part
from dsv4_tp.layouts import native_catalog
from dsv4_tp.model import Model
from dsv4_tp.modelspec import ModelSpec
from tests.model.tiny import randomise

MLX = {DType.FLOAT32: mx.float32, DType.BFLOAT16: mx.bfloat16}


def model_of(spec: ModelSpec, dtype: DType, part: Part | None = None) -> Model:
    """A random model, or a part of one, held as a loaded one is."""
    sources = native_catalog(spec, mtp=False).sources
    wide = {it.tensor.name for it in sources if it.held_dtype(dtype) in ("F32", "I32")}
    model = randomise(Model(spec, part))

    def held(path: str, array: mx.array) -> mx.array:
        return array if path in wide else array.astype(MLX[dtype])

    model.update(tree_map_with_path(held, model.parameters()))
    mx.eval(model.parameters())
    return model
