"""Is every host fit to run its ranks? Asked of all before any rank starts, decided here."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from dsv4_tp import __version__
from dsv4_tp.config import ClusterConfig, Host
from dsv4_tp.config.precision import settle_dtype
from dsv4_tp.config.rdma import given_rdma
from dsv4_tp.coordinator.ring import rdma_told
from dsv4_tp.core import Backend, DType
from dsv4_tp.errors import PreflightError, QuarantineError
from dsv4_tp.launcher.agents import Agent, kept_alive, on_all
from dsv4_tp.launcher.verify import Copy, differences
from dsv4_tp.plan import Plan, Replan, Room, misfits
from dsv4_tp.rpc.server import LOOPBACK
from dsv4_tp.v1 import agent_pb2 as pb

Tell = Callable[[str], None]
Facts = Mapping[str, pb.InspectResponse]  # by the host's name


async def inspect_hosts(
    agents: Sequence[Agent], config: ClusterConfig, ips: Mapping[str, str]
) -> Facts:
    """The facts of these hosts; each is asked about the ports its ranks would use, if pinned.

    To look at cables may take longer than an agent lives alone.
    """
    requests = (_question(agent.host, ips[agent.host.name], config) for agent in agents)
    asked = {agent.host.name: each for agent, each in zip(agents, requests, strict=True)}
    work = on_all(agents, lambda agent: agent.inspect(asked[agent.host.name]))
    return await kept_alive(agents, work)


def data_ips(agents: Sequence[Agent]) -> dict[str, str]:
    """Where the ranks of each host listen, by the host's name.

    This machine's address is the one that another host sees us at; alone it needs none.
    """
    ours = next((agent.launcher_ip for agent in agents if agent.launcher_ip), LOOPBACK)
    return {agent.host.name: agent.data_ip or ours for agent in agents}


def dtype_of(config: ClusterConfig, facts: Facts, *, torch_dtype: str) -> DType:
    """One dtype for all ranks: what the slowest kind of device among them needs."""
    devices = {answer.device for answer in facts.values()}
    device = "cpu" if "cpu" in devices else devices.pop()
    return settle_dtype(config.model.dtype, device=device, torch_dtype=torch_dtype)


def check_quarantine(facts: Facts) -> None:
    """Raises QuarantineError, which names every host that an earlier launch has found spoilt."""
    spoilt = [f"{name}: {fact.quarantine}" for name, fact in facts.items() if fact.quarantine]
    if spoilt:
        raise QuarantineError("; ".join(spoilt))


def with_backend(config: ClusterConfig, facts: Facts, tell: Tell) -> ClusterConfig:
    """The cluster, with what is to join its ranks; where that is open, JACCL if it can.

    Raises:
        PreflightError: what is asked for cannot; names hosts, and cables or devices.
    """
    names = [rank.host.name for rank in config.ranks]
    try:
        rdma = rdma_told(config.backend, given_rdma(config), names, facts)
    except PreflightError as error:
        if config.backend is not Backend.AUTO:
            raise
        tell(f"backend: ring, over TCP: {error}")
        rdma = None
    if rdma is None:
        return replace(config, backend=Backend.RING)
    return replace(config, backend=Backend.JACCL_RING if rdma.ring else Backend.JACCL)


def check_hosts(config: ClusterConfig, facts: Facts, plan: Plan, replan: Replan) -> None:
    """Raises PreflightError, which names every host that is not fit, and why.

    Where memory is too small, `replan` serves to find what would fit.
    """
    problems = [
        *(f"{name}: {line}" for name, answer in facts.items() for line in answer.problems),
        *version_problems(facts),
        *_model_problems(config, facts),
        *misfits(plan, rooms_of(config, facts), replan),
    ]
    if problems:
        raise PreflightError("; ".join(problems))


def _question(host: Host, ip: str, config: ClusterConfig) -> pb.InspectRequest:
    ranks = config.ranks_on(host)
    pinned = config.ports.data
    return pb.InspectRequest(
        model_path=config.model_path_on(host),
        cables=config.backend is not Backend.RING,
        ring=[f"{ip}:{pinned + rank}" for rank in ranks] if pinned else [],
    )


def version_problems(facts: Facts) -> Iterable[str]:
    """Ranks must run the same code: each host is compared with the first one, ours included."""
    first, reference = next(iter(facts.items()))
    wanted = _versions(reference) | {"dsv4-tp": __version__}
    for name, answer in facts.items():
        for package, version in _versions(answer).items():
            if version != wanted[package]:
                whose = "here" if package == "dsv4-tp" else f"on {first}"
                found = version or "none"
                yield f"{name} has {package} {found}, {wanted[package]} is {whose}; install that"


def _versions(answer: pb.InspectResponse) -> dict[str, str]:
    python = ".".join(answer.python_version.split(".")[:2])
    return {"dsv4-tp": answer.version, "mlx": answer.mlx_version, "python": python}


def _model_problems(config: ClusterConfig, facts: Facts) -> Iterable[str]:
    copies = {
        host.name: Copy(
            config.model_path_on(host),
            {file.name: file.sha256 for file in facts[host.name].samples},
        )
        for host in config.hosts
    }
    named = list(differences(copies))
    yield from named or _other_checkpoints(facts)


def _other_checkpoints(facts: Facts) -> Iterable[str]:
    digests = {name: answer.model_digest for name, answer in facts.items() if answer.model_digest}
    first = next(iter(digests), "")
    for name, digest in digests.items():
        if digest != digests[first]:
            yield f"{name} has another checkpoint than {first}: copy the files again"


def rooms_of(config: ClusterConfig, facts: Facts) -> list[Room]:
    """What each host has free for all of its ranks together."""
    return [
        Room(host.name, config.ranks_on(host), facts[host.name].available_bytes)
        for host in config.hosts
    ]
