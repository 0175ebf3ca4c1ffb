"""The progress page: what the rank wrote is what another process reads."""

import subprocess
import sys

from dsv4_tp.core import RankReport
from dsv4_tp.rpc.progress import PHASES, ProgressPage, read_report

_READ = """
import sys
from pathlib import Path
from dsv4_tp.rpc.progress import read_report
assert "mlx" not in sys.modules
print(read_report(Path(sys.argv[1]), rank=3))
"""


def test_another_process_reads_every_counter(tmp_path):
    path = tmp_path / "progress"
    page = ProgressPage(path, pid=77)
    page.phase("decode")
    page.loaded(10, 20)
    page.prefilled(5)
    page.prefilled(6)
    page.decoded()
    page.memory(1 << 40, 1 << 41)
    page.beat()
    page.turned()
    page.called()
    read = subprocess.run(
        [sys.executable, "-c", _READ, path], capture_output=True, text=True, timeout=30, check=True
    )
    expected = RankReport(
        rank=3,
        phase="decode",
        bytes_loaded=10,
        bytes_total=20,
        prefill_tokens=11,
        decode_steps=1,
        active_bytes=1 << 40,
        peak_bytes=1 << 41,
        pid=77,
        beats=1,
        waits=1,
        calls=1,
    )
    assert read.stdout.strip() == repr(expected)


def test_every_phase_can_be_entered(tmp_path):
    page = ProgressPage(tmp_path / "progress", pid=1)
    for phase in PHASES:
        page.phase(phase)
        assert read_report(tmp_path / "progress", rank=0).phase == phase


def test_a_rank_without_a_page_is_starting(tmp_path):
    assert read_report(tmp_path / "none", rank=2) == RankReport(rank=2, phase="starting")
