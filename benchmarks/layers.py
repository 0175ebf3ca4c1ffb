"""What a decoder layer takes of a CPU for one token: building its graph, and running it.

    python -m benchmarks.layers                      # this tree
    python -m benchmarks.layers --against DIR        # beside another checkout, such as an older one

Of the demo model, one sequence, float32, on a warm cache. Its widths are small, so that the time is
that of operations, not of products, which are the same in any form. Seconds are of the CPU, of all
threads. On a GPU functions are fused, and what was built for one step is repeated; what it takes to
build then is measured with the same done for the CPU, by g++. Trees take turns, each time in a
process of its own; a ratio is of two that followed each other, and is told with its quartiles.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from statistics import median, quantiles
from time import process_time

import mlx.core as mx

from dsv4_tp import demo
from dsv4_tp.core import DType
from dsv4_tp.parallel import load_rank

try:
    from dsv4_tp.model.fused import fused_everywhere
except ModuleNotFoundError:  # a tree in which nothing is fused
    fused_everywhere = nullcontext

TURNS, PASSES = 7, 60
WARM_TOKENS = 132
KINDS = ("0", "4", "128", "all layers and the head")
WHATS = ("build", "run", "build for a GPU")
TIMEOUT_S = 120
_FROM = """
import runpy, sys
_, tree, file = sys.argv
sys.path.insert(0, tree)
sys.argv[1:] = ["--once"]
runpy.run_path(file, run_name="__main__")
"""
Times = dict[str, dict[str, float]]


def measured() -> Times:
    """Microseconds by kind of layer, of the tree that Python finds."""
    loaded = load_rank(demo.path(), None, dtype=DType.FLOAT32)
    model, cache = loaded.model, loaded.model.make_cache()
    token = mx.array([[7]], mx.int32)
    mx.eval(model(mx.arange(WARM_TOKENS, dtype=mx.int32)[None] % 94 + 3, cache), cache.arrays())
    streams = model.embedded(token)
    mx.eval(streams)

    def layer(number: int) -> list[mx.array]:
        out = model.layers[number](streams, token, cache[number])
        return [out, *cache[number].state]

    def whole() -> list[mx.array]:
        return [model(token, cache), *cache.arrays()]

    times: Times = {}
    for number, ratio in enumerate(loaded.spec.compress_ratios):
        if str(ratio) not in times:
            times[str(ratio)] = _both(partial(layer, number))
    times[KINDS[-1]] = _both(whole)
    return times


def _both(make: Callable[[], list[mx.array]]) -> dict[str, float]:
    """As here, and the building as on a GPU."""
    here = _timed(make)
    with fused_everywhere():
        mx.eval(make())
        return {**here, WHATS[-1]: _timed(make)["build"]}


def _timed(make: Callable[[], list[mx.array]]) -> dict[str, float]:
    """Of one pass, in microseconds: the building, and the running."""
    build_s = run_s = 0.0
    for _ in range(PASSES):
        begun_s = process_time()
        made = make()
        built_s = process_time()
        mx.eval(made)
        build_s, run_s = build_s + built_s - begun_s, run_s + process_time() - built_s
    return {"build": build_s / PASSES * 1e6, "run": run_s / PASSES * 1e6}


def turn(tree: Path) -> Times:
    """A process of this file, which imports from `tree`."""
    done = subprocess.run(
        [sys.executable, "-c", _FROM, str(tree), __file__],
        cwd=tree,
        check=True,
        stdout=subprocess.PIPE,
        timeout=TIMEOUT_S,
    )
    return json.loads(done.stdout)


def main() -> None:
    """A table."""
    parser = argparse.ArgumentParser(description="Measure what layers take of a CPU.")
    parser.add_argument("--against", type=Path, metavar="DIR")
    parser.add_argument("--once", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.once:
        print(json.dumps(measured()))
        return
    here = Path(__file__).parents[1]
    rounds = [
        (turn(here), turn(asked.against.resolve()) if asked.against else None) for _ in range(TURNS)
    ]
    for kind in KINDS:
        for what in WHATS:
            own = [first[kind][what] for first, _ in rounds]
            line = f"ratio {kind:24} {what:15} {median(own):8.0f} us"
            ratios = [first[kind][what] / other[kind][what] for first, other in rounds if other]
            if ratios:
                low, middle, high = quantiles(ratios, n=4)
                line += f"   {middle:.2f} ({low:.2f} to {high:.2f}) of the other tree's"
            print(line)


if __name__ == "__main__":
    main()
