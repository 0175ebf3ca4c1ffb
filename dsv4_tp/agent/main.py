"""The agent's process: start, announce, serve, stop.

Who it is comes as the first line of stdin, for its key is a secret. When the agent serves, it
writes one line of JSON to stdout, {"port", "pid", "address", "launcher"}, and logs to a file in
its directory.
`address` is where this host was reached by ssh, `launcher` from where; null without ssh.
"""

import asyncio
import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from dsv4_tp.agent.guard import Guard
from dsv4_tp.agent.records import Records
from dsv4_tp.agent.service import AgentService
from dsv4_tp.agent.supervisor import Supervisor
from dsv4_tp.config.environment import ssh_addresses
from dsv4_tp.errors import DeadlineError
from dsv4_tp.rpc.auth import Identity, read_identity
from dsv4_tp.rpc.health import Health
from dsv4_tp.rpc.server import LOOPBACK, agent_server
from dsv4_tp.v1.agent_pb2_grpc import add_AgentServiceServicer_to_server

WORKER_ARGV = (sys.executable, "-m", "dsv4_tp", "worker")
_ANNOUNCE_S = 600.0  # who starts us gives up earlier, as it is configured there
_GRACE_S = 1.0  # for answers on their way when the agent ends


def run(
    *,
    bind_host: str | None,
    port: int,
    state_dir: Path | None,
    detach: bool,
    worker_argv: Sequence[str] = WORKER_ARGV,
) -> None:
    """Be the agent of this host until it is dismissed.

    Args:
        bind_host: the address to listen on; None: where ssh reached us, else loopback.
        port: 0 takes a free one.
        state_dir: a directory of its own; None makes one. It is removed at the end.
        detach: start the agent in a session of its own, and return when it serves.
        worker_argv: the command of a rank's process.

    Raises:
        PreflightError: it cannot listen there, or was not told who it is.
        DeadlineError: the detached agent did not serve in time.
    """
    line = sys.stdin.readline()
    identity = read_identity(line)
    if detach:
        _detach(line, _options(bind_host, port, state_dir))
        return
    asyncio.run(_serve(identity, bind_host, port, state_dir, worker_argv))


def _options(bind_host: str | None, port: int, state_dir: Path | None) -> list[str]:
    given = {"--bind": bind_host, "--port": port, "--state-dir": state_dir}
    return [f"{option}={value}" for option, value in given.items() if value is not None]


def _detach(line: str, options: Sequence[str]) -> None:
    """Start the same agent without --detach; pass on its announcement, or its failure."""
    agent = subprocess.Popen(
        [sys.executable, "-m", "dsv4_tp", "agent", *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )
    assert agent.stdin is not None
    assert agent.stdout is not None
    with agent.stdin as pipe:
        pipe.write(line)
    if not select.select([agent.stdout], [], [], _ANNOUNCE_S)[0]:
        agent.kill()
        raise DeadlineError(f"the agent did not serve within {_ANNOUNCE_S:g} s")
    announcement = agent.stdout.readline()
    if not announcement:
        sys.exit(agent.wait())
    sys.stdout.write(announcement)


async def _serve(
    identity: Identity,
    bind_host: str | None,
    port: int,
    state_dir: Path | None,
    worker_argv: Sequence[str],
) -> None:
    """Serve until the supervisor has left."""
    address, launcher = ssh_addresses() or (None, None)
    server, port = agent_server(identity, bind_host or address or LOOPBACK, port)
    folder = state_dir or Path(tempfile.mkdtemp(prefix="dsv4-tp-"))
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    guard = Guard(folder)
    health = Health(server, "dsv4_tp.v1.AgentService")
    records = Records(folder)
    supervisor = Supervisor(
        worker_argv=worker_argv, folder=folder, guard=guard, health=health, records=records
    )
    add_AgentServiceServicer_to_server(AgentService(supervisor, records), server)
    _end_on_signals(supervisor)
    health.set(serving=True)
    await server.start()
    words = {"port": port, "pid": os.getpid(), "address": address, "launcher": launcher}
    _announce(json.dumps(words), records)
    await supervisor.run()
    await asyncio.to_thread(guard.close)
    await server.stop(_GRACE_S)


def _end_on_signals(supervisor: Supervisor) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, supervisor.dismiss, f"ended by {number.name}")


def _announce(words: str, records: Records) -> None:
    """Say one line, then leave stdout and stderr, so that no ssh is kept waiting for them."""
    sys.stdout.write(words + "\n")
    sys.stdout.flush()
    records.take_over()
