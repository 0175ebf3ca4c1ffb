"""Writes a model in any layout and any format, and says which values it then holds."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import mlx.core as mx

from dsv4_tp.layouts import PLAIN, Format
from dsv4_tp.layouts.names import BIASES, SCALES, WEIGHT, Reading
from dsv4_tp.layouts.tables import OFFICIAL, Layout
from dsv4_tp.modelspec import ModelSpec, Stored, Tensor, contract, parse_spec
from tests.checkpoint.decode import decoded
from tests.storage_files import FP4

Values = Mapping[str, mx.array]  # float32, by the paths of our model
DTYPES = {Stored.BF16: mx.bfloat16, Stored.F32: mx.float32, Stored.INT: mx.int64}


def not_packed(_: Tensor) -> Format:
    return PLAIN


@dataclass(frozen=True)
class Style:
    """How a model is to be written; `spellings` picks other than the first name of some rows."""

    layout: Layout = OFFICIAL
    spellings: Mapping[str, int] = field(default_factory=dict)  # by the path of the row
    form: Callable[[Tensor], Format] = not_packed
    mtp: bool = False
    wo_a_by_group: bool = False  # in three dimensions
    dtypes: Mapping[Stored, mx.Dtype] = field(default_factory=lambda: DTYPES)

    @property
    def reading(self) -> Reading:
        rows = self.layout.rows
        return Reading(self.layout, tuple(self.spellings.get(row.path, 0) for row in rows))


@cache
def sample() -> tuple[dict[str, object], Values]:
    """The config, as of an unquantised release, and the values of the FP4 sample."""
    config = json.loads((FP4 / "config.json").read_text())
    del config["quantization_config"], config["expert_dtype"]
    files, reading, spec = decoded(FP4), Style().reading, parse_spec(config)
    values: dict[str, mx.array] = {}
    for tensor in contract(spec, mtp=True):
        found = [mx.array(files[name]) for name in reading.names(tensor, spec).weights]
        values[tensor.name] = mx.stack(found) if len(tensor.shape) == 3 else found[0]
    return config, values


def export(to: Path, style: Style, config: Mapping[str, object], values: Values) -> Values:
    """Write config.json and model.safetensors; the values that are now stored, in float32."""
    spec = parse_spec(config)
    files: dict[str, mx.array] = {}
    held: dict[str, mx.array] = {}
    for tensor in contract(spec, mtp=style.mtp):
        stored, held[tensor.name] = _packed(tensor, style, values[tensor.name])
        for name, array in _named(tensor, style, spec, stored):
            # The halves of a fused tensor come one after the other.
            files[name] = mx.concatenate([files[name], array], -2) if name in files else array
    to.mkdir(parents=True, exist_ok=True)
    (to / "config.json").write_text(json.dumps(config))
    mx.save_safetensors(str(to / "model.safetensors"), files)
    return held


def _packed(tensor: Tensor, style: Style, value: mx.array) -> tuple[dict[str, mx.array], mx.array]:
    """What is stored, by the end of its name, and its values."""
    form = style.form(tensor)
    rounded = value.astype(style.dtypes[tensor.stored])
    if not form.quantised:
        return {WEIGHT: rounded}, rounded.astype(mx.float32)
    how = {"group_size": form.group, "bits": form.bits, "mode": form.mode}
    parts = mx.quantize(rounded, **how)
    exact = (part.astype(mx.float32) if form.affine else part for part in parts[1:])
    value = mx.dequantize(parts[0], *exact, **how, dtype=mx.float32)
    return dict(zip((WEIGHT, SCALES, BIASES), parts, strict=False)), value


def _named(
    tensor: Tensor, style: Style, spec: ModelSpec, stored: Mapping[str, mx.array]
) -> Iterator[tuple[str, mx.array]]:
    names = style.reading.names(tensor, spec)
    for suffix, array in stored.items():
        ends = names.weights if suffix == WEIGHT else names.beside(suffix)
        if len(ends) == 1:
            by_group = style.wo_a_by_group and ".wo_a." in tensor.name
            yield ends[0], array.reshape(spec.o_groups, -1, array.shape[-1]) if by_group else array
            continue
        pieces = array if len(array.shape) == 3 else array.reshape(len(ends), -1, array.shape[-1])
        yield from zip(ends, pieces, strict=True)
