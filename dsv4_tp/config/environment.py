"""The process environment: the only place that reads it or builds one for a child process.

It knows directories, preloaded libraries and the variables MLX wants; it knows no cluster.
Variables of our own, all optional:

    DSV4TP_STATE_DIR   state files of running clusters, sockets, logs
    DSV4TP_PRELOAD     `off`: do not preload OpenBLAS and the yield shim (equal bits need that)
"""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from dsv4_tp.errors import ConfigError
from dsv4_tp.native import shim_path

_OPENBLAS = "*/openblas-pthread/libopenblas.so.0"  # Debian's package libopenblas0-pthread
_JOINING = (  # how MLX is told which rank this is; JACCL prefers the names without the prefix
    "MLX_RANK",
    "MLX_HOSTFILE",
    "MLX_IBV_DEVICES",
    "MLX_JACCL_COORDINATOR",
    "MLX_JACCL_RING",
    "JACCL_RANK",
    "JACCL_IBV_DEVICES",
    "JACCL_COORDINATOR",
    "JACCL_RING",
)
_COMMAND = "dsv4_tp"


def state_dir() -> Path:
    """Where state files of running clusters lie; created if missing, for this user only."""
    path = _state_path()
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        advice = "set DSV4TP_STATE_DIR to another place"
        raise ConfigError(f"{path}: {error.strerror}; {advice}") from error
    return path


def worker_environment(tmp_dir: Path) -> dict[str, str]:
    """The whole environment of one rank's process.

    `tmp_dir` becomes its TMPDIR: ranks that compile the same kernel must not share MLX's cache.
    """
    inherited = {key: value for key, value in os.environ.items() if key not in _JOINING}
    own = {"TMPDIR": str(tmp_dir), "PYTHONUNBUFFERED": "1"}
    return inherited | own | _preloads()


def ssh_addresses() -> tuple[str, str] | None:
    """Where this host was reached by ssh, and from where; None if ssh did not start us."""
    words = os.environ.get("SSH_CONNECTION", "").split()
    return (words[2], words[0]) if len(words) == 4 else None


def fast_synch() -> str:
    """What MLX_METAL_FAST_SYNCH is set to, which ranks would inherit; empty: it is not."""
    return os.environ.get("MLX_METAL_FAST_SYNCH", "")


def set_ring(*, rank: int, hostfile: Path) -> None:
    """Tell `mx.distributed.init`, which reads nothing else, who this process is in a ring."""
    _set_joining({"MLX_RANK": str(rank), "MLX_HOSTFILE": str(hostfile)})


def set_jaccl(*, rank: int, devices: Path, coordinator: str, ring: bool) -> None:
    """The same for JACCL: `devices` holds the matrix, rank 0 listens at `coordinator`."""
    words = {
        "MLX_RANK": str(rank),
        "MLX_IBV_DEVICES": str(devices),
        "MLX_JACCL_COORDINATOR": coordinator,
    }
    # It is set or not: its value counts for nothing.
    _set_joining(words | ({"MLX_JACCL_RING": "1"} if ring else {}))


def become(*arguments: str) -> NoReturn:
    """Go on in this process as `python -m dsv4_tp` with these arguments."""
    _execute(_COMMAND, arguments, dict(os.environ))


def restart_with_preloads(module: str = _COMMAND, *, blas_threads: int = 1) -> None:
    """Run this program again with the preloads of a worker; return if they are there already.

    Args:
        module: what `python -m` started, with this process's arguments.
        blas_threads: how many threads a product may take; ranks, which share the cores, take one.
    """
    wanted = _preloads(blas_threads)
    if any(os.environ.get(key) != value for key, value in wanted.items()):
        _execute(module, sys.argv[1:], dict(os.environ) | wanted)


def _set_joining(words: Mapping[str, str]) -> None:
    """These variables, and none of the others that say how ranks are joined."""
    for name in _JOINING:
        os.environ.pop(name, None)
    os.environ.update(words)


def _execute(module: str, arguments: Sequence[str], environment: Mapping[str, str]) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os.execve(sys.executable, [sys.executable, "-m", module, *arguments], environment)


def _state_path() -> Path:
    if own := os.environ.get("DSV4TP_STATE_DIR"):
        return Path(own).expanduser().absolute()
    if sys.platform == "darwin":
        return Path.home() / "Library/Application Support/dsv4-tp"
    home = os.environ.get("XDG_STATE_HOME", "")
    # The XDG rules: a path that is not absolute does not count.
    return (Path(home) if home.startswith("/") else Path.home() / ".local/state") / "dsv4-tp"


def _preloads(blas_threads: int = 1) -> dict[str, str]:
    """What makes MLX fast on Linux where it is installed; elsewhere nothing."""
    if sys.platform != "linux" or os.environ.get("DSV4TP_PRELOAD") == "off":
        return {}
    # MLX's wheel carries slow reference BLAS.
    blas = sorted(Path("/usr/lib").glob(_OPENBLAS))[:1]
    shim = [path for path in [shim_path()] if path is not None]
    libraries = [str(path) for path in (*blas, *shim)]
    inherited = os.environ.get("LD_PRELOAD", "").split()
    added = [library for library in libraries if library not in inherited]
    threads = {"OPENBLAS_NUM_THREADS": str(blas_threads)} if blas else {}
    return threads | ({"LD_PRELOAD": " ".join((*added, *inherited))} if libraries else {})
