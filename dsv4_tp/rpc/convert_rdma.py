"""Messages of JACCL's device matrix to and from the noun of `core`."""

from dsv4_tp.core import Devices, Rdma
from dsv4_tp.v1.worker_pb2 import Rdma as RdmaMessage
from dsv4_tp.v1.worker_pb2 import RdmaDevices, RdmaRow


def rdma_to_proto(rdma: Rdma) -> RdmaMessage:
    """The message of how JACCL joins the ranks."""
    rows = (RdmaRow(towards=map(_devices_to_proto, row)) for row in rdma.matrix)
    return RdmaMessage(ring=rdma.ring, rows=rows)


def rdma_from_proto(message: RdmaMessage) -> Rdma:
    """How JACCL joins the ranks, by a message."""
    rows = (tuple(map(_devices_from_proto, row.towards)) for row in message.rows)
    return Rdma(message.ring, tuple(rows))


def _devices_to_proto(devices: Devices) -> RdmaDevices:
    names = (devices,) if isinstance(devices, str) else devices or ()
    return RdmaDevices(names=names)


def _devices_from_proto(message: RdmaDevices) -> Devices:
    names = tuple(message.names)
    return names if len(names) > 1 else next(iter(names), None)
