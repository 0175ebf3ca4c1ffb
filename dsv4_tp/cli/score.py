"""`dsv4-tp score`: teacher-forced log-probabilities of given token ids."""

import json
from pathlib import Path

from dsv4_tp.cli.inputs import cluster, model_config, read_checkpoint
from dsv4_tp.cli.rows import read_rows
from dsv4_tp.cli.sheet import check_output
from dsv4_tp.config.environment import restart_with_preloads
from dsv4_tp.core import ScoreRequest


def run(
    *,
    model: str | None,
    tokens: Path,
    chunk: int | None,
    logits: Path | None,
    hosts: str | None,
    file: Path | None,
    dtype: str | None,
) -> None:
    """Score the rows of `tokens` here, or through a cluster if the options describe one."""
    is_here = hosts is None and file is None
    if is_here:
        restart_with_preloads()
    config = None if is_here else cluster(hosts=hosts, file=file, model=model, dtype=dtype)
    chosen = config.model if config else model_config(model, dtype)
    check_output(logits)
    checkpoint = read_checkpoint(chosen.path)
    rows = read_rows(tokens, checkpoint.spec, config.context if config else None)
    request = ScoreRequest("score", rows, chunk or 0, want_logits=logits is not None)
    # One of the two, since MLX is not needed for the one, nor gRPC for the other.
    if config:
        from dsv4_tp.cli.score_there import score_there

        sheet = score_there(config, checkpoint, request)
    else:
        from dsv4_tp.cli.score_here import score_here

        sheet = score_here(chosen, checkpoint, request)
    if logits is not None:
        sheet.write(logits)
    print(json.dumps({"nll": sheet.nll}))
