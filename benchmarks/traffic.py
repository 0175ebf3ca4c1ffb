"""What ranks exchange for a token: collectives, and bytes on the wire.

Collectives and bytes are measured: the command line launches the demo model on this machine,
and its ranks' ledgers tell. They must be what the design says, two all-reduces of the hidden
size per layer, or one with `attention: whole`, and one packet for the choice of the token; then the
same rule gives the figures of the real model. Bytes are the payload that one rank sends, one way.
"""

import json
import subprocess
import sys
from dataclasses import dataclass

from dsv4_tp import demo
from dsv4_tp.core import AttentionSplit
from dsv4_tp.modelspec import read_spec

GREEDY_PACKET_BYTES = 12  # three int32
FLASH_LAYERS, FLASH_HIDDEN = 43, 4096  # of DeepSeek-V4-Flash
BFLOAT16_BYTES, FLOAT32_BYTES = 2, 4
NEW_TOKENS = 16
LAUNCH_TIMEOUT_S = 300


@dataclass(frozen=True, slots=True)
class Traffic:
    """What one rank exchanges for one decoded token."""

    collectives: float
    wire_bytes: float


def expected(
    *,
    ranks: int,
    layers: int,
    hidden: int,
    value_bytes: int,
    attention: AttentionSplit = AttentionSplit.SPLIT,
) -> Traffic:
    """What the design says a greedy token costs."""
    if ranks == 1:
        return Traffic(0, 0)
    all_reduces = layers if attention is AttentionSplit.WHOLE else 2 * layers
    return Traffic(all_reduces + 1, all_reduces * hidden * value_bytes + GREEDY_PACKET_BYTES)


def measured_on(ranks: int, attention: AttentionSplit) -> Traffic:
    """What the demo model's ranks counted while they generated, in float32."""
    hosts = ",".join(["localhost"] * ranks)
    command = [sys.executable, "-m", "dsv4_tp", "launch", "--hosts", hosts, "--model", "demo"]
    options = ["--prompt", "One day", "--max-tokens", str(NEW_TOKENS), "--temperature", "0"]
    options += ["--attention", attention]
    done = subprocess.run(
        [*command, *options, "--dtype", "float32", "--json"],
        check=True,
        stdout=subprocess.PIPE,
        timeout=LAUNCH_TIMEOUT_S,
    )
    stats = json.loads(done.stdout.splitlines()[-1])["stats"]
    return Traffic(stats["collectives_per_token"], stats["wire_bytes_per_token"])


def checked(ranks: int, attention: AttentionSplit) -> Traffic:
    """The measured traffic, which must be the expected.

    Raises:
        SystemExit: it is not.
    """
    spec = read_spec(demo.path())
    measured = measured_on(ranks, attention)
    wanted = expected(
        ranks=ranks,
        layers=spec.num_hidden_layers,
        hidden=spec.hidden_size,
        value_bytes=FLOAT32_BYTES,
        attention=attention,
    )
    if measured != wanted:
        sys.exit(f"{ranks} ranks, attention {attention}: measured {measured}, by design {wanted}")
    return measured


def of_flash(ranks: int, attention: AttentionSplit) -> Traffic:
    """What a greedy token of the real model costs."""
    return expected(
        ranks=ranks,
        layers=FLASH_LAYERS,
        hidden=FLASH_HIDDEN,
        value_bytes=BFLOAT16_BYTES,
        attention=attention,
    )


def collectives_by_ranks(found: dict[int, Traffic]) -> dict[str, float]:
    """As JSON wants them."""
    return {str(ranks): traffic.collectives for ranks, traffic in found.items()}


def wire_bytes_by_ranks(found: dict[int, Traffic]) -> dict[str, float]:
    """Likewise."""
    return {str(ranks): traffic.wire_bytes for ranks, traffic in found.items()}
