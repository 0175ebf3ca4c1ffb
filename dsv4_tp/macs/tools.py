"""Asks the Mac that this runs on."""

import platform
import shutil
import subprocess
from collections.abc import Iterable
from contextlib import suppress

from dsv4_tp.macs.mac import COMMANDS, TOOLS

_TOOL_S = 30.0  # system_profiler takes several
_MAC = "Darwin"


def run_tool(name: str) -> str | None:
    """What the command of this name in COMMANDS prints; None if this is no Mac, or has none."""
    command, *options = COMMANDS[name]
    program = shutil.which(command, path=TOOLS)
    if program is None or platform.system() != _MAC:
        return None
    with suppress(subprocess.TimeoutExpired):
        done = subprocess.run(
            [program, *options], capture_output=True, timeout=_TOOL_S, check=False
        )
        return done.stdout.decode(errors="replace")
    return f"it said nothing for {_TOOL_S:g} s"


def run_tools(names: Iterable[str]) -> dict[str, str]:
    """What each of these commands prints, by name; those that are not here are left out."""
    said = {name: run_tool(name) for name in names}
    return {name: text for name, text in said.items() if text is not None}
