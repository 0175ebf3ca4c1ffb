"""Evidence as it is collected: real sockets, a real examiner, and Macs as the fixtures are."""

import asyncio
import socket
import threading
import time
from dataclasses import asdict, replace

import psutil
import pytest

from dsv4_tp.cli.doctor import _record
from dsv4_tp.config import ModelConfig, cluster_of_hosts
from dsv4_tp.doctor.dial import dial, listen
from dsv4_tp.doctor.evidence import REACHED, STRANGER, Refusal
from dsv4_tp.doctor.examine import fabric_of
from dsv4_tp.doctor.gather import gather
from dsv4_tp.doctor.session import NoSession, open_session
from dsv4_tp.errors import DeadlineError, PreflightError
from tests.doctor.cases import FACTS, config_of, two_macs
from tests.macs.recorded import HOSTS, said_by

HERE = cluster_of_hosts("localhost", ModelConfig("demo")).hosts[0]


def test_a_listener_is_reached_and_told_from_others():
    port = listen("127.0.0.1", 0, "word")
    assert dial("127.0.0.1", port, "word", 5).outcome == REACHED
    assert dial("127.0.0.1", port, "else", 5).outcome == STRANGER


def test_what_refuses_and_what_is_silent_are_told_apart():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        assert dial("127.0.0.1", port, "word", 0.2).outcome == "ETIMEDOUT"
    assert dial("127.0.0.1", port, "word", 5).outcome == "ECONNREFUSED"


def test_another_service_is_a_stranger():
    with socket.create_server(("127.0.0.1", 0)) as other:

        def greet():
            connection, _ = other.accept()
            connection.sendall(b"220 mail")
            connection.close()

        threading.Thread(target=greet).start()
        found = dial("127.0.0.1", other.getsockname()[1], "a longer word", 5)
    assert found.outcome in (STRANGER, "ECONNRESET")


def test_an_examiner_answers_and_leaves_nothing():
    async def talk():
        async with open_session(HERE, start_s=60) as session:
            (process,) = (p for p in psutil.Process().children() if "examine" in p.cmdline())
            words = await session.ask("facts", patience_s=60, model="/no/such")
            heard = await session.ask("listen", patience_s=30, address="192.0.2.1", port=0, word="")
            with pytest.raises(
                DeadlineError, match="localhost: it broke off during `no`: KeyError"
            ):
                await session.ask("no", patience_s=30)
            return process, words, heard

    process, words, heard = asyncio.run(talk())
    assert words["model_problems"] == [
        "cannot read /no/such/config.json: No such file or directory"
    ]
    assert set(words) == set(asdict(FACTS))
    assert "annot assign requested address" in heard["error"]
    assert not process.is_running()


def first_children(process: psutil.Process) -> list[psutil.Process]:
    ends_s = time.monotonic() + 60
    while not (found := process.children()):
        assert time.monotonic() < ends_s
        time.sleep(0.05)
    return found


def test_ranks_of_a_trial_end_with_whoever_asked():
    async def ask_and_leave():
        async with open_session(HERE, start_s=60) as session:
            (process,) = (p for p in psutil.Process().children() if "examine" in p.cmdline())
            lonely = {"ranks": [0], "addresses": ["127.0.0.1:1", "127.0.0.1:2"], "nonce": ""}
            lonely["rdma"] = None
            asked = asyncio.create_task(session.ask("meet", patience_s=60, deadline_s=60, **lonely))
            ranks = await asyncio.to_thread(first_children, process)
            asked.cancel()
        return [process, *ranks]

    processes = asyncio.run(ask_and_leave())
    psutil.wait_procs(processes, timeout=5)
    assert [process for process in processes if process.is_running()] == []


def test_an_interpreter_without_the_package_is_no_fault_of_ssh():
    async def talk():
        async with open_session(replace(HERE, python="/bin/false"), start_s=60):
            pass

    with pytest.raises(NoSession) as caught:
        asyncio.run(talk())
    assert (caught.value.refusal.by_ssh, str(caught.value)) == (False, "it said nothing")


class Recorded:
    """The examiner of a Mac, as far as its tools go."""

    def __init__(self, host: str) -> None:
        self.host = host

    async def ask(self, op: str, *, patience_s: float, **words):
        match op:
            case "facts":
                return asdict(FACTS)
            case "tool":
                return {"text": said_by(self.host).get(words["name"])}
            case "clock":
                return {"time_s": 0.0}
            case "ports":
                return {"problems": [], "free": [5001]}
            case "listen":
                return {"port": 5000}
            case "dial":
                return {"where": f"{words['address']}:5000", "outcome": REACHED, "seconds": 0.1}


def test_a_matrix_is_of_macs_that_answer():
    found = dict(two_macs().found)
    assert fabric_of(found).matrix == ((None, "rdma_en2"), ("rdma_en2", None))
    for flaw, words in (({"mac": None}, "no Mac"), ({"refusal": Refusal(True, "lost")}, "lost")):
        with pytest.raises(PreflightError, match=f"mac-b: {words}"):
            fabric_of(found | {"mac-b": replace(found["mac-b"], **flaw)})


def test_macs_are_read_and_recorded(tmp_path, monkeypatch):
    monkeypatch.setattr("dsv4_tp.doctor.gather.dial", lambda *_: None)
    config = config_of(*HOSTS)
    sessions = {host: Recorded(host) for host in HOSTS}
    case = asyncio.run(gather(config, sessions, {}, lambda devices: dict.fromkeys(HOSTS, 1)))
    assert case.macs == two_macs().macs
    assert list(case.found["mac-a"].paths) == ["mac-b"]
    _record(case, tmp_path)
    kept = {file.stem: file.read_text() for file in (tmp_path / "mac-b").iterdir()}
    assert kept == said_by("mac-b")
    assert case.needs == {"mac-a": 1, "mac-b": 1}
