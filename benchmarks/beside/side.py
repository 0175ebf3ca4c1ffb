"""A program that takes its turn, and how it is asked: JSON lines in, JSON lines out.

Every environment has to import this, so it needs nothing but NumPy.
"""

import json
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout, suppress
from pathlib import Path
from subprocess import PIPE, Popen
from threading import Timer
from time import perf_counter
from typing import Any, Self

import numpy as np
import numpy.typing as npt

DEADLINE_S = 300
_ROOT = Path(__file__).parents[2]


class Side(ABC):
    """A program with a model, in its own process. What has no underscore can be asked."""

    _cache: Any

    @abstractmethod
    def load(self, folder: str, threads: int) -> None:
        """Read the model in `folder`, to run it with so many threads where that can be said."""

    @abstractmethod
    def _fresh(self) -> Any:
        """An empty cache."""

    @abstractmethod
    def _feed(self, ids: Sequence[int], cache: Any) -> Any:
        """Append the tokens to the cache; their logits [L, V], both computed."""

    @abstractmethod
    def _as_numpy(self, logits: Any) -> npt.NDArray[np.float32]: ...

    def logits(self, ids: Sequence[int], prompt: int, out: str) -> None:
        """Write to `out` the logits [L, V]: the first `prompt` tokens fed as one, then singly.

        They fill the cache that `decode` goes on with.
        """
        self._cache = self._fresh()
        pieces = [ids[:prompt], *([token] for token in ids[prompt:])]
        made = [self._as_numpy(self._feed(piece, self._cache)) for piece in pieces]
        np.save(out, np.concatenate(made))

    def prefill(self, ids: Sequence[int]) -> float:
        """Seconds that a prompt takes."""
        begun_s = perf_counter()
        self._feed(ids, self._fresh())
        return perf_counter() - begun_s

    def decode(self, ids: Sequence[int]) -> float:
        """Seconds that each of these tokens takes, one after the other."""
        begun_s = perf_counter()
        for token in ids:
            self._feed([token], self._cache)
        return (perf_counter() - begun_s) / len(ids)


def serve(side: Side) -> None:
    """Answer what is asked on standard input until it ends."""
    answers = sys.stdout
    with redirect_stdout(sys.stderr):
        for line in sys.stdin:
            asked = json.loads(line)
            answer = getattr(side, asked.pop("do"))(**asked)
            print(json.dumps(answer), file=answers, flush=True)


class Remote:
    """A side as the process that asks has it."""

    def __init__(self, python: Path, module: str, env: Mapping[str, str] | None = None) -> None:
        command = [str(python), "-m", module]
        self._module = module
        self._process = Popen(command, stdin=PIPE, stdout=PIPE, text=True, env=env, cwd=_ROOT)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate(timeout=DEADLINE_S)

    def ask(self, do: str, **given: object) -> Any:
        """What the side's method `do` returns.

        Raises:
            SystemExit: it has failed, or has not answered in `DEADLINE_S`.
        """
        self.begin(do, **given)
        return self.end()

    def begin(self, do: str, **given: object) -> None:
        """Ask, and let it work until `end`."""
        assert self._process.stdin
        with suppress(BrokenPipeError):  # it has failed, as `end` will find
            print(json.dumps({"do": do, **given}), file=self._process.stdin, flush=True)

    def end(self) -> Any:
        """The answer to what was begun; as of `ask`."""
        assert self._process.stdout
        late = Timer(DEADLINE_S, self._process.kill)
        late.start()
        try:
            line = self._process.stdout.readline()
        finally:
            late.cancel()
        if not line:
            sys.exit(f"{self._module} gave no answer; see above")
        return json.loads(line)
