"""The laws of the tree bite: each planted offence is found by the tool that guards it."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent

# What each import contract must catch: a line added to a module.
PLANTED = {
    "A layer imports lower ones only, and none beside it": (
        "errors.py",
        "import dsv4_tp.core",
    ),
    "No cycles inside a package": (
        "modelspec/spec.py",
        "import dsv4_tp.modelspec.parse",
    ),
    "Planning, serving and launching run without MLX": (
        "text/__init__.py",
        "import mlx.core",
    ),
    "mlx-lm is known to the plug-in only": (
        "model/__init__.py",
        "import mlx_lm",
    ),
    "The data plane knows no gRPC": (
        "engine/__init__.py",
        "import grpc",
    ),
    "Generated messages stay at the wire": (
        "cli/__init__.py",
        "import dsv4_tp.v1.types_pb2",
    ),
    "Nothing is pickled": (
        "rpc/__init__.py",
        "import pickle",
    ),
    "The package stands alone": (
        "plan/__init__.py",
        "import examples.demo_model",
    ),
}


def lint_imports(where: Path) -> str:
    done = subprocess.run(
        [BIN / "lint-imports", "--no-cache", "--config", ROOT / "pyproject.toml"],
        cwd=where,
        env=os.environ | {"PYTHONPATH": str(where)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.stdout + done.stderr


def test_every_import_contract_finds_its_offence(tmp_path: Path):
    skip = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "dsv4_tp", tmp_path / "dsv4_tp", ignore=skip)
    assert "0 broken" in lint_imports(tmp_path)
    for module, line in PLANTED.values():
        with (tmp_path / "dsv4_tp" / module).open("a") as file:
            file.write(f"\n{line}\n")
    report = lint_imports(tmp_path)
    assert [name for name in PLANTED if f"{name} BROKEN" not in report] == []
    assert f"{len(PLANTED)} broken" in report  # every contract has its offence here


def ruff(source: str, path: str) -> str:
    done = subprocess.run(
        [BIN / "ruff", "check", "--output-format=concise", "--stdin-filename", path, "-"],
        cwd=ROOT,
        input=source,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout


COLLECTIVE = '"""A."""\n\nimport mlx.core as mx\n\nx = mx.distributed.all_sum(mx.array(1))\n'
ENVIRONMENT = '"""A."""\n\nimport os\n\nx = os.environ.get("HOME")\n'
PLAIN = '"""A."""\n\nimport grpc\n\nx = grpc.aio.insecure_channel("mac-b:1")\n'
PRINT = '"""A."""\n\nprint(1)\n'


@pytest.mark.parametrize(
    ("source", "allowed", "refused", "rule"),
    [
        (COLLECTIVE, "dsv4_tp/engine/collectives.py", "dsv4_tp/model/moe.py", "TID251"),
        (ENVIRONMENT, "dsv4_tp/config/environment.py", "dsv4_tp/worker/main.py", "TID251"),
        (PLAIN, "dsv4_tp/rpc/channel.py", "dsv4_tp/coordinator/link.py", "TID251"),
        (PRINT, "dsv4_tp/cli/main.py", "dsv4_tp/worker/main.py", "T201"),
        (PRINT, "examples/demo_model/train.py", "dsv4_tp/worker/main.py", "T201"),
        (COLLECTIVE, "dsv4_tp/engine/collectives.py", "examples/demo_model/train.py", "TID251"),
    ],
    ids=[
        "mx.distributed",
        "os.environ",
        "plain text",
        "print",
        "print in examples",
        "examples' collectives",
    ],
)
def test_banned_calls_have_one_home(source: str, allowed: str, refused: str, rule: str):
    assert rule in ruff(source, refused)
    assert ruff(source, allowed) == "All checks passed!\n"
