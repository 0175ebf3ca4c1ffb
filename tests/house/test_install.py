"""What an installation has: all of the package, and a command that works outside this tree."""

import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from uv import find_uv_bin

from dsv4_tp import __version__

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
WAIT_S = 240


def run(*command: object, cwd: Path = ROOT, **env: str) -> str:
    done = subprocess.run(
        [*map(str, command)],
        cwd=cwd,
        env={key: word for key, word in os.environ.items() if key != "PYTHONPATH"} | env,
        capture_output=True,
        text=True,
        timeout=WAIT_S,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    run(find_uv_bin(), "build", "--wheel", "--quiet", "--out-dir", out)
    (built,) = out.glob("*.whl")
    return built


def test_the_wheel_has_every_file_of_the_package(wheel: Path):
    tracked = set(run("git", "ls-files", "dsv4_tp").splitlines())
    with zipfile.ZipFile(wheel) as packed:
        names = {name for name in packed.namelist() if ".dist-info/" not in name}
    assert "dsv4_tp/demo/checkpoint/tokenizer.json" in names
    assert sorted(tracked - names) == []
    assert {name.split("/")[0] for name in names} == {"dsv4_tp"}


def test_the_command_works_from_a_fresh_environment(wheel: Path, tmp_path: Path):
    """Its dependencies are this one's, behind it; so nothing has to be downloaded."""
    home = tmp_path / "env"
    run(find_uv_bin(), "venv", "--quiet", "--python", sys.executable, home)
    python = home / "bin" / "python"
    run(find_uv_bin(), "pip", "install", "--quiet", "--no-deps", "--python", python, wheel)
    place = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(run(python, "-c", place).strip())
    (packages / "behind.pth").write_text(sysconfig.get_path("purelib") + "\n")
    command = home / "bin" / "dsv4-tp"
    state = {"DSV4TP_STATE_DIR": str(tmp_path / "state")}
    where = run(python, "-c", "import dsv4_tp; print(dsv4_tp.__file__)", cwd=tmp_path)
    assert Path(where).is_relative_to(home)
    assert run(command, "--version", cwd=tmp_path).startswith(f"dsv4-tp {__version__}\n")
    assert "Usage: dsv4-tp" in run(command, "--help", cwd=tmp_path)
    assert "total" in run(command, "plan", "--model", "demo", "--ranks", "2", cwd=tmp_path)
    launch = ("launch", "--hosts", "localhost", "--model", "demo", "--max-tokens", "3")
    said = run(command, *launch, "--prompt", "Once", "--json", cwd=tmp_path, **state)
    assert '"tokens": [' in said
