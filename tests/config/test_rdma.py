"""JACCL's device matrix in cluster.yaml: what it may say, and what does not fit together."""

from dataclasses import replace
from pathlib import Path

import pytest

from dsv4_tp.config import ClusterConfig, read_cluster
from dsv4_tp.config.rdma import given_rdma
from dsv4_tp.core import Backend, Rdma
from dsv4_tp.errors import ConfigError

TWO = "[null, rdma_en2]", "[rdma_en3, null]"


def cluster(tmp_path: Path, backend: str, *rows: str) -> ClusterConfig:
    file = tmp_path / "cluster.yaml"
    hosts = "\n".join(f"- {{name: {'abcdefghi'[n]}{row}}}" for n, row in enumerate(rows))
    file.write_text(f"version: 1\nmodel: {{path: demo}}\nbackend: {backend}\nhosts:\n{hosts}\n")
    return read_cluster(file)


def rows(*texts: str) -> list[str]:
    return [f", rdma: {text}" for text in texts]


def test_rows_that_join_each_two_are_a_mesh(tmp_path: Path):
    expected = Rdma(False, ((None, "rdma_en2"), ("rdma_en3", None)))
    for backend in ("jaccl", "auto"):
        assert given_rdma(cluster(tmp_path, backend, *rows(*TWO))) == expected
    assert given_rdma(cluster(tmp_path, "jaccl-ring", *rows(*TWO))) == replace(expected, ring=True)


def test_several_cables_of_a_pair_are_a_list(tmp_path: Path):
    given = given_rdma(cluster(tmp_path, "jaccl-ring", *rows("[null, [x, y]]", "[[z, w], null]")))
    assert given == Rdma(True, ((None, ("x", "y")), (("z", "w"), None)))


def test_without_rows_or_need_there_is_nothing(tmp_path: Path):
    assert given_rdma(cluster(tmp_path, "jaccl", "", "")) is None
    assert given_rdma(cluster(tmp_path, "jaccl", *rows("[null]"))) is None
    config = cluster(tmp_path, "ring", *rows(*TWO))
    assert (config.backend, given_rdma(config)) == (Backend.RING, None)


def test_a_ring_needs_no_more_than_its_neighbours(tmp_path: Path):
    texts = ["[null, a, null, b]", "[a, null, b, null]", "[null, a, null, b]", "[b, null, a, null]"]
    for backend in ("jaccl-ring", "auto"):
        assert given_rdma(cluster(tmp_path, backend, *rows(*texts))).ring
    with pytest.raises(ConfigError, match="`rdma` of rank 0 on a names no device towards rank 2 o"):
        given_rdma(cluster(tmp_path, "jaccl", *rows(*texts)))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([*rows("[null, x]"), ""], "rank 1 on b has no `rdma`; give one to every host, or to none"),
        (rows("[null, x, y]", "[x, null]"), "rank 0 on a names 3 ranks, and there are 2"),
        (rows("[null, x]", "[x, y]"), "`rdma` of rank 1 on b: y is towards itself; write null"),
        (rows("[null, x]", "[null, null]"), "of rank 1 on b names no device towards rank 0 on a"),
        (rows("[null, [x, x]]", "[y, null]"), "`rdma` of rank 0 on a names x twice, and a port h"),
        (
            rows("[null, [x, y]]", "[x, null]"),
            "names fewer devices of rank 1 on b towards rank 0 o",
        ),
    ],
)
def test_rows_that_do_not_fit_together_are_refused(tmp_path: Path, given, words: str):
    with pytest.raises(ConfigError) as caught:
        given_rdma(cluster(tmp_path, "jaccl", *given))
    assert words in str(caught.value)


def test_a_mesh_has_at_most_eight_ranks(tmp_path: Path):
    nine = [str([None if m == n else f"x{m}" for m in range(9)]) for n in range(9)]
    nine = [row.replace("None", "null") for row in nine]
    with pytest.raises(ConfigError, match="9 ranks; `jaccl` joins at most 8: use `jaccl-ring`"):
        given_rdma(cluster(tmp_path, "jaccl", *rows(*nine)))


@pytest.mark.parametrize("row", ["rdma_en2", "[]", "[1, null]", "[null, []]", "[{}, null]", "['']"])
def test_a_row_that_is_none_is_refused_with_its_line(tmp_path: Path, row: str):
    with pytest.raises(ConfigError, match=r":5: hosts\[0\].rdma: .*; expected for each rank the d"):
        cluster(tmp_path, "jaccl", *rows(row, "[x, null]"))
