"""The yield shim: a small C library that keeps ranks from starving each other on few cores.

Owns its source, its place and its compilation; who loads it, and when, is not its business.
Linux only, and optional: without it everything works, only slower when ranks outnumber cores.
"""

import shutil
import subprocess
import sys
from pathlib import Path

_SOURCE = Path(__file__).with_name("yield_shim.c")
_COMPILE_TIMEOUT_S = 60


def shim_path() -> Path | None:
    """The compiled shim of this Python environment, or None where it was not built."""
    target = _target()
    return target if target.is_file() else None


def build_shim() -> Path | None:
    """Compile the shim into this Python environment; None where it is of no use or no C compiler.

    Raises:
        subprocess.CalledProcessError: the compiler refused; its words are on stderr.
    """
    compiler = shutil.which("cc")
    if sys.platform != "linux" or compiler is None:
        return None
    target = _target()
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_suffix(".new")
    flags = ("-O2", "-Wall", "-Werror", "-shared", "-fPIC")
    command = [compiler, *flags, "-o", str(fresh), str(_SOURCE)]
    subprocess.run(command, check=True, timeout=_COMPILE_TIMEOUT_S)
    # Running workers may have the old file mapped, so it is replaced and never written to.
    return fresh.replace(target)


def _target() -> Path:
    return Path(sys.prefix) / "lib" / "dsv4_tp" / "yield_shim.so"
