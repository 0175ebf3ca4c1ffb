"""A request may be left at any moment: the garbage collector ends streams where it likes."""

import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from dsv4_tp.coordinator.requests import Requests
from dsv4_tp.core import (
    Cancel,
    Command,
    Drain,
    FinishEvent,
    FinishReason,
    Request,
    Sampling,
    TokenEvent,
    Told,
)
from dsv4_tp.errors import BusyError, Dsv4Error
from dsv4_tp.library.desk import Desk

_OVER = Dsv4Error("it is over")
_LINES = 500  # more than any act has


def request(name: str) -> Request:
    return Request(name, (1,), 4, Sampling())


def end(name: str) -> FinishEvent:
    return FinishEvent(name, FinishReason.LENGTH, 1, 1, 0, 0, 0, 0)


class Served:
    """A desk, two streams that wait for their second event, and the commands so far."""

    def __init__(self) -> None:
        self.desk = Desk(Requests(batch=2, queue=0))
        self.commands: list[Command] = []
        self.one, self.two = self._stream("one"), self._stream("two")

    def _stream(self, name: str) -> Iterator[Told]:
        stream = self.desk.serve(request(name), None)
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(next, stream)
            self.commands += self.desk.wait()
            self.desk.emit(TokenEvent(name, 0, 7))
            assert first.result(10) == TokenEvent(name, 0, 7)
        return stream

    def rest(self) -> Sequence[Command]:
        self.commands += self.desk.poll()
        return self.commands


def at_line(number: int, leave: Callable[[], None], act: Callable[[], object]) -> bool:
    """Does `act`, with `leave` just before the line that is the `number`th; if there is one."""
    lines = 0

    def trace(frame: Any, event: str, argument: Any) -> Any:
        nonlocal lines
        lines += event == "line"
        if event == "line" and lines == number:
            leave()
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        act()
    finally:
        sys.settrace(before)
    return lines >= number


def acts(served: Served) -> dict[str, Callable[[], object]]:
    return {
        "token": lambda: served.desk.emit(TokenEvent("one", 1, 8)),
        "finish": lambda: served.desk.emit(end("one")),
        "cancel": lambda: (served.desk.cancel("two"), served.rest()),
        "end": lambda: served.desk.end(_OVER),
    }


@pytest.mark.parametrize("name", ["token", "finish", "cancel", "end"])
def test_a_stream_is_left_at_any_line(name: str):
    for number in range(1, _LINES):
        served = Served()
        if not at_line(number, served.one.close, acts(served)[name]):
            break
        served.desk.close()
        commands = served.rest()
        assert [command.number for command in commands] == list(range(1, len(commands) + 1))
        assert Cancel("two") in [command.action for command in commands]
    assert 1 < number < _LINES - 1


def test_one_too_many_is_refused_and_the_others_go_on():
    served = Served()
    with ThreadPoolExecutor(1) as pool:
        engine = pool.submit(served.desk.wait)
        with pytest.raises(BusyError, match="0 requests wait already"):
            next(served.desk.serve(request("three"), None))
        served.desk.cancel("two")
        (command,) = engine.result(10)
    assert command.action == Cancel("two")
    served.desk.emit(end("two"))
    assert [type(event) for event in served.two] == [FinishEvent]


def test_after_the_end_everybody_hears_why():
    served = Served()
    served.desk.close()
    assert isinstance(served.rest()[-1].action, Drain)
    served.desk.end(_OVER)
    for stream in (served.one, served.two, served.desk.serve(request("three"), None)):
        with pytest.raises(Dsv4Error, match="it is over"):
            next(stream)
