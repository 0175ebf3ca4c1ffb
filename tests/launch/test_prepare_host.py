"""prepare-host.sh on a stand-in for a Mac: it looks first, changes when told, and only once."""

import plistlib
import subprocess
from pathlib import Path

import pytest

LAUNCH = Path(__file__).parents[2] / "launch"

# Each tool notes what it is asked to change, and remembers it as a Mac would.
TOOLS = {
    "uname": "echo Darwin",
    "id": "echo 0",
    "pmset": """
        if [ "$1" = -g ]; then echo " disksleep $(cat sleep)"; echo " sleep $(cat sleep)"; exit; fi
        echo pmset "$@" >> changes; echo 0 > sleep""",
    "sysctl": """
        if [ "$1" = -n ]; then cat limit; exit; fi
        echo sysctl "$@" >> changes; echo "${1#*=}" > limit""",
    "ifconfig": """
        if [ $# = 1 ]; then echo "bridge0: flags=8863<$(cat bridge)BROADCAST> mtu 1500"; exit; fi
        echo ifconfig "$@" >> changes; : > bridge""",
    "networksetup": """
        case $1 in
            -listallhardwareports) printf 'Hardware Port: Thunderbolt %s\\n' 1 2 ;;
            -listallnetworkservices) cat services ;;
            *) echo networksetup "$@" >> changes; echo "$2" >> services ;;
        esac""",
    "firewall": """
        case $1 in
            --getglobalstate) echo 'Firewall is enabled. (State = 1)' ;;
            --getappblocked) cat app ;;
            *) echo firewall "$@" >> changes; echo 'is permitted' > app ;;
        esac""",
}
ALL = ("--python", "/opt/python", "--wired-limit", "1000", "--bridge-off")


@pytest.fixture
def prepare(tmp_path: Path):
    for name, script in TOOLS.items():
        (tmp_path / name).write_text(f"#!/bin/sh\ncd {tmp_path}\n{script}\n")
        (tmp_path / name).chmod(0o755)
    state = {"sleep": "1", "limit": "0", "bridge": "UP,", "services": "Wi-Fi", "app": "is blocked"}
    for name, text in state.items():
        (tmp_path / name).write_text(f"{text}\n" if name != "bridge" else text)

    def run(*options: str) -> tuple[str, list[str]]:
        """What it says, and what it has changed."""
        (tmp_path / "changes").write_text("")
        places = {"FIREWALL": str(tmp_path / "firewall"), "DAEMONS": str(tmp_path)}
        done = subprocess.run(
            [str(LAUNCH / "prepare-host.sh"), *options],
            env={"PATH": f"{tmp_path}:/usr/bin:/bin"} | places,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.stderr == ""
        return done.stdout, (tmp_path / "changes").read_text().splitlines()

    return run


CHANGES = [
    "pmset -a sleep 0 disksleep 0",
    "firewall --add /opt/python",
    "firewall --unblockapp /opt/python",
    "sysctl iogpu.wired_limit_mb=1000",
    "networksetup -setnetworkserviceenabled Thunderbolt Bridge off",
    "ifconfig bridge0 down",
    "networksetup -createnetworkservice Thunderbolt 1 Thunderbolt 1",
    "networksetup -createnetworkservice Thunderbolt 2 Thunderbolt 2",
]


def test_it_shows_first_and_changes_nothing(prepare, tmp_path: Path):
    said, changed = prepare(*ALL)
    assert changed == []
    shown = [line.strip() for line in said.splitlines() if line.startswith("         ")]
    plist = tmp_path / "dsv4-tp.wired-limit.plist"
    expected = [line.replace("firewall ", f"{tmp_path}/firewall ") for line in CHANGES]
    assert shown == [*expected[:4], f"write {plist}", *expected[4:]]
    assert not plist.exists()


def test_it_changes_what_it_showed_and_never_twice(prepare, tmp_path: Path):
    assert prepare(*ALL, "--apply")[1] == CHANGES
    plist = plistlib.loads((tmp_path / "dsv4-tp.wired-limit.plist").read_bytes())
    assert plist["ProgramArguments"] == ["/usr/sbin/sysctl", "iogpu.wired_limit_mb=1000"]
    said, changed = prepare(*ALL, "--apply")
    assert changed == []
    assert {line.split()[0] for line in said.splitlines()} == {"ok"}


def test_without_options_only_sleep_and_firewall_are_looked_at(prepare):
    said, _ = prepare("--python", "/opt/python")
    assert "wired" not in said
    assert "Thunderbolt" not in said


@pytest.mark.parametrize("options", [["--appply"], ["--wired-limit", "1e3"]])
def test_what_it_does_not_understand_it_refuses(options: list[str]):
    done = subprocess.run(
        [str(LAUNCH / "prepare-host.sh"), *options], capture_output=True, timeout=30, check=False
    )
    assert done.returncode == 2


@pytest.mark.parametrize("file", sorted(LAUNCH.glob("*.plist")), ids=lambda file: file.name)
def test_a_plist_is_named_after_its_label_and_names_programs_by_path(file: Path):
    plist = plistlib.loads(file.read_bytes())
    assert plist["Label"] == file.stem
    assert plist["ProgramArguments"][0].startswith("/")
    assert plist["RunAtLoad"] is True
