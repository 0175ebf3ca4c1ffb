"""Found by an interpreter that has this folder in PYTHONPATH: lets a test harm a rank from inside.

The real worker runs as it is, only slower, so that a test can hit each of its phases. SIGUSR1 makes
its main thread do what the file `order` in the folder HARM says, wherever it is.
"""

import ctypes
import os
import signal
import sys
import time
from pathlib import Path

# After each sign of progress, and before a phase.
PAUSES_S = {"loaded": 0.05, "prefilled": 0.05, "decoded": 0.03, "prepared": 0.5, "joining": 0.5}


def obey(*_):
    order, *value = (Path(os.environ["HARM"]) / "order").read_text().split()
    if order == "exit":
        os._exit(int(value[0]))
    if order == "segv":
        ctypes.string_at(0)
    if order == "hold":
        while True:  # the GIL: PyDLL keeps it, and a signal's handler in C ends the sleep
            ctypes.PyDLL(None).sleep(600)
    raise RuntimeError("as a test has planted it")


def slower(page, name):
    plain = getattr(page, name)

    def reported(*arguments):
        plain(*arguments)
        time.sleep(PAUSES_S.get(arguments[1] if name == "phase" else name, 0))

    setattr(page, name, reported)


if "worker" in sys.orig_argv:
    from dsv4_tp.rpc.progress import ProgressPage

    for each in ("phase", "loaded", "prefilled", "decoded"):
        slower(ProgressPage, each)
    signal.signal(signal.SIGUSR1, obey)
