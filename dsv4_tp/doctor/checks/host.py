"""Rungs of one host: can it be reached, is it like the others, has it room for its ranks?"""

import shlex
from collections.abc import Iterator

from dsv4_tp import __version__
from dsv4_tp.doctor.evidence import Case, Facts
from dsv4_tp.doctor.ladder import State, Verdict, skip
from dsv4_tp.macs.parse.system import WIRED_LIMIT
from dsv4_tp.rpc.auth import SLACK_S

_GB = 1e9
_MIB = 1 << 20
_SKEW_WARN_S = 2.0
_DISK_FAIL_BYTES = 200 * 10**6
_DISK_WARN_BYTES = 5 * 10**9
_STRANDED_BYTES = 12 * 10**9  # a Mac without a model wires down a few
_STRANDED_SHARE = 0.1  # of its memory, whichever is more
_LEFT_BYTES = 8 * 10**9  # for macOS, of what the GPU may be given
_MARGIN = 1.1


def config(case: Case, _: str) -> Iterator[Verdict]:
    """The file was read before; what is left is a port on this machine."""
    wanted = case.config
    ranks = "1 rank" if len(wanted.ranks) == 1 else f"{len(wanted.ranks)} ranks"
    seen = f"{ranks} on {', '.join(case.hosts)}; model {wanted.model.path}"
    if case.here and not case.running:
        found = f"lsof -nP -iTCP:{wanted.ports.control} -sTCP:LISTEN"
        diagnosis = "another program has the port of the coordinator"
        yield Verdict(State.FAIL, "; ".join(case.here), diagnosis, found)
    else:
        yield Verdict(State.OK, seen)


def ssh(case: Case, name: str) -> Iterator[Verdict]:
    """Does ssh arrive without a question?"""
    host, refusal = case.host(name), case.found[name].refusal
    if refusal is not None and refusal.by_ssh:
        diagnosis = "ssh does not get in without asking"
        yield Verdict(State.FAIL, refusal.words, diagnosis, f"ssh -o BatchMode=yes {host.ssh} true")
    elif host.is_local:
        yield Verdict(State.OK, "this machine")
    else:
        facts = case.found[name].facts
        came = f" from {facts.launcher} to {facts.address}" if facts and facts.address else ""
        yield Verdict(State.OK, f"{host.ssh}{came}")


def python(case: Case, name: str) -> Iterator[Verdict]:
    """Does the interpreter of the ranks have dsv4-tp?"""
    host, found = case.host(name), case.found[name]
    if found.refusal is not None:
        tried = shlex.join([host.python, "-m", "dsv4_tp", "--version"])
        diagnosis = f"{host.python} does not run dsv4-tp there"
        remedy = tried if host.is_local else f"ssh {host.ssh} {shlex.quote(tried)}"
        yield Verdict(State.FAIL, found.refusal.words, diagnosis, remedy)
    else:
        yield Verdict(State.OK, host.python)


def clock(case: Case, name: str) -> Iterator[Verdict]:
    """Do clocks agree?"""
    found = case.found[name].clock
    assert found is not None
    seen = f"{found.ahead_s:+.3f} s, give or take {found.unsure_s:.3f}"
    wrong_s = max(0.0, abs(found.ahead_s) - found.unsure_s)
    if wrong_s < _SKEW_WARN_S:
        yield Verdict(State.OK, seen)
        return
    facts = _facts(case, name)
    remedy = "sudo sntp -sS time.apple.com" if facts.system == "Darwin" else "timedatectl status"
    if wrong_s < SLACK_S:
        diagnosis = "times in logs and events of this host cannot be compared"
        yield Verdict(State.WARN, seen, diagnosis, remedy)
    else:
        diagnosis = "certificates that are made here are not valid there"
        yield Verdict(State.FAIL, seen, diagnosis, remedy)


