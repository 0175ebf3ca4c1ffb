"""A cluster for as long as a block lasts: the command `dsv4-tp launch` as a child process."""

import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from dsv4_tp import errors
from dsv4_tp.client import Client
from dsv4_tp.config.environment import state_dir
from dsv4_tp.errors import DeadlineError, Dsv4Error
from dsv4_tp.rpc.registry import authority_file, record_file, running

_LOOK_S = 0.1
_DRAIN_S = 90.0  # for texts that are being made, and then for every process to end
_KINDS = (errors.InputError, errors.RankFailure, errors.DeadlineError)


@contextmanager
def launch(
    model: str | None = None,
    *,
    hosts: Sequence[str] = (),
    file: str | Path | None = None,
    options: Sequence[str] = (),
    within_s: float = 600.0,
) -> Generator[Client]:
    """A cluster that serves, and is stopped at the end of the block.

    Args:
        model: a checkpoint's directory on every host, or `demo`; None: as the file says.
        hosts: one rank on each; localhost may repeat. Empty: as the file says.
        file: a cluster.yaml; None: ./cluster.yaml, unless hosts are given.
        options: more of what `dsv4-tp launch --help` lists, such as ("--batch", "4").
        within_s: the cluster must be ready by then.

    Yields:
        A client of it. An AsyncClient finds it by the client's `address`.

    Raises:
        InputError: the model or a host is not fit, or an option is wrong.
        RankFailure: a rank was lost on the way.
        DeadlineError: it was not ready in time.
    """
    given = {"--model": model, "--hosts": ",".join(hosts), "--file": file}
    words = [str(word) for pair in given.items() if pair[1] for word in pair]
    name = f"library-{secrets.token_hex(4)}"
    with tempfile.TemporaryFile("w+") as told:
        command = [sys.executable, "-m", "dsv4_tp", "launch", "--name", name, *words, *options]
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=told, stderr=told)
        try:
            with Client(_address(child, told, name, within_s)) as client:
                yield client
        finally:
            _stop(child)
            for left in (authority_file, record_file):  # of a name never used again
                left(state_dir(), name).unlink(missing_ok=True)


def _address(child: subprocess.Popen[bytes], told: IO[str], name: str, within_s: float) -> str:
    """HOST:PORT of the cluster, once it is ready."""
    ends_s = time.monotonic() + within_s
    while time.monotonic() < ends_s:
        if child.poll() is not None:
            raise _error(child.returncode, told)
        for entry in running(state_dir()):
            if entry.name == name and _is_ready(entry.address):
                return entry.address
        time.sleep(_LOOK_S)
    raise DeadlineError(f"the cluster was not ready within {within_s:g} s")


def _is_ready(address: str) -> bool:
    with suppress(Dsv4Error), Client(address) as client:
        return client.status().phase == "ready"
    return False


def _error(code: int, told: IO[str]) -> Dsv4Error:
    """What the launch failed of, in its own last words."""
    told.seek(0)
    last = (told.read().strip().splitlines() or ["the launch said nothing"])[-1]
    kind = next((kind for kind in _KINDS if kind.exit_code == code), Dsv4Error)
    return kind(last.removeprefix("dsv4-tp: error: "))


def _stop(child: subprocess.Popen[bytes]) -> None:
    child.terminate()
    try:
        child.wait(_DRAIN_S)
    except subprocess.TimeoutExpired:
        child.kill()  # its agents end by their lease
        child.wait()
