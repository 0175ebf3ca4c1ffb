"""A few steps of the real training, on a smaller model: it learns, and it goes on exactly."""

import csv

import mlx.core as mx
import numpy as np
import pytest

from dsv4_tp.core import DType
from dsv4_tp.model import Model
from dsv4_tp.parallel import load_rank
from examples.demo_model import train
from examples.demo_model.batches import Batches
from examples.demo_model.curve import Curve
from examples.demo_model.export import write_model
from examples.demo_model.initial import balanced_table
from examples.demo_model.rounding import rounder
from examples.demo_model.train import Trainer
from examples.demo_model.trees import flat, unflat
from tests.demo_model.small import PHASES, SMALL, SMALL_CONFIG

STEPS = sum(phase.steps for phase in PHASES)


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(train, "CONFIG", SMALL_CONFIG)
    monkeypatch.setattr(train, "_SAVE_STEPS", 2)


def trained(folder, threads=2):
    trainer = Trainer(Batches(PHASES), threads)
    state = folder / "state.safetensors"
    if state.exists():
        trainer.resume(state)
    train.run(trainer, Curve.load(folder / "loss.csv", steps=trainer.next_step), state)
    return trainer


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("training")


@pytest.fixture(scope="module")
def whole(folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "CONFIG", SMALL_CONFIG)
        return trained(folder)


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
    with pytest.raises(Interrupted):
        trained(tmp_path)
    monkeypatch.setattr(Trainer, "step", step)
    again = trained(tmp_path)
    wanted = flat(whole.model.parameters())
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
    one = train.Team(SMALL, 1)
    halves = [one.gradient(parameters, ids[k::2], select=True, seed=1) for k in range(2)]
    assert two.loss == pytest.approx(sum(half.loss for half in halves) / 2, rel=1e-6)
    first, second = (flat(half.gradient) for half in halves)
    for name, value in flat(two.gradient).items():
        wanted = (first[name] + second[name]) / 2
        assert mx.abs(value - wanted).max() <= 1e-5 * mx.abs(wanted).max() + 1e-9, name


def test_the_written_checkpoint_is_the_rounded_model(whole, tmp_path):
    write_model(whole.model, SMALL_CONFIG, tmp_path)
    loaded = load_rank(tmp_path, None, dtype=DType.FLOAT32, mtp=True)
    rounded = Model(SMALL, mtp=True)
    rounded.update(unflat(rounder(SMALL)(flat(whole.model.parameters()))))
    ids = mx.array(whole.batches.ids(0)[:1])
    ours, theirs = rounded(ids), loaded.model(ids)
    assert mx.abs(ours - theirs).max() < 1e-4 * ours.std()
    assert mx.abs(ours - whole.model(ids[:, :32])[:, :1]).max() > 1e-3


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
