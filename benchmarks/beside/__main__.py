"""This project beside transformers and mlx-lm, on one machine and the same weights, in turns.

    make bench-beside                       # a table; it installs the others in build/beside first
    python -m benchmarks.beside --json      # the same as one JSON object

Random float32 weights of a tiny model with all that V4 has, and of one layer of Flash's widths of
each kind, with 8 experts of which a token is sent to 6. First ours and transformers must give the
same logits, of a prompt and of tokens fed one by one. Then each program takes its turn in a process
of its own: a prompt, and tokens on a warm cache. Seconds are by the clock; a ratio is of two that
took the same turn, and is told with its quartiles.

Ours is one rank as it is launched: MLX computes with one thread, and multiplies with OpenBLAS where
that is installed. PyTorch runs with one thread, and with one for each core. mlx-lm has no V4; its
V4.1 is a yardstick for how many operations a layer takes (`in_mlx_lm.py` says what differs).
"""

import argparse
import json
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.beside.figures import Agreement, Found, Operations, Ratio, as_table, ratio
from benchmarks.beside.models import TINY, Case, cases, write
from benchmarks.beside.side import Remote
from dsv4_tp.config.environment import worker_environment

THEIR_PYTHON = Path(__file__).parents[2] / "build" / "beside" / "bin" / "python"
CORES = os.cpu_count() or 1
OURS, MLX_LM = "ours", "mlx-lm, V4.1"
IN_TORCH = {"transformers, 1 thread": 1, f"transformers, {CORES} threads": CORES}
SINGLY = 8  # tokens that are fed one by one to see that logits agree
STEPS = 4  # tokens of one turn: as many as a window of ratio 4 has

Sides = Mapping[str, Remote]
Turn = Mapping[tuple[str, str], float]  # seconds by what was done, and by whom


def measure(their_python: Path, wanted: Iterable[Case]) -> Found:
    """All cases, one after the other."""
    agreements, ratios, operations = list[Agreement](), list[Ratio](), list[Operations]()
    for case in wanted:
        print(case.name, file=sys.stderr)
        with ExitStack() as stack:
            folder = Path(stack.enter_context(TemporaryDirectory()))
            write(folder / "model", case.config)
            sides = _started(stack, folder, their_python)
            agreements.append(_agreement(case, sides, folder))
            turns = [_turn(case, sides, number) for number in range(case.turns)]
            ratios += _ratios(case, turns)
            if case.name == TINY:
                operations = _operations(sides)
    return Found(CORES, agreements, ratios, operations)


def _started(stack: ExitStack, folder: Path, their_python: Path) -> Sides:
    """All sides, with the model loaded."""
    sides: dict[str, Remote] = {}
    own, env = Path(sys.executable), worker_environment(folder)
    for name, module in ((OURS, "ours"), (MLX_LM, "in_mlx_lm")):
        sides[name] = stack.enter_context(Remote(own, f"benchmarks.beside.{module}", env))
    for name in IN_TORCH:
        sides[name] = stack.enter_context(Remote(their_python, "benchmarks.beside.in_torch"))
    for name, side in sides.items():
        side.begin("load", folder=str(folder / "model"), threads=IN_TORCH.get(name, 1))
    for side in sides.values():
        side.end()
    return sides


def _ids(case: Case, count: int) -> list[int]:
    """Tokens, the same each time."""
    return [3 + 37 * n % (case.config["vocab_size"] - 3) for n in range(count)]


def _agreement(case: Case, sides: Sides, folder: Path) -> Agreement:
    """Ours beside the first of transformers'; all sides have warm caches afterwards."""
    for name, side in sides.items():
        out = str(folder / f"{name}.npy")
        side.begin("logits", ids=_ids(case, case.warm + SINGLY), prompt=case.warm, out=out)
    for side in sides.values():
        side.end()
    ours, theirs = (np.load(folder / f"{name}.npy") for name in (OURS, next(iter(IN_TORCH))))
    apart = np.abs(ours - theirs).max(axis=-1)
    found = apart[: case.warm].max(), apart[case.warm :].max(), ours.std()
    return Agreement(case.name, *map(float, found))


def _turn(case: Case, sides: Sides, number: int) -> Turn:
    """Every other one goes backwards."""
    order = list(sides)[:: -1 if number % 2 else 1]
    given = {"prefill": _ids(case, case.prompt), "decode": _ids(case, STEPS)}
    return {
        (what, name): sides[name].ask(what, ids=ids)
        for what, ids in given.items()
        for name in order
    }


def _ratios(case: Case, turns: Sequence[Turn]) -> list[Ratio]:
    return [
        ratio(case.name, what, name, [(turn[what, OURS], turn[what, name]) for turn in turns])
        for what in ("prefill", "decode")
        for name in (*IN_TORCH, MLX_LM)
    ]


def _operations(sides: Sides) -> list[Operations]:
    return [
        Operations(name, how, counts)
        for name in (OURS, MLX_LM)
        for how, counts in sides[name].ask("operations").items()
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Measure this project beside others.")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--python", type=Path, default=THEIR_PYTHON, help="that has the others")
    given = parser.parse_args()
    if not given.python.exists():
        sys.exit(f"{given.python} is missing: make bench-beside makes it")
    found = measure(given.python.absolute(), cases())
    print(json.dumps(asdict(found)) if given.json else as_table(found))


if __name__ == "__main__":
    main()
