"""What the doctor runs on a host, in the interpreter that its ranks would use.

A line of JSON is asked, a line of JSON answered, and it ends with its stdin, so that nothing of it
is left there. It looks and listens; it changes nothing, and runs nothing but the tools of `macs`
and the ranks of a trial.
"""

import json
import os
import platform
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import psutil

from dsv4_tp.agent.machine import free_ports, inspect
from dsv4_tp.agent.memory import gpu_limit_bytes
from dsv4_tp.config.environment import fast_synch, ssh_addresses, state_dir, worker_environment
from dsv4_tp.doctor.dial import dial, listen
from dsv4_tp.doctor.evidence import Facts
from dsv4_tp.errors import Dsv4Error
from dsv4_tp.macs.tools import run_tool
from dsv4_tp.v1.agent_pb2 import InspectRequest

_TRIAL = (sys.executable, "-m", "dsv4_tp", "trial")
_LOOK_S = 0.5
_SPARE_S = 15.0  # for a rank of a trial to start and end
_MAC = "Darwin"

Words = Mapping[str, Any]


def run() -> None:
    """Answer until stdin ends."""
    _say({"ready": True})
    for line in sys.stdin:
        asked = json.loads(line)
        try:
            answer = _ANSWERS[asked["op"]](asked)
        except (OSError, Dsv4Error) as error:
            answer = {"error": str(error)}
        _say(answer)


def _say(words: Words) -> None:
    sys.stdout.write(json.dumps(words) + "\n")
    sys.stdout.flush()


def _facts(asked: Words) -> Words:
    found = inspect(InspectRequest(model_path=asked["model"]))
    address, launcher = ssh_addresses() or (None, None)
    name, size = _largest()
    facts = Facts(
        system=platform.system(),
        release=platform.release(),
        version=found.version,
        mlx_version=found.mlx_version,
        python_version=found.python_version,
        device=found.device,
        memory_bytes=found.memory_bytes,
        free_bytes=psutil.virtual_memory().available,
        gpu_limit_bytes=gpu_limit_bytes() if platform.system() == _MAC else 0,
        disk_bytes=psutil.disk_usage(str(state_dir())).free,
        model_problems=tuple(found.problems),
        model_digest=found.model_digest.hex(),
        samples={file.name: file.sha256.hex() for file in found.samples},
        address=address,
        launcher=launcher,
        fast_synch=fast_synch(),
        ranks=tuple(process.pid for process in psutil.process_iter() if _is_rank(process)),
        largest=name,
        largest_bytes=size,
        quarantine=found.quarantine,
    )
    return asdict(facts)


def _clock(_: Words) -> Words:
    return {"time_s": time.time()}


def _tool(asked: Words) -> Words:
    """What a tool prints; null if this host has none of that name."""
    return {"text": run_tool(asked["name"])}


def _listen(asked: Words) -> Words:
    return {"port": listen(asked["address"], asked["port"], asked["word"])}


def _dial(asked: Words) -> Words:
    return asdict(dial(asked["address"], asked["port"], asked["word"], asked["within_s"]))


def _ports(asked: Words) -> Words:
    problems = inspect(InspectRequest(ring=asked["pinned"])).problems
    return {"problems": list(problems), "free": free_ports(asked["count"])}


def _meet(asked: Words) -> Words:
    """Run the ranks of this host in a trial; what each said, or why it did not."""
    with tempfile.TemporaryDirectory(prefix="dsv4-tp-trial-") as folder:
        ranks = {str(rank): _start(rank, asked, Path(folder)) for rank in asked["ranks"]}
        ends_s = time.monotonic() + 2 * asked["deadline_s"] + _SPARE_S
        return {rank: _finish(process, ends_s) for rank, process in ranks.items()}


def _start(rank: int, asked: Words, folder: Path) -> "subprocess.Popen[str]":
    tmp_dir = folder / str(rank)
    tmp_dir.mkdir()
    process = subprocess.Popen(
        _TRIAL,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=worker_environment(tmp_dir),
    )
    words = {"rank": rank}
    words |= {key: asked[key] for key in ("addresses", "deadline_s", "nonce", "rdma")}
    assert process.stdin is not None
    with suppress(BrokenPipeError), process.stdin as pipe:  # its stderr says why it has ended
        pipe.write(json.dumps(words))
    process.stdin = None  # so that communicate does not write to it
    return process


def _finish(process: "subprocess.Popen[str]", ends_s: float) -> Words:
    """What the rank said; it is killed if it takes too long, or if nobody waits for it any more."""
    while (said := _said(process)) is None:
        if time.monotonic() > ends_s or _asker_is_gone():
            process.kill()
    out, err = said
    if process.returncode == 0:
        return json.loads(out)
    if process.returncode == -signal.SIGALRM:
        return {"problem": "the others did not come, or a sum did not end"}
    lines = err.strip().splitlines()
    return {"problem": lines[-1] if lines else f"ended with {process.returncode}, saying nothing"}


def _said(process: "subprocess.Popen[str]") -> tuple[str, str] | None:
    """All that it said, once it has ended."""
    try:
        return process.communicate(timeout=_LOOK_S)
    except subprocess.TimeoutExpired:
        return None


def _asker_is_gone() -> bool:
    """Whether stdin has ended: nobody asks a second thing while the first is not answered."""
    return bool(select.select([sys.stdin], [], [], 0)[0])


def _largest() -> tuple[str, int]:
    """The program that holds the most memory, as far as we may look."""
    found = [
        (process.info["memory_info"].rss, str(process.info["name"]))
        for process in psutil.process_iter(["name", "memory_info"])
        if process.info["memory_info"]
    ]
    size, name = max(found, default=(0, ""))
    return name, size


def _is_rank(process: psutil.Process) -> bool:
    try:
        words = process.cmdline()
    except psutil.Error:
        return False
    return "dsv4_tp" in words and "worker" in words and process.pid != os.getpid()


_ANSWERS: Mapping[str, Callable[[Words], Words]] = {
    "clock": _clock,
    "dial": _dial,
    "facts": _facts,
    "listen": _listen,
    "meet": _meet,
    "ports": _ports,
    "tool": _tool,
}
