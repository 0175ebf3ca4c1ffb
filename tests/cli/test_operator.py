"""What operators are shown, from what was told; without a cluster."""

import json
import tarfile

import pytest

from dsv4_tp.cli import bundle as bundle_module
from dsv4_tp.cli.events import event_line
from dsv4_tp.cli.logs import Lines
from dsv4_tp.cli.main import run
from dsv4_tp.cli.redact import scrub, scrubbed
from dsv4_tp.cli.top import pace_of, pace_page
from dsv4_tp.client import ClusterStatus, HostStatus, LogPart, RankStatus, Totals
from dsv4_tp.core import RankReport, Work
from dsv4_tp.history import (
    EVENTS,
    LAUNCH_FILE,
    Entry,
    Segments,
    Source,
    entry_to_json,
    new_launch,
    open_launch,
)

KEY = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIB\n-----END PRIVATE KEY-----"


def test_lines_are_whole_whatever_pieces_they_come_in():
    lines, shown = Lines(as_json=False), []
    for part in (
        LogPart("b", 2, 1, 0, b"one\ntw"),
        LogPart("a", data=b"agent's\n"),
        LogPart("b", 2, 1, 6, b"o\nthree"),
        LogPart("b", 2, 1, 50, b"five\nsi", missed=38),
        LogPart("c", error="its agent is gone"),
    ):
        shown += lines.add(part)
    assert [*shown, *lines.finish()] == [
        "b rank 1 epoch 2 | one",
        "a agent | agent's",
        "b rank 1 epoch 2 | two",
        "b rank 1 epoch 2 | ... 38 bytes are no longer kept ...",
        "b rank 1 epoch 2 | five",
        "c | ... nothing more from there: its agent is gone",
        "b rank 1 epoch 2 | si",
    ]


def test_lines_as_json_say_where_they_begin():
    lines = Lines(as_json=True)
    first, second = map(json.loads, lines.add(LogPart("b", 2, 1, 10, b"one\ntwo\n")))
    assert first == {"host": "b", "epoch": 2, "rank": 1, "offset": 10, "line": "one"}
    assert (second["offset"], second["line"]) == (14, "two")


def test_an_event_is_a_line_and_the_last_words_below_it():
    entry = Entry(7, 0.25, "rank-lost", 2, "rank 1 on b: gone", "b", 1, {"last_stderr": "x\ny"})
    first, *rest = event_line(entry).splitlines()
    assert first.endswith(".250    7 epoch 2 rank-lost         rank 1 on b: gone")
    assert rest == ["    x", "    y"]


def status(steps, tokens, epoch=1):
    report = RankReport(0, "decode", decode_steps=steps)
    totals = Totals(1, 2, {}, Work(), Work(tokens=tokens), 0.5, 0.75)
    hosts = (HostStatus("a", 0.0, (RankStatus(report, 1, 1, 0.125),)),)
    return ClusterStatus("lab", "ready", epoch, "/m", "float32", "1", "", 0, hosts, totals, "x")


def test_the_pace_is_what_was_done_between_two_looks():
    pace = pace_of(status(10, 100), status(30, 150), 2.0)
    assert (pace.decode_tokens_per_s, pace.ranks[0].steps_per_s) == (25.0, 10.0)
    page = pace_page(pace).splitlines()
    assert page[0] == "lab: ready, epoch 1; 1 running, 2 waiting; first token 0.50 s, p95 0.75 s"
    assert page[3].split()[:6] == ["a", "0", "decode", "0.1s", "30", "10.0"]
    assert pace_of(status(10, 100), status(2, 103, epoch=2), 1.0).ranks[0].steps_per_s == 0.0


@pytest.mark.parametrize(
    "secret",
    [
        KEY,
        KEY.replace("\n", "\\n"),
        KEY[:45],  # the log ends here
        "sk-abcdefghijklmnop123",
        "Bearer abc.def",
        "api_key=hunter2hunter2",
        "https://me:hunter2@example.org/",
        "0123456789abcdef" * 4,
        "Zm9vYmFyYmF6cXV4Zm9vYmFyYmF6cXV4Zm9vYmFy1234",
    ],
)
def test_secrets_are_removed_and_what_is_around_them_is_not(secret):
    found = scrub(f"before {secret}")
    assert "[removed]" in found
    assert found.startswith("before ")
    assert secret not in found
    assert "MC4C" not in found
    assert "hunter2" not in found


def test_what_is_no_secret_stays():
    for text in (
        "prompt: 22 tokens in 0.06 s; text: 80 tokens",
        '  File "/opt/homebrew/lib/python3.11/site-packages/dsv4_tp/engine/lockstep.py", line 12',
        "rank 1 on mac-b: killed by SIGKILL while decoding",
        "20260101T000000Z-lab",
    ):
        assert scrub(text) == text
    nested = {"plan": [{"token": "x", "tokens": 5, "password": ""}], "api_keys": ["one"]}
    assert scrubbed(nested) == {
        "plan": [{"token": "[removed]", "tokens": 5, "password": ""}],
        "api_keys": "[removed]",
    }


def test_the_bundle_of_a_cluster_that_is_down(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DSV4TP_STATE_DIR", str(tmp_path))
    launch = new_launch("lab", 1e9)
    with open_launch(tmp_path, launch) as folder:
        (folder / LAUNCH_FILE).write_text(json.dumps({"config": {"http": {"api_key": "hunter2"}}}))
        entry = Entry(1, 0.0, "rank-lost", 1, "gone", fields={"last_stderr": f"see {KEY}"})
        Segments(folder, EVENTS, limit_bytes=9999).write(f"{entry_to_json(entry)}\n".encode())
        (folder / "mac-b").mkdir()
        log = Segments(folder / "mac-b", Source(3, 1).stem, limit_bytes=9999)
        log.write(f"Authorization: Bearer hunter2\n{KEY}\nOops\n".encode())
    out = tmp_path / "x.tar.gz"
    assert run(["debug-bundle", "--name", "lab", "-o", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["missing"] == ["status and logs of other hosts: the cluster is down"]
    assert out.stat().st_mode & 0o777 == 0o600
    with tarfile.open(out) as tar:
        files = {name: tar.extractfile(name).read().decode() for name in tar.getnames()}
    root = f"dsv4-tp-{launch}/"
    assert {name.removeprefix(root) for name in files} == set(told["files"])
    assert files[f"{root}logs/mac-b/epoch-3.rank-1.log"].endswith("Oops\n")
    assert json.loads(files[f"{root}events.jsonl"])["kind"] == "rank-lost"
    everything = "".join(files.values())
    assert "hunter2" not in everything
    assert "MC4C" not in everything


def test_a_cluster_that_answers_nothing_is_named_in_its_bundle(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DSV4TP_STATE_DIR", str(tmp_path))
    monkeypatch.setattr(bundle_module, "_WITHIN_S", 1.0)
    out = tmp_path / "x.tar.gz"
    assert run(["debug-bundle", "--address", "127.0.0.1:1", "-o", str(out)]) == 0
    assert "left out: " in capsys.readouterr().err


def test_a_place_that_cannot_be_written_is_one_error(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DSV4TP_STATE_DIR", str(tmp_path))
    with open_launch(tmp_path, new_launch("lab", 1e9)) as folder:
        (folder / LAUNCH_FILE).write_text("{}")
    assert run(["debug-bundle", "-o", str(tmp_path / "nowhere" / "x")]) == 2
    assert "give another place" in capsys.readouterr().err
