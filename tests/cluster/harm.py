"""What can happen to a cluster over ssh, and where it is when it does. Root only; see `netns`."""

import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.cluster.field import Cluster

PHASES = ("decode", "init", "load", "prefill", "idle", "drain")


def reach(cluster: Cluster, phase):
    """Come to this phase; the text that is waited for by then, if there is one."""
    if phase in ("init", "load"):
        _start(cluster, phase)
        return None
    cluster.wait(lambda: cluster.last.ready, "ready")
    ranks = cluster.ranks()
    assert set(ranks) == {0, 1}, ranks
    if phase == "idle":
        return None
    before = ranks[cluster.victim].report()
    wish = cluster.ask()
    _busy(cluster, ranks[cluster.victim], before, "prefill" if phase == "prefill" else "decode")
    if phase == "drain":
        cluster.watch.down()
        cluster.wait(lambda: cluster.last.phase == "draining", "draining")
    return wish


def _start(cluster, phase):
    """The ranks of a launch, or of a cluster that serves and is to start them again."""
    old, epoch = cluster.ranks().get(cluster.victim), cluster.last.epoch
    if cluster.last.ready:
        cluster.watch.restart()
        cluster.wait(lambda: cluster.last.epoch > epoch, "another epoch")
        cluster.wait(lambda: not old.process.is_running(), "the end of the rank")
    rank = cluster.wait(lambda: cluster.ranks().get(cluster.victim), "a process of the rank")
    if phase == "load":
        cluster.wait(lambda: rank.report().bytes_loaded > 0, "loading")
        return
    part = cluster.rng.choice(["starting", "prepared", "joining"])
    cluster.wait(lambda: rank.report().phase == part, part)


def _busy(cluster, rank, before, phase):
    """Some steps into it, no two times as many."""
    tokens = cluster.rng.randint(1, 5) * cluster.chunk
    steps = cluster.rng.randint(2, 15)

    def far_enough():
        now = rank.report()
        if phase == "prefill":
            return now.prefill_tokens - before.prefill_tokens >= tokens
        return now.decode_steps - before.decode_steps >= steps

    cluster.wait(far_enough, phase)


def sent(number):
    """The rank gets this signal."""

    def harm(cluster):
        cluster.ranks()[cluster.victim].process.send_signal(number)

    return harm


def ordered(order):
    """The rank's main thread does this itself."""

    def harm(cluster):
        (cluster.folder / "order").write_text(order)
        process = cluster.ranks()[cluster.victim].process
        cluster.wait(lambda: _obeys(process), "a rank that obeys")
        process.send_signal(signal.SIGUSR1)

    return harm


def _obeys(process):
    """Whether it catches SIGUSR1 by now."""
    status = Path(f"/proc/{process.pid}/status").read_text()
    caught = int(status.split("SigCgt:")[1].split()[0], 16)
    return caught >> (signal.SIGUSR1 - 1) & 1


def cut_data(cluster):
    """Between the ranks; everything else goes on."""
    cluster.network.cut(cluster.host, "eth1")


def cut_control(cluster):
    """Between the launch and a host; the ranks still hear each other."""
    cluster.network.cut(cluster.host, "eth0")


def flap(cluster):
    """All cables out and in again, twice, for less than anybody's patience."""
    for _ in range(2):
        cluster.network.unplug(cluster.host)
        time.sleep(0.3)  # gRPC's patience with the network is not scaled
        cluster.network.plug(cluster.host)
        time.sleep(0.3)


def kill_agent(cluster):
    for process in cluster.network.processes(cluster.host):
        with suppress(psutil.NoSuchProcess):  # its ranks end with it
            if "--port=0" in process.cmdline():
                process.kill()


def restore(cluster):
    """Somebody plugs cables in and gives the host its power back."""
    cluster.network.restore()


@dataclass(frozen=True)
class Fault:
    """What happens, and what somebody does about it when it has been noticed."""

    harm: Callable[[Cluster], None]
    mend: Callable[[Cluster], None] = restore


FAULTS = {
    "KILL": Fault(sent(signal.SIGKILL)),
    "STOP": Fault(sent(signal.SIGSTOP)),
    "exit 1": Fault(ordered("exit 1")),
    "exit 0": Fault(ordered("exit 0")),
    "SEGV": Fault(ordered("segv")),
    "GIL held": Fault(ordered("hold")),
    "exception on one rank": Fault(ordered("raise")),
    "data link down": Fault(cut_data),
    "control link down": Fault(cut_control),
    "link flap": Fault(flap),
    "slow link": Fault(lambda cluster: cluster.network.slow(cluster.host, "2mbit")),
    "host gone": Fault(lambda cluster: cluster.network.kill(cluster.host)),
    "agent killed": Fault(kill_agent),
    "coordinator killed": Fault(Cluster.kill, Cluster.launch_again),
}
