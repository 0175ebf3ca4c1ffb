"""Trains the demo model: `make train-demo`.

Takes about an hour on two cores with OpenBLAS preloaded, and 2 GB of memory. It goes on
where it was interrupted, if that was with the same settings: everything is kept in one folder.

    build/demo_model/state.safetensors   weights and the optimizer's memory, after each tenth step
    build/demo_model/loss.csv            a line per step
    build/demo_model/loss.svg            the same as a picture
    build/demo_model/master, native      two checkpoints: bf16, and FP8 and FP4 as shipped
"""

import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import cast

import click
import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from dsv4_tp.config.environment import restart_with_preloads
from dsv4_tp.modelspec import parse_spec
from examples.demo_model.batches import Batches
from examples.demo_model.curve import Curve
from examples.demo_model.export import export
from examples.demo_model.gradient import Outcome, Team, biased, freeze
from examples.demo_model.initial import initialise
from examples.demo_model.optimizer import make_optimizer, set_rates
from examples.demo_model.rounding import rounder
from examples.demo_model.settings import BIAS_RATE, CONFIG, SEED, rate_at
from examples.demo_model.trees import Flat, Tree, flat, unflat
from examples.demo_model.twins import trainable

_SAVE_STEPS = 10


class Trainer:
    """The weights, the optimizer and the threads; one `step` after the other."""

    def __init__(self, batches: Batches, threads: int) -> None:
        self.spec = parse_spec(CONFIG, where="examples/demo_model/settings.py")
        self.batches, self.next_step = batches, 0
        self.model = trainable(self.spec)
        counts = batches.token_counts(self.spec.vocab_size)
        initialise(self.model, self.spec, seed=SEED, token_counts=counts)
        freeze(self.model)
        self.optimizer = make_optimizer()
        self.optimizer.init(self.model.trainable_parameters())
        self._team = Team(self.spec, threads)
        self._rounded = rounder(self.spec)

    def step(self, ids: NDArray[np.int32]) -> Outcome:
        """One step on ids [B, L + 2]."""
        phase, _ = self.batches.phase(self.next_step)
        parameters = cast(Tree, self.model.parameters())
        if phase.rounded:
            # The gradient at the rounded weights moves the exact ones: straight through.
            parameters = unflat(self._rounded(flat(parameters)))
            mx.eval(parameters)
        outcome = self._team.gradient(parameters, ids, select=phase.select, seed=self.next_step)
        set_rates(self.optimizer, rate_at(self.next_step, self.batches.steps))
        self.optimizer.update(self.model, outcome.gradient)
        for block, load in zip(biased(self.model), outcome.loads, strict=True):
            gate = block.ffn.gate
            gate.bias = gate.bias + BIAS_RATE * mx.sign(mx.array(1 / load.size - load))
        mx.eval(self.model.parameters(), self.optimizer.state)
        self.next_step += 1
        return outcome

    def close(self) -> None:
        """End the threads."""
        self._team.close()

    def save(self, file: Path) -> None:
        """Write everything the next step needs, in one move."""
        arrays = flat({"model": self.model.parameters(), "optimizer": self.optimizer.state})
        draft = file.with_suffix(".draft.safetensors")
        mx.save_safetensors(str(draft), arrays, metadata={"step": str(self.next_step)})
        draft.replace(file)

    def resume(self, file: Path) -> None:
        """Go on from a saved state."""
        loaded = mx.load(str(file), return_metadata=True)
        arrays, metadata = cast(tuple[Flat, dict[str, str]], loaded)
        state = unflat(arrays)
        self.model.update(state["model"])
        self.optimizer.state = state["optimizer"]
        mx.eval(self.model.parameters(), self.optimizer.state)
        self.next_step = int(metadata["step"])


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=Path("build/demo_model"))
@click.option("--threads", default=2, show_default=True, help="One for each core to use.")
def main(out: Path, threads: int) -> None:
    """Train the demo model, or go on training it, and write its two checkpoints."""
    # One BLAS thread for each of ours.
    restart_with_preloads("examples.demo_model.train")
    out.mkdir(parents=True, exist_ok=True)
    batches, state = Batches(), out / "state.safetensors"
    with closing(Trainer(batches, threads)) as trainer:
        if state.exists():
            trainer.resume(state)
            click.echo(f"going on at step {trainer.next_step} of {batches.steps}")
        run(trainer, Curve.load(out / "loss.csv", steps=trainer.next_step), state)
        export(trainer.model, out)
    click.echo(f"written: {out}/native and {out}/master")


def run(trainer: Trainer, curve: Curve, state: Path) -> None:
    """All steps that are left; the next batch is made while one is trained on."""
    batches = trainer.batches
    with ThreadPoolExecutor(1) as maker:
        coming: Future[NDArray[np.int32]] | None = None
        for step in range(trainer.next_step, batches.steps):
            ids = coming.result() if coming else batches.ids(step)
            coming = maker.submit(batches.ids, step + 1) if step + 1 < batches.steps else None
            started_s = time.monotonic()
            outcome = trainer.step(ids)
            length = batches.phase(step)[0].length
            line = curve.add(step, length, outcome, time.monotonic() - started_s)
            if trainer.next_step % _SAVE_STEPS == 0 or coming is None:
                trainer.save(state)
                curve.save()
                click.echo(line)


if __name__ == "__main__":
    main()
