"""The way between the coordinator and a host, and a session on it: as TCP with keepalive is."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from dsv4_tp.core import Command
from tests.fleet.agenda import Agenda, Process

KEEPALIVE_S = 7.0


@dataclass(frozen=True)
class Hello:
    generation: int
    fence_s: float
    beat_s: float


@dataclass(frozen=True)
class Beat:
    pass


@dataclass(frozen=True)
class Start:
    epoch: int
    ranks: tuple[int, ...]
    peers: tuple[str, ...] = ()  # hosts whose agents are heard


@dataclass(frozen=True)
class Join:
    epoch: int


@dataclass(frozen=True)
class Order:
    epoch: int
    command: Command


@dataclass(frozen=True)
class Stop:
    epoch: int
    explain: bool = False


class Wire:
    """To one host. What is under way while it is cut arrives when it is mended."""

    def __init__(self, delay_s: float) -> None:
        self.delay_s, self.cuts = delay_s, 0
        self.sessions: list[Session] = []

    @property
    def up(self) -> bool:
        return not self.cuts

    def changed(self) -> None:
        """It, or a process at one of its ends, is not what it was."""
        self.sessions = [one for one in self.sessions if any(end.open for end in one.ends)]
        for session in self.sessions:
            session.look()


class End:
    """One of the two ends of a session; `hear` and `lost` happen to its process."""

    def __init__(
        self, process: Process, hear: Callable[[object], None], lost: Callable[[str], None]
    ) -> None:
        self.process, self.hear, self.lost = process, hear, lost
        self.open = True
        self.coming: deque[tuple[float, object]] = deque()
        self.flowing = False
        self.silent_s: float | None = None  # since when nothing is heard of the other end


class Session:
    """Messages arrive in their order, or the session is lost; each end notices in its time."""

    def __init__(self, agenda: Agenda, wire: Wire, near: End, far: End) -> None:
        self.agenda, self.wire, self.ends = agenda, wire, (near, far)
        self.near, self.far = near, far
        wire.sessions.append(self)

    def send(self, to: End, message: object) -> None:
        if self._other(to).open:
            to.coming.append((self.agenda.now_s + self.wire.delay_s, message))
            self._flow(to)

    def close(self, end: End) -> None:
        """This side gives it up; the other is told as soon as that is possible."""
        if end.open:
            end.open = False
            self.look()

    def reset(self) -> None:
        """Something between the ends has forgotten it."""
        for end in self.ends:
            end.process.do(self._break, end, "connection reset")

    def look(self) -> None:
        for end in self.ends:
            self._flow(end)
            self._watch(end)

    def _other(self, end: End) -> End:
        return self.far if end is self.near else self.near

    def _flow(self, end: End) -> None:
        if end.coming and self.wire.up and not end.flowing:
            end.flowing = True
            self.agenda.after(max(0.0, end.coming[0][0] - self.agenda.now_s), self._arrive, end)

    def _arrive(self, end: End) -> None:
        end.flowing = False
        if not self.wire.up:
            return
        _, message = end.coming.popleft()
        if end.open:
            end.process.do(self._hear, end, message)
        self._flow(end)

    def _hear(self, end: End, message: object) -> None:
        if end.open:
            end.hear(message)

    def _watch(self, end: End) -> None:
        """Whether the other end has hung up, or is not heard of any more."""
        other = self._other(end)
        hung_up = not (other.open and other.process.alive)
        if end.open and hung_up and self.wire.up:
            self.agenda.after(self.wire.delay_s, end.process.do, self._hung_up, end)
        if self.wire.up and (hung_up or other.process.answers):
            end.silent_s = None
        elif end.silent_s is None:
            end.silent_s = self.agenda.now_s
            self.agenda.after(KEEPALIVE_S, end.process.do, self._missed, end, end.silent_s)

    def _hung_up(self, end: End) -> None:
        """Once all that was sent before has arrived."""
        if not self.wire.up:
            return
        if end.coming:
            self.agenda.after(self.wire.delay_s, end.process.do, self._hung_up, end)
        else:
            self._break(end, "closed")

    def _missed(self, end: End, since_s: float) -> None:
        if end.silent_s == since_s:
            self._break(end, "keepalive timeout")

    def _break(self, end: End, cause: str) -> None:
        if end.open:
            self.close(end)
            end.lost(cause)
