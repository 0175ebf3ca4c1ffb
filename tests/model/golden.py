"""The reference cases under tests/golden, and how to run a model the way they were made."""

import json
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx
import numpy as np

from dsv4_tp.core import CacheRows, DType
from dsv4_tp.model import Model
from dsv4_tp.parallel import load_rank

ROOT = Path(__file__).parent.parent / "golden"
PUBLIC = sorted(path.name for path in (ROOT / "public").iterdir() if path.is_dir())
# As DeepSeek stores them; tests/layouts has the conversions of others.
LAYOUTS = sorted(path.name for path in (ROOT / "layouts").glob("a_*"))


@dataclass(frozen=True)
class Case:
    """One case: the loaded model and the arrays it must reproduce."""

    model: Model
    arrays: dict[str, np.ndarray]
    layout: bool  # whether it is there for how its weights are held

    @property
    def ids(self) -> np.ndarray:
        return self.arrays["ids"].astype(np.int32)

    @property
    def chunks(self) -> list[int]:
        """Odd pieces that cut windows and pools."""
        length = self.ids.shape[1]
        given = self.arrays.get("chunks")
        return [20, 1, 1, length - 50, 28] if given is None else given.tolist()


def load_case(folder: str, rows: CacheRows = CacheRows.EXACT) -> Case:
    """The case in `folder`, e.g. "public/a1_flash_mini", in float32."""
    path = ROOT / folder
    promises_mtp = json.loads((path / "config.json").read_text())["num_nextn_predict_layers"] > 0
    model = load_rank(path, None, dtype=DType.FLOAT32, mtp=promises_mtp, cache_rows=rows).model
    return Case(model, _arrays(path), folder.startswith("layouts"))


def _arrays(path: Path) -> dict[str, np.ndarray]:
    for name in ("golden.npz", "expected.npz"):
        if (path / name).exists():
            with np.load(path / name) as file:
                return {key: file[key] for key in file.files}
    native = mx.load(str(path / "expected.safetensors"))
    arrays = {key: np.array(value) for key, value in native.items()}
    return {"ids": arrays["input_ids"], **arrays}


def run(model: Model, ids: np.ndarray, chunks: list[int]) -> np.ndarray:
    """Logits [B, L, V] of ids [B, L] fed in pieces through one fresh cache."""
    cache, pieces, at = model.make_cache(), [], 0
    for size in chunks:
        logits = model(mx.array(ids[:, at : at + size]), cache)
        mx.eval(logits, cache.arrays())
        pieces.append(np.array(logits))
        at += size
    assert at == ids.shape[1]
    return np.concatenate(pieces, axis=1)


def run_mtp(model: Model, ids: np.ndarray, chunks: list[int]) -> np.ndarray:
    """MTP logits [B, L - 1, V]: position t joins the streams of t with token t + 1."""
    cache, mtp_cache, pieces, at = model.make_cache(), model.make_mtp_cache(), [], 0
    for size in chunks:
        streams = model.streams(mx.array(ids[:, at : at + size]), cache)
        following = mx.array(ids[:, at + 1 : at + size + 1])
        if following.shape[1]:
            logits = model.mtp_logits(streams[:, : following.shape[1]], following, mtp_cache)
            mx.eval(logits, cache.arrays(), mtp_cache.arrays())
            pieces.append(np.array(logits))
        at += size
    return np.concatenate(pieces, axis=1)


def greedy(model: Model, prompt: list[int], count: int) -> list[int]:
    """The `count` most likely tokens after `prompt`, one at a time."""
    cache, step, tokens = model.make_cache(), prompt, []
    for _ in range(count):
        logits = model(mx.array([step], dtype=mx.int32), cache)
        tokens.append(int(logits[0, -1].argmax()))
        step = tokens[-1:]
    return tokens


def hidden(model: Model, ids: np.ndarray) -> np.ndarray:
    """Row 0's streams after the embedding and after each layer, [depth, L, hc_mult, D]."""
    tokens, cache = mx.array(ids[:1]), model.make_cache()
    streams = [model.embedded(tokens)]
    for layer, layer_cache in zip(model.layers, cache, strict=False):  # the stage has one, too
        streams.append(layer(streams[-1], tokens, layer_cache))
    return np.array(mx.concatenate(streams))


def distance(one: np.ndarray, other: np.ndarray) -> float:
    """The largest absolute difference; infinite where the shapes differ."""
    return float(np.abs(one - other).max()) if one.shape == other.shape else float("inf")


def share_alike(one: np.ndarray, other: np.ndarray) -> float:
    """The share of tokens whose logits are all within 1e-3: for rows held as trained.

    A number that lies between two codes goes to either, by its last bit, which the order of a sum
    decides. That moves the logits of the tokens that see it, of a random model by up to a fifth of
    their spread; mistakes move those of nearly all.
    """
    return float((np.abs(one - other).max(axis=-1) <= 1e-3).mean())