def versions(case: Case, name: str) -> Iterator[Verdict]:
    """Do all ranks run the same code?"""
    facts, mac = _facts(case, name), case.found[name].mac
    first = next(host for host in case.hosts if case.found[host].facts)
    wanted = _versions(_facts(case, first)) | {"dsv4-tp": __version__}
    own = _versions(facts)
    seen = ", ".join(f"{package} {version or 'none'}" for package, version in own.items())
    odd = [package for package in own if own[package] != wanted[package] or not own[package]]
    if odd:
        against = ", ".join(f"{package} {wanted[package]}" for package in odd)
        diagnosis = f"ranks run the same code or none: {against} is wanted"
        remedy = f"there: make setup (with the checkout of {first})"
        yield Verdict(State.FAIL, seen, diagnosis, remedy)
        return
    theirs = case.found[first].mac
    builds = [m.system.build if m and m.system else "" for m in (mac, theirs)]
    system = f"macOS {mac.system.version} ({builds[0]})" if mac and mac.system else facts.release
    if builds[0] != builds[1] or (theirs is None) != (mac is None):
        diagnosis = f"another system than on {first}; RDMA wants the same build on all"
        yield Verdict(State.WARN, f"{seen}, {system}", diagnosis, "softwareupdate --list")
    else:
        yield Verdict(State.OK, f"{seen}, {system}")


def environment(case: Case, name: str) -> Iterator[Verdict]:
    """Would the ranks inherit a setting that is known to hang them?"""
    value = _facts(case, name).fast_synch
    seen = f"MLX_METAL_FAST_SYNCH={value}" if value else "MLX_METAL_FAST_SYNCH is not set"
    if value in ("", "0"):
        yield Verdict(State.OK, seen)
    else:
        diagnosis = "it can wedge the GPU until a restart; MLX advises to leave it unset"
        remedy = "grep -n MLX_METAL_FAST_SYNCH ~/.zshenv ~/.zprofile ~/.ssh/environment"
        yield Verdict(State.WARN, seen, diagnosis, remedy)


def quarantine(case: Case, name: str) -> Iterator[Verdict]:
    """Has an earlier launch left something there that only a reboot ends?"""
    if found := _facts(case, name).quarantine:
        yield Verdict(State.FAIL, found, "no rank is started there", "sudo shutdown -r now")
    else:
        yield Verdict(State.OK, "nothing was found that needs a reboot")


def memory(case: Case, name: str) -> Iterator[Verdict]:
    """Is there room for the ranks, free now?"""
    facts, need = _facts(case, name), case.needs.get(name)
    seen = f"{_gb(facts.free_bytes)} GB free of {_gb(facts.memory_bytes)}"
    seen += f", {_gb(need)} needed" if need is not None else ""
    if facts.ranks:
        yield skip(f"{seen}; ranks run: pid {', '.join(map(str, facts.ranks))}")
    elif need is not None and need > facts.free_bytes:
        seen += f"; most is held by {facts.largest}, {_gb(facts.largest_bytes)} GB"
        diagnosis = "the ranks of this host do not fit"
        yield Verdict(State.FAIL, seen, diagnosis, "dsv4-tp plan -f cluster.yaml --memory A,B")
    else:
        yield Verdict(State.OK, seen)


def wired_limit(case: Case, name: str) -> Iterator[Verdict]:
    """May the GPU hold what the ranks need?"""
    facts, mac, need = _facts(case, name), case.found[name].mac, case.needs.get(name)
    assert mac is not None
    if mac.numbers is None or WIRED_LIMIT not in mac.numbers:
        yield unread(mac.unread.get("sysctl", f"no {WIRED_LIMIT}"))
        return
    limit = mac.numbers[WIRED_LIMIT]
    which = f"{limit}" if limit else "0, the default"
    seen = f"{WIRED_LIMIT} {which}; the GPU may hold {_gb(facts.gpu_limit_bytes)} GB"
    if need is None or not facts.gpu_limit_bytes or need <= facts.gpu_limit_bytes:
        yield Verdict(State.OK, seen)
        return
    most = facts.memory_bytes - _LEFT_BYTES
    wanted = int(min(need * _MARGIN, most)) // _MIB
    diagnosis = f"{_gb(need)} GB would not stay wired; the limit is gone after every restart"
    remedy = f"sudo sysctl {WIRED_LIMIT}={wanted}"
    yield Verdict(State.FAIL, seen, diagnosis, remedy)


