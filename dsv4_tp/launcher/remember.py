"""What was launched, written down for whoever has to explain it later."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from dsv4_tp import __version__
from dsv4_tp.config import ClusterConfig
from dsv4_tp.errors import PreflightError
from dsv4_tp.history import LAUNCH_FILE
from dsv4_tp.plan import Plan
from dsv4_tp.v1.agent_pb2 import InspectResponse


def remember(
    folder: Path, config: ClusterConfig, plan: Plan, facts: Mapping[str, InspectResponse]
) -> None:
    """Write the settled configuration, the plan and what each host runs into `folder`.

    Raises:
        PreflightError: it cannot be written.
    """
    hosts = {
        name: {
            "version": fact.version,
            "mlx": fact.mlx_version,
            "python": fact.python_version,
            "device": fact.device,
            "memory_bytes": fact.memory_bytes,
            "available_bytes": fact.available_bytes,
        }
        for name, fact in facts.items()
    }
    known = {
        "version": __version__,
        "config": asdict(config),
        "plan": {
            "context": plan.context,
            "prefill_chunk": plan.chunk,
            "cache_rows": plan.cache_rows,
            "prefix_bytes": plan.prefix_bytes,
            "parts": [asdict(part) for part in plan.parts],
            "rank_bytes": [asdict(held) | {"total": held.total} for held in plan.rank_bytes],
        },
        "hosts": hosts,
    }
    file = folder / LAUNCH_FILE
    try:
        file.touch(mode=0o600)
        file.write_text(json.dumps(known, default=str))
    except OSError as error:
        raise PreflightError(f"{file}: {error.strerror}") from error
