"""The turn of mlx-lm's DeepSeek-V4.1, the nearest to V4 that it has, at the widths of the config.

Its layers have hyper-connections and compressors too, but are not V4's: each mixes its streams by
what the layer before it found; windows that are compressed do not overlap; every layer here that
compresses has an indexer, which at ratio 128 V4's have not; rows and index queries are rounded to
FP8 and FP4 on the way; no layer is hashed. So its weights are random ones of its own, and what it
says is not compared.
"""

import json
from collections.abc import Sequence
from copy import copy
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import patch

import mlx.core as mx
import numpy as np
import numpy.typing as npt
from mlx.utils import tree_map_with_path  # pyright: ignore[reportUnknownVariableType]

from benchmarks.beside.models import random_weight
from benchmarks.beside.side import Side, serve
from benchmarks.counts import operations

_file: Any = import_module("mlx_lm.models.deepseek_v41")


class InMlxLm(Side):
    """See Side."""

    _model: Any

    def load(self, folder: str, threads: int) -> None:
        """See Side; of the folder it takes config.json alone."""
        config = json.loads((Path(folder) / "config.json").read_text())
        compressing = [n for n, ratio in enumerate(config["compress_ratios"]) if ratio]
        sources = {"kv_source_layer_ids": compressing, "index_source_layer_ids": compressing}
        self._model = _file.Model(_file.ModelArgs.from_dict({**config, **sources}))
        keys = iter(mx.random.split(mx.random.key(0), 4096))

        def random(path: str, old: mx.array) -> mx.array:
            return random_weight(path, old.shape, next(keys))

        self._model.update(tree_map_with_path(random, self._model.parameters()))
        mx.eval(self._model.parameters())

    def operations(self) -> dict[str, dict[str, int]]:
        """Of one token in each kind of layer: as here in float32; as on a Mac in bfloat16."""
        found = {"here": self._counted(mx.float32)}
        self._narrow()
        found["plain"] = self._counted(mx.bfloat16)
        with patch.object(_file, "_sinkhorn", _in_one):  # its only kernel
            found["metal"] = self._counted(mx.bfloat16)
        return found

    def _narrow(self) -> None:
        """To bfloat16, in which the model can be counted on a CPU but not run."""
        stays = self._model.cast_predicate

        def cast(path: str, old: mx.array) -> mx.array:
            return old.astype(mx.bfloat16) if stays(path) else old

        self._model.update(tree_map_with_path(cast, self._model.parameters()))
        mx.eval(self._model.parameters())

    def _counted(self, dtype: mx.Dtype) -> dict[str, int]:
        """Of a token after those that are in the cache, which stays as it is."""
        args = self._model.args
        streams = mx.ones((1, 1, args.hc_mult, args.hidden_size), dtype)
        mixed = mx.ones((1, 1, args.hc_mult), mx.float32)
        mx.eval(streams, mixed)
        found: dict[str, int] = {}
        for number, ratio in enumerate(args.compress_ratios):
            cache = copy(self._cache[number])
            for name in ("window", "compress_kv", "index_k"):
                setattr(cache, name, _cast(getattr(cache, name), dtype))
            window = _window(cache, args.sliding_window)
            given: Any = {"start_pos": cache.offset, "window_idx": window, "shared": {}}
            out = self._model.layers[number](streams, mixed, cache=cache, **given)
            found[str(ratio)] = operations(*out, *_held(cache))
        return found

    def _fresh(self) -> Any:
        return self._model.make_cache()

    def _feed(self, ids: Sequence[int], cache: Any) -> mx.array:
        logits = self._model(mx.array([ids], mx.int32), cache)
        mx.eval(logits, [_held(layer) for layer in cache])
        return logits[0]

    def _as_numpy(self, logits: mx.array) -> npt.NDArray[np.float32]:
        return np.array(logits, dtype=np.float32)


def _window(cache: Any, size: int) -> mx.array:
    """Which rows of the window a new token meets; the model makes it once for all its layers."""
    found = _file._window_indices(previous=cache.window.shape[1], length=1, window=size)
    found = mx.broadcast_to(found, (1, *found.shape))
    mx.eval(found)
    return found


def _cast(array: mx.array | None, dtype: mx.Dtype) -> mx.array | None:
    if array is None:
        return None
    array = array.astype(dtype)
    mx.eval(array)
    return array


def _held(cache: Any) -> list[mx.array]:
    names = ("window", "compress_kv", "index_k", "pending_kv", "pending_gate")
    return [array for name in names if (array := getattr(cache, name)) is not None]


def _in_one(comb: mx.array, *, iters: int, eps: mx.array) -> mx.array:
    """Stands in for its kernel of Sinkhorn's steps: one operation."""
    return comb + eps


if __name__ == "__main__":
    serve(InMlxLm())
