"""A score made in this process, on one device. The one place where the command computes."""

from dsv4_tp.cli.inputs import Checkpoint
from dsv4_tp.cli.sheet import Sheet
from dsv4_tp.cli.tables import note
from dsv4_tp.config import ModelConfig
from dsv4_tp.config.precision import mlx_device, settle_dtype
from dsv4_tp.core import ScoreRequest
from dsv4_tp.engine import score_rows
from dsv4_tp.parallel import load_rank


def score_here(chosen: ModelConfig, checkpoint: Checkpoint, request: ScoreRequest) -> Sheet:
    """Load the whole model and score."""
    device, torch_dtype = mlx_device(), checkpoint.spec.torch_dtype
    dtype = settle_dtype(chosen.dtype, device=device, torch_dtype=torch_dtype)
    note(f"dtype {dtype} on {device}")
    loaded = load_rank(checkpoint.path, None, dtype=dtype)
    for line in loaded.notes:
        note(f"checkpoint: {line}")
    sheet = Sheet(len(request.rows))
    for event in score_rows(loaded.model, request):
        sheet.add(event)
    return sheet
