"""Everything that can be wrong with a checkpoint's files, in every family of checkpoints.

The commands say it in one line with code 2: which file, which tensor, what to do. Headers are real,
the weights behind them are holes: what is refused here is refused before a weight is read.
"""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from math import prod
from pathlib import Path

import pytest

from dsv4_tp.cli.main import run
from dsv4_tp.layouts.headers import DTYPE_BYTES, INDEX
from dsv4_tp.layouts.names import FileNames
from dsv4_tp.modelspec import contract, read_spec
from tests.layouts.export import SHARDS, export, sample
from tests.layouts.styles import STYLES
from tests.storage_files import read_file

FAMILIES = (
    "official",
    "base",
    "bf16",
    "short, 4 bits",
    "short, stacked bf16",
    "switch, 6 bits",
    "switch, experts one by one",
    "self_attn, 3 bits",
    "no prefix, mixed",
    "our own, 5 bits",
    "saved",
    "modules",
)
FIRST, SECOND = SHARDS
VICTIM = "layers.1.attn.wq_b.weight"  # packed wherever anything is, not square
NEXT_STEPS = ("copy ", "check ", "remove ", "keep ", "take ", "give ")

Shard = dict[str, tuple[str, list[int]]]  # dtype and shape by name


@dataclass
class Sketch:
    """A checkpoint without its numbers, to be spoilt before it is written."""

    config: dict
    shards: dict[str, Shard]
    placed: dict[str, str]
    names: FileNames  # of VICTIM

    @property
    def victim(self) -> str:
        return self.names.weights[0]

    @property
    def home(self) -> Shard:
        """The shard with the victim."""
        return self.shards[self.placed[self.victim]]

    def write(self, to: Path) -> Path:
        to.mkdir()
        (to / "config.json").write_text(json.dumps(self.config))
        (to / INDEX).write_text(json.dumps({"weight_map": self.placed}))
        for file, shard in self.shards.items():
            write_hollow(to / file, fields_of(shard))
        return to


def fields_of(shard: Shard) -> dict[str, dict]:
    fields, begin = {}, 0
    for name, (dtype, shape) in shard.items():
        end = begin + prod(shape) * DTYPE_BYTES[dtype]
        fields[name] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
        begin = end
    return fields


def write_hollow(file: Path, fields: dict[str, dict]) -> None:
    text = json.dumps(fields).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text)
    end = max(one["data_offsets"][1] for one in fields.values())
    os.truncate(file, 8 + len(text) + end)


def read_hollow(file: Path) -> dict[str, dict]:
    raw = file.read_bytes()
    return json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Sketch:
    return sketch(request.param, tmp_path_factory.mktemp("sound"))


def sketch(name: str, to: Path) -> Sketch:
    style = STYLES[name]
    export(to, style, *sample())
    shards = {
        file: {name: (stored.dtype, stored.shape) for name, stored in read_file(to / file).items()}
        for file in SHARDS
    }
    spec = read_spec(to)
    (tensor,) = (tensor for tensor in contract(spec, mtp=False) if tensor.name == VICTIM)
    placed = json.loads((to / INDEX).read_text())["weight_map"]
    config = json.loads((to / "config.json").read_text())
    return Sketch(config, shards, placed, style.reading.names(tensor, spec))


@pytest.fixture
def sound(family: Sketch) -> Sketch:
    """To be spoilt."""
    return deepcopy(family)


@pytest.fixture
def said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[Path], str]:
    """What inspect and score say of a checkpoint that both refuse: the same line."""
    monkeypatch.setenv("DSV4TP_PRELOAD", "off")  # else `score` starts anew
    tokens = tmp_path / "ids.json"
    tokens.write_text("[[1, 2]]")

    def both(model_dir: Path) -> str:
        assert run(["inspect", str(model_dir)]) == 2
        *notes, inspected = capsys.readouterr().err.splitlines()
        assert not any("error" in note for note in notes)
        assert run(["score", "--model", str(model_dir), "--tokens", str(tokens)]) == 2
        out, scored = capsys.readouterr()
        assert (out, scored) == ("", inspected + "\n")
        return scored

    return both


