"""The turn of transformers' own DeepSeek-V4, in PyTorch on the CPU.

Run by a Python that has both, and nothing of this project's dependencies but NumPy.
"""

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.beside.side import Side, serve

_torch: Any = import_module("torch")
_transformers: Any = import_module("transformers")


class InTorch(Side):
    """See Side."""

    _model: Any

    def load(self, folder: str, threads: int) -> None:
        """See Side."""
        _torch.set_num_threads(threads)
        _transformers.utils.logging.disable_progress_bar()
        kind = _transformers.DeepseekV4ForCausalLM
        self._model = kind.from_pretrained(folder, dtype=_torch.float32).eval()

    def _fresh(self) -> Any:
        return _transformers.DynamicCache(config=self._model.config)

    def _feed(self, ids: Sequence[int], cache: Any) -> Any:
        with _torch.inference_mode():
            given = _torch.tensor([ids])
            return self._model(given, past_key_values=cache, use_cache=True).logits[0]

    def _as_numpy(self, logits: Any) -> npt.NDArray[np.float32]:
        return logits.numpy()


if __name__ == "__main__":
    serve(InTorch())