def stranded(case: Case, name: str) -> Iterator[Verdict]:
    """Is memory still wired that no rank holds any more?"""
    facts, mac = _facts(case, name), case.found[name].mac
    assert mac is not None
    if mac.wired_bytes is None:
        yield unread(mac.unread["vm_stat"])
        return
    seen = f"{_gb(mac.wired_bytes)} GB wired"
    usual = max(_STRANDED_BYTES, _STRANDED_SHARE * facts.memory_bytes)
    if facts.ranks or mac.wired_bytes < usual:
        yield Verdict(State.OK, seen)
    else:
        seen += f"; the largest program is {facts.largest}, {_gb(facts.largest_bytes)} GB"
        diagnosis = "if that program holds no model, a rank that is gone has left it; restart"
        yield Verdict(State.WARN, seen, diagnosis, "sudo shutdown -r now")


def disk(case: Case, name: str) -> Iterator[Verdict]:
    """Is there room for logs, sockets and snapshots?"""
    free = _facts(case, name).disk_bytes
    seen, remedy = f"{_gb(free)} GB free for state and logs", "df -h ~"
    if free < _DISK_FAIL_BYTES:
        yield Verdict(State.FAIL, seen, "agents could not write their logs", remedy)
    elif free < _DISK_WARN_BYTES:
        yield Verdict(State.WARN, seen, "little for logs and for a prefix cache on disk", remedy)
    else:
        yield Verdict(State.OK, seen)


def model(case: Case, name: str) -> Iterator[Verdict]:
    """Is the model there, and the same as on the others? A launch reads the files whole."""
    facts, path = _facts(case, name), case.config.model_path_on(case.host(name))
    push = "dsv4-tp push -f cluster.yaml --model DIR --out DIR"
    if facts.model_problems:
        yield Verdict(State.FAIL, "; ".join(facts.model_problems), "it cannot be read", push)
        return
    first = next(host for host in case.hosts if case.found[host].facts)
    theirs = _facts(case, first)
    names = facts.samples.keys() & theirs.samples.keys()
    odd = sorted(file for file in names if facts.samples[file] != theirs.samples[file])
    if odd or facts.model_digest != theirs.model_digest:
        seen = f"{path}: {odd[0] if odd else 'config.json'} is not as on {first}"
        yield Verdict(State.FAIL, seen, "the hosts have different checkpoints", push)
    else:
        yield Verdict(State.OK, f"{path}, {facts.model_digest[:12]}")


def sleep(case: Case, name: str) -> Iterator[Verdict]:
    """Will the Mac stay awake?"""
    mac = case.found[name].mac
    assert mac is not None
    if mac.sleep is None:
        yield unread(mac.unread["pmset"])
    elif mac.sleep.never:
        yield Verdict(State.OK, "it never sleeps")
    else:
        seen = f"it sleeps after {mac.sleep.minutes} min without use"
        diagnosis = "a Mac that sleeps is a Mac that is lost"
        yield Verdict(State.WARN, seen, diagnosis, "sudo pmset -a sleep 0 disksleep 0")


def unread(why: str) -> Verdict:
    """A tool that could not be understood; nothing is concluded from it."""
    diagnosis = "nothing is known of this; the tool's raw output tells more"
    return Verdict(State.WARN, why, diagnosis, "dsv4-tp doctor -f cluster.yaml --record DIR")


def _facts(case: Case, name: str) -> Facts:
    facts = case.found[name].facts
    assert facts is not None, "rungs that need facts rest on python"
    return facts


def _versions(facts: Facts) -> dict[str, str]:
    python = ".".join(facts.python_version.split(".")[:2])
    return {"dsv4-tp": facts.version, "mlx": facts.mlx_version, "python": python}


def _gb(count: float) -> str:
    return f"{count / _GB:.1f}"
