import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest

from dsv4_tp.errors import CheckpointError
from dsv4_tp.pieces import Bundle, Piece, Segment, bundle_bytes, open_bundle

ROWS, COLUMNS = 100, 64
IO = Path("/proc/self/io")


@pytest.fixture
def table(tmp_path: Path) -> tuple[Path, np.ndarray]:
    values = np.random.default_rng(1).integers(0, 256, (ROWS, COLUMNS), np.uint8)
    file = tmp_path / "table"
    file.write_bytes(values.tobytes())
    return file, values


def pieces(file: Path) -> dict[str, Piece]:
    """Whole rows, and a crop of others."""
    whole = Segment(file, 3 * COLUMNS, 10, COLUMNS, 0, COLUMNS)
    crop = Segment(file, 20 * COLUMNS, 30, COLUMNS, 8, 24)
    return {"whole": Piece("U8", (10, COLUMNS), (whole,)), "crop": Piece("U8", (30, 24), (crop,))}


@pytest.mark.parametrize("most_bytes", [1, 7, 100, 1 << 20])
def test_chunks_of_any_size_make_one_safetensors_file(
    table: tuple[Path, np.ndarray], most_bytes: int
) -> None:
    file, values = table
    with open_bundle(pieces(file)) as bundle:
        text = b"".join(bytes(chunk) for chunk in bundle.chunks(most_bytes))
    assert len(text) == bundle.nbytes == bundle_bytes(pieces(file))
    start = 8 + int.from_bytes(text[:8], "little")
    head = json.loads(text[8:start])
    for name, wanted in (("whole", values[3:13]), ("crop", values[20:50, 8:32])):
        begin, end = head[name]["data_offsets"]
        assert text[start + begin : start + end] == wanted.tobytes()


@pytest.mark.skipif(not IO.exists(), reason="the system does not count a process's reads")
def test_a_crop_that_is_asked_for_in_parts_is_read_once(table: tuple[Path, np.ndarray]) -> None:
    file, _ = table
    with open_bundle(pieces(file)) as bundle:
        before = _bytes_read()
        for _ in bundle.chunks(96):  # four rows of the crop
            pass
        read = _bytes_read() - before
    rows = 10 + 30
    assert read <= rows * COLUMNS + 2 * 30 * COLUMNS // 4 + 300  # rows at the chunks' borders twice


@pytest.mark.skipif(sys.platform != "linux", reason="no way to empty the page cache")
def test_what_lies_between_the_pieces_stays_on_the_disk(tmp_path: Path) -> None:
    every, size, page = 1 << 20, 64 << 10, 4096
    file = tmp_path / "large"
    file.write_bytes(bytes(16 * every))
    with file.open() as stream:
        os.fsync(stream.fileno())
        os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    segments = tuple(Segment(file, at * every, 1, size, 0, size) for at in range(16))
    with open_bundle({"a": Piece("U8", (16, size), segments)}) as bundle:
        before = _bytes_read("read_bytes")
        for _ in bundle.chunks(1 << 20):
            pass
    # Where files lie in memory, as some temporary directories do, the disk gives nothing at all.
    assert _bytes_read("read_bytes") - before <= 16 * (size + 2 * page)


def test_a_file_that_shrank_is_named(table: tuple[Path, np.ndarray]) -> None:
    file, _ = table
    wanted = pieces(file)
    file.write_bytes(bytes(COLUMNS))
    with open_bundle(wanted) as bundle, pytest.raises(CheckpointError, match=f"{file}: ends at"):
        list(bundle.chunks(1000))


def test_a_file_that_is_gone_is_named(table: tuple[Path, np.ndarray]) -> None:
    file, _ = table
    file.unlink()
    with pytest.raises(CheckpointError, match=f"{file}: No such file"), open_bundle(pieces(file)):
        pass


def test_nothing_is_a_file_too() -> None:
    assert b"".join(bytes(chunk) for chunk in Bundle({}, {}).chunks(64))[8:].strip() == b"{}"


def _bytes_read(counter: str = "rchar") -> int:
    """By the process's own requests, or `read_bytes`: from the disk."""
    return int(IO.read_text().split(f"{counter}: ")[1].split()[0])
