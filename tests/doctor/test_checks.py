"""Every fault on the right rung of the right host, with a remedy, and nothing else beside it."""

from dataclasses import replace

import pytest

from dsv4_tp.config import Ports as PinnedPorts
from dsv4_tp.core import Backend
from dsv4_tp.doctor.evidence import STRANGER, Case, Clock, Dial, Ports, Refusal
from dsv4_tp.doctor.ladder import Row, State, climb
from dsv4_tp.doctor.rungs import LADDER
from dsv4_tp.macs.mac import read_mac
from tests.doctor.cases import FACTS, GB, linux, two_macs, with_facts, with_found

OK, WARN, FAIL, SKIPPED = State.OK, State.WARN, State.FAIL, State.SKIPPED


TAKEN = Ports(("cannot listen on 10.0.0.2:4001: Address already in use",), (5001,))


def pinned(case: Case) -> Case:
    return replace(case, config=replace(case.config, ports=PinnedPorts(control=7420, data=4000)))


def odd(case) -> list[tuple[str, str, State]]:
    """The rows that are not ok."""
    return [(row.id, row.host, row.state) for row in climb(case, LADDER) if row.state is not OK]


def row(case, rung: str, host: str = "") -> Row:
    (found,) = (r for r in climb(case, LADDER) if (r.id, r.host) == (rung, host))
    return found


def test_two_healthy_macs():
    assert odd(two_macs()) == []
    rows = climb(two_macs(), LADDER)
    assert [r.id for r in rows if r.host == "mac-a"] == [x.id for x in LADDER if not x.whole]
    assert row(two_macs(), "links").evidence == "jaccl: mac-a [- rdma_en2]; mac-b [rdma_en2 -]"
    seen = row(two_macs(), "ring").evidence
    assert "equal bits; 50 sums of 16,384 bytes: median 40 µs" in seen
    assert ", 70 µs each within a step; " in seen


def test_two_crossed_cables_are_no_fault():
    case = two_macs("two-crossed-cables")
    assert odd(case) == []
    assert row(case, "links").evidence == "jaccl: mac-a [- rdma_en2]; mac-b [rdma_en3 -]"
    seen = [r.evidence for r in climb(case, LADDER) if (r.id, r.host) == ("thunderbolt", "mac-b")]
    assert seen == ["en3 to en2 on mac-a: 80 Gb/s", "en2 to en3 on mac-a: 80 Gb/s"]


@pytest.mark.parametrize(
    ("case", "expected", "words"),
    [
        ("port-down", [("rdma", "mac-b"), ("links", "")], "rdma_en2: PORT_DOWN"),
        ("no-ipv4-gid", [("rdma", "mac-a"), ("links", "")], "no IPv4-mapped GID"),
        ("bridge-up", [("bridge", "mac-a")], "bridge0 is up with en2, en3, en4"),
        ("rdma-disabled", [("rdma", "mac-a"), ("links", "")], "rdma_ctl status: disabled"),
        ("stranded-memory", [("stranded", "mac-b")], "102.4 GB wired; the largest program is"),
        ("sleep-on", [("sleep", "mac-a")], "it sleeps after 1 min without use"),
        ("version-skew", [("versions", "mac-b")], "macOS 26.5 (25F80)"),
    ],
)
def test_what_the_tools_show_is_a_warning_at_its_place(case: str, expected, words: str):
    assert odd(two_macs(case)) == [(*place, WARN) for place in expected]
    found = row(two_macs(case), *expected[0])
    assert words in found.evidence
    assert found.diagnosis
    assert found.remedy


def test_thunderbolt_4_is_never_told_to_enable_rdma():
    case = two_macs("thunderbolt-4")
    rdma = row(case, "rdma", "mac-a")
    assert (rdma.state, rdma.remedy) == (SKIPPED, "")
    assert "Thunderbolt 4" in rdma.evidence
    (cable,) = (r for r in climb(case, LADDER) if (r.id, r.host) == ("thunderbolt", "mac-a"))
    assert (cable.state, cable.peer, cable.diagnosis) == (
        WARN,
        "mac-b",
        "Thunderbolt 4; RDMA needs 5",
    )


def test_a_limit_that_a_restart_has_reset():
    reset = with_facts(two_macs("wired-limit-reset"), "mac-b", gpu_limit_bytes=96 * GB)
    assert odd(reset) == [("wired-limit", "mac-b", FAIL)]
    found = row(reset, "wired-limit", "mac-b")
    assert "0, the default; the GPU may hold 96.0 GB" in found.evidence
    assert found.remedy == "sudo sysctl iogpu.wired_limit_mb=104904"
    # Where it suffices, the default is as good as any.
    assert odd(replace(reset, needs={"mac-b": 90 * GB})) == []


def test_a_host_that_needs_a_reboot():
    spoilt = with_facts(two_macs(), "mac-b", quarantine="pid 7 outlived SIGKILL; reboot it")
    assert odd(spoilt) == [("quarantine", "mac-b", FAIL)]
    assert row(spoilt, "quarantine", "mac-b").evidence == "pid 7 outlived SIGKILL; reboot it"


