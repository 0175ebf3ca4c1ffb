"""Joining by JACCL, up to the call that only Macs can answer."""

import json
import os
import stat
from pathlib import Path

import mlx.core as mx
import pytest

from dsv4_tp.core import Rdma
from dsv4_tp.engine import check_backend, group
from dsv4_tp.errors import PreflightError, RankFailure

MATRIX = ((None, "rdma_en2"), (("rdma_en3", "rdma_en4"), None))


@pytest.mark.skipif(mx.distributed.is_available("jaccl"), reason="this MLX has JACCL")
def test_an_mlx_without_jaccl_is_named_with_what_to_do():
    check_backend(None)
    with pytest.raises(PreflightError, match=r"MLX [\d.]+ here has no JACCL: .* `backend: ring`"):
        check_backend(Rdma(False, MATRIX))


def test_mlx_finds_the_matrix_and_its_complaint_is_passed_on(monkeypatch: pytest.MonkeyPatch):
    for name in ("MLX_RANK", "MLX_IBV_DEVICES", "MLX_JACCL_COORDINATOR", "MLX_JACCL_RING"):
        monkeypatch.setenv(name, "")
    files = []

    def init(**options: object) -> None:
        files.append(file := Path(os.environ["MLX_IBV_DEVICES"]))
        assert options == {"strict": True, "backend": "jaccl"}
        # What the library makes of it: null, a text, or a list of texts for each rank.
        assert json.loads(file.read_text()) == [
            [None, "rdma_en2"],
            [["rdma_en3", "rdma_en4"], None],
        ]
        assert not stat.S_IMODE(file.parent.stat().st_mode) & 0o077
        raise ValueError("[jaccl] Changing queue pair to RTR failed with errno 22")

    monkeypatch.setattr(mx.distributed, "init", init)
    with pytest.raises(RankFailure, match=r"rank 1 is not .* errno 22\); dsv4-tp doctor says"):
        group._join_jaccl(Rdma(True, MATRIX), ["10.0.0.1:7000", "10.0.0.2:7001"], 1)
    assert (os.environ["MLX_RANK"], os.environ["MLX_JACCL_RING"]) == ("1", "1")
    assert os.environ["MLX_JACCL_COORDINATOR"] == "10.0.0.1:7000"
    assert not files[0].exists()
