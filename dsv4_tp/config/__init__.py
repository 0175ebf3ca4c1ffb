"""What a user asks for (cluster.yaml, --hosts), and what this machine's environment says."""

from dsv4_tp.config.cluster import (
    BATCH,
    DEMO,
    LOCALHOST,
    MAX_RANKS,
    MOST_BATCH,
    PREFILL_CHUNK,
    QUEUE,
    ClusterConfig,
    Host,
    ModelConfig,
    Ports,
    PrefixCache,
    Rank,
    Timeouts,
)
from dsv4_tp.config.parse import (
    DTypeChoice,
    check_name,
    cluster_of_hosts,
    model_path,
    parse_weights,
    read_cluster,
)

__all__ = [
    "BATCH",
    "DEMO",
    "LOCALHOST",
    "MAX_RANKS",
    "MOST_BATCH",
    "PREFILL_CHUNK",
    "QUEUE",
    "ClusterConfig",
    "DTypeChoice",
    "Host",
    "ModelConfig",
    "Ports",
    "PrefixCache",
    "Rank",
    "Timeouts",
    "check_name",
    "cluster_of_hosts",
    "model_path",
    "parse_weights",
    "read_cluster",
]
