"""A rank's model, ready to run: the single-device model built for a part, filled with its cuts.

Owns the marriage of names (rules), bytes (checkpoint) and modules (model). Knows no group, no
process: the collective arrives as a callable.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Unpack, cast

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten  # pyright: ignore[reportUnknownVariableType]

from dsv4_tp.checkpoint import read_group
from dsv4_tp.core import DType, Part
from dsv4_tp.layouts import PLAIN, Catalog, Drafter
from dsv4_tp.model import How, Model
from dsv4_tp.modelspec import ModelSpec, read_spec
from dsv4_tp.pieces import Load
from dsv4_tp.prepared import plan_reads, read_catalog
from dsv4_tp.rules import cuts

OnBytes = Callable[[int, int], None]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A model with all its weights in memory, and what that took."""

    model: Model
    spec: ModelSpec
    weight_bytes: int  # held in memory
    bytes_read: int  # from the files, headers not counted
    notes: tuple[str, ...]  # what the user should know about the files


def load_rank(
    model_dir: Path,
    part: Part | None,
    *,
    dtype: DType,
    mtp: bool = False,
    on_bytes: OnBytes | None = None,
    **how: Unpack[How],
) -> Loaded:
    """Load `part` (None: everything) of the model in `model_dir`, reading little more than that.

    `model_dir` is a checkpoint's, or that of a prepared set.
    MTP stages are loaded if `mtp` asks for them and the files have them; `notes` tell otherwise.
    The rest is as of `Model`.
    Unquantised weights are held as `dtype`; `on_bytes(done, total)` is called after each layer.
    Memory at its peak: the weights and a part of a layer (`benchmarks/load.py` measures it).

    Raises:
        ModelError: config.json is no DeepSeek-V4 model's.
        CheckpointError: the files are missing, damaged, or not that model's; or they are a set
            for other parts.
    """
    spec = read_spec(model_dir)
    found = read_catalog(model_dir, spec, mtp=mtp)
    part = part or spec.whole
    model = Model(spec, part, mtp=found.has_mtp, **how)
    quantise_as_stored(model, found)
    groups = tuple(plan_reads(model_dir, spec, found, part).values())
    weight_bytes = _fill(model, groups, dtype, on_bytes or _ignore)
    model.bundle()
    bytes_read = sum(load.span_bytes for group in groups for load in group)
    notes = (*found.notes, *(_without_stage(found) if mtp else ()))
    return Loaded(model, spec, weight_bytes, bytes_read, notes)


def quantise_as_stored(model: Model, catalog: Catalog) -> None:
    """Swap each linear or embedding that `catalog` has quantised for its twin.

    The twins' own weights are never evaluated; they wait to be replaced.
    """
    formats = {
        cut.name: source.held
        for source in catalog.sources
        for cut in cuts(source.tensor, model.part, model.spec)
    }

    def settings(path: str, _: nn.Module) -> dict[str, object] | bool:
        form = formats.get(f"{path}.weight", PLAIN)
        if not form.quantised:
            return False
        return {"group_size": form.group, "bits": form.bits, "mode": form.mode}

    nn.quantize(model, class_predicate=settings)


def _fill(model: Model, groups: Sequence[Sequence[Load]], dtype: DType, on_bytes: OnBytes) -> int:
    """Replace every parameter of the model by what the files hold; the bytes they take."""
    waiting = {name: array.shape for name, array in _parameters(model).items()}
    total = sum(load.span_bytes for group in groups for load in group)
    done, held = 0, 0
    for group in groups:
        ready = read_group(group, dtype)
        for name, array in ready.items():
            shape = waiting.pop(name, None)
            assert shape == array.shape, f"{name}: rules say {array.shape}, the model {shape}"
        model.load_weights(list(ready.items()), strict=False)
        held += sum(array.nbytes for array in ready.values())
        done += sum(load.span_bytes for load in group)
        on_bytes(done, total)
    assert not waiting, f"no rule fills {', '.join(waiting)}"
    return held


def _without_stage(found: Catalog) -> tuple[str, ...]:
    """That an MTP stage was asked for in vain, unless the catalog says so."""
    silent = not found.has_mtp and found.drafter is not Drafter.STRIPPED
    return ("the checkpoint has no MTP stage: speculation is off",) if silent else ()


def _parameters(model: Model) -> dict[str, mx.array]:
    return dict(cast(list[tuple[str, mx.array]], tree_flatten(model.parameters())))


def _ignore(_done: int, _total: int) -> None:
    pass
