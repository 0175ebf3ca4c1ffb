"""This project's turn: one rank, which holds the whole model."""

from collections.abc import Sequence
from pathlib import Path

import mlx.core as mx
import numpy as np
import numpy.typing as npt

from benchmarks import counts
from benchmarks.beside.side import Side, serve
from dsv4_tp.core import DType
from dsv4_tp.model import Cache, Model
from dsv4_tp.parallel import load_rank


class Ours(Side):
    """See Side."""

    _folder: Path
    _model: Model

    def load(self, folder: str, threads: int) -> None:
        """See Side; MLX has one thread for each stream."""
        self._folder = Path(folder)
        self._model = load_rank(self._folder, None, dtype=DType.FLOAT32).model

    def operations(self) -> dict[str, dict[str, int]]:
        """Of one token in each kind of layer: as here in float32; as on a Mac in bfloat16."""
        ways = {
            "here": (DType.FLOAT32, counts.here),
            "plain": (DType.BFLOAT16, counts.fused),
            "metal": (DType.BFLOAT16, counts.by_kernels),
        }
        return {
            name: counts.primitives(dtype, counts.USUAL_POSITION, way, self._folder)
            for name, (dtype, way) in ways.items()
        }

    def _fresh(self) -> Cache:
        return self._model.make_cache()

    def _feed(self, ids: Sequence[int], cache: Cache) -> mx.array:
        logits = self._model(mx.array([ids], mx.int32), cache)
        mx.eval(logits, cache.arrays())
        return logits[0]

    def _as_numpy(self, logits: mx.array) -> npt.NDArray[np.float32]:
        return np.array(logits, dtype=np.float32)


if __name__ == "__main__":
    serve(Ours())
