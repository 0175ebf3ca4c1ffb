"""Writes the demo checkpoint: two safetensors shards, their index, and the JSON files."""

import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dsv4_tp.demo.settings import ABOUT, CONFIG, GENERATION
from dsv4_tp.demo.tokenizer import tokenizer_config, tokenizer_json
from dsv4_tp.demo.weights import Stock, release
from dsv4_tp.modelspec import parse_spec

_NAME = "demo-v1"  # a new number for new bytes
_HEADER_ALIGNMENT = 8


def ensure(cache_dir: Path) -> Path:
    """The directory of the demo checkpoint under `cache_dir`, written first if it is not there.

    A directory that exists is complete: it is written under another name and then renamed.
    """
    target = cache_dir / _NAME
    if target.is_dir():
        return target
    cache_dir.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=f".{_NAME}.", dir=cache_dir))
    try:
        draft.chmod(0o755)  # mkdtemp's is for one user only
        _write_checkpoint(draft)
        _publish(draft, target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return target


def _publish(draft: Path, target: Path) -> None:
    try:
        os.rename(draft, target)
    except OSError:
        # Someone else was first; his bytes are the same.
        if not target.is_dir():
            raise


def _write_checkpoint(where: Path) -> None:
    spec = parse_spec(CONFIG, where="the demo model's config.json")
    stocks = list(release(spec))
    first = stocks[: len(stocks) // 2]
    shards = {
        "model-00001-of-00002.safetensors": first,
        "model-00002-of-00002.safetensors": stocks[len(first) :],
    }
    for file, part in shards.items():
        _write_safetensors(where / file, part)
    files = {
        "model.safetensors.index.json": _index(shards),
        "config.json": CONFIG,
        "generation_config.json": GENERATION,
        "tokenizer.json": tokenizer_json(spec.vocab_size),
        "tokenizer_config.json": tokenizer_config(spec.max_position_embeddings),
    }
    for file, content in files.items():
        _write_json(where / file, content)
    (where / "README.md").write_text(ABOUT, encoding="utf-8")


def _index(shards: Mapping[str, Sequence[Stock]]) -> dict[str, Any]:
    total = sum(stock.data.nbytes for part in shards.values() for stock in part)
    weight_map = {stock.name: file for file, part in shards.items() for stock in part}
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
