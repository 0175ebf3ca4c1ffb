"""A score made by a cluster that is launched for it."""

from dsv4_tp.cli.inputs import Checkpoint
from dsv4_tp.cli.launched import launched
from dsv4_tp.cli.sheet import Sheet
from dsv4_tp.client import AsyncClient
from dsv4_tp.config import ClusterConfig
from dsv4_tp.core import ScoreRequest
from dsv4_tp.errors import Dsv4Error


def score_there(config: ClusterConfig, checkpoint: Checkpoint, request: ScoreRequest) -> Sheet:
    """Launch the cluster, ask it, and end it."""

    async def job(address: str) -> Sheet:
        sheet = Sheet(len(request.rows))
        async with AsyncClient(address) as client:
            async for event in client.score(request):
                sheet.add(event)
        return sheet

    sheet = launched(config, checkpoint, job)
    if sheet is None:
        raise Dsv4Error("the cluster was stopped before the score was done")
    return sheet
