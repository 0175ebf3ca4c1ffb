"""The loading bench measures what it says; on a checkpoint that is too small for ratios."""

import json
import subprocess
import sys
from pathlib import Path

import mlx.core as mx
import pytest
from mlx.utils import tree_flatten

from benchmarks import load, page_cache, synthetic
from benchmarks.load import Case, Cost, Way
from dsv4_tp import demo
from dsv4_tp.core import ExpertSplit
from dsv4_tp.modelspec import read_spec
from dsv4_tp.parallel import load_rank
from dsv4_tp.plan import make_plan
from dsv4_tp.prepared import plan_reads, read_catalog

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="counts as Linux keeps them")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = json.loads((demo.path() / "config.json").read_text())
    out = tmp_path_factory.mktemp("synthetic") / "part"
    synthetic.write(out, synthetic.smaller(config, (4, 128), 8, 64), seed=1)
    try:
        page_cache.evict(next(out.glob("*.safetensors")))
    except SystemExit:
        pytest.skip("temporary files lie in memory here")
    return out


def test_eviction_leaves_nothing_in_the_page_cache(checkpoint: Path):
    file = next(checkpoint.glob("*.safetensors"))
    file.read_bytes()
    with file.open("rb") as stream:
        assert page_cache.cached_bytes(stream.fileno()) >= file.stat().st_size
        page_cache.evict(file)
        assert page_cache.cached_bytes(stream.fileno()) == 0


@pytest.mark.slow
def test_every_way_reads_what_it_needs_and_holds_the_same(checkpoint: Path):
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.load", "--model", checkpoint, "--ranks", "2", "--json"],
        check=True,
        stdout=subprocess.PIPE,
        timeout=250,
    )
    costs: dict[Case, Cost] = {}
    for row in json.loads(done.stdout):
        case = Case(
            Way(row.pop("way")), ExpertSplit(row.pop("experts")), row.pop("ranks"), row.pop("rank")
        )
        costs[case] = Cost(**row)
    assert len(costs) == 1 + 4 * 2
    size = sum(file.stat().st_size for file in checkpoint.glob("*.safetensors"))
    for case, cost in costs.items():
        assert cost.disk >= cost.ideal > size / 4, case
        assert cost.asked >= cost.ideal, case
        assert min(cost.peak_rss, cost.peak_mlx) >= cost.held, case
        assert cost.held == costs[Case(Way.STRAIGHT, case.experts, 2, case.rank)].held
    stock, *others = costs.values()
    assert stock.asked > size * 0.99
    assert all(other.asked < size * 0.9 for other in others)
    assert len(load.table(costs).splitlines()) == 1 + 5


def test_the_order_of_mlx_lm_ends_with_the_same_weights(checkpoint: Path):
    spec = read_spec(checkpoint)
    found = read_catalog(checkpoint, spec, mtp=False)
    part = make_plan(spec, found, (1, 1), expert_split=ExpertSplit.WIDTH).parts[1]
    stock = load._stock(checkpoint, spec, found, part)
    model = load_rank(checkpoint, part, dtype=load.DTYPE).model
    ours = dict(tree_flatten(model.parameters()))
    names = [
        name
        for group in plan_reads(checkpoint, spec, found, part).values()
        for one in group
        for name in one.pieces
    ]
    assert len(stock) == len(names) == len(ours)
    for name, array in zip(names, stock, strict=True):
        assert mx.array_equal(array, ours[name]), name
