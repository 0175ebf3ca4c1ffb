"""A checkpoint's files as DeepSeek's release has them: shards, their index, and the JSON beside."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsv4_tp.modelspec import Stored, Tensor

from .formats import pack_bf16, pack_fp4, pack_fp8

_HEADER_ALIGNMENT = 8


@dataclass(frozen=True, slots=True)
class Stock:
    """One tensor as it lies in a safetensors file; `dtype` in that format's words."""

    name: str
    dtype: str
    data: NDArray[Any]


def stored(tensor: Tensor, values: NDArray[Any]) -> Iterator[Stock]:
    """How the release names and stores one tensor of the contract.

    Args:
        tensor: its path in our model, and its format.
        values: of its whole shape; float32, or int64 for a table of ids.
    """
    assert values.shape == tensor.shape, f"{tensor.name}: {values.shape}, not {tensor.shape}"
    name = re.sub(r"(hc_\w+)\.(fn|base|scale)$", r"\1_\2", tensor.name)
    if ".experts." not in name:
        yield from _one(name, tensor.stored, values)
        return
    # The model stacks experts; the release has tensors for each.
    for expert, matrix in enumerate(values):
        yield from _one(name.replace(".experts.", f".experts.{expert}."), tensor.stored, matrix)


def _one(name: str, kind: Stored, values: NDArray[Any]) -> Iterator[Stock]:
    match kind:
        case Stored.FP8:
            yield from _scaled(name, "F8_E4M3", *pack_fp8(values))
        case Stored.FP4:
            packed, scales = pack_fp4(values)
            yield from _scaled(name, "I8", packed.view(np.int8), scales)
        case Stored.BF16:
            yield Stock(name, "BF16", pack_bf16(values))
        case Stored.F32:
            yield Stock(name, "F32", values)
        case Stored.INT:
            yield Stock(name, "I64", values)


def write_checkpoint(
    where: Path,
    stocks: Sequence[Stock],
    *,
    shards: int,
    json_files: Mapping[str, Mapping[str, Any]],
) -> None:
    """Write the tensors, in this order, as `shards` files of about equal size, and their index.

    Shards that lie there already are removed first; other files stay.

    Args:
        where: the directory, made if it is not there.
        stocks: of the whole model, names all different.
        shards: how many files; each gets at least one tensor.
        json_files: by name, such as config.json.
    """
    where.mkdir(parents=True, exist_ok=True)
    for old in where.glob("model*.safetensors"):
        old.unlink()  # not overwritten: a program that has it mapped keeps what it has read
    files = _shared_out(stocks, shards)
    for file, part in files.items():
        _write_safetensors(where / file, part)
    _write_json(where / "model.safetensors.index.json", _index(files))
    for file, content in json_files.items():
        _write_json(where / file, content)


def _scaled(name: str, dtype: str, codes: NDArray[Any], scales: NDArray[Any]) -> Iterator[Stock]:
    yield Stock(name, dtype, codes)
    yield Stock(name.removesuffix("weight") + "scale", "F8_E8M0", scales)


def _shared_out(stocks: Sequence[Stock], shards: int) -> dict[str, list[Stock]]:
    """The tensors by file: a tensor goes where its middle falls when all bytes are cut evenly."""
    assert 1 <= shards <= len(stocks), f"{len(stocks)} tensors in {shards} shards"
    total = sum(stock.data.nbytes for stock in stocks)
    parts: list[list[Stock]] = [[] for _ in range(shards)]
    before = 0
    for stock in stocks:
        middle = before + stock.data.nbytes / 2
        parts[min(int(middle * shards / total), shards - 1)].append(stock)
        before += stock.data.nbytes
    assert all(parts), "a tensor is larger than a shard; write fewer shards"
    names = (f"model-{number:05}-of-{shards:05}.safetensors" for number in range(1, shards + 1))
    return dict(zip(names, parts, strict=True))


def _index(files: Mapping[str, Sequence[Stock]]) -> dict[str, Any]:
    total = sum(stock.data.nbytes for part in files.values() for stock in part)
    weight_map = {stock.name: file for file, part in files.items() for stock in part}
    return {"metadata": {"total_size": total}, "weight_map": weight_map}


def _write_json(file: Path, content: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _write_safetensors(file: Path, stocks: Sequence[Stock]) -> None:
    """The format: header length (8 bytes, little endian), JSON header, then the data."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for stock in stocks:
        end = offset + stock.data.nbytes
        shape = list(stock.data.shape)
        header[stock.name] = {"dtype": stock.dtype, "shape": shape, "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _HEADER_ALIGNMENT)
    with file.open("wb") as out:
        out.write(len(text).to_bytes(8, "little"))
        out.write(text)
        for stock in stocks:
            out.write(stock.data.astype(stock.data.dtype.newbyteorder("<")).tobytes())
