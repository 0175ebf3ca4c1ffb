"""Sides are asked, models written and ratios made as they are told; nothing here needs PyTorch."""

import io
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from benchmarks.beside import figures, models, side
from benchmarks.beside.in_mlx_lm import InMlxLm
from benchmarks.beside.ours import Ours
from dsv4_tp.core import DType
from dsv4_tp.parallel import load_rank

RESULTS = Path(models.__file__).parents[1] / "results"


class Counting(side.Side):
    """Its logits are the lengths of what it was fed."""

    def load(self, folder: str, threads: int) -> None:
        print(f"read {folder}")  # a library that talks

    def _fresh(self) -> list[int]:
        return []

    def _feed(self, ids: Sequence[int], cache: list[int]) -> list[list[int]]:
        cache += ids
        return [[len(cache), len(ids)] for _ in ids]

    def _as_numpy(self, logits: list[list[int]]) -> np.ndarray:
        return np.array(logits, np.float32)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("beside") / "model"
    models.write(folder, next(models.cases()).config)
    return folder


def test_a_side_answers_line_by_line_and_says_nothing_else(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    out = str(tmp_path / "logits.npy")
    asked = [
        {"do": "load", "folder": "there", "threads": 1},
        {"do": "logits", "ids": [5, 6, 7, 8], "prompt": 2, "out": out},
        {"do": "decode", "ids": [9]},
    ]
    monkeypatch.setattr(sys, "stdin", io.StringIO("".join(json.dumps(it) + "\n" for it in asked)))
    served = Counting()
    side.serve(served)
    said = capsys.readouterr()
    first, second, seconds = map(json.loads, said.out.splitlines())
    assert (first, second, seconds > 0, said.err) == (None, None, True, "read there\n")
    assert np.load(out).tolist() == [[2, 2], [2, 2], [3, 1], [4, 1]]
    assert served._cache == [5, 6, 7, 8, 9]


def test_a_side_that_fails_ends_the_run():
    remote = side.Remote(Path(sys.executable), "benchmarks.no_such_side")
    with remote, pytest.raises(SystemExit, match="no_such_side gave no answer"):
        remote.ask("load", folder="there")


def test_a_side_that_is_late_is_ended(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(side, "DEADLINE_S", 0.2)
    remote = side.Remote(Path(sys.executable), "timeit")  # it reads nothing, and takes longer
    with remote, pytest.raises(SystemExit, match="no answer"):
        remote.end()


def test_the_tiny_model_has_all_that_a_model_can_have(tiny: Path):
    loaded = load_rank(tiny, None, dtype=DType.FLOAT32)
    spec = loaded.spec
    assert set(spec.compress_ratios) == {0, 4, 128}
    assert 0 < spec.num_hash_layers < len(spec.compress_ratios)
    assert (spec.o_groups > 1, spec.hc_mult) == (True, 4)
    for layer in loaded.model.layers:
        assert mx.abs(layer.attn.attn_sink).max().item() > 0.1
    logits = loaded.model(mx.arange(140)[None], loaded.model.make_cache())
    assert 0.5 < logits.std().item() < 2


def test_layers_of_flash_have_its_widths():
    _, *layers = models.cases()
    assert [case.config["compress_ratios"] for case in layers] == [[0], [4], [128]]
    flash = json.loads((models.CONFIGS / "deepseek-v4-flash.json").read_text())
    changed = {key for key, value in flash.items() if layers[0].config.get(key) != value}
    assert changed == {
        *("compress_ratios", "num_hidden_layers", "num_hash_layers", "num_nextn_predict_layers"),
        *("n_routed_experts", "vocab_size", "torch_dtype", "expert_dtype", "quantization_config"),
    }


def test_mlx_lms_layers_are_counted_with_and_without_its_kernel(tiny: Path, tmp_path: Path):
    served = InMlxLm()
    served.load(str(tiny), threads=1)
    served.logits(list(range(3, 139)), prompt=136, out=str(tmp_path / "logits.npy"))
    found = served.operations()
    assert [list(counts) for counts in found.values()] == [["0", "4", "128"]] * 3
    steps = 2 * (2 * served._model.args.hc_sinkhorn_iters - 1)  # of two operations and more each
    for ratio, plain in found["plain"].items():
        assert found["metal"][ratio] < plain - 2 * steps


def test_a_ratio_is_of_the_same_turn():
    pairs = [(1.0, 1.0), (4.0, 2.0), (9.0, 3.0), (4.0, 4.0), (5.0, 5.0)]
    found = figures.ratio("m", "decode", "them", pairs)
    assert (found.lower, found.middle, found.upper) == (1.0, 1.0, 2.0)
    assert (found.ours_ms, found.theirs_ms) == (4000.0, 3000.0)


def test_the_table_has_a_line_for_each_figure():
    found = figures.Found(
        2,
        [figures.Agreement("tiny", 1e-5, 2e-5, 1.0)],
        [figures.Ratio("tiny", "decode", "them", 0.5, 0.4, 0.6, 12.0, 24.0)],
        [figures.Operations("ours", "here", {"0": 10, "4": 20})],
    )
    apart, ratios, counted = figures.as_table(found).split("\n\n")
    assert apart.splitlines()[1].split() == ["tiny", "1.0e-05", "2.0e-05", "1.00"]
    assert "0.40 to 0.60" in ratios.splitlines()[1]
    assert counted.splitlines()[1].split() == ["ours,", "here", "10", "20"]


def test_what_is_published_of_our_operations_is_what_they_are(tiny: Path):
    published = json.loads((RESULTS / "beside.json").read_text())["operations"]
    ours = {each["how"]: each["counts"] for each in published if each["program"] == "ours"}
    side = Ours()
    side.load(str(tiny), threads=1)
    counted = side.operations()
    assert [counted[how] for how in ("plain", "metal")] == [ours[how] for how in ("plain", "metal")]