def check(line: str, model_dir: Path, *words: str) -> None:
    """One line that says where, what, and what to do."""
    assert line.startswith("dsv4-tp: error: ")
    assert "Traceback" not in line
    assert str(model_dir) in line
    assert [word for word in words if word not in line] == []
    assert line.rstrip().split("; ")[-1].split(", ")[-1].startswith(NEXT_STEPS)


def test_as_it_is_it_passes(family: Sketch, tmp_path: Path) -> None:
    assert run(["inspect", str(family.write(tmp_path / "model"))]) == 0


# Each spoils a sketch; the words that must be in what is said.


def lose_tensor(sound: Sketch) -> list[str]:
    home, name = sound.placed[sound.victim], sound.victim
    del sound.shards[home][name], sound.placed[name]
    return [name]


def lose_tensor_but_not_in_the_index(sound: Sketch) -> list[str]:
    del sound.home[sound.victim]
    return [sound.victim, sound.placed[sound.victim], INDEX]


def lose_tensor_in_the_index_only(sound: Sketch) -> list[str]:
    home = sound.placed.pop(sound.victim)
    return [sound.victim, home, INDEX]


def lose_scales(sound: Sketch) -> list[str]:
    (name,) = scales_of(sound) or pytest.skip("has none")
    del sound.home[name], sound.placed[name]
    return [name]


def scales_of(sound: Sketch) -> list[str]:
    ends = (".scale", ".scales")
    return [name for end in ends for name in sound.names.beside(end) if name in sound.home]


def add_tensor(sound: Sketch) -> list[str]:
    name = sound.victim.replace("wq_b", "extra").replace("q_b_proj", "extra")
    sound.shards[FIRST][name], sound.placed[name] = ("F32", [3]), FIRST
    return [name, FIRST]


def turn_tensor(sound: Sketch) -> list[str]:
    dtype, shape = sound.home[sound.victim]
    sound.home[sound.victim] = dtype, shape[::-1]
    return [sound.victim, sound.placed[sound.victim], str(shape[::-1])]


def shorten_tensor(sound: Sketch) -> list[str]:
    dtype, (rows, columns) = sound.home[sound.victim]
    sound.home[sound.victim] = dtype, [rows - 1, columns]
    return [sound.victim, sound.placed[sound.victim], str([rows - 1, columns])]


def retype_tensor(sound: Sketch) -> list[str]:
    _, shape = sound.home[sound.victim]
    sound.home[sound.victim] = "I16", shape
    return [sound.victim, sound.placed[sound.victim], "I16"]


def change_groups(sound: Sketch) -> list[str]:
    scales = scales_of(sound) or pytest.skip("has none")
    biases = [name for name in sound.names.beside(".biases") if name in sound.home]
    for name in (*scales, *biases):
        dtype, (rows, groups) = sound.home[name]
        sound.home[name] = dtype, [rows, 2 * groups]
    return [sound.victim.removesuffix(".weight"), sound.placed[sound.victim]]


def mix_layouts(sound: Sketch) -> list[str]:
    short = not sound.victim.startswith("model.") and "embed.weight" in sound.placed
    modules = "model.layers.0.ffn.switch_mlp.up_proj.weight"
    name = modules if short else "layers.0.hc_attn_fn"
    sound.shards[SECOND][name], sound.placed[name] = ("BF16", [2, 2]), SECOND
    return [name, SECOND, "two layouts are mixed"]


def set_unknown_module(sound: Sketch) -> list[str]:
    settings = sound.config.setdefault("quantization", {"group_size": 64, "bits": 4})
    settings["layers.9.attn.nothing"] = {"group_size": 64, "bits": 8}
    return ["'layers.9.attn.nothing'", "config.json"]


def name_absent_shard(sound: Sketch) -> list[str]:
    sound.placed[sound.victim] = "model-00003-of-00003.safetensors"
    return ["model-00003-of-00003.safetensors"]


