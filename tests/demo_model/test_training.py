"""A few steps of the real training, on a smaller model: it learns, and it goes on exactly."""

import csv
from contextlib import closing, contextmanager

import mlx.core as mx
import numpy as np
import pytest

from dsv4_tp.core import DType
from dsv4_tp.model import Model
from dsv4_tp.modelspec import parse_spec
from dsv4_tp.parallel import load_rank
from examples.demo_model import settings, train
from examples.demo_model.batches import Batches
from examples.demo_model.curve import Curve
from examples.demo_model.export import MASTER_CONFIG, write_model
from examples.demo_model.initial import balanced_table
from examples.demo_model.rounding import rounder
from examples.demo_model.train import Trainer
from examples.demo_model.trees import flat, unflat
from tests.demo_model.small import PHASES, SMALL, SMALL_CONFIG

pytestmark = pytest.mark.slow

STEPS = sum(phase.steps for phase in PHASES)


@pytest.fixture(scope="module", autouse=True)
def small():
    """A small model, at full rate from the first step on."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "CONFIG", SMALL_CONFIG)
        patch.setattr(train, "_SAVE_STEPS", 2)
        patch.setattr(settings, "WARMUP_STEPS", 1)
        yield


@contextmanager
def trained(folder):
    with closing(Trainer(Batches(PHASES), 2)) as trainer:
        state = folder / "state.safetensors"
        if state.exists():
            trainer.resume(state)
        train.run(trainer, Curve.load(folder / "loss.csv", steps=trainer.next_step), state)
        yield trainer


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("training")


@pytest.fixture(scope="module")
def whole(folder):
    with trained(folder) as trainer:
        yield trainer


def test_it_learns(whole, folder):
    with (folder / "loss.csv").open() as lines:
        rows = list(csv.DictReader(lines))
    assert [int(row["step"]) for row in rows] == list(range(STEPS))
    assert float(rows[-1]["loss"]) < float(rows[0]["loss"]) - 0.2
    assert (folder / "loss.svg").read_text().count("<polyline") == 3


def test_gate_biases_and_sinks_have_moved(whole):
    for block in (*whole.model.layers[1:], *whole.model.mtp):
        assert mx.abs(block.ffn.gate.bias).max() > 0
        assert mx.abs(block.attn.attn_sink).max() > 0


def test_an_interrupted_training_ends_with_the_same_bits(whole, folder, tmp_path, monkeypatch):
    class Interrupted(Exception):
        pass

    def interrupted(self, ids):
        if self.next_step == 5:
            raise Interrupted
        return step(self, ids)

    step = Trainer.step
    monkeypatch.setattr(Trainer, "step", interrupted)
    with pytest.raises(Interrupted), trained(tmp_path):
        pass
    monkeypatch.setattr(Trainer, "step", step)
    wanted = flat(whole.model.parameters())
    with trained(tmp_path) as again:
        for name, value in flat(again.model.parameters()).items():
            assert mx.array_equal(value, wanted[name]), name
    lines = [(tmp_path / "loss.csv").read_text(), (folder / "loss.csv").read_text()]
    ours, theirs = ([row.rsplit(",", 1)[0] for row in text.splitlines()] for text in lines)
    assert ours == theirs


def test_one_thread_finds_the_same_gradient_as_two(whole):
    ids = whole.batches.ids(STEPS - 1)
    parameters = whole.model.parameters()
    two = whole._team.gradient(parameters, ids, select=True, seed=1)
    # The halves one after the other: experts' places are counted per thread.
    with closing(train.Team(SMALL, 1)) as one:
        halves = [one.gradient(parameters, ids[k::2], select=True, seed=1) for k in range(2)]
    assert two.loss == pytest.approx(sum(half.loss for half in halves) / 2, rel=1e-6)
    first, second = (flat(half.gradient) for half in halves)
    for name, value in flat(two.gradient).items():
        wanted = (first[name] + second[name]) / 2
        assert mx.abs(value - wanted).max() <= 1e-5 * mx.abs(wanted).max() + 1e-9, name


@pytest.mark.parametrize(
    "keys", [SMALL_CONFIG.keys(), MASTER_CONFIG.keys()], ids=["native", "master"]
)
def test_a_written_checkpoint_is_the_rounded_model(whole, tmp_path, keys):
    config = {key: SMALL_CONFIG[key] for key in keys}
    write_model(whole.model, config, tmp_path)
    loaded = load_rank(tmp_path, None, dtype=DType.FLOAT32, mtp=True)
    rounded = Model(SMALL, mtp=True)
    kept = rounder(parse_spec(config, where="the test's config"))
    rounded.update(unflat(kept(flat(whole.model.parameters()))))
    ids = mx.array(whole.batches.ids(0)[:1])
    ours, exact = rounded(ids), whole.model(ids[:, :32])
    assert mx.abs(ours - loaded.model(ids)).max() < 1e-4 * ours.std()
    assert mx.abs(ours[:, :32] - exact).max() > 1e-3


def test_frequent_tokens_are_spread_over_the_experts():
    counts = [1000 // (rank + 1) for rank in range(200)]
    table = balanced_table(counts, experts=16, topk=2, seed=1)
    assert all(first != second for first, second in table)
    loads = np.zeros(16)
    np.add.at(loads, table.ravel(), np.repeat(counts, 2))
    assert loads.max() < 2.5 * loads.mean()
    np.testing.assert_array_equal(table, balanced_table(counts, experts=16, topk=2, seed=1))


def test_batches_are_numbered():
    batches = Batches(PHASES)
    assert batches.steps == STEPS
    assert batches.phase(3) == (PHASES[1], 12)
    assert batches.ids(2).shape == (4, 34)
    np.testing.assert_array_equal(Batches(PHASES).ids(4), batches.ids(4))
    assert not np.array_equal(batches.ids(3), batches.ids(4))
    with pytest.raises(IndexError):
        batches.phase(STEPS)
