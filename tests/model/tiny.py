"""Small random models with every structural feature, for tests that need no reference."""

import dataclasses

import mlx.core as mx
from mlx.utils import tree_map_with_path

from dsv4_tp.model import Model
from dsv4_tp.modelspec import ModelSpec, read_spec
from tests.model.golden import ROOT


def tiny_spec(**changes: object) -> ModelSpec:
    """Five layers (0, 0, 4, 128, 4), two hash layers, 8 heads in 4 groups; with `changes`."""
    return dataclasses.replace(read_spec(ROOT / "public" / "a1_flash_mini"), **changes)


def randomise(model: Model, seed: int = 0) -> Model:
    """Fills every parameter: norms near one, matrices so that activations keep their size."""
    keys = iter(mx.random.split(mx.random.key(seed), 4096))
    experts = model.spec.n_routed_experts

    def fill(path: str, old: mx.array) -> mx.array:
        key = next(keys)
        if path.endswith("tid2eid"):
            return mx.random.randint(0, experts, old.shape, key=key).astype(mx.int32)
        noise = mx.random.normal(old.shape, key=key)
        if path.endswith("norm.weight"):
            return 1 + 0.1 * noise
        return noise * (old.shape[-1] ** -0.5 if old.ndim > 1 else 0.5)

    model.update(tree_map_with_path(fill, model.parameters()))
    mx.eval(model.parameters())
    return model


def tiny_model(seed: int = 0, **changes: object) -> Model:
    """A random whole model of `tiny_spec(**changes)` in float32."""
    return randomise(Model(tiny_spec(**changes)), seed)


def random_ids(batch: int, length: int, vocab: int, seed: int = 0) -> mx.array:
    """Token ids [batch, length]."""
    return mx.random.randint(0, vocab, (batch, length), key=mx.random.key(seed)).astype(mx.int32)
