"""Writes a model in any layout and any format, and says what then lies in the files."""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import mlx.core as mx
import numpy as np

from dsv4_tp.layouts import FP8_BLOCK, PLAIN, Format
from dsv4_tp.layouts.formats import FORMATS
from dsv4_tp.layouts.headers import INDEX
from dsv4_tp.layouts.names import BIASES, NATIVE_SCALE, SCALES, WEIGHT, FileNames, Reading
from dsv4_tp.layouts.tables import OFFICIAL, Layout
from dsv4_tp.modelspec import ModelSpec, Tensor, contract, parse_spec
from dsv4_tp.modelspec import Stored as Kind
from examples.demo_model.formats import pack_fp4, pack_fp8
from tests.checkpoint.decode import bf16, decoded, e8m0, fp4, fp8, mlx_affine, mlx_mxfp4, mlx_mxfp8
from tests.storage_files import FP4, Stored, write_file

Config = Mapping[str, object]
Values = Mapping[str, np.ndarray]  # float32, int32 in tables; by the paths of our model
DTYPES = {Kind.BF16: mx.bfloat16, Kind.F32: mx.float32, Kind.INT: mx.int64}
WORDS = {
    mx.float32: "F32", mx.bfloat16: "BF16", mx.float16: "F16", mx.int64: "I64", mx.int32: "I32",
    mx.uint32: "U32", mx.uint8: "U8",
}  # fmt: skip
SHARDS = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")


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
    dtypes: Mapping[Kind, mx.Dtype] = field(default_factory=lambda: DTYPES)
    config: Config = field(default_factory=dict)  # what it adds to an unquantised model's
    base: bool = False  # float32 scales, and copies of two tensors in the MTP stage

    @property
    def reading(self) -> Reading:
        rows = self.layout.rows
        return Reading(self.layout, tuple(self.spellings.get(row.path, 0) for row in rows))


@dataclass(frozen=True)
class Raw:
    """Numbers as they lie in a file; what numpy has no dtype for, as unsigned integers."""

    dtype: str  # in safetensors' words
    array: np.ndarray

    @property
    def numbers(self) -> np.ndarray:
        """Of an unpacked dtype."""
        if self.dtype == "BF16":
            return bf16(self.array)
        return self.array.astype(
            {"F16": np.float32, "I64": np.int32}.get(self.dtype, self.array.dtype)
        )

    @property
    def stored(self) -> Stored:
        return Stored(self.dtype, list(self.array.shape), self.array.tobytes())


@dataclass(frozen=True)
class Packed:
    """What is stored of one tensor: experts stacked, all groups of wo_a in one matrix."""

    form: Format
    weight: Raw
    scales: Raw | None = None
    biases: Raw | None = None

    @property
    def parts(self) -> dict[str, Raw]:
        """By the ends of names."""
        scale = NATIVE_SCALE if self.form.native else SCALES
        parts = {WEIGHT: self.weight, scale: self.scales, BIASES: self.biases}
        return {end: raw for end, raw in parts.items() if raw is not None}

    @property
    def values(self) -> np.ndarray:
        """Decoded by tables and numpy; MLX has no part in it."""
        if self.scales is None:
            return self.weight.numbers
        codes, scales = self.weight.array, self.scales
        if self.biases is not None:
            return mlx_affine(codes, scales.numbers, self.biases.numbers, self.form.bits)
        if not self.form.native:
            return {4: mlx_mxfp4, 8: mlx_mxfp8}[self.form.bits](codes, scales.array)
        factors = scales.array if scales.dtype == "F32" else e8m0(scales.array)
        return fp8(codes, factors) if self.form == FP8_BLOCK else fp4(codes, factors)


def sample() -> tuple[Config, Values]:
    """The FP4 sample, as `unpacked`."""
    return unpacked(FP4)


@cache
def unpacked(model_dir: Path) -> tuple[Config, Values]:
    """The config, as of an unquantised release, and the values of a model as released."""
    config = json.loads((model_dir / "config.json").read_text())
    del config["quantization_config"], config["expert_dtype"]
    files, reading, spec = decoded(model_dir), Style().reading, parse_spec(config)
    values: dict[str, np.ndarray] = {}
    for tensor in contract(spec, mtp=True):
        found = [files[name] for name in reading.names(tensor, spec).weights]
        whole = np.stack(found) if len(tensor.shape) == 3 else found[0]
        values[tensor.name] = whole.astype(np.int32 if tensor.stored is Kind.INT else np.float32)
    return config, values


