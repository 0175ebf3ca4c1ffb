"""Files of API keys: what is one, and that nobody else could have read it."""

import os
from pathlib import Path

import pytest

from dsv4_tp.config import Http
from dsv4_tp.config.http import check_http
from dsv4_tp.errors import ConfigError, PreflightError
from dsv4_tp.serving.door import door
from dsv4_tp.serving.keys import read_keys

A, B = "a" * 16, "sk-" + "B" * 40


def keys_in(tmp_path: Path, text: str, mode: int = 0o600) -> Path:
    file = tmp_path / "keys"
    file.write_text(text, encoding="utf-8")
    file.chmod(mode)
    return file


def test_one_a_line(tmp_path: Path):
    keys = read_keys(keys_in(tmp_path, f"# ours\n\n  {A} \r\n{B}"))
    assert [keys.know(said) for said in (A, B, "# ours", "", A[:-1], A.upper(), "ä")] == [
        *(True, True),
        *(False,) * 5,
    ]
    assert A not in repr(keys)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601])
def test_what_others_may_read_is_refused(tmp_path: Path, mode: int):
    with pytest.raises(PreflightError, match=r"others could read .*chmod 600"):
        read_keys(keys_in(tmp_path, A, mode))


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a file away")
def test_what_belongs_to_somebody_else_is_refused(tmp_path: Path):
    os.chown(keys_in(tmp_path, A), 12345, -1)
    with pytest.raises(PreflightError, match="others could read"):
        read_keys(tmp_path / "keys")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "keys: no key; make one: openssl"),
        ("# none\n", "keys: no key"),
        (f"{A}\nshort-secret\n", "keys:2: expected a key"),
        (f"{A} {B}", "keys:1: expected a key"),
        ("ä" * 20, "keys:1: expected a key"),
        ("x" * 257, "keys:1: expected a key"),
    ],
)
def test_what_is_no_key_is_named_and_not_shown(tmp_path: Path, text: str, says: str):
    with pytest.raises(PreflightError) as refused:
        read_keys(keys_in(tmp_path, text))
    assert says in str(refused.value)
    assert "secret" not in str(refused.value)


def test_a_file_that_is_not_there(tmp_path: Path):
    with pytest.raises(PreflightError, match="No such file"):
        read_keys(tmp_path / "keys")


@pytest.mark.parametrize("bind", ["0.0.0.0", "10.0.0.1"])
def test_from_elsewhere_keys_are_wanted(bind: str):
    with pytest.raises(ConfigError, match=r"--api-keys FILE.*umask 077"):
        check_http(Http(bind))
    check_http(Http(bind, api_keys_file="/keys"))
    check_http(Http("127.0.0.2"))


def test_a_door_has_its_keys_before_it_is_open(tmp_path: Path):
    with (
        pytest.raises(PreflightError, match="others could read"),
        door(Http(port=0, api_keys_file=str(keys_in(tmp_path, A, 0o644)))),
    ):
        raise AssertionError("nobody is let in")
    with pytest.raises(ConfigError, match="clients need keys"), door(Http("0.0.0.0", 0)):
        raise AssertionError("nobody is let in")
    with door(Http("0.0.0.0", 0, str(keys_in(tmp_path, A)))) as found:
        assert found.keys is not None
        assert found.keys.know(A)
        assert "0.0.0.0" not in found.url  # which nobody could call
