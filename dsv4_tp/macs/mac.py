"""All that the tools of one Mac say of it, parsed."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from dsv4_tp.macs.parse.network import Interface, parse_hardware_ports, parse_ifconfig
from dsv4_tp.macs.parse.rdma import Device, parse_ibv_devices, parse_ibv_devinfo, parse_rdma_ctl
from dsv4_tp.macs.parse.system import (
    Sleep,
    System,
    parse_pmset,
    parse_sw_vers,
    parse_sysctl,
    parse_vm_stat,
)
from dsv4_tp.macs.parse.thunderbolt import Port, parse_thunderbolt

_T = TypeVar("_T")

# The commands by the names they are asked for by; nothing else is ever run on a host. Each looks,
# none changes anything or needs root. They are looked for where the system has its own tools.
TOOLS = "/usr/bin:/bin:/usr/sbin:/sbin"
COMMANDS: Mapping[str, tuple[str, ...]] = {
    "sw_vers": ("sw_vers",),
    "sysctl": ("sysctl", "hw.memsize", "iogpu.wired_limit_mb"),
    "vm_stat": ("vm_stat",),
    "pmset": ("pmset", "-g"),
    "system_profiler": ("system_profiler", "SPThunderboltDataType", "-json"),
    "networksetup": ("networksetup", "-listallhardwareports"),
    "ifconfig": ("ifconfig",),
    "rdma_ctl": ("rdma_ctl", "status"),
    "ibv_devices": ("ibv_devices",),
    "ibv_devinfo": ("ibv_devinfo", "-v"),
}

OF_CABLES = ("system_profiler", "networksetup", "ibv_devinfo")  # what `links` goes by


@dataclass(frozen=True, slots=True)
class Mac:
    """One Mac. What is None was not told; `unread` says why, by the command's name."""

    system: System | None
    numbers: Mapping[str, int] | None  # of sysctl
    wired_bytes: int | None
    sleep: Sleep | None
    ports: tuple[Port, ...] | None
    hardware: Mapping[str, str] | None  # "Thunderbolt 1" -> "en2"
    interfaces: Mapping[str, Interface] | None
    rdma_enabled: bool | None
    device_names: tuple[str, ...] | None
    devices: Mapping[str, Device] | None
    unread: Mapping[str, str]

    def interface_of(self, port: Port) -> str | None:
        """The network interface of a Thunderbolt port."""
        return (self.hardware or {}).get(f"Thunderbolt {port.receptacle}")


def read_mac(said: Mapping[str, str]) -> Mac:
    """What the commands in `said` have printed, by their names in COMMANDS."""
    unread: dict[str, str] = {}

    def read(name: str, parse: Callable[[str], _T]) -> _T | None:
        try:
            return parse(said[name])
        except KeyError:
            unread[name] = f"no {name}"
        except (ValueError, TypeError, AttributeError) as error:
            unread[name] = f"{name} said something else: {error}"
        return None

    return Mac(
        system=read("sw_vers", parse_sw_vers),
        numbers=read("sysctl", parse_sysctl),
        wired_bytes=read("vm_stat", parse_vm_stat),
        sleep=read("pmset", parse_pmset),
        ports=read("system_profiler", parse_thunderbolt),
        hardware=read("networksetup", parse_hardware_ports),
        interfaces=read("ifconfig", parse_ifconfig),
        rdma_enabled=read("rdma_ctl", parse_rdma_ctl),
        device_names=read("ibv_devices", parse_ibv_devices),
        devices=read("ibv_devinfo", parse_ibv_devinfo),
        unread=unread,
    )
