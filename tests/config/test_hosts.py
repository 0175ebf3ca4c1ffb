"""--hosts and --split: the short forms."""

import pytest

from dsv4_tp.config import (
    Http,
    ModelConfig,
    check_name,
    cluster_of_hosts,
    parse_http,
    parse_weights,
)
from dsv4_tp.errors import ConfigError

MODEL = ModelConfig("demo")


def test_one_rank_for_each_mention_and_one_host_for_this_machine():
    config = cluster_of_hosts("localhost, user@b,127.0.0.1", MODEL)
    assert [host.ssh for host in config.hosts] == ["localhost", "user@b"]
    assert config.ranks_on(config.hosts[0]) == (0, 2)
    assert config.weights == (1, 1, 1)
    assert config.model is MODEL


@pytest.mark.parametrize("hosts", ["", "a,", ",", "a,,b"])
def test_a_host_without_a_name_is_refused(hosts: str):
    with pytest.raises(ConfigError, match="a host has no name"):
        cluster_of_hosts(hosts, MODEL)


def test_a_remote_host_twice_is_refused():
    with pytest.raises(ConfigError, match="b is listed twice"):
        cluster_of_hosts("b,localhost,b", MODEL)


def test_a_host_cannot_smuggle_an_ssh_option():
    with pytest.raises(ConfigError, match="dash"):
        cluster_of_hosts("-oProxyCommand=x", MODEL)


def test_sixteen_ranks_are_the_most():
    assert len(cluster_of_hosts(",".join(["localhost"] * 16), MODEL).ranks) == 16
    with pytest.raises(ConfigError, match="17 ranks"):
        cluster_of_hosts(",".join(["localhost"] * 17), MODEL)


def test_weights_are_positive_integers():
    assert parse_weights("2:3:3") == (2, 3, 3)


@pytest.mark.parametrize("text", ["", "3:", "3:x", "0:1", "-1:2", "1.5:1", "²:1", "3 5"])
def test_other_weights_are_refused(text: str):
    with pytest.raises(ConfigError, match="--split"):
        parse_weights(text)


@pytest.mark.parametrize("name", ["", ".x", "a/b", "../x", "a b", "x" * 64])
def test_a_name_that_is_no_file_name_is_refused(name: str):
    with pytest.raises(ConfigError, match="name"):
        check_name(name)


@pytest.mark.parametrize("text", ["8001", "localhost:8001", "127.0.0.1:8001"])
def test_where_http_comes_in(text: str):
    kept = Http("10.0.0.1", 9, "/keys", ("https://a.example",))
    assert parse_http(text, kept) == Http("127.0.0.1", 8001, *("/keys", ("https://a.example",)))


def test_http_may_come_in_from_elsewhere():
    assert parse_http("0.0.0.0:0", Http()) == Http("0.0.0.0", 0)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "expected [HOST:]PORT"),
        ("x", "expected [HOST:]PORT"),
        ("65536", "expected [HOST:]PORT"),
        ("localhost:", "expected [HOST:]PORT"),
        (":8000", "expected HOST to be an IPv4 address"),
        ("mac-a.local:8000", "expected HOST to be an IPv4 address"),
    ],
)
def test_where_http_may_not_come_in(text: str, says: str):
    with pytest.raises(ConfigError) as refused:
        parse_http(text, Http())
    assert f"--http {text!r}: " in str(refused.value)
    assert says in str(refused.value)
