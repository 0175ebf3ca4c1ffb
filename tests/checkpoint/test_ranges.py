import subprocess
import sys
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from dsv4_tp.checkpoint import ranges
from dsv4_tp.checkpoint.ranges import read_pieces
from dsv4_tp.errors import CheckpointError
from dsv4_tp.pieces import Piece, Segment

ROWS, COLUMNS = 1000, 512
IO = Path("/proc/self/io")


@pytest.fixture
def table(tmp_path: Path) -> tuple[Path, np.ndarray]:
    """A file of ROWS x COLUMNS random bytes after 100 others."""
    values = np.random.default_rng(1).integers(0, 256, (ROWS, COLUMNS), np.uint8)
    file = tmp_path / "table"
    file.write_bytes(bytes(100) + values.tobytes())
    return file, values


def segment(file: Path, rows: tuple[int, int], columns: tuple[int, int] = (0, COLUMNS)) -> Segment:
    start, stop = rows
    offset = 100 + start * COLUMNS
    return Segment(file, offset, stop - start, COLUMNS, columns[0], columns[1] - columns[0])


@pytest.mark.parametrize("read_bytes", [ranges._READ_BYTES, 50])
def test_rows_and_columns_of_several_files(
    table: tuple[Path, np.ndarray],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    read_bytes: int,
) -> None:
    monkeypatch.setattr(ranges, "_READ_BYTES", read_bytes)
    file, values = table
    other = tmp_path / "other"
    other.write_bytes(file.read_bytes()[::-1])
    reverse = values.ravel()[::-1].reshape(values.shape)
    reverse_rows = Segment(other, 3 * COLUMNS, 4, COLUMNS, 0, COLUMNS)
    columns = (segment(file, (0, 10), (32, 64)), segment(file, (10, 30), (32, 64)))
    arrays = read_pieces(
        {
            "rows": Piece("U8", (5, COLUMNS), (segment(file, (7, 12)),)),
            "columns": Piece("U8", (30, 32), columns),
            "stack": Piece("U8", (2, 4, COLUMNS), (segment(file, (1, 5)), reverse_rows)),
            "words": Piece("U32", (2, COLUMNS // 4), (segment(file, (998, 1000)),)),
        }
    )
    assert np.array_equal(arrays["rows"], values[7:12])
    assert np.array_equal(arrays["columns"], values[:30, 32:64])
    assert np.array_equal(arrays["stack"], np.stack([values[1:5], reverse[3:7]]))
    assert np.array_equal(arrays["words"], values[998:].view("<u4"))
    assert arrays["words"].dtype == mx.uint32


@pytest.mark.skipif(not IO.exists(), reason="the system does not count a process's reads")
def test_only_the_wanted_rows_are_read(table: tuple[Path, np.ndarray]) -> None:
    file, _ = table
    rows = {"a": Piece("U8", (100, COLUMNS), (segment(file, (100, 200)),))}
    columns = {"a": Piece("U8", (100, 8), (segment(file, (100, 200), (0, 8)),))}
    read_pieces(rows)
    for pieces in (rows, columns):
        before = _bytes_read()
        read_pieces(pieces)
        assert 0 <= _bytes_read() - before - pieces["a"].span_bytes < 2000
    assert rows["a"].span_bytes == columns["a"].span_bytes == 100 * COLUMNS


def _bytes_read() -> int:
    return int(IO.read_text().split()[1])


def test_a_file_that_became_shorter(table: tuple[Path, np.ndarray]) -> None:
    file, _ = table
    with file.open("r+b") as stream:
        stream.truncate(100 + 10 * COLUMNS)
    piece = Piece("U8", (20, COLUMNS), (segment(file, (0, 20)),))
    with pytest.raises(CheckpointError, match=f"table: ends at byte {100 + 10 * COLUMNS}"):
        read_pieces({"a": piece})


def test_a_file_that_is_gone(tmp_path: Path) -> None:
    piece = Piece("U8", (1, COLUMNS), (segment(tmp_path / "gone", (0, 1)),))
    with pytest.raises(CheckpointError, match="gone: No such file"):
        read_pieces({"a": piece})


def test_a_process_may_end_right_after_reading(table: tuple[Path, np.ndarray]) -> None:
    """MLX's reading threads outlive the read by a moment; ending then used to abort."""
    file, _ = table
    code = f"""
from pathlib import Path
from dsv4_tp.checkpoint.ranges import read_pieces
from dsv4_tp.pieces import Piece, Segment
rows = [Segment(Path({str(file)!r}), 100 + i, 1, 64, 0, 64) for i in range(40)]
read_pieces({{str(i): Piece("U8", (64,), (row,)) for i, row in enumerate(rows)}})
"""
    for _ in range(3):
        assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
