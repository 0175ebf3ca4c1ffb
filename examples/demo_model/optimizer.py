"""Muon for the matrices of the layers, Adam for the rest, as DeepSeek-V4 was trained."""

from typing import cast

import mlx.core as mx
import mlx.optimizers as optim

from examples.demo_model.settings import ADAM_RATE, MUON_RATE, WEIGHT_DECAY

# Newton and Schulz's iteration for the nearest orthogonal matrix, tuned to be fast, not exact.
_STEP = (3.4445, -4.7750, 2.0315)
# "gate." is that of the experts and, as wgate, of the compressors.
_ADAM_NAMES = ("embed.", "head.", "gate.", "hc_")


class StackedMuon(optim.Muon):
    """Muon whose matrices may lie in stacks: each expert's is made orthogonal by itself."""

    def apply_single(
        self, gradient: mx.array, parameter: mx.array, state: dict[str, mx.array]
    ) -> mx.array:
        """One parameter [..., O, I] after the step."""
        velocity = self.momentum * state["v"] + (1 - self.momentum) * gradient
        state["v"] = velocity
        update = orthogonal((1 - self.momentum) * gradient + self.momentum * velocity)
        rows, columns = parameter.shape[-2:]
        base = cast(mx.array, self.learning_rate)
        rate = base * max(1, rows / columns) ** 0.5
        return parameter * (1 - base * self.weight_decay) - rate * update


def orthogonal(matrix: mx.array, steps: int = 5) -> mx.array:
    """[..., O, I] with all its singular values brought near one."""
    tall = matrix.shape[-2] > matrix.shape[-1]
    x = matrix.swapaxes(-1, -2) if tall else matrix
    x = x / (mx.sqrt((x * x).sum(axis=(-2, -1), keepdims=True)) + 1e-7)
    a, b, c = _STEP
    for _ in range(steps):
        square = x @ x.swapaxes(-1, -2)
        x = a * x + (b * square + c * square @ square) @ x
    return x.swapaxes(-1, -2) if tall else x


def make_optimizer() -> optim.MultiOptimizer:
    """The pair, at their full rates."""
    muon = StackedMuon(learning_rate=MUON_RATE, momentum=0.95, weight_decay=WEIGHT_DECAY)
    adam = optim.Adam(learning_rate=ADAM_RATE, betas=[0.9, 0.98], bias_correction=True)
    return optim.MultiOptimizer([muon, adam], [is_matrix])


def set_rates(pair: optim.MultiOptimizer, share: float) -> None:
    """Both learning rates as a share of their full ones."""
    optimizers = cast(list[optim.Optimizer], pair.optimizers)
    for optimizer, rate in zip(optimizers, (MUON_RATE, ADAM_RATE), strict=True):
        optimizer.learning_rate = mx.array(rate * share)


def is_matrix(name: str, parameter: mx.array) -> bool:
    """Whether Muon steps it: a projection inside a layer."""
    plain = any(part in name for part in _ADAM_NAMES) or name.endswith(".ape")
    return parameter.ndim >= 2 and not plain
