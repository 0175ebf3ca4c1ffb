"""JACCL's device matrix over the wire."""

from dsv4_tp.core import Rdma
from dsv4_tp.rpc.convert_rdma import rdma_from_proto, rdma_to_proto
from dsv4_tp.v1.worker_pb2 import Rdma as Message


def test_a_matrix_goes_there_and_back():
    rdma = Rdma(True, ((None, "rdma_en2", ("a", "b")), ("c", None, None), (("d", "e"), None, None)))
    assert rdma_from_proto(Message.FromString(rdma_to_proto(rdma).SerializeToString())) == rdma
