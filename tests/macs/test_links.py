"""Cables and device matrices: both ends of a pair always name the same cable."""

from dataclasses import replace
from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dsv4_tp.core import Backend
from dsv4_tp.errors import PreflightError
from dsv4_tp.macs.links import Cable, End, choose_fabric, find_cables, rdma_between
from tests.macs.recorded import HOSTS, macs


def cable(a: str, b: str, number: int = 2, gbps: int = 80) -> Cable:
    return Cable((End(a, f"en{number}"), End(b, f"en{number}")), gbps)


def test_one_cable_between_two_macs():
    (found,) = find_cables(macs())
    assert found == Cable((End("mac-a", "en2"), End("mac-b", "en2")), 80)
    fabric = choose_fabric(HOSTS, [found])
    assert (fabric.backend, fabric.hosts) == ("jaccl", HOSTS)
    assert fabric.matrix == ((None, "rdma_en2"), ("rdma_en2", None))


def test_of_two_crossed_cables_both_ends_take_the_same():
    crossed = macs("two-crossed-cables")
    found = find_cables(crossed)
    assert [c.ends for c in found] == [
        (End("mac-a", "en2"), End("mac-b", "en3")),
        (End("mac-a", "en3"), End("mac-b", "en2")),
    ]
    # Each side's first port, which is what taking one for each direction would give, is no cable.
    firsts = tuple(End(host, crossed[host].interface_of(crossed[host].ports[0])) for host in HOSTS)
    assert firsts not in [c.ends for c in found]
    assert choose_fabric(HOSTS, found).matrix == ((None, "rdma_en2"), ("rdma_en3", None))


@pytest.mark.parametrize(
    ("case", "flaw"),
    [
        ("port-down", "rdma_en2 on mac-b is PORT_DOWN"),
        ("no-ipv4-gid", "rdma_en2 on mac-a has no IPv4-mapped GID"),
        ("rdma-disabled", "mac-a has no rdma_en2"),
        ("thunderbolt-4", "the link is of 40 Gb/s, RDMA needs Thunderbolt 5"),
    ],
)
def test_a_cable_of_no_use_is_named_with_the_reason(case: str, flaw: str):
    with pytest.raises(PreflightError, match=flaw) as caught:
        choose_fabric(HOSTS, find_cables(macs(case)))
    assert "en2 on mac-a - en2 on mac-b: " in str(caught.value)


def test_a_cable_that_one_end_does_not_see_is_none():
    both = macs()
    blind = replace(both["mac-b"], ports=tuple(replace(p, peers=()) for p in both["mac-b"].ports))
    with pytest.raises(PreflightError, match="only one of its ends sees the other"):
        choose_fabric(HOSTS, find_cables(both | {"mac-b": blind}))


def test_ports_that_cannot_be_told_apart_are_refused():
    both = macs()
    with pytest.raises(PreflightError, match="en2 on mac-a, en2 on mac-b: one Thunderbolt domain"):
        find_cables(both | {"mac-b": both["mac-a"]})


def test_missing_cables_are_named():
    with pytest.raises(PreflightError) as caught:
        choose_fabric("abcd", [cable("a", "b"), cable("b", "c"), cable("a", "c", 3)])
    assert str(caught.value) == (
        "no ring of RDMA devices through a, b, c, d: no cable between c and d; "
        "no cable between a and d"
    )


def test_a_ring_in_another_order_is_found():
    joined = [cable(*pair, n) for n, pair in enumerate(("ac", "cb", "bd", "ad"))]
    fabric = choose_fabric("abcd", joined)
    assert (fabric.backend, fabric.hosts) == ("jaccl-ring", tuple("acbd"))
    assert fabric.matrix[0] == (None, "rdma_en0", None, "rdma_en3")
    assert fabric.matrix[2] == (None, "rdma_en1", None, "rdma_en2")


def test_a_ring_takes_as_many_cables_of_a_pair_as_every_pair_has():
    pairs = ("ab", "bc", "cd", "ad")
    joined = [cable(*pair, 10 * copy + n) for n, pair in enumerate(pairs) for copy in (1, 2)]
    row = choose_fabric("abcd", joined).matrix[0]
    assert row == (None, ("rdma_en10", "rdma_en20"), None, ("rdma_en13", "rdma_en23"))
    row = choose_fabric("abcd", joined[1:]).matrix[0]
    assert row == (None, "rdma_en20", None, "rdma_en13")


def test_ranks_are_joined_in_the_order_in_which_they_are_listed():
    pairs = ("ab", "bc", "cd", "ad")
    joined = [cable(*pair, n) for n, pair in enumerate(pairs)]
    around = rdma_between(Backend.AUTO, "abcd", joined)
    assert (around.ring, around.matrix[0]) == (True, (None, "rdma_en0", None, "rdma_en3"))
    with pytest.raises(PreflightError) as caught:
        rdma_between(Backend.JACCL_RING, "acbd", joined)
    assert str(caught.value) == (
        "no ring of RDMA devices through a, c, b, d: no cable between a and c; "
        "no cable between b and d; there is a ring in this order: a, b, c, d"
    )
    with pytest.raises(PreflightError, match="between a and c; no cable between b and d"):
        rdma_between(Backend.JACCL, "abcd", joined)


def test_a_mesh_of_more_hosts_than_jaccl_takes_is_a_ring():
    hosts = "abcdefghi"
    joined = [cable(*pair, n) for n, pair in enumerate(combinations(hosts, 2))]
    assert not rdma_between(Backend.AUTO, hosts[:8], joined).ring
    assert rdma_between(Backend.AUTO, hosts, joined).ring
    with pytest.raises(PreflightError, match="it joins at most 8 hosts"):
        rdma_between(Backend.JACCL, hosts, joined)


@st.composite
def cablings(draw: st.DrawFn) -> tuple[str, list[Cable]]:
    """Up to six hosts with up to three cables between each two, on ports of any numbers."""
    hosts = "abcdef"[: draw(st.integers(2, 6))]
    free = {host: draw(st.permutations(range(20))) for host in hosts}
    found = []
    for a, b in combinations(hosts, 2):
        for _ in range(draw(st.integers(0, 3))):
            ends = (End(a, f"en{free[a].pop()}"), End(b, f"en{free[b].pop()}"))
            found.append(Cable(ends, draw(st.sampled_from([80, 120]))))
    return hosts, found


@settings(max_examples=50, deadline=None)
@given(cablings())
def test_both_cells_of_a_pair_are_the_ends_of_the_same_cables(cabling):
    hosts, found = cabling
    try:
        fabric = choose_fabric(hosts, found)
    except PreflightError:
        assert len({c.pair for c in found}) < len(list(combinations(hosts, 2)))
        return
    ends = {frozenset(c.ends) for c in found}
    size = len(hosts)
    assert sorted(fabric.hosts) == sorted(hosts)
    for i, j in combinations(range(size), 2):
        ours, theirs = fabric.matrix[i][j], fabric.matrix[j][i]
        neighbours = j - i in (1, size - 1)
        assert (ours is None) == (theirs is None)
        assert ours is not None or (fabric.backend == "jaccl-ring" and not neighbours)
        for one, other in zip(many(ours), many(theirs), strict=True):
            mine = End(fabric.hosts[i], one.removeprefix("rdma_"))
            assert frozenset((mine, End(fabric.hosts[j], other.removeprefix("rdma_")))) in ends
    assert all(fabric.matrix[i][i] is None for i in range(size))


def many(cell: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return (cell,) if isinstance(cell, str) else cell or ()
