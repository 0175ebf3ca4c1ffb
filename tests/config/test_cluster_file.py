"""cluster.yaml: what it may say, and the one line that says what is wrong with it."""

import sys
from pathlib import Path

import pytest

from dsv4_tp.config import (
    Http,
    Ports,
    PrefixCache,
    Restart,
    RestartPolicy,
    Timeouts,
    read_cluster,
)
from dsv4_tp.config.cluster import MetricsAlias
from dsv4_tp.core import AttentionSplit, Backend, CacheRows, DType, ExpertSplit, Kernels
from dsv4_tp.errors import ConfigError

SMALLEST = """\
version: 1
model: {path: demo}
hosts: [{name: localhost}, {name: localhost, weight: 3}]
"""

FULL = """\
version: 1
name: lab
model:
  path: models/flash
  dtype: bfloat16
hosts:
  - name: a
    ssh: user@mac-a.local
    address: 10.0.0.1
    fabric: 10.1.0.1
    python: /opt/venv/bin/python
    workdir: /Users/user
    model_path: /Volumes/fast/flash
    weight: 2
  - name: localhost
backend: jaccl-ring
ports: {control: 7420, data: 32323}
http:
  {bind: localhost, port: 8001, api_keys_file: keys, origins: ["https://a.example:8443"],
  metrics_alias: vllm}
split: {experts: whole, attention: whole}
timeouts: {fence_s: 2, step_s: 7.5}
prefill_chunk: 64
context: 4096
batch: 3
queue: 0
time_limit_s: 30
cache_rows: trained
kernels: metal
prefix_cache: {gb: 1.5, on_disk: true}
restart: {policy: never, backoff_s: [0.5, 8], most: 2, window_s: 60, replay_s: 9}
"""


