"""The ladder: every rung, in the order in which they are climbed."""

from dsv4_tp.doctor.checks import fabric, host, paths
from dsv4_tp.doctor.ladder import Rung

_THERE = ("ssh", "python")
_LISTENS = (*_THERE, "address")

LADDER = (
    Rung("config", host.config, whole=True),
    Rung("ssh", host.ssh),
    Rung("python", host.python, ("ssh",)),
    Rung("clock", host.clock, _THERE),
    Rung("versions", host.versions, _THERE),
    Rung("environment", host.environment, _THERE),
    Rung("quarantine", host.quarantine, _THERE),
    Rung("memory", host.memory, _THERE),
    Rung("wired-limit", host.wired_limit, _THERE, mac=True),
    Rung("stranded", host.stranded, _THERE, mac=True),
    Rung("disk", host.disk, _THERE),
    Rung("model", host.model, _THERE),
    Rung("sleep", host.sleep, _THERE, mac=True),
    Rung("address", paths.address, _THERE),
    Rung("ports", paths.ports, _LISTENS),
    Rung("control", paths.control, _LISTENS),
    Rung("data", paths.data, _LISTENS),
    Rung("thunderbolt", fabric.thunderbolt, _THERE, mac=True),
    Rung("bridge", fabric.bridge, _THERE, mac=True),
    Rung("rdma", fabric.rdma, _THERE, mac=True),
    Rung("links", fabric.links, _THERE, whole=True),
    Rung("ring", fabric.ring, (*_LISTENS, "versions", "ports", "data", "links"), whole=True),
)
