"""Writes checkpoints with DeepSeek-V4's own names, shapes and formats, in its FP8 and FP4 layout.

The whole of Flash or Pro comes as sparse files: index and headers are true to the last byte, the
data is a hole that reads as zeros and takes no disk. With `--layers` it is a smaller model of the
same widths, with the layers of these compress ratios, and all its bytes are there: random, but
finite numbers, the same for the same `--seed`.

    python -m benchmarks.synthetic --model pro --out build/pro
    python -m benchmarks.synthetic --model flash --layers 0,4,128 --experts 64 --out build/part
"""

import argparse
import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from dsv4_tp.layouts.formats import FORMATS, released_dtype, scale_dtypes, scale_shape, weight_shape
from dsv4_tp.layouts.headers import DTYPE_BYTES, INDEX
from dsv4_tp.layouts.names import NATIVE_SCALE, all_readings
from dsv4_tp.layouts.tables import OFFICIAL
from dsv4_tp.modelspec import ModelSpec, contract, parse_spec

CONFIGS = Path(__file__).parents[1] / "tests" / "plan" / "configs"
SHARD_BYTES = 5_000_000_000
DEFAULT_VOCAB = 8192  # of a smaller model, so that its experts weigh as much of it as they should
# In a file tensors lie by dtype, widest first, then by name: so do safetensors' own writers.
FILE_ORDER = ("I64", "F32", "BF16", "F8_E8M0", "F8_E4M3", "I8")
# Of random bits these are kept: without the highest of the exponent every number is below two.
KEPT_BITS: Mapping[str, np.unsignedinteger[Any]] = {
    "I8": np.uint8(0xFF),  # two FP4 values, any of which is a number
    "F8_E4M3": np.uint8(0xBF),
    "BF16": np.uint16(0xBFFF),
    "F32": np.uint32(0xBFFFFFFF),
}
CHUNK_BYTES = 16 << 20


@dataclass(frozen=True, slots=True)
class Stored:
    """One tensor to be written."""

    name: str
    dtype: str  # in safetensors' words
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes in the file."""
        return prod(self.shape) * DTYPE_BYTES[self.dtype]


def stored_tensors(spec: ModelSpec) -> Iterator[Stored]:
    """All tensors of DeepSeek's release of such a model, in the order of its layers."""
    reading = next(all_readings(OFFICIAL))
    for tensor in contract(spec, mtp=True):
        names, form = reading.names(tensor, spec), FORMATS[tensor.stored]
        assert names is not None, f"{tensor.name} has no official name"
        shape = tensor.shape[1:] if len(tensor.shape) == 3 else tensor.shape
        weights = released_dtype(tensor.stored, spec), weight_shape(shape, form)
        yield from (Stored(name, *weights) for name in names.weights)
        if form.quantised:
            scales = scale_dtypes(form)[0], scale_shape(shape, form)
            yield from (Stored(name, *scales) for name in names.beside(NATIVE_SCALE))


def smaller(
    config: Mapping[str, Any], ratios: tuple[int, ...], experts: int, vocab: int
) -> dict[str, Any]:
    """The config of a model of the same widths with one layer per ratio, the first one hashed."""
    return {
        **config,
        "compress_ratios": list(ratios),
        "num_hidden_layers": len(ratios),
        "num_hash_layers": 1,
        "num_nextn_predict_layers": 0,
        "n_routed_experts": experts,
        "vocab_size": vocab,
    }


def write(out: Path, config: Mapping[str, Any], *, seed: int | None) -> int:
    """Write the checkpoint of `config`, random by `seed` or sparse (None); the tensors' bytes.

    Raises:
        FileExistsError: there is something at `out`.
    """
    spec = parse_spec(config)
    shards = tuple(sharded(stored_tensors(spec)))
    rng = None if seed is None else np.random.default_rng(seed)
    placed: dict[str, str] = {}
    out.mkdir(parents=True)
    for number, shard in enumerate(shards, 1):
        file = out / f"model-{number:05}-of-{len(shards):05}.safetensors"
        placed |= dict.fromkeys((tensor.name for tensor in shard), file.name)
        _write_shard(file, shard, rng, spec.n_routed_experts)
    size = sum(tensor.nbytes for shard in shards for tensor in shard)
    index = {"metadata": {"total_size": size}, "weight_map": dict(sorted(placed.items()))}
    (out / INDEX).write_text(json.dumps(index))
    (out / "config.json").write_text(json.dumps(config, indent=1))
    return size


