"""What each training step reads: numbered sequences of generated text.

By its number a step finds its text again, so a training can go on anywhere.
"""

import numpy as np
from numpy.typing import NDArray

from examples.demo_model import corpus, tokenizer
from examples.demo_model.settings import PHASES, Phase

# The text that counts tokens stands far behind the text that is trained on.
_COUNTED_FROM = 10_000_000
_COUNTED = 64


class Batches:
    """Step number -> the phase it belongs to and its ids."""

    def __init__(self, phases: tuple[Phase, ...] = PHASES) -> None:
        self._tokenizer = tokenizer.load()
        self._phases = phases
        self.steps = sum(phase.steps for phase in phases)

    def phase(self, step: int) -> tuple[Phase, int]:
        """The phase of a step, and the number of the first of the step's sequences."""
        first = 0
        for phase in self._phases:
            if step < phase.steps:
                return phase, first + step * phase.rows
            step, first = step - phase.steps, first + phase.steps * phase.rows
        raise IndexError(f"the training has {self.steps} steps")

    def ids(self, step: int) -> NDArray[np.int32]:
        """The ids of a step [rows, length + 2]: two more than are read, as MTP looks ahead."""
        phase, first = self.phase(step)
        return self._sequences(range(first, first + phase.rows), phase.length + 2, phase.drills)

    def token_counts(self, vocab_size: int) -> list[int]:
        """How often each token comes in a sample, [V]."""
        sample = self._sequences(range(_COUNTED_FROM, _COUNTED_FROM + _COUNTED), 512, drills=0)
        return np.bincount(sample.ravel(), minlength=vocab_size).tolist()

    def _tokenize(self, text: str) -> list[int]:
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def _sequences(self, numbers: range, length: int, drills: float) -> NDArray[np.int32]:
        rows = [
            corpus.sequence(
                corpus.rng_for("train", number), self._tokenize, length=length, drills=drills
            )
            for number in numbers
        ]
        return np.array(rows, dtype=np.int32)
