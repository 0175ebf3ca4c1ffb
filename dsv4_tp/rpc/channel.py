"""Channels, and the options both ends must agree on.

Owns keepalive and message sizes; it knows no service.
"""

from pathlib import Path

import grpc

from dsv4_tp.rpc.auth import Identity, agent_name, channel_credentials

# After 2 s of silence the other side is asked, and given up 5 s later, a stopped process too; on
# Linux the timeout is also what TCP waits for an acknowledgement. It is no verdict on a host: a
# coordinator knows after 4 s that an agent does not beat, and an agent has its fence of 10 s, which
# 7 s are below. What this has to end in time is calls without a lease: of clients, of a push. So it
# can be patient with a machine so busy that gRPC's threads wait seconds for their turn, or with a
# link that flaps: at 2 s, connections between healthy processes broke under load.
_KEEPALIVE = (
    ("grpc.keepalive_time_ms", 2000),
    ("grpc.keepalive_timeout_ms", 5000),
    ("grpc.http2.ping_timeout_ms", 5000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
)
# Pieces of logits and long prompts are larger than gRPC's 4 MiB.
_SIZES = (
    ("grpc.max_send_message_length", 64 << 20),
    ("grpc.max_receive_message_length", 64 << 20),
)
# Hosts of one cluster speak directly, whatever proxy the environment names.
_DIRECT = (("grpc.enable_http_proxy", 0),)
_RECONNECT = (
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 500),
)
CLIENT_OPTIONS = (*_KEEPALIVE, *_SIZES, *_DIRECT)
LOCAL_OPTIONS = (*_SIZES, *_DIRECT, *_RECONNECT)
SERVER_OPTIONS = (
    *_KEEPALIVE,
    *_SIZES,
    # Without these two the server answers our pings with GOAWAY too_many_pings.
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 100),
    ("grpc.http2.max_ping_strikes", 0),
    # Two servers on one port would share its connections between them.
    ("grpc.so_reuseport", 0),
)


def open_channel(address: str) -> grpc.aio.Channel:
    """A channel to a cluster on this machine, in plain text. The caller closes it."""
    return grpc.aio.insecure_channel(address, options=CLIENT_OPTIONS)


def open_agent_channel(address: str, host: str, identity: Identity) -> grpc.aio.Channel:
    """A channel to the agent of `host` at `host:port`, and to no other. The caller closes it.

    A lost peer shows within 7 s. What a wrong one says is never heard.
    """
    options = (*CLIENT_OPTIONS, ("grpc.ssl_target_name_override", agent_name(host)))
    return grpc.aio.secure_channel(address, channel_credentials(identity), options=options)


def open_local_channel(socket: Path) -> grpc.aio.Channel:
    """A channel to a Unix socket that may not be there yet. The caller closes it.

    It has no keepalive: a worker that is stuck is judged by its progress alone.
    """
    return grpc.aio.insecure_channel(f"unix:{socket}", options=LOCAL_OPTIONS)
