"""What a context costs: bytes of memory for each token, and what its tokens need beside them.

    python -m benchmarks.cache             a table
    python -m benchmarks.cache --json      the same as one JSON object
    python -m benchmarks.cache --only decode prefill

Attention layers of each kind, with the real widths of Flash or Pro and random weights, in
bfloat16. Their memory is filled with random rows, as a prompt of that length would leave it; then
tokens are fed. Bytes are those of the arrays held; times are given as ratios to the shortest
context of the same run. `endurance` and `prefill` leave the matrices from and to the hidden state
narrow, as `layers.narrow_spec` says.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict

from benchmarks.cache.decode import Decode, Endurance, decodes, endurance
from benchmarks.cache.layers import RATIOS
from benchmarks.cache.prefill import Prefill, prefill
from benchmarks.cache.sizes import Size, size_of

CONTEXTS = (1 << 10, 8 << 10, 64 << 10, 256 << 10)
CHUNKS = (512, 4096)
STEPS = 10_000

Figure = Size | Decode | Endurance | Prefill


def _sizes() -> Iterator[Figure]:
    return (size_of(model) for model in ("flash", "pro"))


def _decode() -> Iterator[Figure]:
    return (step for ratio in RATIOS for step in decodes("flash", ratio, CONTEXTS))


def _endurance() -> Iterator[Figure]:
    return (endurance(ratio, STEPS) for ratio in RATIOS)


def _prefill() -> Iterator[Figure]:
    return (prefill(ratio, chunk) for chunk in CHUNKS for ratio in RATIOS)


PARTS: dict[str, Callable[[], Iterator[Figure]]] = {
    "sizes": _sizes,
    "decode": _decode,
    "endurance": _endurance,
    "prefill": _prefill,
}


def main() -> None:
    """Print what was measured."""
    parser = argparse.ArgumentParser(description="Measure what a context costs.")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), metavar="PART")
    given = parser.parse_args()
    found: dict[str, list[object]] = {}
    for name in given.only:
        found[name] = []
        for figure in PARTS[name]():
            found[name].append(asdict(figure))
            if not given.json:
                print(figure, flush=True)
    if given.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
