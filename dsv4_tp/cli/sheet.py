"""A score as it is put together from its pieces, and the file its logits go to."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dsv4_tp.core import ScoreEvent
from dsv4_tp.errors import ConfigError


@dataclass(slots=True)
class Sheet:
    """A score in the making."""

    rows: int
    nll: tuple[float, ...] = ()  # nats per token, one per row
    pieces: list[NDArray[np.float32]] = field(default_factory=list[NDArray[np.float32]])

    def add(self, event: ScoreEvent) -> None:
        """The next piece; its logits, if any, are float32 [rows, count, V]."""
        self.nll = event.nll or self.nll
        if event.logits:
            piece = np.frombuffer(event.logits, "<f4")
            self.pieces.append(piece.reshape(self.rows, event.count, -1))

    def write(self, file: Path) -> None:
        """The logits of all pieces, float32 [rows, L, V], as `logits` of an npz file."""
        # An open file, since a name without .npz would get one.
        with file.open("wb") as out:
            np.savez(out, logits=np.concatenate(self.pieces, axis=1))


def check_output(file: Path | None) -> None:
    """Refuse a file that could not be written, before hours are spent on it.

    Raises:
        ConfigError: it is a directory, or in none.
    """
    if file is not None and (file.is_dir() or not file.absolute().parent.is_dir()):
        raise ConfigError(f"--logits {file}: not a file in a directory that exists")
