"""Who speaks: each end of the control plane shows a certificate of its cluster's authority.

The role is a name in the certificate, so that it does not depend on addresses or on what a caller
says of itself. Keys travel by stdin and live in memory, never in a command line or a log.
"""

import json
import re
import time
from dataclasses import asdict, dataclass, field
from typing import Any

import grpc

from dsv4_tp.errors import PreflightError

COORDINATOR = "coordinator.dsv4-tp"
SLACK_S = 86400.0  # that the clocks of two hosts may differ by
_NAMES_KEY = "x509_subject_alternative_name"
_UNUSUAL = re.compile(rb"[^a-z0-9.-]")  # in the name of a host: gRPC compares such names badly
_NOBODY = "an agent is started by `dsv4-tp launch`, which says by stdin who it is"

Context = grpc.aio.ServicerContext[Any, Any]


@dataclass(frozen=True, slots=True)
class Identity:
    """What a process shows, and whom it believes. All of it is PEM."""

    certificate: str
    authority: str  # the certificate of the one that has signed those of all others
    key: str = field(repr=False)  # of `certificate`: secret


def agent_name(host: str) -> str:
    """The name in the certificate of the agent on `host`, another one for each host."""
    label = _UNUSUAL.sub(lambda found: b"_%02x" % found[0][0], host.encode())
    return f"{label.decode()}.agent.dsv4-tp"


def written(identity: Identity) -> str:
    """One line, secret, that `read_identity` understands; good for now."""
    return json.dumps({"clock_s": time.time(), "identity": asdict(identity)})


def read_identity(line: str) -> Identity:
    """The identity in a line from the machine that launches.

    Raises:
        PreflightError: the line is none, or the clocks differ by more than certificates allow.
    """
    try:
        words = json.loads(line)
        identity, ahead_s = Identity(**words["identity"]), time.time() - words["clock_s"]
    except (ValueError, TypeError, KeyError):
        raise PreflightError(_NOBODY) from None  # the line may hold a secret
    if abs(ahead_s) > SLACK_S:
        side = "ahead of" if ahead_s > 0 else "behind"
        days = abs(ahead_s) / SLACK_S
        raise PreflightError(
            f"the clock here is {days:.1f} days {side} that of the machine that launches; set it"
        )
    return identity


def server_credentials(identity: Identity) -> grpc.ServerCredentials:
    """For a server that wants a certificate of the same authority from everybody."""
    own = (identity.key.encode(), identity.certificate.encode())
    return grpc.ssl_server_credentials(
        [own], root_certificates=identity.authority.encode(), require_client_auth=True
    )


def channel_credentials(identity: Identity) -> grpc.ChannelCredentials:
    """For a client of such a server."""
    return grpc.ssl_channel_credentials(
        root_certificates=identity.authority.encode(),
        private_key=identity.key.encode(),
        certificate_chain=identity.certificate.encode(),
    )


async def admit_coordinator(context: Context) -> None:
    """End the call with UNAUTHENTICATED unless a coordinator has made it."""
    names = context.auth_context().get(_NAMES_KEY, ())
    if list(names) != [COORDINATOR.encode()]:
        message = "only the coordinator of this cluster may call its agents"
        await context.abort(grpc.StatusCode.UNAUTHENTICATED, message)
