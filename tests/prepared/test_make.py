"""Making a set: what is whole stays, what is not is done again, whatever interrupts it."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from dsv4_tp import demo
from dsv4_tp.cli.main import run
from dsv4_tp.errors import CheckpointError
from dsv4_tp.prepared import Sink, fill_set, fingerprint, rank_folder, read_digests
from tests.prepared.sets import begin, prepare
from tests.storage_files import BASE, FP4, copy_model, read_file, write_file

SHARD = [sys.executable, "-m", "dsv4_tp", "shard"]
WAIT_S = 60.0


def digests(out: Path, ranks: int = 2) -> dict[str, str]:
    return {
        f"{rank}/{whole.file}": whole.sha256
        for rank in range(ranks)
        for whole in read_digests(rank_folder(out, rank)).values()
    }


def inodes(out: Path) -> Mapping[str, int]:
    return {str(file): file.stat().st_ino for file in out.glob("rank-*/*.safetensors")}


def halves(out: Path) -> list[Path]:
    return list(out.rglob("*.partial"))


class Interrupted(Exception):
    pass


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set for two equal ranks; not to be written to."""
    return prepare(FP4, tmp_path_factory.mktemp("set") / "set", [1, 1])


@pytest.mark.parametrize("at", [1, 5, 12])
def test_an_interrupted_run_is_gone_on_with(pair: Path, tmp_path: Path, at: int) -> None:
    calls = 0

    def interrupt(done: int, total: int) -> None:
        nonlocal calls
        calls += 1
        if calls > at:
            raise Interrupted

    made = begin(FP4, tmp_path / "set", [1, 1])
    with pytest.raises(Interrupted):
        fill_set(tmp_path / "set", made.files, interrupt)
    before = inodes(tmp_path / "set")
    assert halves(tmp_path / "set") == []
    steps: list[tuple[int, int]] = []
    fill_set(tmp_path / "set", made.files, lambda done, total: steps.append((done, total)))
    assert before.items() <= inodes(tmp_path / "set").items()
    assert digests(tmp_path / "set") == digests(pair)
    total = sum(file.nbytes for file in made.files)
    assert steps[0] == (sum(Path(name).stat().st_size for name in before), total)
    assert steps[-1] == (total, total)


def test_a_killed_process_is_gone_on_with(tmp_path: Path) -> None:
    """Killed whenever some more files are whole."""
    command = [*SHARD, "--model", "demo", "--ranks", "4", "--out", str(tmp_path / "set")]
    kills, kept = 0, dict[str, int]()
    while True:
        # Three times in the middle, then to the end.
        enough = len(kept) + 3 if kills < 3 else 1000
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        _wait_for_files(process, tmp_path / "set", at_least=enough)
        process.send_signal(signal.SIGKILL)
        if process.wait(WAIT_S) == 0:
            break
        kills += 1
        found = _whole(tmp_path / "set")
        assert kept.items() <= found.items()  # not written again
        kept = found
    assert kills >= 1
    assert halves(tmp_path / "set") == []
    assert digests(tmp_path / "set", 4) == digests(
        prepare(demo.path(), tmp_path / "straight", [1] * 4), 4
    )


def _whole(out: Path) -> dict[str, int]:
    found = (
        rank_folder(out, rank) / name
        for rank in range(4)
        for name in read_digests(rank_folder(out, rank))
    )
    return {str(file): file.stat().st_ino for file in found}


def _wait_for_files(process: "subprocess.Popen[bytes]", out: Path, *, at_least: int) -> None:
    ends_s = time.monotonic() + WAIT_S
    while process.poll() is None and len(_whole(out)) < at_least:
        assert time.monotonic() < ends_s
        time.sleep(0.001)


def test_only_one_process_fills_a_folder(tmp_path: Path) -> None:
    with Sink(tmp_path), pytest.raises(CheckpointError, match="another process is writing there"):
        Sink(tmp_path)
    with Sink(tmp_path):
        pass


def test_a_set_of_other_weights_is_not_gone_on_with(tmp_path: Path) -> None:
    model, out = copy_model(FP4, tmp_path / "model"), tmp_path / "set"
    prepare(model, out, [1, 1])
    before = inodes(out)
    shard = next(iter(sorted(model.glob("*.safetensors"))))
    tensors = read_file(shard)
    for stored in tensors.values():
        stored.data = bytes(len(stored.data))
    write_file(shard, tensors)
    with pytest.raises(CheckpointError, match=r"holds a set of another checkpoint; remove it"):
        prepare(model, out, [1, 1])
    assert inodes(out) == before


def test_a_set_for_another_plan_is_not_gone_on_with(pair: Path) -> None:
    with pytest.raises(CheckpointError, match=r"holds a set for 2 ranks 1:1, .*; remove it"):
        prepare(FP4, pair, [1, 2])


def test_a_directory_with_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("x")
    with pytest.raises(CheckpointError, match=r"not empty and no prepared set"):
        prepare(FP4, tmp_path, [1])
    assert [file.name for file in tmp_path.iterdir()] == ["mine"]


