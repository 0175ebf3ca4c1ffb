"""`dsv4-tp chat` as somebody has it who types: on a terminal, with a cluster of two ranks."""

import json
import os
import re
import subprocess
import sys
import threading
from contextlib import contextmanager

import pytest

from tests.cluster.clusters import COMMAND, Launch, environment
from tests.cluster.test_chat import QUESTION

pytestmark = pytest.mark.cluster

ANSWER = "The code of the red door is 4182"
ON_TERMINAL = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))"
CTRL_C, CTRL_D = "\x03", "\x04"
WAITS = "; the answer comes when it is ready"
READY = "\x1b[?2004h"  # to be typed at: pasted text is to be marked as that
GREEDY = ("--temperature", 0)


class Typing:
    """A program on a terminal of its own, what it has shown, and hands."""

    def __init__(self, process: subprocess.Popen) -> None:
        self.process = process
        self._shown = b""
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        while some := os.read(self.process.stdout.fileno(), 4096):
            self._shown += some

    @property
    def shown(self) -> str:
        return self._shown.decode(errors="replace")

    def type(self, keys: str) -> int:
        """Type this; where what is shown from now on begins."""
        at = len(self.shown)
        self.process.stdin.write(keys.encode())
        self.process.stdin.flush()
        return at


@contextmanager
def on_terminal(cluster: Launch, *arguments):
    plain = {"TERM": "xterm-256color", "PROMPT_TOOLKIT_NO_CPR": "1"}
    env = environment(cluster.state_dir) | plain
    for name in ("NO_COLOR", "FORCE_COLOR"):
        env.pop(name, None)
    process = subprocess.Popen(
        [sys.executable, "-c", ON_TERMINAL, *COMMAND, "chat", *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=env,
    )
    try:
        yield Typing(process)
    finally:
        process.kill()
        process.communicate()


def test_a_chat(ranks):
    """Its texts end by their length only, so all that ends is ended by somebody."""
    cluster: Launch = ranks(restart={"policy": "on-failure", "backoff_s": [2, 5]}).wait_ready(
        ranks=2
    )
    line_by_line(cluster)
    it_is_measured(cluster)
    with on_terminal(cluster, *GREEDY) as chat:
        cluster.wait_for(lambda: READY in chat.shown, what="a place to type")
        it_thinks_and_answers_and_is_stopped(cluster, chat)
        an_answer_outlives_its_ranks(cluster, chat)
        chat.type(CTRL_D)
        assert chat.process.wait(20) == 0, chat.shown
    history = cluster.state_dir / "chat-history"
    assert QUESTION in history.read_text()
    assert history.stat().st_mode & 0o777 == 0o600


def line_by_line(cluster: Launch) -> None:
    done = subprocess.run(
        [*COMMAND, "chat", "--temperature", "0", "--max-tokens", "12"],
        input=f"/think off\n\n{QUESTION}\n",
        capture_output=True,
        text=True,
        timeout=60,
        env=environment(cluster.state_dir),
    )
    assert (done.returncode, done.stdout[: len(ANSWER)]) == (0, ANSWER), done.stderr
    assert "\x1b" not in done.stdout + done.stderr
    assert re.search(r"thinking: off\n12 tokens, .* tokens/s.*; ended by length\n$", done.stderr)


def it_is_measured(cluster: Launch) -> None:
    sweep = ("--batches", 2, "--prompts", 8, "--tokens", 6, "--rounds", 2)
    done = cluster.run("bench", *sweep, "--bandwidth", 1, "--json")
    assert done.returncode == 0, done.stderr
    (cell,) = json.loads(done.stdout)["cells"]
    assert (cell["requests"], cell["fed_tokens"], cell["generated_tokens"]) == (4, 32, 24)
    assert 0 < cell["first_token_s"]["p50"] <= cell["first_token_s"]["most"]
    one, other = cell["roofline"]["rank_bytes"]
    assert one == other > 0
    assert cell["roofline"]["tokens_per_s"] == 2 * 1e9 / 2 / one  # two ranks share it


def it_thinks_and_answers_and_is_stopped(cluster: Launch, chat: Typing) -> None:
    at = chat.type(f"{QUESTION}\r")
    cluster.wait_for(lambda: f"\n{ANSWER}" in chat.shown[at:], what="an answer")
    thought, _, _ = chat.shown[at:].partition(f"\n{ANSWER}")
    assert "\x1b[2mThe" in thought
    stop(cluster, chat)


def an_answer_outlives_its_ranks(cluster: Launch, chat: Typing) -> None:
    at = chat.type("/think off\r")
    cluster.wait_for(lambda: "thinking: off" in chat.shown[at:], what="an order followed")
    at = chat.type("Tell a story.\r")
    cluster.wait_for(lambda: len(chat.shown) > at + 300, what="a story")
    cluster.kill(cluster.workers()[1])
    cluster.wait_for(lambda: WAITS in chat.shown, what="a word about it")
    cluster.wait_for(lambda: "the cluster is back" in chat.shown, what="ranks")
    at = len(chat.shown)
    cluster.wait_for(lambda: len(chat.shown) > at + 100, what="the rest of the story")
    stop(cluster, chat)


def stop(cluster: Launch, chat: Typing) -> None:
    """Ctrl-C ends the answer on the ranks, and nothing else."""
    assert cluster.status()["totals"]["running"] == 1
    at = chat.type(CTRL_C)
    cluster.wait_for(lambda: "stopped" in chat.shown[at:], what="a stop")
    cluster.wait_for(lambda: cluster.status()["totals"]["running"] == 0, what="idle ranks")
    cluster.wait_for(lambda: READY in chat.shown[at:], what="a place to type")