def dial(outcome: str) -> Dial:
    return Dial("10.0.0.2:5000", outcome, 3.0)


@pytest.mark.parametrize(
    ("outcome", "diagnosis", "remedy"),
    [
        ("EHOSTUNREACH", "macOS keeps this Python from the local network", "on mac-a: open 'x-app"),
        ("ETIMEDOUT", "a firewall on mac-b", "on mac-b: sudo /usr/libexec/ApplicationFirewall"),
        ("ECONNREFUSED", "mac-b listens, yet 10.0.0.2 refuses", "arp -n 10.0.0.2"),
        (STRANGER, "another program than ours answers", "arp -n 10.0.0.2"),
        ("ECONNRESET", "the way to mac-b is broken", "ping -c 3 10.0.0.2"),
    ],
)
def test_ways_that_are_closed_are_told_apart(outcome: str, diagnosis: str, remedy: str):
    case = with_found(two_macs(), "mac-a", paths={"mac-b": dial(outcome)})
    assert odd(case) == [("data", "mac-a", FAIL), ("ring", "", SKIPPED)]
    found = row(case, "data", "mac-a")
    assert found.peer == "mac-b"
    assert found.evidence == f"10.0.0.2:5000: {outcome} after 3.0 s"
    assert diagnosis in found.diagnosis
    assert found.remedy.startswith(remedy)
    assert row(case, "ring").evidence == "rests on data"


def test_cables_that_cannot_be_told_apart_are_one_warning_for_each_mac():
    case = two_macs()
    case = with_found(case, "mac-b", mac=case.found["mac-a"].mac)
    rows = [("thunderbolt", "mac-a", WARN), ("thunderbolt", "mac-b", WARN), ("links", "", WARN)]
    assert odd(case) == rows


def test_a_launcher_may_be_the_one_that_is_kept_from_the_network():
    case = with_found(two_macs(), "mac-b", control=dial("EHOSTUNREACH"))
    assert row(case, "control", "mac-b").remedy == "ip -4 route get 10.0.0.2"
    case = replace(case, launched_on_mac=True)
    assert row(case, "control", "mac-b").remedy.startswith("on this machine: open 'x-app")


def test_on_linux_no_route_is_no_privacy():
    case = with_found(linux(two_macs()), "mac-a", paths={"mac-b": dial("EHOSTUNREACH")})
    assert row(case, "data", "mac-a").remedy == "ip -4 route get 10.0.0.2"


def test_on_linux_the_rungs_of_macs_are_skipped_and_nothing_else():
    skipped = [r for r in climb(linux(two_macs()), LADDER) if r.state is not OK]
    assert {r.id for r in skipped} == {"links", *(rung.id for rung in LADDER if rung.mac)}
    assert {(r.state, r.evidence) for r in skipped} == {(SKIPPED, "Linux")}


CHANGES = {
    "clock, a little": ("clock", WARN, {"clock": Clock(-4.0, 0.1)}),
    "clock": ("clock", FAIL, {"clock": Clock(-90000.0, 0.1)}),
    "fast synch": ("environment", WARN, {"facts": replace(FACTS, fast_synch="1")}),
    "mlx": ("versions", FAIL, {"facts": replace(FACTS, mlx_version="0.31.0")}),
    "no mlx": ("versions", FAIL, {"facts": replace(FACTS, mlx_version="")}),
    "memory": ("memory", FAIL, {"facts": replace(FACTS, free_bytes=60 * GB)}),
    "disk, a little": ("disk", WARN, {"facts": replace(FACTS, disk_bytes=GB)}),
    "disk": ("disk", FAIL, {"facts": replace(FACTS, disk_bytes=1000)}),
    "no model": ("model", FAIL, {"facts": replace(FACTS, model_problems=("cannot read",))}),
    "other model": ("model", FAIL, {"facts": replace(FACTS, model_digest="00")}),
    "other bytes": ("model", FAIL, {"facts": replace(FACTS, samples={"model-1.safetensors": "0"})}),
    "control": ("control", FAIL, {"control": dial("ETIMEDOUT")}),
}


@pytest.mark.parametrize(("rung", "state", "changes"), CHANGES.values(), ids=CHANGES)
def test_one_thing_that_is_wrong_is_one_row(rung: str, state: State, changes):
    case = with_found(two_macs(), "mac-b", **changes)
    found = row(case, rung, "mac-b")
    assert found.state is state
    assert found.diagnosis
    assert found.remedy
    beside = [("ring", "", SKIPPED)] if (rung, state) == ("versions", FAIL) else []
    assert odd(case) == [(rung, "mac-b", state), *beside]


def test_a_clock_that_was_hard_to_read_is_not_accused():
    assert odd(with_found(two_macs(), "mac-b", clock=Clock(5.0, 4.5))) == []


