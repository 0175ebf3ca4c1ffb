"""What is worth telling of one step of `state`: of what was heard, what changed, what is ordered.

Pure, and quick where nothing is worth it, for every token passes by here.
"""

from collections.abc import Iterator

from dsv4_tp import core
from dsv4_tp.coordinator import events
from dsv4_tp.coordinator.adoption import Adoption
from dsv4_tp.coordinator.chronicle import Note
from dsv4_tp.coordinator.cluster import ClusterState, Phase, newest
from dsv4_tp.coordinator.events import Action, Event
from dsv4_tp.coordinator.links import unwatched
from dsv4_tp.coordinator.members import Fault, Host, Rank


def notes(
    before: ClusterState, event: Event, after: ClusterState, actions: tuple[Action, ...]
) -> Iterator[Note]:
    """What this step adds to the chronicle, in the order in which it came about."""
    if after.faults is not before.faults or after.refusal != before.refusal:
        yield from _faults(before, event, after)
    if isinstance(event, events.Adopted):
        yield _adopted(event.adoption)
    elif after.ranks is not before.ranks:
        for number, rank in after.ranks.items():
            yield from _rank(number, before.ranks[number], rank)
    if after.hosts is not before.hosts:
        known = after.faults is not before.faults
        for name, host in after.hosts.items():
            yield from _host(name, before.hosts[name], host, known=known)
    if after.phase is not before.phase or after.starts_s != before.starts_s:
        yield from _phase(before, after)
    for action in actions:
        yield from _action(event, after, action)


def _adopted(adoption: Adoption) -> Note:
    hosts = ", ".join(dict.fromkeys(rank.host for rank in adoption.ranks.values()))
    text = f"{adoption.count} on {hosts} serve another coordinator"
    ended = f"; requests of the last one: {len(adoption.owed)}, which are ended"
    return Note("taken-over", text + (ended if adoption.owed else ""))


def _faults(before: ClusterState, event: Event, after: ClusterState) -> Iterator[Note]:
    """The evidence as it came in, each piece of it once."""
    rank = _rank_of(event)
    host = after.ranks[rank].host if rank is not None else _host_of(event)
    if after.refusal != before.refusal:
        yield Note("rank-refused", after.refusal, host, rank)
    for fault in after.faults[len(before.faults) :]:
        said = {"last_stderr": fault.last_stderr} if fault.last_stderr else {}
        fields = {"loss": fault.loss.name.lower(), **said}
        yield Note(_kind(fault), fault.message, host, rank, fields)


def _kind(fault: Fault) -> str:
    match fault.loss:
        case core.Loss.HOST:
            return "host-lost"
        case core.Loss.LINK:
            return "link-lost"
        case core.Loss.QUARANTINED:
            return "host-quarantined"
        case _:
            return "rank-lost"


def _rank_of(event: Event) -> int | None:
    match event:
        case events.Heard(word=events.Lost(rank=rank) | events.Refused(rank=rank)):
            return rank
        case _:
            return None


def _host_of(event: Event) -> str:
    match event:
        case events.Heard(host=host) | events.HostLost(host=host) | events.Unfit(host=host):
            return host
        case _:
            return ""


def _rank(number: int, old: Rank, new: Rank) -> Iterator[Note]:
    def note(kind: str, text: str, **fields: str) -> Note:
        return Note(kind, f"rank {number} on {new.host} {text}", new.host, number, fields)

    if new.facts is not None and old.facts is None:
        yield note("rank-prepared", "is prepared", **new.facts)
    if new.joined and not old.joined:
        yield note("rank-joined", "has met the others")
    if new.weight_bytes is not None and old.weight_bytes is None:
        loaded = f"holds its weights, {new.weight_bytes:,} bytes"
        yield note("rank-loaded", loaded, weight_bytes=str(new.weight_bytes))
    if new.report.phase == "leaving" != old.report.phase:
        yield note("rank-leaves", "leaves")


def _host(name: str, old: Host, new: Host, *, known: bool) -> Iterator[Note]:
    """`known`: that it is lost is told as the fault of an epoch."""
    if new.spoke and not old.spoke:
        yield Note("host-there", f"the agent on {name} speaks", name)
    if new.tries > old.tries and not known:
        yield Note("host-lost", f"no agent on {name}: {new.cause}", name)
    if old.running and not new.running and not new.lost:
        yield Note("host-clear", f"no rank is left on {name}", name)


def _phase(before: ClusterState, after: ClusterState) -> Iterator[Note]:
    match after.phase:
        case Phase.READY:
            yield Note("ready", "requests are taken")
            for name, other in unwatched(after.hosts):
                why = f"it has heard no pulse of {other} by UDP, so the link to it is not watched"
                yield Note("link-unwatched", f"{name}: {why}", name)
        case Phase.DRAINING if after.phase is not before.phase:
            yield Note("draining", f"no more requests are taken; open: {len(after.requests.open)}")
        case Phase.RECOVERING if after.starts_s is not None and before.starts_s is None:
            wait_s = max(0.0, after.starts_s - after.ticked_s)
            waiting = f"open requests: {len(after.requests.open)}"
            text = f"another epoch may start in {wait_s:.1f} s; {waiting}"
            verdict = {"verdict": str(failed)} if (failed := newest(before, after)) else {}
            fields = {"wait_s": f"{wait_s:.1f}"} | verdict
            yield Note("restart-planned", text, fields=fields)
        case _:
            pass


def _action(event: Event, state: ClusterState, action: Action) -> Iterator[Note]:
    match action:
        case events.StartEpoch():
            hosts = ", ".join(state.hosts)
            yield Note("epoch-started", f"{len(state.ranks)} ranks are started on {hosts}")
        case events.JoinEpoch():
            yield Note("epoch-joins", "every rank is prepared; they meet")
        case events.StopEpoch():
            asked = isinstance(event, events.Renewed)
            why = ", for another epoch was asked for" if asked else ""
            yield Note("epoch-stopped", f"every rank is being ended{why}")
        case events.Reach(host=host):
            yield Note("agent-wanted", f"an agent is started again on {host}", host)
        case events.Settle(error=error):
            yield Note("settled", f"failed: {error}" if error else "stopped")
        case events.Deliver() | events.Fail() | events.Broadcast():
            yield from _request(state, action)
        case _:
            pass


def _request(
    state: ClusterState, action: events.Deliver | events.Fail | events.Broadcast
) -> Iterator[Note]:
    """What happens to few of them: that they are told of, and end by themselves, is not."""
    match action:
        case events.Deliver(event=core.FinishEvent() as finish):
            yield from _finish(finish)
        case events.Fail(request_id=request_id, error=error):
            yield Note("request-lost", str(error), fields={"request": request_id})
        case events.Broadcast(command=core.Command(action=core.Submit(request=request))):
            one = state.requests.open[request.id]
            if one.restarts:
                text = f"goes on; tokens so far: {len(one.told)}"
                yield Note("request-replayed", text, fields={"request": request.id})
        case _:
            pass


def _finish(finish: core.FinishEvent) -> Iterator[Note]:
    """Requests that ended otherwise than by themselves or by their client."""
    named = {"request": finish.request_id}
    if finish.error:
        failed = finish.reason is core.FinishReason.FAILED
        yield Note("request-failed" if failed else "request-refused", finish.error, fields=named)
    elif finish.reason is core.FinishReason.TIMEOUT:
        done = f"; tokens so far: {finish.generated_tokens}"
        yield Note("request-timed-out", f"its time was over{done}", fields=named)
