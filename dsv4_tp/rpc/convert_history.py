"""Messages to and from what is kept of a launch: entries of its chronicle; like `convert`."""

from dsv4_tp.history import Entry
from dsv4_tp.v1 import cluster_pb2 as pb


def entry_to_proto(entry: Entry) -> pb.ClusterEvent:
    """The message of what happened."""
    return pb.ClusterEvent(
        seq=entry.seq,
        time_s=entry.time_s,
        kind=entry.kind,
        epoch=entry.epoch,
        host=entry.host,
        rank=entry.rank,
        text=entry.text,
        fields=entry.fields,
    )


def entry_from_proto(message: pb.ClusterEvent) -> Entry:
    """What happened."""
    return Entry(
        seq=message.seq,
        time_s=message.time_s,
        kind=message.kind,
        epoch=message.epoch,
        text=message.text,
        host=message.host,
        rank=message.rank if message.HasField("rank") else None,
        fields=dict(message.fields),
    )
