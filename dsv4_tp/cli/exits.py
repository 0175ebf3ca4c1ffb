"""The exit codes, in one table. Errors carry theirs; see `dsv4_tp.errors`."""

from enum import IntEnum


class Exit(IntEnum):
    """What the command's exit status means."""

    DONE = 0
    FAILED = 1
    REFUSED = 2  # input or preflight
    BUSY = 4  # too many requests wait
    RANK_FAILED = 5
    TIMED_OUT = 6
    QUARANTINED = 7  # a host needs a reboot
    INTERRUPTED = 130


def exit_table() -> str:
    """One line for the help page."""
    return ", ".join(f"{code.value} {code.name.lower().replace('_', ' ')}" for code in Exit)
