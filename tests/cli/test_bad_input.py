"""Everything wrong that a user can bring to a launch: one clear line, code 2, nothing started.

`launch` becomes `coordinator`, which can run in the tests' own process.
"""

import json
import re
import shutil
import socket
from collections.abc import Callable, Generator
from pathlib import Path

import psutil
import pytest

from dsv4_tp.cli.main import run
from tests.storage_files import FP4, Stored, change_config, copy_model, read_file, write_file

HOSTS = ("--hosts", "localhost,localhost")
SHARD = "model-00001-of-00002.safetensors"


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DSV4TP_STATE_DIR", str(tmp_path / "state"))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A sound checkpoint, to be spoilt."""
    copied = copy_model(FP4, tmp_path / "model")
    shutil.copy(FP4 / "tokenizer.json", copied)
    return copied


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a launch that is refused; the one line it says."""

    def launch(*arguments: object) -> str:
        assert run(["coordinator", *map(str, arguments)]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("dsv4-tp: error: ")
        assert err.count("\n") == 1
        assert psutil.Process().children() == []
        return err

    return launch


@pytest.fixture
def taken_port() -> Generator[int]:
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        holder.listen()
        yield holder.getsockname()[1]


def drop_shard(model: Path) -> None:
    (model / SHARD).unlink()


def truncate(model: Path) -> None:
    data = (model / SHARD).read_bytes()
    (model / SHARD).write_bytes(data[: len(data) - 100])


def add_stranger(model: Path) -> None:
    tensors = read_file(model / SHARD) | {"layers.0.attn.extra": Stored("F32", [1], bytes(4))}
    write_file(model / SHARD, tensors)


def lose_tensor(model: Path) -> None:
    tensors = read_file(model / SHARD)
    tensors.pop("embed.weight")
    write_file(model / SHARD, tensors)
    index = model / "model.safetensors.index.json"
    data = json.loads(index.read_text())
    del data["weight_map"]["embed.weight"]
    index.write_text(json.dumps(data))


def reshape(model: Path) -> None:
    tensors = read_file(model / SHARD)
    tensors["embed.weight"].shape.reverse()
    write_file(model / SHARD, tensors)


def retype(model: Path) -> None:
    tensors = read_file(model / SHARD)
    tensors["embed.weight"].dtype = "I16"
    write_file(model / SHARD, tensors)


def hide_layer_kinds(model: Path) -> None:
    data = json.loads((model / "config.json").read_text())
    del data["compress_ratios"]
    (model / "config.json").write_text(json.dumps(data))


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (drop_shard, f"missing: {SHARD}"),
        (truncate, "truncated"),
        (add_stranger, "layers.0.attn.extra"),
        (lose_tensor, "embed.weight"),
        (reshape, "embed.weight"),
        (retype, "embed.weight"),
        (hide_layer_kinds, "neither compress_ratios nor layer_types"),
        (lambda model: change_config(model, compress_ratios=[0, 4, 7, 4, 0]), "is 7"),
        (lambda model: change_config(model, model_type="llama"), "model_type is 'llama'"),
        (lambda model: (model / "config.json").write_text("{"), "config.json: not JSON"),
        (lambda model: (model / "config.json").unlink(), "config.json: no such file"),
        (shutil.rmtree, "no such file"),
    ],
)
def test_a_damaged_checkpoint(
    model: Path, refused: Callable[..., str], spoil: Callable[[Path], object], says: str
):
    spoil(model)
    assert says in refused(*HOSTS, "--model", model)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--prompt", ""), "the prompt is empty"),
        (("--prompt", "", "--chat"), "the prompt is empty"),
        (("--prompt", "x" * 128), "the prompt has 129 tokens, the model's context is 128"),
        (
            ("--prompt", "x" * 64, "--context", 64),
            "the prompt has 65 tokens, the cluster's context is 64",
        ),
        (("--prompt", "x", "--context", 129), "a context of 129 tokens; the model's is 128"),
    ],
)
def test_a_prompt_that_cannot_be_served(
    model: Path, refused: Callable[..., str], arguments: tuple[str, ...], says: str
):
    change_config(model, max_position_embeddings=128)
    assert says in refused(*HOSTS, "--model", model, *arguments)


def test_a_prompt_without_a_tokenizer(model: Path, refused: Callable[..., str]):
    (model / "tokenizer.json").unlink()
    says = refused(*HOSTS, "--model", model, "--prompt", "x")
    assert "tokenizer.json: no such file; text needs it" in says


@pytest.mark.parametrize(
    ("hosts", "says"),
    [
        ("b,localhost,b", "b is listed twice; only localhost may be"),
        (",".join(["localhost"] * 17), "17 ranks; a cluster has 1 to 16"),
        ("localhost,", "a host has no name"),
    ],
)
def test_hosts_that_make_no_cluster(
    model: Path, refused: Callable[..., str], hosts: str, says: str
):
    assert says in refused("--hosts", hosts, "--model", model)


def test_a_rank_that_the_model_cannot_feed(
    model: Path, refused: Callable[..., str], tmp_path: Path
):
    (tmp_path / "c.yaml").write_text(
        "version: 1\nmodel: {path: model}\n"
        "hosts: [{name: localhost}, {name: localhost, weight: 99999}]\n"
    )
    assert "rank 0 of 2 would hold nothing" in refused("-f", tmp_path / "c.yaml")


def test_a_key_that_cluster_yaml_does_not_know(refused: Callable[..., str], tmp_path: Path):
    (tmp_path / "c.yaml").write_text("version: 1\nmodle: {path: demo}\n")
    says = refused("-f", tmp_path / "c.yaml")
    assert "c.yaml:2: modle: unknown key (did you mean model?)" in says


def test_cluster_yaml_is_read_by_itself_but_not_beside_hosts(
    model: Path, refused: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    assert "there is no ./cluster.yaml" in refused()
    (tmp_path / "cluster.yaml").write_text("version: 2\n")
    assert "cluster.yaml:1: version: 2; expected 1" in refused()
    drop_shard(model)
    assert SHARD in refused(*HOSTS, "--model", model)


@pytest.mark.usefixtures("model")
def test_a_port_in_use(refused: Callable[..., str], tmp_path: Path, taken_port: int):
    (tmp_path / "c.yaml").write_text(
        f"version: 1\nmodel: {{path: model}}\nports: {{control: {taken_port}}}\n"
        "hosts: [{name: localhost}]\n"
    )
    assert f"127.0.0.1:{taken_port}: the port is in use" in refused("-f", tmp_path / "c.yaml")


@pytest.mark.cluster
@pytest.mark.usefixtures("model")
def test_a_data_port_in_use(refused: Callable[..., str], tmp_path: Path, taken_port: int):
    first = taken_port - 1  # rank 1 listens one further
    (tmp_path / "c.yaml").write_text(
        f"version: 1\nmodel: {{path: model}}\nports: {{data: {first}}}\n"
        "hosts: [{name: localhost}, {name: localhost}]\n"
    )
    says = refused("-f", tmp_path / "c.yaml")
    assert f"localhost: cannot listen on 127.0.0.1:{taken_port}" in says


@pytest.mark.cluster
def test_http_for_others_without_a_key_of_ones_own(
    model: Path, refused: Callable[..., str], tmp_path: Path
):
    outside = ("--model", model, *HOSTS, "--http", "0.0.0.0:0")
    assert "clients need keys: say --api-keys FILE" in refused(*outside)
    (tmp_path / "keys").write_text("0123456789abcdef")
    (tmp_path / "keys").chmod(0o644)
    says = refused(*outside, "--api-keys", tmp_path / "keys")
    assert "keys: others could read these API keys" in says
    assert "0123" not in says


def test_a_host_that_cannot_be_reached(model: Path, refused: Callable[..., str]):
    says = refused("--hosts", "localhost,nowhere.invalid", "--model", model)
    assert "nowhere.invalid: cannot be reached by ssh" in says


def test_rdma_where_there_is_none(
    tmp_path: Path, refused: Callable[..., str], capsys: pytest.CaptureFixture[str]
):
    """Asked for, it is refused by what the hosts say; where devices are given, by MLX itself."""
    says = refused(*HOSTS, "--model", "demo", "--backend", "jaccl")
    assert "localhost is no Mac, so it has no RDMA over Thunderbolt" in says
    file = tmp_path / "cluster.yaml"
    rows = ("[null, rdma_en2]", "[rdma_en2, null]")
    hosts = "".join(f"- {{name: localhost, rdma: {row}}}\n" for row in rows)
    file.write_text(f"version: 1\nmodel: {{path: demo}}\nbackend: jaccl\nhosts:\n{hosts}")
    assert run(["coordinator", "-f", str(file)]) == 2
    last = capsys.readouterr().err.splitlines()[-1]
    told = r"rank [01] on localhost: MLX [\d.]+ here has no JACCL: .*; use `backend: ring`"
    assert re.fullmatch(f"dsv4-tp: error: {told}", last)
