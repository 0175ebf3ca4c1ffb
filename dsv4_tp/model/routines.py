"""How a model does what lies between its products: by MLX's own operations, or by quicker ones."""

from typing import NamedTuple

from dsv4_tp.model.mixing import Mixing, PlainMixing
from dsv4_tp.model.turning import PlainTurning, Turning
from dsv4_tp.modelspec import ModelSpec


class Routines(NamedTuple):
    """One of each."""

    mixing: Mixing  # how streams and sublayers meet
    turning: Turning  # how rows are normalised and turned

    @classmethod
    def plain(cls, spec: ModelSpec) -> "Routines":
        """By MLX's operations."""
        return cls(PlainMixing.of(spec), PlainTurning())
