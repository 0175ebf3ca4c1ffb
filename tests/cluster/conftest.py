import json
import shutil
import sys

import pytest

from dsv4_tp import demo
from tests.cluster import clusters
from tests.cluster.netns import Network

# Most tests look at the end of one epoch; those of restarts say what they want.
NEVER = {"policy": "never"}


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory):
    """See `endless`."""
    return endless(tmp_path_factory.mktemp("model") / "endless")


def endless(folder):
    """The demo model, but a text of it ends by its length only: no word of it is the last."""
    copied = shutil.copytree(demo.path(), folder)
    file = copied / "generation_config.json"
    last = json.loads((copied / "config.json").read_text())["vocab_size"] - 1  # a placeholder
    file.write_text(json.dumps(json.loads(file.read_text()) | {"eos_token_id": last}))
    return copied


@pytest.fixture
def start(tmp_path, model_dir):
    """Launches clusters; all are gone at the end of the test."""
    started = []

    def start(*arguments, **options):
        state_dir = tmp_path / "state"
        state_dir.mkdir(exist_ok=True)
        cluster = clusters.launch(*arguments, state_dir=state_dir, **options)
        started.append(cluster)
        return cluster

    yield start
    for cluster in started:
        clusters.sweep(cluster)


@pytest.fixture
def ranks(start, tmp_path, model_dir):
    """Launches a cluster of two real ranks on this host; `restart` as in cluster.yaml."""

    def launch(*arguments, restart=NEVER, **timeouts):
        config = write_config(tmp_path, model_dir, timeouts, restart=restart)
        return start("-f", config, *arguments)

    return launch


@pytest.fixture
def standins(start, tmp_path, model_dir):
    """Launches a cluster of two stand-ins on this host, which behave as `script` says."""
    python = tmp_path / "python"
    python.write_text(
        f'#!/bin/sh\nexec {sys.executable} {clusters.HERE / "standin_python.py"} "$@"\n'
    )
    python.chmod(0o755)

    def launch(*arguments, script=None, ports=None, rdma=(), restart=NEVER, **timeouts):
        (tmp_path / "script.json").write_text(json.dumps(script or {}))
        config = write_config(
            tmp_path, model_dir, timeouts, python=python, ports=ports, rdma=rdma, restart=restart
        )
        return start("-f", config, *arguments, env={"STANDIN": str(tmp_path / "script.json")})

    return launch


@pytest.fixture
def network(tmp_path):
    """Two hosts and a place for the launch; needs `netns.usable`."""
    with Network(tmp_path, "hostA", "hostB") as network:
        yield network


def write_config(
    folder, model_dir, timeouts, *, restart, python=sys.executable, ports=None, rdma=()
):
    """Two ranks on this host; with `rdma`, the rows of their devices, joined by JACCL."""
    config = folder / "cluster.yaml"
    host = {"name": "localhost", "python": str(python)}
    words = {
        "version": 1,
        "model": {"path": str(model_dir)},
        "hosts": [host | {"rdma": row} for row in rdma] or [host] * 2,
        "backend": "jaccl" if rdma else "ring",
        "timeouts": timeouts,
        "ports": ports or {},
        "restart": restart,
    }
    config.write_text(json.dumps(words))  # which is YAML too
    return config
