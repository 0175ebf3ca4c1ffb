"""The recorded tools of two Macs, by case."""

from pathlib import Path

from dsv4_tp.macs.mac import COMMANDS, Mac, read_mac

FIXTURES = Path(__file__).parent / "fixtures"
HEALTHY = "healthy"
HOSTS = ("mac-a", "mac-b")


def said_by(host: str, case: str = HEALTHY) -> dict[str, str]:
    """What the tools of `host` print, by the name of the command."""
    files = (
        FIXTURES / where / host / f"{name}.txt" for where in (HEALTHY, case) for name in COMMANDS
    )
    return {file.stem: file.read_text() for file in files if file.exists()}


def macs(case: str = HEALTHY) -> dict[str, Mac]:
    return {host: read_mac(said_by(host, case)) for host in HOSTS}
