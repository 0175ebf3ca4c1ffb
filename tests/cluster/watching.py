"""What somebody outside sees of a cluster, and has of it: looks, and texts. See `onlooker`."""

import json
import subprocess
import sys
from dataclasses import dataclass, field
from threading import Thread

GONE = "gone"


@dataclass(frozen=True)
class Look:
    """What was seen in a moment that began at `at_s`, by the clock that all processes share."""

    at_s: float
    ready: bool = False  # as HTTP says it
    serving: bool = False  # as grpc.health.v1 does
    phase: str = GONE  # or the cluster's
    epoch: int = 0
    failure: str = ""
    running: int = 0  # requests
    done: int = 0  # by the ranks' counters: more is progress


@dataclass
class Wish:
    """A text that somebody waits for, or a command."""

    tokens: list[int] = field(default_factory=list)
    text: str = ""
    pieces: int = 0
    ended_s: float | None = None
    error: str | None = None  # "TYPE: message"; empty: all is well

    @property
    def whole(self):
        return self.error == ""


class Watch:
    """All looks at the clusters under some folders, one after the other, while the block lasts."""

    def __init__(self, *, inside=()):
        command = [*inside, sys.executable, "-m", "tests.cluster.onlooker"]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.folder = None
        self.looks = []
        self.wishes = {}
        self.thread = Thread(target=self._read)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.kill()
        self.process.wait()
        self.thread.join()
        self.process.stdout.close()

    def at(self, state_dir):
        """Look at the cluster of this state directory from now on."""
        if self.folder != str(state_dir):
            self.folder, self.looks = str(state_dir), []
        self._order(at=self.folder)

    def ask(self, by="grpc", **words):
        """A text by `grpc` or `http`, for words as `Ask` has them."""
        return self._wish("ask", by=by, words=words)

    def down(self):
        return self._wish("down")

    def restart(self):
        return self._wish("restart")

    def forget(self):
        """The looks so far; a long run has many."""
        self.looks = self.looks[-1:]

    def since(self, at_s):
        return [look for look in [*self.looks] if look.at_s >= at_s]

    def first(self, holds, *, since_s=0.0):
        """The first look that `holds`, if there is one."""
        return next(filter(holds, self.since(since_s)), None)

    @property
    def last(self):
        return self.looks[-1] if self.looks else Look(0.0)

    def _wish(self, kind, **words):
        number = len(self.wishes)
        self.wishes[number] = wish = Wish()
        self._order(**{kind: number}, **words)
        return wish

    def _order(self, **words):
        self.process.stdin.write(f"{json.dumps(words)}\n")
        self.process.stdin.flush()

    def _read(self):
        for line in self.process.stdout:
            words = json.loads(line)
            if "look" in words:
                if words["of"] == self.folder:  # not of the one before, at which it still looked
                    self.looks.append(Look(**words["look"]))
            elif "piece" in words:
                wish = self.wishes[words["piece"]]
                wish.tokens += words["tokens"]
                wish.text += words["text"]
                wish.pieces += 1
            else:
                wish = self.wishes[words["end"]]
                wish.error, wish.ended_s = words["error"], words["at_s"]
