"""Do all hosts have the same files? Each is asked for their digests before any rank starts."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from dsv4_tp.config import ClusterConfig, Host
from dsv4_tp.core import Part
from dsv4_tp.errors import DeadlineError, PreflightError
from dsv4_tp.launcher.agents import Agent, kept_alive, on_all
from dsv4_tp.layouts.wording import some
from dsv4_tp.rpc.convert import part_to_proto
from dsv4_tp.v1 import agent_pb2 as pb

_GB = 1e9
_WEIGHTS = ".safetensors"
_ADVICE = "copy it there again, or send the weights with `dsv4-tp push`"
_STILL_S = 30.0  # of a disk that gives no byte

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Copy:
    """The files that one host would load from."""

    path: str  # of their directory there
    digests: Mapping[str, bytes]  # by the file's name; not those of a prepared set's weights

    def lacks(self, name: str) -> bool:
        """Whether it is a checkpoint without these weights."""
        weights = [own for own in self.digests if own.endswith(_WEIGHTS)]
        return bool(weights) and name.endswith(_WEIGHTS) and name not in weights


async def verify_hosts(
    agents: Sequence[Agent], config: ClusterConfig, parts: Sequence[Part], tell: Tell
) -> None:
    """Return if all hosts have the same files, and those of prepared sets are as written.

    Raises:
        PreflightError: names every host and file that differ, or a host that cannot read its own.
        DeadlineError: a host's reading stands still.
    """
    progress = _Progress(tell)

    async def copy_of(agent: Agent) -> Copy:
        return await _copy_of(agent, _question(agent.host, config, parts), progress)

    copies = await kept_alive(agents, on_all(agents, copy_of))
    if problems := list(differences(copies)):
        raise PreflightError("; ".join(problems))


def differences(copies: Mapping[str, Copy]) -> Iterator[str]:
    """One line for each host whose files are not those of most hosts, or that lacks weights.

    Where two hosts disagree, nobody knows who is right; the first host counts.
    """
    right = _most_common(copies.values())
    for host, copy in copies.items():
        other = [name for name, digest in copy.digests.items() if digest != right[name]]
        lacking = [name for name in right if copy.lacks(name)]
        for names, fault in ((other, "is not as on"), (lacking, "is missing, unlike on")):
            if names:
                models = _holders(copies, names[0], right[names[0]])
                yield f"{host}: {copy.path}/{some(names)} {fault} {models}; {_ADVICE}"


def _most_common(copies: Iterable[Copy]) -> dict[str, bytes]:
    """The digest that most hosts have of each file, the first host's if there is no most."""
    votes: dict[str, Counter[bytes]] = {}
    for copy in copies:
        for name, digest in copy.digests.items():
            votes.setdefault(name, Counter())[digest] += 1
    return {name: counted.most_common(1)[0][0] for name, counted in sorted(votes.items())}


def _holders(copies: Mapping[str, Copy], name: str, digest: bytes) -> str:
    return ", ".join(host for host, copy in copies.items() if copy.digests.get(name) == digest)


def _question(host: Host, config: ClusterConfig, parts: Sequence[Part]) -> pb.VerifyRequest:
    return pb.VerifyRequest(
        model_path=config.model_path_on(host),
        parts=map(part_to_proto, parts),
        ranks=config.ranks_on(host),
        alone=len(config.hosts) == 1,
    )


async def _copy_of(agent: Agent, request: pb.VerifyRequest, progress: "_Progress") -> Copy:
    digests: dict[str, bytes] = {}
    async with agent.service() as stub:
        answers = aiter(stub.Verify(request))
        while response := await _next(answers, agent.host.name):
            progress.note(agent.host.name, response.done_bytes, response.total_bytes)
            digests = {file.name: file.sha256 for file in response.files}
    return Copy(request.model_path, digests)


async def _next(answers: AsyncIterator[pb.VerifyResponse], host: str) -> pb.VerifyResponse | None:
    """What the agent says next; None at the end."""
    try:
        return await asyncio.wait_for(anext(answers, None), _STILL_S)
    except TimeoutError as error:
        raise DeadlineError(f"{host}: its disk gave no byte for {_STILL_S:g} s") from error


@dataclass(slots=True)
class _Progress:
    """Tells of every tenth of all bytes that are read."""

    tell: Tell
    hosts: dict[str, tuple[int, int]] = field(default_factory=dict[str, tuple[int, int]])
    told: int = -1

    def note(self, host: str, done_bytes: int, total_bytes: int) -> None:
        """A host has read so much; files that took no time are not worth a line."""
        self.hosts[host] = done_bytes, total_bytes
        done, total = map(sum, zip(*self.hosts.values(), strict=True))
        if self.told < 0 and done == total:
            return
        if total and (tenth := done * 10 // total) > self.told:
            self.told = tenth
            self.tell(f"checking files: {tenth * 10} % of {total / _GB:.1f} GB")
