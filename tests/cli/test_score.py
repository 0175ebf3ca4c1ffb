"""`dsv4-tp score` in one process, as a user runs it."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dsv4_tp.cli.rows import read_rows
from dsv4_tp.errors import RequestError
from dsv4_tp.modelspec import read_spec

GOLDEN = Path(__file__).parents[1] / "golden/layouts/a_official_fp8_fp4"
LENGTH = 40


def score(
    tmp_path: Path, *arguments: str, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dsv4_tp", "score", *arguments],
        cwd=cwd or tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def expected_nll(logits: np.ndarray, ids: np.ndarray) -> np.ndarray:
    logits = logits[:, :-1].astype(np.float64)
    top = logits.max(axis=-1, keepdims=True)
    log_sum = np.log(np.exp(logits - top).sum(axis=-1)) + top[..., 0]
    hits = np.take_along_axis(logits, ids[:, 1:, None], axis=-1)[..., 0]
    return (log_sum - hits).mean(axis=-1)


@pytest.mark.parametrize("chunk", [None, 7])
def test_it_agrees_with_the_reference(tmp_path: Path, chunk: int | None):
    expected = np.load(GOLDEN / "expected.npz")
    ids, logits = expected["ids"][:, :LENGTH], expected["logits"][:, :LENGTH]
    (tmp_path / "ids.json").write_text(json.dumps(ids.tolist()))
    pieces = ["--chunk", str(chunk)] if chunk else []
    files = ["--tokens", "ids.json", "--logits", "out"]
    done = score(tmp_path, "--model", str(GOLDEN), *files, *pieces)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    nll = json.loads(done.stdout)["nll"]
    np.testing.assert_allclose(nll, expected_nll(logits, ids), atol=1e-4)
    found = np.load(tmp_path / "out")["logits"]
    assert (found.dtype, found.shape) == (np.float32, logits.shape)
    assert np.abs(found - logits).max() < 1e-4
    assert "float32 on" in done.stderr


def test_cluster_yaml_is_not_read_by_itself(tmp_path: Path):
    (tmp_path / "cluster.yaml").write_text("version: 1\nmodel: {path: demo}\nhosts: []\n")
    (tmp_path / "ids.json").write_text("[[1, 2]]")
    done = score(tmp_path, "--tokens", "ids.json")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.splitlines() == [
        "dsv4-tp: error: which model? give --model: a checkpoint's directory, or demo"
    ]


def test_an_output_that_cannot_be_written_is_refused_first(tmp_path: Path):
    (tmp_path / "ids.json").write_text("[[1, 2]]")
    for out in ("none/out.npz", "."):
        done = score(tmp_path, "--model", "demo", "--tokens", "ids.json", "--logits", out)
        assert done.returncode == 2
        assert f"--logits {out}: not a file in a directory that exists" in done.stderr


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("[[1, 2], [3]]", "row 1 has 1 ids"),
        ("[[1, 2], [3, 4, 5]]", "row 1 has 3 ids, row 0 has 2; rows must be equally long"),
        ("[[1, 384]]", "row 0, place 1: 384 is not a token id, 0 to 383"),
        ("[[1, -1]]", "row 0, place 1: -1 is not a token id"),
        ("[[1, 2.0]]", "row 0, place 1: 2.0 is not a token id"),
        ("[[1, true]]", "row 0, place 1: True is not a token id"),
        ('[[1, "2"]]', "row 0, place 1: '2' is not a token id"),
        ("[1, 2]", "row 0 is 1, expected a list of token ids"),
        ("[]", "expected a list of lists of token ids"),
        ('{"ids": [[1, 2]]}', "expected a list of lists of token ids"),
        ("[[1, 2]", "not JSON"),
        ("\xff", "not JSON"),
    ],
)
def test_a_file_of_other_things_is_refused(tmp_path: Path, content: str, says: str):
    file = tmp_path / "ids.json"
    file.write_bytes(content.encode("latin-1"))
    with pytest.raises(RequestError) as caught:
        read_rows(file, read_spec(GOLDEN))
    assert str(caught.value).startswith(f"{file}: ")
    assert says in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(RequestError, match=r"none\.json: No such file"):
        read_rows(tmp_path / "none.json", read_spec(GOLDEN))
