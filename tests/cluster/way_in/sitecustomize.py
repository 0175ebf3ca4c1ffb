"""Found by an interpreter that has this folder in PYTHONPATH: lets a test harm a rank from inside.

The real worker runs as it is, only slower, so that a test can hit each of its phases. SIGUSR1 makes
its main thread do what the file `order` in the folder HARM says, wherever it is. A file `pauses`
there holds other pauses than these, as JSON.
"""

import ctypes
import json
import os
import random
import signal
import sys
import time
from pathlib import Path

# The least and the most seconds after each sign of progress, and before a phase.
PAUSES_S = {
    "loaded": (0.05, 0.05),
    "prefilled": (0.1, 0.1),
    "decoded": (0.03, 0.03),
    "prepared": (0.5, 0.5),
    "joining": (0.5, 0.5),
}


def obey(*_):
    order, *value = (folder() / "order").read_text().split()
    if order == "exit":
        os._exit(int(value[0]))
    if order == "segv":
        ctypes.string_at(0)
    if order == "hold":
        while True:  # the GIL: PyDLL keeps it, and a signal's handler in C ends the sleep
            ctypes.PyDLL(None).sleep(600)
    raise RuntimeError("as a test has planted it")


def slower(page, name, pauses_s):
    plain = getattr(page, name)

    def reported(*arguments):
        plain(*arguments)
        place = arguments[1] if name == "phase" else name
        if place in pauses_s:
            time.sleep(random.uniform(*pauses_s[place]))

    setattr(page, name, reported)


def folder():
    return Path(os.environ["HARM"])


if "worker" in sys.orig_argv:
    from dsv4_tp.rpc.progress import ProgressPage

    file = folder() / "pauses"
    chosen = json.loads(file.read_text()) if file.exists() else PAUSES_S
    for each in ("phase", "loaded", "prefilled", "decoded"):
        slower(ProgressPage, each, chosen)
    signal.signal(signal.SIGUSR1, obey)