def write(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "cluster.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def refusal(tmp_path: Path, text: str) -> str:
    file = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        read_cluster(file)
    return str(caught.value).removeprefix(f"{file}:")


def test_the_smallest_file_takes_every_default(tmp_path: Path):
    config = read_cluster(write(tmp_path, SMALLEST))
    assert config.weights == (1, 3)
    assert [host.name for host in config.hosts] == ["localhost"]
    assert config.ranks_on(config.hosts[0]) == (0, 1)
    assert config.hosts[0].is_local
    assert config.hosts[0].python == sys.executable
    assert (config.name, config.model.path, config.model.dtype) == (None, "demo", None)
    assert (config.ports, config.timeouts) == (Ports(), Timeouts())
    assert config.http == Http("127.0.0.1", None)
    assert (config.experts, config.attention) == (ExpertSplit.WIDTH, AttentionSplit.SPLIT)
    assert config.prefill_chunk is None
    assert (config.context, config.cache_rows) == (None, CacheRows.EXACT)
    assert (config.queue, config.time_limit_s) == (64, None)
    assert (config.kernels, config.restart) == (Kernels.PLAIN, Restart())


def test_a_full_file_is_read_to_the_last_key(tmp_path: Path):
    config = read_cluster(write(tmp_path, FULL))
    first, second = config.hosts
    assert (first.name, first.ssh, first.address) == ("a", "user@mac-a.local", "10.0.0.1")
    assert (first.data_ip, second.data_ip) == ("10.1.0.1", None)
    assert (first.python, first.workdir) == ("/opt/venv/bin/python", "/Users/user")
    assert not first.is_local
    assert second.is_local
    assert config.weights == (2, 1)
    assert config.name == "lab"
    assert config.model.dtype is DType.BFLOAT16
    assert (config.experts, config.attention) == (ExpertSplit.WHOLE, AttentionSplit.WHOLE)
    assert config.ports == Ports(control=7420, data=32323)
    origins = ("https://a.example:8443",)
    keys, alias = str(tmp_path / "keys"), MetricsAlias.VLLM
    assert config.http == Http("127.0.0.1", 8001, keys, origins, alias)
    assert config.timeouts == Timeouts(fence_s=2.0, step_s=7.5)
    assert (config.prefill_chunk, config.context) == (64, 4096)
    assert (config.cache_rows, config.kernels) == (CacheRows.TRAINED, Kernels.METAL)
    assert (config.batch, config.queue, config.time_limit_s) == (3, 0, 30.0)
    assert config.prefix_cache == PrefixCache(1_500_000_000, on_disk=True)
    assert config.backend is Backend.JACCL_RING
    assert config.restart == Restart(RestartPolicy.NEVER, (0.5, 8.0), 2, 60.0, 9.0)


def test_a_relative_model_is_beside_the_file_unless_a_host_has_its_own(tmp_path: Path):
    config = read_cluster(write(tmp_path, FULL))
    assert config.model_path_on(config.hosts[0]) == "/Volumes/fast/flash"
    assert config.model_path_on(config.hosts[1]) == str(tmp_path / "models/flash")


def test_the_bundled_model_is_every_hosts_own(tmp_path: Path):
    config = read_cluster(write(tmp_path, SMALLEST))
    assert config.model_path_on(config.hosts[0]) == "demo"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("weight: 3", "wieght: 3", "3: hosts[1].wieght: unknown key (did you mean weight?)"),
        ("weight: 3", "zzz: 3", "3: hosts[1].zzz: unknown key (known: name, ssh, address,"),
        ("weight: 3", "weight: 0", "3: hosts[1].weight: 0; expected an integer, 1 or more"),
        ("weight: 3", "weight: '3'", "3: hosts[1].weight: '3'; expected an integer, 1 or more"),
        ("weight: 3", "weight: true", "3: hosts[1].weight: True; expected an integer"),
        ("weight: 3", "weight: [3]", "3: hosts[1].weight: a list; expected one value"),
        ("weight: 3", "weight:", "3: hosts[1].weight: empty; expected one value"),
        ("weight: 3", "weight: 3, weight: 4", "3: hosts[1].weight: set twice, first in line 3"),
        ("weight: 3", "address: a.b", "3: hosts[1].address: 'a.b'; expected an IPv4 address"),
        ("weight: 3", "fabric: a", "3: hosts[1].fabric: 'a'; expected an IPv4 address"),
        ("weight: 3", "workdir: x", "3: hosts[1].workdir: 'x'; expected an absolute path"),
        ("weight: 3", "python: p", " hosts: localhost is described in two ways"),
        ("version: 1", "version: 2", "1: version: 2; expected 1"),
        ("version: 1", "verson: 1", "1: verson: unknown key (did you mean version?)"),
        ("version: 1\n", "", "1: version: missing; write `version: 1`"),
        ("path: demo", "dtype: auto", "2: model.path: missing; it names"),
        ("path: demo", "path: 3", "2: model.path: 3; expected text"),
        ("path: demo", "path: d, dtype: f16", "2: model.dtype: 'f16'; expected one of auto,"),
        ("{path: demo}", "demo", "2: model: 'demo'; expected `key: value`"),
        ("hosts: [", "hosts: [7, ", "3: hosts[0]: 7; expected `key: value`"),
        ("hosts: ", "name: 7\nhosts: ", "3: name: 7; expected text"),
        ("hosts: ", "name: a/b\nhosts: ", "3: name: 'a/b'; expected letters"),
        (
            "hosts: ",
            "backend: nccl\nhosts: ",
            "3: backend: 'nccl'; expected one of ring, j",
        ),
        ("hosts: ", "ports: {data: 70000}\nhosts: ", "3: ports.data: 70000; expected an integer"),
        ("hosts: ", "ports: {http: 1}\nhosts: ", "3: ports.http: unknown key"),
        (
            "hosts: ",
            "http: {bind: mac-a}\nhosts: ",
            "3: http.bind: 'mac-a'; expected an IPv4 address",
        ),
        ("hosts: ", "http: {origins: '*'}\nhosts: ", "3: http.origins: '*'; expected a list of t"),
        (
            "hosts: ",
            "http: {metrics_alias: x}\nhosts: ",
            "3: http.metrics_alias: 'x'; expected one",
        ),
        ("hosts: ", "http: {origins: [5]}\nhosts: ", "3: http.origins: a list; expected a list"),
        ("hosts: ", "http: {origins: ['*']}\nhosts: ", "3: http.origins: a list; expected origins"),
        ("hosts: ", "http: {origins: [http://a/]}\nhosts: ", "3: http.origins: a list; expected o"),
        (
            "hosts: ",
            "http: {port: 65536}\nhosts: ",
            "3: http.port: 65536; expected an integer from 0",
        ),
        ("hosts: ", "split: {experts: x}\nhosts: ", "3: split.experts: 'x'; expected one of width"),
        ("hosts: ", "split: {attention: no}\nhosts: ", "3: split.attention: "),
        ("hosts: ", "timeouts: {step_s: .nan}\nhosts: ", "3: timeouts.step_s: nan; expected"),
        ("hosts: ", "timeouts: {step_s: -1}\nhosts: ", "3: timeouts.step_s: -1; expected"),
        ("hosts: ", "timeouts: {beat_s: 9}\nhosts: ", "3: timeouts.beat_s: 9; expected fence_s"),
        ("hosts: ", "timeouts:\n  step: 1\nhosts: ", "4: timeouts.step: unknown key (did you mean"),
        ("hosts: ", "context: 4K\nhosts: ", "3: context: '4K'; expected an integer, 1 or more"),
        ("hosts: ", "prefill_chunk: 1.5\nhosts: ", "3: prefill_chunk: 1.5; expected an integer"),
        ("hosts: ", "batch: 65\nhosts: ", "3: batch: 65; expected an integer from 1 to 64"),
        ("hosts: ", "cache_rows: fp8\nhosts: ", "3: cache_rows: 'fp8'; expected one of exact, tr"),
        ("hosts: ", "kernels: cuda\nhosts: ", "3: kernels: 'cuda'; expected one of plain, metal"),
        ("hosts: ", "restart: {policy: always}\nhosts: ", "3: restart.policy: 'always'; expected"),
        ("hosts: ", "restart: {backoff: 1}\nhosts: ", "3: restart.backoff: unknown key (did you"),
        ("hosts: ", "restart: {backoff_s: 1}\nhosts: ", "3: restart.backoff_s: 1; expected two"),
        ("hosts: ", "restart: {backoff_s: [9, 1]}\nhosts: ", "3: restart.backoff_s: a list; expec"),
        ("hosts: ", "restart: {backoff_s: [0, 1]}\nhosts: ", "3: restart.backoff_s: a list; expec"),
        ("hosts: ", "restart: {most: 0}\nhosts: ", "3: restart.most: 0; expected an integer"),
        ("hosts: ", "prefix_cache: {gb: -1}\nhosts: ", "3: prefix_cache.gb: -1; expected a number"),
        ("hosts: ", "prefix_cache: {gb: .inf}\nhosts: ", "3: prefix_cache.gb: inf; expected a"),
        ("hosts: ", "prefix_cache: {on_disk: 1}\nhosts: ", "3: prefix_cache.on_disk: 1; expected"),
        ("hosts: ", "prefix_cache: {disk: 1}\nhosts: ", "3: prefix_cache.disk: unknown key (did"),
        ("hosts: ", "hosts: }\n", "3: not YAML"),
        ("{name: localhost}, {name: localhost, weight: 3}", "", " hosts: 0 ranks"),
        ("{name: localhost}", ", ".join(["{name: localhost}"] * 16), " hosts: 17 ranks"),
        ("{name: localhost}", "{name: b}, {name: b}", " hosts: b is listed twice; only localhost"),
        ("{name: localhost}", "{name: x, ssh: b}, {name: x, ssh: c}", " hosts: two hosts have one"),
        ("{name: localhost}", "{name: -oProxyCommand=x}", "3: hosts[0].name: '-o"),
    ],
)
def test_what_is_wrong_is_named_with_line_path_and_value(
    tmp_path: Path, old: str, new: str, message: str
):
    assert old in SMALLEST
    assert refusal(tmp_path, SMALLEST.replace(old, new, 1)).startswith(message)


@pytest.mark.parametrize(
    "text", ["", "# nothing\n", "- 1\n", "a: b: c\n", "a: *b\n", "a: !!int x\n"]
)
def test_a_file_that_is_no_cluster_is_refused(tmp_path: Path, text: str):
    assert refusal(tmp_path, text)


def test_a_file_that_is_not_there_or_not_text_is_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match="No such file"):
        read_cluster(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="directory"):
        read_cluster(tmp_path)
    (tmp_path / "bytes").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(ConfigError):
        read_cluster(tmp_path / "bytes")
