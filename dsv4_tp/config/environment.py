"""The process environment: the only place that reads it or builds one for a child process.

It knows directories, preloaded libraries and the variables MLX wants; it knows no cluster.
Variables of our own, all optional:

    DSV4TP_STATE_DIR   state files of running clusters, sockets, logs
    DSV4TP_CACHE_DIR   what can be made again, such as the demo model
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
_RING = ("MLX_RANK", "MLX_HOSTFILE")


def state_dir() -> Path:
    """Where state files of running clusters lie; created if missing, for this user only."""
    return _directory("DSV4TP_STATE_DIR", "XDG_STATE_HOME", ".local/state", "Application Support")


def cache_dir() -> Path:
    """Where things lie that can be made again; created if missing, for this user only."""
    return _directory("DSV4TP_CACHE_DIR", "XDG_CACHE_HOME", ".cache", "Caches")


def worker_environment(tmp_dir: Path) -> dict[str, str]:
    """The whole environment of one rank's process.

    `tmp_dir` becomes its TMPDIR: ranks that compile the same kernel must not share MLX's cache.
    """
    inherited = {key: value for key, value in os.environ.items() if key not in _RING}
    own = {"TMPDIR": str(tmp_dir), "PYTHONUNBUFFERED": "1"}
    return inherited | own | _preloads()


def ssh_addresses() -> tuple[str, str] | None:
    """Where this host was reached by ssh, and from where; None if ssh did not start us."""
    words = os.environ.get("SSH_CONNECTION", "").split()
    return (words[2], words[0]) if len(words) == 4 else None


def set_ring(*, rank: int, hostfile: Path) -> None:
    """Tell `mx.distributed.init`, which reads nothing else, who this process is."""
    os.environ["MLX_RANK"] = str(rank)
    os.environ["MLX_HOSTFILE"] = str(hostfile)


def become(*arguments: str) -> NoReturn:
    """Go on in this process as `python -m dsv4_tp` with these arguments."""
    _execute(arguments, dict(os.environ))


def restart_with_preloads() -> None:
    """Run this command again with the preloads of a worker; return if they are there already."""
    wanted = _preloads()
    if any(os.environ.get(key) != value for key, value in wanted.items()):
        _execute(sys.argv[1:], dict(os.environ) | wanted)


def _execute(arguments: Sequence[str], environment: Mapping[str, str]) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    command = [sys.executable, "-m", "dsv4_tp", *arguments]
    os.execve(sys.executable, command, environment)


def _directory(variable: str, xdg: str, unix: str, macos: str) -> Path:
    if own := os.environ.get(variable):
        path = Path(own).expanduser().absolute()
    elif sys.platform == "darwin":
        path = Path.home() / "Library" / macos / "dsv4-tp"
    else:
        home = os.environ.get(xdg, "")
        # The XDG rules: a path that is not absolute does not count.
        path = (Path(home) if home.startswith("/") else Path.home() / unix) / "dsv4-tp"
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}; set {variable} to another place") from error
    return path


def _preloads() -> dict[str, str]:
    """What makes MLX fast on Linux where it is installed; elsewhere nothing."""
    if sys.platform != "linux" or os.environ.get("DSV4TP_PRELOAD") == "off":
        return {}
    # MLX's wheel carries slow reference BLAS; one thread, since ranks share the cores.
    blas = sorted(Path("/usr/lib").glob(_OPENBLAS))[:1]
    shim = [path for path in [shim_path()] if path is not None]
    libraries = [str(path) for path in (*blas, *shim)]
    inherited = os.environ.get("LD_PRELOAD", "").split()
    added = [library for library in libraries if library not in inherited]
    threads = {"OPENBLAS_NUM_THREADS": "1"} if blas else {}
    return threads | ({"LD_PRELOAD": " ".join((*added, *inherited))} if libraries else {})