def export(to: Path, style: Style, config: Config, values: Values) -> dict[str, Packed]:
    """Write config.json, two files of weights and their index; what they hold, by our paths."""
    spec = parse_spec(dict(config) | dict(style.config))
    tensors = {tensor.name: tensor for tensor in contract(spec, mtp=style.mtp)}
    held = {path: _packed(tensor, style, values[path]) for path, tensor in tensors.items()}
    named = {path: style.reading.names(tensor, spec) for path, tensor in tensors.items()}
    files: dict[str, Raw] = {}
    for path, packed in held.items():
        for name, raw in _files(tensors[path], style, spec, named[path], packed):
            # The halves of a fused tensor come one after the other.
            files[name] = _joined(files[name], raw) if name in files else raw
    if style.base:
        files["mtp.0.emb.tok_emb.weight"] = files["embed.weight"]
        files["mtp.0.head.weight"] = files["head.weight"]
    to.mkdir(parents=True, exist_ok=True)
    settings = dict(config) | dict(style.config) | _settings(held, named)
    (to / "config.json").write_text(json.dumps(settings))
    _write(to, files)
    return held


def _packed(tensor: Tensor, style: Style, value: np.ndarray) -> Packed:
    native = FORMATS[tensor.stored]
    if native.quantised:
        return _native(native, value, float_scales=style.base)
    form = style.form(tensor)
    rounded = mx.array(value).astype(style.dtypes[tensor.stored])
    if not form.quantised:
        return Packed(form, _raw(rounded))
    parts = mx.quantize(rounded, group_size=form.group, bits=form.bits, mode=form.mode)
    return Packed(form, *map(_raw, parts))


def _native(form: Format, value: np.ndarray, *, float_scales: bool) -> Packed:
    pack, word = (pack_fp8, "F8_E4M3") if form == FP8_BLOCK else (pack_fp4, "I8")
    packed = [pack(matrix) for matrix in value.reshape(-1, *value.shape[-2:])]
    codes, scales = (
        np.stack(some).reshape(*value.shape[:-2], *some[0].shape)
        for some in zip(*packed, strict=True)
    )
    factors = Raw("F32", e8m0(scales)) if float_scales else Raw("F8_E8M0", scales)
    return Packed(form, Raw(word, codes), factors)


def _raw(array: mx.array) -> Raw:
    half = array.dtype == mx.bfloat16
    return Raw(WORDS[array.dtype], np.array(array.view(mx.uint16) if half else array))


def _files(
    tensor: Tensor, style: Style, spec: ModelSpec, names: FileNames, packed: Packed
) -> Iterator[tuple[str, Raw]]:
    for end, raw in packed.parts.items():
        ends, array = names.weights if end == WEIGHT else names.beside(end), raw.array
        if len(ends) > 1:
            pieces = array if array.ndim == 3 else array.reshape(len(ends), -1, array.shape[-1])
            yield from ((n, Raw(raw.dtype, one)) for n, one in zip(ends, pieces, strict=True))
        elif style.wo_a_by_group and ".wo_a." in tensor.name:
            yield ends[0], Raw(raw.dtype, array.reshape(spec.o_groups, -1, array.shape[-1]))
        else:
            yield ends[0], raw


def _joined(one: Raw, other: Raw) -> Raw:
    return Raw(one.dtype, np.concatenate([one.array, other.array], axis=-2))


def _settings(held: Mapping[str, Packed], named: Mapping[str, FileNames]) -> Config:
    """What MLX's tools say of it: a format for most modules, and for each other one its own."""
    forms = {path: p.form for path, p in held.items() if p.form.quantised and not p.form.native}
    if not forms:
        return {}
    usual = Counter(forms.values()).most_common(1)[0][0]
    settings: dict[str, object] = _setting(usual)
    for path, form in forms.items():
        modules = (name.removesuffix(WEIGHT) for name in named[path].weights)
        settings |= dict.fromkeys(modules, _setting(form)) if form != usual else {}
    return dict.fromkeys(("quantization", "quantization_config"), settings)


def _setting(form: Format) -> dict[str, object]:
    return {"group_size": form.group, "bits": form.bits, "mode": form.mode}


def _write(to: Path, files: Mapping[str, Raw]) -> None:
    names = list(files)
    shares = dict(zip(SHARDS, (names[: len(names) // 2], names[len(names) // 2 :]), strict=True))
    for shard, own in shares.items():
        write_file(to / shard, {name: files[name].stored for name in own})
    placed = {name: shard for shard, own in shares.items() for name in own}
    total = sum(raw.array.nbytes for raw in files.values())
    index = {"metadata": {"total_size": total}, "weight_map": placed}
    (to / INDEX).write_text(json.dumps(index))
