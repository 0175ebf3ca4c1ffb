"""The checkpoint and the page go where the package goes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dsv4_tp import demo

ROOT = Path(__file__).parents[2]
UV = Path(sys.executable).parent / "uv"


def run(*command: object, **options: object) -> str:
    done = subprocess.run(
        [str(word) for word in command],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        **options,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def contents(folder: Path) -> dict[str, bytes]:
    """Every file by its name in `folder`; not what Python compiles on its way."""
    files = (file for file in folder.rglob("*") if file.is_file() and file.suffix != ".pyc")
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


@pytest.mark.skipif(not UV.is_file(), reason="needs uv, and the build backend in its cache")
def test_an_installed_wheel_brings_and_finds_it(tmp_path: Path):
    # Offline: the backend is in uv's cache since `make setup`.
    run(UV, "build", "--offline", "--wheel", "--out-dir", tmp_path, ROOT)
    (wheel,) = tmp_path.glob("*.whl")
    target = ("--python", sys.executable, "--target", tmp_path / "site")
    run(UV, "pip", "install", "--offline", "--no-deps", *target, wheel)
    there = {"cwd": tmp_path, "env": os.environ | {"PYTHONPATH": str(tmp_path / "site")}}
    found = run(
        sys.executable, "-c", "from dsv4_tp import demo; print(demo.path())", **there
    ).strip()
    assert Path(found) == tmp_path / "site/dsv4_tp/demo/checkpoint"
    assert contents(Path(found)) == contents(demo.path())
    web = "dsv4_tp/serving/page/web"
    assert contents(tmp_path / "site" / web) == contents(ROOT / web) != {}
    planned = run(sys.executable, "-m", "dsv4_tp", "plan", "--model", "demo", "--ranks", 2, **there)
    assert planned.splitlines()[-1].startswith("total")