def test_a_host_without_ssh_has_one_red_row():
    refusal = Refusal(by_ssh=True, words="Permission denied (publickey).")
    case = with_found(two_macs(), "mac-b", refusal=refusal, facts=None, mac=None, clock=None)
    case = with_found(case, "mac-a", paths={})
    rows = [r for r in climb(case, LADDER) if r.host == "mac-b"]
    assert [r.id for r in rows if r.state is FAIL] == ["ssh"]
    assert rows[0].remedy == "ssh -o BatchMode=yes mac-b true"
    assert {(r.state, r.evidence) for r in rows[1:]} == {(SKIPPED, "rests on ssh")}
    assert row(case, "ring").evidence == "rests on ssh"


def test_a_host_without_our_package_is_reached_by_ssh():
    refusal = Refusal(by_ssh=False, words="/opt/python: No module named dsv4_tp")
    case = with_found(two_macs(), "mac-b", refusal=refusal, facts=None, mac=None, clock=None)
    assert row(case, "ssh", "mac-b").state is OK
    found = row(case, "python", "mac-b")
    assert found.state is FAIL
    assert found.remedy == "ssh mac-b '/opt/python -m dsv4_tp --version'"


def test_an_address_that_is_not_the_hosts():
    case = with_found(two_macs(), "mac-b", listening=None, deaf="Cannot assign requested address")
    assert row(case, "address", "mac-b").state is FAIL
    assert "10.0.0.2" in row(case, "address", "mac-b").diagnosis
    assert row(case, "control", "mac-b").evidence == "rests on address"


def test_pinned_ports_that_are_taken():
    case = pinned(with_found(two_macs(), "mac-b", ports=TAKEN))
    assert odd(case) == [("ports", "mac-b", FAIL), ("ring", "", SKIPPED)]
    assert row(case, "ports", "mac-b").remedy == "lsof -nP -iTCP:4001 -sTCP:LISTEN"
    here = replace(case, here=("cannot listen on 127.0.0.1:7420: Address already in use",))
    assert row(here, "config").remedy == "lsof -nP -iTCP:7420 -sTCP:LISTEN"


def test_beside_a_running_cluster_no_ring_is_tried():
    case = with_facts(two_macs("stranded-memory"), "mac-b", ranks=(71,), free_bytes=GB)
    case = with_found(case, "mac-b", ports=TAKEN)
    case = replace(pinned(case), here=("cannot listen on 127.0.0.1:7420",))
    # What the cluster itself holds is no fault.
    skipped = [("memory", "mac-b"), ("ports", "mac-b"), ("ring", "")]
    assert odd(case) == [(*place, SKIPPED) for place in skipped]
    assert row(case, "ring").evidence == "a cluster runs: pid 71 on mac-b"


def test_a_ring_that_fails_is_a_failure():
    case = two_macs()
    first, second = case.trial
    case = replace(case, trial=(first, replace(second, problem="the others did not come")))
    assert odd(case) == [("ring", "", FAIL)]
    assert row(case, "ring").evidence == "rank 1: the others did not come"


def test_a_ring_that_was_not_tried_is_no_success():
    assert odd(replace(two_macs(), trial=())) == [("ring", "", SKIPPED)]


@pytest.mark.parametrize("tool", ["sysctl", "vm_stat", "pmset", "system_profiler", "ifconfig"])
def test_a_tool_that_is_not_understood_warns_and_condemns_nothing(tool: str):
    said = two_macs().found["mac-a"].said | {tool: "something new"}
    case = with_found(two_macs(), "mac-a", mac=read_mac(said))
    rows = [r for r in climb(case, LADDER) if r.state is not OK]
    assert {r.state for r in rows} == {WARN}
    assert any(f"{tool} said something else" in r.evidence for r in rows)


def asking(case: Case, backend: Backend) -> Case:
    return replace(case, config=replace(case.config, backend=backend))


def test_asked_for_jaccl_needs_its_cables():
    case = asking(two_macs(), Backend.JACCL)
    assert odd(case) == []
    assert row(case, "links").evidence == "jaccl: mac-a [- rdma_en2]; mac-b [rdma_en2 -]"
    assert row(case, "ring").evidence.startswith("by JACCL: 2 ranks, equal bits")
    down = asking(two_macs("port-down"), Backend.JACCL)
    assert (row(down, "links").state, row(down, "ring").evidence) == (FAIL, "rests on links")
    assert "rdma_en2 on mac-b is PORT_DOWN" in row(down, "links").evidence
    nowhere = asking(linux(two_macs()), Backend.JACCL_RING)
    assert row(nowhere, "links").evidence == "mac-a is no Mac, so it has no RDMA over Thunderbolt"


def test_left_open_the_ranks_are_tried_by_what_would_join_them():
    assert row(asking(two_macs(), Backend.AUTO), "ring").evidence.startswith("by JACCL: 2 ranks")
    down = asking(two_macs("port-down"), Backend.AUTO)
    assert (row(down, "links").state, row(down, "ring").evidence[:12]) == (WARN, "by TCP: 2 ra")