def sharded(tensors: Iterable[Stored]) -> Iterator[tuple[Stored, ...]]:
    """The same tensors in runs of at most `SHARD_BYTES`, each in the order of its file."""
    run: list[Stored] = []
    size = 0
    for tensor in tensors:
        if run and size + tensor.nbytes > SHARD_BYTES:
            yield tuple(sorted(run, key=_place))
            run, size = [], 0
        run.append(tensor)
        size += tensor.nbytes
    yield tuple(sorted(run, key=_place))


def _place(tensor: Stored) -> tuple[int, str]:
    return FILE_ORDER.index(tensor.dtype), tensor.name


def _write_shard(
    file: Path, shard: tuple[Stored, ...], rng: np.random.Generator | None, experts: int
) -> None:
    head = _header(shard)
    with file.open("xb") as stream:
        stream.write(head)
        if rng is None:
            stream.truncate(len(head) + sum(tensor.nbytes for tensor in shard))
            return
        for tensor in shard:
            _write_random(stream, tensor, rng, experts)


def _header(shard: tuple[Stored, ...]) -> bytes:
    stops = list(accumulate(tensor.nbytes for tensor in shard))
    fields = {
        tensor.name: {
            "dtype": tensor.dtype,
            "shape": tensor.shape,
            "data_offsets": [stop - tensor.nbytes, stop],
        }
        for tensor, stop in zip(shard, stops, strict=True)
    }
    text = json.dumps(fields).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _write_random(stream: BinaryIO, tensor: Stored, rng: np.random.Generator, experts: int) -> None:
    for start in range(0, tensor.nbytes, CHUNK_BYTES):
        count = min(CHUNK_BYTES, tensor.nbytes - start)
        stream.write(_random(tensor.dtype, count, rng, experts).tobytes())


def _random(dtype: str, nbytes: int, rng: np.random.Generator, experts: int) -> np.ndarray:
    if dtype == "I64":  # which experts a word goes to
        return rng.integers(0, experts, nbytes // 8)
    if dtype == "F8_E8M0":  # powers of two, up to one
        return rng.integers(119, 128, nbytes, np.uint8)
    kept = KEPT_BITS[dtype]
    return np.frombuffer(rng.bytes(nbytes), kept.dtype) & kept


def main() -> None:
    """Write the checkpoint that the options ask for."""
    parser = argparse.ArgumentParser(description="Write a synthetic DeepSeek-V4 checkpoint.")
    parser.add_argument("--model", default="flash", help="flash, pro, or a config.json")
    parser.add_argument("--out", type=Path, required=True, help="a new directory")
    parser.add_argument("--layers", help="compress ratios, such as 0,4,128; default: all, sparse")
    parser.add_argument("--experts", type=int, default=64, help="routed ones, with --layers")
    parser.add_argument("--vocab", type=int, default=DEFAULT_VOCAB, help="words, with --layers")
    parser.add_argument("--seed", type=int, default=0, help="of the values, with --layers")
    given = parser.parse_args()
    known = CONFIGS / f"deepseek-v4-{given.model}.json"
    config = json.loads((known if known.is_file() else Path(given.model)).read_text())
    seed = None
    if given.layers is not None:
        ratios = tuple(int(ratio) for ratio in given.layers.split(","))
        config, seed = smaller(config, ratios, given.experts, given.vocab), given.seed
    try:
        size = write(given.out, config, seed=seed)
    except FileExistsError:
        sys.exit(f"{given.out}: already there; give a new directory")
    print(f"{given.out}: {size:,} bytes of tensors{'' if given.layers else ', sparse'}")


if __name__ == "__main__":
    main()
