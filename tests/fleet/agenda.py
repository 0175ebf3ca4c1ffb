"""A clock that goes by what happens, and processes that may be stopped for a while."""

import heapq
from collections import deque
from collections.abc import Callable
from itertools import count


class Agenda:
    """What is to happen, in the order of its times; of equal ones in that of its entry."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self._entries: list[tuple[float, int, Callable[..., None], tuple[object, ...]]] = []
        self._numbers = count()

    def after(self, delay_s: float, do: Callable[..., None], *args: object) -> None:
        heapq.heappush(self._entries, (self.now_s + delay_s, next(self._numbers), do, args))

    def run(self, *, until: Callable[[], bool]) -> None:
        """Lets things happen; there is always something to come."""
        while not until():
            self.now_s, _, do, args = heapq.heappop(self._entries)
            do(*args)


class Process:
    """While it is stopped, what happens to it waits; once it is dead, nothing does."""

    def __init__(self) -> None:
        self.alive, self.stopped = True, False
        self._late: deque[tuple[Callable[..., None], tuple[object, ...]]] = deque()

    @property
    def answers(self) -> bool:
        return self.alive and not self.stopped

    def do(self, work: Callable[..., None], *args: object) -> None:
        if self.answers:
            work(*args)
        elif self.alive:
            self._late.append((work, args))

    def go_on(self) -> None:
        self.stopped = False
        while self._late and self.answers:
            work, args = self._late.popleft()
            work(*args)
