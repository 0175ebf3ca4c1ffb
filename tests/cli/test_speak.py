"""Texts for the terminal, from a cluster that is not always there."""

import json

import pytest

from dsv4_tp.cli import speak as module
from dsv4_tp.cli.speak import speak
from dsv4_tp.client import Ask
from dsv4_tp.errors import NotReadyError
from dsv4_tp.v1 import cluster_pb2 as pb
from dsv4_tp.v1 import types_pb2
from tests.client.test_client import Scripted, with_client


class Recovering(Scripted):
    """Takes no request at first."""

    async def Generate(self, request, context):
        if self.asked is None:
            self.asked = request
            raise NotReadyError("the cluster is recovering")
        finish = pb.Finish(reason=types_pb2.FINISH_REASON_STOP, stats=pb.Stats(restarts=1))
        yield pb.GenerateResponse(tokens=[7], text="Hello", finish=finish)

    async def Status(self, request, context):
        return pb.StatusResponse(name="lab", phase="ready", epoch=2)


def say(*, patient):
    return with_client(
        Recovering(),
        lambda client: speak(client.address, [Ask("x")], as_json=True, patient=patient),
    )


def test_a_launch_waits_for_its_own_cluster(capsys, monkeypatch):
    monkeypatch.setattr(module, "_RETRY_S", 0.01)
    say(patient=True)
    told = json.loads(capsys.readouterr().out)
    assert (told["text"], told["stats"]["restarts"]) == ("Hello", 1)


def test_everybody_else_is_told(capsys):
    with pytest.raises(NotReadyError, match="the cluster is recovering"):
        say(patient=False)
