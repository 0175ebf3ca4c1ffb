"""The worker's way in: tie its life to its agent's, then be a rank."""

import ctypes
import faulthandler
import signal
import sys
from pathlib import Path

_PR_SET_PDEATHSIG = 1


def run(*, socket: Path, progress: Path) -> None:
    """Be one rank until its log says to drain.

    Args:
        socket: the Unix socket to serve on.
        progress: the file to become the progress page.

    Raises:
        InputError: the rank cannot run as asked; its agent was told.
        RankFailure: another rank was lost or the log is broken.
        DeadlineError: no agent came.
    """
    # In C, so it needs no lock of the interpreter and interrupts no collective.
    faulthandler.register(signal.SIGUSR2, all_threads=True)
    _die_with_parent()
    # MLX takes its time to load, and the parent may die meanwhile.
    from dsv4_tp.worker.life import live

    live(socket=socket, progress=progress)


def _die_with_parent() -> None:
    """On Linux the kernel kills this process when the thread that started it ends."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        assert libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL) == 0
