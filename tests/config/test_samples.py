"""The cluster files that the repository ships say what their comments promise."""

import plistlib
import re
from pathlib import Path

import pytest

from dsv4_tp.config import BATCH, LONG_CHUNK, QUEUE, Restart, Timeouts, read_cluster
from dsv4_tp.core import AttentionSplit, CacheRows, ExpertSplit, Kernels

ROOT = Path(__file__).parents[2]
SAMPLES = (ROOT / "cluster.yaml", *sorted((ROOT / "launch").glob("*.yaml")))


@pytest.mark.parametrize("file", SAMPLES, ids=lambda file: file.name)
def test_a_sample_can_be_read(file: Path):
    assert len(read_cluster(file).ranks) >= 2


def test_the_first_one_runs_on_one_machine():
    config = read_cluster(ROOT / "cluster.yaml")
    assert all(host.is_local for host in config.hosts)
    assert config.model.path == "demo"


def test_every_key_it_shows_behind_a_comment_is_real_and_shows_a_default(tmp_path: Path):
    text = (ROOT / "cluster.yaml").read_text()
    shown, count = re.subn(r"^( *)# ( *(?:- )?\w+:)", r"\1\2", text, flags=re.MULTILINE)
    file = tmp_path / "cluster.yaml"
    file.write_text(shown)
    config = read_cluster(file)
    assert count > 20
    assert (config.model.dtype, config.experts) == (None, ExpertSplit.WIDTH)
    assert config.attention is AttentionSplit.SPLIT
    assert (config.timeouts, config.prefill_chunk) == (Timeouts(), LONG_CHUNK)
    assert config.weights == (1, 1, 1)
    assert (config.cache_rows, config.kernels) == (CacheRows.EXACT, Kernels.PLAIN)
    assert (config.batch, config.queue) == (BATCH, QUEUE)
    assert not config.prefix_cache.on_disk
    assert config.restart == Restart()


def test_the_plist_is_one_and_launches_a_sample():
    plist = plistlib.loads((ROOT / "launch/dsv4-tp.plist").read_bytes())
    program, command, option, file = plist["ProgramArguments"]
    assert (Path(program).name, command, option) == ("dsv4-tp", "launch", "-f")
    assert Path(file).name in {sample.name for sample in SAMPLES}
    assert plist["Label"] == "dsv4-tp"
