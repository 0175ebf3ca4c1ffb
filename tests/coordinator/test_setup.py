"""What follows from what a coordinator is given."""

import pytest

from dsv4_tp.config import Timeouts
from dsv4_tp.coordinator.setup import CABLES_S
from dsv4_tp.core import Backend
from tests.launcher.test_record import setup


@pytest.mark.parametrize(
    ("backend", "more_s"), [(Backend.RING, 0), (Backend.JACCL, CABLES_S), (Backend.AUTO, CABLES_S)]
)
def test_ranks_have_their_time_to_prepare_though_hosts_look_at_cables_before(backend, more_s):
    assert setup(backend=backend).prepare_s == Timeouts().prepare_s + more_s
