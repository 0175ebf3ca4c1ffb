"""Files are hashed once, and again only when they have changed."""

import asyncio
import hashlib
import os
import threading
import time
from pathlib import Path

import psutil
import pytest

from dsv4_tp.agent.digests import Hashing, Ledger
from dsv4_tp.errors import CheckpointError

SIZE = 9 << 20  # more than one block


@pytest.fixture
def model_dir(tmp_path):
    (folder := tmp_path / "model").mkdir()
    for number in range(3):
        (folder / f"{number}.safetensors").write_bytes(os.urandom(SIZE))
    return folder


def hashing_of(model_dir, *, folder="digests"):
    ledger = Ledger(model_dir.parent / folder, model_dir)
    return Hashing(sorted(model_dir.iterdir()), ledger)


def digests_of(model_dir, **options):
    """Digests, and how many bytes this process read for them."""
    before = psutil.Process().io_counters().read_chars
    hashing = hashing_of(model_dir, **options)
    asyncio.run(hashing.run())
    assert hashing.done_bytes == hashing.total_bytes
    return hashing.digests, psutil.Process().io_counters().read_chars - before


async def begun(hashing):
    for _ in range(10000):
        await asyncio.sleep(0.001)
        if hashing.done_bytes:
            return
    raise AssertionError("nothing was read")


def expected(model_dir):
    return {f: hashlib.sha256(f.read_bytes()).hexdigest() for f in model_dir.iterdir()}


needs_io = pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="counts bytes by /proc")


@needs_io
def test_bytes_are_read_once(model_dir):
    first, read = digests_of(model_dir)
    assert first == expected(model_dir)
    assert read >= 3 * SIZE
    again, read = digests_of(model_dir)
    assert again == first
    assert read < SIZE


@needs_io
def test_a_flipped_byte_is_seen_though_the_time_is_put_back(model_dir):
    first, _ = digests_of(model_dir)
    file = model_dir / "1.safetensors"
    stat = file.stat()
    with file.open("r+b") as stream:
        byte = stream.read(1)[0]
        stream.seek(0)
        stream.write(bytes([byte ^ 1]))
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert file.stat().st_mtime_ns == stat.st_mtime_ns
    again, read = digests_of(model_dir)
    assert again == expected(model_dir)
    assert [name for name in again if again[name] != first[name]] == [file]
    assert SIZE <= read < 2 * SIZE


@pytest.mark.parametrize("text", ["", "{", "[]", '{"files": []}', '{"files": {"a": [1]}}'])
def test_a_damaged_memory_counts_as_none(model_dir, text):
    first, _ = digests_of(model_dir)
    (file,) = (model_dir.parent / "digests").iterdir()
    file.write_text(text)
    hashing = hashing_of(model_dir)
    assert hashing.total_bytes == 3 * SIZE
    asyncio.run(hashing.run())
    assert hashing.digests == first
    assert hashing_of(model_dir).total_bytes == 0


def test_a_memory_that_cannot_be_written_costs_only_time(model_dir, capfd):
    (model_dir.parent / "digests").write_text("no directory")
    assert digests_of(model_dir)[0] == expected(model_dir)
    assert "digest-not-kept" in capfd.readouterr().err


def test_a_file_that_is_not_there_is_named(model_dir):
    ledger = Ledger(model_dir.parent / "digests", model_dir)
    with pytest.raises(CheckpointError, match=r"model/none: No such file"):
        Hashing([model_dir / "none"], ledger)


def test_a_file_that_changes_while_it_is_read_is_refused(model_dir):
    file = model_dir / "1.safetensors"
    os.truncate(file, 64 << 20)

    async def life():
        hashing = hashing_of(model_dir)
        running = asyncio.create_task(hashing.run())
        await begun(hashing)
        os.utime(file)
        await running

    with pytest.raises(CheckpointError, match=r"1\.safetensors: changed while it was read"):
        asyncio.run(life())
    assert hashing_of(model_dir).total_bytes >= 64 << 20


def test_a_cancelled_run_stops_reading(model_dir):
    os.truncate(model_dir / "1.safetensors", 1 << 40)

    async def life():
        running = asyncio.create_task((hashing := hashing_of(model_dir)).run())
        await begun(hashing)
        running.cancel()
        await asyncio.wait({running})

    asyncio.run(life())
    ends = time.monotonic() + 20
    while any("ThreadPool" in thread.name for thread in threading.enumerate()):
        assert time.monotonic() < ends
        time.sleep(0.01)
