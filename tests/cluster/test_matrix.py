"""Some cells of the fault matrix, as tests; `tests.soak.faults` runs all of them. Root only."""

import pytest

from tests.cluster.matrix import run_cell, unbroken_text
from tests.cluster.netns import usable

pytestmark = [
    pytest.mark.hosts,
    pytest.mark.slow,
    pytest.mark.skipif(not usable(), reason="needs root, network namespaces and sshd"),
]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, model_dir):
    return unbroken_text(tmp_path_factory.mktemp("unbroken") / "cluster", model_dir)


@pytest.mark.parametrize(
    ("fault", "phase"),
    [
        ("exit 0", "init"),
        ("exception on one rank", "load"),
        ("STOP", "load"),
        ("host gone", "decode"),
        ("agent killed", "decode"),
    ],
)
def test_a_fault_is_named_and_healed(fault, phase, unbroken, model_dir, tmp_path):
    folder = tmp_path / "cell"
    line = run_cell(fault, phase, folder=folder, model_dir=model_dir, unbroken=unbroken)
    assert (line["outcome"], line["client"], line["orphans"]) == ("healed", "whole", 0), line
