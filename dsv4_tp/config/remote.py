"""How a program is started on a host: by ssh that never asks anything, or as it is."""

import shlex
from collections.abc import Sequence

from dsv4_tp.config.cluster import Host

SSH_FAILED = 255  # ssh's own failures, not those of the remote command
_SSH = (
    "ssh",
    "-4",  # the ring knows IPv4 only, and takes the address we came by
    "-T",
    *("-o", "BatchMode=yes"),
    *("-o", "ConnectTimeout=8"),
    *("-o", "ServerAliveInterval=2"),
    *("-o", "ServerAliveCountMax=3"),
)


def command_on(host: Host, command: Sequence[str]) -> list[str]:
    """The command line that runs `command` on `host`; here, its directory is the caller's care."""
    if host.is_local:
        return [*command]
    remote = shlex.join(command)
    if host.workdir:
        remote = f"cd {shlex.quote(host.workdir)} && {remote}"
    return [*_SSH, "--", host.ssh, remote]