def place_elsewhere(sound: Sketch) -> list[str]:
    sound.placed[sound.victim] = ({*SHARDS} - {sound.placed[sound.victim]}).pop()
    return [sound.victim, sound.placed[sound.victim], INDEX]


def store_twice(sound: Sketch) -> list[str]:
    for shard in sound.shards.values():
        shard.setdefault(sound.victim, ("F32", [3]))
    return [sound.victim, *SHARDS]


def another_size(sound: Sketch) -> list[str]:
    sound.config["hidden_size"] *= 2
    return [FIRST, "config.json"]


def another_model(sound: Sketch) -> list[str]:
    sound.config["model_type"] = "deepseek_v3"
    return ["config.json", "model_type is 'deepseek_v3'"]


@pytest.mark.parametrize(
    "spoil",
    [
        lose_tensor,
        lose_tensor_but_not_in_the_index,
        lose_tensor_in_the_index_only,
        lose_scales,
        add_tensor,
        turn_tensor,
        shorten_tensor,
        retype_tensor,
        change_groups,
        mix_layouts,
        set_unknown_module,
        name_absent_shard,
        place_elsewhere,
        store_twice,
        another_size,
        another_model,
    ],
)
def test_other_contents(
    sound: Sketch, tmp_path: Path, said: Callable[[Path], str], spoil: Callable[[Sketch], list[str]]
) -> None:
    words = spoil(sound)
    model_dir = sound.write(tmp_path / "model")
    check(said(model_dir), model_dir, *words)


# Each spoils a file with tensors of some family.


def remove(file: Path) -> str:
    file.unlink()
    return "missing"


def truncate(file: Path) -> str:
    os.truncate(file, file.stat().st_size - 1)
    return "truncated"


def truncate_header(file: Path) -> str:
    os.truncate(file, 1000)
    return "truncated"


def lengthen(file: Path) -> str:
    os.truncate(file, file.stat().st_size + 8)
    return "no tensor"


def lie(file: Path, *, by: int) -> None:
    """Moves the last tensor's bytes in the header."""
    fields = read_hollow(file)
    *_, last = fields.values()
    last["data_offsets"] = [offset + by for offset in last["data_offsets"]]
    write_hollow(file, fields)


def overlap(file: Path) -> str:
    lie(file, by=-4)
    return "overlap"


def leave_gap(file: Path) -> str:
    lie(file, by=4)
    return "no tensor"


def lie_about_size(file: Path) -> str:
    fields = read_hollow(file)
    *_, last = fields.values()
    last["data_offsets"][1] += 4
    write_hollow(file, fields)
    return "does not fill"


def lie_about_header(file: Path) -> str:
    with file.open("r+b") as stream:
        stream.write((2**62).to_bytes(8, "little"))
    return "truncated or no safetensors file"


@pytest.mark.parametrize(
    "spoil",
    [
        remove,
        truncate,
        truncate_header,
        lengthen,
        overlap,
        leave_gap,
        lie_about_size,
        lie_about_header,
    ],
)
def test_a_damaged_file(
    sound: Sketch, tmp_path: Path, said: Callable[[Path], str], spoil: Callable[[Path], str]
) -> None:
    model_dir = sound.write(tmp_path / "model")
    words = spoil(model_dir / SECOND)
    check(said(model_dir), model_dir, SECOND, words)


LAUNCH = ["launch", "--hosts", "localhost,localhost", "--model"]


@pytest.mark.parametrize(
    "command",
    [
        ["inspect"],
        ["score", "--tokens", "ids.json", "--model"],
        pytest.param(LAUNCH, marks=pytest.mark.cluster),
    ],
    ids=lambda command: command[0],
)
def test_as_a_user_runs_it(tmp_path: Path, command: list[str]) -> None:
    model = sketch("switch, experts one by one", tmp_path / "sound")
    words = retype_tensor(model)
    model_dir = model.write(tmp_path / "model")
    done = subprocess.run(
        [sys.executable, "-m", "dsv4_tp", *command, str(model_dir)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 2
    check(done.stderr.splitlines()[-1], model_dir, *words)
