"""The environment: directories, and what a rank's process gets."""

import os
import sys
from pathlib import Path

import pytest

from dsv4_tp.config import environment
from dsv4_tp.errors import ConfigError


def test_our_own_variable_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DSV4TP_STATE_DIR", str(tmp_path / "state"))
    assert environment.state_dir() == tmp_path / "state"
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(sys.platform == "darwin", reason="macOS has its own places")
def test_xdg_comes_next_if_it_is_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("DSV4TP_STATE_DIR", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    assert environment.state_dir() == tmp_path / "xdg/dsv4-tp"
    monkeypatch.setenv("XDG_STATE_HOME", "relative")
    assert environment.state_dir() == tmp_path / ".local/state/dsv4-tp"


def test_macos_keeps_them_in_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("DSV4TP_STATE_DIR", raising=False)
    assert environment.state_dir() == tmp_path / "Library/Application Support/dsv4-tp"


def test_a_directory_that_cannot_be_made_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "file").touch()
    monkeypatch.setenv("DSV4TP_STATE_DIR", str(tmp_path / "file/state"))
    with pytest.raises(ConfigError, match="set DSV4TP_STATE_DIR"):
        environment.state_dir()


def test_a_worker_inherits_all_but_the_ring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    others = {"MLX_RANK", "MLX_HOSTFILE", "MLX_IBV_DEVICES", "MLX_JACCL_RING", "JACCL_RANK"}
    for name in others:
        monkeypatch.setenv(name, "7")
    monkeypatch.setenv("KEPT", "yes")
    built = environment.worker_environment(tmp_path)
    assert not others & built.keys()
    assert (built["KEPT"], built["TMPDIR"]) == ("yes", str(tmp_path))


@pytest.mark.skipif(sys.platform != "linux", reason="preloading is for Linux")
def test_preloads_join_what_is_there_and_can_be_switched_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    shim = tmp_path / "shim.so"
    monkeypatch.delenv("DSV4TP_PRELOAD", raising=False)
    monkeypatch.setattr(environment, "shim_path", lambda: shim)
    monkeypatch.setenv("LD_PRELOAD", "/other.so")
    words = environment.worker_environment(tmp_path)["LD_PRELOAD"].split()
    assert words[-2:] == [str(shim), "/other.so"]
    monkeypatch.setenv("LD_PRELOAD", " ".join(words))
    assert environment.worker_environment(tmp_path)["LD_PRELOAD"].split() == words
    monkeypatch.setenv("DSV4TP_PRELOAD", "off")
    monkeypatch.setenv("LD_PRELOAD", "/other.so")
    assert environment.worker_environment(tmp_path)["LD_PRELOAD"] == "/other.so"


@pytest.mark.skipif(sys.platform != "linux", reason="preloading is for Linux")
def test_a_program_starts_again_with_what_it_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    shim, started = tmp_path / "shim.so", []

    def start(_: str, command: list[str], variables: dict[str, str]) -> None:
        started.append((command[1:], variables["LD_PRELOAD"].split()))

    monkeypatch.delenv("DSV4TP_PRELOAD", raising=False)
    monkeypatch.setenv("LD_PRELOAD", "")
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "2")
    monkeypatch.setattr(environment, "shim_path", lambda: shim)
    monkeypatch.setattr(os, "execve", start)
    monkeypatch.setattr(sys, "argv", ["train.py", "--resume"])
    environment.restart_with_preloads("examples.train", blas_threads=2)
    ((command, preloaded),) = started
    assert (command, preloaded[-1]) == (["-m", "examples.train", "--resume"], str(shim))
    monkeypatch.setenv("LD_PRELOAD", " ".join(preloaded))
    environment.restart_with_preloads("examples.train", blas_threads=2)
    assert len(started) == 1


def test_the_ring_is_set_in_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MLX_RANK", "0")
    monkeypatch.setenv("MLX_HOSTFILE", "")
    monkeypatch.setenv("JACCL_RANK", "0")
    environment.set_ring(rank=3, hostfile=tmp_path / "hosts.json")
    assert "JACCL_RANK" not in os.environ
    assert os.environ["MLX_RANK"] == "3"
    assert os.environ["MLX_HOSTFILE"] == str(tmp_path / "hosts.json")


@pytest.mark.parametrize("ring", [False, True])
def test_jaccl_is_set_in_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ring: bool):
    joining = ("MLX_RANK", "MLX_IBV_DEVICES", "MLX_JACCL_COORDINATOR", "MLX_JACCL_RING")
    for name in (*joining, "JACCL_IBV_DEVICES", "MLX_HOSTFILE"):
        monkeypatch.setenv(name, "of somebody else")
    devices = tmp_path / "devices.json"
    environment.set_jaccl(rank=1, devices=devices, coordinator="10.0.0.1:7000", ring=ring)
    assert [os.environ.get(name) for name in joining[:3]] == ["1", str(devices), "10.0.0.1:7000"]
    # MLX asks only whether it is set, and prefers the name without the prefix.
    assert ("MLX_JACCL_RING" in os.environ) is ring
    assert not {"JACCL_IBV_DEVICES", "MLX_HOSTFILE"} & os.environ.keys()
