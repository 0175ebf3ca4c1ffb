"""From what is to be read to parameters, a group at a time."""

from collections.abc import Sequence

import mlx.core as mx

from dsv4_tp.checkpoint.convert import Raw, finish
from dsv4_tp.checkpoint.ranges import read_pieces
from dsv4_tp.core import DType
from dsv4_tp.pieces import Load, biases_name, scales_name


def read_group(loads: Sequence[Load], dtype: DType | None) -> dict[str, mx.array]:
    """The parameters of one group by name, evaluated; unquantised ones as `dtype`.

    A quantised `X.weight` comes in MLX's form, with `X.scales` and, if it is affine, `X.biases`.

    Raises:
        CheckpointError: a file cannot be read, or a scale has no exact counterpart.
    """
    pieces = {name: piece for load in loads for name, piece in load.pieces.items()}
    arrays = read_pieces(pieces)
    ready: dict[str, mx.array] = {}
    for load in loads:
        name = load.cut.name
        # Taken out, so that what a conversion replaces is not held until the whole group is done.
        beside = (arrays.pop(other(name), None) for other in (scales_name, biases_name))
        ready |= finish(load.source, load.cut, Raw(arrays.pop(name), *beside), dtype)
    mx.eval(ready)
    return ready
