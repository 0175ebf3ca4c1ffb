"""Rings of processes on this machine, for benchmarks that run as ranks."""

import socket
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from dsv4_tp.config.environment import worker_environment

_DEADLINE_S = 600


def said_by_leader(module: str, count: int, *given: str) -> str:
    """What rank 0 prints of `python -m MODULE *GIVEN RANK *ADDRESSES` on so many processes.

    One process is given no address.
    """
    addresses = _free_addresses(count) if count > 1 else []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        running: list[subprocess.Popen[bytes]] = []
        for rank in range(count):
            (tmp := folder / str(rank)).mkdir()
            command = [sys.executable, "-m", module, *given, str(rank), *addresses]
            process = subprocess.Popen(command, env=worker_environment(tmp), stdout=subprocess.PIPE)
            stack.callback(process.kill)
            running.append(process)
        said = [each.communicate(timeout=_DEADLINE_S)[0] for each in running]
    if any(each.returncode for each in running):
        sys.exit(f"{module} {' '.join(given)}: a rank of {count} has failed; see above")
    return said[0].decode()


def _free_addresses(count: int) -> list[str]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
