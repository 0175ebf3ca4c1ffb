"""Answers as they are heard and shown, from a server that says what it is told to."""

import asyncio
import io
import json

import pytest

from dsv4_tp.cli.chat import heard as module
from dsv4_tp.cli.chat.heard import Heard, pieces
from dsv4_tp.cli.chat.lines import piped, write_own
from dsv4_tp.cli.chat.run import Chat
from dsv4_tp.cli.chat.talk import Talk, Think, Turn
from dsv4_tp.cli.chat.voices import Lines, Plain, Terminal, visible
from dsv4_tp.client import Ask, Finish, Piece, Stats
from dsv4_tp.core import FinishReason
from dsv4_tp.errors import ConfigError, NotReadyError
from dsv4_tp.v1 import cluster_pb2 as pb
from dsv4_tp.v1 import types_pb2
from tests.client.test_client import STATS, Scripted, with_client

FINISH = Finish(FinishReason.STOP, Stats(3, 2, 0.5, 0.25, 4.0, 9.0, 1024.0, first_token_s=0.5))
END = pb.GenerateResponse(finish=pb.Finish(reason=types_pb2.FINISH_REASON_STOP, stats=STATS))


class Kept:
    """A voice that remembers."""

    def __init__(self):
        self.words = []

    def thought(self, text):
        self.words.append(("thought", text))

    def said(self, text):
        self.words.append(("said", text))

    def note(self, text):
        self.words.append(("note", text))


def test_thinking_and_answer_are_told_apart():
    voice = Kept()
    heard = Heard(Talk(), "Who?", voice)
    for text in ("Hm", ".</thi", "nk>Le", "na <b>"):
        heard.add(Piece((1,), text, None))
    assert heard.turn == Turn("Who?", "Lena <b>", "Hm.")
    heard.add(Piece((), ".", FINISH))
    assert heard.turn == Turn("Who?", "Lena <b>.", "Hm.", FINISH)
    assert [kind for kind, _ in voice.words] == ["thought", "thought", "said", "said", "said"]


def test_without_thinking_all_is_answer():
    heard = Heard(Talk(think=Think.OFF), "Who?", Kept())
    heard.add(Piece((1,), "Lena.", FINISH))
    assert heard.turn.answer == "Lena."


class Away(Scripted):
    """A cluster that is away at first, pauses in the midst of an answer, or is about to end."""

    def __init__(self, *phases, refuses=1):
        super().__init__()
        self.phases = list(phases)
        self.refuses = refuses
        self.went_on = asyncio.Event()

    async def Generate(self, request, context):
        if self.refuses:
            self.refuses -= 1
            raise NotReadyError("no ranks")
        yield pb.GenerateResponse(text="He")
        await self.went_on.wait()
        yield pb.GenerateResponse(text="llo")
        yield END

    async def Status(self, request, context):
        phase = self.phases.pop(0) if len(self.phases) > 1 else self.phases[0]
        if phase == "ready" and len(self.phases) == 1:
            self.went_on.set()
        return pb.StatusResponse(name="lab", phase=phase, failure="rank 1 was lost")


def listen(service):
    notes, texts = [], []

    async def work(client):
        told = pieces(client, Ask("x"), notes.append)
        texts.extend([piece.text async for piece in told])

    with_client(service, work)
    return notes, "".join(texts)


@pytest.fixture(autouse=True)
def _soon(monkeypatch):
    monkeypatch.setattr(module, "_RETRY_S", 0.01)
    monkeypatch.setattr(module, "_QUIET_S", 0.05)


def test_a_cluster_that_is_away_is_waited_for_and_it_says_so_once():
    waits = "the answer comes when it is ready (rank 1 was lost)"
    phases = ("recovering", "loading", "ready", "ready", "recovering", "recovering", "ready")
    notes, text = listen(Away(*phases, refuses=2))
    assert text == "Hello"
    assert notes == [
        f"the cluster is recovering; {waits}",
        f"the cluster is loading; {waits}",
        "the cluster is back",
        f"the cluster is recovering; {waits}",
        "the cluster is back",
    ]


def test_a_cluster_that_came_back_between_two_looks_is_told_of():
    class Soon(Away):
        """Away when looked at, and there before it is looked at again."""

        async def Status(self, request, context):
            self.went_on.set()
            return await super().Status(request, context)

    notes, text = listen(Soon("recovering", refuses=0))
    waits = "the answer comes when it is ready (rank 1 was lost)"
    assert (text, notes) == (
        "Hello",
        [f"the cluster is recovering; {waits}", "the cluster is back"],
    )


