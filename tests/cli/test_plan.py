"""`dsv4-tp plan`: what each rank will hold."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from dsv4_tp.cli.main import run
from tests.storage_files import FP4, copy_model

FLASH = Path(__file__).parents[1] / "plan/configs/deepseek-v4-flash.json"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A current directory without a cluster.yaml."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def plan(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    assert run(["plan", *arguments, "--json"]) == 0
    line = capsys.readouterr().out
    assert line.count("\n") == 1
    return json.loads(line)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run(["plan", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    return err


def weights(planned: dict[str, Any]) -> list[int]:
    return [rank["weight"] for rank in planned["ranks"]]


def test_the_table_has_a_column_for_each_rank_and_its_total(capsys: pytest.CaptureFixture[str]):
    assert run(["plan", "--model", str(FLASH), "--split", "3:5"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["GB", "rank", "0", "rank", "1"]
    assert lines[-1][0] == "total"
    first, second = map(float, lines[-1][1:])
    assert 60 < first < second < 100


def test_json_says_the_same_in_bytes(capsys: pytest.CaptureFixture[str]):
    planned = plan(capsys, "--model", str(FLASH), "--ranks", "2")
    assert planned["model"] == str(FLASH)
    for number, rank in enumerate(planned["ranks"]):
        assert rank["rank"] == number
        assert rank["total_bytes"] == sum(rank["bytes"].values())
    spans = [rank["part"]["heads"] for rank in planned["ranks"]]
    assert spans == [[0, 32], [32, 64]]


def test_a_directory_is_planned_by_its_files(capsys: pytest.CaptureFixture[str]):
    planned = plan(capsys, "--model", "demo", "--hosts", "localhost,localhost")
    assert weights(planned) == [1, 1]
    assert "not asked for" in planned["notes"][0]


def test_cluster_yaml_gives_what_the_options_leave_out(
    elsewhere: Path, capsys: pytest.CaptureFixture[str]
):
    (elsewhere / "cluster.yaml").write_text(
        "version: 1\nmodel: {path: demo}\nsplit: {experts: whole}\n"
        "hosts: [{name: localhost}, {name: b, weight: 2}]\n"
    )
    whole = plan(capsys)
    assert (weights(whole), whole["experts"]) == ([1, 2], "whole")
    assert weights(plan(capsys, "--ranks", "4")) == [1, 1, 1, 1]
    assert plan(capsys, "--model", str(FLASH))["model"] == str(FLASH)
    shutil.move(elsewhere / "cluster.yaml", elsewhere / "other.yaml")
    assert weights(plan(capsys, "-f", "other.yaml")) == [1, 2]


def test_cluster_yaml_is_not_read_beside_hosts(elsewhere: Path, capsys: pytest.CaptureFixture[str]):
    (elsewhere / "cluster.yaml").write_text("broken: [")
    assert weights(plan(capsys, "--hosts", "a,b,c", "--model", "demo")) == [1, 1, 1]
    assert "cluster.yaml:1: not YAML" in refused(capsys, "--ranks", "2")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("--ranks 2", "there is no ./cluster.yaml; give --model PATH"),
        ("--model demo", "give --ranks N, --split 3:5, --hosts A,B or -f FILE"),
        ("--model demo --ranks 2 --split 1:1", "--ranks and --split all say how many ranks"),
        ("--model demo --ranks 17", "17 ranks"),
        ("--model demo --hosts a,a", "a is listed twice"),
        ("--model demo --split 1:99999", "rank 0 of 2 would hold nothing"),
        ("--hosts a,b", "which model? give --model"),
        ("--model none --ranks 2", "no such file"),
        ("-f none.yaml", "none.yaml: No such file"),
    ],
)
def test_what_cannot_be_planned_is_refused_in_one_line(
    arguments: str, says: str, capsys: pytest.CaptureFixture[str]
):
    assert says in refused(capsys, *arguments.split())


def test_a_half_copied_checkpoint_is_refused(elsewhere: Path, capsys: pytest.CaptureFixture[str]):
    model = copy_model(FP4, elsewhere / "model")
    (model / "model-00002-of-00002.safetensors").unlink()
    says = refused(capsys, "--model", str(model), "--ranks", "2")
    assert "model-00002-of-00002.safetensors" in says
