"""Some cells of the fault matrix, as tests; `tests.soak.faults` runs all of them. Root only."""

import pytest

from tests.cluster.field import Field
from tests.cluster.matrix import end, run_cell
from tests.cluster.netns import usable

pytestmark = [
    pytest.mark.hosts,
    pytest.mark.skipif(not usable(), reason="needs root, network namespaces and sshd"),
]
# On one cluster, if all goes well; the last one ends it.
CELLS = [
    ("data link down", "decode", "healed"),
    pytest.param("host gone", "prefill", "healed", marks=pytest.mark.slow),
    pytest.param("GIL held", "decode", "healed", marks=pytest.mark.slow),
    pytest.param("agent killed", "idle", "healed", marks=pytest.mark.slow),
    pytest.param("control link down", "idle", "healed", marks=pytest.mark.slow),
    ("STOP", "prefill", "healed"),
    pytest.param("exception on one rank", "init", "healed", marks=pytest.mark.slow),
    ("KILL", "load", "healed"),
    ("coordinator killed", "decode", "adopted"),
    ("KILL", "drain", "ended"),
]


class Stage:
    """The field, the cluster that stands on it, and the text that all clients should get."""

    def __init__(self, field):
        self.field = field
        self.cluster = None
        self.fit = False  # it serves, and has told a text
        self.unbroken = None

    def serving(self):
        """A cluster that serves, and has told a text."""
        if not self.fit or self.cluster.ended:
            self.clear()
            self.cluster = self.field.cluster().__enter__()
            self.unbroken = self.cluster.text().tokens
        self.fit = False
        return self.cluster

    def clear(self):
        """End the cluster; of one that was fit, nothing may be left."""
        cluster, self.cluster = self.cluster, None
        if cluster is None:
            return
        try:
            assert not self.fit or cluster.ended or end(cluster) == (0, 0)
        finally:
            cluster.__exit__()


@pytest.fixture(scope="module")
def stage(tmp_path_factory, model_dir):
    with Field(tmp_path_factory.mktemp("matrix") / "field", model_dir) as field:
        stage = Stage(field)
        yield stage
        stage.clear()


@pytest.mark.parametrize(("fault", "phase", "outcome"), CELLS)
def test_a_fault_is_named_and_healed(fault, phase, outcome, stage):
    cluster = stage.serving()
    line = run_cell(cluster, fault, phase, unbroken=stage.unbroken)
    assert line["outcome"] == outcome, f"{line}\n{cluster.story}"
    stage.fit = True