def test_a_checkpoint_that_changes_meanwhile_is_named(tmp_path: Path) -> None:
    model, out = copy_model(FP4, tmp_path / "model"), tmp_path / "set"
    made = begin(model, out, [1, 1])
    shard = max(model.glob("*.safetensors"))

    def swap(done: int, total: int) -> None:
        if done and shard.stat().st_ino == inode:
            shutil.copy(shard, tmp_path / "fresh")
            (tmp_path / "fresh").rename(shard)

    inode = shard.stat().st_ino
    with pytest.raises(CheckpointError, match=rf"{shard}: changed while it was being read"):
        fill_set(out, made.files, swap)
    assert halves(out) == []
    assert digests(out) == {}


def test_a_disk_that_is_full_before_it_begins(tmp_path: Path, monkeypatch) -> None:
    free = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    with pytest.raises(CheckpointError, match=r"0.0 GB are to be written, 0.0 GB are free; make"):
        prepare(FP4, tmp_path / "set", [1])


def test_a_disk_that_refuses_in_the_middle(pair: Path, tmp_path: Path) -> None:
    """A limit on a file's size stands for the full disk: the system refuses the write."""
    out = tmp_path / "set"
    command = [*SHARD, "--model", str(FP4), "--ranks", "2", "--out", str(out)]
    largest = max(whole.nbytes for whole in read_digests(rank_folder(pair, 0)).values())
    limit = largest - 1
    ended = subprocess.run(
        command,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )
    assert ended.returncode == 2
    assert "File too large; finished files stay" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert halves(out) == []
    assert run(["shard", "--model", str(FP4), "--ranks", "2", "--out", str(out)]) == 0
    assert digests(out) == digests(pair)


@pytest.mark.hosts
def test_a_disk_that_is_really_full(pair: Path, tmp_path: Path) -> None:
    size = sum(file.stat().st_size for file in pair.rglob("*.safetensors")) // 2
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", tmp_path], check=True)
    try:
        made = begin(FP4, tmp_path / "set", [1, 1])
        with pytest.raises(CheckpointError, match=r"GB are to be written, .* GB are free"):
            fill_set(tmp_path / "set", made.files, lambda done, total: None)
        with (
            pytest.raises(CheckpointError, match="No space left on device; finished files stay"),
            Sink(rank_folder(tmp_path / "set", 0)) as sink,
            sink.file("big") as writing,
        ):
            writing.write(bytes(size))
        assert halves(tmp_path / "set") == []
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_the_fingerprint_tells_weights_apart_and_copies_not(tmp_path: Path) -> None:
    copy = copy_model(FP4, tmp_path / "copy")
    shards = [sorted(place.glob("*.safetensors")) for place in (FP4, copy, BASE)]
    assert fingerprint(shards[0]) == fingerprint(shards[1][::-1])
    assert fingerprint(shards[0]) != fingerprint(shards[2])
    with shards[1][0].open("r+b") as file:
        file.seek(-100, os.SEEK_END)
        file.write(bytes(100))
    assert fingerprint(shards[0]) != fingerprint(shards[1])


def test_the_command_tells_what_it_made(tmp_path: Path, capsys) -> None:
    out = tmp_path / "set"
    assert run(["shard", "--model", str(FP4), "--split", "1:2", "--out", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    for rank in told["ranks"]:
        files = list(rank_folder(out, rank["rank"]).glob("*.safetensors"))
        assert rank["files"] == len(files)
        assert rank["bytes"] == sum(file.stat().st_size for file in files)
    assert run(["inspect", str(out), "--json"]) == 0
    seen = json.loads(capsys.readouterr().out)["prepared"]
    assert seen["weights"] == [1, 2]
    assert [(r["files"], r["expected"]) for r in seen["ranks"]] == [
        (told["ranks"][0]["files"],) * 2
    ] * 2


def test_one_rank_alone(tmp_path: Path, capsys) -> None:
    command = ["shard", "--model", str(FP4), "--ranks", "2", "--out", str(tmp_path / "set")]
    assert run([*command, "--rank", "1"]) == 0
    assert [folder.name for folder in (tmp_path / "set").glob("rank-*")] == ["rank-1"]
    assert run([*command, "--rank", "2"]) == 2
    assert "--rank 2: the plan has ranks 0 to 1" in capsys.readouterr().err


def test_a_set_is_not_sorted_again(pair: Path, tmp_path: Path, capsys) -> None:
    command = ["shard", "--model", str(pair), "--ranks", "2", "--out", str(tmp_path / "set")]
    assert run(command) == 2
    assert "a prepared set already; give the checkpoint itself" in capsys.readouterr().err


def test_hosts_that_share_a_disk_may_begin_at_once(tmp_path: Path) -> None:
    def start(number: int) -> None:
        begin(FP4, tmp_path / f"set-{number // 8}", [1])

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(start, range(80))) == [None] * 80
    assert list(tmp_path.rglob("*.partial")) == []


def test_a_set_that_was_hardly_begun_is_gone_on_with(tmp_path: Path) -> None:
    (tmp_path / "prepared.json.1234.partial").write_text("{")
    begin(FP4, tmp_path, [1])
    (tmp_path / "config.json").unlink()
    begin(FP4, tmp_path, [1])
    assert (tmp_path / "config.json").read_bytes() == (FP4 / "config.json").read_bytes()
