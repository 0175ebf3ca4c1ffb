"""Whether a process still is the one that was known: numbers are given again, clocks are set."""

import psutil

SLACK_S = 10.0  # a clock that is set moves the times of boots and processes; no reboot is as quick


def is_alive(pid: int, started_s: float) -> bool:
    """Whether the process of this number is the one that was started then, and lives."""
    found_s = created(pid)
    return found_s is not None and abs(found_s - started_s) <= SLACK_S


def created(pid: int) -> float | None:
    """When this process was created; None if it is gone, though nobody may have asked how."""
    try:
        process = psutil.Process(pid)
        # The first thread of a process that is killed may be gone long before the last one.
        dead = process.status() == psutil.STATUS_ZOMBIE and process.num_threads() <= 1
        return None if dead else process.create_time()
    except psutil.NoSuchProcess:
        return None
