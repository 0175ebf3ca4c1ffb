"""What must be instant, or run where MLX is not installed, does not even import it."""

import subprocess
import sys

import pytest

from dsv4_tp import demo

CHILD = """
import sys
sys.argv = ["dsv4-tp", *sys.argv[1:]]
try:
    from dsv4_tp.cli.main import main
    main()
finally:
    heavy = {"mlx", "mlx_lm", "transformers", "grpc", "numpy", "tokenizers", "cryptography"}
    heavy |= {"starlette", "uvicorn", "pydantic", "rich", "prompt_toolkit"}
    print("imported:", *sorted(heavy & sys.modules.keys()), file=sys.stderr)
"""


def imported(*arguments: str) -> list[str]:
    """The heavy packages that a command has imported."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stderr.splitlines()[-1].split()[1:]


@pytest.mark.parametrize(
    "arguments", [["--help"], ["--version"], ["launch", "--help"], ["chat", "--help"]], ids=" ".join
)
def test_help_imports_nothing_heavy(arguments: list[str]):
    assert imported(*arguments) == []


def modules_after(line: str) -> set[str]:
    """What is imported once a program has run this line."""
    done = subprocess.run(
        [sys.executable, "-c", f"{line}; import sys; print(*sys.modules)"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return set(done.stdout.split())


def test_the_package_alone_is_light():
    found = modules_after("import dsv4_tp")
    assert {name for name in found if name.startswith("dsv4_tp")} == {"dsv4_tp"}


def test_a_client_and_a_launch_need_no_mlx():
    found = modules_after("from dsv4_tp import Client, launch")
    assert "grpc" in found
    assert not {"mlx", "cryptography"} & found


def test_only_a_launch_needs_an_authority():
    assert "cryptography" not in modules_after("import dsv4_tp.agent.main, dsv4_tp.worker.main")
    assert "cryptography" in modules_after("import dsv4_tp.launcher.launch")


@pytest.mark.parametrize("module", ["agent.main", "worker.main", "launcher"])
def test_only_a_cluster_that_serves_needs_a_web_server(module: str):
    """And that is known when it is launched."""
    found = modules_after(f"import dsv4_tp.{module}")
    assert f"dsv4_tp.{module}" in found
    assert not {"starlette", "uvicorn", "pydantic", "prometheus_client"} & found


def test_plan_runs_without_mlx():
    assert imported("plan", "--model", "demo", "--ranks", "2") == []


def test_shard_runs_without_mlx(tmp_path):
    out = str(tmp_path / "set")
    # NumPy crops rows.
    assert imported("shard", "--model", "demo", "--ranks", "2", "--out", out) == ["numpy"]


def test_inspect_runs_without_mlx():
    assert imported("inspect", str(demo.path())) == []
