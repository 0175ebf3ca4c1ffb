"""One rank of a trial: it meets the others, measures, says what it saw in a line, and ends."""

import json
import signal
import sys
from dataclasses import asdict
from importlib import metadata

from dsv4_tp import __version__
from dsv4_tp.core import Rdma
from dsv4_tp.engine.group import join
from dsv4_tp.engine.trial import try_group


def run() -> None:
    """Be that rank; stdin says which, with all addresses and the seconds for each half.

    Raises:
        PreflightError: MLX has no JACCL where that is asked for, or the ranks' versions differ.
        RankFailure: another rank could not be reached, or sums are not the same on all of them.
    """
    asked = json.load(sys.stdin)
    facts = {
        "version of dsv4-tp": __version__,
        "version of mlx": metadata.version("mlx"),
    }
    deadline_s = asked["deadline_s"]
    group = join(
        asked["addresses"],
        rank=asked["rank"],
        deadline_s=deadline_s,
        facts=facts,
        nonce=bytes.fromhex(asked["nonce"]),
        rdma=Rdma(**asked["rdma"]) if asked["rdma"] else None,
    )
    signal.setitimer(signal.ITIMER_REAL, deadline_s)  # a sum whose peer is gone never ends
    trial = try_group(group)
    signal.setitimer(signal.ITIMER_REAL, 0)
    sys.stdout.write(json.dumps(asdict(trial)) + "\n")
