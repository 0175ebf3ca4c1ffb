"""The training twins compute what the model computes, and let the right gradients through."""

import mlx.core as mx
import mlx.nn as nn
import pytest

from dsv4_tp.model import Model
from examples.demo_model import twins
from examples.demo_model.initial import initialise
from examples.demo_model.trees import flat
from examples.demo_model.twins import divergence, trainable
from tests.demo_model.small import SMALL

LENGTH = 160  # one row of ratio 128 and 40 of ratio 4
IDS = mx.random.randint(0, SMALL.vocab_size, (2, LENGTH + 1), key=mx.random.key(3))


@pytest.fixture(scope="module")
def pair():
    """The twin and the model, with the same weights; places enough that no token is dropped."""
    twin, model = trainable(SMALL), Model(SMALL, mtp=True)
    initialise(twin, SMALL, seed=1, token_counts=range(SMALL.vocab_size))
    for block in twin.layers:
        block.attn.attn_sink = mx.arange(4) * 0.5
    model.update(twin.parameters())
    return twin, model


def logits(model):
    streams = model.streams(IDS[:, :-1], model.make_cache())
    return model.logits(streams), model.mtp_logits(streams, IDS[:, 1:], model.make_mtp_cache())


def furthest(pair):
    twin, model = pair
    return max(
        (mx.abs(a - b).max() / b.std()).item()
        for a, b in zip(logits(twin), logits(model), strict=True)
    )


def test_twin_equals_model(pair, monkeypatch):
    monkeypatch.setattr(twins, "CAPACITY", 8)
    assert furthest(pair) < 5e-5


def test_reading_every_row_is_something_else(pair, monkeypatch):
    monkeypatch.setattr(twins, "CAPACITY", 8)
    attn = pair[0].layers[1].attn
    monkeypatch.setattr(attn, "select", False)
    assert furthest(pair) > 1e-2


def test_tokens_beyond_an_experts_places_are_dropped(pair, monkeypatch):
    monkeypatch.setattr(twins, "CAPACITY", 0.5)
    assert furthest(pair) > 1e-2


def gradient(twin, part):
    """Norms of the gradient of one part of what is minimised, by parameter."""

    def value():
        streams = twin.streams(IDS[:, :-1], twin.make_cache())
        if part == "index":
            return twin.layers[1].attn.index_loss
        return nn.losses.cross_entropy(twin.logits(streams), IDS[:, 1:], reduction="mean")

    twin.apply_to_modules(lambda _, m: m.freeze(keys=["bias", "tid2eid"], recurse=False))
    _, gradients = nn.value_and_grad(twin, value)()
    return {name: mx.abs(array).max().item() for name, array in flat(gradients).items()}


def test_the_index_loss_moves_the_indexer_alone(pair):
    moved = {name for name, size in gradient(pair[0], "index").items() if size > 0}
    assert moved == {
        f"layers.1.attn.indexer.{name}"
        for name in (
            *("wq_b.weight", "weights_proj.weight"),
            *(
                f"compressor.{part}"
                for part in ("ape", "wkv.weight", "wgate.weight", "norm.weight")
            ),
        )
    }


def test_the_loss_moves_everything_else_of_the_backbone(pair):
    still = {name for name, size in gradient(pair[0], "loss").items() if size == 0}
    assert {name for name in still if not name.startswith("mtp.")} == {
        name for name in still if ".indexer." in name
    }


def test_the_index_loss_is_least_where_scores_follow_attention():
    seen = mx.arange(8) < mx.array([1, 3, 8])[:, None]
    attention = mx.where(seen, mx.random.uniform(0.1, 1, (2, 3, 8), key=mx.random.key(5)), 0)
    told = mx.where(seen, mx.log(mx.maximum(attention, 1e-9)), 50)  # what is not seen counts not
    shares = attention / attention.sum(axis=-1, keepdims=True)
    logs = mx.where(seen, mx.log(mx.maximum(shares, 1e-9)), 0)
    floor = -(attention * logs).sum() / attention.sum()
    assert divergence(attention, told, seen).item() == pytest.approx(floor.item(), rel=1e-5)
    assert divergence(attention, told * 0.5, seen) > floor
    assert divergence(attention, -told, seen) > divergence(attention, told * 0.5, seen)
