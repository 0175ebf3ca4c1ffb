"""Two Macs as evidence, healthy but for what a test changes."""

from dataclasses import replace

from dsv4_tp import __version__
from dsv4_tp.config import ClusterConfig, ModelConfig, Rank, cluster_of_hosts
from dsv4_tp.doctor.evidence import REACHED, Case, Clock, Dial, Facts, Found, Ports, RankTrial
from tests.macs.recorded import HEALTHY, HOSTS, macs, said_by

GB = 10**9
IPS = {"mac-a": "10.0.0.1", "mac-b": "10.0.0.2"}
FACTS = Facts(
    system="Darwin",
    release="25.4.0",
    version=__version__,
    mlx_version="0.32.4",
    python_version="3.11.7",
    device="metal",
    memory_bytes=137 * GB,
    free_bytes=130 * GB,
    gpu_limit_bytes=128 * GB,
    disk_bytes=500 * GB,
    model_problems=(),
    model_digest="ab" * 32,
    samples={"model-1.safetensors": "cd" * 32},
    address=None,
    launcher=None,
    fast_synch="",
    ranks=(),
    largest="kernel_task",
    largest_bytes=GB,
)


def config_of(*names: str) -> ClusterConfig:
    config = cluster_of_hosts(",".join(names), ModelConfig("/models/flash"))
    hosts = tuple(replace(host, python="/opt/python") for host in config.hosts)
    return replace(config, hosts=hosts, ranks=tuple(Rank(host) for host in hosts))


def two_macs(case: str = HEALTHY) -> Case:
    found = {}
    for host, mac in macs(case).items():
        other = next(name for name in HOSTS if name != host)
        found[host] = Found(
            facts=FACTS,
            clock=Clock(0.01, 0.002),
            said=said_by(host, case),
            mac=mac,
            data_ip=IPS[host],
            listening=f"{IPS[host]}:5000",
            ports=Ports((), (5001,)),
            control=Dial(f"{IPS[host]}:5000", REACHED, 0.001),
            paths={other: Dial(f"{IPS[other]}:5000", REACHED, 0.0004)},
        )
    trial = tuple(
        RankTrial(rank, "", 50, 16384, 40e-6, 90e-6, 4 << 20, 1e-3, 7e-5) for rank in range(2)
    )
    return Case(config_of(*HOSTS), found, dict.fromkeys(HOSTS, 100 * GB), trial=trial)


def with_found(case: Case, host: str, **changes) -> Case:
    return replace(case, found=case.found | {host: replace(case.found[host], **changes)})


def with_facts(case: Case, host: str, **changes) -> Case:
    return with_found(case, host, facts=replace(case.found[host].facts, **changes))


def linux(case: Case) -> Case:
    for host in case.hosts:
        case = with_facts(with_found(case, host, mac=None, said={}), host, system="Linux")
    return case
