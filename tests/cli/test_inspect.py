"""`dsv4-tp inspect`: what a checkpoint is, sound or not."""

import json
from pathlib import Path

import pytest

from dsv4_tp.cli.main import run
from dsv4_tp.layouts import read_headers
from dsv4_tp.layouts.headers import INDEX
from tests.storage_files import BASE, CONVERSIONS, GOLDEN, copy_model, read_file, write_file

SWITCH = GOLDEN / "layouts" / "c1_mlx_switch_4bit_mxfp4"


@pytest.fixture
def inspected(capsys: pytest.CaptureFixture[str]):
    """Runs the command; its exit code, what it printed, and what it noted."""

    def inspect(*arguments: object) -> tuple[int, str, str]:
        return run(["inspect", *map(str, arguments)]), *capsys.readouterr()

    return inspect


def test_what_people_read(inspected) -> None:
    code, out, err = inspected(SWITCH)
    assert code == 0
    assert "layout   mlx-lm's names with switch_mlp" in out
    assert "drafter  none, although config.json announces MTP stages" in out
    assert [line.split() for line in out.splitlines() if line.startswith("experts")] == [
        ["experts", "24", "1,253,376", "mxfp4,", "4", "bits,", "groups", "of", "32"]
    ]
    assert err == "config.json announces 1 MTP stages, the files hold none: speculation is off\n"


@pytest.mark.parametrize("model_dir", [BASE, *CONVERSIONS], ids=lambda path: path.name)
def test_every_tensor_is_counted_once(inspected, model_dir: Path) -> None:
    code, out, _ = inspected(model_dir, "--json")
    found = json.loads(out)
    entries = read_headers(model_dir)
    dropped = [name for names in found["dropped"].values() for name in names]
    assert code == 0
    assert found["tensors"] == len(entries)
    assert sum(c["tensors"] for c in found["classes"]) + len(dropped) == len(entries)
    left_out = sum(entries[name].nbytes for name in dropped)
    assert sum(c["bytes"] for c in found["classes"]) + left_out == found["bytes"]
    assert found["unknown"] == found["missing"] == found["wrong"] == []


def test_what_would_be_left_out(inspected) -> None:
    _, out, err = inspected(BASE)
    assert "drafter  MTP stages" in out
    assert "MTP stages" in {line.split("  ")[0] for line in out.splitlines()}
    assert "left out: mtp.0.head.weight: a copy of head.weight" in err


def test_what_is_missing_and_what_is_wrong(inspected, tmp_path: Path) -> None:
    model_dir = copy_model(SWITCH, tmp_path)
    (model_dir / INDEX).unlink()
    file = model_dir / "model-00001-of-00002.safetensors"
    tensors = read_file(file)
    lost = next(name for name in tensors if name.endswith("wkv.scales"))
    cut = next(name for name in tensors if name.endswith("attn_norm.weight"))
    del tensors[lost]
    tensors[cut].shape, tensors[cut].data = [255], tensors[cut].data[:-2]
    tensors["stranger"] = tensors[cut]
    write_file(file, tensors)
    code, out, err = inspected(model_dir, "--json")
    found = json.loads(out)
    assert code == 2
    assert (found["missing"], found["unknown"]) == ([lost], ["stranger"])
    assert found["wrong"][0].startswith(f"{cut} in model-00001-of-00002.safetensors is BF16 [255]")
    assert err.startswith("dsv4-tp: error: ")
    assert err.count("\n") == 1
    assert all(name in err for name in (lost, cut, "stranger"))


def test_no_checkpoint(inspected, tmp_path: Path) -> None:
    code, out, err = inspected(tmp_path / "nothing")
    assert (code, out) == (2, "")
    assert "nothing" in err