def test_a_cluster_that_ends_is_not_waited_for():
    with pytest.raises(NotReadyError, match="no ranks"):
        listen(Away("draining"))


def test_stopping_an_answer_cancels_it():
    left = asyncio.Event()

    class Endless(Scripted):
        async def Generate(self, request, context):
            try:
                yield pb.GenerateResponse(text="He")
                await asyncio.sleep(60)
            finally:
                left.set()

        async def Status(self, request, context):
            return pb.StatusResponse(name="lab", phase="ready")

    async def work(client):
        async def hear():
            async for _ in pieces(client, Ask("x"), print):
                begun.set()

        begun = asyncio.Event()
        task = asyncio.create_task(hear())
        await asyncio.wait_for(begun.wait(), 10)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.wait_for(left.wait(), 10)

    with_client(Endless(), work)


def shown(stage, capsys):
    stage.thought("Hm.")
    stage.said("Le")
    stage.note("the cluster is back")
    stage.said("na.")
    stage.end(Turn("Who?", "Lena.", "Hm.", FINISH))
    return capsys.readouterr()


COST = "2 tokens, 4.0 tokens/s, the first after 0.50 s"


def test_plain_text_is_the_answer_alone(capsys):
    out, err = shown(Plain(), capsys)
    assert (out, err) == ("Lena.\n", f"the cluster is back\n{COST}\n")


def test_a_line_of_json_is_a_whole_turn(capsys):
    out, err = shown(Lines(), capsys)
    told = json.loads(out)
    assert (told["answer"], told["reasoning"], told["finish_reason"]) == ("Lena.", "Hm.", "stop")
    assert told["stats"]["tokens_per_s"] == 4.0
    assert err == "the cluster is back\n"


def test_a_terminal_dims_what_is_not_the_answer(capsys, monkeypatch):
    for name in ("NO_COLOR", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("FORCE_COLOR", "1")
    out, _ = shown(Terminal(), capsys)
    dim, end = "\x1b[2m", "\x1b[0m"
    assert out.startswith(f"{dim}Hm.{end}\n\nLe\n{dim}the cluster is back")
    assert out.endswith(f"na.\n{dim}{COST}{end}\n")


def test_without_colours_words_say_what_is_thought(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    out, _ = shown(Terminal(), capsys)
    assert out == f"thinking: Hm.\n\nanswer: Le\nthe cluster is back\nna.\n{COST}\n"


def test_a_text_gives_no_orders_to_a_terminal():
    assert visible("a\x1b[2J\x07\x9b1m\tb\r\n") == "a\ufffd[2J\ufffd\ufffd1m\tb\ufffd\n"


class Staged(Kept):
    def end(self, turn):
        self.words.append(("end", turn))


def test_what_goes_wrong_is_told_and_ends_nothing(tmp_path):
    def nowhere():
        raise ConfigError("no cluster is running on this machine")

    stage = Staged()
    chat = Chat(nowhere, Talk(), {}, stage)
    lines = ["Who?", "/again", "/foo", f"/save {tmp_path}/a.json", f"/save {tmp_path}/a.json"]
    assert all(map(chat.take_from_somebody, lines))
    notes = [text for _, text in stage.words]
    assert notes[:2] == ["error: no cluster is running on this machine"] * 2
    assert notes[2].startswith("error: /foo: no such command")
    assert notes[3] == f"saved in {tmp_path}/a.json"
    assert notes[4].endswith("give another name")
    assert not chat.take_from_somebody("/exit")
    with pytest.raises(ConfigError, match="no cluster"):
        chat.take("Who?")


def test_what_is_saved_is_for_its_user_and_replaces_nothing(tmp_path):
    write_own(tmp_path / "talk.json", "x")
    assert (tmp_path / "talk.json").stat().st_mode & 0o777 == 0o600
    with pytest.raises(ConfigError, match=r"talk.json: File exists; give another name"):
        write_own(tmp_path / "talk.json", "y")
    assert (tmp_path / "talk.json").read_text() == "x"


def test_lines_that_are_no_text_are_refused(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"a\n\xff\n"), encoding="utf-8"))
    with pytest.raises(ConfigError, match="stdin: not UTF-8"):
        list(piped())
