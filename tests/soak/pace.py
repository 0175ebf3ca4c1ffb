"""Records how a rank moves beside other programs, for tests/agent/test_watch.py.

    python -m tests.soak.pace OUT.json [SECONDS]

Two real ranks on this machine read a prompt and decode, over and over. Every twenty seconds both
are held still for two, as by a machine that swaps.
"""

import json
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil

from dsv4_tp.rpc.progress import read_report
from tests.cluster import clusters

PROMPT = "Once upon a time there was a little girl. " * 12
HELD_S = 2.0


CONFIG = {
    "version": 1,
    "model": {"path": "demo"},
    "hosts": [{"name": "localhost"}] * 2,
    "prefill_chunk": 64,
}


def main() -> None:
    out, seconds = Path(sys.argv[1]), float(sys.argv[2]) if len(sys.argv) > 2 else 120.0
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        config = Path(folder) / "cluster.yaml"
        config.write_text(json.dumps(CONFIG))
        cluster = clusters.launch("-f", config, state_dir=Path(folder))
        stack.callback(clusters.sweep, cluster)
        ready = "ready"
        cluster.wait_for(lambda: cluster.status().get("phase") == ready, within_s=300, what=ready)
        command = cluster.workers()[0].cmdline()
        page = Path(command[command.index("--progress") + 1])
        lines = list(record(page, seconds, cluster, stack))
    out.write_text("[\n" + ",\n".join(map(json.dumps, lines)) + "\n]\n")


def record(
    page: Path, seconds: float, cluster: clusters.Launch, stack: ExitStack
) -> Iterator[list[object]]:
    """A line at every beat: when, the phase, the tokens fed, the steps done."""
    asked, began_s, held = None, time.monotonic(), 0
    while (now_s := time.monotonic() - began_s) < seconds:
        if asked is None or asked.poll() is not None:
            asked = cluster.popen("generate", "--prompt", PROMPT, "--max-tokens", 100)
            stack.callback(asked.kill)
        if now_s > 20 * (held + 1):
            held += 1
            threading.Thread(target=hold, args=(cluster.workers(),)).start()
        report = read_report(page, rank=0)
        yield [round(now_s, 2), report.phase, report.prefill_tokens, report.decode_steps]
        time.sleep(0.5)


def hold(workers: list[psutil.Process]) -> None:
    for worker in workers:
        worker.suspend()
    time.sleep(HELD_S)
    for worker in workers:
        worker.resume()


if __name__ == "__main__":
    main()
